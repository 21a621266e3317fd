"""What a visitor can do, without a page: take a video in, draw, track, correct, describe, ask, save.

The page and the interface for programs both call this. Knows visitors, jobs and limits; checks everything that a
visitor sends before it goes any further. Raises ElysiumErrors, whose sentences are for the visitor.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from elysium.app import confine, labels
from elysium.app.clips import Clip
from elysium.app.corrections import Box, Correction, find, nearest_frame, remembered
from elysium.app.jobs import Cancelled, Job, JobQueue
from elysium.app.limits import Limits, check_text
from elysium.app.visitors import Version, Visitor, inside
from elysium.app.work import Options, Outcome, Target
from elysium.boxes import to_xyxy
from elysium.errors import ElysiumError, InputError

MAX_VERSIONS = 20  # results that can be gone back to
MAX_PIXEL = 1e6  # no box that is meant has a side beyond that


class Desk:
    """One for a server.

    Args:
        queue: in front of the model.
        limits: what visitors may ask for.
        root: the folder that uploads arrive in.
        samples: videos of the operator's by the name that visitors see.
        stream: the live source of the operator's, if there is one. A visitor can never name one.
    """

    def __init__(
        self, queue: JobQueue, limits: Limits, root: Path, samples: dict[str, Path] | None = None,
        stream: str | None = None,
    ) -> None:  # fmt: skip
        self.queue, self.limits, self.root = queue, limits, root
        self.samples, self.stream = samples or {}, stream

    def take_in(self, visitor: Visitor, files: Sequence[str | Path], told: Callable[[int], None] | None = None) -> Clip:
        """Make an upload the visitor's clip."""
        paths = [inside(self.root, Path(file)) for file in files]
        name = paths[0].name if len(paths) == 1 else f"{len(paths)} images"
        return self._begin(visitor, paths, name, told)

    def take_sample(self, visitor: Visitor, name: str) -> Clip:
        """Make one of the operator's videos the visitor's clip."""
        if name not in self.samples:
            raise InputError(f"There is no sample {name!r}", "Choose one of those shown.")
        path = self.samples[name]
        return self._begin(visitor, [path], path.name, None)

    def _begin(
        self, visitor: Visitor, files: list[Path], name: str, told: Callable[[int], None] | None
    ) -> Clip:
        self.queue.cancel(visitor.name, abandon=True)
        folder = visitor.coming = visitor.new_folder("clip")
        unwanted = lambda: visitor.gone or visitor.coming != folder  # noqa: E731
        clip = confine.take_in(files, folder, name, self.limits, told=told, unwanted=unwanted)
        if unwanted():
            shutil.rmtree(folder, ignore_errors=True)
            raise Cancelled("Another video has been opened since")
        self.queue.cancel(visitor.name, abandon=True)  # what was asked of the old clip in the meantime
        visitor.begin(clip)
        return clip

    def clip(self, visitor: Visitor) -> Clip:
        """The visitor's clip. Raises InputError if there is none."""
        if visitor.clip is None:
            raise InputError("There is no video yet", "Upload one, or pick a sample.")
        return visitor.clip

    def version(self, visitor: Visitor) -> Version:
        """The visitor's present result. Raises InputError if there is none."""
        if visitor.version is None:
            raise InputError("There is no result yet", "Track something first.")
        return visitor.version

    def show(self, visitor: Visitor, frame: int) -> int:
        """Bring a frame into view; returns its number, inside the clip."""
        visitor.shown = min(max(0, int(frame)), len(self.clip(visitor)) - 1)
        return visitor.shown

    def draw(self, visitor: Visitor, frame: int, boxes: Sequence[Sequence[float]]) -> None:
        """Remember the boxes (xyxy pixels) that stand on a frame now; parts outside the frame are cut off."""
        clip = self.clip(visitor)
        kept = self._boxes(boxes, clip)
        if kept:
            visitor.drawn[frame] = kept
        else:
            visitor.drawn.pop(frame, None)

    def _boxes(self, boxes: Sequence[Sequence[float]], clip: Clip) -> list[Box]:
        """Boxes of a visitor's, checked. Raises InputError for what is no box, or too many."""
        if len(boxes) > self.limits.max_objects:
            raise InputError(f"{len(boxes)} boxes are too many", f"Draw at most {self.limits.max_objects}.")
        checked: list[Box] = []
        for box in boxes:
            if not _is_box(box):
                raise InputError(f"{box!r} is no box", "Give left, top, right, bottom in pixels.")
            x1, y1, x2, y2 = to_xyxy([box], "xyxy", clip.resolution_wh).boxes[0].tolist()
            checked.append((x1, y1, x2, y2))
        return checked

    def targets(self, visitor: Visitor, text: str) -> list[Target]:
        """What is to be followed: boxes from the frames they were drawn on, each line of words from the first of these
        frames, or from the start of the clip where there is none. Raises InputError for nothing, or too much."""
        self.clip(visitor)
        found = [Target(frame, box=box) for frame, boxes in sorted(visitor.drawn.items()) for box in boxes]
        first = min(visitor.drawn, default=0)
        lines = [line for line in text.replace(";", "\n").splitlines() if line.strip()]
        found += [Target(first, expression=check_text(line, "sentence", self.limits)) for line in lines]
        if not found:
            raise InputError("There is nothing to follow yet", "Draw a box on the frame, or say what to follow.")
        if len(found) > self.limits.max_objects:
            raise InputError(
                f"{len(found)} objects are too many at once", f"Follow at most {self.limits.max_objects}."
            )
        return found

    def track(self, visitor: Visitor, targets: Sequence[Target], options: Options) -> Job:
        """Start tracking; `keep` what comes of it."""
        if not 1 <= options.stride <= 60:
            raise InputError(f"Every {options.stride}th frame makes no sense", "Use 1 to 60.")
        clip = self.clip(visitor)
        return self.queue.submit(
            visitor.name, "track", clip=clip, targets=list(targets), options=options,
            folder=visitor.new_folder("result"),
        )  # fmt: skip

    def keep(self, visitor: Visitor, job: Job) -> Version:
        """Make what `track` gives the visitor's present result; what was there before goes. Waits for the job."""
        outcome = self._outcome(visitor, job)
        visitor.forget_versions()
        visitor.versions.append(Version(outcome))
        return visitor.versions[-1]

    def _outcome(self, visitor: Visitor, job: Job) -> Outcome:
        """What a job gave. Raises what it ended with, Cancelled if the visitor has gone on to another video since."""
        try:
            outcome: Outcome = job.result()
        except ElysiumError:
            if "folder" in job.arguments:  # half a result may be there
                shutil.rmtree(inside(visitor.folder, job.arguments["folder"]), ignore_errors=True)
            raise
        if visitor.gone or job.arguments["clip"] is not visitor.clip:
            visitor.forget(outcome)
            raise Cancelled("Another video has been opened since")
        return outcome

    def correct(
        self, visitor: Visitor, track_id: int, frame: int, box: Sequence[float] | None, to_end: bool = False
    ) -> Job:
        """Start tracking on from a correction; `keep_correction` what comes of it.

        Args:
            track_id: the object.
            frame: where; the processed frame at or before it counts.
            box: where it is, xyxy pixels; None: it is not there.
            to_end: not there up to the end either.
        """
        clip, version = self.clip(visitor), self.version(visitor)
        result = version.outcome.result
        find(result, track_id)
        index = nearest_frame(result, frame)
        correction = Correction(index, None if box is None else self._boxes([box], clip)[0], to_end)
        return self.queue.submit(
            visitor.name, "track_on", clip=clip, outcome=version.outcome, track_id=track_id, correction=correction,
            earlier=version.corrections.get(track_id, {}), folder=visitor.new_folder("result"),
        )  # fmt: skip

    def keep_correction(self, visitor: Visitor, job: Job) -> Version:
        """Make what `correct` gives the present result; `undo` goes back. Waits for the job."""
        outcome, asked = self._outcome(visitor, job), job.arguments
        before = next((version for version in visitor.versions if version.outcome is asked["outcome"]), None)
        if before is None:
            visitor.forget(outcome)
            raise Cancelled("The result that was corrected has been taken back since")
        corrections = remembered(before.corrections, asked["track_id"], asked["correction"])
        visitor.versions.append(Version(outcome, corrections))
        visitor.forget_versions(MAX_VERSIONS)
        return visitor.versions[-1]

    def undo(self, visitor: Visitor) -> Version:
        """Go back to the result before the last correction. Raises InputError if there was none."""
        if len(visitor.versions) < 2:
            raise InputError("There is no correction to take back", "Correct something first.")
        visitor.forget(visitor.versions.pop().outcome)
        return visitor.versions[-1]

    def describe(self, visitor: Visitor, frame: int, boxes: Sequence[Sequence[float]]) -> Job:
        """Start describing what is in boxes (xyxy pixels) of a frame; gives a list of texts."""
        clip = self.clip(visitor)
        checked = self._boxes(boxes, clip)
        if not checked:
            raise InputError("There is no box to describe", "Draw one on the frame.")
        return self.queue.submit(visitor.name, "describe", clip=clip, frame=self.show(visitor, frame), boxes=checked)

    def ask(self, visitor: Visitor, question: str) -> Job:
        """Start answering a question about the clip; gives the answer and warnings."""
        clip = self.clip(visitor)
        return self.queue.submit(visitor.name, "ask", clip=clip, question=check_text(question, "question", self.limits))

    def ground(self, visitor: Visitor, frame: int, expressions: Sequence[str]) -> Job:
        """Start finding words in a frame; gives a (box or None, score) for each, and warnings."""
        clip = self.clip(visitor)
        words = [check_text(text, "sentence", self.limits) for text in expressions]
        if not words or len(words) > self.limits.max_objects:
            raise InputError(f"{len(words)} sentences", f"Give 1 to {self.limits.max_objects}.")
        return self.queue.submit(visitor.name, "ground", clip=clip, frame=self.show(visitor, frame), expressions=words)

    def live(self, visitor: Visitor, text: str) -> Job:
        """Start following words in the operator's stream; its progress has the images."""
        if self.stream is None:
            raise InputError("This server has no live source", "Start it with `elysium app --stream SOURCE`.")
        lines = [line for line in text.replace(";", "\n").splitlines() if line.strip()]
        words = [check_text(line, "sentence", self.limits) for line in lines]
        if not words:
            raise InputError("There is nothing to follow yet", "Say what to follow.")
        return self.queue.submit(
            visitor.name, "live", source=self.stream, expressions=words[: self.limits.max_objects], boxes=[],
            seconds=self.limits.live_seconds,
        )  # fmt: skip

    def make_gif(self, visitor: Visitor) -> Job:
        """Start making a GIF of the present result; `keep_gif` it."""
        version = self.version(visitor)
        return self.queue.submit(visitor.name, "make_gif", clip=self.clip(visitor), outcome=version.outcome)

    def keep_gif(self, visitor: Visitor, job: Job) -> Version:
        """Put the GIF among the files of the result that it shows."""
        outcome = self._outcome(visitor, job)
        for place, version in enumerate(visitor.versions):
            if version.outcome is job.arguments["outcome"]:
                visitor.versions[place] = replace(version, outcome=replace(version.outcome, files=outcome.files))
        return self.version(visitor)

    def save_labels(self, visitor: Visitor) -> Path:
        """The result as records with their images, in one ZIP file in the visitor's folder."""
        version = self.version(visitor)
        if visitor.labels is not None:
            shutil.rmtree(inside(visitor.folder, visitor.labels), ignore_errors=True)
        confine.check_room(visitor.folder, self.limits)
        folder = visitor.labels = visitor.new_folder("labels")
        folder.mkdir()
        return labels.write_labels(self.clip(visitor), version.outcome.result, version.corrections, folder)

    def cancel(self, visitor: Visitor) -> bool:
        """Stop the visitor's job; False if there is none."""
        return self.queue.cancel(visitor.name)


def _is_box(value: object) -> bool:
    """Whether something that a visitor sent is four numbers of a size that a frame could have."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 4
        and all(isinstance(side, int | float) and abs(side) < MAX_PIXEL for side in value)  # NaN is not less
    )


def frame_box(track_box: Sequence[float]) -> Box | None:
    """Four numbers of a track as a box, None where it has none."""
    x1, y1, x2, y2 = (float(value) for value in track_box)
    return None if any(map(math.isnan, (x1, y1, x2, y2))) else (x1, y1, x2, y2)


def clip_names(folder: Path | None) -> dict[str, Path]:
    """The videos of a folder by their names without the ending; of two with one name the first."""
    from elysium.video import VIDEO_SUFFIXES, natural_key

    if folder is None:
        return {}
    found = sorted((path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES), key=natural_key)
    return {path.stem: path for path in reversed(found)}
