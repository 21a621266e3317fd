"""Writing files so that nobody ever sees half of one.

Everything is written under a temporary name in the target's own folder and then renamed over it. Knows about
paths only, nothing about what is inside the files.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from elysium.errors import InputError, OutputError

_REMEDY = "Choose another output path, or check the permissions and the free space there."


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """Turn an `OSError` met while writing `path` into an `OutputError` that names the path."""
    return OutputError(f"Cannot write {os.fspath(path)!r}: {error.strerror or error}", _REMEDY)


def check_target(output: Path, *sources: Path) -> None:
    """Raise InputError where the file to be written is a folder, or one of those that are read."""
    if not output.name or output.is_dir():
        raise InputError(f"{str(output)!r} is a folder", "Name a file in it.")
    if any(output.resolve() == source.resolve() for source in sources):
        raise InputError(f"{output} would be written over while it is read", "Choose another name.")


def ensure_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder `path` (and its parents) and prove that files can be made in it.

    Call it before hours of work, not after. Raises OutputError.
    """
    folder = Path(path)
    probe = folder / f".elysium-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise output_error(folder, error) from error
    return folder


def check_free_folder(path: str | os.PathLike[str]) -> None:
    """Raise OutputError unless `path` is an empty folder, or nothing, where one can be made."""
    target = Path(path)
    if target.exists():
        if not target.is_dir() or any(target.iterdir()):
            raise OutputError(f"{str(target)!r} is not an empty folder", "Name a new one.")
        return
    place = next(above for above in target.absolute().parents if above.exists())
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise OutputError(f"No folder can be made in {str(place)!r}", _REMEDY)


def temporary_beside(path: str | os.PathLike[str]) -> Path:
    """A free hidden name in the folder of `path` with the same suffix (libraries guess formats by suffix)."""
    target = Path(path)
    return target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on any exception it is removed.

    Missing parent folders are made; an existing file is replaced. Raises OutputError for any `OSError` of the
    body or of the renaming.
    """
    target = Path(path)
    temporary = temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new folder beside `path`; on success it takes the place of `path`, which must be nothing or an empty
    folder, on any exception it is removed. Raises OutputError for any `OSError`."""
    target = Path(path).resolve()
    temporary = temporary_beside(target)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if target.is_dir():
            target.rmdir()  # not every system puts a folder in the place of another
        os.replace(temporary, target)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write `text` (UTF-8, newlines as given) to `path` in one step. Raises OutputError."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    return Path(path)
