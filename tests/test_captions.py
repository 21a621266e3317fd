"""Captions of whole pictures and videos: in records, in samples, in what the commands say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elysium.cli.main import main
from elysium.config import DataSection, Phase
from elysium.data.records import read_records
from elysium.data.validate import validate
from elysium.language.prompts import EVALUATION_QUESTIONS, SYSTEM_SENTENCE, Task, paraphrases
from elysium.training.collate import IGNORED, Collator
from elysium.training.samples import SampleDataset
from elysium.training.sources import RecordClips
from tiny import tiny_model_and_processor
from training_kit import write_lines, write_records


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Clip 0 has two tracks, of which the second has a caption; clip 1 is a caption alone; clip 2 has none."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in write_records(tmp_path).read_text().splitlines()]
    lines[1]["caption"] = "a street at noon"
    alone = {"id": "alone", "vid": "v1", "frames": lines[2]["frames"], "caption": "two dogs play"}
    return write_lines(tmp_path / "captions.jsonl", [*lines[:2], alone, *lines[4:]])


def samples(path: Path, frames: int = 3, **asked: Any) -> SampleDataset:
    section = DataSection(tasks={"CAPTION": 1.0}, **asked)
    clips = RecordClips(path, path.parent, 56)
    return SampleDataset(clips, 40, 2, [Phase(until=1.0, frames=frames)], section, region_mark=False)


def test_a_caption_alone_is_a_record(made, tmp_path, capsys):
    assert [record.caption for record in read_records(made)] == [None, "a street at noon", "two dogs play", None, None]
    assert validate(made, made.parent).defective == 0
    assert main(["data", "stats", str(made)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert {key: figures[key] for key in ("records", "tracks", "chats", "captions", "videos")} == {
        "records": 5, "tracks": 4, "chats": 0, "captions": 2, "videos": 3,
    }  # fmt: skip
    assert main(["data", "show", str(made), "--output", str(tmp_path / "sheet.png")]) == 0
    shutil.copytree(made.parent, tmp_path / "less")
    (tmp_path / "less" / "v1" / "3.png").unlink()
    summary = validate(made, tmp_path / "less", fix=tmp_path / "fixed.jsonl")
    assert (summary.defective, summary.changed, summary.left_out) == (1, 1, 0)
    assert [len(record.frames) for record in read_records(tmp_path / "fixed.jsonl")] == [6, 6, 5, 6, 6]
    empty = write_lines(tmp_path / "empty.jsonl", [{"id": 1, "vid": 1, "frames": ["v0/0.png"], "caption": " "}])
    told: list[str] = []
    validate(empty, on_problem=lambda problem: told.append(str(problem)))
    assert told == [f"{empty}, record 1 (line 1), caption: is empty, or no text"]


def test_captions_are_asked_of_clips_that_have_one(made):
    data = samples(made, paraphrase_share=0.5)
    drawn = [data[index] for index in range(40)]
    assert {sample.answer for sample in drawn} == {"a street at noon", "two dogs play"}
    assert {sample.task for sample in drawn} == {Task.CAPTION}
    assert {tuple(frame for _, _, frame in sample.frame_keys) for sample in drawn} == {(0, 2, 5)}  # evenly spread
    head = f"{SYSTEM_SENTENCE}USER: Frame 1: <image>, Frame 2: <image>, Frame 3: <image>\n"
    asked = {sample.prompt.removeprefix(head).removesuffix("ASSISTANT:") for sample in drawn}
    fixed = EVALUATION_QUESTIONS[Task.CAPTION]
    assert fixed in asked and len(asked) > 5 and asked <= {fixed, *paraphrases(Task.CAPTION)}
    assert all(np.isnan(sample.boxes).all() and not sample.labelled for sample in drawn)
    assert data[7].answer == samples(made, paraphrase_share=0.5)[7].answer


def test_captions_of_single_pictures(made):
    data = samples(made, image_questions=1.0, paraphrase_share=0.0)
    sample = data[0]
    assert sample.prompt == f"{SYSTEM_SENTENCE}USER: <image>\nPlease provide a short caption.ASSISTANT:"
    assert len(sample.features) == 1
    _, processor = tiny_model_and_processor("mlp")
    labels = Collator(processor, [], 4)([sample])["labels"][0]
    assert processor.tokenizer.decode(labels[labels != IGNORED]) == sample.answer + "</s>"


def test_tracks_of_a_clip_with_a_caption_alone_stay_what_they_are(made):
    """And objects are counted where there are any."""
    clips = RecordClips(made, made.parent, 56)
    assert [len(clips[number][1].objects) for number in range(3)] == [2, 0, 2]
    assert [clips[number][1].caption for number in range(3)] == ["a street at noon", "two dogs play", ""]
    assert len(list(clips.objects())) == 4
    shutil.rmtree(made.parent / "v2")
    assert samples(made)[0].answer
