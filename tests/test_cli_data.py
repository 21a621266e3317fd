"""The rest of `elysium data` on the command line: frames of videos, options shared with other commands."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image

from elysium.cli.common import parse_window
from elysium.cli.main import main
from elysium.errors import InputError

CLIP = Path(str(files("elysium"))) / "assets" / "pedestrians.mp4"


def test_frames_of_videos(tmp_path, capsys):
    base = ["data", "frames", str(CLIP), "--output", str(tmp_path / "frames"), "--quiet"]
    assert main([*base, "--count", "3", "--end", "1"]) == 0
    assert capsys.readouterr().out.endswith("frames of 1 of 1 videos\n")
    folder = tmp_path / "frames" / "pedestrians"
    about = json.loads((folder / "frames.json").read_text())
    names = [row["file"] for row in about["frames"]]
    assert len(names) == 3 and names == sorted(path.name for path in folder.glob("*.jpg"))
    assert about["frames"][0]["index"] == 0 and about["frames"][0]["time_s"] == 0.0
    with Image.open(folder / names[0]) as image:
        assert list(image.size) == about["resolution_wh"]
    assert main([*base, "--count", "3", "--end", "1"]) == 0  # it is there
    assert main([*base, "--count", "4", "--end", "1"]) == 2  # but not what is asked for now
    assert str(folder) in capsys.readouterr().err


def test_a_video_that_cannot_be_read_does_not_stop_the_others(tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    videos = [str(tmp_path / "broken.mp4"), str(CLIP), str(tmp_path / "gone.mp4")]
    assert main(["data", "frames", *videos, "--output", str(tmp_path / "out"), "--count", "2", "--end", "0.5"]) == 1
    said = capsys.readouterr()
    assert said.out.endswith("frames of 1 of 3 videos\n") and "broken.mp4" in said.err and "gone.mp4" in said.err
    assert main(["data", "frames", videos[0], "--output", str(tmp_path / "out")]) == 2
    assert main(["data", "frames", str(CLIP), "--output", str(tmp_path / "two"), "--count", "2", "--fps", "1"]) == 2


@pytest.mark.parametrize(("text", "window"), [("auto", "auto"), ("none", None), ("4", 4.0), ("1", 1.0)])
def test_windows(text, window):
    assert parse_window(text) == window


@pytest.mark.parametrize(("text", "told"), [
    ("far", "is not a size"), ("0.5", "cannot hold the object"), ("nan", "cannot hold"), ("inf", "cannot hold"),
])  # fmt: skip
def test_windows_that_are_none(text, told):
    with pytest.raises(InputError, match=told):
        parse_window(text)
