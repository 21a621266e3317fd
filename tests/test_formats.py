"""Results in other toolkits' files: exact there and back, and files as those toolkits and people write them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elysium.errors import ElysiumError, InputError, OutputError, SourceError
from elysium.evaluation import formats
from elysium.evaluation.formats import MotTrack, hold_absent, pack, read_boxes, read_mot, write_boxes, write_mot
from elysium.tracks import TrackRecorder, TrackResult

NAN = float("nan")
GONE = [NAN] * 4
# Whole numbers, thirds, tiny, huge and negative ones, absence, and boxes without an area that are not absent.
HARD = np.array(
    [[10, 20, 30, 40], [1 / 3, 2 / 3, 1e-7, 1e16], GONE, [-5.5, -0.1, 7, 0.1 + 0.2], [0, 0, 0, 5], [3, 4, 0, 0], GONE]
)
RANDOM = np.random.default_rng(0).normal(0, 300, (50, 4))


def same(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(found, expected)  # exactly; NaN equals NaN


@pytest.mark.parametrize("boxes", [HARD, RANDOM], ids=["hard", "random"])
@pytest.mark.parametrize("name", ["lasot", "trackingnet", "otb"])
def test_there_and_back(name: str, boxes: np.ndarray, tmp_path: Path):
    path = formats.WRITERS[name](tmp_path / "new", "dog-1", boxes)
    assert path == tmp_path / "new" / "dog-1.txt"
    same(getattr(formats, f"read_{name}")(tmp_path / "new", "dog-1"), boxes)


@pytest.mark.parametrize("separator", formats.SEPARATORS)
def test_otb_with_each_separator(separator: str, tmp_path: Path):
    path = formats.write_otb(tmp_path, "Bolt", HARD[:3], separator=separator)
    lines = ["10|20|30|40", "0.3333333333333333|0.6666666666666666|0.0000001|10000000000000000", "0|0|0|0"]
    assert path.read_text() == "".join(line.replace("|", separator) + "\n" for line in lines)
    same(formats.read_otb(tmp_path, "Bolt"), HARD[:3])


def test_the_lines_that_are_written(tmp_path: Path):
    boxes = [[10.125, 20.5, 30.0, 40.9999], GONE, [1, NAN, 3, 4], [-0.4, 0, 5, 5]]
    assert write_boxes(tmp_path / "a.txt", boxes).read_bytes() == (
        b"10.125,20.5,30,40.9999\n0,0,0,0\n0,0,0,0\n-0.4,0,5,5\n"
    )
    assert write_boxes(tmp_path / "a.txt", boxes, decimals=1).read_text() == (
        "10.1,20.5,30,41\n0,0,0,0\n0,0,0,0\n-0.4,0,5,5\n"
    )
    assert write_boxes(tmp_path / "a.txt", boxes, decimals=0).read_text().splitlines()[-1] == "0,0,5,5"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_pixels_that_count_from_one(tmp_path: Path):
    path = formats.write_otb(tmp_path, "Bolt", [[335, 164, 26, 61], GONE], origin=1)
    assert path.read_text() == "336,165,26,61\n0,0,0,0\n"
    same(formats.read_otb(tmp_path, "Bolt"), [[336, 165, 26, 61], GONE])
    same(formats.read_otb(tmp_path, "Bolt", origin=1), [[335, 164, 26, 61], GONE])


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("198,214,34,81\n197,214,34,81\n", [[198, 214, 34, 81], [197, 214, 34, 81]]),  # OTB, most sequences
        ("198\t214\t34\t81\n197\t214\t34\t81\n", [[198, 214, 34, 81], [197, 214, 34, 81]]),  # OTB, others; pytracking
        ("  198   214 34  81 \r\n197 214 34 81", [[198, 214, 34, 81], [197, 214, 34, 81]]),  # OTB, a few
        ("\ufeff1.5, 2,\t3 ,4\n\n5;6;7;8\n", [[1.5, 2, 3, 4], [5, 6, 7, 8]]),  # by hand
        ("NaN,NaN,NaN,NaN\n0,0,0,0\n0,0,1,0\n", [GONE, GONE, [0, 0, 1, 0]]),  # UAV123; LaSOT
        ("1.000,2.000,3.000,nan\n", [GONE]),
        ("1e2,-2.5E-1,+3,.5\n", [[100, -0.25, 3, 0.5]]),
        ("0.000,0.000,0.000,0.000\n", [GONE]),  # GOT-10k
    ],
)
def test_files_that_others_write(text: str, boxes: Any, tmp_path: Path):
    (tmp_path / "groundtruth.txt").write_bytes(text.encode())
    same(formats.read_lasot(tmp_path, "groundtruth"), boxes)
    same(formats.read_otb(tmp_path, "groundtruth"), boxes)


def test_the_real_sequences_come_back(shared_dir: Path, tmp_path: Path):
    paths = sorted((shared_dir / "data" / "sequences").glob("*/groundtruth.txt"))
    assert len(paths) == 21
    for path in paths:
        boxes = read_boxes(path)
        same(boxes, np.loadtxt(path, delimiter=","))
        same(read_boxes(write_boxes(tmp_path / "a.txt", boxes)), boxes)
        lines = path.read_text().splitlines()
        assert len(boxes) == len(lines)


# GOT-10k: boxes and times


def test_got10k_there_and_back(tmp_path: Path):
    times = [0.5, NAN, 1e-5, 1 / 3, 0, 0.0125, 2]
    path = formats.write_got10k(tmp_path, "GOT-10k_Val_000001", HARD, times)
    assert path == tmp_path / "GOT-10k_Val_000001" / "GOT-10k_Val_000001_001.txt"
    time_file = path.with_name("GOT-10k_Val_000001_time.txt")
    assert time_file.read_text().splitlines()[:4] == ["0.5", "nan", "0.00001", "0.3333333333333333"]
    boxes, found = formats.read_got10k(tmp_path, "GOT-10k_Val_000001")
    same(boxes, HARD)
    same(found, times)


def test_got10k_repetitions_are_columns(tmp_path: Path):
    boxes = HARD[:2]
    for repetition, times in ((1, [0.1, 0.2]), (3, [0.5, 0.6]), (1, [0.3, 0.4])):  # the first again, the second never
        formats.write_got10k(tmp_path, "s", boxes + repetition, times, repetition=repetition)
    assert sorted(os.listdir(tmp_path / "s")) == ["s_001.txt", "s_003.txt", "s_time.txt"]
    assert (tmp_path / "s" / "s_time.txt").read_text() == "0.3,nan,0.5\n0.4,nan,0.6\n"
    for repetition, times in ((1, [0.3, 0.4]), (3, [0.5, 0.6])):
        found, seconds = formats.read_got10k(tmp_path, "s", repetition=repetition)
        same(found, boxes + repetition)
        same(seconds, times)


def test_got10k_as_its_toolkit_writes_and_reads(tmp_path: Path):
    folder = tmp_path / "s"
    folder.mkdir()
    np.savetxt(folder / "s_001.txt", [[1, 2, 3, 4], [5.0625, 6, 7, 8]], fmt="%.3f", delimiter=",")
    np.savetxt(folder / "s_time.txt", [[0.25], [0.125]], fmt="%.8f", delimiter=",")
    boxes, times = formats.read_got10k(tmp_path, "s")
    same(boxes, [[1, 2, 3, 4], [5.062, 6, 7, 8]])
    same(times, [0.25, 0.125])
    formats.write_got10k(tmp_path, "s", [[1, 2, 3, 4], GONE], [0.5, NAN], repetition=2)
    same(np.loadtxt(folder / "s_002.txt", delimiter=","), [[1, 2, 3, 4], [0, 0, 0, 0]])
    same(np.loadtxt(folder / "s_time.txt", delimiter=","), [[0.25, 0.5], [0.125, NAN]])


def test_got10k_without_times(tmp_path: Path):
    path = formats.write_got10k(tmp_path, "s", HARD[:2])
    same(formats.read_got10k(tmp_path, "s")[1], [NAN, NAN])
    path.with_name("s_time.txt").unlink()
    same(formats.read_got10k(tmp_path, "s")[1], [NAN, NAN])


def test_got10k_times_that_do_not_fit(tmp_path: Path):
    with pytest.raises(InputError, match=r"s: 1 times for 2 boxes\. Give"):
        formats.write_got10k(tmp_path, "s", HARD[:2], [0.5])
    with pytest.raises(InputError, match="no repetition 0"):
        formats.write_got10k(tmp_path, "s", HARD[:2], repetition=0)
    assert os.listdir(tmp_path) == []
    formats.write_got10k(tmp_path, "s", HARD[:2], [0.5, 0.5])
    for text in ("0.5\n", "0.5\n0.5,0.5\n"):
        (tmp_path / "s" / "s_time.txt").write_text(text)
        with pytest.raises(InputError, match="same number of times for each of 2 frames"):
            formats.read_got10k(tmp_path, "s")


# MOT: several objects


def test_mot_there_and_back(tmp_path: Path):
    tracks = {
        7: MotTrack(np.array([GONE, [1 / 3, 2, 3, 4], GONE, GONE]), np.array([NAN, NAN, NAN, NAN])),
        2: MotTrack(np.array([[5, 6, 7, 8.5], [0, 0, 0, 0], GONE, GONE]), np.array([0.1 + 0.2, 1, NAN, NAN])),
    }
    path = write_mot(tmp_path / "a.txt", tracks)
    assert path.read_text() == (
        "1,2,5,6,7,8.5,0.30000000000000004,-1,-1,-1\n2,2,0,0,0,0,1,-1,-1,-1\n2,7,0.3333333333333333,2,3,4,-1,-1,-1,-1\n"
    )
    found = read_mot(path, num_frames=4)
    assert list(found) == [2, 7]
    for number, track in tracks.items():
        same(found[number].boxes_xywh, track.boxes_xywh)
        same(found[number].scores, track.scores)
    assert read_mot(path)[7].boxes_xywh.shape == (2, 4)  # the file does not say that there are more
    assert write_mot(path, {1: MotTrack(np.array([[1 / 3, 2, 3, 4]]), np.array([0.5]))}, decimals=2).read_text() == (
        "1,1,0.33,2,3,4,0.5,-1,-1,-1\n"
    )


def test_mot_pixels_that_count_from_one(tmp_path: Path):
    tracks = {1: MotTrack(np.array([[0.0, 0, 3, 4]]), np.array([0.5]))}
    path = write_mot(tmp_path / "a.txt", tracks, origin=1)
    assert path.read_text() == "1,1,1,1,3,4,0.5,-1,-1,-1\n"
    same(read_mot(path, origin=1)[1].boxes_xywh, [[0, 0, 3, 4]])


def test_mot_as_the_challenge_writes_it(tmp_path: Path):
    path = tmp_path / "gt.txt"
    path.write_text(
        "1, 3, 794.27, 247.59, 71.245, 174.88, -1, -1, -1, -1\n"  # the example of its page
        "3,1,912,484,97,109,0,7,1\n"  # ground truth: flag, class, visibility
        "1,1,912,484,97,109\n"
    )
    found = read_mot(path)
    assert list(found) == [1, 3]
    same(found[1].boxes_xywh, [[912, 484, 97, 109], GONE, [912, 484, 97, 109]])
    same(found[1].scores, [NAN, NAN, 0])
    same(found[3].boxes_xywh, [[794.27, 247.59, 71.245, 174.88], GONE, GONE])
    same(found[3].scores, [NAN, NAN, NAN])


def test_mot_that_track_results_write(tmp_path: Path):
    recorder = TrackRecorder(4, "x")
    recorder.add(0, 0.0, None, 0.5, "absent")
    recorder.add(1, 0.1, [10.5, 20, 30, 40], 0.75, "tracked")
    TrackResult("clip.mp4", "nano", 10.0, (64, 48), [recorder.finish()]).to_mot(tmp_path / "a.txt")
    found = read_mot(tmp_path / "a.txt", num_frames=3)
    same(found[4].boxes_xywh, [GONE, [10.5, 20, 19.5, 20], GONE])
    same(found[4].scores, [NAN, 0.75, NAN])


def test_mot_where_nothing_was_found(tmp_path: Path):
    path = write_mot(tmp_path / "a.txt", {})
    assert path.read_bytes() == b"" and read_mot(path, num_frames=5) == {}
    with pytest.raises(InputError, match="is empty"):
        read_mot(path)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("0,1,1,2,3,4,1,-1,-1,-1", "there is no frame 0: they count from 1 to 9"),
        ("10,1,1,2,3,4,1,-1,-1,-1", "there is no frame 10: they count from 1 to 9"),
        ("1.5,1,1,2,3,4,1,-1,-1,-1", "there is no frame 1.5: they count from 1 to 9"),
        ("1,1.5,1,2,3,4,1,-1,-1,-1", "needs a whole number for the object, and no NaN"),
        ("2,1,nan,2,3,4,1,-1,-1,-1", "needs a whole number for the object, and no NaN"),
        ("nan,nan,1,2,3,4,1,-1,-1,-1", "needs a whole number for the object, and no NaN"),
        ("1,1,9,9,9,9,1,-1,-1,-1", "object 1 has two boxes in frame 1"),
        ("1,2,9,9,9", "5 numbers, not 6 to 10"),
        ("1,2,9,9,9,inf", "a number is infinite"),
    ],
)
def test_mot_lines_that_make_no_sense(line: str, sentence: str, tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text(f"1,1,1,2,3,4,1,-1,-1,-1\n\n{line}\n")
    with pytest.raises(InputError) as caught:
        read_mot(path, num_frames=9)
    assert str(caught.value) == f"{path}, line 3: {sentence}. Mend the file or write it again."


# Absence for those who want a box in every frame, and packing


def test_holding_the_last_box():
    one, two = [1, 2, 3, 4], [5, 6, 7, 8]
    same(hold_absent([GONE, one, GONE, GONE, two, GONE]), [GONE, one, one, one, two, two])
    given = np.array([[1.0, 2, 3, 4], GONE])
    hold_absent(given)
    same(given, [[1, 2, 3, 4], GONE])
    assert hold_absent([]).shape == (0, 4)


def test_packing(tmp_path: Path):
    formats.write_got10k(tmp_path / "out", "b", HARD[:2], [1, 2])
    formats.write_trackingnet(tmp_path / "out", "a", HARD[:1])
    (tmp_path / "out" / "notes.md").write_text("not a result")
    first = pack(tmp_path / "out", tmp_path / "x.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.namelist() == ["a.txt", "b/b_001.txt", "b/b_time.txt"]
        assert archive.read("a.txt") == b"10,20,30,40\n"
    assert pack(tmp_path / "out", tmp_path / "y.zip").read_bytes() == first
    with pytest.raises(InputError, match="no results below"):
        pack(tmp_path / "nothing", tmp_path / "z.zip")


# What is wrong


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1,2,3,4\n1,2,3\n", "line 2: 3 numbers, not 4"),
        ("1,2,3,4\n\n1,2,3,4,5,6,7,8\n", "line 3: 8 numbers, not 4"),
        ("x,y,w,h\n1,2,3,4\n", "line 1: 'x,y,w,h' is not numbers"),
        ("1,2,3,4\n1,2,,4\n", "line 2: '1,2,,4' is not numbers"),
        ("1,2,3,inf\n", "line 1: a number is infinite"),
        (" \n\n", "is empty. It needs a line for each frame"),
    ],
)
def test_files_that_make_no_sense(text: str, sentence: str, tmp_path: Path):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError) as caught:
        formats.read_otb(tmp_path, "a")
    assert sentence in str(caught.value) and str(tmp_path / "a.txt") in str(caught.value)


def test_files_that_cannot_be_read_or_written(tmp_path: Path):
    with pytest.raises(SourceError, match=r"Cannot read the boxes .*a\.txt': No such file"):
        formats.read_lasot(tmp_path, "a")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match="it is not text"):
        formats.read_lasot(tmp_path, "a")
    with pytest.raises(OutputError, match="Cannot write"):
        formats.write_lasot(tmp_path / "a.txt", "b", HARD)


@pytest.mark.parametrize(
    ("boxes", "options", "sentence"),
    [
        ([[1, 2, 3]], {}, r"the shape \(1, 3\)"),
        ([1, 2, 3, 4], {}, r"the shape \(4,\)"),
        ([[1, 2, 3, 4], [1, 2, np.inf, 4]], {}, "box of frame 2 is infinite"),
        ([[1, 2, 3, 4]], {"separator": "|"}, "cannot stand between numbers"),
    ],
)
def test_boxes_that_are_none(boxes: Any, options: dict[str, Any], sentence: str, tmp_path: Path):
    with pytest.raises(InputError, match=sentence):
        formats.write_otb(tmp_path, "a", boxes, **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\\b"])
def test_names_that_would_leave_the_folder(name: str, tmp_path: Path):
    for write in formats.WRITERS.values():
        with pytest.raises(ElysiumError, match="is no name for a file"):
            write(tmp_path, name, HARD)


def test_scores_that_do_not_fit(tmp_path: Path):
    with pytest.raises(InputError, match="Track 3: 2 scores for 1 boxes"):
        write_mot(tmp_path / "a.txt", {3: MotTrack(np.array([[1.0, 2, 3, 4]]), np.array([1.0, 2]))})
