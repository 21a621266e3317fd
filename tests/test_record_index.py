"""Random access to files of records, and the index that notices a changed file."""

from __future__ import annotations

import codecs
import gzip
import json
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from elysium.data.records import index as module
from elysium.data.records import read_records
from elysium.data.records.index import SUFFIX, RecordFile
from elysium.errors import InputError, SourceError
from process_kit import in_fresh_process

WORDS = ("a dog", "чёрная собака", "犬 🐕", 'the "big" one', "x" * 3000)


def track(number: int, video: int) -> dict:
    frames = [f"v{video}/0.png", f"v{video}/1.png"]
    return {
        "source": "t", "id": f"r{number}", "vid": f"v{video}", "metadata": {}, "frames": frames,
        "object_class": "dog", "box": [[0.1, 0.2, 0.5, 0.6]] * 2, "object_description": WORDS[number % len(WORDS)],
        "frame_size": [60, 40],
    }  # fmt: skip


def talk(number: int, video: int) -> dict:
    vqa = [{"from": "human", "value": "<video>\nwhat"}, {"from": "gpt", "value": "a dog"}]
    return {"source": "t", "id": f"r{number}", "vid": "v", "frames": [f"v{video}/0.png", f"v{video}/1.png"], "vqa": vqa}


VALUES = [track(0, 0), track(1, 0), talk(2, 0), track(3, 1), track(4, 0)]


def written(path: Path, form: str) -> Path:
    lines = [json.dumps(value, ensure_ascii=form == "ascii") for value in VALUES]
    text = {
        "ascii": "\n".join(lines) + "\n",
        "lines": "\n".join(lines) + "\n",
        "blank lines": "\n\n  " + "\r\n\n".join(lines) + "\n \n",
        "no last end": "\n".join(lines),
        "array": json.dumps(VALUES, ensure_ascii=False),
        "spread array": json.dumps(VALUES, ensure_ascii=False, indent=2),
        "bom": "\n".join(lines),
        "bom array": json.dumps(VALUES, ensure_ascii=False),
    }[form]
    path.write_bytes((codecs.BOM_UTF8 if form.startswith("bom") else b"") + text.encode())
    return path


FORMS = ["ascii", "lines", "blank lines", "no last end", "array", "spread array", "bom", "bom array"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [7, 2**18])
def test_each_record_is_the_one_that_reading_gives(tmp_path, form, chunk, monkeypatch):
    monkeypatch.setattr("elysium.data.records.streaming.CHUNK_BYTES", chunk)
    path = written(tmp_path / "a.jsonl", form)
    records = RecordFile(path)
    assert len(records) == 5 and list(records) == list(read_records(path))
    assert records[-1].id == "r4" and [record.id for record in records[1:4:2]] == ["r1", "r3"]
    assert records.is_chat.tolist() == [False, False, True, False, False]
    groups = records.groups.tolist()
    assert groups[0] == groups[1] == groups[2] == groups[4] != groups[3]
    with pytest.raises(IndexError):
        records[5]


def test_the_index_is_made_once(tmp_path, monkeypatch):
    path = written(tmp_path / "a.jsonl", "lines")
    RecordFile(path)
    assert (tmp_path / f"a.jsonl{SUFFIX}").exists()
    monkeypatch.setattr(module, "stream", None)  # it would be called to make it again
    assert [record.id for record in RecordFile(path)] == [f"r{number}" for number in range(5)]


@pytest.mark.parametrize("change", ["longer", "same size", "damaged index", "empty index", "other version"])
def test_another_file_gets_another_index(tmp_path, change, monkeypatch):
    path = written(tmp_path / "a.jsonl", "lines")
    RecordFile(path)
    if change == "longer":
        path.write_text(path.read_text() + json.dumps(track(5, 2)) + "\n")
    elif change == "same size":
        path.write_bytes(path.read_bytes().replace(b"v0/", b"v9/", 2))  # one record has other frames now
        assert RecordFile(path).groups[0] != RecordFile(path).groups[1]
    elif change == "damaged index":
        (tmp_path / f"a.jsonl{SUFFIX}").write_bytes(b"PK\x03\x04 no archive")
    elif change == "empty index":
        (tmp_path / f"a.jsonl{SUFFIX}").write_bytes(b"")
    else:
        made, make = [], module._make_index
        monkeypatch.setattr(module, "_VERSION", 2)
        monkeypatch.setattr(module, "_make_index", lambda *given: made.append(1) or make(*given))
        RecordFile(path)
        assert made == [1]
    assert list(RecordFile(path)) == list(read_records(path))


def test_a_file_that_changes_under_the_reader_is_noticed(tmp_path):
    path = written(tmp_path / "a.jsonl", "lines")
    records = RecordFile(path)
    with path.open("r+b") as file:
        file.write(b" " * 40)
    with pytest.raises(InputError, match=r"a\.jsonl has changed since it was opened: record 1 is not where it was"):
        records[0]


def test_what_cannot_be_indexed_is_told(tmp_path):
    with gzip.open(tmp_path / "a.jsonl", "wt") as file:
        file.write(json.dumps(VALUES[0]))
    with pytest.raises(InputError, match=r"is gzipped, which has no random access\. Unzip it"):
        RecordFile(tmp_path / "a.jsonl")
    with pytest.raises(SourceError, match=r"Cannot read .*nowhere"):
        RecordFile(tmp_path / "nowhere")
    (tmp_path / "b.jsonl").write_text(json.dumps(VALUES[0]) + "\n{broken}\n" + json.dumps(VALUES[1]) + "\n")
    with pytest.raises(InputError, match=r"b.jsonl, record 2 \(line 2\): is not JSON"):
        RecordFile(tmp_path / "b.jsonl")
    assert not (tmp_path / f"b.jsonl{SUFFIX}").exists()
    (tmp_path / "c.jsonl").write_text(json.dumps({**VALUES[0], "box": [[0.1, 0.2, 0.5, 0.6]]}) + "\n")
    with pytest.raises(InputError, match=r"c.jsonl, record 1, box: 1 boxes for 2 frames"):
        RecordFile(tmp_path / "c.jsonl")[0]


def test_a_torn_end_is_left_out(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(VALUES[0]) + "\n" + json.dumps(VALUES[1])[:40])
    assert [record.id for record in RecordFile(tmp_path / "a.jsonl")] == ["r0"]


def test_a_folder_that_cannot_be_written_costs_only_the_next_time(tmp_path, monkeypatch):
    path = written(tmp_path / "a.jsonl", "lines")

    def refused(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "replace", refused)
    assert len(RecordFile(path)) == 5 and list(tmp_path.iterdir()) == [path]


def _ids(records: RecordFile, numbers: list[int]) -> list[str]:
    return [records[number].id for number in numbers]


def _ids_of_two_processes(path: Path, start: str) -> list[list[str]]:
    records = RecordFile(path)
    assert records[0].id == "r0"  # open already
    with multiprocessing.get_context(start).Pool(2) as pool:
        return pool.starmap(_ids, [(records, [4, 0]), (records, [3])])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_processes_read_the_same_file(tmp_path, start):
    path = written(tmp_path / "a.jsonl", "lines")
    assert in_fresh_process(_ids_of_two_processes, path, start) == [["r4", "r0"], ["r3"]]
    records = RecordFile(path)
    assert pickle.loads(pickle.dumps(records))[1].id == "r1"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(records)).groups, records.groups)
