"""Raw answers: the published form to the byte, and a run that is killed goes on where it was."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from elysium.errors import InputError, OutputError, SourceError
from elysium.evaluation.journal import Journal, done_ids, read_lines
from elysium.evaluation.raw import RawAnswer

FIRST = RawAnswer("v|0", "v|0", "<image>\nWhere?", "USER: <image>\nWhere?ASSISTANT:", "[1,2]", "Größe 犬", (640, 480))
SECOND = replace(FIRST, vid="v|1", id="v|1", predict="", image_size=None)
KEYS = ["vid", "id", "question", "prompt", "gt", "predict", "image_size"]


def write(path: Path, *answers: RawAnswer) -> bytes:
    with Journal(path, RawAnswer) as writer:
        for answer in answers:
            writer.write(answer)
    return path.read_bytes()


def test_a_line_has_the_published_keys_in_their_order(tmp_path: Path):
    path = tmp_path / "new" / "folder" / "raw.jsonl"
    first, second = write(path, FIRST, SECOND).decode("ascii").splitlines()
    assert list(json.loads(first)) == list(json.loads(second)) == KEYS
    assert json.loads(first)["image_size"] == [640, 480] and json.loads(second)["image_size"] is None
    assert list(read_lines(path, RawAnswer)) == [FIRST, SECOND]
    assert done_ids(path, RawAnswer) == {"v|0", "v|1"}


@pytest.mark.parametrize("task", ["SOT", "RSOT"])
def test_the_published_answers_come_back_to_the_byte(task: str, shared_dir: Path, tmp_path: Path):
    path = shared_dir / "compat" / "pipeline" / f"{task}_infer.jsonl"
    answers = list(read_lines(path, RawAnswer))
    assert [answer.id for answer in answers] == "clip_a|0 clip_a|1 clip_a|2 clip_b|0 clip_b|1 clip_c|0 clip_c|1".split()
    assert [answer.image_size for answer in answers[2:6]] == [(400, 300), (352, 240), (352, 240), (480, 270)]
    assert write(tmp_path / "again.jsonl", *answers) == path.read_bytes()


def test_each_line_is_there_before_the_next(tmp_path: Path):
    path = tmp_path / "raw.jsonl"
    with Journal(path, RawAnswer) as writer:
        assert writer.done == frozenset()
        writer.write(FIRST)
        assert list(read_lines(path, RawAnswer)) == [FIRST]
        writer.write(SECOND)
        assert list(read_lines(path, RawAnswer)) == [FIRST, SECOND]
    with pytest.raises(OutputError, match="is closed"):
        writer.write(FIRST)


def test_writing_goes_on_after_any_cut(tmp_path: Path):
    path = tmp_path / "raw.jsonl"
    whole = write(path, FIRST, SECOND)
    head = len(whole.splitlines(keepends=True)[0])
    for length in (0, 1, 6, 7, 40, *range(head - 2, head + 9), head + 40, *range(len(whole) - 2, len(whole) + 1)):
        path.write_bytes(whole[:length])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Journal(path, RawAnswer) as writer:
                done = [answer for answer in (FIRST, SECOND) if answer.id in writer.done]
                # Without its end a line may be whole; then it counts, and gets its end.
                assert len(done) == (length >= head - 1) + (length >= len(whole) - 1)
                for answer in (FIRST, SECOND):
                    if answer.id not in writer.done:
                        writer.write(answer)
        assert path.read_bytes() == whole


def test_a_cut_line_is_left_out_with_a_warning(tmp_path: Path):
    path = tmp_path / "raw.jsonl"
    path.write_bytes(write(path, FIRST, SECOND)[:-10])
    for read in (lambda: list(read_lines(path, RawAnswer)), lambda: done_ids(path, RawAnswer)):
        with pytest.warns(UserWarning, match=r"raw\.jsonl, line 2: cut off in the middle, left out"):
            assert len(read()) == 1


def test_zeros_that_a_crash_left_are_taken_away(tmp_path: Path):
    path = tmp_path / "raw.jsonl"
    whole = write(path, FIRST)
    for tail in (b"\0" * 100, b'{"vid": "v' + b"\0" * 70000):
        path.write_bytes(whole + tail)
        with pytest.warns(UserWarning, match="cut off"):
            assert write(path, SECOND).splitlines() == [FIRST.to_json().encode(), SECOND.to_json().encode()]


LOOP = """
import sys
from dataclasses import replace
from elysium.evaluation.journal import Journal
from elysium.evaluation.raw import RawAnswer
with Journal(sys.argv[1], RawAnswer) as writer:
    for i in range(10**6):
        writer.write(RawAnswer("v", f"{i}", "q" * 5000, "p", "g", "a"))
        if i == 20:
            print("go", flush=True)
"""


def test_a_killed_process_leaves_a_file_to_go_on_with(tmp_path: Path):
    path = tmp_path / "raw.jsonl"
    process = subprocess.Popen([sys.executable, "-c", LOOP, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"go\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Journal(path, RawAnswer) as writer:
            count = len(writer.done)
            writer.write(FIRST)
    ids = [answer.id for answer in read_lines(path, RawAnswer)]
    assert ids == [str(i) for i in range(count)] + ["v|0"] and count > 20


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "raw.jsonl"
    with Journal(path, RawAnswer) as writer:
        writer.write(FIRST)
        whole, file = path.read_bytes(), writer._file

        class Full:
            closed = False
            fileno = file.fileno

            def write(self, data: bytes) -> int:
                return file.write(data[:10])

        monkeypatch.setattr(writer, "_file", Full())
        with pytest.raises(OutputError, match="took only a part of a line"):
            writer.write(SECOND)
        assert path.read_bytes() == whole
        monkeypatch.setattr(Full, "write", lambda self, data: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space")))
        with pytest.raises(OutputError, match="No space"):
            writer.write(SECOND)
        monkeypatch.undo()
        writer.write(SECOND)
    assert list(read_lines(path, RawAnswer)) == [FIRST, SECOND]


def value(**changes: Any) -> dict[str, Any]:
    return {key: v for key, v in {**json.loads(FIRST.to_json()), **changes}.items() if v is not ...}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nothing of the sort\n", "is not JSON"),
        ("nothing of the sort", "is not JSON"),
        ("[1]\n", "is not an object"),
        ("[1]", "is not an object"),
        (json.dumps(value(gt=..., predict=...)) + "\n", "has no gt, predict"),
        (json.dumps(value(gt=..., predict=...)), "has no gt, predict"),
        (json.dumps(value(predict=None)) + "\n", "has a predict that is not text"),
        (json.dumps(value(image_size=[640])) + "\n", "has the image_size [640], not width and height"),
        (json.dumps(value(image_size=[640, 0.5])) + "\n", "has the image_size [640, 0.5], not width and height"),
        ('{"vid": "v|1", "id": \n', "is not JSON"),  # it has its end: no kill made this
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(text: str, sentence: str, tmp_path: Path):
    path = tmp_path / "raw.jsonl"
    path.write_text(FIRST.to_json() + "\n" + text)
    before = path.read_bytes()
    reading = (lambda: list(read_lines(path, RawAnswer)), lambda: done_ids(path, RawAnswer))
    for attempt in (*reading, lambda: Journal(path, RawAnswer)):
        with pytest.raises(InputError) as caught:
            attempt()
        assert str(caught.value).startswith(f"{path}, line 2: {sentence}")
    assert path.read_bytes() == before


def test_other_keys_numbers_as_ids_and_empty_lines(tmp_path: Path):
    path = tmp_path / "raw.jsonl"
    path.write_text("\n" + json.dumps(value(vid=3, id=4, source="x")) + "\r\n\n")
    assert list(read_lines(path, RawAnswer)) == [replace(FIRST, vid="3", id="4")]


def test_the_same_question_twice(tmp_path: Path):
    path = tmp_path / "raw.jsonl"
    write(path, FIRST, SECOND, FIRST)
    with pytest.raises(InputError, match=r"line 3: the id 'v\|0' is that of line 1 already\. Take one"):
        list(read_lines(path, RawAnswer))


def test_files_that_are_not_there_or_empty(tmp_path: Path):
    path = tmp_path / "raw.jsonl"
    assert done_ids(path, RawAnswer) == set()
    with pytest.raises(SourceError, match=r"Cannot read the results .*No such file"):
        list(read_lines(path, RawAnswer))
    assert write(path) == b"" and done_ids(path, RawAnswer) == set()
    with pytest.raises(InputError, match=r"raw\.jsonl' holds no result\. Run"):
        list(read_lines(path, RawAnswer))
    with pytest.raises(OutputError, match="Cannot write"):
        Journal(path / "below" / "a.jsonl", RawAnswer)
    assert os.listdir(tmp_path) == ["raw.jsonl"]


def test_a_second_process_is_refused(tmp_path: Path):
    pytest.importorskip("fcntl")
    told = r"Another process is writing to .*a\.jsonl.*Wait for it"
    with Journal(tmp_path / "a.jsonl", RawAnswer), pytest.raises(OutputError, match=told):
        Journal(tmp_path / "a.jsonl", RawAnswer)
    Journal(tmp_path / "a.jsonl", RawAnswer).close()
