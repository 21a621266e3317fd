"""From cached clips to training samples: which frames, which object, which task, which words.

Knows: tasks, prompts, quantised boxes. Sample ``i`` depends on (seed, i) alone, whatever the workers, and all
samples of a batch have the same number of frames, so padding stays small. Neighbouring samples are questions about
the same frames, which then are looked at once.
Does not know: tokens, tensors on devices, losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from elysium.boxes import quantize
from elysium.config import Phase
from elysium.data.synth.questions import EQUALLY, ask
from elysium.language.dialects import ELYSIUM
from elysium.language.prompts import Task, answer_text, build_prompt, build_question
from elysium.training.features import ClipLabels, FeatureCache, ObjectLabel

_IMAGE_TASKS = (Task.REC, Task.REG)
_TRIES = 8  # objects of a clip that are tried before the group goes to another clip
_Frames = tuple[NDArray[np.float16], tuple[tuple[int, int], ...]]


@dataclass(frozen=True)
class Sample:
    """One prompt and its answer.

    ``heard`` is the answer as the model hears itself while it learns to continue: like ``answer``, but with some boxes
    misplaced. ``boxes`` (n, 4) in 0..1 with NaN: where the object is in each frame, for the gate. ``frame_keys``: equal
    keys of two samples mean the same frame, with the same features. ``names``: the words for the thing (its noun, its
    colour), for ``named_box`` (4,), its box in the first frame or a part of that.
    """

    task: Task
    prompt: str
    answer: str
    heard: str
    features: NDArray[np.float16]
    boxes: NDArray[np.float32]
    region: NDArray[np.float64] | None
    query: str | None
    frame_keys: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    named_box: NDArray[np.float32]


class SampleDataset(Dataset[Sample]):
    """``num_samples`` samples drawn from a cache of clips under a curriculum of frame counts.

    ``stills``: a cache of single pictures; questions on single pictures are about them, or, without it, about frames of
    clips. ``group_size`` neighbouring samples are about the same frames. ``image_questions``: the share of VIDEO_QA
    that is about single pictures.
    """

    def __init__(
        self, cache: FeatureCache, num_samples: int, batch_size: int, phases: Sequence[Phase], tasks: dict[str, float],
        seed: int = 0, stills: FeatureCache | None = None, group_size: int = 1, paraphrase_share: float = 0.3,
        box_jitter: float = 0.06, slip_share: float = 0.6, questions: Mapping[str, float] = EQUALLY,
        image_questions: float = 0.0, region_mark: bool = True,
    ) -> None:  # fmt: skip
        self.cache = cache
        self.stills = stills
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.group_size = group_size
        self.phases = list(phases)
        self.tasks = {Task(name): weight for name, weight in tasks.items()}
        shares = {**dict.fromkeys(_IMAGE_TASKS, 1.0), Task.VIDEO_QA: image_questions}
        self._image_tasks = {task: weight * shares[task] for task, weight in self.tasks.items() if shares.get(task)}
        self.seed = seed
        self.paraphrase_share = paraphrase_share
        self.box_jitter = box_jitter
        self.slip_share = slip_share
        self.questions = questions
        self.region_mark = region_mark

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> Sample:
        image_batch = self._is_image_batch(index // self.batch_size)
        num_frames = 1 if image_batch else self._frames(index)
        rng = np.random.default_rng((self.seed, index))
        attempt = 0
        while True:  # a few objects cannot serve every task (absent at first, no words): draw again
            group_rng = np.random.default_rng((self.seed, 2, index // self.group_size, attempt // _TRIES))
            task = self._draw_task(group_rng, image_batch)
            sample = self._draw(rng, group_rng, task, num_frames)
            if sample is not None:
                return sample
            attempt += 1

    def _frames(self, index: int) -> int:
        progress = (index + 0.5) / self.num_samples
        return next(phase.frames for phase in self.phases if progress <= phase.until)

    def _is_image_batch(self, batch: int) -> bool:
        share = sum(self._image_tasks.values()) / sum(self.tasks.values())
        return bool(np.random.default_rng((self.seed, 1, batch)).random() < share)

    def _draw_task(self, rng: np.random.Generator, image: bool) -> Task:
        choices = self._image_tasks
        if not image:
            choices = {task: weight - choices.get(task, 0.0) for task, weight in self.tasks.items()}
        weights = np.array(list(choices.values()))
        return list(choices)[rng.choice(len(choices), p=weights / weights.sum())]

    def _draw(
        self, rng: np.random.Generator, group_rng: np.random.Generator, task: Task, num_frames: int
    ) -> Sample | None:
        """A sample about the clip and the frames that ``group_rng`` gives to the whole group; None if the object that
        ``rng`` draws cannot serve the task."""
        cache = self.stills if num_frames == 1 and self.stills is not None else self.cache
        number = int(group_rng.integers(len(cache)))
        features, labels = cache[number]
        from_start = task.needs_expression or task is Task.VIDEO_QA
        picked = draw_frames(group_rng, len(features), num_frames, from_start)
        if not labels.objects:
            return None
        item = labels.objects[int(rng.integers(len(labels.objects)))]
        boxes = item.boxes_xyxyn[picked]
        if np.isnan(boxes[0, 0]) or (task.needs_expression and not item.expressions):
            return None
        if not task.answers_boxes and not item.expressions:
            return None  # what has no name is not described
        frames = np.asarray(features[picked]), tuple((number, int(frame)) for frame in picked)
        if task is Task.VIDEO_QA:
            return self._question(rng, item, labels, boxes, frames)
        return self._build(rng, task, item, boxes, frames)

    def _question(
        self, rng: np.random.Generator, item: ObjectLabel, labels: ClipLabels, boxes: NDArray[np.float32],
        frames: _Frames,
    ) -> Sample | None:  # fmt: skip
        asked = ask(rng, item, labels.objects, boxes, self.questions)
        if asked is None:
            return None
        question, answer = asked
        prompt = build_prompt(Task.VIDEO_QA, len(boxes), build_question(Task.VIDEO_QA, question=question))
        return Sample(
            Task.VIDEO_QA, prompt, answer, answer, frames[0], boxes, None, question, frames[1], names(item),
            part_of(rng, boxes[0]),
        )  # fmt: skip

    def _build(
        self, rng: np.random.Generator, task: Task, item: ObjectLabel, boxes: NDArray[np.float32], frames: _Frames
    ) -> Sample:
        expression = str(rng.choice(item.expressions)) if task.needs_expression else None
        bins = [None if np.isnan(b[0]) else quantize(b[None])[0] for b in boxes]
        box_text, region = None, None
        if task.needs_box:
            prompted = quantize(self._prompt_box(rng, boxes[0])[None])[0]
            bins[0], box_text = prompted, ELYSIUM.format_box(prompted)
            region = prompted.astype(np.float64) / 100  # what inference will know
        question = build_question(
            task, box_text=box_text, expression=expression, region_mark=self.region_mark,
            rng=rng if rng.random() < self.paraphrase_share else None,
        )  # fmt: skip
        answer = heard = answer_text(task, boxes=bins if task.answers_boxes else None, text=item.description)
        if task.answers_boxes:
            given = 1 if task is Task.SOT else 0  # frame 1 of SOT repeats the question
            slipped = [box if i < given else self._slip(rng, box) for i, box in enumerate(bins)]
            heard = answer_text(task, boxes=slipped)
        prompt = build_prompt(task, len(boxes), question)
        return Sample(
            task, prompt, answer, heard, frames[0], boxes, region, expression, frames[1], names(item),
            part_of(rng, boxes[0]),
        )  # fmt: skip

    def _slip(self, rng: np.random.Generator, box: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
        """A box as the model may come to write it: sometimes off by a part of its size, sometimes anywhere.

        A model that always hears the right box of the frame before learns to repeat it instead of looking, and
        drifts away as soon as it hears its own.
        """
        if box is None or rng.random() >= self.slip_share:
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
        moved = np.clip(exact + rng.normal(0, self.box_jitter, 4) * size, 0, 1)
        return moved if (moved[2:] - moved[:2] > 0.01).all() else exact


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


def draw_frames(rng: np.random.Generator, available: int, count: int, from_start: bool) -> NDArray[np.int64]:
    """``count`` frame numbers at one interval, from a random start, or from 0 (words are true of frame 0)."""
    count = min(count, available)
    widest = (available - 1) // max(count - 1, 1)
    interval = int(rng.integers(1, widest + 1)) if count > 1 else 1
    last_start = available - 1 - interval * (count - 1)
    start = 0 if from_start else int(rng.integers(last_start + 1))
    return start + interval * np.arange(count)
