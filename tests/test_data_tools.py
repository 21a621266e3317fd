"""`elysium data` beside `convert`: checking and mending, figures, pictures, splitting, merging."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from elysium.cli.main import main
from elysium.data.rearrange import merge, split, stem, values
from elysium.data.records import Problem, read_records
from elysium.data.records.images import ImageFolder
from elysium.data.sheets import sheet
from elysium.data.statistics import median, statistics
from elysium.data.validate import validate
from elysium.errors import InputError
from training_kit import write_lines

SIZE = (40, 20)


def track(id: str = "a", **changes: Any) -> dict[str, Any]:
    return {
        "source": "t", "id": id, "vid": "v", "metadata": {}, "frames": ["v/0.png", "v/1.jpg"], "object_class": "dog",
        "box": [[0.1, 0.2, 0.5, 0.6], [0.2, 0.2, 0.6, 0.6]], "object_description": "a dog", "frame_size": list(SIZE),
        **changes,
    }  # fmt: skip


def chat(id: str = "c", **changes: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>\nwhat is it"}, {"from": "gpt", "value": "a dog"}]
    return {"source": "t", "id": id, "vid": "v", "frames": ["v/0.png"], "vqa": turns, **changes}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two whole images, one that is cut off, one that is none."""
    folder = tmp_path / "images" / "v"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "0.png")
    Image.fromarray(pixels).save(folder / "1.jpg")
    (folder / "cut.jpg").write_bytes((folder / "1.jpg").read_bytes()[:-300])
    (folder / "none.png").write_text("no image")
    return tmp_path / "images"


def checked(path: Path, images: Path | None = None, **options: Any) -> tuple[list[str], Any]:
    found: list[Problem] = []
    summary = validate(path, images, on_problem=found.append, **options)
    return [str(problem).partition("jsonl, ")[2] for problem in found], summary


# Each: what the record is, what is told, and the record (its changed keys) after mending, None if it is left out.
DEFECTS: dict[str, tuple[dict[str, Any], str, dict[str, Any] | None]] = {
    "count": (track(box=[[0.1, 0.2, 0.5, 0.6]]), "box: 1 boxes for 2 frames", None),
    "nan": (track(box=[[float("nan")] * 4, [0.2, 0.2, 0.6, 0.6]]), "box[0]: must be four finite numbers",
            {"box": [None, [0.2, 0.2, 0.6, 0.6]], "absent": [True, False]}),
    "inverted": (track(box=[[0.5, 0.2, 0.1, 0.6]] * 2), "box[0], box[1]: is inverted",
                 {"box": [[0.1, 0.2, 0.5, 0.6]] * 2}),
    "outside": (track(box=[[-0.1, 0.2, 0.5, 1.25]] * 2), "box[0], box[1]: is out of range 0..1",
                {"box": [[0.0, 0.2, 0.5, 1.0]] * 2}),
    "pixels": (track(box=[[200, 4, 300, 12], [8, 4, 24, 12]], frame_size=[400, 20]), "box: the boxes look like pixels",
               {"box": [[0.5, 0.2, 0.75, 0.6], [0.02, 0.2, 0.06, 0.6]]}),
    "missing": (track(frames=["v/0.png", "v/gone.png"]), "frames[1]: 'v/gone.png' is not there",
                {"frames": ["v/0.png"], "box": [[0.1, 0.2, 0.5, 0.6]]}),
    "cut off": (track(frames=["v/cut.jpg", "v/0.png"], times_s=[0.0, 0.5]), "frames[0]: 'v/cut.jpg' is broken",
                {"frames": ["v/0.png"], "box": [[0.2, 0.2, 0.6, 0.6]], "times_s": [0.5]}),
    "no image": (track(frames=["v/none.png", "v/gone.png"]), "frames[0]: 'v/none.png' is broken", None),
    "size": (track(frame_size=[80, 20]), "frame_size: says 80x20, but 'v/0.png' is 40x20", {"frame_size": [40, 20]}),
    "empty": (track(object_description=" ", object_class=""), "object_description: is empty, and so is object_class",
              {"object_description": " "}),
    "leaves": (track(frames=["../0.png", "v/1.jpg"]), "frames[0]: '../0.png' leaves the image folder",
               {"frames": ["v/1.jpg"]}),
    "no chat": (chat(vqa=[]), "vqa: must be a list of turns", None),
    "chat image": (chat(frames=["v/gone.png"]), "frames[0]: 'v/gone.png' is not there", None),
    "no object": ([1, 2], "is a list, not an object", None),  # type: ignore[dict-item]
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_told_with_its_line_and_mended_where_that_is_no_guess(name, images, tmp_path):
    value, told, mended = DEFECTS[name]
    path = write_lines(tmp_path / "a.jsonl", [track("fine"), value, chat("talk")])
    problems, summary = checked(path, images if name not in ("pixels",) else None, fix=tmp_path / "fixed.jsonl")
    assert any(text.startswith("record 2 (line 2)") and told in text for text in problems)
    assert not any(text.startswith(("record 1", "record 3")) for text in problems)
    assert (summary.records, summary.defective, summary.left_out) == (3, 1, int(mended is None))
    kept = [json.loads(line) for line in (tmp_path / "fixed.jsonl").read_text().splitlines()]
    assert kept[0] == track("fine") and kept[-1] == chat("talk") and len(kept) == 3 - (mended is None)
    if mended is not None:
        assert {key: kept[1].get(key) for key in mended} == mended and summary.changed == (name != "empty")
        assert ("absent" in kept[1]) == ("absent" in mended)
    rest, _ = checked(tmp_path / "fixed.jsonl", images if name != "pixels" else None)
    assert rest == (problems if name == "empty" else [])


@pytest.mark.parametrize("changes", [
    {"absent": [True]}, {"absent": 5}, {"frame_size": 40}, {"frame_size": [40]}, {"frame_size": [40, "a"]},
    {"frame_size": [0, 0]}, {"box": [[10**400, 4, 300, 12]] * 2}, {"times_s": [float("nan"), 1.0]},
    {"box": [[200, 4, 300, 12]] * 2, "frame_size": None}, {"object_description": "\ud83d"},
])  # fmt: skip
def test_mending_gives_up_without_a_traceback(changes, tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [track("fine"), track("bad", box=[[0.5, 0.2, 0.1, 0.6]] * 2) | changes])
    checked(path, fix=tmp_path / "fixed.jsonl")
    assert next(iter(read_records(tmp_path / "fixed.jsonl"))).id == "fine"
    assert checked(tmp_path / "fixed.jsonl")[0] == []


def test_pixels_are_those_of_the_size_that_was_stated(images, tmp_path):
    wrong = track("a", frame_size=[400, 200], box=[[160, 80, 240, 100]] * 2)
    checked(write_lines(tmp_path / "a.jsonl", [wrong]), images, fix=tmp_path / "fixed.jsonl")
    (record,) = read_records(tmp_path / "fixed.jsonl")
    assert record.frame_size == (40, 20) and record.box == [(0.4, 0.4, 0.6, 0.5)] * 2


def test_mending_never_writes_over_its_input_nor_nothing(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [track("a", box=[])])
    before = path.read_bytes()
    with pytest.raises(InputError, match="would be written over while it is read"):
        validate(path, fix=path)
    with pytest.raises(InputError, match=r"has no record that can be mended\. Nothing was written"):
        validate(path, fix=tmp_path / "fixed.jsonl")
    assert path.read_bytes() == before and not (tmp_path / "fixed.jsonl").exists()


def test_a_record_that_is_left_out_takes_no_id(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [track("a", box=[]), track("a")])
    _, summary = checked(path, fix=tmp_path / "fixed.jsonl")
    assert [record.id for record in read_records(tmp_path / "fixed.jsonl")] == ["a"] and summary.left_out == 1


def test_broken_lines_and_ids_that_occur_twice(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(track('a'))}\n{{broken}}\n\n{json.dumps(track('a'))}\n{json.dumps(track('b'))}\n")
    problems, summary = checked(path, fix=tmp_path / "fixed.jsonl")
    assert problems[0].startswith("record 2 (line 2): is not JSON") and len(problems) == 2
    assert problems[1] == "record 3 (line 4), id: 'a' is the id of record 1 already"
    assert summary.kinds == Counter({"record": 1, "id": 1}) and summary.left_out == 2
    assert [record.id for record in read_records(tmp_path / "fixed.jsonl")] == ["a", "b"]


def test_several_processes_find_the_same(images, tmp_path):
    lines = [DEFECTS[name][0] if i % 3 else track(str(i)) for i, name in enumerate([*DEFECTS] * 12)]
    path = write_lines(tmp_path / "a.jsonl", lines)
    one, alone = checked(path, images, fix=tmp_path / "one.jsonl")
    two, shared = checked(path, images, fix=tmp_path / "two.jsonl", workers=2)
    assert len(one) > 100 and one == two and alone == shared
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_the_command_says_how_many_and_how_bad(images, tmp_path, capsys):
    path = write_lines(tmp_path / "a.jsonl", [track("a"), track("b", box=[[0.5, 0.2, 0.1, 0.6]] * 2)])
    command = ["data", "validate", str(path), "--images", str(images), "--quiet"]
    assert main([*command, "--fix", str(tmp_path / "b.jsonl")]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].endswith("record 2 (line 2), box[0], box[1]: is inverted: x2 < x1 or y2 < y1")
    assert out[1].endswith("a.jsonl: 2 records, 1 with defects (box 1)")
    assert out[2].endswith("b.jsonl: 2 records, 1 of them mended, 0 left out")
    assert main(["data", "validate", str(tmp_path / "b.jsonl"), "--images", str(images), "--quiet"]) == 0
    assert main(["data", "validate", str(path), "--images", str(tmp_path / "nowhere")]) == 2
    assert main(["data", "validate", str(tmp_path / "nowhere.jsonl")]) == 2
    assert main(["data", "validate", str(path), "--workers", "0"]) == 2
    err = capsys.readouterr().err
    assert "There is no folder of images" in err and "Cannot read the annotations" in err and "--workers 0" in err


def many(videos: int = 40) -> list[dict[str, Any]]:
    names = {video: [f"f{video}/0.png", f"f{video}/1.jpg"] for video in range(videos)}
    return [track(f"{v}-{t}", vid=f"v{v}", frames=frames) for v, frames in names.items() for t in (0, 1)]


def test_a_split_never_cuts_a_video(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", many())
    counts = split(path, {"train": 0.8, "val": 0.2}, tmp_path / "out")
    parts = {name: list(values(tmp_path / "out" / f"a-{name}.jsonl")) for name in counts}
    assert {name: len(part) for name, part in parts.items()} == counts and sum(counts.values()) == 80
    assert 4 <= counts["val"] <= 30 and all(count % 2 == 0 for count in counts.values())
    assert not {value["vid"] for value in parts["train"]} & {value["vid"] for value in parts["val"]}
    assert sorted(value["id"] for part in parts.values() for value in part) == sorted(value["id"] for value in many())
    # More records, in another order, do not move the ones that were there.
    again = write_lines(tmp_path / "b.jsonl", many(60)[::-1])
    split(again, {"train": 0.8, "val": 0.2}, tmp_path / "more", by="frames")
    split(again, {"train": 0.8, "val": 0.2}, tmp_path / "more")
    then = {value["id"] for value in values(tmp_path / "more" / "b-val.jsonl")}
    assert {value["id"] for value in parts["val"]} == {id for id in then if int(id.split("-")[0]) < 40}
    split(path, {"train": 0.8, "val": 0.2}, tmp_path / "other", seed=1)
    assert {v["id"] for v in values(tmp_path / "other" / "a-val.jsonl")} != {v["id"] for v in parts["val"]}


def test_parts_have_the_whole_name_of_the_file(tmp_path):
    for name in ("a.v1.jsonl", "a.v2.jsonl"):
        split(write_lines(tmp_path / name, many(3)), {"all": 1.0}, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.v1-all.jsonl", "a.v2-all.jsonl"]
    assert [stem(Path(name)) for name in ("b.jsonl.gz", "b.c.json", "b.c")] == ["b", "b.c", "b.c"]


def test_a_reader_who_has_had_enough_does_not_stop_the_mending(tmp_path):
    lines = [track(str(i), box=[[0.5, 0.2, 0.1, 0.6]] * 2) for i in range(3000)]
    path = write_lines(tmp_path / "a.jsonl", lines)
    command = f"{sys.executable} -m elysium data validate {path} --fix {tmp_path}/fixed.jsonl --quiet"
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr == "" and done.stdout.count("\n") == 1
    assert len((tmp_path / "fixed.jsonl").read_text().splitlines()) == 3000


def test_what_cannot_be_split_is_told(tmp_path, capsys):
    path = write_lines(tmp_path / "a.jsonl", many(2))
    for arguments, told in (
        (["train=0.9", "val=0.2"], "do not sum up to 1"), (["train"], "is not NAME=SHARE"),
        (["train=x"], "is not NAME=SHARE"), (["=1"], "has no name"),
        (["train=1", "--by", "words"], "cannot be split by"),
    ):  # fmt: skip
        assert main(["data", "split", str(path), str(tmp_path / "out"), *arguments]) == 2
        assert told in capsys.readouterr().err
    write_lines(tmp_path / "b.jsonl", [{"frames": []}])
    with pytest.raises(InputError, match="record 1 \\(line 1\\) has no id or no frames"):
        split(tmp_path / "b.jsonl", {"all": 1.0}, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.jsonl"))


def test_merging_puts_folders_in_front_and_tells_ids_apart(tmp_path):
    one = write_lines(tmp_path / "one.jsonl", [track("a"), chat("b")])
    two = write_lines(tmp_path / "two.jsonl", [track("a"), track("c")])
    assert merge([one, two], tmp_path / "all.jsonl", ["x/y/", "z"]) == 4
    found = list(values(tmp_path / "all.jsonl"))
    assert [value["id"] for value in found] == ["a", "b", "z/a", "c"]
    assert found[0]["frames"] == ["x/y/v/0.png", "x/y/v/1.jpg"] and found[3]["frames"][0] == "z/v/0.png"
    assert merge([one, two], tmp_path / "all.jsonl") == 4
    assert [value["id"] for value in values(tmp_path / "all.jsonl")] == ["a", "b", "two/a", "c"]
    for folders, told in ((["x"], "1 folders for 2 files"), (["..", "x"], "leaves the image folder")):
        with pytest.raises(InputError, match=told):
            merge([one, two], tmp_path / "none.jsonl", folders)
    write_lines(two, [track("c"), track("c")])
    with pytest.raises(InputError, match="the id 'c' occurs twice"):
        merge([one, two], tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


def test_figures_by_hand(tmp_path, capsys):
    far = track("far", vid="w", object_class="cat", object_description="a very big cat", frames=["a", "b", "c"],
                box=[[0.0, 0.0, 0.4, 0.4], None, [0.2, 0.0, 0.6, 0.4]], absent=[False, True, False])  # fmt: skip
    talk = chat("c", vqa=[{"from": who, "value": "x"} for who in ("human", "gpt") * 3])
    path = write_lines(tmp_path / "a.jsonl", [track("a"), track("b", vid="v"), far, talk])
    found = statistics(read_records(path))
    figures = found.summary()
    assert {key: figures[key] for key in ("records", "tracks", "chats", "videos", "boxes", "absences", "classes")} == {
        "records": 4, "tracks": 3, "chats": 1, "videos": 2, "boxes": 6, "absences": 1, "classes": 2,
    }  # fmt: skip
    assert (figures["frames_median"], figures["frames_most"], figures["words_median"]) == (2, 3, 2)
    assert figures["rounds_median"] == 3 and figures["most_frequent"] == {"dog": 2, "cat": 1}
    assert figures["box_size_median"] == 0.412  # 0.4 of the side falls into the bin from 16/40 to 17/40
    assert found.motion == Counter({10: 2})  # 0.1 of the frame is 0.25 of the box; what has gaps has no steps
    assert main(["data", "stats", str(path), "--output", str(tmp_path / "a.png")]) == 0
    assert json.loads(capsys.readouterr().out) == figures
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.format == "PNG" and len(set(drawn.convert("RGB").getdata())) > 100


def test_the_median_is_the_lower_one():
    assert median(Counter({1: 1, 2: 1})) == 1 and median(Counter({5: 1, 3: 2})) == 3


def test_a_sheet_shows_boxes_and_words(images, tmp_path, capsys):
    path = write_lines(tmp_path / "a.jsonl", [track("a"), chat("c"), track("gone", absent=[True, False])])
    records = list(read_records(path))
    plain = sheet([records[1]], ImageFolder(images))
    boxed = sheet([records[0]], ImageFolder(images))
    assert plain.size == boxed.size and np.asarray(plain).tolist() != np.asarray(boxed).tolist()
    base = ["data", "show", str(path), "--images", str(images)]
    assert main([*base, "--output", str(tmp_path / "sheet.png")]) == 0
    assert main([*base, "--record", "a", "--output", str(tmp_path / "a.gif")]) == 0
    with Image.open(tmp_path / "a.gif") as moving:
        assert moving.n_frames == 2
    capsys.readouterr()
    for arguments, told in (
        (["--output", str(tmp_path / "b.gif")], "A GIF shows one record"),
        (["--record", "none", "--output", str(tmp_path / "b.png")], "has no record 'none'"),
    ):
        assert main([*base, *arguments]) == 2
        assert told in capsys.readouterr().err
    assert main(["data", "show", str(path), "--images", str(tmp_path), "--output", str(tmp_path / "b.png")]) == 2
    assert "v/0.png" in capsys.readouterr().err and not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("command", [
    ["validate", "a.jsonl", "--fix"], ["stats", "a.jsonl", "--output"], ["show", "a.jsonl", "--output"],
    ["merge", "a.jsonl", "--output"], ["convert", "llava", "a.jsonl"],
])  # fmt: skip
def test_an_output_that_is_a_folder_is_told_at_once(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "a.jsonl", [track("a")])
    for place in ("/", ".", str(tmp_path)):
        assert main(["data", *command, place]) == 2
        assert "is a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
