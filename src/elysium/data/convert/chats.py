"""Chats about images (LLaVA) and about videos (VideoChat), as annotation records.

``llava``, the JSON of LLaVA's instruction data (as its authors describe and release it); SRC is the file, an array:

    {"id": ..., "image": "coco/train2017/000000033471.jpg",
     "conversations": [{"from": "human", "value": "<image>\\nWhat ...?"}, {"from": "gpt", "value": "..."}, ...]}

"image" is missing in chats about no image, and may be a list. Images are relative to the file's folder or to --images.
Kept: the turns as they are, those of the system too. Dropped: other keys. An id that an earlier entry has becomes
``id#2`` and so on. An entry that no record can be made of is left out, which is told once for each part of the file:
turns that are not question and answer in turn; not one ``<image>`` an image; a ``<box>``, which means something here; a
video; an image that is not there.

``videochat``, the instruction data of VideoChat2 (VideoChat2-IT, its video part) and of VideoChat (11k, without "i");
SRC is the file, an array:

    {"video": "webvid/023601_023650/1066.mp4", "QA": [{"i": instruction, "q": question, "a": answer}, ...],
     "start": 1.5, "end": 9.0}

"start" and "end" (seconds, optional) say which part of the video is meant. The first turn is "<video>" on a line of its
own, then the instruction of the first round, which is that of the whole chat (its authors' loader takes it so, too),
and after a blank the question; captions have an instruction alone. Dropped: instructions of later rounds (they repeat
the first), unless there is no question. For each chat --frames frames, evenly spread over the video or the part, are
written to ``frames/<path of the video without its suffix>[@<start>-<end>]`` in the folder that the videos are relative
to, unless they are there; images that someone else put there (without a frames.json) are used as they are, evenly
spread. The record's id is that path, its times are those of the frames in the video.

Neither has boxes. Knows nothing about models.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from elysium.data.convert.base import Converter, Options, Unit, image_root
from elysium.data.convert.parts import image_size, images_in
from elysium.data.frames import FRAMES_JSON, extract_frames
from elysium.data.records import Record, Turn
from elysium.data.records.checks import BOX_MARK
from elysium.data.records.streaming import Problem, stream
from elysium.errors import InputError, SourceError
from elysium.sampling import spread_frames

_CHUNK = 500
_SIDES = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt"}
_IMAGE, _VIDEO = "<image>", "<video>\n"


def entries_of(path: Path, keys: tuple[str, ...], example: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """The objects of a JSON array or of JSON lines: number, words for the place, the object. Raises SourceError for a
    file that cannot be read, InputError if its first entry lacks a key, or an entry is no object or no JSON."""
    for item in stream(path):
        if isinstance(item, Problem):
            raise InputError(str(item), "Mend the file or load it anew.")
        place = f"{path}, entry {item.record} (line {item.line})"
        if not isinstance(item.value, dict):
            raise InputError(f"{place} is not an object", f"Each is {example}.")
        missing = [key for key in keys if key not in item.value]
        if item.record == 1 and missing:
            raise InputError(f"{place} has no {missing[0]!r}", f"Each is {example}.")
        yield item.record, place, item.value


class Ids:
    """Gives each record of a source an id of its own: its name, or, if that is taken, the name with a number."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        number, free = self._taken.get(name, 0), name
        while free in self._taken:
            number = max(number, 1) + 1
            free = f"{name}#{number}"
        self._taken[free] = 1
        self._taken[name] = max(number, 1)
        return free


def chat_turns(rounds: list[tuple[str, str]]) -> list[Turn]:
    """Questions about a video with their answers as turns, the first with the mark of a video before it."""
    turns = []
    for number, (question, answer) in enumerate(rounds):
        turns.append(_turn("human", question if number else _VIDEO + question))
        turns.append(_turn("gpt", answer))
    return turns


def _turn(side: str, value: str) -> Turn:
    return Turn.model_validate({"from": side, "value": value})


def frames_of_video(
    root: Path, name: str, find: Callable[[], Path], count: int, start_s: float | None = None,
    end_s: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What a record says about the frames of a video: ``count`` of them, evenly spread.

    Args:
        root: what their paths become relative to; they lie in ``frames/<name>`` below it.
        find: gives the path of the video, and is asked if that folder is not there yet.
    """
    folder = root / "frames" / name
    own = images_in(folder) if folder.is_dir() and not (folder / FRAMES_JSON).is_file() else []
    if own:
        files = [own[place] for place in spread_frames(len(own), count)]
        return {"frames": _relative(root, files), "frame_size": image_size(files[0])}
    found = extract_frames(find(), folder, count=count, start_s=start_s, end_s=end_s)
    return {
        "frames": _relative(root, list(found.files)), "frame_size": found.resolution_wh,
        "times_s": list(found.times_s),
    }  # fmt: skip


def _relative(root: Path, files: list[Path]) -> list[str]:
    return [file.relative_to(root).as_posix() for file in files]


def _leaves(name: str) -> bool:
    """Whether a path is none that stays in its folder."""
    return not name or name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/")


# --- LLaVA ---


def _llava_units(source: Path, options: Options) -> Iterator[Unit]:
    ids, first = Ids(), 1
    entries = entries_of(source, ("conversations",), '{"id", "image", "conversations"}')
    while chunk := list(islice(entries, _CHUNK)):
        kept = [_llava_entry(ids(str(entry.get("id", number))), entry) for number, _, entry in chunk]
        if first == 1:
            _check_images(image_root(source, options), kept)
        yield f"{first}-{chunk[-1][0]}", kept
        first = chunk[-1][0] + 1


def _llava_entry(id: str, entry: dict[str, Any]) -> dict[str, Any]:
    """What of an entry is looked at."""
    return {"id": id, **{key: entry.get(key) for key in ("image", "video", "conversations")}}


def _check_images(root: Path, entries: list[dict[str, Any]]) -> None:
    """Raises SourceError if none of the first images is there."""
    names = [name for entry in entries for name in _names(entry["image"]) if isinstance(name, str)]
    if names and not any((root / name).is_file() for name in names):
        raise SourceError(
            f"{root} holds none of the first images (looked for {names[0]!r})",
            "Name the folder that they are relative to with --images.",
        )


def _names(image: Any) -> list[Any]:
    return image if isinstance(image, list) else [] if image in (None, "") else [image]


def _llava_records(source: Path, unit: Unit, options: Options) -> Iterator[Record]:
    root, (name, entries) = image_root(source, options), unit
    left_out = []
    for entry in entries:
        flaw = _flaw(root, entry)
        if flaw:
            left_out.append(f"{entry['id']!r}: {flaw}")
            continue
        frames = _names(entry["image"])
        yield Record(
            source="llava", id=entry["id"], vid=PurePosixPath(frames[0]).stem if frames else "", metadata={},
            frames=frames, vqa=[_turn(turn["from"], turn["value"]) for turn in entry["conversations"]],
        )  # fmt: skip
    if left_out:
        warnings.warn(
            f"{source}, entries {name}: {len(left_out)} of {len(entries)} left out, the first is {left_out[0]}",
            stacklevel=2,
        )


def _flaw(root: Path, entry: dict[str, Any]) -> str:
    """Why no record can be made of an entry; empty if one can."""
    turns, names = entry["conversations"], _names(entry["image"])
    if not isinstance(turns, list) or not all(
        isinstance(turn, dict) and isinstance(turn.get("from"), str) and isinstance(turn.get("value"), str)
        for turn in turns
    ):
        return 'its conversations are no list of turns with the texts "from" and "value"'
    sides = [_SIDES.get(turn["from"]) for turn in turns if turn["from"] != "system"]
    if not sides or sides != ["human", "gpt"] * (len(sides) // 2):
        return "its turns are not question and answer in turn"
    text = "\n".join(turn["value"] for turn in turns)
    if BOX_MARK in text:
        return f"it holds the mark {BOX_MARK}, and no box"
    return _image_flaw(root, entry, names, text)


def _image_flaw(root: Path, entry: dict[str, Any], names: list[Any], text: str) -> str:
    if entry["video"] is not None:
        return "it is about a video"
    if text.count(_IMAGE) != len(names):
        return f"it has {text.count(_IMAGE)} {_IMAGE} marks for {len(names)} images"
    for name in names:
        if not isinstance(name, str) or _leaves(name):
            return f"its image is {name!r}, no path that stays in its folder"
        if names.count(name) > 1:
            return f"it names the image {name!r} twice"
        if not (root / name).is_file():
            return f"there is no image {str(root / name)!r}"
    return ""


LLAVA = Converter("LLaVA's instruction data, a JSON file", _llava_units, _llava_records, takes=("images",))


# --- VideoChat ---


def _videochat_units(source: Path, options: Options) -> Iterator[Unit]:
    ids = Ids()
    for _, place, entry in entries_of(source, ("video", "QA"), '{"video", "QA": [{"i", "q", "a"}, ...]}'):
        kept = {key: entry.get(key) for key in ("video", "QA", "start", "end")}
        part = "" if kept["start"] is None and kept["end"] is None else f"@{kept['start']}-{kept['end']}"
        name = _without_suffix(str(kept["video"])) + part
        yield ids(name), (place, name, kept)


def _without_suffix(path: str) -> str:
    return path.removesuffix(PurePosixPath(path).suffix)


def _videochat_records(source: Path, unit: Unit, options: Options) -> Iterator[Record]:
    root, (id, (place, name, entry)) = image_root(source, options), unit
    video, start_s, end_s = entry["video"], entry["start"], entry["end"]
    if not isinstance(video, str) or _leaves(video) or _leaves(name):
        raise InputError(f"{place}: its video is {video!r}", "Write a path that stays in its folder.")
    if (start_s, end_s) != (None, None) and not (_is_number(start_s) and _is_number(end_s)):
        raise InputError(f"{place}: it goes from {start_s!r} to {end_s!r}", "Write both in seconds, or none.")
    rounds = _rounds(place, entry["QA"])
    frames = frames_of_video(root, name, lambda: root / video, options.frames, start_s, end_s)
    yield Record(source="videochat", id=id, vid=_without_suffix(video), metadata={}, vqa=chat_turns(rounds), **frames)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rounds(place: str, told: Any) -> list[tuple[str, str]]:
    if not isinstance(told, list) or not told or not all(isinstance(one, dict) for one in told):
        raise InputError(f"{place}: its QA is no list of rounds", 'Each round is {"i", "q", "a"}.')
    rounds = []
    for number, one in enumerate(told):
        texts = [one.get("i", ""), one.get("q", ""), one.get("a", "")]
        if not all(isinstance(text, str) for text in texts) or any(BOX_MARK in text for text in texts):
            raise InputError(f'{place}: "i", "q" or "a" is no text, or holds {BOX_MARK}', "Mend it or take it out.")
        instruction, question, answer = (text.strip() for text in texts)
        asked = f"{instruction} {question}".strip() if number == 0 else question or instruction
        if not asked or not answer:
            raise InputError(f"{place}: its round {number + 1} lacks a question or an answer", "Take it out.")
        rounds.append((asked, answer))
    return rounds


VIDEOCHAT = Converter(
    "VideoChat's instruction data, a JSON file", _videochat_units, _videochat_records, takes=("images", "frames")
)
