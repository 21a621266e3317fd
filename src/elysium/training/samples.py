"""From clips to training samples: which frames, which object, which task, which words.

Knows: tasks, prompts, quantised boxes. Sample ``i`` depends on (seed, i) alone, whatever the workers (of clips that can
only be read on, on the number of readers too), and all samples of a batch have the same number of frames and answers of
one kind, so padding stays small. Neighbouring samples are questions about the same frames, which then are looked at
once.
Does not know: tokens, tensors on devices, losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from elysium.boxes import quantize
from elysium.config import DataSection, Phase
from elysium.data.synth.questions import ask
from elysium.errors import InputError, SourceError
from elysium.language.dialects import ELYSIUM
from elysium.language.prompts import (
    MARK_ANSWER,
    SYSTEM_SENTENCE,
    Task,
    answer_text,
    build_prompt,
    build_question,
)
from elysium.sampling import draw_frames, spread_frames
from elysium.training.dealing import Deal, Group, Mixture, weighted
from elysium.training.sources import ClipLabels, Clips, Frames, ObjectLabel

Kind = Literal["image", "boxes", "words"]
"""What a batch asks for: boxes or words about single pictures, boxes in clips, words about clips."""
_IMAGE_TASKS = (Task.REC, Task.REG)
_EITHER = (Task.VIDEO_QA, Task.CAPTION)  # about pictures, or clips
_TRIES = 8  # objects of a clip that are tried before the group goes to another clip
_MOST_TRIES = 2000  # draws after which a source is taken to hold nothing for its tasks
_MOST_SKIPPED = 100  # clips in a row that cannot be read or are too long


@dataclass(frozen=True)
class Sample:
    """One prompt and its answer.

    ``features`` (n, D) of its n frames, or their pixels (n, S, S, 3) uint8. ``heard`` is the answer as the model hears
    itself while it learns to continue: like ``answer``, but with some boxes misplaced. ``boxes`` (n, 4) in 0..1 with
    NaN: where the object is in each frame, for the gate. ``frame_keys``: equal keys of two samples mean the same
    frame, with the same features. ``names``: the words for the thing (its noun, its colour), for ``named_box`` (4,),
    its box in the first frame or a part of that. ``id`` says where it comes from, ``labelled`` whether it is known what
    lies where. ``later``: prompt and answer of further rounds of a chat. ``dropped_frames``, ``dropped_rounds``: how
    many it lost because the sequence would have been too long, ``skipped``: clips passed over on the way to it, which
    could not be read or did not fit at all. ``bookmark``: from where its clip can be read again, see
    :mod:`elysium.training.streams`.
    """

    task: Task
    prompt: str
    answer: str
    heard: str
    features: NDArray[Any]
    boxes: NDArray[np.float32]
    region: NDArray[np.float64] | None
    query: str | None
    frame_keys: tuple[tuple[str, int, int], ...]
    names: tuple[str, ...]
    named_box: NDArray[np.float32]
    id: str = ""
    labelled: bool = True
    index: int = 0
    later: tuple[tuple[str, str], ...] = ()
    dropped_frames: int = 0
    dropped_rounds: int = 0
    skipped: tuple[str, ...] = ()
    bookmark: str = ""


@dataclass(frozen=True)
class _Clip:
    """The frames that a sample is about, and where they come from."""

    frames: NDArray[Any]
    keys: tuple[tuple[str, int, int], ...]
    id: str


@dataclass(frozen=True)
class _Shown:
    """One clip of a source, and what it is called in messages."""

    source: str
    number: int
    name: str
    frames: Frames

    def clip(self, picked: NDArray[np.int64]) -> _Clip:
        """Its frames ``picked``, read."""
        keys = tuple((self.source, self.number, int(frame)) for frame in picked)
        told = f"{self.source}[{self.name}] frames {picked.tolist()}"
        return _Clip(np.asarray(self.frames[picked]), keys, told)


@dataclass(frozen=True)
class _Try:
    """One attempt at sample ``index`` of a ``group``: one of the ``tasks`` (with their weights) on ``num_frames``, of
    which only the first ``most_frames`` are kept."""

    index: int
    group: Group
    attempt: int
    tasks: dict[Task, float]
    num_frames: int
    most_frames: int


@dataclass
class SampleDataset:
    """``num_samples`` samples drawn from clips under a curriculum of frame counts.

    ``asked`` says what is asked and how (``data`` of a configuration). ``stills``: single pictures; questions on single
    pictures are about them, or, without them, about frames of clips. ``published``: as of the processor. ``fits``:
    whether a sample's sequence is short enough; one that is too long loses rounds of its chat, then frames, from the
    end. ``deal``: of clips that can only be read on, who reads which; groups then end with their batch.
    """

    clips: Clips
    num_samples: int
    batch_size: int
    phases: Sequence[Phase]
    asked: DataSection
    seed: int = 0
    stills: Clips | None = None
    region_mark: bool = True
    published: bool = False
    fits: Callable[[Sample], bool] | None = None
    deal: Deal | None = None
    _kinds: dict[Kind, dict[Task, float]] = field(init=False)

    def __post_init__(self) -> None:
        self._kinds = by_kind(self.asked)

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> Sample:
        """Sample ``index``. Raises InputError when nothing can be drawn from the clips."""
        kind = self._kind(index // self.batch_size)
        num_frames = 1 if kind == "image" else self._frames(index)
        group = self._group(index)
        skipped = [*self.clips.turn_to(group, self.seed)]
        for attempt in range(_MOST_TRIES):  # a few objects cannot serve every task (absent at first, no words)
            sample = self._usable(_Try(index, group, attempt, self._kinds[kind], num_frames, num_frames), skipped)
            if sample is not None:
                return replace(sample, index=index, skipped=tuple(skipped), bookmark=self.clips.bookmark)
            if len(skipped) >= _MOST_SKIPPED:
                raise InputError(f"{self.clips.name}: {len(skipped)} clips in a row cannot be used. {skipped[-1]}", "")
        tasks = ", ".join(task.value for task in self._kinds[kind])
        raise InputError(f"{self.clips.name} holds nothing to ask {tasks} about", "Change its tasks, or its records")

    def _group(self, index: int) -> Group:
        if self.deal is None:
            return Group(index // self.asked.group_size)
        batch, place = divmod(index, self.batch_size)
        groups = -(-self.batch_size // self.asked.group_size)
        lane, before = self.deal(batch)
        place //= self.asked.group_size
        return Group(batch * groups + place, lane, before * groups + place)

    def _usable(self, trial: _Try, skipped: list[str]) -> Sample | None:
        """What the attempt gives, short enough; None, and a line in ``skipped`` if the clip is to blame."""
        try:
            sample = self._attempt(trial)
        except SourceError as error:
            skipped.append(str(error))
            return None
        if sample is None:
            return None
        shortened = self._shortened(sample, trial)
        if shortened is None:
            skipped.append(f"{sample.id} is too long even with one frame")
        return shortened

    def _attempt(self, trial: _Try) -> Sample | None:
        """None if the object that is drawn cannot serve the task that is drawn."""
        own = (self.seed, trial.index, trial.attempt) if trial.attempt else (self.seed, trial.index)
        shared = (self.seed, 2, trial.group.number, trial.attempt // _TRIES)
        rng, group_rng = np.random.default_rng(own), np.random.default_rng(shared)
        task = list(trial.tasks)[weighted(group_rng, trial.tasks.values())]
        return self._draw(rng, group_rng, trial, task)

    def _shortened(self, sample: Sample, trial: _Try) -> Sample | None:
        """The sample without its last rounds, then drawn again with ever fewer frames, until it fits; None if not even
        one round about one frame does."""
        given = len(sample.boxes)
        while self.fits is not None and not self.fits(sample):
            if sample.later:
                sample = replace(sample, later=sample.later[:-1], dropped_rounds=sample.dropped_rounds + 1)
                continue
            fewer = len(sample.boxes) - 1
            shorter = self._attempt(replace(trial, most_frames=fewer)) if fewer > 0 else None
            if shorter is None:
                return None
            dropped = sample.dropped_rounds
            sample = replace(shorter, later=(), dropped_frames=given - fewer, dropped_rounds=dropped)
        return sample

    def _frames(self, index: int) -> int:
        progress = (index // self.batch_size * self.batch_size + 0.5) / self.num_samples  # the same in a whole batch
        phase = next(phase for phase in self.phases if progress <= phase.until)
        if phase.min_frames is None:
            return phase.frames
        rng = np.random.default_rng((self.seed, 4, index // self.batch_size))
        return int(rng.integers(phase.min_frames, phase.frames + 1))

    def _kind(self, batch: int) -> Kind:
        """What a batch asks for."""
        weights = [sum(tasks.values()) for tasks in self._kinds.values()]
        return list(self._kinds)[weighted(np.random.default_rng((self.seed, 1, batch)), weights)]

    def _draw(self, rng: np.random.Generator, group_rng: np.random.Generator, trial: _Try, task: Task) -> Sample | None:
        """A sample about the clip and the frames that ``group_rng`` gives to the whole group, and what ``rng``
        draws."""
        clips = self.stills if self.stills is not None and trial.num_frames == 1 else self.clips
        number = clips.another(group_rng)
        if trial.attempt < _TRIES:
            number = clips.own(trial.group, self.seed)
        frames, labels = clips[number]
        shown = _Shown(clips.name, number, labels.name or str(number), frames)
        if task is Task.CAPTION:
            return self._caption(rng, shown, labels.caption, trial) if labels.caption and len(frames) else None
        if labels.chat:  # its answers are words, as those of the batch must be
            return self._chat(shown, labels.chat, trial) if task is Task.VIDEO_QA else None
        from_start = task is Task.VIDEO_QA or (task.needs_expression and labels.words_at_start)
        picked = draw_frames(group_rng, len(frames), trial.num_frames, from_start, self.asked.max_interval)
        picked = picked[: trial.most_frames]
        if not labels.objects:
            return None
        item = labels.objects[int(rng.integers(len(labels.objects)))]
        boxes = item.boxes_xyxyn[picked]
        needs_words = task.needs_expression or not task.answers_boxes  # what has no name is not described
        if np.isnan(boxes[0, 0]) or (needs_words and not item.expressions):
            return None
        if task is Task.VIDEO_QA:
            return self._question(rng, item, labels, boxes, shown.clip(picked))
        return self._build(rng, task, item, boxes, shown.clip(picked))

    def _caption(self, rng: np.random.Generator, shown: _Shown, caption: str, trial: _Try) -> Sample:
        """Words for all that is shown, in frames spread evenly over the clip."""
        clip = shown.clip(spread_frames(len(shown.frames), trial.num_frames)[: trial.most_frames])
        question = build_question(Task.CAPTION, rng=self._paraphrases(rng))
        prompt, answer = build_prompt(Task.CAPTION, len(clip.keys), question), answer_text(Task.CAPTION, text=caption)
        return Sample(
            Task.CAPTION, prompt, answer, answer, clip.frames, nowhere(len(clip.keys)), None, question, clip.keys, (),
            np.zeros(4, np.float32), clip.id, labelled=False,
        )  # fmt: skip

    def _paraphrases(self, rng: np.random.Generator) -> np.random.Generator | None:
        """What draws one of the questions of a task, None for the fixed one."""
        return rng if rng.random() < self.asked.paraphrase_share else None

    def _chat(self, shown: _Shown, chat: tuple[tuple[str, str], ...], trial: _Try) -> Sample:
        """All rounds of a chat, about frames spread evenly over the clip, or about no frame at all."""
        (question, answer), *later = chat
        picked = spread_frames(len(shown.frames), trial.num_frames)[: trial.most_frames]
        clip = shown.clip(picked)
        alone = f"{SYSTEM_SENTENCE}USER: {question}{MARK_ANSWER}"
        prompt = alone
        if len(picked):
            prompt = build_prompt(Task.VIDEO_QA, len(picked), question, published=self.published)
        rounds = tuple((f"USER: {asked}{MARK_ANSWER}", said) for asked, said in later)
        return Sample(
            Task.VIDEO_QA, prompt, answer, answer, clip.frames, nowhere(len(picked)), None,
            question if len(picked) else None, clip.keys, (), np.zeros(4, np.float32), clip.id, labelled=False,
            later=rounds,
        )  # fmt: skip

    def _question(
        self, rng: np.random.Generator, item: ObjectLabel, labels: ClipLabels, boxes: NDArray[np.float32], clip: _Clip
    ) -> Sample | None:
        asked = ask(rng, item, labels.objects, boxes, self.asked.questions.model_dump())
        if asked is None:
            return None
        question, answer = asked
        asked_for = build_question(Task.VIDEO_QA, question=question)
        prompt = build_prompt(Task.VIDEO_QA, len(boxes), asked_for, published=self.published)
        return Sample(
            Task.VIDEO_QA, prompt, answer, answer, clip.frames, boxes, None, question, clip.keys, names(item),
            part_of(rng, boxes[0]), clip.id,
        )  # fmt: skip

    def _build(
        self, rng: np.random.Generator, task: Task, item: ObjectLabel, boxes: NDArray[np.float32], clip: _Clip
    ) -> Sample:
        expression = str(rng.choice(item.expressions)) if task.needs_expression else None
        bins = [None if np.isnan(b[0]) else quantize(b[None])[0] for b in boxes]
        box_text, region = None, None
        if task.needs_box:
            prompted = quantize(self._prompt_box(rng, boxes[0])[None])[0]
            bins[0], box_text = prompted, ELYSIUM.format_box(prompted)
            region = prompted.astype(np.float64) / 100  # what inference will know
        question = build_question(
            task, box_text=box_text, expression=expression, region_mark=self.region_mark, rng=self._paraphrases(rng),
        )  # fmt: skip
        answer = heard = answer_text(task, boxes=bins if task.answers_boxes else None, text=item.description)
        if task.answers_boxes:
            given = 1 if task is Task.SOT else 0  # frame 1 of SOT repeats the question
            slipped = [box if i < given else self._slip(rng, box) for i, box in enumerate(bins)]
            heard = answer_text(task, boxes=slipped)
        prompt = build_prompt(task, len(boxes), question)
        return Sample(
            task, prompt, answer, heard, clip.frames, boxes, region, expression, clip.keys, names(item),
            part_of(rng, boxes[0]), clip.id,
        )  # fmt: skip

    def _slip(self, rng: np.random.Generator, box: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
        """A box as the model may come to write it: sometimes off by a part of its size, sometimes anywhere.

        A model that always hears the right box of the frame before learns to repeat it instead of looking, and
        drifts away as soon as it hears its own.
        """
        if box is None or rng.random() >= self.asked.slip_share:
            return box
        size = np.tile(box[2:] - box[:2], 2)
        far = rng.random() < 0.35
        shift = np.tile(rng.uniform(-60, 60, 2) if far else rng.normal(0, 0.35, 2) * size[:2], 2)
        moved = np.clip(np.round(box + shift + rng.normal(0, 0.1, 4) * size), 0, 100).astype(np.int64)
        return moved if (moved[2:] >= moved[:2]).all() and moved.any() else box

    def _prompt_box(self, rng: np.random.Generator, box: NDArray[np.float32]) -> NDArray[np.float64]:
        """The box of the question, a little off in half of the samples, as a tracker's own last box is."""
        exact = box.astype(np.float64)
        if rng.random() < 0.5:
            return exact
        size = np.tile(exact[2:] - exact[:2], 2)
        moved = np.clip(exact + rng.normal(0, self.asked.box_jitter, 4) * size, 0, 1)
        return moved if (moved[2:] - moved[:2] > 0.01).all() else exact


class MixedSamples:
    """Batches of several datasets of equal length and batch size in turn."""

    def __init__(self, parts: Sequence[SampleDataset], mixture: Mixture) -> None:
        self.parts, self.mixture = parts, mixture

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, index: int) -> Sample:
        return self.parts[self.mixture.source_of(index // self.parts[0].batch_size)][index]


def by_kind(asked: DataSection) -> dict[Kind, dict[Task, float]]:
    """The tasks with their weights, by what makes sequences alike in length; no kind without weight."""
    tasks = {Task(name): weight for name, weight in asked.tasks.items()}
    shares = {**dict.fromkeys(_IMAGE_TASKS, 1.0), **dict.fromkeys(_EITHER, asked.image_questions)}
    image = {task: weight * shares.get(task, 0.0) for task, weight in tasks.items()}
    clip = {task: weight - image[task] for task, weight in tasks.items()}
    kinds: dict[Kind, dict[Task, float]] = {
        "image": image,
        "boxes": {task: weight for task, weight in clip.items() if task.answers_boxes},
        "words": {task: weight for task, weight in clip.items() if not task.answers_boxes},
    }
    kept = {kind: {t: w for t, w in weights.items() if w > 0} for kind, weights in kinds.items()}
    return {kind: weights for kind, weights in kept.items() if weights}


def nowhere(num_frames: int) -> NDArray[np.float32]:
    """(n, 4) NaN: it is not known where anything is."""
    return np.full((num_frames, 4), np.nan, np.float32)


def names(item: ObjectLabel) -> tuple[str, ...]:
    """The words for the thing itself; none for what cannot be named."""
    return tuple(word for word in (item.noun, item.colour) if word) if item.expressions else ()


def part_of(rng: np.random.Generator, box: NDArray[np.float32]) -> NDArray[np.float32]:
    """The box, or in half of the cases a part of it: single tokens see no more of a large thing."""
    if rng.random() < 0.5:
        return box
    size = box[2:] - box[:2]
    share = rng.uniform(0.3, 1.0, 2)
    corner = box[:2] + rng.random(2) * (1 - share) * size
    return np.concatenate([corner, corner + share * size]).astype(np.float32)
