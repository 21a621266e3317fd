"""Images by the paths that records give them: files below a folder, or members of tar files that lie in it.

The frames of ElysiumTrack-1M are published in tar files; they need not be unpacked. Of each ``frames-000.tar`` an index
is made once, in one pass over it, and kept beside it (``frames-000.tar.index.npz``); it is made again when the file is
another one. A member is found by a hash of its name, so that millions of names take no memory.

Knows paths, tar files, bytes. Does not know what records are for.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from elysium.data.records.model import Record
from elysium.errors import InputError, OutputError, SourceError
from elysium.files import atomic_path
from elysium.readers import ImageArray, read_picture

FIRST_RECORDS = 20  # that are looked at: if none of their images is there, the folder is the wrong one
SUFFIX = ".index.npz"
_VERSION = 2
_MEMBER = np.dtype([("hash", np.uint64), ("start", np.int64), ("size", np.int64)])


class ImageFolder:
    """The images of records. Files are looked for first, then members of the folder's own ``*.tar``.

    Raises:
        SourceError: there is no such folder, or a tar file cannot be read. InputError: a tar file is compressed, which
        has no random access.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise SourceError(f"There is no folder of images {str(folder)!r}", "Name it with --images, or as images.")
        self._tars = [TarFile(path) for path in sorted(self.folder.glob("*.tar"))]

    def find(self, name: str) -> Path | BytesIO | None:
        """Where an image is to be read from, None if it is not there. Raises SourceError if a tar cannot be read."""
        place = self._place(name)
        return BytesIO(place.read(name) or b"") if isinstance(place, TarFile) else place

    def __contains__(self, name: str) -> bool:
        return self._place(name) is not None

    def _place(self, name: str) -> Path | TarFile | None:
        """The file, or the tar file that has it."""
        if name.startswith(("/", "\\")) or ".." in Path(name).parts:
            return None  # it leaves the folder
        path = self.folder / name
        try:
            if path.is_file():
                return path
        except OSError:  # a name that is too long for a file may still be a member's
            pass
        return next((tar for tar in self._tars if name in tar), None)

    def read(self, name: str) -> ImageArray:
        """An image as (H, W, 3) uint8 RGB, upright. Raises SourceError for one that is not there or is broken."""
        return np.array(self.picture(name))

    def picture(self, name: str) -> Image.Image:
        """The same as an image of Pillow."""
        found = self.find(name)
        return read_picture(self.folder / name, found if isinstance(found, BytesIO) else None)

    def content(self, name: str) -> bytes | None:
        """The bytes of an image as they are stored, None if it is not there. Raises SourceError."""
        found = self.find(name)
        try:
            return found.read_bytes() if isinstance(found, Path) else None if found is None else found.getvalue()
        except OSError as error:
            raise SourceError(f"Cannot read {found}: {error.strerror or error}", "Check the path.") from error


class TarFile:
    """The members of a tar file by their names. Processes that are forked, or get a pickled one, open it anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        mark = _mark(path)
        self._members = _read_index(path, mark)
        if self._members is None:
            self._members = _make_index(path, mark)
        self._file: int | None = None
        self._process = 0

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def read(self, name: str) -> bytes | None:
        """The bytes of a member, the last of that name; None if there is none."""
        member = self._find(name)
        if member is None:
            return None
        if self._file is None or self._process != os.getpid():
            try:
                self._file, self._process = os.open(self.path, os.O_RDONLY), os.getpid()
            except OSError as error:
                raise SourceError(f"Cannot read {self.path}: {error.strerror or error}", "Check the path.") from error
        return os.pread(self._file, int(member["size"]), int(member["start"]))

    def _find(self, name: str) -> Any:
        assert self._members is not None
        wanted = _hash(name)
        place = int(np.searchsorted(self._members["hash"], wanted, side="right")) - 1  # behind earlier ones of the name
        return self._members[place] if place >= 0 and self._members["hash"][place] == wanted else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None and self._process == os.getpid():
            os.close(self._file)  # type: ignore[arg-type]


def check_images(records: Iterable[Record], images: Path) -> None:
    """Raise SourceError if ``images`` is no folder, or holds the first frame of none of these records."""
    folder = ImageFolder(images)
    tried = [record.frames[0] for record in records if record.frames]
    if tried and all(name not in folder for name in tried):
        raise SourceError(
            f"{str(images)!r} holds none of the frames of the annotations (for example {tried[0]!r})",
            "Paths in the annotations are relative to that folder.",
        )


def _hash(name: str) -> np.uint64:
    """Of a name without ``./`` in front."""
    plain = name.removeprefix("./").encode("utf-8", "surrogateescape")
    return np.uint64(int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little"))


def _mark(path: Path) -> str:
    """What changes when the file does, or how it is indexed: its size and the time it was written."""
    try:
        found = path.stat()
    except OSError as error:
        raise SourceError(f"Cannot read {path}: {error.strerror or error}", "Check the path.") from error
    return f"{_VERSION} {found.st_size} {found.st_mtime_ns}"


def _read_index(path: Path, mark: str) -> NDArray[Any] | None:
    """The index beside the file, if it is of this very file."""
    try:
        with np.load(path.with_name(path.name + SUFFIX), allow_pickle=False) as found:
            return found["members"] if str(found["mark"]) == mark else None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _make_index(path: Path, mark: str) -> NDArray[Any]:
    try:
        with tarfile.open(path, "r:") as tar:  # not compressed
            whole = (member for member in tar if member.isfile() and not member.issparse())
            members = np.fromiter(((_hash(m.name), m.offset_data, m.size) for m in whole), dtype=_MEMBER)
    except tarfile.ReadError as error:
        told = f"{path} is no tar file, or a compressed one ({error})"
        raise InputError(told, "Unpack it, or take it away.") from error
    except OSError as error:
        raise SourceError(f"Cannot read {path}: {error.strerror or error}", "Check the path.") from error
    members = members[np.argsort(members["hash"], kind="stable")]  # of one name, the last of the tar stays the last
    try:
        with atomic_path(path.with_name(path.name + SUFFIX)) as temporary, temporary.open("wb") as file:
            np.savez(file, mark=np.array(mark), members=members)
    except OutputError:
        pass  # a folder that is read-only: the index serves this process alone
    return members
