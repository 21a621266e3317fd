"""Clips: what each object is asked about which frames, and what its answers mean.

Knows overlaps, memories and states. Knows nothing of the wording of questions (elysium.inference.questions), of tokens
(elysium.inference.decoding) or of where frames come from (elysium.inference.tracker).

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

With `zoom` an object that is small in what its question showed is asked about once more, through a window around where
it was found (elysium.inference.zoom): by its box (SOT), from the clip's first frame if its box there was known, else
from the frame in which it was found; by its words if that leaves but one frame. States and scores are those of the
first answer. A box of the second one that agrees with it replaces it, as a result and in the questions to come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from elysium.boxes import Affine2d, FloatArray
from elysium.errors import InputError
from elysium.inference.answers import Answer, Request
from elysium.inference.questions import Asker, Question, wh
from elysium.inference.windows import bins_to_box, check_window
from elysium.inference.zoom import agrees, zoom_window
from elysium.language.dialects import ELYSIUM, Dialect
from elysium.tracks import FrameState, Track
from elysium.video import Frame

LostPolicy: TypeAlias = Literal["search", "report", "stop"]
LOST_POLICIES: tuple[str, ...] = get_args(LostPolicy)
DEFAULT_CLIP_LENGTH = 8
DEFAULT_MIN_SCORE = 0.02  # of a box's score; a model's `config.tracking["min_score"]` replaces it

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


_Read: TypeAlias = tuple[list[Result], _Memory]  # of the new frames of a clip, and what is known after them


@dataclass(frozen=True)
class ClipAnswer:
    """What the model was asked about one object in one clip, and what it said.

    Args:
        object_id: the object.
        frames: index in the source of each frame asked about.
        affines: from the model's view of each frame to source pixels.
        prompt, text: as the model read and wrote them; boxes in per cent of its view.
        closer: it was a second look (`zoom`).
    """

    object_id: int
    frames: tuple[int, ...]
    affines: tuple[Affine2d, ...]
    prompt: str
    text: str
    closer: bool = False


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
        zoom: look again, closer, at objects that are small in what the model saw.
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
    zoom: bool = False
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
        self._asker = Asker(self.dialect, self.search_window, self.engine.region_marks)
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
            answers = self._ask(batch, questions)
            asked = zip(batch, questions, answers, strict=True)
            read = [self._read(memory, question, answer, frames) for memory, question, answer in asked]
            if self.zoom:
                read = self._look_again(batch, questions, answers, read, frames)
            results += [new for new, _ in read]
            memories += [memory for _, memory in read]
            notes += [question.note for question in questions]
        new_frames = frames if first else frames[1:]
        clip = ClipResult([(frame.index, frame.time_s) for frame in new_frames], results, notes)
        self._memories, self._pending = memories, [frames[-1]]
        self.clips.append(clip)
        return clip

    def _ask(
        self, memories: Sequence[_Memory], questions: Sequence[Question], closer: bool = False
    ) -> list[Answer | None]:
        """The answers, of which `on_answer` is told; None where there is nothing to ask."""
        requests = [question.request for question in questions if question.request is not None]
        given = iter(self.engine.run(requests, free=self.free) if requests else [])
        answers = [None if question.request is None else next(given) for question in questions]
        for memory, question, answer in zip(memories, questions, answers, strict=True):
            if self.on_answer is not None and question.request is not None and answer is not None:
                self.on_answer(
                    ClipAnswer(
                        memory.target.id, question.frames, tuple(question.affines), question.request.prompt,
                        answer.text, closer,
                    )
                )  # fmt: skip
        return answers

    def _question(self, memory: _Memory, frames: list[Frame], first: bool) -> Question:
        """What to ask about one object in the clip `frames`."""
        target = memory.target
        if first:
            if target.box is None:
                assert target.expression is not None
                return self._asker.by_words(target.expression, frames)
            if len(frames) == 1:
                return Question(None, [], given=target.box)
            return replace(self._asker.by_box(target.box, frames), given=target.box)
        if memory.at_overlap and memory.box is not None:
            return replace(self._asker.by_box(memory.box, frames), skip=1)
        if self.lost_policy != "search":
            note = "lost, and not looked for again" if self.lost_policy == "report" else "lost: its track ends before"
            return Question(None, [], skip=1, note=note)
        if target.expression:
            return replace(self._asker.by_words(target.expression, frames), skip=1, note="found again by its words")
        assert memory.box is not None  # an object without words started from a box
        assert memory.frame is not None
        note = f"searched from the last good box, that of frame {memory.frame.index}"
        return replace(self._asker.by_box(memory.box, [memory.frame, *frames[1:]]), skip=1, note=note)

    def _read(self, memory: _Memory, question: Question, answer: Answer | None, frames: list[Frame]) -> _Read:
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
            box = bins_to_box(answer.boxes_bins[number], affine, wh(frame.image), self.dialect.max_bin)
            if box is not None:
                return box, score, "tracked"
        return (nowhere, score, "absent") if last_good is None else (last_good, score, "carried")

    def _finer(self, answer: Answer, number: int, affine: Affine2d, frame: Frame, box: FloatArray) -> FloatArray:
        """The box of one frame in fractions of a bin; ``box``, which is in whole ones, where there is none."""
        if answer.fine_bins is None or np.isnan(answer.fine_bins[number]).any():
            return box
        finer = bins_to_box(answer.fine_bins[number], affine, wh(frame.image), self.dialect.max_bin)
        return box if finer is None else finer

    def _look_again(
        self, memories: Sequence[_Memory], questions: Sequence[Question], answers: Sequence[Answer | None],
        read: Sequence[_Read], frames: list[Frame],
    ) -> list[_Read]:  # fmt: skip
        """What was read, with finer boxes for small objects; ``memories`` as they were before it."""
        each = zip(questions, answers, read, strict=True)
        found = [self._written(question, answer, results, frames) for question, answer, (results, _) in each]
        asked = zip(memories, questions, found, strict=True)
        looks = [self._closer(memory, question, boxes, frames) for memory, question, boxes in asked]
        said = self._ask(memories, looks, closer=True)
        return [
            what if answer is None else self._sharpened(question, look, answer, boxes, what, frames)
            for question, look, answer, boxes, what in zip(questions, looks, said, found, read, strict=True)
        ]

    def _written(
        self, question: Question, answer: Answer | None, results: Sequence[Result], frames: list[Frame]
    ) -> dict[int, FloatArray]:
        """By number in the clip: the boxes of frames that are `tracked` by the answer, in whole bins."""
        first, boxes = (0 if question.given is None else 1), {}
        for number, (_, _, state) in enumerate(results, start=question.skip):
            if answer is not None and number >= first and state == "tracked":
                boxes[number], *_ = self._judge(answer, number, question.affines[number], frames[number], None)
        return boxes

    def _closer(
        self, memory: _Memory, question: Question, found: dict[int, FloatArray], frames: list[Frame]
    ) -> Question:
        """The question of a second look at one object, about the clip's frames from one of them to the last."""
        if not found:
            return Question(None, [])
        known = question.given if question.given is not None else memory.box if memory.at_overlap else None
        start = min(found) if known is None else 0
        box = found[start] if known is None else known
        seen = question.affines[-1]
        window = zoom_window([box, *found.values()], seen, wh(frames[0].image), self.dialect.max_bin)
        if window is not None and start < len(frames) - 1:
            return self._asker.by_box(box, frames[start:], window)
        if window is not None and memory.target.expression:
            return self._asker.by_words(memory.target.expression, frames[start:], window)
        return Question(None, [])  # not small; or in the last frame, where its box would ask for itself

    def _sharpened(
        self, question: Question, look: Question, answer: Answer, found: dict[int, FloatArray], read: _Read,
        frames: list[Frame],
    ) -> _Read:  # fmt: skip
        """What was read of one object, with the boxes of the second look that agree with those `found` at first."""
        (results, memory), start, seen = read, len(frames) - len(look.affines), look.affines[0]
        sharp = list(results)
        last: FloatArray | None = None  # what a frame that could not be read carries on
        for number, (_, score, state) in enumerate(results, start=question.skip):
            frame = frames[number]
            if number in found:
                box, _, sure = self._judge(answer, number - start, seen, frame, None)
                fits = agrees(box, found[number], question.affines[number], self.dialect.max_bin)
                last = box if sure == "tracked" and fits else None
            if last is None or state == "absent":
                continue
            finest = self._finer(answer, number - start, seen, frame, last) if self.fine and number in found else last
            sharp[number - question.skip] = (finest, score, state)
            if memory.frame is frame:
                memory = replace(memory, box=last)
        return sharp, memory

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
