"""Samples to tensors: left-padded sequences whose answers all end at the right edge.

Knows: which tokens carry loss (the answer and its end token, nothing else) and which of them are numbers of a
box. Does not know: how the loss is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from elysium.model import ElysiumProcessor
from elysium.model.positions import box_coverage
from elysium.model.presets import NUM_BINS
from elysium.training.samples import Sample

IGNORED = -100


class Collator:
    """Builds batches for a model whose tokenizer writes each of 0..100 as one token (``number_ids``)."""

    def __init__(self, processor: ElysiumProcessor, number_ids: Sequence[int], grid: int) -> None:
        self.processor = processor
        self.grid = grid
        self.value_of = {token: value for value, token in enumerate(number_ids)}

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """``input_ids, attention_mask, position_ids, labels`` (B, L); ``number_values`` (B, L), -1 where the label is
        no number of a box; features (U, D) of the different frames and ``frame_ids`` (F,); regions, queries;
        ``gate_targets`` (F, N), ``gate_boxes`` (F, 4); of the R things with a name, ``named_boxes`` (R, 4) in the
        frames ``named_frames`` (R,) of U, and ``name_labels`` (R, W), the words for them, padded with IGNORED.
        """
        prompts = [self.processor.encode_prompt(s.prompt) for s in samples]
        batch = self._sequences(prompts, samples)
        batch.update(_shared_frames(samples))
        batch["frame_counts"] = torch.tensor([len(s.boxes) for s in samples])
        batch.update(self._regions(samples))
        batch.update(self.processor.query_tensors([s.query for s in samples]))
        boxes = torch.from_numpy(np.concatenate([s.boxes for s in samples]))
        batch["gate_targets"] = gate_targets(boxes, self.grid)
        batch["gate_boxes"] = boxes
        batch.update(self._names(samples, batch["frame_ids"]))
        return batch

    def _names(self, samples: Sequence[Sample], frame_ids: Tensor) -> dict[str, Tensor]:
        rows = [i for i, s in enumerate(samples) if s.names]
        if not rows:
            return {}
        starts = np.cumsum([0, *(len(s.boxes) for s in samples)])
        # Words carry a leading space, as they do in the middle of an answer.
        words = [torch.tensor(self.processor.encode_words(samples[i].names)) for i in rows]
        return {
            "named_boxes": torch.from_numpy(np.stack([samples[i].named_box for i in rows])),
            "named_frames": frame_ids[starts[rows].astype(np.int64)],
            "name_labels": pad_sequence(words, batch_first=True, padding_value=IGNORED),
        }

    def _sequences(self, prompts: list[list[int]], samples: Sequence[Sample]) -> dict[str, Tensor]:
        answers = [self.processor.encode_answer(s.answer) for s in samples]
        width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
        shape = (len(prompts), width)
        ids, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORED)
        mask, values = torch.zeros(shape, dtype=torch.long), torch.full(shape, -1)
        for row, (prompt, answer, sample) in enumerate(zip(prompts, answers, samples, strict=True)):
            # Numbers are single tokens, so what is heard and what is to be said stand place by place.
            heard = self.processor.encode_answer(sample.heard)
            ids[row, width - len(prompt) - len(answer) :] = torch.tensor(prompt + heard)
            mask[row, width - len(prompt) - len(answer) :] = 1
            labels[row, width - len(answer) :] = torch.tensor(answer)
            if sample.task.answers_boxes:
                values[row, width - len(answer) :] = torch.tensor(self._box_values(answer))
        positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": positions,
            "labels": labels,
            "number_values": values,
        }

    def _box_values(self, answer: list[int]) -> list[int]:
        """Value of each token that is a number inside brackets, -1 of every other (the frame number included)."""
        values, inside = [], False
        for token in answer:
            values.append(self.value_of.get(token, -1) if inside else -1)
            text = self.processor.tokenizer.convert_ids_to_tokens(token)
            inside = (inside or "[" in text) and "]" not in text
        return values

    def _regions(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        starts = np.cumsum([0, *(len(s.boxes) for s in samples)])
        rows = [i for i, s in enumerate(samples) if s.region is not None]
        if not rows:
            return {}
        boxes = np.stack([samples[i].region for i in rows])  # type: ignore[misc]
        return {
            "region_boxes": torch.from_numpy(boxes).float(),
            "region_frames": torch.from_numpy(starts[rows].astype(np.int64)),
        }


def _shared_frames(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """``vision_features`` (U, D) of every frame once, and ``frame_ids`` (F,) of all samples' frames."""
    places: dict[tuple[int, int], int] = {}
    features: list[NDArray[np.float16]] = []
    ids = []
    for sample in samples:
        for key, feature in zip(sample.frame_keys, sample.features, strict=True):
            if key not in places:
                places[key] = len(features)
                features.append(feature)
            ids.append(places[key])
    return {"vision_features": torch.from_numpy(np.stack(features)).float(), "frame_ids": torch.tensor(ids)}


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
