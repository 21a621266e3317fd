"""Chats about images and videos, and question-answer sets, as records; frames are taken from videos on the way."""

from __future__ import annotations

import csv
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from elysium.data.convert.base import Options
from elysium.data.convert.registry import converter, read
from elysium.data.convert.run import convert
from elysium.data.frames import extract_frames
from elysium.data.records import Record, read_records, validate_records
from elysium.data.units import Done
from elysium.errors import InputError, SourceError
from elysium.evaluation.items import read_items
from elysium.video import VideoWriter

HUMAN, GPT = "human", "gpt"


def turns(*texts: str, first: str = HUMAN) -> list[dict[str, str]]:
    sides = (HUMAN, GPT) if first == HUMAN else (GPT, HUMAN)
    return [{"from": sides[number % 2], "value": text} for number, text in enumerate(texts)]


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20)).save(path)
    return path


def video(path: Path, frames: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        pictures = [Image.new("L", (48, 32), 10 * number) for number in range(frames)]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
        return path
    with VideoWriter(path, 10.0, (48, 32)) as writer:
        for number in range(frames):
            writer.write(np.full((32, 48, 3), 10 * number, np.uint8))
    return path


def write_json(path: Path, entries: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def converted(name: str, source: Path, out: Path, options: Options | None = None) -> tuple[Done, list[Record]]:
    """What converting says and writes; the records have no defect."""
    said = convert(name, source, out, options)
    assert list(validate_records(out)) == []
    return said, list(read_records(out))


def dialogue(record: Record) -> list[tuple[str, str]]:
    return [(turn.from_, turn.value) for turn in record.vqa or []]


# --- LLaVA ---


@pytest.fixture
def llava(tmp_path):
    """A writer of LLaVA's JSON beside two images."""
    image(tmp_path / "coco" / "train2017" / "000000000009.jpg")
    image(tmp_path / "vg" / "2.jpg")

    def write(*entries: dict[str, Any]) -> Path:
        return write_json(tmp_path / "chat.json", entries)

    return write


COCO = "coco/train2017/000000000009.jpg"


def test_llava_chats_keep_their_turns(llava, tmp_path):
    asked = turns("<image>\nWhat is it?", "A cup.", "Which colour?", "Red.")
    system = [{"from": "system", "value": "Be brief."}, *turns("Hello", "Hi")]
    both = turns("<image>\n<image>\nWhat differs?", "The cup.")
    source = llava(
        {"id": "000000000009", "image": COCO, "conversations": asked, "model": "x"},
        {"id": "chat_1", "conversations": system},
        {"id": 7, "image": [COCO, "vg/2.jpg"], "conversations": both},
    )
    said, (cup, hello, pair) = converted("llava", source, tmp_path / "out.jsonl")
    assert (said.lines, said.units, said.failed) == (3, 1, {})
    assert (cup.source, cup.id, cup.vid, cup.frames) == ("llava", "000000000009", "000000000009", [COCO])
    assert dialogue(cup) == [(turn["from"], turn["value"]) for turn in asked]
    assert (hello.id, hello.vid, hello.frames, hello.frame_size, hello.box) == ("chat_1", "", [], None, None)
    assert dialogue(hello) == [("system", "Be brief."), (HUMAN, "Hello"), (GPT, "Hi")]
    assert (pair.id, pair.vid, pair.frames) == ("7", "000000000009", [COCO, "vg/2.jpg"])
    assert [(item.id, item.words, item.references) for item in read_items(tmp_path / "out.jsonl", "VideoQA")] == [
        ("000000000009|0", "What is it?", ("A cup.",)), ("000000000009|1", "Which colour?", ("Red.",)),
        ("chat_1", "Hello", ("Hi",)), ("7", "What differs?", ("The cup.",)),
    ]  # fmt: skip
    line = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert "frame_size" not in line and "model" not in line and "box" not in line


def test_ids_become_unique_over_the_whole_file(llava):
    said = {"conversations": turns("Hello", "Hi")}
    source = llava(*({"id": name, **said} for name in ("a", "a", "a#2", "a", "b")), said)
    assert [record.id for record in read("llava", source)] == ["a", "a#2", "a#2#2", "a#3", "b", "6"]


def test_a_long_file_is_cut_into_parts(llava):
    source = llava(*({"id": "a", "conversations": turns("Hello", "Hi")} for _ in range(1001)))
    units = list(converter("llava").units(source, Options()))
    assert [(name, len(entries)) for name, entries in units] == [("1-500", 500), ("501-1000", 500), ("1001-1001", 1)]
    assert units[2][1][0]["id"] == "a#1001"


@pytest.mark.parametrize(("entry", "flaw"), [
    ({"conversations": turns("Hi", "Hello", first=GPT)}, "its turns are not question and answer in turn"),
    ({"conversations": turns("Hi", "Hello", "And?")}, "its turns are not question and answer in turn"),
    ({"conversations": []}, "its turns are not question and answer in turn"),
    ({"conversations": [{"from": "human", "value": 3}]}, "its conversations are no list of turns"),
    ({"conversations": None}, "its conversations are no list of turns"),
    ({"conversations": turns("Where <box>?", "There.")}, "it holds the mark <box>, and no box"),
    ({"conversations": turns("<image>\nWhat?", "A cup.")}, "it has 1 <image> marks for 0 images"),
    ({"image": COCO, "conversations": turns("What?", "A cup.")}, "it has 0 <image> marks for 1 images"),
    ({"image": [COCO, "vg/2.jpg"], "conversations": turns("<image>?", "A cup.")}, "it has 1 <image> marks for 2"),
    ({"image": "coco/no.jpg", "conversations": turns("<image>?", "A cup.")}, r"there is no image '.*no.jpg'"),
    ({"image": "../x.jpg", "conversations": turns("<image>?", "A cup.")}, "no path that stays in its folder"),
    ({"image": "/x.jpg", "conversations": turns("<image>?", "A cup.")}, "no path that stays in its folder"),
    ({"image": 3, "conversations": turns("<image>?", "A cup.")}, "no path that stays in its folder"),
    ({"image": [COCO, COCO], "conversations": turns("<image><image>", "A cup.")}, "names the image .* twice"),
    ({"video": "a.mp4", "conversations": turns("<video>?", "A cup.")}, "it is about a video"),
])  # fmt: skip
def test_entries_without_a_record_are_left_out_and_told(llava, tmp_path, entry, flaw):
    good = {"id": "good", "image": COCO, "conversations": turns("What?\n<image>", "A cup.")}
    source = llava(good, {"id": "bad", **entry}, {"id": "worse", **entry})
    said, records = converted("llava", source, tmp_path / "out.jsonl")
    (((reason,),),) = [said.told.values()]
    assert re.search(f"chat.json, entries 1-3: 2 of 3 left out, the first is 'bad': .*{flaw}", reason)
    assert [record.id for record in records] == ["good"]


def test_llava_images_may_be_members_of_tar_files(llava, tmp_path):
    entries = [{"id": name, "image": name, "conversations": turns("<image>\nWhat?", "A cup.")} for name in (COCO, "x")]
    source = llava(*entries)
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "images.tar", "w") as tar:
        tar.add(tmp_path / COCO, COCO)
    said, records = converted("llava", source, tmp_path / "out.jsonl", Options(images=tmp_path / "packed"))
    assert [record.id for record in records] == [COCO] and said.left_out == 1
    with pytest.raises(SourceError, match="holds none of the first images"):
        list(read("llava", llava(entries[1]), Options(images=tmp_path / "packed")))


def test_llava_files_that_are_something_else(llava, tmp_path):
    with pytest.raises(SourceError, match=r"Cannot read .*none.json"):
        list(read("llava", tmp_path / "none.json"))
    with pytest.raises(InputError, match=r"entry 1 \(line 1\) has no 'conversations'. Each is {\"id\", \"image\""):
        list(read("llava", llava({"id": "a", "image": COCO})))
    with pytest.raises(InputError, match=r"entry 2 \(line 1\) is not an object"):
        list(read("llava", write_json(tmp_path / "x.json", [{"conversations": turns("a", "b")}, 3])))
    (tmp_path / "cut.json").write_text('[{"id": "a", "conversations": []}, {"id": ')
    with pytest.raises(InputError, match=r"cut.json, record 2 .*the file is cut off here. Mend the file"):
        list(read("llava", tmp_path / "cut.json"))
    one = {"image": "cat.jpg", "conversations": turns("<image>?", "A cat.")}
    with pytest.raises(SourceError, match=r"holds none of the first images \(looked for 'cat.jpg'\). .* --images"):
        list(read("llava", llava(one)))
    image(tmp_path / "elsewhere" / "cat.jpg")
    (record,) = read("llava", llava(one), Options(images=tmp_path / "elsewhere"))
    assert record.frames == ["cat.jpg"]


# --- VideoChat ---


def test_videochat_frames_and_rounds(tmp_path):
    video(tmp_path / "webvid" / "12" / "1066.mp4")
    video(tmp_path / "k710.a.mp4", 5)
    source = write_json(tmp_path / "train.json", [
        {"video": "webvid/12/1066.mp4", "QA": [{"i": "Look closely.", "q": "Who is it?", "a": "A man."},
                                               {"i": "Look closely.", "q": "Where?", "a": "At sea."}]},
        {"video": "webvid/12/1066.mp4", "QA": [{"i": "Describe it.", "q": "", "a": "A man at sea."}]},
        {"video": "k710.a.mp4", "QA": [{"q": "What is it?", "a": "He swims."}, {"i": "Why?", "q": "", "a": "Sport."}]},
        {"video": "webvid/12/1066.mp4", "start": 0.5, "end": 1.0, "QA": [{"i": "", "q": "And now?", "a": "He waves."}]},
    ])  # fmt: skip
    said, records = converted("videochat", source, tmp_path / "out.jsonl", Options(frames=4))
    assert (said.lines, said.units) == (4, 4)
    assert [record.id for record in records] == [
        "webvid/12/1066", "webvid/12/1066#2", "k710.a", "webvid/12/1066@0.5-1.0",
    ]  # fmt: skip
    sea, caption, swim, part = records
    assert (sea.source, sea.vid, sea.frame_size, sea.box) == ("videochat", "webvid/12/1066", (48, 32), None)
    assert dialogue(sea) == [
        (HUMAN, "<video>\nLook closely. Who is it?"), (GPT, "A man."), (HUMAN, "Where?"), (GPT, "At sea."),
    ]  # fmt: skip
    assert sea.frames == [f"frames/webvid/12/1066/{index:06d}.jpg" for index in (0, 6, 13, 19)] == caption.frames
    assert sea.times_s == pytest.approx([0.0, 0.6, 1.3, 1.9])
    assert dialogue(caption)[0] == (HUMAN, "<video>\nDescribe it.")
    assert dialogue(swim)[::2] == [(HUMAN, "<video>\nWhat is it?"), (HUMAN, "Why?")]
    assert swim.frames == [f"frames/k710.a/{index:06d}.jpg" for index in (0, 1, 3, 4)]
    assert part.frames == [f"frames/webvid/12/1066@0.5-1.0/{index:06d}.jpg" for index in (5, 6, 8, 9)]
    assert part.vid == sea.vid and part.times_s == pytest.approx([0.5, 0.6, 0.8, 0.9])
    for record in records:
        for name in record.frames:
            with Image.open(tmp_path / name) as found:
                assert found.size == record.frame_size


def test_frames_that_are_there_are_used(tmp_path):
    for number in (10, 2, 1, 3, 4):
        image(tmp_path / "v" / "frames" / "a" / f"f{number}.png")
    video(tmp_path / "v" / "b.mp4")
    made = extract_frames(tmp_path / "v" / "b.mp4", tmp_path / "v" / "frames" / "b", count=3)
    before = made.files[0].stat().st_mtime_ns
    source = write_json(
        tmp_path / "train.json", [{"video": f"{name}.mp4", "QA": [{"q": "What?", "a": "It."}]} for name in "ab"]
    )
    options = Options(images=tmp_path / "v", frames=3)
    _, (own, known) = converted("videochat", source, tmp_path / "out.jsonl", options)
    assert own.frames == ["frames/a/f1.png", "frames/a/f3.png", "frames/a/f10.png"]  # spread; the video is not needed
    assert (own.frame_size, own.times_s) == ((40, 20), None)
    assert known.frames == [f"frames/b/{index:06d}.jpg" for index in (0, 10, 19)]
    assert made.files[0].stat().st_mtime_ns == before
    with pytest.raises(InputError, match=r"b holds other frames of b.mp4"):
        list(read("videochat", source, Options(images=tmp_path / "v", frames=4)))


@pytest.mark.parametrize(("entry", "sentence"), [
    ({"video": "none.mp4"}, r"There is no video '.*none.mp4'"),
    ({"video": "../a.mp4"}, r"entry 2 \(line 1\): its video is '../a.mp4'. Write a path that stays in its folder"),
    ({"video": "...mp4"}, "a path that stays in its folder"),
    ({"video": None}, "its video is None"),
    ({"start": 1}, "it goes from 1 to None. Write both in seconds"),
    ({"start": 1.0, "end": 0.5}, "is not after start"),
    ({"QA": []}, "its QA is no list of rounds"),
    ({"QA": [{"q": "", "a": "x"}]}, "its round 1 lacks a question or an answer"),
    ({"QA": [{"q": "x?"}]}, "its round 1 lacks a question or an answer"),
    ({"QA": [{"q": "x?", "a": "y"}, {"q": 3, "a": "y"}]}, "is no text"),
    ({"QA": [{"q": "<box>?", "a": "y"}]}, "holds <box>"),
])  # fmt: skip
def test_a_broken_videochat_entry_fails_alone(tmp_path, entry, sentence):
    video(tmp_path / "a.mp4", 3)
    good = {"video": "a.mp4", "QA": [{"q": "What?", "a": "It."}]}
    source = write_json(tmp_path / "train.json", [good, {**good, **entry}])
    said, records = converted("videochat", source, tmp_path / "out.jsonl")
    assert [record.id for record in records] == ["a"] and len(said.failed) == 1
    with pytest.raises((InputError, SourceError), match=sentence):
        list(read("videochat", source))


def test_videochat_files_that_are_something_else(tmp_path):
    source = write_json(tmp_path / "x.json", [{"image": "a.jpg", "QA": []}])
    with pytest.raises(InputError, match=r"x.json, entry 1 \(line 1\) has no 'video'. Each is {\"video\", \"QA\""):
        list(read("videochat", source))


# --- question-answer sets ---


def qa(id: int, video_id: int, question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"answer": answer, "id": id, "question": question, "video_id": video_id, **more}


def test_msvd_finds_clips_by_the_mapping_or_their_number(tmp_path):
    entries = [qa(30933, 1201, "who pours?", "someone"), qa(5, 7, "who?", "cat"), qa(30934, 1201, "what?", "oil")]
    write_json(tmp_path / "train_qa.json", [])
    write_json(tmp_path / "val_qa.json", entries)
    (tmp_path / "youtube_mapping.txt").write_text("-4wsuPCjDBc_5_15 vid1\nmv89psg6zh4_33_46 vid1201\n\n")
    video(tmp_path / "YouTubeClips" / "mv89psg6zh4_33_46.avi", 4)
    video(tmp_path / "video" / "vid7.avi", 4)
    said, records = converted("msvd", tmp_path, tmp_path / "out.jsonl", Options(split="val", frames=2))
    assert (said.lines, said.units) == (3, 2)
    assert [(record.id, record.vid) for record in records] == [
        ("30933", "mv89psg6zh4_33_46"), ("30934", "mv89psg6zh4_33_46"), ("5", "vid7"),
    ]  # fmt: skip
    first = records[0]
    assert (first.source, first.frame_size, first.metadata) == ("MSVD-QA", (48, 32), {})
    assert first.frames == [f"frames/mv89psg6zh4_33_46/{index:06d}.jpg" for index in (0, 3)] == records[1].frames
    assert first.times_s == pytest.approx([0.0, 0.3])
    assert dialogue(first) == [(HUMAN, "<video>\nwho pours?"), (GPT, "someone")]
    assert dialogue(records[1]) == [(HUMAN, "<video>\nwhat?"), (GPT, "oil")]
    assert records[2].frames[0] == "frames/vid7/000000.jpg"


def test_msrvtt_videos_are_looked_for_where_they_unpack(tmp_path):
    entries = [qa(158581, 6513, "what?", "couch", category_id=14), qa(2, 0, "who?", "man")]
    write_json(tmp_path / "qa" / "test_qa.json", entries)
    video(tmp_path / "all" / "TestVideo" / "video6513.mp4", 3)
    video(tmp_path / "all" / "video0.mp4", 3)
    options = Options(split="test", images=tmp_path / "all", frames=8)
    said, (couch, man) = converted("msrvtt", tmp_path / "qa", tmp_path / "out.jsonl", options)
    assert said.failed == {}
    assert (couch.source, couch.id, couch.vid) == ("MSRVTT-QA", "158581", "video6513")
    assert couch.metadata == {"category_id": 14}
    assert couch.frames == [f"frames/video6513/{index:06d}.jpg" for index in (0, 1, 2)]  # it has no more
    assert (man.vid, man.metadata) == ("video0", {})
    assert (tmp_path / "all" / "frames" / "video0" / "frames.json").is_file()


TGIF_HEAD = "gif_name\tquestion\tanswer\ttype\tvid_id\tkey\tdescription"


def test_tgif_frame_questions(tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "Test_frameqa_question.csv").write_text("\n".join([
        TGIF_HEAD,
        "tumblr_b_250\twhere is the guy ?\troom\t3\tFRAMEQA9405\t2853\ta guy 's in a room\x85 .",
        "tumblr_a_400\thow many dogs ?\ttwo\t1\tFRAMEQA3\t25889\ttwo dogs .",
        "tumblr_b_250\twhat is it ?\ttea\t0\tFRAMEQA4\t2853\ttea .",
        'tumblr_b_250\t"what is ""it"" ?"\tred\t2\tFRAMEQA4\t2853\tred .',
    ]) + "\n", encoding="utf-8")  # fmt: skip
    video(tmp_path / "gifs" / "tumblr_a_400.gif", 3)
    video(tmp_path / "gifs" / "tumblr_b_250.gif", 3)
    _, records = converted("tgif", tmp_path, tmp_path / "out.jsonl", Options(split="test", frames=2))
    assert [(record.id, record.vid, record.metadata["type"]) for record in records] == [
        ("FRAMEQA9405", "tumblr_b_250", "location"), ("FRAMEQA4", "tumblr_b_250", "object"),
        ("FRAMEQA4#2", "tumblr_b_250", "color"), ("FRAMEQA3", "tumblr_a_400", "number"),
    ]  # fmt: skip
    assert dialogue(records[0]) == [(HUMAN, "<video>\nwhere is the guy ?"), (GPT, "room")]
    assert dialogue(records[2])[0] == (HUMAN, '<video>\nwhat is "it" ?')
    assert records[3].frames == ["frames/tumblr_a_400/000000.jpg", "frames/tumblr_a_400/000002.jpg"]
    assert records[3].times_s == pytest.approx([0.0, 0.2])


def activitynet(folder: Path, *, answers: list[dict[str, Any]] | None = None) -> Path:
    asked = [("1QIUV7WYKXg", "is it outdoors", "v_1QIUV7WYKXg_3"), ("_a-B", "what is behind", "v__a-B_1")]
    keys = ("video_name", "question", "question_id")
    write_json(folder / "train_q.json", [dict(zip(keys, one, strict=True)) for one in asked])
    if answers is None:
        answers = [
            {"answer": "a tree", "type": 1, "question_id": "v__a-B_1"},
            {"answer": "no", "type": 3, "question_id": "v_1QIUV7WYKXg_3"},
        ]
    write_json(folder / "train_a.json", answers)
    return folder


def test_activitynet_questions_meet_their_answers(tmp_path):
    activitynet(tmp_path)
    video(tmp_path / "videos" / "v_1QIUV7WYKXg.mkv", 3)
    video(tmp_path / "_a-B.mp4", 3)
    said, (outdoors, tree) = converted("activitynet", tmp_path, tmp_path / "out.jsonl", Options(frames=2))
    assert (said.units, said.failed) == (2, {})
    assert (outdoors.source, outdoors.id, outdoors.vid) == ("ActivityNet-QA", "v_1QIUV7WYKXg_3", "v_1QIUV7WYKXg")
    assert dialogue(outdoors) == [(HUMAN, "<video>\nis it outdoors"), (GPT, "no")]
    assert (outdoors.metadata, tree.metadata) == ({"type": "yes/no"}, {"type": "spatial relationship"})
    assert (tree.vid, tree.frames[0], dialogue(tree)[1]) == ("v__a-B", "frames/v__a-B/000000.jpg", (GPT, "a tree"))


def test_a_video_that_is_missing_fails_alone(tmp_path):
    activitynet(tmp_path)
    video(tmp_path / "v__a-B.mp4", 3)
    said, (tree,) = converted("activitynet", tmp_path, tmp_path / "out.jsonl")
    assert tree.id == "v__a-B_1"
    assert said.failed == {"v_1QIUV7WYKXg": (
        f"{tmp_path} holds no video v_1QIUV7WYKXg or 1QIUV7WYKXg (with a suffix such as .mp4). "
        "Put it there or into video/, or name the folder that has it with --images."
    )}  # fmt: skip


def test_a_question_without_an_answer_fails_alone(tmp_path):
    activitynet(tmp_path, answers=[{"answer": "a tree", "type": 1, "question_id": "v__a-B_1"}])
    for name in ("v__a-B.mp4", "v_1QIUV7WYKXg.mp4"):
        video(tmp_path / name, 3)
    said, (tree,) = converted("activitynet", tmp_path, tmp_path / "out.jsonl")
    assert tree.id == "v__a-B_1"
    assert said.failed["v_1QIUV7WYKXg"] == (
        f"{tmp_path / 'train_q.json'}, entry 1 (line 1): its answer is None. Write words, without <box>."
    )


@pytest.mark.parametrize(("name", "splits"), [
    ("msvd", ("train", "val", "test")), ("msrvtt", ("train", "val", "test")), ("tgif", ("train", "test")),
    ("activitynet", ("train", "val", "test")),
])  # fmt: skip
def test_splits_and_folders_that_are_not_there(tmp_path, name, splits):
    assert converter(name).splits == splits
    with pytest.raises(SourceError, match=rf"There is no .*(test|Test)_.* in {tmp_path}. Check the path and --split"):
        list(read(name, tmp_path, Options(split="test")))
    with pytest.raises(SourceError, match=r"There is no folder .*none"):
        list(read(name, tmp_path / "none"))
    with pytest.raises(InputError, match=f"{name} has no split 'dev'"):
        list(read(name, tmp_path, Options(split="dev")))


@pytest.mark.parametrize(("entry", "sentence"), [
    ({"question": "who?", "answer": "man"}, r"entry 1 \(line 1\) has no 'video_id'"),
    (qa(1, "../x", "who?", "man"), "its video_id is '../x'"),
    (qa(1, None, "who?", "man"), "its video_id is None"),
    (qa(1, 2, "", "man"), "its question is ''"),
    (qa(1, 2, "who?", 3), "its answer is 3"),
])  # fmt: skip
def test_broken_questions_are_named(tmp_path, entry, sentence):
    write_json(tmp_path / "train_qa.json", [entry])
    with pytest.raises(InputError, match=sentence):
        list(read("msrvtt", tmp_path))


def test_broken_tables_are_named(tmp_path):
    path = tmp_path / "Train_frameqa_question.csv"
    path.write_text("gif_name,question,answer\na,b,c\n")
    with pytest.raises(InputError, match=r"has no column 'gif_name'. Its head has, between tabs, gif_name, question"):
        list(read("tgif", tmp_path))
    path.write_text(TGIF_HEAD + "\n..\twhat ?\ttea\t0\tF4\t2853\ttea .\n")
    with pytest.raises(InputError, match=r"question.csv, line 2: its gif_name is '..'"):
        list(read("tgif", tmp_path))
    path.write_text(TGIF_HEAD + "\na\twhat ?\ttea\t4\tF4\t2853\ttea .\n")
    with pytest.raises(InputError, match=r"line 2: its type is '4'. It is 0 to 3"):
        list(read("tgif", tmp_path))
    path.write_text(TGIF_HEAD + '\na\t"' + "x" * (csv.field_size_limit() + 1))
    with pytest.raises(InputError, match=r"is broken after line 1: field larger"):
        list(read("tgif", tmp_path))
    path.write_text(TGIF_HEAD + "\na\twhat ?\n")
    with pytest.raises(InputError, match=r"line 2: its answer is None"):
        list(read("tgif", tmp_path))
    (tmp_path / "train_qa.json").write_text("[]")
    (tmp_path / "youtube_mapping.txt").write_text("a_1_2 vid1\nb_1_2\n")
    with pytest.raises(InputError, match=r"youtube_mapping.txt, line 2 is not a clip and its vid<number>"):
        list(read("msvd", tmp_path))


def test_several_processes_write_the_same(tmp_path):
    activitynet(tmp_path)
    for name in ("v__a-B.mp4", "v_1QIUV7WYKXg.mp4"):
        video(tmp_path / name, 3)
    convert("activitynet", tmp_path, tmp_path / "one.jsonl", Options(frames=2))
    said = convert("activitynet", tmp_path, tmp_path / "two.jsonl", Options(frames=2), workers=2)
    assert (said.lines, said.failed) == (2, {})
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
