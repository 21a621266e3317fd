"""Tracks and the files they are kept in."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from elysium.errors import InputError, OutputError, SourceError
from elysium.tracks import Track, TrackRecorder, TrackResult
from elysium.video import open_source

NAN = float("nan")


def make_result(source: str = "clip.mp4") -> TrackResult:
    """Two tracks over the source frames 4, 6 and 8; the first is absent on frame 6."""
    dog = TrackRecorder(1, 'the "big" dog, Größe 2', [10, 20, 30.126, 40])
    dog.add(4, 0.4, [10, 20, 30.126, 40], 0.98765, "tracked")
    dog.add(6, 0.6, None, 0.5, "absent")
    dog.add(8, 0.8, [12.5, 22, 32, 42], 1 / 3, "carried")
    ball = TrackRecorder(2)
    for index in (4, 6, 8):
        ball.add(index, index / 10, [1, 2, 3, 4], 0.9, "tracked")
    ball.note("clipped")
    ball.note("clipped")
    return TrackResult(source, "nano", 10.0, (64, 48), [dog.finish(), ball.finish()], ["cut short"])


def test_the_recorder_collects_arrays():
    track = make_result().tracks[0]
    assert (track.id, track.expression, len(track)) == (1, 'the "big" dog, Größe 2', 3)
    assert (track.indices.dtype, track.boxes_xyxy.shape) == (np.int64, (3, 4))
    np.testing.assert_array_equal(track.boxes_xyxy[1], [NAN] * 4)
    np.testing.assert_allclose(track.boxes_xyxy[2], [12.5, 22, 32, 42])
    np.testing.assert_allclose(track.times_s, [0.4, 0.6, 0.8])
    assert track.states.tolist() == ["tracked", "absent", "carried"]
    assert (track.states == "absent").tolist() == [False, True, False]
    assert [track.row(i) for i in (3, 4, 5, 8, 9)] == [None, 0, None, 2, None]
    assert make_result().tracks[1].notes == ("clipped",)
    assert make_result().tracks[1].label == "object 2"


def test_an_absent_frame_never_has_a_box():
    recorder = TrackRecorder(1)
    recorder.add(0, 0.0, [1, 2, 3, 4], 0.5, "absent")
    assert np.isnan(recorder.finish().boxes_xyxy).all()


def test_frames_must_come_in_order():
    recorder = TrackRecorder(1)
    recorder.add(3, 0.3, None, 0.5, "absent")
    with pytest.raises(ValueError, match="frame 3 after frame 3"):
        recorder.add(3, 0.3, None, 0.5, "absent")


def test_a_track_checks_its_arrays():
    empty = TrackRecorder(1).finish()
    assert empty.boxes_xyxy.shape == (0, 4)
    one, states = np.zeros(1), np.array(["lost"])
    with pytest.raises(ValueError, match="lost"):
        Track(1, None, None, one.astype(np.int64), one, np.zeros((1, 4)), one, states)
    with pytest.raises(ValueError, match="shapes"):
        Track(1, None, None, one.astype(np.int64), one, np.zeros((2, 4)), one, np.array(["tracked"]))


def test_counts_and_rates():
    result = make_result()
    assert (result.num_frames, result.indices.tolist()) == (3, [4, 6, 8])
    assert result.output_fps == 5.0  # every second frame of 10 a second
    empty = TrackResult("a", "nano", 25.0, (4, 4), [])
    assert (empty.num_frames, empty.output_fps) == (0, 25.0)


def test_json_follows_the_schema():
    text = make_result().to_json()
    assert "NaN" not in text
    data = json.loads(text)
    first, second = data.pop("tracks")
    assert data == {
        "schema": 1,
        "source": "clip.mp4",
        "model": "nano",
        "fps": 10.0,
        "resolution_wh": [64, 48],
        "num_frames": 3,
        "warnings": ["cut short"],
    }
    assert first == {
        "id": 1,
        "expression": 'the "big" dog, Größe 2',
        "initial_box": [10, 20, 30.13, 40],
        "frames": [
            {"index": 4, "time_s": 0.4, "box_xyxy": [10, 20, 30.13, 40], "score": 0.9877, "state": "tracked"},
            {"index": 6, "time_s": 0.6, "box_xyxy": None, "score": 0.5, "state": "absent"},
            {"index": 8, "time_s": 0.8, "box_xyxy": [12.5, 22, 32, 42], "score": 0.3333, "state": "carried"},
        ],
    }
    assert (second["expression"], second["initial_box"], second["notes"]) == (None, None, ["clipped"])


def test_json_round_trip(tmp_path: Path):
    path = tmp_path / "out" / "tracks.json"
    text = make_result().to_json(path)
    assert path.read_text(encoding="utf-8") == text
    for source in (path, str(path), text):
        again = TrackResult.from_json(source)
        assert again.to_json() == text
        assert again.resolution_wh == (64, 48)
        np.testing.assert_allclose(again.tracks[0].boxes_xyxy, make_result().tracks[0].boxes_xyxy, atol=0.005)
        assert again.tracks[0].states.tolist() == ["tracked", "absent", "carried"]
    nothing = TrackResult("a", "nano", 25.0, (4, 4), [])
    assert TrackResult.from_json(nothing.to_json()).to_json() == nothing.to_json()


def test_a_score_that_is_not_a_number_is_null():
    recorder = TrackRecorder(1)
    recorder.add(0, 0.0, [1, 2, 3, 4], NAN, "tracked")
    text = TrackResult("a", "nano", 25.0, (4, 4), [recorder.finish()]).to_json()
    assert json.loads(text)["tracks"][0]["frames"][0]["score"] is None
    assert np.isnan(TrackResult.from_json(text).tracks[0].scores[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not tracks"),
        ("{}", "'schema' is missing"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 1, "resolution_wh": [1]}', "not tracks"),
    ],
)
def test_other_json_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        TrackResult.from_json(text)


def test_files_that_cannot_be_read_or_written(tmp_path: Path):
    with pytest.raises(SourceError, match=r"no\.json"):
        TrackResult.from_json(tmp_path / "no.json")
    (tmp_path / "file").write_text("")
    for write in (make_result().to_json, make_result().to_csv, make_result().to_mot):
        with pytest.raises(OutputError):
            write(tmp_path / "file" / "out")
    assert os.listdir(tmp_path) == ["file"]


def test_csv(tmp_path: Path):
    text = make_result().to_csv(tmp_path / "tracks.csv")
    lines = text.splitlines()
    assert lines[0] == "frame_index,time_s,track_id,expression,x1,y1,x2,y2,score,state"
    assert lines[1] == '4,0.4,1,"the ""big"" dog, Größe 2",10,20,30.13,40,0.9877,tracked'
    assert lines[2] == "4,0.4,2,,1,2,3,4,0.9,tracked"
    assert lines[3] == '6,0.6,1,"the ""big"" dog, Größe 2",,,,,0.5,absent'
    assert len(lines) == 7
    rows = list(csv.DictReader((tmp_path / "tracks.csv").open(encoding="utf-8", newline="")))
    assert rows[0]["expression"] == 'the "big" dog, Größe 2'


def test_mot():
    assert make_result().to_mot().splitlines() == [
        "5,1,10,20,20.13,20,0.9877,-1,-1,-1",
        "5,2,1,2,2,2,0.9,-1,-1,-1",
        "7,2,1,2,2,2,0.9,-1,-1,-1",
        "9,1,12.5,22,19.5,20,0.3333,-1,-1,-1",
        "9,2,1,2,2,2,0.9,-1,-1,-1",
    ]


def test_supervision():
    result = make_result()
    both = result.to_supervision(0)
    np.testing.assert_allclose(both.xyxy, [[10, 20, 30.126, 40], [1, 2, 3, 4]])
    np.testing.assert_allclose(both.confidence, [0.98765, 0.9])
    assert both.tracker_id.tolist() == both.class_id.tolist() == [1, 2]
    assert both.data["state"].tolist() == ["tracked", "tracked"]
    assert both.data["expression"].tolist() == ['the "big" dog, Größe 2', ""]
    assert result.to_supervision(1).tracker_id.tolist() == [2]  # the first is absent
    assert result.to_supervision(-1).data["state"].tolist() == ["carried", "tracked"]
    with pytest.raises(IndexError):
        result.to_supervision(3)
    absent = TrackRecorder(1)
    absent.add(0, 0.0, None, 0.5, "absent")
    none = TrackResult("a", "nano", 25.0, (4, 4), [absent.finish()]).to_supervision(0)
    assert none.xyxy.shape == (0, 4)
    assert len(none) == 0


def test_save_video_draws_only_processed_frames(tmp_path: Path):
    frames = [np.full((48, 64, 3), 90, np.uint8) for _ in range(12)]
    path = make_result("array").save_video(tmp_path / "out.mp4", frames)
    source = open_source(path)
    images = [frame.image for frame in source]
    assert (len(images), source.fps) == (3, 5.0)
    assert np.abs(images[0].astype(int) - 90).max() > 60
    with pytest.raises(InputError, match="source"):
        make_result("array").save_video(tmp_path / "out.mp4")
    with pytest.raises(SourceError, match="No such file"):
        make_result(str(tmp_path / "gone.mp4")).save_video(tmp_path / "out.mp4")


def test_save_video_reads_the_source_again(tmp_path: Path):
    from PIL import Image

    (tmp_path / "frames").mkdir()
    for index in range(9):
        Image.new("RGB", (64, 48)).save(tmp_path / "frames" / f"{index}.png")
    path = make_result(str(tmp_path / "frames")).save_video(tmp_path / "out.gif")
    assert len(list(open_source(path))) == 3
