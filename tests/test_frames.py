"""Frames of videos as images: which ones, their indices and times, and folders that are there already."""

from __future__ import annotations

import json
import os
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from elysium.data.frames import ExtractedFrames, extract_frames
from elysium.errors import InputError, OutputError, SourceError
from elysium.video import VideoWriter, open_source

WIDTH, HEIGHT, COUNT, FPS = 48, 32, 20, 10.0
GREYS = [20 + 11 * index for index in range(COUNT)]  # each frame is recognised by its brightness


def picture(index: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), GREYS[index], np.uint8)


def noise(index: int) -> np.ndarray:
    """A frame that does not compress, so that a cut in the file cuts frames."""
    return np.random.default_rng(index).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, FPS, (WIDTH, HEIGHT), crf=10) as writer:
        for index in range(COUNT):
            writer.write(picture(index))
    return path


def encode(path: Path, images: list[np.ndarray], pts: list[int] | None = None, container_format: str | None = None):
    """A video by PyAV, with times in milliseconds if they are given."""
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if pts is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def same_as_read(found: ExtractedFrames, video: Path) -> None:
    """Each file holds the frame that `open_source` gives at its index and time."""
    read = {frame.index: frame for frame in open_source(video)}
    for file, index, time_s in zip(found.files, found.indices, found.times_s, strict=True):
        assert time_s == read[index].time_s
        assert file == found.folder / f"{index:06d}{file.suffix}"
        with Image.open(file) as image:
            np.testing.assert_allclose(np.asarray(image).mean(), read[index].image.mean(), atol=2)


@pytest.mark.parametrize(("options", "indices"), [
    ({}, list(range(20))),
    ({"stride": 7}, [0, 7, 14]),
    ({"start_s": 0.5, "end_s": 0.9}, [5, 6, 7, 8]),
    ({"start_s": 1.0, "stride": 4}, [10, 14, 18]),
    ({"indices": [7, 0, 19, 7]}, [0, 7, 19]),
    ({"indices": [12, 11], "start_s": 1.0}, [11, 12]),
    ({"count": 5}, [0, 5, 10, 14, 19]),
    ({"count": 1}, [0]),
    ({"count": 30}, list(range(20))),
    ({"count": 3, "start_s": 0.5, "end_s": 1.0}, [5, 7, 9]),
    ({"count": 2, "stride": 6}, [0, 18]),
    ({"fps": 5}, list(range(0, 20, 2))),
    ({"fps": 4}, [0, 3, 5, 8, 10, 13, 15, 18]),  # 0, 0.25, 0.5 s and so on: the first frame from there on
    ({"fps": 2, "start_s": 0.3}, [3, 8, 13, 18]),
    ({"fps": 25}, list(range(20))),
])  # fmt: skip
def test_frames_are_chosen(clip, tmp_path, options, indices):
    found = extract_frames(clip, tmp_path / "out", **options)
    assert list(found.indices) == indices
    assert found.times_s == pytest.approx([index / FPS for index in indices], abs=1e-6)
    assert [file.name for file in found.files] == [f"{index:06d}.jpg" for index in indices]
    assert sorted(os.listdir(tmp_path / "out")) == [*(file.name for file in found.files), "frames.json"]
    assert (found.folder, found.resolution_wh, found.fps) == (tmp_path / "out", (WIDTH, HEIGHT), FPS)
    same_as_read(found, clip)


def test_the_list_says_what_the_folder_holds(clip, tmp_path):
    extract_frames(clip, tmp_path / "a" / "b", count=2, quality=80)
    about = json.loads((tmp_path / "a" / "b" / "frames.json").read_text())
    assert about["frames"] == [
        {"index": 0, "time_s": 0.0, "file": "000000.jpg"},
        {"index": 19, "time_s": pytest.approx(1.9), "file": "000019.jpg"},
    ]
    assert (about["video"], about["fps"], about["num_frames"]) == ("clip.mp4", 10.0, 20)
    assert about["resolution_wh"] == [48, 32] and about["bytes"] == clip.stat().st_size
    assert about["request"] == {"count": 2, "stride": 1, "quality": 80, "image_format": "jpg"}
    assert os.listdir(tmp_path / "a") == ["b"]  # nothing of the making is left


def test_png_keeps_each_pixel(clip, tmp_path):
    found = extract_frames(clip, tmp_path / "out", indices=[3], image_format="png")
    with Image.open(tmp_path / "out" / "000003.png") as image:
        np.testing.assert_array_equal(np.asarray(image), list(open_source(clip))[3].image)
    assert found.files == (tmp_path / "out" / "000003.png",)


def test_times_of_a_variable_frame_rate_are_those_of_the_video(tmp_path):
    times_ms = [0, 40, 80, 500, 540, 1500, 1540, 1580]
    video = encode(tmp_path / "v.mkv", [picture(i) for i in range(8)], times_ms)
    found = extract_frames(video, tmp_path / "all")
    assert found.times_s == pytest.approx([time / 1000 for time in times_ms], abs=1e-3)
    same_as_read(found, video)
    slow = extract_frames(video, tmp_path / "slow", fps=2)
    assert slow.indices == (0, 3, 5)  # nothing between 1 and 1.5 s


def test_frames_a_second_do_not_stumble_over_rounded_times(tmp_path):
    times_ms = [round(1000 * index / 30) for index in range(13)]  # 133 ms is a little before the tick at 2/15 s
    video = encode(tmp_path / "v.mkv", [picture(i) for i in range(13)], times_ms)
    assert extract_frames(video, tmp_path / "out", fps=15).indices == (0, 2, 4, 6, 8, 10, 12)


def test_a_video_that_does_not_say_its_length_is_counted_first(tmp_path):
    video = encode(tmp_path / "v.h264", [picture(i) for i in range(9)], container_format="h264")
    assert open_source(video).num_frames_estimate is None
    found = extract_frames(video, tmp_path / "out", count=3)
    assert found.indices == (0, 4, 8)
    assert json.loads((tmp_path / "out" / "frames.json").read_text())["num_frames"] == 9
    assert len(os.listdir(tmp_path / "out")) == 4
    same_as_read(found, video)


def test_a_video_that_is_shorter_than_it_says(tmp_path):
    with VideoWriter(tmp_path / "whole.mp4", FPS, (WIDTH, HEIGHT)) as writer:
        for index in range(COUNT):
            writer.write(noise(index))
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 8 // 10])
    readable = [frame.index for frame in open_source(tmp_path / "cut.mp4")]
    assert 11 < len(readable) < COUNT == open_source(tmp_path / "cut.mp4").num_frames_estimate
    with pytest.warns(UserWarning, match="is cut short"):
        found = extract_frames(tmp_path / "cut.mp4", tmp_path / "out", count=3)
    assert found.indices == (0, round((len(readable) - 1) / 2), readable[-1])  # and not 10, the middle of what it says
    assert len(os.listdir(tmp_path / "out")) == 4
    assert json.loads((tmp_path / "out" / "frames.json").read_text())["num_frames"] == len(readable)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is not read so far that it could be told
        assert extract_frames(tmp_path / "cut.mp4", tmp_path / "first", indices=[1]).indices == (1,)


def test_an_animated_gif_is_a_video(tmp_path):
    images = [Image.fromarray(picture(i)) for i in (0, 6, 12)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[100, 300, 100])
    found = extract_frames(tmp_path / "a.gif", tmp_path / "out")
    assert (found.indices, found.times_s) == ((0, 1, 2), pytest.approx((0.0, 0.1, 0.4)))
    same_as_read(found, tmp_path / "a.gif")


# --- folders that are there already ---


def test_the_same_request_returns_at_once(clip, tmp_path, monkeypatch):
    first = extract_frames(clip, tmp_path / "out", indices=[4, 9])
    monkeypatch.setattr("elysium.data.frames.open_source", lambda *_, **__: pytest.fail("it was read again"))
    assert extract_frames(clip, tmp_path / "out", indices=(9, 4, 9)) == first
    assert extract_frames(clip, tmp_path / "out", indices=np.array([4, 9])) == first


@pytest.mark.parametrize("options", [{"count": 3}, {"count": 2, "quality": 90}, {"count": 2, "stride": 2}, {}])
def test_another_request_is_an_error(clip, tmp_path, options):
    extract_frames(clip, tmp_path / "out", count=2)
    with pytest.raises(InputError, match=r"holds other frames of clip.mp4: it was asked for .*\"count\": 2.* delete"):
        extract_frames(clip, tmp_path / "out", **options)


def test_another_video_is_an_error(clip, tmp_path):
    video = tmp_path / "v.mp4"
    video.write_bytes(clip.read_bytes())
    extract_frames(video, tmp_path / "out", count=2)
    video.write_bytes(clip.read_bytes() + b"\0")  # the same name, another size
    with pytest.raises(InputError, match="frames of another video"):
        extract_frames(video, tmp_path / "out", count=2)
    data = bytearray(clip.read_bytes())
    data[-1] ^= 1  # the same size
    video.write_bytes(data)
    with pytest.raises(InputError, match="frames of another video"):
        extract_frames(video, tmp_path / "out", count=2)


def test_folders_of_others_are_not_touched(clip, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "000000.jpg").write_text("mine")
    with pytest.raises(InputError, match=r"mine is there already, without a frames.json. Name another folder"):
        extract_frames(clip, tmp_path / "mine", count=2)
    assert (tmp_path / "mine" / "000000.jpg").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert len(extract_frames(clip, tmp_path / "empty", count=2).files) == 2


def test_a_broken_folder_is_told(clip, tmp_path):
    extract_frames(clip, tmp_path / "out", count=2)
    (tmp_path / "out" / "000019.jpg").unlink()
    with pytest.raises(InputError, match=r"000019.jpg is gone, which .*frames.json names. Delete the folder"):
        extract_frames(clip, tmp_path / "out", count=2)
    for content in ("{", "[]", '{"bytes": 1}'):
        (tmp_path / "out" / "frames.json").write_text(content)
        with pytest.raises(InputError, match=r"frames.json is broken. Delete its folder"):
            extract_frames(clip, tmp_path / "out", count=2)


def test_another_process_may_be_faster(clip, tmp_path, monkeypatch):
    there = extract_frames(clip, tmp_path / "there", count=2)
    replace = os.replace

    def late(temporary, folder):
        if not Path(folder).exists():
            replace(there.folder, folder)  # the other one
        replace(temporary, folder)

    monkeypatch.setattr(os, "replace", late)
    assert extract_frames(clip, tmp_path / "out", count=2).indices == there.indices
    assert os.listdir(tmp_path) == ["out"]


# --- what cannot be ---


def test_nothing_is_left_of_a_failure(clip, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"has no frame 20 in what was selected"):
        extract_frames(clip, tmp_path / "out", indices=[3, 20])
    with pytest.raises(InputError, match=r"has no frame 3 in what"):
        extract_frames(clip, tmp_path / "out", indices=[3, 12], start_s=1.0)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        extract_frames(clip, tmp_path / "out", count=2)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("options", "sentence"), [
    ({"count": 2, "fps": 1}, "More than one of indices, count and fps"),
    ({"count": 2, "indices": [1]}, "More than one of indices, count and fps"),
    ({"indices": []}, "Give at least one"),
    ({"indices": [-1, 3]}, "they count from 0"),
    ({"count": 0}, "count is 0"),
    ({"fps": 0}, "fps is 0"),
    ({"fps": float("inf")}, "fps is inf"),
    ({"quality": 0}, "quality is 0"),
    ({"image_format": "gif"}, "'gif' are not written"),
    ({"stride": 0}, "stride is 0"),
    ({"start_s": 1.0, "end_s": 0.5}, "not after"),
])  # fmt: skip
def test_options_that_make_no_sense(clip, tmp_path, options, sentence):
    with pytest.raises(InputError, match=sentence):
        extract_frames(clip, tmp_path / "out", **options)
    assert os.listdir(tmp_path) == []


def test_videos_that_are_not_there(clip, tmp_path):
    with pytest.raises(SourceError, match=r"There is no video .*none.mp4"):
        extract_frames(tmp_path / "none.mp4", tmp_path / "out")
    (tmp_path / "text.mp4").write_text("just some words\n" * 50)
    with pytest.raises(SourceError, match="is not a video that can be read"):
        extract_frames(tmp_path / "text.mp4", tmp_path / "out", count=2)
    with pytest.raises(SourceError, match=r"No frame of .* was selected"):
        extract_frames(clip, tmp_path / "out", count=2, start_s=60)
    assert os.listdir(tmp_path) == ["text.mp4"]
