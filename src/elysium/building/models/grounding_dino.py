"""Grounding DINO through transformers as a grounder: every phrase of a caption in one forward.

Liu et al., "Grounding DINO", arXiv 2303.05499. Knows how phrases become one text and which tokens are whose. Does not
know: which boxes are good enough, the rules of the stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForZeroShotObjectDetection, AutoTokenizer

from elysium.boxes import FloatArray
from elysium.building.models.loading import load_model, pixels, preprocessing
from elysium.building.stages import Detections, Image, Phrase
from elysium.errors import InputError
from elysium.inference.devices import resolve_device, resolve_dtype
from elysium.pretrained import load_error

DEFAULT_MODEL = "IDEA-Research/grounding-dino-base"
_SHORTEST, _LONGEST = 800, 1333  # sides of its input, unless the checkpoint says otherwise
_LEAST_SCORE = 0.05  # of its 900 queries, most mean nothing
_MOST_TOKENS = 256  # of one text


class GroundingDino:
    """Boxes for each phrase, with scores.

    A query's score for a phrase is the largest of its probabilities for the phrase's tokens, as in the published model,
    where a phrase counts by its best token.

    Args:
        model: a folder or a hub id, of Grounding DINO or MM Grounding DINO.
        device, dtype: as `Elysium.from_pretrained` takes them.

    Raises ModelError if it cannot be loaded.
    """

    def __init__(self, model: str = DEFAULT_MODEL, device: str = "auto", dtype: str = "auto") -> None:
        self.name = f"grounding-dino ({model})"
        where = resolve_device(device)
        folder = str(Path(model).expanduser()) if Path(model).expanduser().is_dir() else model
        self._model = load_model(AutoModelForZeroShotObjectDetection, folder, where, resolve_dtype(dtype, where))
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
        except Exception as error:
            raise load_error(model, error, "It needs its tokenizer beside it.") from error
        self._said = preprocessing(folder)
        self._most = min(getattr(self._model.config, "max_text_len", _MOST_TOKENS), _MOST_TOKENS)

    def ground(self, image: Image, phrases: Sequence[Phrase]) -> list[Detections]:
        height, width = image.shape[:2]
        seen = pixels(image, input_size((width, height), self._said), self._said)
        answers: list[Detections] = []
        for ids, spans in self._texts([phrase.text for phrase in phrases]):
            boxes, shares = self._forward(seen, ids, (width, height))
            answers += [_sorted(boxes, shares[:, start:stop].max(axis=1)) for start, stop in spans]
        return answers

    def _texts(self, phrases: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Token ids of as few texts as will do, "dog. red car.", each with the places of its phrases' tokens.

        Raises InputError for a phrase that is longer than a text may be.
        """
        first, last = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        (stop,) = self._tokenizer(".", add_special_tokens=False)["input_ids"]
        texts: list[tuple[list[int], list[tuple[int, int]]]] = []
        for phrase in phrases:
            plain = phrase.lower().replace(".", " ").strip()
            ids = self._tokenizer(plain, add_special_tokens=False)["input_ids"]
            if not ids or len(ids) + 3 > self._most:
                raise InputError(f"The phrase {phrase[:60]!r} has {len(ids)} tokens", f"Use 1 to {self._most - 3}.")
            if not texts or len(texts[-1][0]) + len(ids) + 2 > self._most:
                texts.append(([first], []))
            text, spans = texts[-1]
            spans.append((len(text), len(text) + len(ids)))
            text += [*ids, stop]
        return [([*text, last], spans) for text, spans in texts]

    @torch.inference_mode()
    def _forward(self, seen: torch.Tensor, ids: list[int], size_wh: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        """(queries, 4) boxes in pixels and (queries, tokens) probabilities."""
        device, dtype = self._model.device, self._model.dtype
        tokens = torch.tensor([ids], device=device)
        output = self._model(
            pixel_values=seen.to(device, dtype),
            pixel_mask=torch.ones(1, *seen.shape[2:], dtype=torch.long, device=device),
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            token_type_ids=torch.zeros_like(tokens),
        )
        middles = output.pred_boxes[0].double().cpu().numpy()  # cx, cy, w, h in 0..1
        boxes = np.c_[middles[:, :2] - middles[:, 2:] / 2, middles[:, :2] + middles[:, 2:] / 2]
        return boxes * np.tile(size_wh, 2), output.logits[0].double().sigmoid().cpu().numpy()


def input_size(resolution_wh: tuple[int, int], said: dict[str, object]) -> tuple[int, int]:
    """What an image of this size is resized to: the shorter side to 800, unless the longer would exceed 1333.

    >>> input_size((640, 480), {}), input_size((1920, 1080), {})
    ((1066, 800), (1333, 750))
    """
    size = said.get("size")
    wanted = size if isinstance(size, dict) else {}
    shortest, longest = wanted.get("shortest_edge", _SHORTEST), wanted.get("longest_edge", _LONGEST)
    short, long = min(resolution_wh), max(resolution_wh)
    exact = min(float(shortest), longest * short / long)
    width, height = (round(exact) if side == short else int(exact * side / short) for side in resolution_wh)
    return width, height


def _sorted(boxes: FloatArray, scores: FloatArray) -> Detections:
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > _LEAST_SCORE]
    return Detections(boxes[order], scores[order])
