"""Frames in and out: every kind of source, selection, damage, and the writer."""

from __future__ import annotations

import gc
import json
import os
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import elysium
from elysium.boxes import to_xyxy
from elysium.errors import InputError, OutputError, SourceError
from elysium.readers import CODEC_THREADS
from elysium.video import VideoWriter, open_source, read_image

WIDTH, HEIGHT, COUNT, FPS = 64, 48, 40, 10.0
MOST_ENCODER_THREADS = 12  # of a picture so small
GREYS = np.linspace(20, 230, COUNT).round().astype(np.uint8)  # each frame is recognised by its brightness


def picture(index: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    return np.full((size[1], size[0], 3), GREYS[index], dtype=np.uint8)


def noise(index: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """Frames that do not compress, so that a cut in the file cuts frames."""
    return np.random.default_rng(index).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, FPS, (WIDTH, HEIGHT), crf=10) as writer:
        for index in range(COUNT):
            writer.write(picture(index))
    return path


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("noisy") / "noisy.mp4"
    with VideoWriter(path, FPS, (WIDTH, HEIGHT)) as writer:
        for index in range(COUNT):
            writer.write(noise(index))
    return path


def save_images(folder: Path, names: list[str], size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        Image.fromarray(picture(index, size)).save(folder / name)
    return folder


def indices(source, **options) -> list[int]:
    return [frame.index for frame in open_source(source, **options)]


def greys(source) -> list[int]:
    return [int(frame.image.mean().round()) for frame in source]


# --- video files ---


def test_a_video_gives_its_frames_in_order(clip):
    source = open_source(clip)
    assert (source.fps, source.resolution_wh, source.num_frames_estimate) == (FPS, (WIDTH, HEIGHT), COUNT)
    assert source.name == str(clip)
    frames = list(source)
    assert [f.index for f in frames] == list(range(COUNT))
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(COUNT) / FPS, atol=1e-6)
    assert frames[0].image.shape == (HEIGHT, WIDTH, 3)
    assert frames[0].image.dtype == np.uint8
    np.testing.assert_allclose(greys(frames), GREYS, atol=3)
    assert source.warnings == []
    assert [f.index for f in source] == list(range(COUNT))  # and again


def test_threads_do_not_grow_with_frames(clip, tmp_path):
    """Each takes address space, of which an upload to the web app has a limited amount."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("threads are counted in /proc")
    gc.disable()
    try:
        read = [len(list(tasks.iterdir())) for _ in open_source(clip)]
        written = []
        with VideoWriter(tmp_path / "copy.mp4", FPS, (WIDTH, HEIGHT)) as writer:
            for index in range(COUNT):
                writer.write(picture(index))
                written.append(len(list(tasks.iterdir())))
    finally:
        gc.enable()
    assert max(read) - read[0] <= CODEC_THREADS
    assert max(written) - written[0] <= MOST_ENCODER_THREADS


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"stride": 7}, [0, 7, 14, 21, 28, 35]),
        ({"max_frames": 3}, [0, 1, 2]),
        ({"start_s": 1.0, "end_s": 1.3}, [10, 11, 12]),  # the end is not part of it
        ({"start_s": 0.55, "stride": 10}, [6, 16, 26, 36]),  # the stride counts from the first frame taken
        ({"start_s": 0.5, "stride": 3, "max_frames": 2}, [5, 8]),
        ({"end_s": 0.2}, [0, 1]),
    ],
)
def test_selection(clip, options, expected):
    assert indices(clip, **options) == expected
    assert open_source(clip, **options).num_frames_estimate == len(expected)
    assert indices([picture(i) for i in range(COUNT)], fps=FPS, **options) == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stride": 0}, "stride is 0"),
        ({"max_frames": -1}, "max-frames is -1"),
        ({"max_frames": 0}, "max-frames is 0"),
        ({"start_s": -1.0}, "start is -1"),
        ({"start_s": float("nan")}, "start is nan"),
        ({"start_s": 2.0, "end_s": 1.0}, "not after"),
        ({"color": "hsv"}, "color"),
        ({"fps": 0.0}, "fps"),
    ],
)
def test_options_that_make_no_sense(clip, options, words):
    with pytest.raises(InputError, match=words):
        open_source(clip, **options)


def test_a_start_after_the_end_of_the_video(clip):
    with pytest.raises(SourceError, match="No frame"):
        list(open_source(clip, start_s=99))


def test_stamps_are_those_of_the_frames(clip, monkeypatch):
    source = open_source(clip, start_s=0.1, stride=2, max_frames=3)
    wanted = [(frame.index, frame.time_s) for frame in source]
    monkeypatch.setattr("elysium.readers.videos.to_rgb", lambda *_: pytest.fail("pixels were made"))
    assert list(source.stamps()) == wanted and len(wanted) == 3


def test_frames_at_indices_are_made_alone(clip):
    frames = list(open_source(clip).at([1, 4, 5]))
    assert [frame.index for frame in frames] == [1, 4, 5]
    every = {frame.index: frame for frame in open_source(clip)}
    assert all(np.array_equal(frame.image, every[frame.index].image) for frame in frames)
    assert [frame.index for frame in open_source(clip).at([3, 10_000])] == [3]
    assert not list(open_source(clip).at([]))


def test_portrait_video_comes_out_upright(clip, tmp_path):
    frames = [np.zeros((HEIGHT, WIDTH, 3), np.uint8) for _ in range(3)]
    for frame in frames:
        frame[:10, :10] = 255  # a white spot at the top left
    with VideoWriter(tmp_path / "a.mp4", FPS, (WIDTH, HEIGHT)) as writer:
        for frame in frames:
            writer.write(frame)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    matrix = data.find(b"tkhd") + 4 + 40  # of a version 0 track header
    assert struct.unpack(">9i", data[matrix : matrix + 36])[0] == 65536
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, HEIGHT << 16, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(data)  # "turn me a quarter clockwise", as a phone writes it
    source = open_source(tmp_path / "turned.mp4")
    assert source.resolution_wh == (HEIGHT, WIDTH)
    image = next(iter(source)).image
    assert image.shape == (WIDTH, HEIGHT, 3)
    assert image[4, HEIGHT - 5].min() > 200
    assert image[4, 4].max() < 50


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_video_keeps_what_was_read_and_warns(noisy, tmp_path, share):
    data = noisy.read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")  # the index stands in front
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: int(len(data) * share)])
    source = open_source(cut)
    read = greys(source)
    assert share * COUNT - 8 < len(read) < COUNT
    np.testing.assert_allclose(read[0], noise(0).mean(), atol=12)
    assert source.warnings == [
        f"{cut} is cut short: {len(read)} of {COUNT} frames could be read and were used."
    ]
    list(source)
    assert len(source.warnings) == 1


def test_a_truncated_avi(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(COUNT):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise(index), format="rgb24")))
        container.mux(stream.encode(None))
    assert len(indices(path)) == COUNT
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = open_source(path)
    assert 10 < len(list(source)) < 30
    assert "cut short" in source.warnings[0]


def test_garbage_in_the_middle_is_passed_over(noisy, tmp_path):
    data = bytearray(noisy.read_bytes())
    start = len(data) * 6 // 10
    data[start : start + 3000] = bytes(3000)
    (tmp_path / "bad.mp4").write_bytes(data)
    source = open_source(tmp_path / "bad.mp4")
    assert COUNT // 2 < len(list(source)) <= COUNT
    assert len(source.warnings) == 1
    assert "could" in source.warnings[0]


@pytest.mark.parametrize("name", ["empty.mp4", "text.mp4", "text.txt", "data.json"])
def test_not_a_video(tmp_path, name):
    content = {"empty.mp4": "", "data.json": '{"a": 1}'}.get(name, "just some words\n" * 50)
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=f"{name}' is not a video") as caught:
        open_source(tmp_path / name)
    assert caught.value.remedy


def test_all_shared_clips_can_be_read(shared_dir):
    for path in sorted((shared_dir / "data" / "videos").glob("*.[ma][pv][4i]")):
        source = open_source(path, max_frames=5)
        assert len(list(source)) == 5, path


# --- folders, globs, lists ---


def test_a_folder_is_read_in_natural_order(tmp_path):
    save_images(tmp_path / "f", ["img2.png", "img10.png", "img1.jpg", "img3.webp", "img4.bmp"])
    (tmp_path / "f" / "notes.txt").write_text("x")
    (tmp_path / "f" / ".hidden.png").write_text("x")
    source = open_source(tmp_path / "f")
    assert (source.fps, source.num_frames_estimate, source.resolution_wh) == (25.0, 5, (WIDTH, HEIGHT))
    np.testing.assert_allclose(greys(source), GREYS[[2, 0, 3, 4, 1]], atol=2)
    assert [f.time_s for f in open_source(tmp_path / "f", fps=2, stride=2)] == [0, 1, 2]


def test_globs_lists_and_single_images(tmp_path):
    folder = save_images(tmp_path / "f", ["a10.png", "a9.png", "b1.png"])
    assert greys(open_source(str(folder / "a*.png"))) == [GREYS[1], GREYS[0]]
    assert greys(open_source([folder / "b1.png", str(folder / "a10.png")])) == [GREYS[2], GREYS[0]]
    assert greys(open_source(folder / "a9.png")) == [GREYS[1]]


def test_a_glob_of_one_video(clip):
    assert len(indices(str(clip.parent / "*.mp4"))) == COUNT


def test_missing_things(tmp_path, clip):
    (tmp_path / "none").mkdir()
    (tmp_path / "outer" / "frames").mkdir(parents=True)
    save_images(tmp_path / "outer" / "frames", ["1.png"])
    for source, words in [
        (tmp_path / "no.mp4", "No such file or folder"),
        (tmp_path / "*.mp4", "matches nothing"),
        (tmp_path / "none", "has no images"),
        (tmp_path / "outer", "frames"),  # says where the images are
        (clip.parent, "clip.mp4"),  # a folder with a video in it: says so
        ([tmp_path / "gone.png"], "No such image"),
        ([], "empty"),
    ]:
        with pytest.raises(SourceError, match=words) as caught:
            open_source(source)
        assert caught.value.remedy


def test_an_image_of_another_size_is_named(tmp_path):
    folder = save_images(tmp_path / "f", ["1.png", "2.png", "3.png"])
    Image.new("RGB", (10, 20)).save(folder / "2.png")
    with pytest.raises(SourceError, match=r"2\.png' is 10x20 pixels.*64x48"):
        open_source(folder)


def test_an_unreadable_image_is_named(tmp_path):
    folder = save_images(tmp_path / "f", ["1.png", "2.png"])
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(b"not an image")
    with pytest.raises(SourceError, match=r"2\.png"):
        open_source(folder)
    (folder / "2.png").write_bytes(whole[:-40])  # the header is fine, the pixels are not
    with pytest.raises(SourceError, match=r"2\.png"):
        list(open_source(folder))


def test_images_with_alpha_grey_and_rotation(tmp_path):
    Image.new("RGBA", (4, 3), (10, 20, 30, 0)).save(tmp_path / "alpha.png")
    Image.new("L", (4, 3), 77).save(tmp_path / "grey.png")
    Image.fromarray(np.full((3, 4), 257 * 99, dtype=np.uint16)).save(tmp_path / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 3), (200, 0, 0)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "alpha.png")[0, 0].tolist() == [10, 20, 30]
    assert read_image(tmp_path / "grey.png")[0, 0].tolist() == [77] * 3
    assert read_image(tmp_path / "deep.png")[0, 0].tolist() == [99] * 3
    assert read_image(tmp_path / "turned.jpg").shape == (4, 3, 3)
    assert read_image(tmp_path / "turned.jpg", plain=True).shape == (3, 4, 3)
    assert open_source(tmp_path / "turned.jpg").resolution_wh == (3, 4)


# --- arrays ---


def test_arrays_and_their_colours():
    video = np.stack([picture(i) for i in range(4)])
    video[..., 0] = 7
    assert [f.image[0, 0].tolist() for f in open_source(video)] == [[7, g, g] for g in GREYS[:4]]
    assert [f.image[0, 0].tolist() for f in open_source(video, color="bgr")] == [[g, g, 7] for g in GREYS[:4]]
    source = open_source(list(video))
    assert (source.name, source.num_frames_estimate, source.fps) == ("array", 4, 25.0)
    assert len(list(source)) == len(list(source)) == 4
    assert indices(video[0]) == [0]  # one image


def test_an_iterator_can_be_read_once():
    source = open_source(picture(i) for i in range(6))
    assert (source.num_frames_estimate, source.resolution_wh) == (None, (WIDTH, HEIGHT))
    assert [f.index for f in source] == list(range(6))
    with pytest.raises(InputError, match="used up"):
        list(source)


def test_frames_are_pulled_one_by_one():
    pulled = []

    def frames():
        for index in range(COUNT):
            pulled.append(index)
            yield picture(index)

    iterator = iter(open_source(frames()))
    for _ in range(3):
        next(iterator)
    assert len(pulled) <= 4


@pytest.mark.parametrize(
    "frames",
    [
        [np.zeros((4, 4, 3))],
        [np.zeros((4, 4, 2), np.uint8)],
        [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)],
        [object()],
        42,
    ],
)
def test_arrays_of_a_wrong_kind(frames):
    with pytest.raises(InputError):
        list(open_source(frames))


# --- the writer ---


def test_odd_sizes_are_padded_by_a_copy_of_the_edge(tmp_path):
    image = np.full((47, 63, 3), 40, np.uint8)
    image[:, -1] = image[-1] = 200
    with VideoWriter(tmp_path / "a" / "odd.mp4", 30000 / 1001, (63, 47), crf=1) as writer:
        for _ in range(3):
            writer.write(image)
    source = open_source(tmp_path / "a" / "odd.mp4")
    assert source.resolution_wh == (64, 48)
    assert source.fps == pytest.approx(30000 / 1001)
    out = next(iter(source)).image
    np.testing.assert_allclose(out[:, 62:], 200, atol=12)
    np.testing.assert_allclose(out[:44, :60], 40, atol=12)


def test_the_file_plays_everywhere_and_starts_fast(clip):
    with av.open(str(clip)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
    data = clip.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")


@pytest.mark.parametrize("size", [(64, 48), (1280, 720)])
def test_colours_survive(tmp_path, size):
    image = np.full((size[1], size[0], 3), (200, 40, 60), np.uint8)
    with VideoWriter(tmp_path / "c.mp4", FPS, size) as writer:
        writer.write(image)
    with av.open(str(tmp_path / "c.mp4")) as container:
        assert container.streams.video[0].codec_context.colorspace == 1  # BT.709, and it says so
    out = next(iter(open_source(tmp_path / "c.mp4"))).image
    assert np.abs(out[10, 10].astype(int) - (200, 40, 60)).max() <= 4


def test_nothing_is_left_of_a_failed_video(tmp_path):
    (tmp_path / "v.mp4").write_text("old")

    def fail() -> None:
        with VideoWriter(tmp_path / "v.mp4", FPS, (WIDTH, HEIGHT)) as writer:
            writer.write(picture(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with VideoWriter(tmp_path / "w.mp4", FPS, (WIDTH, HEIGHT)):
        pass  # no frames, no file
    assert os.listdir(tmp_path) == ["v.mp4"]
    assert (tmp_path / "v.mp4").read_text() == "old"


def test_an_existing_video_is_replaced(tmp_path):
    (tmp_path / "v.mp4").write_text("old")
    with VideoWriter(tmp_path / "v.mp4", FPS, (WIDTH, HEIGHT)) as writer:
        writer.write(picture(0))
    assert indices(tmp_path / "v.mp4") == [0]
    assert os.listdir(tmp_path) == ["v.mp4"]


def test_places_and_names_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    for path in (tmp_path / "file" / "v.mp4", tmp_path / "folder.mp4", tmp_path / "v.nonsense"):
        with pytest.raises(OutputError) as caught:
            VideoWriter(path, FPS, (WIDTH, HEIGHT))
        assert caught.value.remedy
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.mp4"]


def test_frames_of_a_wrong_size_are_refused(tmp_path):
    writer = VideoWriter(tmp_path / "v.mp4", FPS, (WIDTH, HEIGHT))
    with pytest.raises(InputError, match="64x48"):
        writer.write(picture(0, (32, 32)))
    writer.abort()
    assert os.listdir(tmp_path) == []


def test_the_bundled_clip_fits_its_facts():
    assets = Path(elysium.__file__).parent / "assets"
    facts = json.loads((assets / "demo.json").read_text(encoding="utf-8"))
    assert set(facts) == {"source_clip", "box_xyxy", "expression", "search_window", "licence", "origin"}
    source = open_source(assets / "pedestrians.mp4")
    frames = list(source)
    assert (len(frames), source.fps, source.resolution_wh, source.warnings) == (62, 10.0, (576, 432), [])
    assert to_xyxy(facts["box_xyxy"], "xyxy", source.resolution_wh).notes == (None,)
    x1, y1, x2, _ = facts["box_xyxy"]
    coat = frames[0].image[y1 + 40 : y1 + 90, x1 + 15 : x2 - 15]
    assert coat.mean() < 25  # it is black, the lawn around it is not
    assert frames[0].image[y1 + 40 : y1 + 90, x2 + 5 : x2 + 30, 1].mean() > 50
    assert (assets / "pedestrians.mp4").stat().st_size < 1_000_000
