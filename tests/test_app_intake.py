"""What an upload may be, and what becomes of it. Everything is decoded in another process unless a test says so."""

from __future__ import annotations

import io
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app_kit import CLIP
from elysium.app import confine, intake
from elysium.app.limits import Limits, Turned, check_files, check_size, check_text, check_video
from elysium.errors import ElysiumError, InputError, SourceError
from elysium.video import VideoWriter, open_source

LIMITS = Limits()


def picture(path: Path, size: tuple[int, int] = (64, 48), level: int = 90) -> Path:
    Image.fromarray(np.full((size[1], size[0], 3), level, dtype=np.uint8)).save(path)
    return path


def read_here(files: list[Path], folder: Path, limits: Limits = LIMITS) -> dict:
    """The same as the process does, without one."""
    folder.mkdir()
    return intake.take_in(files, folder, files[0].name, limits)


def test_a_video_becomes_frames_with_its_times(tmp_path):
    counts: list[int] = []
    clip = confine.take_in([CLIP], tmp_path / "clip", "my street.mp4", LIMITS, told=counts.append)
    assert (clip.name, len(clip), clip.fps, clip.resolution_wh) == ("my street.mp4", 62, 10.0, (576, 432))
    assert clip.times_s[:3] == (0.0, 0.1, 0.2) and counts == [10, 20, 30, 40, 50, 60]
    assert (tmp_path / "clip").stat().st_mode & 0o777 == 0o700
    original = next(iter(open_source(CLIP, start_s=3.05))).image.astype(int)
    (frame,) = clip.frames([31])
    assert frame.index == 31 and frame.time_s == pytest.approx(3.1)
    assert np.abs(frame.image.astype(int) - original).mean() < 2.5  # JPEG
    assert not frame.image.flags.writeable


def test_images_come_in_natural_order_and_one_image_is_a_clip(tmp_path):
    files = [picture(tmp_path / f"frame{number}.png", level=number) for number in (10, 2, 1)]
    facts = read_here(files, tmp_path / "clip")
    assert facts["times_s"] == [0.0, 0.04, 0.08] and facts["resolution_wh"] == [64, 48]
    levels = [int(np.asarray(Image.open(tmp_path / "clip" / f"{number:06d}.jpg")).mean()) for number in range(3)]
    assert levels == [1, 2, 10]
    assert read_here(files[:1], tmp_path / "one")["times_s"] == [0.0]


def test_a_gif_is_a_video(tmp_path):
    images = [Image.new("RGB", (32, 24), (80 * number, 0, 0)) for number in range(3)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=200)
    facts = read_here([tmp_path / "a.gif"], tmp_path / "clip")
    assert facts["times_s"] == [0.0, 0.2, 0.4] and facts["fps"] == pytest.approx(5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile /etc/hostname\n"),
        ("call.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"),
        ("text.mp4", b"this is no video"),
        ("half.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF"),
    ],
)
def test_what_is_no_video_or_names_other_files_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match="is not a video or image that can be read"):
        confine.take_in([tmp_path / name], tmp_path / "clip", name, LIMITS)
    assert not (tmp_path / "clip").exists()


def test_a_container_that_is_not_on_the_list_is_not_tried(tmp_path):
    with VideoWriter(tmp_path / "a.flv", 10, (64, 48)) as writer:
        writer.write(np.zeros((48, 64, 3), dtype=np.uint8))
    with pytest.raises(SourceError, match="not a video or image"):
        read_here([tmp_path / "a.flv"], tmp_path / "clip")


def test_a_visitor_is_told_names_and_no_paths_of_the_server(tmp_path):
    files = [picture(tmp_path / "a.png"), picture(tmp_path / "b.png", (32, 32))]
    with pytest.raises(SourceError, match=r"^'b\.png' is 32x32 pixels, but the first image, 'a\.png', is 64x48"):
        confine.take_in(files, tmp_path / "clip", "2 images", LIMITS)


def test_sound_alone_is_no_video(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        stream.layout = "mono"
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux([*stream.encode(sound), *stream.encode(None)])
    with pytest.raises(SourceError, match="it has sound but no pictures"):
        read_here([tmp_path / "a.mp4"], tmp_path / "clip")


def test_several_files_must_be_images(tmp_path):
    with pytest.raises(InputError, match="2 files, not all of them images"):
        read_here([CLIP, picture(tmp_path / "a.png")], tmp_path / "clip")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_seconds": 3.0}, "The video is 6 s long, the limit is 3 s"),
        ({"max_frames": 50}, "The video has 62 frames, the limit is 50"),
        ({"max_side": 500}, "The frames are 576x432 pixels, the limit is 500 on a side"),
        ({"max_total_pixels": 576 * 432 * 20}, "62 frames of 576x432 pixels are too much; 20 of this size would do"),
        ({"max_bytes": 2**16}, "The upload has 0 MB, the limit is 0 MB"),
        ({"intake_seconds": 0.05}, "took too long"),
        ({"intake_bytes": 120 * 2**20}, "memory"),
    ],
)
def test_every_limit_is_held(tmp_path, change, told):
    with pytest.raises(ElysiumError, match=told):
        confine.take_in([CLIP], tmp_path / "clip", "clip.mp4", replace(LIMITS, **change))
    assert not (tmp_path / "clip").exists()


def test_frames_are_counted_even_where_the_header_lies(tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "check_video", lambda *facts: None)
    with pytest.raises(InputError, match="The video has 11 frames, the limit is 10"):
        read_here([CLIP], tmp_path / "a", replace(LIMITS, max_frames=10))
    with pytest.raises(InputError, match="The video is longer than 2 s"):
        read_here([CLIP], tmp_path / "b", replace(LIMITS, max_seconds=2.0))


def test_an_upload_that_nobody_waits_for_is_ended(tmp_path):
    with pytest.raises(Turned, match="not wanted any more"):
        confine.take_in([CLIP], tmp_path / "clip", "clip.mp4", LIMITS, unwanted=lambda: True)


def test_the_process_ends_with_the_server(tmp_path):
    """Its stdin is a pipe that the server holds; what is read here would take for ever."""
    import subprocess
    import sys

    os.mkfifo(tmp_path / "never.png")
    (tmp_path / "clip").mkdir()
    order = intake.as_order([tmp_path / "never.png"], tmp_path / "clip", "a", LIMITS)
    child = subprocess.Popen([sys.executable, "-m", "elysium.app.intake"], stdin=subprocess.PIPE, text=True)
    child.communicate(order + "\n", timeout=120)
    assert child.returncode == 1


def test_waiting_for_uploads_gives_all_places_back():
    confine.wait_for_all(1)
    for _ in range(confine._PLACES):
        assert confine._AT_ONCE.acquire(blocking=False)
    confine.wait_for_all(0.01)  # none comes free
    assert not confine._AT_ONCE.acquire(blocking=False)
    for _ in range(confine._PLACES):
        confine._AT_ONCE.release()


def test_a_full_disk_takes_no_upload(tmp_path):
    with pytest.raises(Turned, match="disk of this server is full"):
        confine.take_in([CLIP], tmp_path / "clip", "clip.mp4", replace(LIMITS, min_free_bytes=2**62))


@pytest.mark.parametrize(("code", "told"), [(-9, "too much time or memory"), (-11, "the decoder broke off")])
def test_the_death_of_the_process_has_words(code, told):
    assert told in confine._why(code)


def test_the_process_takes_its_limits_from_the_system(tmp_path):
    resource = pytest.importorskip("resource")
    import subprocess
    import sys

    code = (
        "import resource; from elysium.app import intake; from elysium.app.limits import Limits;"
        f"intake.confine_self(Limits(**{asdict(replace(LIMITS, intake_bytes=2**31))!r}));"
        "print(resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_CORE)[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(2**31), "0"]
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 2**31  # of the test itself


@pytest.mark.parametrize(
    ("container", "codec", "told"),
    [("hls", "h264", "format hls"), ("mov,mp4,m4a,3gp,3g2,mj2", "prores", "coded as prores"), ("avi", "mpeg4", "")],
)
def test_containers_and_codecs(container, codec, told):
    if not told:
        check_video(container, codec, (64, 48), 1.0, 25, LIMITS)
        return
    with pytest.raises(InputError, match=told):
        check_video(container, codec, (64, 48), 1.0, 25, LIMITS)


def test_sizes_files_and_texts(tmp_path):
    with pytest.raises(InputError, match="9x4 pixels, which is too small"):
        check_size((9, 4), 1, LIMITS)
    with pytest.raises(InputError, match="3 files are too many"):
        check_files([picture(tmp_path / "a.png")] * 3, replace(LIMITS, max_files=2))
    with pytest.raises(SourceError, match="no longer on the server"):
        check_files([tmp_path / "gone.mp4"], LIMITS)
    assert check_text("  the  red\ncar ", "sentence", LIMITS) == "the red car"
    with pytest.raises(InputError, match="The question is empty"):
        check_text(" \n", "question", LIMITS)
    with pytest.raises(InputError, match="has 301 characters, the limit is 300"):
        check_text("a" * 301, "sentence", LIMITS)


def test_the_order_and_the_answer_are_lines_of_json(tmp_path, monkeypatch, capsys):
    (tmp_path / "clip").mkdir()
    order = intake.as_order([picture(tmp_path / "a.png")], tmp_path / "clip", "a.png", LIMITS)
    monkeypatch.setattr("sys.stdin", io.StringIO(order.replace('{"files"', '{"confine": false, "files"')))
    assert intake.main() == 0
    assert capsys.readouterr().out == (
        '{"clip": {"fps": 25.0, "resolution_wh": [64, 48], "times_s": [0.0], "warnings": []}}\n'
    )
