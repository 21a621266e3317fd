"""What people really have on their disks: turned, uneven, tiny, deep, animated, mislabelled and broken files.

Everything is made on the fly. Sources that arrive while they are read are in test_live.py.
"""

from __future__ import annotations

import os
import shutil
import struct
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from elysium.errors import ElysiumError, SourceError
from elysium.readers.videos import Clock
from elysium.video import FrameSource, VideoWriter, open_source, read_image

WIDTH, HEIGHT = 64, 48
RED, GREEN, BLUE, GREY = (200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 90)


def plain(grey: int, size_wh: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    return np.full((size_wh[1], size_wh[0], 3), grey, np.uint8)


def noise(seed: int) -> np.ndarray:
    """Frames that do not compress, so that a cut in the file cuts frames."""
    return np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def encode(
    path: Path,
    images: Sequence[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = 10,
    times_ms: Sequence[int] | None = None,
    container: str | None = None,
) -> Path:
    """A video of RGB images, evenly spaced or at the given times."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = images[0].shape[1], images[0].shape[0], pix_fmt
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[index], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac" if path.suffix != ".wav" else "pcm_s16le", rate=44100)
        for _ in range(5):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
            frame.sample_rate = 44100
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def times(source: FrameSource) -> list[float]:
    return [round(frame.time_s, 3) for frame in source]


def centers(source: FrameSource) -> list[list[int]]:
    """The colour in the middle of each frame."""
    return [f.image[f.image.shape[0] // 2, f.image.shape[1] // 2].tolist() for f in source]


# --- videos that are turned, uneven, tiny, or change on the way ---

# The display matrix a, b, c, d: x' = a x + c y, y' = b x + d y; and the corner where the top left one ends up.
TURNS = {
    "upright": ((1, 0, 0, 1), "top left"),
    "quarter turn clockwise": ((0, 1, -1, 0), "top right"),
    "half turn": ((-1, 0, 0, -1), "bottom right"),
    "quarter turn counterclockwise": ((0, -1, 1, 0), "bottom left"),
    "mirrored": ((-1, 0, 0, 1), "top right"),
    "upside down": ((1, 0, 0, -1), "bottom left"),
    "mirrored and turned": ((0, 1, 1, 0), "top left"),
    "mirrored and turned the other way": ((0, -1, -1, 0), "bottom right"),
}


@pytest.mark.parametrize("turn", TURNS)
def test_phones_that_hold_the_camera_on_its_side(tmp_path: Path, turn: str) -> None:
    image = plain(0)
    image[:16, :16] = 255
    with VideoWriter(tmp_path / "flat.mp4", 10, (WIDTH, HEIGHT)) as writer:
        for _ in range(3):
            writer.write(image)
    (a, b, c, d), corner = TURNS[turn]
    data = bytearray((tmp_path / "flat.mp4").read_bytes())
    place = data.find(b"tkhd") + 4 + 40  # of a version 0 track header
    numbers = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    data[place : place + 36] = struct.pack(">9i", *numbers)
    (tmp_path / "turned.mp4").write_bytes(data)

    source = open_source(tmp_path / "turned.mp4")
    assert source.resolution_wh == ((HEIGHT, WIDTH) if b else (WIDTH, HEIGHT))
    for frame in source:
        width, height = source.resolution_wh
        assert frame.image.shape == (height, width, 3)
        assert frame.image.flags["C_CONTIGUOUS"]
        spots = {
            "top left": frame.image[5, 5],
            "top right": frame.image[5, width - 6],
            "bottom left": frame.image[height - 6, 5],
            "bottom right": frame.image[height - 6, width - 6],
        }
        assert {name for name, pixel in spots.items() if pixel.min() > 200} == {corner}


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_variable_frame_rate(tmp_path: Path, name: str) -> None:
    times_ms = [0, 100, 150, 650, 700, 1500]
    source = open_source(encode(tmp_path / name, [plain(20 * i) for i in range(6)], times_ms=times_ms))
    assert times(source) == [0.0, 0.1, 0.15, 0.65, 0.7, 1.5]
    assert 1 <= source.fps <= 30
    assert source.warnings == []
    assert [f.index for f in open_source(tmp_path / name, start_s=0.12, end_s=0.7)] == [2, 3]


def test_times_begin_at_zero_whatever_the_file_says(tmp_path: Path) -> None:
    path = encode(tmp_path / "late.mkv", [plain(9)] * 3, times_ms=[5000, 5100, 5200])
    assert times(open_source(path)) == [0.0, 0.1, 0.2]


@pytest.mark.parametrize("name", ["one.mp4", "one.mkv", "one.avi", "one.webm"])
def test_a_video_of_one_frame(tmp_path: Path, name: str) -> None:
    codec = {".avi": "mpeg4", ".webm": "libvpx-vp9"}.get(name[3:], "libx264")
    source = open_source(encode(tmp_path / name, [plain(100)], codec))
    assert (source.num_frames_estimate, source.fps) == (1, 10.0)
    assert times(source) == [0.0]
    np.testing.assert_allclose(centers(source)[0], 100, atol=3)
    assert source.warnings == []


@pytest.mark.parametrize(("codec", "pix_fmt", "name"), [("ffv1", "bgr0", "a.mkv"), ("png", "rgb24", "a.mov")])
def test_a_video_of_one_pixel(tmp_path: Path, codec: str, pix_fmt: str, name: str) -> None:
    images = [np.full((1, 1, 3), color, np.uint8) for color in (RED, GREEN)]
    source = open_source(encode(tmp_path / name, images, codec, pix_fmt))
    assert source.resolution_wh == (1, 1)
    assert centers(source) == [list(RED), list(GREEN)]


def test_an_image_of_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), BLUE).save(tmp_path / "a.png")
    source = open_source(tmp_path / "a.png")
    assert (source.resolution_wh, centers(source)) == ((1, 1), [list(BLUE)])


def test_a_video_whose_size_and_times_change_midway(tmp_path: Path) -> None:
    """Two recordings in one file: frames keep the first size, and time goes on."""
    first = encode(tmp_path / "1.ts", [plain(50)] * 3, container="mpegts")
    second = encode(tmp_path / "2.ts", [plain(150, (96, 80))] * 3, container="mpegts")
    (tmp_path / "both.ts").write_bytes(first.read_bytes() + second.read_bytes())
    source = open_source(tmp_path / "both.ts")
    frames = list(source)
    assert source.resolution_wh == (WIDTH, HEIGHT)
    assert {frame.image.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    np.testing.assert_allclose([f.image.mean() for f in frames], [50] * 3 + [150] * 3, atol=3)
    assert times(source) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize(
    ("scale", "rate", "fps", "step_s"),
    [(1, 10, 10, 0.1), (1, 0, 10, 0.1), (0, 0, 10, 0.1), (1, 1_000_000, 25, 0.04), (1_000_000, 1, 25, 0.04)],
)
def test_a_header_that_lies_about_the_frame_rate(tmp_path: Path, scale: int, rate: int, fps: float, step_s: float):
    data = bytearray(encode(tmp_path / "a.avi", [plain(20 * i) for i in range(5)], "mpeg4").read_bytes())
    place = data.find(b"strh") + 8 + 20
    assert struct.unpack("<II", data[place : place + 8]) == (1, 10)
    data[place : place + 8] = struct.pack("<II", scale, rate)
    (tmp_path / "a.avi").write_bytes(data)
    source = open_source(tmp_path / "a.avi")
    assert (source.fps, source.num_frames_estimate) == (fps, 5)
    np.testing.assert_allclose(times(source), np.arange(5) * step_s, atol=1e-3)
    assert len(source.warnings) == (fps == 25)
    if fps == 25:
        assert f"claims {rate / scale:g} frames a second; 25 assumed, its timestamps ignored" in source.warnings[0]


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([3.0, 3.1, 3.2], [0.0, 0.1, 0.2]),
        ([None, None, None], [0.0, 0.1, 0.2]),
        ([0.0, None, 0.2], [0.0, 0.1, 0.2]),
        ([0.0, 0.5, 0.45, 0.6], [0.0, 0.5, 0.5, 0.6]),  # a little disorder
        ([9.0, 9.1, 0.0, 0.1], [0.0, 0.1, 0.2, 0.3]),  # begun anew
        ([None, 0.1, 0.2], [0.0, 0.1, 0.2]),
    ],
)
def test_times_never_run_backwards(stamps: list[float | None], expected: list[float]) -> None:
    clock = Clock(10.0)
    np.testing.assert_allclose([clock.time_of(stamp) for stamp in stamps], expected, atol=1e-9)
    clock = Clock(10.0, stamped=False)
    np.testing.assert_allclose([clock.time_of(stamp) for stamp in stamps], np.arange(len(stamps)) / 10, atol=1e-9)


# --- images that are deep, transparent, in palettes or inks, or turned ---


def deep_colour(path: Path) -> None:
    """16 bits a channel, which Pillow can read but not write."""
    pixels = np.broadcast_to(np.array([257 * 200, 257 * 99, 0], np.uint16), (4, 4, 3)).copy()
    with av.open(str(path), "w", format="image2") as output:
        stream = output.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 4, 4, "rgb48be"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb48le")))
        output.mux(stream.encode(None))


def grey16(value: int) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(np.full((4, 4), value, np.uint16)).save(path)


def palette(path: Path, **options: object) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, *RED, *GREEN])
    image.save(path, **options)


def second_view(path: Path) -> None:
    Image.new("RGB", (4, 4), GREY).save(
        path, format="MPO", save_all=True, append_images=[Image.new("RGB", (4, 4), RED)]
    )


PICTURES: dict[str, tuple[str, Callable[[Path], object], Sequence[int]]] = {
    "16 bit grey, middle": ("a.png", grey16(257 * 99), (99, 99, 99)),
    "16 bit grey, white": ("a.png", grey16(65535), (255, 255, 255)),
    "16 bit grey, nearly black": ("a.png", grey16(257), (1, 1, 1)),
    "16 bit colour": ("a.png", deep_colour, (200, 99, 0)),
    "inks": ("a.jpg", lambda p: Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(p), (0, 255, 255)),
    "black ink": ("a.jpg", lambda p: Image.new("CMYK", (4, 4), (0, 0, 0, 155)).save(p), (100, 100, 100)),
    "palette": ("a.png", palette, RED),
    "palette, one colour transparent": ("a.png", lambda p: palette(p, transparency=1), RED),
    "palette, shades of transparency": ("a.png", lambda p: palette(p, transparency=b"\0\x10\xff"), RED),
    "still gif": ("a.gif", palette, RED),
    "transparent": ("a.png", lambda p: Image.new("RGBA", (4, 4), (*BLUE, 0)).save(p), BLUE),
    "half transparent": ("a.png", lambda p: Image.new("RGBA", (4, 4), (*BLUE, 128)).save(p), BLUE),
    "transparent grey": ("a.png", lambda p: Image.new("LA", (4, 4), (90, 0)).save(p), GREY),
    "transparent webp": (
        "a.webp",
        lambda p: Image.new("RGBA", (4, 4), (*GREEN, 60)).save(p, lossless=True, exact=True),
        GREEN,
    ),
    "still webp": ("a.webp", lambda p: Image.new("RGB", (4, 4), GREEN).save(p, lossless=True), GREEN),
    "black and white": ("a.png", lambda p: Image.new("1", (4, 4), 1).save(p), (255, 255, 255)),
    "a photograph with a second view": ("a.jpg", second_view, GREY),
    "capitals": ("A.PNG", lambda p: Image.new("RGB", (4, 4), BLUE).save(p), BLUE),
}


@pytest.mark.parametrize("what", PICTURES)
def test_colours_of_images(tmp_path: Path, what: str) -> None:
    name, make, expected = PICTURES[what]
    make(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's, about palettes
        source = open_source(tmp_path / name)
        frames = list(source)
        np.testing.assert_array_equal(read_image(tmp_path / name), frames[0].image)
    assert (len(frames), source.num_frames_estimate, source.fps, source.warnings) == (1, 1, 25.0, [])
    assert (frames[0].image.shape, frames[0].image.dtype) == ((4, 4, 3), np.uint8)
    np.testing.assert_allclose(frames[0].image[2, 2], expected, atol=2 if ".jpg" in name else 0)


EXIF_CORNERS = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
@pytest.mark.parametrize("orientation", EXIF_CORNERS)
def test_photographs_that_say_how_they_were_held(tmp_path: Path, name: str, orientation: int) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8] = 255  # a white corner at the top left of what is stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / name, exif=exif, quality=95)
    source = open_source(tmp_path / name)
    assert source.resolution_wh == ((16, 32) if orientation >= 5 else (32, 16))
    image = next(iter(source)).image
    assert image.shape == (source.resolution_wh[1], source.resolution_wh[0], 3)
    corners = {(row, column) for row in (0, -1) for column in (0, -1) if image[row, column].min() > 200}
    assert corners == {EXIF_CORNERS[orientation]}


# --- animations ---


def animation(path: Path, durations_ms: int | list[int], **options: object) -> Path:
    first, *others = [Image.new("RGB", (8, 6), color) for color in (RED, GREEN, BLUE, GREY)]
    if path.suffix == ".webp":
        options["lossless"] = True
    first.save(path, save_all=True, append_images=others, duration=durations_ms, **options)
    return path


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.apng"])
@pytest.mark.parametrize(
    ("durations_ms", "expected", "fps"),
    [
        ([100, 200, 50, 400], [0.0, 0.1, 0.3, 0.35], 4 / 0.75),
        (40, [0.0, 0.04, 0.08, 0.12], 25.0),
        ([0, 10, 0, 0], [0.0, 0.1, 0.2, 0.3], 10.0),  # browsers wait so long when they are told not to
    ],
)
def test_an_animated_image_is_a_video(tmp_path: Path, name: str, durations_ms, expected, fps: float) -> None:
    source = open_source(animation(tmp_path / name, durations_ms))
    assert (source.resolution_wh, source.num_frames_estimate, source.live) == ((8, 6), 4, False)
    assert source.fps == pytest.approx(fps)
    assert times(source) == expected
    assert centers(source) == [list(color) for color in (RED, GREEN, BLUE, GREY)]  # and a second pass
    assert source.warnings == []
    assert [f.index for f in open_source(tmp_path / name, start_s=expected[1], stride=2)] == [1, 3]
    assert centers(open_source(str(tmp_path / "a.*")))[1] == list(GREEN)  # a glob of one file is that file


def test_an_animation_has_its_own_fps(tmp_path: Path) -> None:
    source = open_source(animation(tmp_path / "a.gif", 100), fps=3)
    assert source.warnings == [f"The given fps was ignored: {tmp_path / 'a.gif'} has its own, 10."]


def test_the_stand_in_of_an_animated_png_is_no_frame(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.png", 100, default_image=True)
    source = open_source(path)
    assert source.num_frames_estimate == 3
    assert centers(source) == [list(color) for color in (GREEN, BLUE, GREY)]
    assert times(source) == [0.0, 0.1, 0.2]


def test_an_animation_that_paints_only_what_changes(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 6), GREY) for _ in range(3)]
    for index, frame in enumerate(frames):
        frame.putpixel((index, 0), RED)
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    for index, frame in enumerate(open_source(tmp_path / "a.gif")):
        assert (frame.image[0] == RED).all(axis=1).nonzero()[0].tolist() == [index]
        assert frame.image[3, 3].tolist() == list(GREY)


@pytest.mark.parametrize("name", ["a.gif", "a.png"])
def test_a_cut_animation_keeps_what_was_read_and_warns(tmp_path: Path, name: str) -> None:
    first, *others = [Image.fromarray(noise(i)) for i in range(8)]
    first.save(tmp_path / name, save_all=True, append_images=others, duration=100)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 6 // 10])
    source = open_source(tmp_path / name)
    read = len(list(source))
    assert 3 <= read <= 6
    assert [w for w in source.warnings if "is cut short" in w] == source.warnings
    assert len(source.warnings) == 1


# --- files that are not what they seem, or not whole ---


def broken_index(path: Path) -> None:
    data = encode(path, [noise(i) for i in range(9)]).read_bytes()
    assert data.find(b"moov") > data.find(b"mdat") > 0  # the index stands behind
    path.write_bytes(data[: len(data) // 2])


def unknown_codec(path: Path) -> None:
    data = encode(path, [plain(9)] * 3).read_bytes()
    path.write_bytes(data.replace(b"avc1", b"zzzz"))


def mixed_sizes(path: Path) -> None:
    path.mkdir()
    Image.new("RGB", (8, 6)).save(path / "1.png")
    Image.new("RGB", (6, 8)).save(path / "2.png")


def link_in_folder(path: Path) -> None:
    path.mkdir()
    (path / "1.png").symlink_to("gone.png")


TROUBLE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "sound only": ("a.m4a", sound, "it has sound but no pictures"),
    "sound only, as mp4": ("a.mp4", sound, "it has sound but no pictures"),
    "sound only, as wav": ("a.wav", sound, "it has sound but no pictures"),
    "empty video": ("a.mp4", lambda p: p.write_bytes(b""), "is not a video that can be read: it is empty"),
    "empty image": ("a.png", lambda p: p.write_bytes(b""), "Cannot read the image .* it is empty"),
    "empty gif": ("a.gif", lambda p: p.write_bytes(b""), "Cannot read the image .* it is empty"),
    "text as video": ("a.mp4", lambda p: p.write_text("words\n" * 99), "its content is of no known video format"),
    "text as image": ("a.jpg", lambda p: p.write_text("words\n" * 99), "its content is of no known image format"),
    "bytes as video": ("a.avi", lambda p: p.write_bytes(bytes(range(256)) * 9), "not a video that can be read"),
    "no index": ("a.mp4", broken_index, "its index is missing, the recording or download was probably cut off"),
    "unknown codec": ("a.mp4", unknown_codec, "its codec is not known here"),
    "mixed sizes": ("frames", mixed_sizes, r"2\.png' is 6x8 pixels, but the first image, '1\.png', is 8x6"),
    "empty folder": ("frames", lambda p: p.mkdir(), "has no images in it"),
    "dangling link": ("a.mp4", lambda p: p.symlink_to("gone.mp4"), "is a link to 'gone.mp4', which does not exist"),
    "dangling link to a folder": ("frames", lambda p: p.symlink_to("gone"), "is a link to 'gone', which does not"),
    "dangling link in a folder": ("frames", link_in_folder, r"1\.png' is a link to 'gone\.png', which does not exist"),
    "link to itself": ("a.mp4", lambda p: p.symlink_to(p), "is a link to .*which does not exist"),
    "pipe in the file system": ("a.mp4", lambda p: os.mkfifo(p), "is neither a file nor a folder"),
    "name that is too long": ("a" * 300, lambda p: None, "No such file or folder"),
}


@pytest.mark.parametrize("what", TROUBLE)
def test_trouble_is_told_in_one_sentence(tmp_path: Path, what: str) -> None:
    name, make, words = TROUBLE[what]
    make(tmp_path / name)
    with pytest.raises(SourceError, match=words) as caught:
        list(open_source(tmp_path / name))
    assert name in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_a_truncated_file_gives_its_whole_frames(tmp_path: Path, name: str) -> None:
    images = [noise(i) for i in range(30)]
    if name == "a.mp4":
        with VideoWriter(tmp_path / name, 10, (WIDTH, HEIGHT)) as writer:  # with the index in front
            for image in images:
                writer.write(image)
    else:
        encode(tmp_path / name, images, "mpeg4" if name == "a.avi" else "libx264")
    whole = [frame.image for frame in open_source(tmp_path / name)]
    assert len(whole) == 30
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 6 // 10])
    source = open_source(tmp_path / name)
    read = [frame.image for frame in source]
    assert 8 <= len(read) <= 24
    for image, expected in zip(read[:-2], whole, strict=False):  # the last ones may be half there
        np.testing.assert_array_equal(image, expected)
    if name != "a.ts":  # which says nowhere how long it should be
        assert source.warnings == [
            f"{tmp_path / name} is cut short: {len(read)} of 30 frames could be read and were used."
        ]


# --- paths ---


@pytest.mark.parametrize(
    "name",
    [
        "ü ñ 日本 🎬.mp4",
        "two  spaces.mp4",
        "a:b.mp4",
        "http:c.mp4",
        "x [1] *?.mp4",
        "50%03d.mp4",
        "-",
        "0",
        'quote\'s "both".mp4',
        "no suffix",
        "#1;&$.mp4",
    ],
)
def test_odd_names_of_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Relative and absolute, directly, in a folder so named, and through links; an existing file always wins."""
    clip = encode(tmp_path / "clip.mp4", [plain(100)] * 3)
    folder = tmp_path / "folder"
    (folder / name).mkdir(parents=True)
    Image.new("RGB", (4, 4), RED).save(folder / name / "1.png")
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, name)
    (tmp_path / "link to it").symlink_to(name)
    (tmp_path / "link to folder").symlink_to(folder / name)
    for source in (name, Path(name), tmp_path / name, "link to it"):
        opened = open_source(source)
        assert (opened.live, len(list(opened))) == (False, 3)
    for source in (folder / name, "link to folder"):
        assert centers(open_source(source)) == [list(RED)]


def test_a_text_that_means_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("", "nowhere", "2024", "-1", "007", "a\0b"):
        with pytest.raises(ElysiumError) as caught:
            open_source(text)
        assert caught.value.remedy
