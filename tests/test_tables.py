"""Frames in folders and a CSV as records, and `elysium data convert`."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from elysium.cli.main import main
from elysium.data.convert.registry import read
from elysium.data.records import read_records
from elysium.errors import InputError, SourceError


def read_table(folder):
    return read("csv", folder)


HEAD = "clip,frame,x1,y1,x2,y2,object"


@pytest.fixture
def clips(tmp_path):
    """A clip of three frames of 40 x 20 pixels, and a writer of its labels."""
    (tmp_path / "walk").mkdir()
    for name in ("2.png", "10.png", "1.png"):
        Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(tmp_path / "walk" / name)

    def write(*lines: str, head: str = HEAD):
        (tmp_path / "labels.csv").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
        return tmp_path

    return write


def test_lines_become_tracks_with_absences(clips):
    folder = clips("walk,1.png,4,5,20,15,the dog", "walk,10.png,30,-2,44,10,the dog", "walk,2.png,0,0,10,10,a cat")
    dog, cat = read_table(folder)
    assert (dog.id, dog.vid, dog.object_description, dog.frame_size) == ("walk/the dog", "walk", "the dog", (40, 20))
    assert dog.frames == ["walk/1.png", "walk/2.png", "walk/10.png"] == cat.frames  # by the numbers in their names
    assert dog.box == [(0.1, 0.25, 0.5, 0.75), None, (0.75, 0.0, 1.0, 0.5)]  # what sticks out is cut off
    assert dog.absent == [False, True, False] and cat.absent == [True, False, True]


def test_two_of_a_kind_are_told_apart_by_their_track(clips):
    lines = [f"walk,1.png,{x},5,{x + 5},15,the dog,{name}" for x, name in ((1, "left"), (20, "right"))]
    assert [record.id for record in read_table(clips(*lines, head=f"{HEAD},track"))] == [
        "walk/the dog/left", "walk/the dog/right",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"line 3: 'the dog' is in frame '1.png' twice. Tell two objects apart"):
        list(read_table(clips("walk,1.png,1,5,6,15,the dog", "walk,1.png,20,5,25,15,the dog")))


@pytest.mark.parametrize(("line", "sentence"), [
    ("walk,1.png,4,5,x,15,the dog", "line 2: a coordinate is no number"),
    ("walk,1.png,20,5,4,15,the dog", "line 2: the box 20,5,4,15 is empty"),
    ("walk,1.png,nan,5,4,15,the dog", "line 2: the box nan,5,4,15 is empty"),
    ("run,1.png,4,5,20,15,the dog", "names the clip 'run'"),
    ("../x,1.png,4,5,20,15,the dog", "names the clip '../x'"),
    ("walk,3.png,4,5,20,15,the dog", "has no frame '3.png'"),
    ("/tmp,1.png,4,5,20,15,the dog", "names the clip '/tmp'"),
    ("walk,1.png,50,5,60,15,the dog", "'the dog' in walk/1.png lies outside of the frame. Frames are 40 x 20"),
    ("walk,1.png,4,5,20,15,", "line 2: no words for the object"),
])  # fmt: skip
def test_bad_lines_are_named(clips, line, sentence):
    with pytest.raises((InputError, SourceError), match=sentence):
        list(read_table(clips(line)))


def test_bad_files_are_named(clips, tmp_path):
    with pytest.raises(InputError, match="has no column y2, object"):
        list(read_table(clips("walk,1.png,4,5,20", head="clip,frame,x1,y1,x2")))
    with pytest.raises(InputError, match="holds no line below its head"):
        list(read_table(clips()))
    with pytest.raises(SourceError, match=r"Cannot read .*nowhere"):
        list(read_table(tmp_path / "nowhere"))


def test_the_command_writes_records_that_are_read_again(clips, tmp_path, capsys):
    folder = clips("walk,1.png,4,5,20,15,the dog", "walk,2.png,0,0,10,10,a cat")
    assert main(["data", "convert", "csv", str(folder), str(tmp_path / "out.jsonl")]) == 0
    assert capsys.readouterr().out.endswith("out.jsonl: 2 records, 0 defects\n")
    assert [record.id for record in read_records(tmp_path / "out.jsonl")] == ["walk/the dog", "walk/a cat"]
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert "vqa" not in first and first["box"] == [[0.1, 0.25, 0.5, 0.75], None, None]


def test_a_wrong_name_or_line_writes_nothing(clips, tmp_path, capsys):
    assert main(["data", "convert", "magic", str(tmp_path), str(tmp_path / "out.jsonl")]) == 2
    assert "There is no converter 'magic'. Use one of csv, sequences" in capsys.readouterr().err
    folder = clips("walk,1.png,4,5,20,15,the dog", "walk,1.png,4,5,x,15,the dog")
    assert main(["data", "convert", "csv", str(folder), str(tmp_path / "out.jsonl")]) == 2
    assert not (tmp_path / "out.jsonl").exists()


def test_the_footage_of_the_tutorial_is_whole(tmp_path, monkeypatch):
    """Every box of the example lies in its frame and on something brighter than what is around it."""
    import runpy
    import sys
    from pathlib import Path

    script = Path(__file__).resolve().parent.parent / "examples" / "own_clips.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "own"), "--clips", "2", "--seed", "3"])
    runpy.run_path(str(script), run_name="__main__")
    with (tmp_path / "own" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["object"] for row in rows} == {"the drone", "the bird"} and len(rows) > 50
    for row in rows[::7]:
        image = np.asarray(Image.open(tmp_path / "own" / row["clip"] / row["frame"]).convert("L"), float)
        x1, y1, x2, y2 = (round(float(row[name])) for name in ("x1", "y1", "x2", "y2"))
        assert 0 <= x1 < x2 <= 320 and 0 <= y1 < y2 <= 240
        assert np.percentile(image[y1:y2, x1:x2], 90) > image.mean() + 25
    assert len(list(read_table(tmp_path / "own"))) == 4
