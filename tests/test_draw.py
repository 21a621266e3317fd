"""Drawing: colours, states, labels inside the frame, videos."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from elysium import draw
from elysium.draw import PALETTE, Style, annotate, write_video
from elysium.errors import InputError, SourceError
from elysium.tracks import TrackRecorder, TrackResult
from elysium.video import open_source

NAN = float("nan")
GREY = np.full((240, 320, 3), 128, np.uint8)
BOX = [100.0, 80, 200, 180]
ORANGE, SKY = (0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9)


def painted(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """(H, W) where a pixel has exactly this colour."""
    return (image == np.array(color, np.uint8)).all(axis=2)


def test_a_box_is_drawn_in_its_colour_on_a_copy():
    image = GREY.copy()
    out = annotate(image, [BOX], ["dog"], ["tracked"], [1])
    assert (image == 128).all()
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert painted(out, ORANGE)[130, 98:103].any()  # the left edge
    assert painted(out, ORANGE)[178:183, 150].any()  # the lower edge
    assert (out[100:160, 120:180] == 128).all()  # nothing inside
    assert painted(out, ORANGE)[60:80].sum() > 100  # the label's background, above the box


def test_ids_choose_the_colours():
    boxes = [[20, 100, 60, 140], [200, 100, 260, 140]]
    out = annotate(GREY, boxes, ["a", "b"], ["tracked"] * 2, [1, 2])
    assert painted(out, ORANGE)[:, :160].any()
    assert not painted(out, SKY)[:, :160].any()
    assert painted(out, SKY)[:, 160:].any()
    again = annotate(GREY, boxes[:1], ["a"], ["tracked"], [8])  # seven colours, then from the start
    assert painted(again, ORANGE).any()
    assert len({c.as_hex() for c in PALETTE.colors}) == 7


def test_a_carried_box_is_dashed_and_says_so():
    edges = {}
    for state in ("tracked", "carried"):
        out = annotate(GREY, [BOX], ["dog"], [state], [1])
        edges[state] = painted(out, ORANGE)[90:170, 99:102].any(axis=1)
    assert edges["tracked"].all()
    assert 0.3 < edges["carried"].mean() < 0.7
    plain, suffixed = (annotate(GREY, [BOX], [t], ["carried"], [1]) for t in ("dog", "dog (carried)"))
    width = painted(plain, draw._GREY.as_rgb()).any(axis=0).sum()
    assert width > 60  # the background of the label covers the suffix too
    assert painted(suffixed, draw._GREY.as_rgb()).any(axis=0).sum() > width


def test_an_absent_object_is_named_in_the_corner_only():
    out = annotate(GREY, [[NAN] * 4, BOX], ["dog", "cat"], ["absent", "tracked"], [1, 2])
    assert (out[200:, :60] != 128).any()
    assert painted(out, ORANGE)[200:, :60].any()  # a spot of its colour
    assert not painted(out, ORANGE)[:200].any()
    assert (out[:60] == 128).all()


@pytest.mark.parametrize("size", [(200, 112), (1280, 720), (2160, 3840)])
@pytest.mark.parametrize("place", ["top left", "bottom right", "whole"])
def test_labels_stay_inside_at_every_size(size, place):
    width, height = size
    boxes = {
        "top left": [0, 0, width / 8, height / 8],
        "bottom right": [width * 0.9, height * 0.9, width, height],
        "whole": [0, 0, width, height],
    }
    text = "a very long expression about something that nobody could describe in a few words " * 2
    image = np.full((height, width, 3), 128, np.uint8)
    out = annotate(image, [boxes[place]], [text], ["tracked"], [1])
    label = painted(out, ORANGE)
    style = Style.for_resolution(size)
    rows = label[:, width // 4 : width * 9 // 10].any(axis=1)  # beside the box's own edges, where it is small
    assert label.any()
    assert rows.sum() >= style.font_size * 0.7
    assert style.font_size >= 11
    assert style.font_size >= min(size) / 40


def test_text_is_shortened_to_the_frame():
    style = Style.for_resolution((200, 112))
    short = draw._fitted("the dog", style, 200)
    long = draw._fitted("the dog that ran and ran and ran and never stopped running", style, 200)
    assert short == "the dog"
    assert long.startswith("the dog that")
    assert long.endswith("…")
    assert draw._font(style.font_size).getlength(long) <= 200


def test_trails_are_drawn_and_broken_ones_survive():
    trail = np.array([[20.0, 20], [NAN, NAN], [60, 20]])
    out = annotate(GREY, [BOX], ["dog"], ["tracked"], [1], trails=[trail])
    assert painted(out, ORANGE)[18:23, 40].any()
    single = annotate(GREY, [BOX], ["dog"], ["tracked"], [1], trails=[trail[:1]])
    assert not painted(single, ORANGE)[:30].any()


def test_odd_boxes_do_not_fail():
    for box in ([-50, -50, 400, 400], [310, 230, 400, 400], [5, 5, 5, 5], [319, 239, 320, 240]):
        for state in ("tracked", "carried"):
            assert annotate(GREY, [box], ["x"], [state], [1]).shape == GREY.shape
    assert (annotate(GREY, np.empty((0, 4)), [], [], []) == GREY).all()
    with pytest.raises(ValueError, match="1 boxes, 2 labels"):
        annotate(GREY, [BOX], ["a", "b"], ["tracked"], [1])


def make_result(frames: int, fps: float = 30.0, stride: int = 1) -> TrackResult:
    recorder = TrackRecorder(1, "the dog", BOX)
    for place in range(frames):
        recorder.add(place * stride, place * stride / fps, BOX, 0.9, "tracked")
    return TrackResult("array", "nano", fps, (320, 240), [recorder.finish()])


def test_a_video_of_the_tracked_frames(tmp_path: Path):
    path = write_video(open_source([GREY] * 12), make_result(4, stride=3), tmp_path / "o.mp4", trails=True)
    source = open_source(path)
    frames = list(source)
    assert (len(frames), source.fps) == (4, 10.0)
    edge = frames[3].image[130, 98:103].astype(int)
    assert np.abs(edge - np.array(ORANGE)).sum(axis=1).min() < 90  # after chroma subsampling


def test_frames_that_do_not_belong_to_the_tracks(tmp_path: Path):
    with pytest.raises(InputError, match="320"):
        write_video(open_source([GREY[:100]]), make_result(1), tmp_path / "o.mp4")
    later = TrackRecorder(1)
    later.add(50, 2.0, BOX, 0.9, "tracked")
    with pytest.raises(SourceError, match="None of the tracked frames"):
        write_video(
            open_source([GREY]), TrackResult("a", "n", 25.0, (320, 240), [later.finish()]), tmp_path / "o.mp4"
        )
    assert os.listdir(tmp_path) == []
