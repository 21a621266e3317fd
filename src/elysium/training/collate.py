"""Samples to tensors: left-padded sequences, one for each sample, or one for all questions about the same frames.

Knows: which tokens carry loss (the answer and its end token, nothing else), which of them are numbers of a box, and
which tokens of a packed sequence see each other. Does not know: how the loss is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from elysium.model import ElysiumProcessor
from elysium.model.positions import box_coverage
from elysium.model.presets import NUM_BINS
from elysium.model.processing import IGNORED
from elysium.training.samples import Sample

WORD, TEMPLATE = -1, -2  # what a label is that is no number: free text, or what stands between the numbers of boxes


@dataclass(frozen=True)
class _Block:
    """A question behind its frames: what is read, and, token by token, what is to be said and what kind it is."""

    ids: list[int]
    labels: list[int]
    values: list[int]


@dataclass(frozen=True)
class _Row:
    """A sequence: frames, then blocks that each see the frames and themselves."""

    prefix: list[int]
    blocks: list[_Block]

    def __len__(self) -> int:
        return len(self.prefix) + sum(len(block.ids) for block in self.blocks)


class Collator:
    """Builds batches.

    Args:
        number_ids: the tokens of 0..100 where the tokenizer writes each as one, else empty: then a box is text as any.
        grid: side of the grid of visual tokens.
        packing: samples about the same frames, with the same words before and between them, share a sequence.
        tokens_per_frame: each batch keeps one of these numbers of visual tokens; empty: the processor's.
    """

    def __init__(
        self, processor: ElysiumProcessor, number_ids: Sequence[int], grid: int, packing: bool = False,
        tokens_per_frame: Sequence[int] = (), seed: int = 0,
    ) -> None:  # fmt: skip
        self.processor = processor
        self.grid = grid
        self.packing = packing
        self.tokens_per_frame = tuple(tokens_per_frame)
        self.seed = seed
        self.value_of = {token: value for value, token in enumerate(number_ids)}
        vocabulary = processor.tokenizer.get_vocab()
        self._opening, self._closing = ({i for text, i in vocabulary.items() if mark in text} for mark in "[]")

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """``input_ids, attention_mask, position_ids, labels`` (B, L); ``number_values`` (B, L): 0..100 where the label
        is a number of a box, else WORD or TEMPLATE; ``vision_features`` (U, D) or ``pixel_values`` (U, 3, S, S) of the
        different frames and ``frame_ids`` (F,), absent in a batch without frames; regions, queries; ``gate_targets``
        (F, N), NaN in frames without labels, and ``gate_boxes`` (F, 4); of the R things with a name, ``named_boxes``
        (R, 4) in the frames ``named_frames`` (R,) of U, and ``name_labels`` (R, W), the words for them, padded with
        IGNORED.

        A packed ``attention_mask`` is (B, 1, L, L), true where a token sees another. ``ids``, ``dropped_frames``,
        ``dropped_rounds``, ``skipped`` and ``bookmarks`` are what samples say of themselves, in lists.
        """
        groups = grouped(samples) if self.packing else [[sample] for sample in samples]
        k = self._draw_k(samples[0])
        batch: dict[str, Any] = _sequences([self._row(group, k) for group in groups])
        samples = [sample for group in groups for sample in group]
        batch |= {
            "ids": [s.id for s in samples], "skipped": [told for s in samples for told in s.skipped],
            "dropped_frames": [s.dropped_frames for s in samples],
            "dropped_rounds": [s.dropped_rounds for s in samples],
            "bookmarks": [s.bookmark for s in samples if s.bookmark],
        }  # fmt: skip
        if any(len(s.boxes) for s in samples):
            batch |= self._frames(groups) | self._regions(groups)
            batch |= self._names(groups, batch["frame_ids"])
            if not self.packing:  # what is shared cannot depend on the question
                batch |= self.processor.query_tensors([s.query for s in samples])
        return batch

    def length(self, sample: Sample) -> int:
        """Tokens of a sample's sequence at its longest."""
        k = max(self.tokens_per_frame, default=self.processor.num_image_tokens)
        first = len(self.processor.encode_prompt(sample.prompt, k)) + len(self.processor.encode_answer(sample.answer))
        return first + sum(len(ids) for piece in self._later(sample) for ids in piece)

    def _draw_k(self, first: Sample) -> int:
        if not self.tokens_per_frame:
            return self.processor.num_image_tokens
        return int(np.random.default_rng((self.seed, 5, first.index)).choice(self.tokens_per_frame))

    def _row(self, group: Sequence[Sample], k: int) -> _Row:
        prompts = [self.processor.encode_prompt(sample.prompt, k) for sample in group]
        shared = _frames_end(prompts[0], self.processor.image_token_id) if len(group) > 1 else 0
        blocks = [self._block(prompt[shared:], sample) for prompt, sample in zip(prompts, group, strict=True)]
        return _Row(prompts[0][:shared], blocks)

    def _block(self, question: list[int], sample: Sample) -> _Block:
        answer, heard = (self.processor.encode_answer(text) for text in (sample.answer, sample.heard))
        if len(heard) != len(answer):  # numbers of several tokens do not stand place by place
            heard = answer
        values = self._box_values(answer) if sample.task.answers_boxes and self.value_of else [WORD] * len(answer)
        ids, labels = question + heard, [IGNORED] * len(question) + answer
        for asked, said in self._later(sample):
            ids += asked + said
            labels += [IGNORED] * len(asked) + said
        return _Block(ids, labels, [WORD] * len(question) + values + [WORD] * (len(ids) - len(question) - len(answer)))

    def _later(self, sample: Sample) -> list[tuple[list[int], list[int]]]:
        """Prompt and answer tokens of further rounds."""
        encode = self.processor
        return [(encode.encode_prompt(asked, begins=False), encode.encode_answer(said)) for asked, said in sample.later]

    def _box_values(self, answer: list[int]) -> list[int]:
        """Value of each token that is a number inside brackets, TEMPLATE of every other (frame numbers included)."""
        values, inside = [], False
        for token in answer:
            values.append(self.value_of.get(token, TEMPLATE) if inside else TEMPLATE)
            inside = (inside or token in self._opening) and token not in self._closing
        return values

    def _frames(self, groups: Sequence[Sequence[Sample]]) -> dict[str, Any]:
        """What is seen, once for each sequence; of its things, the gate is to keep all, and to box the first."""
        firsts = [group[0] for group in groups]
        targets = [torch.stack([self._targets(sample) for sample in group]) for group in groups]
        return {
            **self._shared_frames(firsts),
            "frame_counts": torch.tensor([len(s.boxes) for s in firsts]),
            "gate_targets": torch.cat([target.amax(dim=0) for target in targets]),
            "gate_boxes": torch.from_numpy(np.concatenate([s.boxes for s in firsts])),
        }

    def _targets(self, sample: Sample) -> Tensor:
        """(n, N), NaN where it is not known what lies where."""
        targets = gate_targets(torch.from_numpy(sample.boxes), self.grid)
        return targets if sample.labelled else torch.full_like(targets, float("nan"))

    def _shared_frames(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Features or pixels of every frame once, and ``frame_ids`` (F,) of all samples' frames."""
        places: dict[tuple[str, int, int], int] = {}
        frames: list[NDArray[Any]] = []
        ids = []
        for sample in samples:
            for key, frame in zip(sample.frame_keys, sample.features, strict=True):
                if key not in places:
                    places[key] = len(frames)
                    frames.append(frame)
                ids.append(places[key])
        seen: dict[str, Tensor]
        if frames[0].ndim == 3:
            seen = {"pixel_values": self.processor.image_processor(frames)["pixel_values"]}
        else:
            seen = {"vision_features": torch.from_numpy(np.stack(frames)).float()}
        return {**seen, "frame_ids": torch.tensor(ids)}

    def _regions(self, groups: Sequence[Sequence[Sample]]) -> dict[str, Tensor]:
        starts = np.cumsum([0, *(len(group[0].boxes) for group in groups)])
        given = [(s.region, starts[row]) for row, group in enumerate(groups) for s in group if s.region is not None]
        if not given:
            return {}
        return {
            "region_boxes": torch.from_numpy(np.stack([box for box, _ in given])).float(),
            "region_frames": torch.tensor([int(start) for _, start in given]),
        }

    def _names(self, groups: Sequence[Sequence[Sample]], frame_ids: Tensor) -> dict[str, Tensor]:
        starts = np.cumsum([0, *(len(group[0].boxes) for group in groups)])
        named = [(s, int(starts[row])) for row, group in enumerate(groups) for s in group if s.names]
        if not named:
            return {}
        words = [torch.tensor(self.processor.encode_words(sample.names)) for sample, _ in named]
        return {
            "named_boxes": torch.from_numpy(np.stack([sample.named_box for sample, _ in named])),
            "named_frames": frame_ids[torch.tensor([start for _, start in named])],
            "name_labels": pad_sequence(words, batch_first=True, padding_value=IGNORED),
        }


def grouped(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Samples whose sequences begin alike: about the same frames in the same order, introduced alike."""
    groups: dict[Any, list[Sample]] = {}
    for number, sample in enumerate(samples):
        alone = number if not sample.frame_keys else None
        key = (sample.frame_keys, sample.task.labels_frames or len(sample.frame_keys) > 1, alone)
        groups.setdefault(key, []).append(sample)
    return list(groups.values())


def _frames_end(prompt: list[int], image_token: int) -> int:
    """The place behind the last visual token."""
    return len(prompt) - prompt[::-1].index(image_token) if image_token in prompt else 0


def _sequences(rows: Sequence[_Row]) -> dict[str, Tensor]:
    """Rows padded on the left, so that they end together."""
    shape = (len(rows), max(len(row) for row in rows))
    filled = {"input_ids": 0, "attention_mask": 0, "position_ids": 0, "labels": IGNORED, "number_values": WORD}
    batch = {key: np.full(shape, value) for key, value in filled.items()}
    blocks = np.full(shape, -1)  # which block a token is of: -1 padding, 0 frames, from 1 questions
    for number, row in enumerate(rows):
        start = shape[1] - len(row)
        sees = len(row.prefix)
        batch["attention_mask"][number, start:] = 1
        batch["input_ids"][number, start : start + sees] = row.prefix
        batch["position_ids"][number, start : start + sees] = range(sees)
        blocks[number, start : start + sees] = 0
        start += sees
        for place, block in enumerate(row.blocks, 1):
            span = slice(start, start + len(block.ids))
            batch["input_ids"][number, span] = block.ids
            batch["labels"][number, span] = block.labels
            batch["number_values"][number, span] = block.values
            batch["position_ids"][number, span] = range(sees, sees + len(block.ids))
            blocks[number, span] = place
            start = span.stop
    tensors = {key: torch.from_numpy(values) for key, values in batch.items()}
    if any(len(row.blocks) > 1 for row in rows):
        tensors["attention_mask"] = block_mask(torch.from_numpy(blocks))
    return tensors


def block_mask(blocks: Tensor) -> Tensor:
    """(B, 1, L, L), true where token i sees token j: not later, and of the frames (0) or of its own block of ``blocks``
    (B, L). Padding (-1) sees itself alone, since a softmax over nothing has no value."""
    length = blocks.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    own = blocks[:, :, None] == blocks[:, None, :]
    shared = blocks[:, None, :] == 0
    real = (blocks >= 0)[:, None, :]
    return ((earlier & (own | shared) & real) | torch.eye(length, dtype=torch.bool)).unsqueeze(1)


def gate_targets(boxes_xyxyn: Tensor, grid: int) -> Tensor:
    """(F, N) in 0..1: how much of each token lies in the object, relative to the best covered token; 0 where absent."""
    present = ~boxes_xyxyn.isnan().any(dim=1, keepdim=True)
    coverage = box_coverage(boxes_xyxyn.nan_to_num(0.0), grid)
    return coverage / coverage.amax(dim=1, keepdim=True).clamp_min(1e-6) * present


def number_kernel(sigma: float) -> Tensor:
    """(101, 101) soft targets: row v is a normalised Gaussian of ``sigma`` bins around v; the identity for 0."""
    if sigma == 0:
        return torch.eye(NUM_BINS)
    distance = torch.arange(NUM_BINS).float()
    kernel = torch.exp(-0.5 * ((distance[:, None] - distance[None, :]) / sigma) ** 2)
    return kernel / kernel.sum(dim=1, keepdim=True)
