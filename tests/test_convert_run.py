"""Running a converter: several processes, stopped and gone on with, parts that fail."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elysium.cli.main import main
from elysium.data import units
from elysium.data.convert.base import Options
from elysium.data.convert.registry import PLACES, converter, read
from elysium.data.convert.run import convert
from elysium.data.records import read_records, validate_records
from elysium.errors import InputError


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    """Five sequences of two frames; the boxes of each tell its number."""
    for number in range(5):
        folder = tmp_path / "source" / f"s{number}"
        folder.mkdir(parents=True)
        for frame in (1, 2):
            Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(folder / f"{frame}.png")
        (folder / "groundtruth.txt").write_text(f"{number},5,10,10\n{number + 1},5,10,10\n")
    return tmp_path / "source"


def stopped(sequences: Path, folder: Path, after: int) -> Path:
    """The output of a run that Ctrl-C ended after so many units."""

    def stop(done: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    out = folder / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        convert("sequences", sequences, out, report=stop)
    return out


def test_the_file_is_the_same_whatever_the_number_of_processes(sequences, tmp_path):
    seen = []
    done = convert("sequences", sequences, tmp_path / "one.jsonl", report=seen.append)
    assert (done.lines, done.units, done.failed, done.resumed, seen) == (5, 5, {}, 0, [1, 2, 3, 4, 5])
    convert("sequences", sequences, tmp_path / "two.jsonl", workers=2)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    first, *_ = read_records(tmp_path / "one.jsonl")
    assert first.box == [(0.0, 0.25, 0.25, 0.75), (0.025, 0.25, 0.275, 0.75)]
    assert first.frames == ["s0/1.png", "s0/2.png"]
    assert list(validate_records(tmp_path / "one.jsonl")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.jsonl", "source", "two.jsonl"]
    assert list(read("sequences", sequences)) == list(read_records(tmp_path / "one.jsonl"))


@pytest.mark.parametrize("torn", [False, True])
def test_a_stopped_run_goes_on_where_it_was(sequences, tmp_path, monkeypatch, torn):
    convert("sequences", sequences, tmp_path / "whole.jsonl")
    out = stopped(sequences, tmp_path, 3)
    partial = tmp_path / "out.jsonl.partial"
    assert not out.exists() and len(partial.read_text().splitlines()) == 4
    if torn:
        partial.write_bytes(partial.read_bytes()[:-9])
    asked = []
    real = units._do
    monkeypatch.setattr(units, "_do", lambda *rest: asked.append((rest[-1].name, rest[-1].done)) or real(*rest))
    done = convert("sequences", sequences, out)
    assert done.resumed == (2 if torn else 3) and done.lines == 5
    assert [name for name, known in asked if not known] == ["s2", "s3", "s4"][0 if torn else 1 :]
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes() and not partial.exists()


def test_what_was_converted_otherwise_is_not_gone_on_with(sequences, tmp_path):
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert("sequences", sequences, tmp_path / "out.jsonl", report=stop)
    other = tmp_path / "other"
    sequences.rename(other)
    assert convert("sequences", other, tmp_path / "out.jsonl").resumed == 0


@pytest.mark.parametrize("change", ["labels", "names", "image"])
def test_parts_that_have_changed_since_are_converted_anew(sequences, tmp_path, change):
    out = stopped(sequences, tmp_path, 4)
    folder = sequences / "s1"
    if change == "labels":
        (folder / "groundtruth.txt").write_text("9,5,10,10\n9,5,10,10\n")
    elif change == "names":
        (folder / "1.png").rename(folder / "0.png")
    else:
        Image.fromarray(np.zeros((20, 80, 3), np.uint8)).save(folder / "1.png")
    assert convert("sequences", sequences, out).resumed == 3
    convert("sequences", sequences, tmp_path / "anew.jsonl")
    assert out.read_bytes() == (tmp_path / "anew.jsonl").read_bytes()
    told = next(record for record in read_records(out) if record.id == "s1")
    assert {"labels": told.box == [(0.225, 0.25, 0.475, 0.75)] * 2, "names": told.frames == ["s1/0.png", "s1/2.png"],
            "image": told.frame_size == (80, 20)}[change]  # fmt: skip


def test_entries_that_have_changed_since_are_converted_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("elysium.data.convert.chats._CHUNK", 2)

    def write(words: list[str]) -> Path:
        talks = [[{"from": "human", "value": word}, {"from": "gpt", "value": "yes"}] for word in words]
        path = tmp_path / "chats.json"
        path.write_text(json.dumps([{"id": str(i), "conversations": talk} for i, talk in enumerate(talks)]))
        return path

    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        convert("llava", write(["a", "b", "c", "d", "e"]), out, report=stop)
    assert convert("llava", write(["a", "b", "c", "other", "e"]), out).resumed == 1
    assert [record.vqa[0].value for record in read_records(out) if record.vqa] == ["a", "b", "c", "other", "e"]


def test_two_runs_do_not_write_one_file(sequences, tmp_path):
    def second(done: int) -> None:
        with pytest.raises(InputError, match="Another run is writing"):
            convert("sequences", sequences, tmp_path / "out.jsonl")

    assert convert("sequences", sequences, tmp_path / "out.jsonl", report=second).lines == 5


def test_the_source_is_never_written_over(tmp_path):
    (tmp_path / "chats.json").write_text("[]")
    with pytest.raises(InputError, match="would be written over while it is read"):
        convert("llava", tmp_path / "chats.json", tmp_path / "chats.json")
    with pytest.raises(InputError, match="is a folder"):
        convert("llava", tmp_path / "chats.json", tmp_path)
    assert (tmp_path / "chats.json").read_text() == "[]"


def test_a_damaged_journal_is_cut_where_it_is_damaged(sequences, tmp_path):
    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert("sequences", sequences, tmp_path / "out.jsonl", report=stop)
    partial = tmp_path / "out.jsonl.partial"
    lines = partial.read_bytes().splitlines(keepends=True)
    partial.write_bytes(lines[0] + lines[1] + b"\xff\x00\n" + lines[3])
    assert convert("sequences", sequences, tmp_path / "out.jsonl").resumed == 1


def test_a_broken_part_is_told_and_the_others_are_kept(sequences, tmp_path, capsys):
    (sequences / "s1" / "groundtruth.txt").write_text("1,2,3,4\n")
    out = tmp_path / "out.jsonl"
    assert main(["data", "convert", "sequences", str(sequences), str(out), "--quiet"]) == 1
    said = capsys.readouterr()
    assert said.out.endswith("out.jsonl: 4 records, 1 of 5 parts failed, 0 defects\n")
    assert "s1: " in said.err and "has 1 entries for 2 images" in said.err
    assert [record.id for record in read_records(out)] == ["s0", "s2", "s3", "s4"]
    for number in (0, 2, 3, 4):
        (sequences / f"s{number}" / "groundtruth.txt").write_text("1,2,3,4\n")
    with pytest.raises(InputError, match=r"groundtruth.txt has 1 entries for 2 images.*Nothing was written"):
        convert("sequences", sequences, tmp_path / "none.jsonl")
    assert not list(tmp_path.glob("none*"))


def test_what_a_converter_warns_of_is_told_whichever_process_it_was(tmp_path):
    turns = [{"from": who, "value": "hello"} for who in ("human", "gpt")]
    talks = [{"id": str(i), "conversations": turns if i % 3 else turns[:1]} for i in range(7)]
    (tmp_path / "chats.json").write_text(json.dumps(talks))
    for workers in (1, 2):
        done = convert("llava", tmp_path / "chats.json", tmp_path / f"{workers}.jsonl", workers=workers)
        ((reason,),) = done.told.values()
        assert done.lines == 4 and not done.failed and "3 " in reason and done.left_out == 1


def test_entries_that_are_left_out_make_the_exit_code_1(tmp_path, capsys):
    turns = [{"from": who, "value": "hello"} for who in ("human", "gpt")]
    source = tmp_path / "chats.json"
    command = ["data", "convert", "llava", str(source), str(tmp_path / "out.jsonl"), "--quiet"]
    for talks, code in (([turns, turns], 0), ([turns, turns[:1]], 1)):
        source.write_text(json.dumps([{"id": str(i), "conversations": talk} for i, talk in enumerate(talks)]))
        assert main(command) == code
    said = capsys.readouterr()
    assert said.out.endswith("out.jsonl: 1 records, in 1 parts something was left out, 0 defects\n")
    assert "1 of 2 left out, the first is '1': its turns are not question and answer" in said.err


def test_an_interrupt_says_how_to_go_on(sequences, tmp_path, monkeypatch, capsys):
    def interrupted(*rest: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(units, "_do", interrupted)
    assert main(["data", "convert", "sequences", str(sequences), str(tmp_path / "out.jsonl")]) == 130
    assert "goes on" in capsys.readouterr().err


def test_options_that_mean_nothing_are_refused(sequences, tmp_path):
    for options, told in (
        (Options(split="train"), "sequences has no splits"),
        (Options(images=tmp_path), "sequences has no use for --images"),
        (Options(frames=3), "sequences has no use for --frames"),
    ):
        with pytest.raises(InputError, match=told):
            convert("sequences", sequences, tmp_path / "out.jsonl", options)
    with pytest.raises(InputError, match=r"There is no converter 'magic'\. Use one of csv, sequences"):
        converter("magic")


@pytest.mark.parametrize("name", PLACES)
def test_every_converter_says_what_it_reads_and_refuses_what_is_not_there(name, tmp_path):
    found = converter(name)
    assert found.about and "\n" not in found.about
    with pytest.raises(Exception) as caught:  # noqa: PT011  # the next line says which
        list(read(name, tmp_path / "nowhere"))
    assert type(caught.value).__name__ in ("SourceError", "InputError") and "nowhere" in str(caught.value)


def test_a_journal_line_holds_a_unit(sequences, tmp_path):
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert("sequences", sequences, tmp_path / "out.jsonl", report=stop)
    head, line = (json.loads(text) for text in (tmp_path / "out.jsonl.partial").read_text().splitlines())
    assert head["converter"] == "sequences" and line["unit"] == "s0" and len(line["lines"]) == 1
