"""Files of records cut into parts, and put together. Knows lines and videos; does not look into images.

A video is never cut: its tracks and chats all go to one part, or a model would be examined on frames that it learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from elysium.data.records import Problem
from elysium.data.records.model import to_line
from elysium.data.records.streaming import stream
from elysium.errors import InputError
from elysium.files import atomic_path

KEYS = ("vid", "frames", "source")


def split(path: Path, parts: Mapping[str, float], output: Path, *, seed: int = 0, by: str = "vid") -> dict[str, int]:
    """Deal the records of a file out to ``<output>/<name>-<part>.jsonl``; returns how many each part has.

    Where a record goes depends on ``seed`` and on what stands under ``by`` ("vid"; "frames": the folder of the first;
    "source") alone: more records, or another order, do not move it.

    Args:
        parts: names, and shares that sum up to 1.

    Raises:
        SourceError, InputError: a file that cannot be read or has something broken; shares that are none.
    """
    if not parts or any(not share > 0 for share in parts.values()) or abs(sum(parts.values()) - 1) > 1e-6:
        raise InputError(f"The shares {', '.join(map(str, parts.values()))} do not sum up to 1", "train=0.9 val=0.1")
    if by not in KEYS:
        raise InputError(f"Records cannot be split by {by!r}", f"Use one of {', '.join(KEYS)}.")
    counts = dict.fromkeys(parts, 0)
    with ExitStack() as stack:
        files = {}
        for name in parts:
            temporary = stack.enter_context(atomic_path(output / f"{stem(path)}-{name}.jsonl"))
            files[name] = stack.enter_context(temporary.open("w", encoding="utf-8"))
        for value in values(path):
            name = _part(_key(value, by), parts, seed)
            files[name].write(to_line(value) + "\n")
            counts[name] += 1
    return counts


def stem(path: Path) -> str:
    """The name of a file of records without what says its form.

    >>> stem(Path("a.v1.jsonl.gz")), stem(Path("a.v2.json")), stem(Path("a.v3"))
    ('a.v1', 'a.v2', 'a.v3')
    """
    name = path.name.removesuffix(".gz")
    return next((name.removesuffix(end) for end in (".jsonl", ".json") if name.endswith(end)), name)


def _key(value: dict[str, Any], by: str) -> str:
    if by != "frames":
        return str(value.get(by, ""))
    frames = value.get("frames") or [""]
    return str(frames[0]).rpartition("/")[0]


def _part(key: str, parts: Mapping[str, float], seed: int) -> str:
    """The part that a key falls into: a number in 0..1 made of it, against the shares one after the other."""
    place = int.from_bytes(hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest(), "big") / 2**64
    for name, share in parts.items():
        place -= share
        if place < 0:
            return name
    return list(parts)[-1]


def merge(paths: Sequence[Path], output: Path, folders: Sequence[str] = ()) -> int:
    """Write the records of several files into one, in their order; returns how many.

    Args:
        folders: for each file, what is put in front of its image paths, so that they lie below one folder; none:
            they are left as they are. An id that occurs in two files gets the folder, or the file's name, in front.

    Raises:
        SourceError, InputError: as :func:`split`; not one folder a file; an id twice in one file.
    """
    if folders and len(folders) != len(paths):
        raise InputError(f"{len(folders)} folders for {len(paths)} files", "Give one for each, or none.")
    prefixes = [_prefix(folder) for folder in folders] or [""] * len(paths)
    seen: set[int] = set()
    with atomic_path(output) as temporary, temporary.open("w", encoding="utf-8") as file:
        for path, prefix in zip(paths, prefixes, strict=True):
            mine: set[int] = set()
            for value in values(path):
                value["frames"] = [prefix + name for name in value["frames"]]
                if hash(str(value["id"])) in seen:
                    value["id"] = f"{prefix or stem(path) + '/'}{value['id']}"
                if hash(str(value["id"])) in mine or hash(str(value["id"])) in seen:
                    raise InputError(f"{path}: the id {value['id']!r} occurs twice", "Give each record its own.")
                mine.add(hash(str(value["id"])))
                file.write(to_line(value) + "\n")
            seen |= mine
    return len(seen)


def _prefix(folder: str) -> str:
    parts = [part for part in folder.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts or folder.startswith("/"):
        raise InputError(f"The folder {folder!r} leaves the image folder", "Give one below it.")
    return "".join(f"{part}/" for part in parts)


def values(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file as they stand there. Raises InputError for one that is broken or has no id or frames."""
    count = 0
    for item in stream(path):
        if isinstance(item, Problem):
            raise InputError(str(item), "elysium data validate FILE --fix OUT leaves it out.")
        whole = isinstance(item.value, dict) and isinstance(item.value.get("id"), str | int)
        frames = item.value.get("frames") if whole else None
        if not isinstance(frames, list) or not all(isinstance(name, str) for name in frames):
            raise InputError(f"{path}, record {item.record} (line {item.line}) has no id or no frames", "Mend it.")
        count += 1
        yield item.value
    if not count:
        raise InputError(f"{str(path)!r} holds no record", "Give a file with at least one.")
