"""What a converter is: labels in another form, cut into units that know nothing of each other, and records out of each.

Knows: units, options, records. Does not know: which converters there are (`registry`), processes and files
(`elysium.data.units`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from elysium.data.records import Record
from elysium.data.units import LeftOut as LeftOut  # converters take these from here
from elysium.data.units import Unit as Unit
from elysium.errors import InputError


@dataclass(frozen=True)
class Options:
    """What a converter may be told.

    Attributes:
        split: which of ``Converter.splits``; None for the first of them.
        images: the folder that image paths are relative to, where labels and images lie apart; see :func:`image_root`.
        frames: how many frames of a video are taken, evenly spread, where the source has videos and no boxes.
    """

    split: str | None = None
    images: Path | None = None
    frames: int = 16


@dataclass(frozen=True)
class Converter:
    """Labels of one kind.

    Attributes:
        about: what SRC must hold, in one line.
        units: the pieces of a source, in an order that never changes; told lazily. Raises SourceError for a source that
            is not there, InputError for one that is something else.
        records: the records of one piece, image paths relative to :func:`image_root`. Raises ElysiumError where it is
            broken; warns with LeftOut of entries that no record can be made of.
        splits: the choices of ``Options.split``, the default first; none where there is nothing to choose.
        takes: the other options that it looks at, by their names.
    """

    about: str
    units: Callable[[Path, Options], Iterable[Unit]]
    records: Callable[[Path, Unit, Options], Iterable[Record]]
    splits: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


def image_root(source: Path, options: Options) -> Path:
    """The folder that image paths are relative to: the one that was named, else the source or the folder it is in."""
    if options.images is not None:
        return options.images
    return source if source.is_dir() else source.parent


def checked(name: str, converter: Converter, options: Options) -> Options:
    """The options with the default split. Raises InputError for a split that there is not, and for options that the
    converter does not look at."""
    for field, default in (("images", None), ("frames", Options.frames)):
        if getattr(options, field) != default and field not in converter.takes:
            raise InputError(f"{name} has no use for --{field}", "Leave it out.")
    if not converter.splits:
        if options.split is not None:
            raise InputError(f"{name} has no splits", "Leave --split out.")
        return options
    split = converter.splits[0] if options.split is None else options.split
    if split not in converter.splits:
        raise InputError(f"{name} has no split {split!r}", f"Use one of {', '.join(converter.splits)}.")
    return Options(split, options.images, options.frames)
