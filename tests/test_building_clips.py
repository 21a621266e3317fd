"""Clips that data sets are built from: which frames, at which times, and what lies on disk."""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from elysium.building.clips import VideoClip, frame_names, write_frames
from elysium.errors import SourceError
from elysium.video import VideoWriter, open_source


def write_numbers(path: Path, count: int = 12, fps: float = 25.0) -> Path:
    """Frame n is grey 10 + 20 n."""
    with VideoWriter(path, fps, (64, 48)) as writer:
        for number in range(count):
            writer.write(np.full((48, 64, 3), 10 + 20 * number, dtype=np.uint8))
    return path


def greys(images: object) -> list[int]:
    return [round((float(image.mean()) - 10) / 20) for image in images]  # type: ignore[attr-defined]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_numbers(tmp_path / "clip.mp4")


def test_frames_are_those_of_their_indices_and_times(video: Path) -> None:
    clip = VideoClip.open(video, start_s=0.1, end_s=0.41, fps=12.5)
    assert list(clip.indices) == [3, 5, 7, 9] and np.allclose(clip.times_s, [0.12, 0.2, 0.28, 0.36])
    assert greys(clip.frames()) == [3, 5, 7, 9]
    assert clip.resolution_wh == (64, 48) and clip.source_fps == 25.0 and len(clip) == 4


def test_no_more_frames_than_are_wanted_are_taken(video: Path) -> None:
    assert list(VideoClip.open(video, max_frames=3).indices) == [0, 1, 2]
    assert list(VideoClip.open(video, fps=100.0).indices) == list(range(12))
    assert greys(VideoClip.open(video).with_frames([2, 11], [0.08, 0.44]).frames()) == [2, 11]


def test_frames_come_in_any_order_and_three_are_held(video: Path) -> None:
    clip = VideoClip.open(video)
    assert greys([clip.frame(number) for number in (0, 6, 11, 6, 0, 3, 4, 11)]) == [0, 6, 11, 6, 0, 3, 4, 11]
    assert len(clip._held) == 3
    again = pickle.loads(pickle.dumps(clip))
    assert again == clip and not again._held and greys([again.frame(5)]) == [5]
    assert len(pickle.dumps(clip)) < 2000


def test_going_forward_reads_the_file_once(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, opened = VideoClip.open(video), []
    monkeypatch.setattr("elysium.building.clips.open_source", lambda path: opened.append(path) or open_source(path))
    for number in (0, 6, 11):
        clip.frame(number)
    assert len(opened) == 1


def test_times_of_a_variable_rate_are_those_of_the_file(tmp_path: Path) -> None:
    path, ticks = tmp_path / "vfr.mp4", [0, 1, 2, 10, 30, 31]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 50)
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 + 20 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 50)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = VideoClip.open(path)
    assert np.allclose(clip.times_s, [tick / 50 for tick in ticks]) and greys(clip.frames()) == list(range(6))
    assert list(VideoClip.open(path, fps=5.0).indices) == [0, 3, 4]


def test_one_frame_is_a_clip(tmp_path: Path) -> None:
    clip = VideoClip.open(write_numbers(tmp_path / "one.mp4", 1))
    assert list(clip.indices) == [0] and list(clip.times_s) == [0.0] and greys([clip.frame(0)]) == [0]


def test_what_cannot_be_had_is_an_error(video: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(SourceError, match="not a video"):
        VideoClip.open(tmp_path / "broken.mp4")
    with pytest.raises(SourceError, match="No frame"):
        VideoClip.open(video, start_s=99.0)
    clip = VideoClip.open(video)
    write_numbers(video, 5)
    with pytest.raises(SourceError, match="gave 5 of 12 frames when read again"):
        list(clip.frames())


def test_images_on_disk_are_the_frames_and_nothing_else(video: Path, tmp_path: Path) -> None:
    write_frames(VideoClip.open(video), tmp_path, "frames/x")
    clip = VideoClip.open(video, fps=12.5, max_frames=2)
    write_frames(clip, tmp_path, "frames/x")
    names = frame_names("frames/x", clip.indices)
    assert names == ["frames/x/000000.jpg", "frames/x/000002.jpg"]
    assert sorted(path.name for path in (tmp_path / "frames/x").iterdir()) == ["000000.jpg", "000002.jpg"]
    assert greys([np.asarray(Image.open(tmp_path / name)) for name in names]) == [0, 2]
