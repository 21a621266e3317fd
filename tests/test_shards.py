"""Shards: what is in them, how they are made, and what is said of those that cannot be read."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elysium.cli.main import main
from elysium.data import sharding
from elysium.data.records import read_records
from elysium.data.sharding import count_shards, shard
from elysium.data.shards import SUFFIXES, StoredClip, read_shard, records_of, shard_paths, write_shard
from elysium.errors import InputError, SourceError
from training_kit import write_chats, write_lines, write_records

FORMS = tuple(SUFFIXES)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Seven clips of two tracks each, and two chats about a picture."""
    records = write_records(tmp_path / "data", videos=7)
    chats = write_chats(tmp_path / "data", "v0/0.png")
    return write_lines(tmp_path / "data" / "all.v1.jsonl", [
        json.loads(line) for path in (records, chats) for line in path.read_text().splitlines()
    ])  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("form", FORMS)
def test_records_and_images_come_back_as_they_were(form, made, tmp_path):
    done = shard(made, tmp_path / "out", made.parent, form=form, clips=4)
    assert (done.lines, done.units, done.failed, done.left_out) == (3, 3, {}, 0) and count_shards(made, 4) == 3
    names = [f"all.v1-{number:05d}{SUFFIXES[form]}" for number in range(3)]
    assert sorted(content(tmp_path / "out")) == sorted([*names, "all.v1-shards.jsonl"])
    found = [clip for path in shard_paths(f"{tmp_path}/out/*{SUFFIXES[form]}") for clip in read_shard(path)]
    assert [clip.key for clip in found] == [f"{number:09d}" for number in range(9)]
    stored = {record.id: record for clip in found for record in records_of(clip)}
    assert stored == {record.id: record for record in read_records(made)}
    for clip in found:
        frames = records_of(clip)[0].frames
        assert [data for _, data in clip.frames] == [(made.parent / name).read_bytes() for name in frames]
        assert len({tuple(record.frames) for record in records_of(clip)}) == 1
    sizes = [len(records_of(clip)) for clip in found]
    assert sorted(sizes) == [1] * 2 + [2] * 7 and sizes != sorted(sizes)[::-1]  # clips are mixed
    listed = [json.loads(line) for line in (tmp_path / "out" / "all.v1-shards.jsonl").read_text().splitlines()]
    assert [line["shard"] for line in listed] == names and [line["clips"] for line in listed] == [4, 4, 1]
    assert sum(line["records"] for line in listed) == 16 and sum(line["frames"] for line in listed) == 44
    assert [line["bytes"] for line in listed] == [(tmp_path / "out" / name).stat().st_size for name in names]


def test_a_tar_has_the_members_that_webdataset_wants(made, tmp_path):
    shard(made, tmp_path / "out", made.parent, clips=100)
    with tarfile.open(tmp_path / "out" / "all.v1-00000.tar") as tar:
        members = [member.name for member in tar]
        assert all(member.mtime == 0 and member.isfile() for member in tar.getmembers())
        texts = [json.loads(tar.extractfile(name).read()) for name in members if name.endswith(".json")]
    lengths = [1 if isinstance(text, dict) else 6 for text in texts]  # chats are single records
    assert members == [
        name for clip, length in enumerate(lengths)
        for name in (f"{clip:09d}.json", *(f"{clip:09d}.{frame:04d}.png" for frame in range(length)))
    ]  # fmt: skip


def test_others_read_what_we_write(tmp_path):
    """``datasets`` itself, which knows the layouts and nothing of us."""
    load = pytest.importorskip("datasets", reason="it is in the extra 'train'").load_dataset
    records = write_records(tmp_path / "data", videos=3)
    for form, suffix in SUFFIXES.items():
        shard(records, tmp_path / form, records.parent, form=form)
        rows = list(load(
            form, data_files=f"{tmp_path}/{form}/*{suffix}", split="train", streaming=True, cache_dir=str(tmp_path)
        ))  # fmt: skip
        ours = list(read_shard(f"{tmp_path}/{form}/records-00000{suffix}"))
        assert len(rows) == len(ours) == 3
        for row, clip in zip(rows, ours, strict=True):
            theirs = [row[f"{i:04d}.png"] for i in range(6)] if form == "webdataset" else row["frames"]
            text = row["json"] if form == "webdataset" else json.loads(row["records"])
            assert text == json.loads(clip.records) and clip.key == row["__key__" if form == "webdataset" else "key"]
            for image, (_, data) in zip(theirs, clip.frames, strict=True):
                np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(data))))


def test_shards_are_the_same_whatever_the_number_of_processes(made, tmp_path):
    shard(made, tmp_path / "one", made.parent, clips=2)
    shard(made, tmp_path / "two", made.parent, clips=2, workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    shard(made, tmp_path / "other", made.parent, clips=2, seed=1)
    assert content(tmp_path / "one").keys() == content(tmp_path / "other").keys()
    assert content(tmp_path / "one") != content(tmp_path / "other")


def test_a_stopped_run_goes_on_and_makes_again_what_was_taken_away(made, tmp_path, monkeypatch, capsys):
    shard(made, tmp_path / "whole", made.parent, clips=2)

    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shard(made, tmp_path / "out", made.parent, clips=2, report=stop)
    assert len(list((tmp_path / "out").glob("*.tar"))) == 3
    with pytest.raises(InputError, match=r"all\.v1-00000\.tar is there already"):
        shard(made, tmp_path / "out", made.parent, clips=3)
    (tmp_path / "out" / "all.v1-00001.tar").unlink()
    written = []
    real = sharding.write_shard
    monkeypatch.setattr(sharding, "write_shard", lambda path, *rest: written.append(path.name) or real(path, *rest))
    done = shard(made, tmp_path / "out", made.parent, clips=2)
    assert done.resumed == 2 and written == [f"all.v1-{number:05d}.tar" for number in (1, 3, 4)]
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    command = ["data", "shard", str(made), str(tmp_path / "out"), "--shard-size", "2", "--quiet"]
    assert main(command) == 2 and "is there already" in capsys.readouterr().err


def test_what_cannot_be_put_into_a_shard_is_left_out_and_told(made, tmp_path, capsys):
    (made.parent / "v3" / "2.png").unlink()
    command = ["data", "shard", str(made), str(tmp_path / "out"), "--shard-size", "5", "--quiet"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert said.out == f"{tmp_path}/out: 2 shards, in 1 parts something was left out\n"
    assert "1 of 5 clips left out; the first: record '3-0': 'v3/2.png' is not there" in said.err
    found = [clip for path in shard_paths(f"{tmp_path}/out/*.tar") for clip in read_shard(path)]
    assert len(found) == 8
    assert main([*command, "--images", str(tmp_path / "nowhere")]) == 2
    assert main(["data", "shard", str(made), str(tmp_path / "new"), "--format", "zip"]) == 2
    assert main(["data", "shard", str(tmp_path / "no.jsonl"), str(tmp_path / "new")]) == 2
    told = capsys.readouterr().err
    assert "There is no folder of images" in told and "no form of shards 'zip'" in told and "Cannot read" in told


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_tar_of_someone_else(tmp_path):
    """Folders in keys, other members, one picture without a number, frames in natural order."""
    record = {"id": 1, "vid": "v", "frames": ["a", "b", "c"], "caption": "a walk"}
    path = write_tar(tmp_path / "a.tar", [
        ("./x/one.json", json.dumps(record).encode()), ("./x/one.10.JPG", b"c"), ("./x/one.txt", b"no"),
        ("./x/one.2.jpg", b"b"), ("./x/one.1.jpg", b"a"), ("README", b"no"),
        ("x/two.jpg", b"d"), ("x/two.json", json.dumps({**record, "frames": ["a"]}).encode()),
        ("y/one.cls", b"7"), ("y/one.jpg", b"e"),
    ])  # fmt: skip
    one, two, told = read_shard(str(path))
    assert isinstance(one, StoredClip) and isinstance(two, StoredClip)
    assert (one.key, [data for _, data in one.frames]) == ("x/one", [b"a", b"b", b"c"])
    assert (two.key, [data for _, data in two.frames]) == ("x/two", [b"d"])
    assert records_of(one)[0].caption == "a walk" and told == f"{path}: y/one has no .json"


@pytest.mark.parametrize(("records", "frames", "told"), [
    ("{broken", 1, "its records are not JSON"),
    ("[]", 0, "it needs one chat, or tracks"),
    ('{"id": 1, "vid": "v", "frames": ["a"], "caption": "x"}', 2, "record 1 has 1 frames, and the clip 2"),
    ('{"id": 1, "vid": "v", "frames": ["a"], "caption": ""}', 1, "record 1, caption: is empty, or no text"),
    ('[{"id": 1, "vid": "v", "frames": [], "vqa": [{"from": "human", "value": "a"}]}, '
     '{"id": 2, "vid": "v", "frames": [], "vqa": [{"from": "human", "value": "a"}]}]', 0, "it needs one chat"),
    ("7", 0, "record 1: is a number, not an object"),
])  # fmt: skip
def test_records_that_do_not_fit_are_told(records, frames, told):
    with pytest.raises(SourceError, match=told):
        records_of(StoredClip("k", records, (("k.jpg", b""),) * frames))


def clips(count: int) -> list[StoredClip]:
    rng = np.random.default_rng(0)
    return [StoredClip(f"{i}", json.dumps({"id": i}), ((f"{i}.0000.img", rng.bytes(3000)),)) for i in range(count)]


@pytest.mark.parametrize("form", FORMS)
def test_a_shard_cut_anywhere_gives_what_is_whole_and_says_so(form, tmp_path):
    path = tmp_path / f"a{SUFFIXES[form]}"
    write_shard(path, clips(4), form)
    assert list(read_shard(str(path))) == clips(4)
    data = path.read_bytes()
    for length in (0, 1, 511, 512, 3000, 4608, 5000, 6144, 9216, 10000, 12000):  # a clip is 4608 bytes of a tar
        path.write_bytes(data[:length])
        *whole, told = read_shard(str(path))
        assert isinstance(told, str) and str(path) in told and "cannot be read" in told, length
        assert whole == clips(len(whole))
    missing = tmp_path / f"gone{SUFFIXES[form]}"
    (told,) = read_shard(str(missing))
    assert "cannot be read behind clip 0" in told and "No such file" in told


def test_damage_in_the_middle_of_a_tar_is_noticed(tmp_path):
    path = tmp_path / "a.tar"
    write_shard(path, clips(4), "webdataset")
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        header = tar.getmembers()[4].offset  # of the third clip's records
    data[header + 20 : header + 160] = b"\xff" * 140
    path.write_bytes(data)
    *whole, told = read_shard(str(path))
    assert whole == clips(1) and "damaged or cut off here" in told


def test_a_parquet_file_of_something_else_is_told(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="it is in the extra 'train'")
    from pyarrow import parquet

    parquet.write_table(pa.table({"key": ["a"], "frames": [[b"x"]]}), tmp_path / "a.parquet")
    assert list(read_shard(str(tmp_path / "a.parquet"))) == [
        f"{tmp_path}/a.parquet: cannot be read behind clip 0 (it has no column records)"
    ]
    parquet.write_table(pa.table({"key": ["a"], "records": ["{}"], "frames": [[b"x", b"y"]]}), tmp_path / "b.parquet")
    assert list(read_shard(str(tmp_path / "b.parquet"))) == [StoredClip("a", "{}", (("a.0", b"x"), ("a.1", b"y")))]


def test_shards_are_found_by_path_or_pattern(tmp_path):
    for name in ("b-2.tar", "b-1.tar", ".b-3.tar", "c.txt"):
        (tmp_path / name).touch()
    assert shard_paths(f"{tmp_path}/*.tar") == [f"{tmp_path}/b-1.tar", f"{tmp_path}/b-2.tar"]
    assert shard_paths(f"{tmp_path}/b-2.tar") == [f"{tmp_path}/b-2.tar"]
    assert shard_paths(f"file://{tmp_path}/b-2.tar") == [f"file://{tmp_path}/b-2.tar"]
    for pattern in (f"{tmp_path}/x*.tar", f"{tmp_path}/x.tar", "nothing://x/*.tar"):
        with pytest.raises(SourceError, match=r"There is no shard|Cannot look for"):
            shard_paths(pattern)
