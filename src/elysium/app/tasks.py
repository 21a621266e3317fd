"""What the model is asked to do, in its own process: track, track on from a correction, describe, ask, ground, live.

Knows models, clips and results; nothing of pipes, visitors or pages. A task that is cancelled gives what it has.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from elysium import draw, gif
from elysium.app.clips import Clip, file_stem
from elysium.app.corrections import (
    Box,
    Correction,
    Row,
    corrected,
    find,
    frames_to_redo,
    last_seen,
    merged,
    replaced,
    rows_of,
)
from elysium.app.work import Options, Outcome, Target
from elysium.boxes import clip_to_frame
from elysium.errors import ElysiumError, InputError
from elysium.files import output_error
from elysium.inference.pipelines import Elysium
from elysium.inference.streaming import StreamTracker
from elysium.tracks import Track, TrackRecorder, TrackResult
from elysium.video import Frame, open_source

LIVE_CLIP = 2  # frames in a clip of a live view: each is shown when the next one comes
LIVE_WIDTH = 960  # pixels; what is wider is sent smaller
LIVE_JPEG_QUALITY = 80


class Told(Protocol):
    """What a task needs of `worker.Report`."""

    @property
    def cancelled(self) -> bool: ...

    def progress(self, stage: str, done: int, total: int | None = None, image: bytes | None = None) -> None: ...


def track(
    model: Elysium, report: Told, clip: Clip, targets: Sequence[Target], options: Options, folder: Path
) -> Outcome:
    """Follow targets through a clip and write the files of the result into ``folder``.

    Objects get ids from 1 in the order of the frames in which they start, in one frame boxes first.
    """
    began = time.monotonic()
    order = sorted(targets, key=lambda target: (target.frame, target.box is None))
    if not order:
        raise InputError("There is nothing to follow: no box and no words", "Draw a box, or say what to follow.")
    indices = range(order[0].frame, len(clip), options.stride)
    tracker = _tracker(model, clip, options)
    waiting = _go_through(tracker, clip, indices, order, report)
    tracks = [*tracker.tracks(), *(_never(number, item) for number, item in _numbered(waiting, len(order)))]
    words = [target.expression for target in order if target.expression]
    warnings = (*model.unknown_words(words), *clip.warnings)
    result = TrackResult(clip.name, model.name, clip.fps, clip.resolution_wh, tuple(tracks), warnings)
    return _outcome(report, clip, result, options, folder, began)


def _go_through(
    tracker: StreamTracker, clip: Clip, indices: Sequence[int], targets: Sequence[Target], report: Told
) -> list[Target]:
    """Track targets, in the order in which they start, through frames of a clip, to the end or until it is cancelled;
    returns those that have not started."""
    waiting = list(targets)
    for done, frame in enumerate(clip.frames(indices), 1):
        due = [target for target in waiting if target.frame <= frame.index]
        waiting = [target for target in waiting if target not in due]
        for target in due:
            tracker.init(frame, box=target.box, expression=target.expression)
        if not due:  # a frame in which objects start is taken with the next one
            tracker.update(frame)
        report.progress("tracking", done, len(indices))
        if report.cancelled:
            return waiting
    tracker.finish()
    return waiting


def _numbered(waiting: list[Target], count: int) -> Iterator[tuple[int, Target]]:
    """The targets at the end of the order, with their numbers."""
    yield from enumerate(waiting, count - len(waiting) + 1)


def _never(number: int, target: Target) -> Track:
    recorder = TrackRecorder(number, target.expression, target.box)
    recorder.note("tracking ended before the frame in which it was to start")
    return recorder.finish()


def _tracker(model: Elysium, clip: Clip, options: Options) -> StreamTracker:
    return model.tracker(search_window=options.search_window, lost_policy=options.lost_policy, fps=clip.fps)


def track_on(
    model: Elysium, report: Told, clip: Clip, outcome: Outcome, track_id: int, correction: Correction,
    earlier: Mapping[int, Correction], folder: Path,
) -> Outcome:  # fmt: skip
    """Take a correction of one object in one frame, track on from there, and write the files anew.

    Frames before the correction stay as they are, those from the next earlier correction on too, and, where this is
    cancelled, those that were not reached.
    """
    began, result = time.monotonic(), outcome.result
    if correction.box is not None:
        correction = replace(correction, box=_inside(correction.box, clip.resolution_wh))
    old = find(result, track_id)
    redo = frames_to_redo(result, correction, earlier)
    news: dict[int, Row | None] = {correction.index: corrected(correction, clip.times_s[correction.index])}
    if correction.to_end and correction.box is None:
        news |= {index: corrected(replace(correction, index=index), clip.times_s[index]) for index in redo}
    elif redo:
        news |= _followed(model, report, clip, outcome.options, old, correction, redo)
    where = "absent" if correction.box is None else "its box"
    note = f"corrected by hand in frame {correction.index}: {where}"
    result = replaced(result, merged(old, news, note))
    return _outcome(report, clip, result, outcome.options, folder, began)


def _inside(box: Box, resolution_wh: tuple[int, int]) -> Box:
    """The part of a box in the frame. Raises InputError if there is none."""
    x1, y1, x2, y2 = clip_to_frame([box], resolution_wh)[0].tolist()
    if not (x2 > x1 and y2 > y1):
        raise InputError("The box has no area inside the frame", "Draw it around the object.")
    return x1, y1, x2, y2


def _followed(
    model: Elysium, report: Told, clip: Clip, options: Options, old: Track, correction: Correction, redo: list[int]
) -> dict[int, Row | None]:
    """The frames of ``redo``, tracked from a correction on; None where the track has ended before. Where this is
    cancelled, those that were reached."""
    tracker = _tracker(model, clip, options)
    box, frames = correction.box, [correction.index, *redo]
    if box is None:  # go on as the tracker does with what is lost: by words, or from where it was last seen
        seen = last_seen(old, correction.index)
        frames = redo
        if not old.expression:
            if seen is None:
                raise InputError("This object was never seen before this frame", "Mark it absent up to the end.")
            x1, y1, x2, y2 = seen[1].tolist()
            box, frames = (x1, y1, x2, y2), [seen[0], *redo]
    _go_through(tracker, clip, frames, [Target(frames[0], box, old.expression)], report)
    rows = rows_of(tracker.tracks()[0])
    return {index: rows.get(index) for index in redo if index in rows or not report.cancelled}


def _outcome(
    report: Told, clip: Clip, result: TrackResult, options: Options, folder: Path, began_s: float
) -> Outcome:
    seconds, stopped = time.monotonic() - began_s, report.cancelled and result.num_frames < len(clip)
    files = write_files(report, clip, result, folder)
    return Outcome(result, files, seconds, stopped, options)


def write_files(report: Told, clip: Clip, result: TrackResult, folder: Path) -> dict[str, Path]:
    """The files of a result: what there is to look at and to read. Without a frame only what is to be read."""
    try:
        folder.mkdir(mode=0o700)  # without those above it: where they are gone, the visitor is
    except OSError as error:
        raise output_error(folder, error) from error
    files = {name: folder / (file_stem(clip.name) + ending) for name, ending in FILES.items()}
    result.to_json(files["json"])
    result.to_csv(files["csv"])
    result.to_mot(files["mot"])
    if not result.num_frames:
        return {name: path for name, path in files.items() if name != "mp4"}
    draw.write_video(_drawn(report, clip, result, "drawing"), result, files["mp4"])
    return files


def _drawn(report: Told, clip: Clip, result: TrackResult, stage: str) -> Iterator[Frame]:
    """The frames of a result, while the report says how far they are."""
    for done, frame in enumerate(clip.frames(result.indices.tolist()), 1):
        report.progress(stage, done, result.num_frames)
        yield frame


def make_gif(model: Elysium, report: Told, clip: Clip, outcome: Outcome) -> Outcome:
    """The same outcome with a GIF among its files, which takes ten times as long as the video."""
    path = next(iter(outcome.files.values())).parent / f"{file_stem(clip.name)}.gif"
    frames = _unless_cancelled(report, _drawn(report, clip, outcome.result, "making the GIF"))
    gif.write_result_gif(frames, outcome.result, path)
    return replace(outcome, files={**outcome.files, "gif": path})


def _unless_cancelled(report: Told, frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames. Raises ElysiumError once nobody waits for them: half a GIF is no use to anybody."""
    for frame in frames:
        if report.cancelled:
            raise ElysiumError("The GIF was given up")
        yield frame


FILES = {"mp4": ".mp4", "json": ".json", "csv": ".csv", "mot": ".mot.txt"}


def describe(model: Elysium, report: Told, clip: Clip, frame: int, boxes: Sequence[Box]) -> list[str]:
    """What is in each of these boxes of a frame, in words."""
    paths = [clip.path(index) for index in range(frame, min(len(clip), frame + DESCRIBE_FRAMES))]
    answers = []
    for done, box in enumerate(boxes):
        report.progress("describing", done, len(boxes))
        if report.cancelled:
            break
        answers.append(model.describe(open_source(paths), _inside(box, clip.resolution_wh)))
    return answers


DESCRIBE_FRAMES = 8  # as `Elysium.describe`


def ask(model: Elysium, report: Told, clip: Clip, question: str) -> tuple[str, list[str]]:
    """An answer about the whole clip, and warnings about words that the model does not know."""
    report.progress("answering", 0)
    paths = [clip.path(index) for index in range(len(clip))]
    return model.ask(open_source(paths, fps=clip.fps), question), model.unknown_words([question])


def ground(
    model: Elysium, report: Told, clip: Clip, frame: int, expressions: Sequence[str]
) -> tuple[list[tuple[Box | None, float]], list[str]]:
    """Where each expression is in one frame (None: not found) with its score, and warnings about unknown words."""
    found: list[tuple[Box | None, float]] = []
    for done, words in enumerate(expressions):
        report.progress("looking", done, len(expressions))
        box, score = model.ground(clip.path(frame), words)
        x1, y1, x2, y2 = box.tolist()
        found.append(((x1, y1, x2, y2) if np.isfinite(box).all() else None, score))
    return found, model.unknown_words(expressions)


def live(
    model: Elysium, report: Told, source: str, expressions: Sequence[str], boxes: Sequence[Box], seconds: float
) -> int:
    """Follow objects in a live source and send every frame, drawn on, as a JPEG; returns how many there were.

    Boxes are in 0..1 of the frame. It ends after ``seconds``, with the source, or when it is cancelled.
    """
    ends_s = time.monotonic() + seconds
    with open_source(source) as frames:
        tracker = model.tracker(clip_length=LIVE_CLIP, fps=frames.fps)
        held: dict[int, Frame] = {}
        done = 0
        for number, frame in enumerate(frames):
            held[frame.index] = frame
            if number == 0:
                for box in boxes:
                    tracker.init(frame, box=box, box_format="xyxyn")
                for words in expressions:
                    tracker.init(frame, expression=words)
                continue
            for found in tracker.update(frame):
                done += 1
                report.progress("live", done, None, _shown(held.pop(found.index).image, found.objects))
            if report.cancelled or time.monotonic() > ends_s:
                break
    return done


def _shown(image: Any, objects: Iterable[Any]) -> bytes:
    """A frame with its objects drawn on, as a JPEG that is not too large to be sent often."""
    items = list(objects)
    drawn = Image.fromarray(
        draw.annotate(
            image, np.array([item.box_xyxy for item in items]).reshape(-1, 4),
            [item.expression or f"object {item.id}" for item in items], [item.state for item in items],
            [item.id for item in items],
        )
    )  # fmt: skip
    if drawn.width > LIVE_WIDTH:
        drawn = drawn.resize((LIVE_WIDTH, round(drawn.height * LIVE_WIDTH / drawn.width)))
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=LIVE_JPEG_QUALITY)
    return buffer.getvalue()


TASKS: dict[str, Callable[..., Any]] = {
    "track": track, "track_on": track_on, "describe": describe, "ask": ask, "ground": ground, "live": live,
    "make_gif": make_gif,
}  # fmt: skip
