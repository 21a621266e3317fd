"""Whoever answers an item: a model in its everyday way, a model in the published way, or a tracker of OpenCV.

Knows how each is asked and what it is given: never more than the task allows. Knows nothing about metrics, workers or
files of results.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from elysium.boxes import Affine2d, FloatArray, quantize
from elysium.errors import InputError
from elysium.evaluation.baselines import build_baseline, is_baseline, track_boxes
from elysium.evaluation.items import TRACKING, Item, boxes_text
from elysium.evaluation.published import parse_published
from elysium.evaluation.raw import RawAnswer
from elysium.evaluation.results import SCALED, Result
from elysium.inference.answers import Answer, Request
from elysium.inference.clips import ClipAnswer
from elysium.inference.pipelines import Elysium
from elysium.inference.windows import bins_to_region
from elysium.language.dialects import ELYSIUM
from elysium.language.prompts import SYSTEM_SENTENCE, Task, build_prompt, build_question
from elysium.sampling import spread_frames
from elysium.tracks import Track
from elysium.video import read_image

PUBLISHED_CLIP, PUBLISHED_STRIDE = 8, 7
PUBLISHED_MOST_TOKENS = 200  # of an answer, as the published evaluation asks for
DESCRIBE_FRAMES = 8
_SHOWN = 60  # characters of an answer in a message


class Predictor(Protocol):
    """Answers one item. May raise ElysiumError, which makes this item a failure."""

    def __call__(self, item: Item) -> Result: ...


@dataclass
class Baseline:
    """A tracker that is given the first box (SOT)."""

    name: str
    images: Path

    def __call__(self, item: Item) -> Result:
        first, frames = first_box(item), item.record.frames
        began = time.perf_counter()
        image = read_image(self.images / frames[0])
        size = (image.shape[1], image.shape[0])
        rest = (read_image(self.images / name) for name in frames[1:])
        tracker = build_baseline(self.name)
        boxes, scores = track_boxes(tracker, chain([image], rest), first * np.tile(size, 2))
        seconds = time.perf_counter() - began
        boxes, notes = to_record_pixels(boxes, size, item)
        return Result(item.id, str(item.record.vid), boxes, scores, None, seconds, len(frames), notes=notes)


@dataclass
class Tracking:
    """A model as `elysium track` runs it, from the first box (SOT) or from words (RSOT)."""

    model: Elysium
    images: Path
    task: str
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, item: Item) -> Result:
        record = item.record
        if self.task == "SOT":
            target: dict[str, Any] = {"boxes": first_box(item), "box_format": "xyxyn"}
        else:
            target = {"expression": item.words}
        said: list[ClipAnswer] = []
        paths = [self.images / name for name in record.frames]
        began = time.perf_counter()
        found = self.model.track(paths, on_answer=said.append, **target, **self.options)
        seconds = time.perf_counter() - began
        track = found.tracks[0]
        boxes, scores = _filled(track.boxes_xyxy, len(paths)), _filled(track.scores, len(paths))
        boxes, notes = to_record_pixels(boxes, found.resolution_wh, item)
        said = [one for one in said if not one.closer]  # one answer a clip, as other programs read them
        answers = tuple(self._raw(item, track, number, one, found.resolution_wh) for number, one in enumerate(said))
        notes = (*notes, *track.notes, *found.warnings)
        return Result(item.id, str(record.vid), boxes, scores, None, seconds, len(track), answers, notes)

    def _raw(self, item: Item, track: Track, number: int, said: ClipAnswer, size: tuple[int, int]) -> RawAnswer:
        """The answer as it was written; if the model saw a window, the boxes that it means in the whole frame."""
        whole = Affine2d.full_frame(size)
        text = said.text if all(affine == whole for affine in said.affines) else _written(track, said.frames, size)
        return RawAnswer(
            f"{item.record.vid}|{number}", f"{item.id}|{number}", question_of(said.prompt), said.prompt,
            boxes_text(item.record, said.frames), text, item.record.frame_size or size,
        )  # fmt: skip


def _filled(values: FloatArray, length: int) -> FloatArray:
    """(T, ...) -> (length, ...), NaN for the frames after a track's end (the lost policy `stop`)."""
    filled = np.full((length, *values.shape[1:]), np.nan)
    filled[: len(values)] = values
    return filled


def _written(track: Track, frames: Sequence[int], size: tuple[int, int]) -> str:
    """The track's boxes in some frames as an answer about the whole frame."""
    places = [track.row(index) for index in frames]
    boxes = [np.full(4, np.nan) if place is None else track.boxes_xyxy[place] for place in places]
    scale = np.tile(size, 2)
    return ELYSIUM.format_boxes([None if np.isnan(b).any() else quantize((b / scale)[None])[0] for b in boxes])


@dataclass
class Published:
    """A model as the published evaluation runs it: clips of 8 frames that overlap by one, full frames, no grammar, the
    class in place of the description. In SOT the last box that was read of a clip prompts the next one, however odd it
    is; in RSOT clips are not linked.

    Where a clip's answer holds no box, the released code has nothing to prompt the next one with, and crashes. Here the
    sequence ends with that answer, and the result says so as its ``failure``.
    """

    model: Elysium
    images: Path
    task: str

    def __call__(self, item: Item) -> Result:
        record, began = item.record, time.perf_counter()
        prompted = _given_box(item) if self.task == "SOT" else None
        answers: list[RawAnswer] = []
        clips, failure = published_clips(len(record.frames)), ""
        for number, clip in enumerate(clips):
            frames = [read_image(self.images / record.frames[i], plain=True) for i in clip]
            request = self._request(item, frames, prompted)
            (said,) = self.model.engine.run([request], free=True)
            answers.append(_published_answer(item, number, clip, request.prompt, said))
            boxes = parse_published(said.text)
            if prompted is None:
                continue
            if not boxes and clip is not clips[-1]:
                text = said.text if len(said.text) <= _SHOWN else f"{said.text[:_SHOWN]} ..."
                failure = f"the answer to clip {number + 1} of {len(clips)} has no box for the next: {text!r}"
                break
            prompted = np.array(boxes[-1]) if boxes else prompted
        seconds = time.perf_counter() - began
        return Result(
            item.id, str(record.vid), self._merged(item, answers), None, None, seconds,
            sum(len(clip) for clip in clips[: len(answers)]) - len(answers) + 1, tuple(answers), failure=failure,
        )  # fmt: skip

    def _request(self, item: Item, frames: list[Any], box: FloatArray | None) -> Request:
        task = Task(self.task)
        if box is None:
            question = build_question(task, expression=item.words, published=True)
            return Request(
                build_prompt(task, len(frames), question), frames, query=item.words, num_boxes=len(frames),
                max_new_tokens=PUBLISHED_MOST_TOKENS,
            )  # fmt: skip
        bins = quantize(box[None], clamp=False)[0]
        question = build_question(task, box_text=ELYSIUM.format_box(bins), region_mark=self.model.engine.region_marks)
        region = bins_to_region(bins.clip(0, ELYSIUM.max_bin).tolist(), ELYSIUM.max_bin)
        return Request(
            build_prompt(task, len(frames), question), frames, regions=[(0, region)], num_boxes=len(frames),
            max_new_tokens=PUBLISHED_MOST_TOKENS,
        )  # fmt: skip

    def _merged(self, item: Item, answers: Sequence[RawAnswer]) -> FloatArray:
        """(T, 4) pixels; frames that no answer has a box for are NaN, and overlaps keep the earlier clip's."""
        record = item.record
        boxes = np.full((len(record.frames), 4), np.nan)
        for clip, answer in zip(published_clips(len(record.frames)), answers, strict=False):
            for index, box in zip(clip, parse_published(answer.predict), strict=False):
                if np.isnan(boxes[index, 0]):
                    boxes[index] = box
        assert record.frame_size is not None
        return np.asarray(boxes * np.tile(record.frame_size, 2), dtype=np.float64)


def published_clips(num_frames: int) -> list[range]:
    """The frames of each clip: 0..7, 7..14, ...; the last may hold the overlap frame alone."""
    starts = range(0, max(num_frames, 1), PUBLISHED_STRIDE)
    return [range(start, min(start + PUBLISHED_CLIP, num_frames)) for start in starts]


def _published_answer(item: Item, number: int, clip: range, prompt: str, said: Answer) -> RawAnswer:
    return RawAnswer(
        f"{item.record.vid}|{number}", f"{item.id}|{number}", question_of(prompt), prompt,
        boxes_text(item.record, clip, clamp=False), said.text, item.record.frame_size,
    )  # fmt: skip


@dataclass
class InWords:
    """A model asked about single images or whole videos: REC, REG, Video-REG, VideoQA."""

    model: Elysium
    images: Path
    task: str
    options: dict[str, Any] = field(default_factory=dict)  # of `Elysium.ground`

    def __call__(self, item: Item) -> Result:
        if self.task != "VideoQA":
            first_box(item)  # which must be one, for REC to be right or wrong
        paths = [self.images / name for name in item.record.frames]
        heard = _Ear(self.model.engine)  # an engine that remembers what it was asked
        asked = self.model.with_engine(heard)
        began = time.perf_counter()
        result = self._ask(asked, item, paths)
        seconds = time.perf_counter() - began
        right = item.references[0] if item.references else boxes_text(item.record, (0,)).removeprefix("Frame 1: ")
        answers = tuple(
            RawAnswer(str(item.record.vid), item.id, question_of(request.prompt), request.prompt, right, answer.text,
                      item.record.frame_size)
            for request, answer in heard.said[:1]  # the second one of REC is a closer look
        )  # fmt: skip
        count = len(heard.said[0][0].frames) if heard.said else 0
        return Result(
            item.id, str(item.record.vid), result.boxes_xyxy, result.scores, result.text, seconds, count, answers,
            result.notes,
        )  # fmt: skip

    def _ask(self, model: Elysium, item: Item, paths: list[Path]) -> Result:
        if self.task == "REC":
            image = read_image(paths[0])
            box, score = model.ground(image, item.words, **self.options)
            boxes, notes = to_record_pixels(box[None], (image.shape[1], image.shape[0]), item)
            return Result(item.id, boxes_xyxy=boxes, scores=np.array([score]), notes=notes)
        if self.task == "VideoQA":
            return Result(item.id, text=model.ask(paths, item.words))
        shown = paths[:1] if self.task == "REG" else spread(paths, DESCRIBE_FRAMES)
        return Result(item.id, text=model.describe(shown, first_box(item), "xyxyn", max_frames=len(shown)))


class _Ear:
    """An engine that remembers requests and answers."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.said: list[tuple[Request, Answer]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, requests: Sequence[Request], *, free: bool = False) -> list[Answer]:
        answers: list[Answer] = self._engine.run(requests, free=free)
        self.said += zip(requests, answers, strict=True)
        return answers


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """At most ``count`` of them, evenly, the first always."""
    return [paths[place] for place in spread_frames(len(paths), count)]


def _given_box(item: Item) -> FloatArray:
    """(4,) in 0..1: the box of the first frame as it is. Raises InputError if the object is not there."""
    box: FloatArray = item.record.boxes_xyxyn[0]
    if np.isnan(box).any():
        raise InputError("the object is absent in the first frame", "There is no box to start from: leave it out.")
    return box


def first_box(item: Item) -> FloatArray:
    """(4,) in 0..1: the box of the first frame. Raises InputError if the object is not there, or its box is none."""
    box = _given_box(item)
    if not (box[2:] > box[:2]).all():
        raise InputError("the box of the first frame has no width or no height", "Leave it out.")
    return box


def to_record_pixels(
    boxes_xyxy: FloatArray, image_wh: tuple[int, int], item: Item
) -> tuple[FloatArray, tuple[str, ...]]:
    """Boxes in pixels of the images as pixels of the record's frame, and a note if the two differ."""
    size = item.record.frame_size
    if size is None or tuple(size) == tuple(image_wh):
        return boxes_xyxy, ()
    told = f"the images are {image_wh[0]}x{image_wh[1]}, the record says {size[0]}x{size[1]}{SCALED}"
    return boxes_xyxy * np.tile(np.array(size) / np.array(image_wh), 2), (told,)


def question_of(prompt: str) -> str:
    """What stands between "USER: " and "ASSISTANT:" of a prompt of one round."""
    return prompt.removeprefix(SYSTEM_SENTENCE).removeprefix("USER: ").removesuffix("ASSISTANT:")


def check_pair(task: str, model: str, published: bool) -> None:
    """Raise InputError for a baseline that is asked for anything but SOT, or a protocol that the task does not have."""
    if is_baseline(model) and (task != "SOT" or published):
        way = "in the published way" if task == "SOT" else f"for {task}"
        raise InputError(f"The baseline {model!r} cannot be run {way}", "Baselines follow a box: use SOT.")
    if published and task not in TRACKING:
        raise InputError(f"There is no published protocol for {task}", "Leave --protocol out.")


def build_predictor(
    task: str, model: Elysium | str, images: Path, *, published: bool = False, **options: Any
) -> Predictor:
    """Whoever answers a task: a loaded model, or the name of a baseline."""
    if isinstance(model, str):
        return Baseline(model, images)
    if task not in TRACKING:
        return InWords(model, images, task, options)
    return Published(model, images, task) if published else Tracking(model, images, task, options)
