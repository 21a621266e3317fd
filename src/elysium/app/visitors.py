"""Who is here: a private folder and what has been done so far, for each visitor; forgotten when they leave.

A visitor's folder has a random name under one root, mode 0700, and nothing of a visitor's (a file name, the name of the
session) ever becomes part of a path. Knows folders and times; nothing of pages or models.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from elysium.app.clips import Clip
from elysium.app.corrections import Box, Correction
from elysium.app.limits import Limits, Turned
from elysium.app.work import Outcome
from elysium.errors import InputError, OutputError

FOLDER_PREFIX = "visit-"


@dataclass(frozen=True)
class Version:
    """A result and the corrections by hand that are in it."""

    outcome: Outcome
    corrections: dict[int, dict[int, Correction]] = field(default_factory=dict)  # by track id and frame


@dataclass(eq=False)
class Visitor:
    """One tab of a browser, or one client of the interface for programs.

    Args:
        name: of the session; only compared, never used in a path.
        folder: theirs alone.
        clip: what they look at.
        shown: the frame in view.
        coming: the folder of the newest clip that is being taken in, or was.
        drawn: boxes drawn on frames and not tracked yet, by frame.
        versions: the result and those before the last corrections, newest last.
        gone: they have left; nothing is to be made for them any more.
        labels: the folder with the labelled records that were saved last.
        brief: forgotten sooner than others.
        turn: held by a call of the interface for programs, from its video to its answer.
    """

    name: str
    folder: Path
    clip: Clip | None = None
    coming: Path | None = None
    shown: int = 0
    drawn: dict[int, list[Box]] = field(default_factory=dict)
    versions: list[Version] = field(default_factory=list)
    gone: bool = False
    labels: Path | None = None
    brief: bool = False
    turn: threading.Lock = field(default_factory=threading.Lock)
    seen_s: float = field(default_factory=time.monotonic)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def version(self) -> Version | None:
        """The present result."""
        return self.versions[-1] if self.versions else None

    def new_folder(self, kind: str) -> Path:
        """A path in the visitor's folder that nothing has been written to. ``kind`` is a word of ours."""
        return inside(self.folder, self.folder / f"{kind}-{next(self._numbers)}")

    def begin(self, clip: Clip) -> None:
        """Look at another clip; all that belonged to the one before goes."""
        self.clip, self.shown, self.drawn, self.versions = clip, 0, {}, []
        for entry in self.folder.iterdir():
            if entry not in (clip.folder, self.coming):
                shutil.rmtree(entry, ignore_errors=True)

    def forget_versions(self, keep: int = 0) -> None:
        """Remove results, oldest first, until ``keep`` are left, and their files."""
        while len(self.versions) > keep:
            self.forget(self.versions.pop(0).outcome)

    def forget(self, outcome: Outcome) -> None:
        """Remove the files of a result."""
        for folder in {path.parent for path in outcome.files.values()}:
            shutil.rmtree(inside(self.folder, folder), ignore_errors=True)


def inside(folder: Path, path: Path) -> Path:
    """``path``, resolved. Raises InputError unless it lies in ``folder``, links followed."""
    target = path.resolve()
    if folder.resolve() not in target.parents:
        raise InputError("This file does not belong to this visit", "Upload it again.")
    return target


class Visitors:
    """All visitors of one server.

    Args:
        root: the folder of all folders; made private, and removed with `close`.
        limits: how many there may be, and for how long they may do nothing.
        left: told the name of everybody who goes, before the files are removed.
    """

    def __init__(self, root: Path, limits: Limits, left: Callable[[str], object] = lambda name: None) -> None:
        self.root, self.limits, self._left = root, limits, left
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            root.chmod(0o700)
        except OSError as error:
            raise OutputError(f"Cannot make the folder {str(root)!r}: {error.strerror}", "Set TMPDIR.") from error
        self._all: dict[str, Visitor] = {}
        self._lock = threading.Lock()

    def get(self, name: str, *, brief: bool = False) -> Visitor:
        """The visitor of this session, who is new if nobody knows them. Raises Turned if there are too many.

        With ``brief`` a new one is forgotten sooner.
        """
        with self._lock:
            visitor = self._all.get(name)
            if visitor is None:
                if len(self._all) >= self.limits.max_visitors:
                    raise Turned("Too many people are here just now", "Try again in a few minutes.")
                folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=self.root))  # random name, mode 0700
                visitor = self._all[name] = Visitor(name, folder, brief=brief)
            visitor.seen_s = time.monotonic()
            return visitor

    def __len__(self) -> int:
        return len(self._all)

    def leave(self, name: str) -> None:
        """Forget a visitor, and remove what is theirs."""
        with self._lock:
            visitor = self._all.pop(name, None)
        if visitor is not None:
            visitor.gone = True
            self._left(name)
            shutil.rmtree(visitor.folder, ignore_errors=True)

    def sweep(self, busy: Callable[[str], bool] = lambda name: False) -> None:
        """Forget those who have been idle for too long, but for the ``busy``, and what others left behind."""
        now = time.monotonic()
        with self._lock:
            idle = [name for name, item in self._all.items() if now - item.seen_s > self._patience_s(item)]
        for name in idle:
            if not busy(name):
                self.leave(name)
        with self._lock:  # a job may have written into a folder while it was being removed
            known = {item.folder for item in self._all.values()}
            for folder in self.root.glob(FOLDER_PREFIX + "*"):
                if folder not in known:
                    shutil.rmtree(folder, ignore_errors=True)

    def _patience_s(self, visitor: Visitor) -> float:
        return self.limits.brief_seconds if visitor.brief else self.limits.idle_seconds

    def close(self) -> None:
        """Forget everybody and remove the root."""
        for name in list(self._all):
            self.leave(name)
        shutil.rmtree(self.root, ignore_errors=True)
