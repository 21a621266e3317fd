"""The output folder of `elysium build`: what is where in it, and which videos are done.

    records.jsonl            one line for each trajectory that was kept, in the order of the captions
    frames/<id>/000123.jpg   the frames of the records, named by their index in the video
    manifest.json            what the records were made of and with, and the funnel
    failures.jsonl           videos that nothing could be made of, and why; not there if there are none
    .videos/<xx>/<id>.json   what came of each video; the report reads it, and a run that goes on skips it

A video is done when its result is there with the digest of what it would be made of now. Knows files; does not know how
a video becomes a result.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elysium.building.captions import CaptionedVideo
from elysium.building.clips import VideoClip, write_frames
from elysium.building.results import FRAMES, VideoResult, from_json, to_json
from elysium.cluster import Mark
from elysium.errors import InputError, SourceError
from elysium.files import atomic_path, atomic_write_text, ensure_folder, output_error

RECORDS, MANIFEST, FAILURES, RESULTS = "records.jsonl", "manifest.json", "failures.jsonl", ".videos"
_FORM = 1  # of the results; another one is made anew


@dataclass(frozen=True)
class Failure:
    """A video that nothing could be made of."""

    id: str
    video: str
    error: str


@dataclass(frozen=True)
class Store:
    """An output folder. Picklable: every process that builds has its own."""

    folder: Path

    def prepare(self) -> None:
        """Make the folder. Raises OutputError if nothing can be written there, InputError if it holds other things."""
        ensure_folder(self.folder)
        if (self.folder / RECORDS).exists() and not (self.folder / RESULTS).exists():
            told = f"{str(self.folder)!r} holds a {RECORDS} that elysium build did not write"
            raise InputError(told, "Choose another --output.")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out, where the system can. Raises InputError if there is one."""
        path = self.folder / RESULTS / "lock"
        try:
            path.parent.mkdir(exist_ok=True)
            file = path.open("w")
        except OSError as error:
            raise output_error(path, error) from error
        with file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, however it ends
            except ImportError:  # Windows
                pass
            except OSError as error:
                told = f"Another run is writing to {str(self.folder)!r}"
                raise InputError(told, "Wait for it, or choose another --output.") from error
            yield

    def result_path(self, id: str) -> Path:
        """Where the result of a video lies; by a hash, so that no folder holds too many."""
        return self.folder / RESULTS / hashlib.sha256(id.encode()).hexdigest()[:2] / f"{id}.json"

    def digest(self, id: str) -> str | None:
        """What the result of a video was made of; None if there is none."""
        try:
            with self.result_path(id).open(encoding="utf-8") as file:
                head = json.loads(file.readline())
        except (OSError, ValueError):
            return None
        return head.get("digest") if isinstance(head, dict) and head.get("form") == _FORM else None

    def write_frames(self, result: VideoResult, clip: VideoClip | None) -> None:
        """The images of the records of a video, before its result says that they are there; without records those of an
        earlier one are taken away, and before that its result, which would say that they are there still.

        Raises OutputError, SourceError.
        """
        try:
            self.result_path(result.id).unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self.result_path(result.id), error) from error
        if result.kept and clip is not None:
            write_frames(clip, self.folder, f"{FRAMES}/{result.id}")
        else:
            shutil.rmtree(self.folder / FRAMES / result.id, ignore_errors=True)

    def save(self, result: VideoResult, digest: str) -> None:
        """Raises OutputError."""
        head = json.dumps({"form": _FORM, "digest": digest})
        body = json.dumps(to_json(result), ensure_ascii=False, allow_nan=False)
        atomic_write_text(self.result_path(result.id), f"{head}\n{body}\n")

    def load(self, id: str) -> VideoResult:
        """Raises SourceError if there is none that can be read."""
        path = self.result_path(id)
        try:
            return from_json(json.loads(path.read_text(encoding="utf-8").partition("\n")[2]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SourceError(f"Cannot read {str(path)!r}: {error}", "Run `elysium build` again.") from error

    def mark(self, id: str, run: str) -> Mark:
        """Of a video that is being worked on."""
        return Mark(self.result_path(id).with_suffix(".begun"), run)

    # --- the files for readers ---

    def write_records(self, results: Iterable[VideoResult], source: str) -> int:
        """Write records.jsonl; how many there are."""
        count = 0
        with atomic_path(self.folder / RECORDS) as path, path.open("w", encoding="utf-8", newline="") as file:
            for result in results:
                for record in result.records(source):
                    file.write(record.to_json() + "\n")
                    count += 1
        return count

    def write_failures(self, failures: Sequence[Failure]) -> None:
        """Write failures.jsonl, or take an old one away."""
        if not failures:
            (self.folder / FAILURES).unlink(missing_ok=True)
            return
        lines = [json.dumps(vars(failure), ensure_ascii=False) + "\n" for failure in failures]
        atomic_write_text(self.folder / FAILURES, "".join(lines))


def digest_of(captioned: CaptionedVideo, video: Path | None, about: Any) -> str:
    """Says whether a result is still what would be made: of the line, the file (its size and time; of a folder those of
    all files in it), and ``about``. Raises SourceError for a file that cannot be looked at."""
    mark: list[Any] | None = None
    if video is not None:
        try:
            mark = _mark(video) if video.is_file() else [[path.name, *_mark(path)] for path in sorted(video.iterdir())]
        except OSError as error:
            raise SourceError(f"Cannot read {str(video)!r}: {error}", "Check the file.") from error
    text = json.dumps([captioned.model_dump(exclude_defaults=True), mark, about], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _mark(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
