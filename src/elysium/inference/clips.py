"""Clips: what each object is asked about which frames, and what its answers mean.

Knows overlaps, memories and states. Knows nothing of tokens (elysium.inference.decoding) or of where frames
come from (elysium.inference.tracker).

A video is cut into clips of `clip_length` frames that overlap by one: 0..7, 7..14, 14..21, ... No clip
consists of the overlap frame alone. In each clip every object asks one question, all objects in the same
batches:

- First clip. An object with a box asks SOT with that box in Frame 1; the box itself stands as the result of
  that frame (`tracked`, score 1). An object with an expression asks RSOT, over the full frame (REC if the
  clip has but one frame).
- Later clips. If the overlap frame is `tracked`, SOT prompted by its box. Otherwise the object is lost, and the
  lost policy says what happens. `search`: an object with an expression is found again by it (RSOT, full frame),
  and one without is searched from its last good box: its clip is the *remembered frame in which that box was
  seen*, followed by the new frames. A stale box never poses as the box of a frame it was not seen in. `report`:
  nobody looks for it any more, it is `absent` in all frames to come. `stop`: its track ends. Each leaves a note
  naming the frames.

States of a frame: `tracked`, the model wrote a box, with a score of at least `min_score`; `absent`, it wrote
[0,0,0,0] (the box is NaN); `carried`, what it wrote could not be read, lies outside the frame or scores under
`min_score`: the last good box stands there (with no good box yet the frame is `absent`). Only `tracked` boxes
ever prompt anything.

With a `search_window` an SOT question reads its clip through a square window around the prompting box instead
of the full frame, unless the window would be as wide as the frame's shorter side; answers are mapped back to
source pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from elysium.boxes import Affine2d
from elysium.errors import InputError
from elysium.inference.answers import Answer, Request
from elysium.inference.windows import bins_to_box, bins_to_region, box_to_bins, check_window, look_around
from elysium.language.dialects import ELYSIUM, Dialect
from elysium.language.prompts import Task, build_prompt, build_question
from elysium.tracks import FrameState, Track
from elysium.video import Frame

LostPolicy: TypeAlias = Literal["search", "report", "stop"]
LOST_POLICIES: tuple[str, ...] = get_args(LostPolicy)
DEFAULT_CLIP_LENGTH = 8
DEFAULT_MIN_SCORE = 0.02  # of a box's score; a model's `config.tracking["min_score"]` replaces it

FloatArray = NDArray[np.float64]
Result = tuple[FloatArray, float, FrameState]  # box (4,) pixels or NaN, score, state


class Answers(Protocol):
    """What the tracker needs of an `Engine`."""

    @property
    def max_batch(self) -> int: ...

    @property
    def region_marks(self) -> bool: ...

    def run(self, requests: Sequence[Request], *, free: bool = False) -> list[Answer]: ...


@dataclass(frozen=True)
class TrackedObject:
    """What is to be followed. At least one of `expression` and `box` is given; with both the box starts the
    track and the expression finds the object again.

    Args:
        id: positive number, unique among the objects.
        expression: words, for example "the dog on the left".
        box: (4,) xyxy pixels in the frame in which it starts.
        notes: go into the track as they are.
        start_s: it starts in the first frame that is not before this second of the source; None: in the first frame.
    """

    id: int
    expression: str | None = None
    box: FloatArray | None = None
    notes: tuple[str, ...] = ()
    start_s: float | None = None


@dataclass(frozen=True)
class _Memory:
    """What is known of one object between clips."""

    target: TrackedObject
    box: FloatArray | None = None  # last good box
    frame: Frame | None = None  # the frame that it was seen in
    at_overlap: bool = False  # and that is the overlap frame
    given_up: bool = False  # lost, and nobody looks for it any more


@dataclass(frozen=True)
class _Question:
    """A request, and how to read the answer to it."""

    request: Request | None  # None: nothing to ask, the given box is all there is
    affines: list[Affine2d]  # of each frame asked about
    frames: tuple[int, ...] = ()  # their indices in the source
    skip: int = 0  # frames at the start whose answers are not results: they have been reported
    given: FloatArray | None = None  # result of the first frame, whatever the answer
    note: str | None = None


@dataclass(frozen=True)
class ClipAnswer:
    """What the model was asked about one object in one clip, and what it said.

    Args:
        object_id: the object.
        frames: index in the source of each frame asked about.
        affines: from the model's view of each frame to source pixels.
        prompt, text: as the model read and wrote them; boxes in per cent of its view.
    """

    object_id: int
    frames: tuple[int, ...]
    affines: tuple[Affine2d, ...]
    prompt: str
    text: str


@dataclass(frozen=True)
class ClipResult:
    """Results of the new frames of one clip.

    Args:
        frames: (index in the source, time in seconds) of each new frame.
        results: for each object, in order, a (box, score, state) per new frame; none once its track has ended.
        notes: for each object, what was special about this clip, or None.
    """

    frames: list[tuple[int, float]]
    results: list[list[Result]]
    notes: list[str | None]


@dataclass
class ClipSession:
    """Tracking by pushing frames: `push` until done, then `finish`.

    Args:
        engine: answers requests.
        objects: what to follow, from the first pushed frame on.
        clip_length: frames in a clip with its overlap frame, at least 2.
        search_window: side of the search window in box sizes (see `Affine2d.window`), None for the full
            frame.
        min_score: boxes that score less are `carried`.
        free: decode without the grammar.
        fine: results in fractions of a bin, where the model's numbers are single tokens; questions stay in whole bins.
        dialect: how boxes are written in questions.
        lost_policy: `search`, `report` or `stop`, see the head of this file.
        on_answer: told of every answer of the model.

    Raises:
        InputError: an option out of range, or an object with neither box nor expression.
    """

    engine: Answers
    objects: Sequence[TrackedObject]
    clip_length: int = DEFAULT_CLIP_LENGTH
    search_window: float | None = None
    min_score: float = DEFAULT_MIN_SCORE
    free: bool = False
    fine: bool = False
    dialect: Dialect = ELYSIUM
    lost_policy: LostPolicy = "search"
    on_answer: Callable[[ClipAnswer], None] | None = None
    clips: list[ClipResult] = field(default_factory=list, init=False)
    _pending: list[Frame] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.clip_length < 2:
            raise InputError(
                f"A clip length of {self.clip_length} makes no sense: clips overlap by one frame",
                "Give 2 or more; models are trained with 8.",
            )
        if not 0 <= self.min_score <= 1:
            raise InputError(f"A min_score of {self.min_score} makes no sense", "Scores lie in 0..1.")
        check_window(self.search_window)
        check_lost_policy(self.lost_policy)
        for item in self.objects:
            if item.box is None and not item.expression:
                raise InputError(f"Object {item.id} has neither a box nor an expression", "Give one of them.")
        self._memories = [_Memory(item) for item in self.objects]

    @property
    def num_frames(self) -> int:
        """Frames that have results."""
        return sum(len(clip.frames) for clip in self.clips)

    @property
    def done(self) -> bool:
        """Whether every track has ended, so that more frames would change nothing."""
        return self.lost_policy == "stop" and all(memory.given_up for memory in self._memories)

    def push(self, frame: Frame) -> ClipResult | None:
        """Take one more frame; returns the results of a clip when this frame completes it."""
        self._pending.append(frame)
        return self._run() if len(self._pending) == self.clip_length else None

    def finish(self) -> ClipResult | None:
        """Results of the frames that do not fill a clip; None if there are none."""
        return self._run() if len(self._pending) > (1 if self.clips else 0) else None

    def _run(self) -> ClipResult:
        """Ask about the pending frames. All or nothing: an exception on the way leaves the session as it was
        but for the frames, so that what is recorded always covers the same frames for each object."""
        frames, first = self._pending, not self.clips
        results: list[list[Result]] = []
        memories: list[_Memory] = []
        notes: list[str | None] = []
        size = max(1, self.engine.max_batch)
        for start in range(0, len(self._memories), size):  # cut-outs of one batch at a time
            batch = self._memories[start : start + size]
            questions = [self._question(memory, frames, first) for memory in batch]
            for memory, question, answer in zip(batch, questions, self._ask(questions), strict=True):
                self._tell(memory.target, question, answer)
                new, memory = self._read(memory, question, answer, frames)
                results.append(new)
                memories.append(memory)
                notes.append(question.note)
        new_frames = frames if first else frames[1:]
        clip = ClipResult([(frame.index, frame.time_s) for frame in new_frames], results, notes)
        self._memories, self._pending = memories, [frames[-1]]
        self.clips.append(clip)
        return clip

    def _ask(self, questions: Sequence[_Question]) -> list[Answer | None]:
        requests = [question.request for question in questions if question.request is not None]
        answers = iter(self.engine.run(requests, free=self.free) if requests else [])
        return [None if question.request is None else next(answers) for question in questions]

    def _tell(self, target: TrackedObject, question: _Question, answer: Answer | None) -> None:
        if self.on_answer is not None and question.request is not None and answer is not None:
            said = ClipAnswer(
                target.id, question.frames, tuple(question.affines), question.request.prompt, answer.text
            )
            self.on_answer(said)

    def _question(self, memory: _Memory, frames: list[Frame], first: bool) -> _Question:
        """What to ask about one object in the clip `frames`."""
        target = memory.target
        if first:
            if target.box is None:
                return self._by_words(target, frames)
            if len(frames) == 1:
                return _Question(None, [], given=target.box)
            return replace(self._by_box(target.box, frames), given=target.box)
        if memory.at_overlap and memory.box is not None:
            return replace(self._by_box(memory.box, frames), skip=1)
        if self.lost_policy != "search":
            note = "lost, and not looked for again" if self.lost_policy == "report" else "lost: its track ends before"
            return _Question(None, [], skip=1, note=note)
        if target.expression:
            return replace(self._by_words(target, frames), skip=1, note="found again by its words")
        assert memory.box is not None  # an object without words started from a box
        assert memory.frame is not None
        note = f"searched from the last good box, that of frame {memory.frame.index}"
        return replace(self._by_box(memory.box, [memory.frame, *frames[1:]]), skip=1, note=note)

    def _by_box(self, box: FloatArray, frames: list[Frame]) -> _Question:
        """SOT: `box` was seen in the first of `frames`."""
        images, seen = look_around([frame.image for frame in frames], box, self.search_window)
        marks = self.engine.region_marks
        bins = box_to_bins(box, seen, self.dialect.max_bin)
        question = build_question(Task.SOT, box_text=self.dialect.format_box(bins), region_mark=marks)
        request = Request(
            build_prompt(Task.SOT, len(images), question),
            images,
            regions=[(0, bins_to_region(bins, self.dialect.max_bin))],
            num_boxes=len(images),
        )
        return _Question(request, [seen] * len(images), _indices(frames))

    def _by_words(self, target: TrackedObject, frames: list[Frame]) -> _Question:
        """RSOT over the full frames, or REC when there is but one."""
        images = [frame.image for frame in frames]
        task = Task.RSOT if len(images) > 1 else Task.REC
        question = build_question(task, expression=target.expression)
        request = Request(
            build_prompt(task, len(images), question),
            images,
            query=target.expression,
            num_boxes=len(images),
            single_box=task is Task.REC,
        )
        return _Question(request, [Affine2d.full_frame(_wh(image)) for image in images], _indices(frames))

    def _read(
        self, memory: _Memory, question: _Question, answer: Answer | None, frames: list[Frame]
    ) -> tuple[list[Result], _Memory]:
        """Results of the new frames, and what is known of the object after them."""
        results: list[Result] = []
        if question.request is None and question.given is None:
            if self.lost_policy == "report":
                results = [(np.full(4, np.nan), 0.0, "absent")] * (len(frames) - question.skip)
            return results, replace(memory, given_up=True)
        for number in range(question.skip, len(frames)):
            frame = frames[number]
            if number == 0 and question.given is not None:
                result: Result = (question.given, 1.0, "tracked")
            else:
                assert answer is not None
                result = self._judge(answer, number, question.affines[number], frame, memory.box)
            if result[2] == "tracked":
                memory = replace(memory, box=result[0], frame=frame)
                if self.fine and answer is not None and not (number == 0 and question.given is not None):
                    result = (self._finer(answer, number, question.affines[number], frame, result[0]), *result[1:])
            results.append(result)
        return results, replace(memory, at_overlap=results[-1][2] == "tracked")

    def _judge(
        self, answer: Answer, number: int, affine: Affine2d, frame: Frame, last_good: FloatArray | None
    ) -> Result:
        """State, box and score of one frame."""
        assert answer.boxes_bins is not None
        status, score = answer.statuses[number], float(answer.box_scores[number])
        nowhere = np.full(4, np.nan)
        if status == "absent":
            return nowhere, score, "absent"
        if status == "ok" and score >= self.min_score:
            box = bins_to_box(answer.boxes_bins[number], affine, _wh(frame.image), self.dialect.max_bin)
            if box is not None:
                return box, score, "tracked"
        return (nowhere, score, "absent") if last_good is None else (last_good, score, "carried")

    def _finer(self, answer: Answer, number: int, affine: Affine2d, frame: Frame, box: FloatArray) -> FloatArray:
        """The box of one frame in fractions of a bin; ``box``, which is in whole ones, where there is none."""
        if answer.fine_bins is None or np.isnan(answer.fine_bins[number]).any():
            return box
        finer = bins_to_box(answer.fine_bins[number], affine, _wh(frame.image), self.dialect.max_bin)
        return box if finer is None else finer

    def tracks(self) -> list[Track]:
        """All results so far, one track for each object."""
        indices = np.array([i for clip in self.clips for i, _ in clip.frames], dtype=np.int64)
        times = np.array([t for clip in self.clips for _, t in clip.frames], dtype=np.float64)
        return [self._track(i, item, indices, times) for i, item in enumerate(self.objects)]

    def _track(
        self, number: int, item: TrackedObject, indices: NDArray[np.int64], times: FloatArray
    ) -> Track:
        rows = [row for clip in self.clips for row in clip.results[number]]
        return Track(
            id=item.id,
            expression=item.expression,
            initial_box=item.box,
            indices=indices[: len(rows)],  # a track may have ended before the others
            times_s=times[: len(rows)],
            boxes_xyxy=np.array([box for box, _, _ in rows], dtype=np.float64).reshape(-1, 4),
            scores=np.array([score for _, score, _ in rows], dtype=np.float64),
            states=np.array([state for _, _, state in rows], dtype="<U7"),
            notes=(*item.notes, *self._notes(number)),
        )

    def _notes(self, number: int) -> Iterable[str]:
        """Notes of an object's clips; a note that repeats from clip to clip becomes one, over all their
        frames."""
        runs: list[tuple[str | None, int, int]] = []
        for clip in self.clips:
            note, start, end = clip.notes[number], clip.frames[0][0], clip.frames[-1][0]
            if runs and runs[-1][0] == note:
                start = runs.pop()[1]
            runs.append((note, start, end))
        return [f"frames {start} to {end}: {note}" for note, start, end in runs if note is not None]


def check_lost_policy(policy: str) -> None:
    """Raise InputError for a policy that does not exist."""
    if policy not in LOST_POLICIES:
        raise InputError(f"Unknown lost policy {policy!r}", f"Use one of {', '.join(LOST_POLICIES)}.")


def _indices(frames: Sequence[Frame]) -> tuple[int, ...]:
    return tuple(frame.index for frame in frames)


def _wh(image: NDArray[np.uint8]) -> tuple[int, int]:
    return image.shape[1], image.shape[0]
