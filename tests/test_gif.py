"""GIFs: time and colours, what is given up to fit into so many bytes, and nothing left behind by a failure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elysium.errors import OutputError
from elysium.gif import write_gif, write_result_gif
from elysium.tracks import TrackRecorder, TrackResult
from elysium.video import open_source

GREY = np.full((240, 320, 3), 128, np.uint8)


def noise(count: int) -> Iterator[np.ndarray]:
    """Frames that no GIF can make small, 96 x 64 pixels."""
    random = np.random.default_rng(0)
    for _ in range(count):
        yield random.integers(0, 255, (64, 96, 3), dtype=np.uint8)


def played(path: Path) -> tuple[int, tuple[int, int], float]:
    """How many frames a GIF has, of which size, and how many seconds it lasts."""
    with Image.open(path) as gif:
        seconds = 0.0
        for place in range(gif.n_frames):
            gif.seek(place)
            seconds += gif.info["duration"] / 1000
        return gif.n_frames, gif.size, seconds


def test_a_gif_keeps_time_and_colours(tmp_path: Path):
    frames = [np.full((100, 200, 3), (250, 30, 40), np.uint8) for _ in range(60)]
    for place, frame in enumerate(frames):
        frame[40:60, place : place + 20] = (20, 60, 240)
    path = write_gif(tmp_path / "a" / "o.gif", iter(frames), 30.0, max_width=100)
    with Image.open(path) as gif:
        assert gif.n_frames == 30  # every second one, at 15 a second
        assert gif.size == (100, 50)
        assert gif.info["loop"] == 0
        seconds = 0.0
        for place in range(gif.n_frames):
            gif.seek(place)
            seconds += gif.info["duration"] / 1000
            pixels = np.asarray(gif.convert("RGB")).astype(int)
            assert np.abs(pixels[5, 5] - (250, 30, 40)).max() < 12
            assert np.abs(pixels[25, place + 5] - (20, 60, 240)).max() < 12
    assert seconds == pytest.approx(2.0, abs=0.1)
    assert os.listdir(tmp_path / "a") == ["o.gif"]


def test_gif_corner_cases(tmp_path: Path):
    write_gif(tmp_path / "none.gif", [], 10.0)
    assert os.listdir(tmp_path) == []
    with Image.open(write_gif(tmp_path / "one.gif", [GREY], 10.0)) as gif:
        assert (gif.n_frames, gif.size) == (1, (320, 240))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_gif(tmp_path / "file" / "o.gif", [GREY], 10.0)


@pytest.mark.parametrize(
    ("share", "frames", "size"),
    [(1.0, 12, (96, 64)), (0.4, 6, (72, 48)), (0.06, 3, (36, 24)), (0.012, 1, (24, 16))],
)
def test_a_gif_is_made_to_fit(share: float, frames: int, size: tuple[int, int], tmp_path: Path):
    whole = write_gif(tmp_path / "whole.gif", noise(12), 10.0).stat().st_size
    path = write_gif(tmp_path / "o.gif", noise(12), 10.0, max_bytes=int(whole * share))
    assert path.stat().st_size <= whole * share
    assert played(path)[:2] == (frames, size)
    assert played(path)[2] == pytest.approx(1.2, abs=0.02) or frames == 1
    assert sorted(os.listdir(tmp_path)) == ["o.gif", "whole.gif"]


def test_a_gif_of_which_no_frame_fits(tmp_path: Path):
    with pytest.raises(OutputError, match=r"Not one frame fits into a GIF of 100 bytes\. Raise max_bytes"):
        write_gif(tmp_path / "o.gif", noise(3), 10.0, max_bytes=100)
    assert os.listdir(tmp_path) == []


def test_a_gif_of_a_result_has_a_limit(tmp_path: Path):
    recorder = TrackRecorder(1, "noise")
    for index in range(4):
        recorder.add(index, index / 10, [10, 10, 50, 50], 0.9, "tracked")
    result = TrackResult("array", "nano", 10.0, (96, 64), [recorder.finish()])
    images = list(noise(4))
    large = write_result_gif(open_source(images), result, tmp_path / "large.gif")
    assert played(large)[1] == (96, 64)
    small = result.save_video(tmp_path / "small.gif", images, max_bytes=20_000)
    assert small.stat().st_size <= 20_000 < large.stat().st_size
