"""Question-answer sets about videos as annotation records: MSVD-QA, MSRVTT-QA, TGIF-QA, ActivityNet-QA.

    msvd         <root>/{train,val,test}_qa.json: [{"answer", "id", "question", "video_id": 1201}, ...]; and
                 youtube_mapping.txt, lines "<clip> vid1201", if videos are <clip>.avi as MSVD has them, not vid1201.avi
    msrvtt       <root>/{train,val,test}_qa.json: the same and "category_id"; videos are video<video_id>.mp4
    tgif         <root>/{Train,Test}_frameqa_question.csv (or .tsv), tab separated, with a head: gif_name, question,
                 answer, type, vid_id ...; videos are <gif_name>.gif. --split is train or test; there is no other
    activitynet  <root>/{train,val,test}_q.json: [{"video_name", "question", "question_id"}, ...], and _a.json:
                 [{"answer", "type", "question_id"}, ...]; videos are v_<video_name>.mp4, .mkv or .webm

The layouts are those that the authors of the sets describe and release. The files of questions, and the mapping, may
also lie in <root>/dataset or <root>/annotations. Videos are looked for in <root> (or --images) and its subfolders
video, videos, and those that the archives of the sets unpack to; other suffixes of videos are taken, too.

Each question is a record, all of a video are a part. Kept: question and answer as they are, the question's id
(``vid_id`` of tgif), and as metadata "category_id" (msrvtt) or "type" in words (tgif, activitynet). Dropped: all else,
and TGIF-QA's questions with choices or about counts. --frames frames, evenly spread, are written to
``frames/<video>`` in <root> (or --images), unless they are there (see `chats`). There are no boxes. Knows nothing about
models.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from elysium.data.convert.base import Converter, Options, Unit, image_root
from elysium.data.convert.chats import Ids, chat_turns, entries_of, frames_of_video
from elysium.data.convert.parts import read_text
from elysium.data.records import Record
from elysium.data.records.checks import BOX_MARK
from elysium.errors import InputError, SourceError

_SPLITS = ("train", "val", "test")
_LABELS = ("", "dataset", "annotations")
_VIDEOS = (
    "", "video", "videos",
    "YouTubeClips",  # MSVD
    "TrainValVideo", "TestVideo",  # MSR-VTT
    "gifs",  # TGIF
    "all_test",  # ActivityNet-QA's test split as evaluations of chat models share it
)  # fmt: skip
_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".gif", ".mov")
_TGIF_TYPES = ("object", "number", "color", "location")
_ACTIVITYNET_TYPES = (
    "motion", "spatial relationship", "temporal relationship", "yes/no", "color", "object", "location", "number",
    "other",
)  # fmt: skip


@dataclass(frozen=True)
class _Question:
    """One question: the words for its place, its id, the names that its video may have (the first is what it is called
    here), and what is asked and answered."""

    place: str
    id: str | int
    videos: tuple[str, ...]
    text: Any
    answer: Any
    metadata: dict[str, Any]


_Questions: TypeAlias = Callable[[Path, str], Iterator[_Question]]
"""The questions of a split of a folder."""


def _units(questions: _Questions, source: Path, options: Options) -> Iterator[Unit]:
    """A part for each video, in the order of its first question."""
    if not source.is_dir():
        raise SourceError(f"There is no folder {str(source)!r}", "Give the one with the files of questions.")
    ids, of_video = Ids(), dict[str, list[tuple[str, _Question]]]()
    for question in questions(source, options.split or "train"):
        of_video.setdefault(question.videos[0], []).append((ids(str(question.id)), question))
    yield from of_video.items()


def _records(name: str, source: Path, unit: Unit, options: Options) -> Iterator[Record]:
    (vid, questions), root = unit, image_root(source, options)
    videos = questions[0][1].videos
    turns = [chat_turns([(_text(one, "question", one.text), _text(one, "answer", one.answer))]) for _, one in questions]
    frames = frames_of_video(root, vid, partial(_video, root, videos), options.frames)
    for (id, question), vqa in zip(questions, turns, strict=True):
        yield Record(source=name, id=id, vid=vid, metadata=question.metadata, vqa=vqa, **frames)


def _text(question: _Question, what: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or BOX_MARK in value:
        raise InputError(f"{question.place}: its {what} is {value!r}", f"Write words, without {BOX_MARK}.")
    return value.strip()


def _video(root: Path, names: tuple[str, ...]) -> Path:
    """The file of a video. Raises SourceError."""
    for place in _VIDEOS:
        for name in names:
            for suffix in _SUFFIXES:
                if (path := root / place / f"{name}{suffix}").is_file():
                    return path
    raise SourceError(
        f"{root} holds no video {' or '.join(names)} (with a suffix such as {_SUFFIXES[0]})",
        f"Put it there or into {_VIDEOS[1]}/, or name the folder that has it with --images.",
    )


def _label_file(root: Path, *names: str) -> Path:
    """The first of these that is there. Raises SourceError."""
    for name in names:
        for place in _LABELS:
            if (root / place / name).is_file():
                return root / place / name
    raise SourceError(f"There is no {names[0]} in {root}", "Check the path and --split.")


def _name(place: str, entry: dict[str, Any], key: str) -> str:
    """A name for a file out of an entry. Raises InputError if it is none."""
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int) or not _is_name(str(value)):
        raise InputError(f"{place}: its {key} is {value!r}", "Write the name of a video, without a folder.")
    return str(value)


def _is_name(text: str) -> bool:
    return text not in ("", ".", "..") and not set(text) & set("/\\")


def _type(place: str, value: Any, types: tuple[str, ...]) -> dict[str, str]:
    """The kind of a question in words; nothing where the set does not say it."""
    if value is None or value == "":
        return {}
    known = {str(number): word for number, word in enumerate(types)}
    if str(value) not in known:
        raise InputError(f"{place}: its type is {value!r}", f"It is 0 to {len(types) - 1}.")
    return {"type": known[str(value)]}


# --- MSVD-QA and MSRVTT-QA ---


def _xu_entries(root: Path, split: str) -> Iterator[tuple[str, str | int, dict[str, Any]]]:
    """Place, id and entry of each question of the two sets, which have the same authors."""
    keys = ("question", "answer", "video_id")
    entries = entries_of(_label_file(root, f"{split}_qa.json"), keys, '{"answer", "id", "question", "video_id"}')
    for number, place, entry in entries:
        yield place, entry.get("id", number), entry


def _msvd_questions(root: Path, split: str) -> Iterator[_Question]:
    clips = _msvd_clips(root)
    for place, id, entry in _xu_entries(root, split):
        number = "vid" + _name(place, entry, "video_id")
        videos = (clips[number], number) if number in clips else (number,)
        yield _Question(place, id, videos, entry.get("question"), entry.get("answer"), {})


def _msvd_clips(root: Path) -> dict[str, str]:
    """By vid<number>, the name of the clip on YouTube with its seconds; empty if there is no such list."""
    paths = (root / place / "youtube_mapping.txt" for place in _LABELS)
    path = next((path for path in paths if path.is_file()), None)
    clips: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines() if path else (), 1):
        words = line.split()
        if words and (len(words) != 2 or not _is_name(words[0])):
            raise InputError(f"{path}, line {number} is not a clip and its vid<number>", "Mend it.")
        if words:
            clips[words[1]] = words[0]
    return clips


def _msrvtt_questions(root: Path, split: str) -> Iterator[_Question]:
    for place, id, entry in _xu_entries(root, split):
        kept = {"category_id": entry["category_id"]} if "category_id" in entry else {}
        video = "video" + _name(place, entry, "video_id").removeprefix("video")
        yield _Question(place, id, (video,), entry.get("question"), entry.get("answer"), kept)


# --- TGIF-QA ---


def _tgif_questions(root: Path, split: str) -> Iterator[_Question]:
    stem = f"{split.capitalize()}_frameqa_question"
    path = _label_file(root, f"{stem}.csv", f"{stem}.tsv")
    for number, row in _tsv_rows(path, ("gif_name", "question", "answer")):
        place = f"{path}, line {number}"
        video = _name(place, row, "gif_name")
        kind = _type(place, row.get("type"), _TGIF_TYPES)
        id = row.get("vid_id") or f"{video}/{number}"
        yield _Question(place, id, (video,), row["question"], row["answer"], kind)


def _tsv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines below the head by their numbers. Raises InputError for a column that is missing, and broken lines."""
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter="\t")
    try:
        missing = [name for name in columns if name not in (rows.fieldnames or ())]
        if missing:
            raise InputError(
                f"{path} has no column {missing[0]!r}", f"Its head has, between tabs, {', '.join(columns)}."
            )
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise InputError(f"{path} is broken after line {rows.line_num}: {error}", "Mend it.") from error


# --- ActivityNet-QA ---


def _activitynet_questions(root: Path, split: str) -> Iterator[_Question]:
    answers = {
        str(entry.get("question_id")): entry
        for _, _, entry in entries_of(
            _label_file(root, f"{split}_a.json"), ("question_id", "answer"), '{"answer", "type", "question_id"}'
        )
    }
    questions = entries_of(
        _label_file(root, f"{split}_q.json"), ("question_id", "question", "video_name"),
        '{"video_name", "question", "question_id"}',
    )  # fmt: skip
    for _, place, entry in questions:
        id, video = str(entry.get("question_id")), _name(place, entry, "video_name")
        answer = answers.get(id, {})
        kind = _type(place, answer.get("type"), _ACTIVITYNET_TYPES)
        yield _Question(place, id, (f"v_{video}", video), entry.get("question"), answer.get("answer"), kind)


def _converter(about: str, name: str, questions: _Questions, splits: tuple[str, ...] = _SPLITS) -> Converter:
    return Converter(about, partial(_units, questions), partial(_records, name), splits, takes=("images", "frames"))


MSVD = _converter("MSVD-QA: *_qa.json and videos", "MSVD-QA", _msvd_questions)
MSRVTT = _converter("MSRVTT-QA: *_qa.json and videos", "MSRVTT-QA", _msrvtt_questions)
TGIF = _converter("TGIF-QA: *_frameqa_question.csv and gifs", "TGIF-QA", _tgif_questions, ("train", "test"))
ACTIVITYNET = _converter(
    "ActivityNet-QA: *_q.json, *_a.json and videos", "ActivityNet-QA", _activitynet_questions
)  # fmt: skip
