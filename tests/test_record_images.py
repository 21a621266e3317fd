"""Images of records in folders and in tar files."""

from __future__ import annotations

import io
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elysium.cli.main import main
from elysium.data.records import Record
from elysium.data.records import images as module
from elysium.data.records.images import SUFFIX, ImageFolder, TarFile, check_images
from elysium.errors import InputError, SourceError
from elysium.training.sources import RecordClips
from training_kit import write_records


def png(value: int) -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), value, np.uint8)).save(held, "png")
    return held.getvalue()


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w", prefix: str = "") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("prefix", ["", "./"])
def test_members_are_found_by_their_names(tmp_path, prefix):
    members = {f"v{i}/{j}.png": png(10 * i + j) for i in range(5) for j in range(4)}
    write_tar(tmp_path / "a.tar", members, prefix=prefix)
    write_tar(tmp_path / "b.tar", {"w/é 0.png": png(99)})
    folder = ImageFolder(tmp_path)
    for name, data in members.items():
        assert folder.find(name).getvalue() == data
    assert folder.read("v3/2.png").tolist() == [[[32] * 3] * 6] * 4 and folder.read("w/é 0.png")[0, 0, 0] == 99
    assert folder.find("v9/0.png") is None
    with pytest.raises(SourceError, match=r"v9/0\.png"):
        folder.read("v9/0.png")
    (tmp_path / "v0").mkdir()
    (tmp_path / "v0" / "0.png").write_bytes(png(77))  # a file of that name comes first
    assert folder.read("v0/0.png")[0, 0, 0] == 77
    assert pickle.loads(pickle.dumps(folder)).read("v1/1.png")[0, 0, 0] == 11


def test_the_index_is_made_once_and_anew_for_another_file(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", {"0.png": png(1)})
    assert TarFile(path).read("0.png") == png(1) and (tmp_path / f"a.tar{SUFFIX}").exists()
    with monkeypatch.context() as patched:
        patched.setattr(module, "_make_index", None)
        assert TarFile(path).read("0.png") == png(1)
    write_tar(path, {"1.png": png(2), "0.png": png(3)})
    assert TarFile(path).read("0.png") == png(3) and TarFile(path).read("2.png") is None
    (tmp_path / f"a.tar{SUFFIX}").write_bytes(b"damaged")
    assert TarFile(path).read("1.png") == png(2)


def test_of_members_of_one_name_the_last_counts(tmp_path):
    path = write_tar(tmp_path / "a.tar", {f"{i}.png": png(i) for i in range(9)})
    with tarfile.open(path, "a") as tar:
        for name, value in (("./4.png", 44), ("4.png", 45), ("new.png", 46)):
            info = tarfile.TarInfo(name)
            info.size = len(png(value))
            tar.addfile(info, io.BytesIO(png(value)))
    folder = ImageFolder(tmp_path)
    assert [folder.read(name)[0, 0, 0] for name in ("3.png", "4.png", "5.png", "new.png")] == [3, 45, 5, 46]
    assert "new.png" in folder and "9.png" not in folder and "../a.tar" not in folder
    assert folder.content("4.png") == png(45) and folder.content("9.png") is None


def test_what_is_no_tar_is_told(tmp_path):
    write_tar(tmp_path / "a.tar", {"0.png": png(1)}, mode="w:gz")
    with pytest.raises(InputError, match=r"a\.tar is no tar file, or a compressed one"):
        ImageFolder(tmp_path)
    with pytest.raises(SourceError, match="There is no folder of images"):
        ImageFolder(tmp_path / "nowhere")


def test_a_broken_member_is_told_by_its_name(tmp_path):
    write_tar(tmp_path / "a.tar", {"v/0.png": b"no image"})
    with pytest.raises(SourceError, match=r"v/0\.png'?: its content is of no known image format"):
        ImageFolder(tmp_path).read("v/0.png")


def test_the_first_images_must_be_there(tmp_path):
    records = [Record(id=i, frames=[f"v/{i}.png"]) for i in range(3)]
    with pytest.raises(SourceError, match=r"holds none of the frames of the annotations \(for example 'v/0.png'\)"):
        check_images(records, tmp_path)
    write_tar(tmp_path / "a.tar", {"v/2.png": png(1)})
    check_images(records, tmp_path)
    check_images([], tmp_path)


def test_clips_and_commands_read_tar_files_as_they_read_folders(tmp_path, capsys):
    path = write_records(tmp_path / "plain")
    packed = tmp_path / "packed"
    packed.mkdir()
    names = [file.relative_to(path.parent).as_posix() for file in sorted(path.parent.rglob("*.png"))]
    write_tar(packed / "all.tar", {name: (path.parent / name).read_bytes() for name in names})
    shutil.copy(path, packed / "records.jsonl")
    plain, tarred = (RecordClips(folder / "records.jsonl", folder, 56) for folder in (path.parent, packed))
    for number in range(len(plain)):
        picked = np.array([0, 3, 5])
        np.testing.assert_array_equal(plain[number][0][picked], tarred[number][0][picked])
    assert main(["data", "validate", str(packed / "records.jsonl"), "--images", str(packed), "--quiet"]) == 0
    assert main(["data", "show", str(packed / "records.jsonl"), "--output", str(tmp_path / "sheet.png")]) == 0
    assert (tmp_path / "sheet.png").exists()
