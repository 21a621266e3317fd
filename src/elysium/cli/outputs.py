"""Where results go: checked before a model is loaded, written only when there is something to write.

Knows names and folders; what stands in the files is known by `elysium.tracks`, `elysium.exports` and
`elysium.draw`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from elysium.errors import ElysiumError, InputError, OutputError
from elysium.files import output_error

if TYPE_CHECKING:
    from elysium.tracks import TrackResult
    from elysium.video import FrameSource

# In the order of writing: what is cheap comes first. From records to yolo they are those of `elysium.exports`, named
# here once more because `--help` should not wait for NumPy.
FORMATS = ("json", "csv", "mot", "records", "coco", "labelstudio", "cvat", "yolo", "mp4", "gif")
DEFAULT_SAVE = "mp4,json"
_SUFFIXES = {
    "json": ".json",
    "csv": ".csv",
    "mot": ".mot.txt",
    "records": ".records.jsonl",
    "coco": ".coco.json",
    "labelstudio": ".labelstudio.json",
    "cvat": ".cvat.xml",
    "yolo": ".yolo",  # a folder
    "mp4": ".mp4",
    "gif": ".gif",
}
_OTHER_FILES = {".avi", ".mov", ".mkv", ".webm", ".m4v", ".gif", ".jpg", ".png"}
_OTHER_FILES |= {".json", ".jsonl", ".csv", ".txt", ".xml"}


@dataclass(frozen=True)
class OutputPlan:
    """The files to write: `folder / names[format]` for every format; nothing when `names` is empty.

    `numbered`: the folder must be new; when it exists, `-2`, `-3`, ... is tried.
    """

    folder: Path
    names: dict[str, str] = field(default_factory=dict)
    numbered: bool = False


def without_pictures(plan: OutputPlan, frames: FrameSource, chosen: bool) -> OutputPlan:
    """The plan for a source that may be live: its frames cannot be read a second time to be drawn on.

    Raises InputError if pictures were ``chosen`` all the same.
    """
    pictures = [name for name in ("mp4", "gif") if name in plan.names]
    if not frames.live or not pictures:
        return plan
    if chosen:
        frames.close()
        raise InputError(
            f"A live source is over when it has been tracked, and cannot be drawn on as {pictures[0]}",
            "Use `elysium stream ... --output FILE.mp4`, or --save json.",
        )
    return replace(plan, names={name: file for name, file in plan.names.items() if name not in pictures})


def parse_formats(save: str) -> tuple[str, ...]:
    """`"mp4,json"` -> the formats in the order of writing; `"none"` -> (). Raises InputError."""
    wanted = [part.strip().lower() for part in save.split(",") if part.strip()]
    unknown = [part for part in wanted if part not in (*FORMATS, "none")]
    if unknown or not wanted:
        raise InputError(
            f"--save {save!r} names no format that is known", f"Use some of {', '.join(FORMATS)}, or none."
        )
    if "none" in wanted:
        if len(set(wanted)) > 1:
            raise InputError(f"--save {save!r} says none and something else", "Drop one of them.")
        return ()
    return tuple(name for name in FORMATS if name in wanted)


def folder_names(formats: tuple[str, ...]) -> dict[str, str]:
    """File names inside a folder of results: `annotated.*` is to be looked at, `tracks.*` to be read."""
    return {name: ("annotated" if name in ("mp4", "gif") else "tracks") + _SUFFIXES[name] for name in formats}


def stem_names(stem: str, formats: tuple[str, ...]) -> dict[str, str]:
    """File names that share one stem: `clip.mp4`, `clip.json`, ..."""
    return {name: stem + _SUFFIXES[name] for name in formats}


def plan_output(output: str | None, save: str, source: str, default_folder: Path) -> OutputPlan:
    """Decide where to write and prove that it can be written there, without leaving anything behind.

    Args:
        output: a folder, a file name in `.mp4`, or None for `default_folder`, numbered up.
        save: formats as in `--save`.
        source: what is tracked; it is never written over.

    Raises:
        InputError: unknown formats, a file name that is not a video, `--save none` beside `--output`.
        OutputError: the place cannot be written.
    """
    formats = parse_formats(save)
    if output is None:
        plan = OutputPlan(default_folder, folder_names(formats), numbered=True)
    elif not formats:
        raise InputError("--output is given, but --save none writes nothing", "Drop one of them.")
    else:
        plan = _plan_for(Path(output), formats)
    if plan.names:
        _check_targets(plan, source)
    return plan


def _plan_for(output: Path, formats: tuple[str, ...]) -> OutputPlan:
    """A file in `.mp4` brings its JSON along, beside it; anything else that is no file name is a folder."""
    suffix = output.suffix.lower()
    if suffix == ".mp4":
        named = tuple(name for name in FORMATS if name in {*formats, "mp4", "json"})
        return OutputPlan(output.parent, stem_names(output.stem, named) | {"mp4": output.name})
    if suffix in _OTHER_FILES and not output.is_dir():
        raise InputError(
            f"--output {str(output)!r} is neither a folder nor an .mp4 file",
            "Choose other formats with --save.",
        )
    return OutputPlan(output, folder_names(formats))


def _check_targets(plan: OutputPlan, source: str) -> None:
    """Raise OutputError when a file of the plan is a folder, is the source, or cannot be made.

    The folder of labels must be free, or one that was written here before.
    """
    check_writable(plan.folder)
    if plan.numbered:
        return
    for name, file_name in plan.names.items():
        target = plan.folder / file_name
        if name == "yolo":
            from elysium.exports import check_yolo_folder

            check_yolo_folder(target)
        elif target.is_dir():
            raise OutputError(f"{str(target)!r} is a folder", "Choose another --output.")
        elif target.exists() and Path(source).exists() and target.samefile(source):
            raise OutputError(f"--output would write over the source {source!r}", "Choose another --output.")


def check_writable(folder: Path) -> None:
    """Raise OutputError unless `folder`, or the nearest folder above it that exists, takes a new file."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise OutputError(
            f"Cannot write into {str(folder)!r}: {str(place)!r} is a file", "Choose another --output."
        )
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise output_error(folder, error) from error


def save_result(result: TrackResult, plan: OutputPlan) -> tuple[dict[str, Path], list[ElysiumError]]:
    """Write every file of `plan`. One that fails does not stop the others.

    Returns:
        The paths written by format, and the errors. A folder in which nothing was written is gone again.
    """
    written: dict[str, Path] = {}
    failed: list[ElysiumError] = []
    if not plan.names:
        return written, failed
    folder, made = make_folder(plan)
    try:
        for name, file_name in plan.names.items():
            path = folder / file_name
            try:
                _writer(result, name)(path)
                written[name] = path
            except ElysiumError as error:
                failed.append(error)
    finally:
        remove_empty(made)
    return written, failed


def _writer(result: TrackResult, name: str) -> Callable[[Path], object]:
    """The function that writes `result` in the format `name` to a path."""
    writers: dict[str, Callable[[Path], object]] = {
        "json": result.to_json,
        "csv": result.to_csv,
        "mot": result.to_mot,
        "mp4": result.save_video,
        "gif": result.save_video,
    }
    return writers[name] if name in writers else partial(result.export, format=name)


def make_folder(plan: OutputPlan) -> tuple[Path, list[Path]]:
    """Make the plan's folder, under a free number if it must be new.

    Returns:
        The folder, and the folders that were made for it, innermost first. Raises OutputError.
    """
    folder, number = plan.folder, 1
    while True:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(exist_ok=not plan.numbered)
            return folder, missing
        except FileExistsError as error:
            if not plan.numbered:
                raise output_error(folder, error) from error
            number += 1
            folder = plan.folder.with_name(f"{plan.folder.name}-{number}")
        except OSError as error:
            remove_empty(missing)
            raise output_error(folder, error) from error


def remove_empty(folders: list[Path]) -> None:
    """Remove those of `folders` (innermost first) that hold nothing."""
    with suppress(OSError):  # rmdir refuses a folder that holds something, and all above it hold that one
        for folder in folders:
            folder.rmdir()
