"""Folders of sequences as benchmarks come: order of images, absence, pixels that count from 1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elysium.data.convert.sequences import read_sequences
from elysium.errors import ElysiumError
from elysium.evaluation.runs import sha256


def sequence(folder: Path, frames: int = 3, boxes: str = "", place: str = "img", **meta: object) -> Path:
    """Images 1.jpg, 2.jpg, ... without leading zeros, as some benchmarks have them."""
    (folder / place).mkdir(parents=True)
    for number in range(1, frames + 1):
        Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(folder / place / f"{number}.jpg")
    (folder / place / "._1.jpg").write_bytes(b"left by another system")
    (folder / "groundtruth.txt").write_text(boxes or "4,2,10,10\n" * frames)
    if meta:
        (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path):
    sequence(tmp_path / "a", 12, object="the dog", attributes=["fast"])
    (record,) = read_sequences(tmp_path)
    assert record.frames == [f"a/img/{i}.jpg" for i in range(1, 13)] and record.frame_size == (40, 20)
    assert record.object_description == "the dog" and record.metadata == {"attributes": ["fast"]}
    assert record.boxes_xyxy[0].tolist() == [4, 2, 14, 12] and record.absent is None


def test_otb_counts_from_one(tmp_path: Path):
    sequence(tmp_path / "a", benchmark="OTB100")
    (record,) = read_sequences(tmp_path)
    assert record.boxes_xyxy[0].tolist() == [3, 1, 13, 11]


@pytest.mark.parametrize(
    ("name", "text", "absent"),
    [
        ("groundtruth.txt", "4,2,10,10\nnan,nan,nan,nan\n0,0,0,0\n4\t2\t10\t10\n4 2 inf 10", [1, 2, 4]),
        ("full_occlusion.txt", "0,1,0,0,1", [1, 4]),
        ("out_of_view.txt", "0,0,1,0,0", [2]),
        ("absence.label", "0\n0\n0\n1\n0\n", [3]),
        ("cover.label", "8\n0\n5\n1\n8\n", [1]),
    ],
)
def test_absence_as_benchmarks_mark_it(name: str, text: str, absent: list[int], tmp_path: Path):
    folder = sequence(tmp_path / "cat" / "cat-1", 5)
    (folder / name).write_text(text)
    (record,) = read_sequences(tmp_path)  # one folder deeper, as LaSOT has it
    assert record.id == "cat-1" and np.flatnonzero(np.isnan(record.boxes_xyxyn[:, 0])).tolist() == absent


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("groundtruth.txt", "1,2,3,4", "1 entries for 3 images"),
        ("groundtruth.txt", "a,b,c,d", "something else than numbers"),
        ("groundtruth.txt", "1,2,3\n" * 3, "line 1 has 3 numbers, not 4"),
        ("cover.label", "8,8", "2 entries for 3 images"),
        ("meta.json", "{", "is not JSON"),
        ("img/1.jpg", "no image", "Cannot read the image"),
    ],
)
def test_what_does_not_fit_is_told(name: str, text: str, told: str, tmp_path: Path):
    (sequence(tmp_path / "a") / name).write_text(text)
    with pytest.raises(ElysiumError, match=told):
        list(read_sequences(tmp_path))


def test_the_hash_of_a_folder_covers_names_boxes_and_words(tmp_path: Path):
    folder = sequence(tmp_path / "x" / "a", object="the dog")
    seen = {sha256(tmp_path / "x")}
    (folder / "meta.json").write_text(json.dumps({"object": "the cat"}))
    seen.add(sha256(tmp_path / "x"))
    (folder / "groundtruth.txt").write_text("4,2,10,11\n" * 3)
    seen.add(sha256(tmp_path / "x"))
    folder.rename(tmp_path / "x" / "b")
    seen.add(sha256(tmp_path / "x"))
    assert len(seen) == 4
