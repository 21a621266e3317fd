"""Annotation records: what a file says comes out as it is, and whatever is wrong with it is named with its place."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elysium.data.records import Problem, Record, box_space, read_records, streaming, validate_records
from elysium.errors import InputError, SourceError
from elysium.tracks import TrackRecorder, TrackResult


def track(**changes: Any) -> dict[str, Any]:
    """A record without fault of two frames; a change to `...` takes the key away."""
    record = {
        "source": "webvid",
        "id": "v1_0",
        "vid": "v1",
        "metadata": {"caption": "a dog"},
        "frames": ["v1/0.jpg", "v1/1.jpg"],
        "object_class": "dog",
        "box": [[0.1, 0.2, 0.3, 0.4], [0.2, 0.2, 0.5, 1.0]],
        "object_description": "the brown dog 犬",
        "frame_size": [640, 480],
        **changes,
    }
    return {key: value for key, value in record.items() if value is not ...}


def chat(*turns: tuple[str, Any], **extra: Any) -> dict[str, Any]:
    said = [{"from": "gpt" if i % 2 else "human", "value": text, **more} for i, (text, more) in enumerate(turns)]
    return {"id": 7, "vid": 7, "frames": ["a.jpg"], "vqa": said, **extra}


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def told(path: Path, **options: Any) -> list[str]:
    """What the validator says, without the name of the file."""
    return [str(problem).removeprefix(f"{path}, ") for problem in validate_records(path, **options)]


# What comes out


def test_a_record_is_what_it_says(tmp_path: Path):
    (record,) = read_records(lines(tmp_path / "a.jsonl", track(extra={"mine": [1]})))
    assert (record.source, record.id, record.vid, record.metadata) == ("webvid", "v1_0", "v1", {"caption": "a dog"})
    assert (record.object_class, record.object_description) == ("dog", "the brown dog 犬")
    assert record.frame_size == (640, 480)
    assert record.boxes_xyxyn.tolist() == track()["box"]
    np.testing.assert_allclose(record.boxes_xyxy, [[64, 96, 192, 192], [128, 96, 320, 480]], rtol=1e-15)
    assert json.loads(record.to_json()) == track(extra={"mine": [1]})


def test_only_given_keys_are_written_back(tmp_path: Path):
    bare = track(source=..., metadata=...)
    (record,) = read_records(lines(tmp_path / "a.jsonl", bare))
    assert (record.source, record.metadata) == ("", None)
    assert record.to_json() == json.dumps(bare, ensure_ascii=False)


def test_absent_frames_have_no_box(tmp_path: Path):
    given = track(box=[None, [0.0, 0.0, 0.5, 0.5]], absent=[True, False], times_s=[0, 0.04], expressions=["a dog"])
    (record,) = read_records(lines(tmp_path / "a.jsonl", given))
    assert np.isnan(record.boxes_xyxyn[0]).all() and record.boxes_xyxyn[1].tolist() == [0, 0, 0.5, 0.5]
    zeros = track(box=[[0, 0, 0, 0], [0.0, 0.0, 0.5, 0.5]], absent=[True, False])
    (record,) = read_records(lines(tmp_path / "b.jsonl", zeros))
    assert np.isnan(record.boxes_xyxy[0]).all() and record.boxes_xyxy[1].tolist() == [0, 0, 320, 240]


def test_a_chat_and_its_marks(tmp_path: Path):
    box = {"box": [[0.1, 0.2, 0.3, 0.4]]}
    given = [chat(("<image>\nWhere?", {}), ("At <box>.", box)), chat(("Is <box> it?", {}), ("Yes.", {}), **box)]
    first, second = read_records(lines(tmp_path / "a.jsonl", *given[:1], {**given[1], "id": 8}))
    assert first.vqa is not None and first.vqa[1].box == [(0.1, 0.2, 0.3, 0.4)] and first.vqa[1].from_ == "gpt"
    assert second.box == [(0.1, 0.2, 0.3, 0.4)] and json.loads(second.to_json()) == {**given[1], "id": 8}


def test_pixels_need_a_frame_size():
    with pytest.raises(InputError, match=r"record 7 has no frame_size\. Give it one"):
        _ = Record(id=7, frames=[]).boxes_xyxy


# Forms of files


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("start", ["", "\ufeff", " \n"])
def test_an_array_and_lines_are_the_same(indent: int | None, start: str, tmp_path: Path):
    given = [track(id=f"{i}") for i in range(3)]
    array = tmp_path / "a.json"
    array.write_text(start + json.dumps(given, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    line = tmp_path / "a.jsonl"
    line.write_text(start + "\n\n".join(json.dumps(record, ensure_ascii=False) for record in given), encoding="utf-8")
    zipped = tmp_path / "a.json.gz"
    zipped.write_bytes(gzip.compress(array.read_bytes()))
    for path in (array, line, zipped):
        assert [json.loads(record.to_json()) for record in read_records(path)] == given
        assert told(path) == []


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_chunks_may_end_anywhere(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streaming, "CHUNK_BYTES", chunk)
    values = [track(), -12.5e-3, True, None, 'é\\" 犬\u2028', [], 1234567, float("inf"), {"a": "\t"}]
    path = tmp_path / "a.json"
    for ascii in (True, False):
        path.write_text(json.dumps(values, ensure_ascii=ascii, indent=1), encoding="utf-8")
        found = list(streaming.stream(path))
        assert [item.value for item in found if isinstance(item, streaming.Item)] == values
        assert [item.record for item in found] == list(range(1, 10))
        text = path.read_text(encoding="utf-8")
        assert found[1].line == 1 + text[: text.index("-0.0125")].count("\n")


def test_memory_does_not_grow_with_the_file(tmp_path: Path):
    piece, count = json.dumps(track(metadata={"caption": "a dog " * 2000})), 2500  # tracing is slow: few objects
    for name, start, between, end in (("a.json", "[", ", ", "]"), ("a.jsonl", "", "\n", "\n")):
        path = tmp_path / name
        with path.open("w") as file:
            file.write(start + piece)
            file.writelines(between + piece for _ in range(count - 1))
            file.write(end)
        assert path.stat().st_size > 30e6
        tracemalloc.start()
        seen = sum(isinstance(item, streaming.Item) for item in streaming.stream(path))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert seen == count and peak < 3e6
        path.unlink()


def test_a_record_without_end_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streaming, "MAX_RECORD_BYTES", 5000)
    monkeypatch.setattr(streaming, "CHUNK_BYTES", 1000)
    for text in ('[{"id": "' + "x" * 20000 + '"}]', '{"id": "' + "x" * 20000 + '"}\n'):
        path = tmp_path / "a.json"
        path.write_text(text)
        (problem,) = streaming.stream(path)
        assert isinstance(problem, Problem) and "is longer than" in str(problem)


# What the published system wrote, and what we write


def test_the_shared_annotations_are_read_and_without_fault(shared_dir: Path):
    paths = sorted((shared_dir / "compat").glob("anno*.jsonl"))
    assert [path.name for path in paths] == ["anno.jsonl", "anno_8frames.jsonl"]
    sizes = {"clip_a": (400, 300), "clip_b": (352, 240), "clip_c": (480, 270)}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert "".join(record.to_json() + "\n" for record in read_records(path)) == text
        assert told(path, image_size=lambda frame: sizes[frame.split("/")[0]]) == []


def test_exported_tracks_come_back(tmp_path: Path):
    dog, ball = TrackRecorder(1, "the “dog”"), TrackRecorder(2, None, [0, 0, 8, 6])
    for index, box in ((4, [16, 12, 48, 36]), (6, None), (8, [0, 0, 64, 48])):
        dog.add(index, index / 10, box, 0.5, "absent" if box is None else "tracked")
        ball.add(index, index / 10, [index, 0, index + 8, 6], 0.5, "tracked")
    result = TrackResult("clip.mp4", "nano", 10.0, (64, 48), [dog.finish(), ball.finish()])
    path = result.export(tmp_path / "x.jsonl", "records")
    assert told(path) == []
    records = list(read_records(path))
    assert "".join(record.to_json() + "\n" for record in records) == path.read_text(encoding="utf-8")
    assert records[0].boxes_xyxy.tolist() == [[16, 12, 48, 36], [0, 0, 64, 48]]
    assert records[0].metadata["frame_indices"] == [4, 8]
    empty = TrackResult("clip.mp4", "nano", 10.0, (64, 48), []).export(tmp_path / "y.jsonl", "records")
    with pytest.raises(InputError, match="is empty"):
        list(read_records(empty))


# What is wrong

BOX = [0.1, 0.2, 0.3, 0.4]
DEFECTS = [
    (track(box=[BOX]), "box: 1 boxes for 2 frames"),
    (track(box=BOX), "box: 4 boxes for 2 frames"),
    (track(box="no"), "box: is text, not a list"),
    (track(absent=[True]), "absent: 1 entries for 2 frames"),
    (track(times_s=[1, 2, 3]), "times_s: 3 entries for 2 frames"),
    (track(times_s=[1, "x"]), "times_s[1]: Input should be a valid number, unable to parse string as a number"),
    (track(box=[BOX, [0.1, 0.2, 0.3]]), "box[1]: must be four finite numbers (or null where the object is absent)"),
    (track(box=[None, BOX]), "box[0]: must be four finite numbers (or null where the object is absent)"),
    (track(box=[BOX, [0, 0, 1, float("nan")]]), "box[1]: must be four finite numbers"),
    (track(box=[BOX, [0.5, 0, 1.25, 1]]), "box[1]: is out of range 0..1"),
    (track(box=[[-0.01, 0, 1, 1], BOX]), "box[0]: is out of range 0..1"),
    (track(box=[[0.3, 0, 0.1, 1], BOX]), "box[0]: is inverted: x2 < x1 or y2 < y1"),
    (track(box=[BOX, [0.3, 0.5, 0.3, 1]]), "box[1]: has no width or no height"),
    (
        track(box=[[18, 29, 42, 61], [24, 35, 47, 69]]),
        "box: the boxes look like per cent, not 0..1 of the frame (the largest number is 69)",
    ),
    (
        track(box=[[18, 29, 242, 61], [24, 35, 247, 69]]),
        "box: the boxes look like pixels, not 0..1 of the frame (the largest number is 247)",
    ),
    (
        track(box=[[18, 29, 42, 61], [24, 35, 47, 69]], frame_size=...),
        "box: the boxes look like per cent or pixels, not 0..1 of the frame (the largest number is 69)",
    ),
    (track(frames=["a.jpg", "a.jpg"]), "frames[1]: 'a.jpg' is frames[0] too"),
    (track(frames=["a.jpg", "../b.jpg"]), "frames[1]: '../b.jpg' leaves the image folder"),
    (track(frames=["a..b.jpg", "c\\..\\b.jpg"]), "frames[1]: 'c\\\\..\\\\b.jpg' leaves the image folder"),
    (track(frames=["/a.jpg", "b.jpg"]), "frames[0]: '/a.jpg' leaves the image folder"),
    (track(frames=[], box=[]), "frames: is empty"),
    (track(frames="a.jpg"), "frames: must be a list of image paths"),
    (track(frames=["a.jpg", 1]), "frames: must be a list of image paths"),
    *((track(**{key: ...}), f"{key}: the key is missing") for key in track() if key not in ("source", "metadata")),
    (track(id=1.5), "id: is a number, not text"),
    (track(object_class=None), "object_class: is null, not text"),
    (track(frame_size=[640]), "frame_size: must be two whole numbers over 0, width and height, not [640]"),
    (track(frame_size=[640, 0]), "frame_size: must be two whole numbers over 0, width and height, not [640, 0]"),
    ([1, 2], "is a list, not an object"),
    (chat(), "vqa: must be a list of turns with at least one"),
    (chat(("At <box>.", {})), "box: 0 boxes for 1 <box> marks"),
    (chat(("At.", {"box": [BOX]})), "vqa[0].box: 1 boxes for 0 <box> marks"),
    (chat(("At <box>.", {"box": [[18, 29, 42, 61]]})), "vqa[0].box: the boxes look like per cent or pixels"),
    (chat((7, {})) | {"vqa": [{"from": "gpt", "value": 7}]}, 'vqa[0]: must be an object with the texts "from" and'),
]


@pytest.mark.parametrize(("value", "sentence"), DEFECTS, ids=[sentence for _, sentence in DEFECTS])
def test_every_defect_is_named_with_its_place(value: Any, sentence: str, tmp_path: Path):
    path = lines(tmp_path / "a.jsonl", track(id="good"), value)
    expected = "record 2 (line 2)" + (f": {sentence}" if sentence.startswith("is ") else f", {sentence}")
    assert any(found.startswith(expected) for found in told(path))
    with pytest.raises(InputError) as caught:
        list(read_records(path))
    assert str(caught.value).startswith(f"{path}, record 2 (line 2)") and "Mend this record" in str(caught.value)


def test_everything_is_told_at_once(tmp_path: Path):
    boxes = [[0.3, 0, 0.1, 1]] * 7 + [[0, 0, 2, 1], [0.1, 0, 0.1, 1]]
    bad = track(id="v1_0", vid=..., box=boxes, frames=[f"{i}.jpg" for i in range(9)])
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(track()) + "\n\n{oops}\n" + json.dumps(bad) + "\n", encoding="utf-8")
    assert told(path, image_size=lambda frame: (64, 48) if frame == "0.jpg" else None) == [
        "record 2 (line 3): is not JSON (Expecting property name enclosed in double quotes)",
        "record 3 (line 4), vid: the key is missing",
        "record 3 (line 4), frame_size: says 640x480, but '0.jpg' is 64x48",
        "record 3 (line 4), box[7]: is out of range 0..1",
        "record 3 (line 4), box[0], box[1], box[2], box[3], box[4] and 2 more: is inverted: x2 < x1 or y2 < y1",
        "record 3 (line 4), box[8]: has no width or no height",
        "record 3 (line 4), id: 'v1_0' is the id of record 1 already",
    ]


def test_reading_on_leaves_out_what_cannot_be_made(tmp_path: Path):
    path = lines(tmp_path / "a.jsonl", track(id=1), track(id=2, box=[BOX]), track(id=3, box=[BOX, [0, 0, 1.2, 1]]))
    seen: list[Problem] = []
    assert [record.id for record in read_records(path, on_problem=seen.append)] == [1, 3]
    assert [(p.record, p.field, p.fatal) for p in seen] == [(2, "box", True), (3, "box[1]", False)]


def test_several_problems_of_the_first_bad_record_are_counted(tmp_path: Path):
    path = lines(tmp_path / "a.jsonl", track(vid=..., frames=["a.jpg", "a.jpg"]))
    with pytest.raises(InputError, match=r"vid: the key is missing \(and 1 more in this record\)\. Mend"):
        list(read_records(path))


# Files that are broken, cut off, empty or not there


@pytest.mark.parametrize("form", ["array", "lines"])
def test_a_file_cut_anywhere_gives_what_is_whole(form: str, tmp_path: Path):
    """Cut in the last record: the one before it is there, and a warning says where the file ends."""
    one, two = (json.dumps(track(id=i, x=[-1.5e-7, True, None, "\u00e9"]), ensure_ascii=i == 1) for i in (1, 2))
    head = f"[{one},\n" if form == "array" else f"{one}\n"
    path = tmp_path / "a.json"
    for length in range(1, len(two.encode())):
        path.write_bytes(head.encode() + two.encode()[:length])
        with pytest.warns(UserWarning, match=r"record 2 \(line 2\): the file is cut off here; what comes before"):
            assert [record.id for record in read_records(path)] == [1]
    assert told(path) == ["record 2 (line 2): the file is cut off here"]


def test_an_array_that_lacks_its_end(tmp_path: Path):
    path = tmp_path / "a.json"
    for end in ("", ",", " \n"):
        path.write_text("[" + json.dumps(track()) + end)
        with pytest.warns(UserWarning, match="cut off"):
            assert len(list(read_records(path))) == 1


def test_a_whole_last_line_needs_no_end_of_line(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(track()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(read_records(path))) == 1


def test_a_gzip_file_cut_off(tmp_path: Path):
    path = tmp_path / "a.jsonl.gz"
    random = np.random.default_rng(0)
    given = "".join(json.dumps(track(id=i, noise=random.random(50).tolist())) + "\n" for i in range(500))
    packed = gzip.compress(given.encode())
    for form in (packed, gzip.compress(b"[" + given.strip().replace("\n", ",").encode() + b"]")):
        path.write_bytes(form[: len(form) // 2])
        with pytest.warns(UserWarning, match="cut off"):
            ids = [record.id for record in read_records(path)]
        assert len(ids) > 100 and ids == list(range(len(ids)))


BROKEN = [
    ("[{'id': 1}]", "record 1 (line 1): is not JSON (Expecting property name enclosed in double quotes)"),
    ("{'id': 1}", "record 1 (line 1): is not JSON (Expecting property name enclosed in double quotes)"),
    ('{"id": 1} {"id": 2}', "record 1 (line 1): is not JSON (Extra data)"),
    ('{"id": "\x01"}', "record 1 (line 1): is not JSON (Invalid control character at)"),
    ("[GOOD\n GOOD]", "record 2 (line 2): stands outside of the array, or lacks a comma before it ('{')"),
    ("[GOOD]\n[GOOD]", "record 2 (line 2): stands outside of the array, or lacks a comma before it ('[')"),
    ('[GOOD,\n{"id": "\xff"}]', "record 2 (line 2): is not UTF-8 (byte 0xff)"),
    ("[GOOD,\n\xff]", "record 2 (line 2): is not JSON (Expecting value)"),
    ('{"id": "\xff"}\nGOOD\n', "record 1 (line 1): is not UTF-8 (byte 0xff)"),
    ('{"id": ' + "[" * 100000 + "\n", "record 1 (line 1): is not JSON (nested too deeply)"),
]


@pytest.mark.parametrize(("text", "sentence"), BROKEN, ids=[sentence for _, sentence in BROKEN])
def test_broken_files(text: str, sentence: str, tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_bytes(text.replace("GOOD", json.dumps(track())).encode("latin-1"))
    assert sentence in told(path)
    with pytest.raises(InputError, match=r"is not|lacks a comma"):
        list(read_records(path))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \n\n", "is empty"),
        (b"[]", "holds no record"),
        (b"\xff\xfe[\x00]\x00", "is neither a JSON array nor JSON lines in UTF-8"),
        (b"id,vid\n1,2\n", "is neither a JSON array nor JSON lines"),
    ],
)
def test_files_without_records(content: bytes, sentence: str, tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    for read in (read_records, validate_records):
        with pytest.raises(InputError, match=sentence):
            list(read(path))


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(SourceError, match=r"Cannot read the annotations .*none\.json': No such file"):
        list(read_records(tmp_path / "none.json"))
    with pytest.raises(SourceError, match="Is a directory"):
        list(validate_records(tmp_path))
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8bnothing of the sort")
    with pytest.raises(SourceError, match="Cannot read the annotations"):
        list(read_records(tmp_path / "a.gz"))


# The unit of boxes


@pytest.mark.parametrize(
    ("boxes", "size", "space"),
    [
        ([], None, "normalised"),
        ([[np.nan] * 4], (640, 480), "normalised"),
        ([[0, 0, 1, 1], [0.1, 0.1, 0.9, 0.9], [0, 0, 40, 1]], (640, 480), "normalised"),
        ([[18, 29, 42, 61], [np.nan] * 4], (640, 480), "per cent"),
        ([[18, 29, 102, 61]], (640, 480), "per cent"),
        ([[18, 29, 42, 61]], (100, 100), "per cent or pixels"),
        ([[18, 29, 42, 61]], None, "per cent or pixels"),
        ([[18, 29, 42, 61], [18, 29, 142, 61]], None, "pixels"),
    ],
)
def test_the_unit_of_boxes(boxes: list[list[float]], size: tuple[int, int] | None, space: str):
    assert box_space(boxes, size) == space
