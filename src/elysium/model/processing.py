"""Prompts and frames to model inputs.

Knows: how placeholders are expanded (k image tokens a frame, r region tokens a box), how the pieces between
them are tokenised, and how a batch is padded. Does not know: what a question says (language.prompts), how many
boxes an answer has, what the model does with the tensors.

Pieces of text between placeholders are tokenised one by one, because the released model was trained so; with
``bos_per_piece`` each piece after an image starts with the tokenizer's special tokens, as there. ``published`` goes
all the way with that model: see :class:`ElysiumProcessor`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from elysium.errors import ModelError
from elysium.language.prompts import CHAT_TEMPLATE, MARK_ANSWER, MARK_IMAGE, MARK_REGION
from elysium.model.image_processing import ElysiumImageProcessor, FrameLike

_PIECES_KEPT = 4096

Region = tuple[int, Sequence[float]]
"""(frame of the request, from 0; x1, y1, x2, y2 in 0..1 of the model frame)."""


class ElysiumProcessor(ProcessorMixin):
    """Tokenizer and image processor in one.

    Args:
        image_processor, tokenizer: the parts. The tokenizer must know ``<image>`` (and ``<region>``) as tokens.
        num_image_tokens: k, image tokens per frame; must equal the selector's.
        num_region_tokens: tokens per ``<region>`` mark.
        bos_per_piece: whether every text piece after an image starts with the special tokens.
        dialect: name of the box format in text (``elysium.language.dialects``).
        published: prompts as the released model was trained on them, for what is imported from it. Later rounds of a
            chat start with the special tokens too, so does the nothing between two images that touch; answers in a
            history are tokenised on their own; questions about a video call its frames "1s", "2s" ...
    """

    def __init__(
        self,
        image_processor: ElysiumImageProcessor | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        num_image_tokens: int = 108,
        num_region_tokens: int = 0,
        bos_per_piece: bool = True,
        dialect: str = "elysium",
        published: bool = False,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.num_image_tokens = num_image_tokens
        self.num_region_tokens = num_region_tokens
        self.bos_per_piece = bos_per_piece
        self.dialect = dialect
        self.published = published
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)
        self.image_token = MARK_IMAGE
        self.image_token_id = self._mark_id(MARK_IMAGE)
        self.region_token_id = self._mark_id(MARK_REGION)
        self._pieces: dict[tuple[int, int, str, bool], tuple[int, ...]] = {}

    def _mark_id(self, mark: str) -> int:
        token_id = self.tokenizer.convert_tokens_to_ids(mark)
        if token_id is None or token_id == self.tokenizer.unk_token_id:
            raise ModelError(f"The tokenizer has no token {mark}", "Add it with add_marks(tokenizer)")
        return int(token_id)

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "pixel_values", "frame_counts"]

    def encode_prompt(self, text: str, num_image_tokens: int | None = None, begins: bool = True) -> list[int]:
        """Ids of a prompt, every ``<image>`` expanded to k ids and every ``<region>`` to r.

        ``begins``: it starts with the tokenizer's own special tokens, as the first round of a chat does.
        """
        if not self.published:
            return self._encode_pieces(text, num_image_tokens, begins)
        answered = rf"(?<={MARK_ANSWER})(.*?){re.escape(self.tokenizer.eos_token)}"
        ids: list[int] = []
        for place, turn in enumerate(re.split(answered, text, flags=re.DOTALL)):  # a history has answers between
            if place % 2:
                ids += self.encode_answer(turn)
            elif turn or not place:
                ids += self._encode_pieces(turn, num_image_tokens, True)
        return ids

    def _encode_pieces(self, text: str, num_image_tokens: int | None, special: bool) -> list[int]:
        """Ids of a prompt of one round. ``special``: it starts with the tokenizer's special tokens."""
        k = num_image_tokens or self.num_image_tokens
        marks = {MARK_IMAGE: [self.image_token_id] * k, MARK_REGION: [self.region_token_id] * self.num_region_tokens}
        ids: list[int] = []
        for piece in re.split(f"({re.escape(MARK_IMAGE)}|{re.escape(MARK_REGION)})", text):
            if piece in marks:
                ids += marks[piece]
                special = self.bos_per_piece and piece == MARK_IMAGE
            elif piece or (special and self.published):
                ids += self._encode_text(piece, special)
                special = False
        return ids

    def _encode_text(self, text: str, special: bool = False) -> list[int]:
        """Ids of a piece. What stands between frames comes again in every prompt, so ids are kept."""
        key = (id(self.tokenizer), len(self.tokenizer), text, special)
        if key not in self._pieces:
            if len(self._pieces) >= _PIECES_KEPT:
                self._pieces.clear()
            self._pieces[key] = tuple(self.tokenizer(text, add_special_tokens=special).input_ids)
        return list(self._pieces[key])

    def encode_words(self, words: Sequence[str]) -> list[int]:
        """Ids of words as they stand in the middle of a sentence."""
        return [token for word in words for token in self._encode_text(f" {word}")]

    def encode_answer(self, text: str) -> list[int]:
        """Ids of an answer as a training target: no special tokens in front, the end token behind."""
        return [*self._encode_text(text), int(self.tokenizer.eos_token_id)]

    def __call__(
        self,
        text: str | Sequence[str],
        images: Any = None,
        regions: Sequence[Sequence[Region]] | None = None,
        queries: Sequence[str | None] | None = None,
        num_image_tokens: int | None = None,
        padding_side: str = "left",
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Model inputs for one prompt or a batch.

        Args:
            text: prompts with ``<image>`` marks.
            images: RGB frames, flat in the order of the marks, or one list per prompt.
            regions: per prompt, the boxes that the question asks about.
            queries: per prompt, the words that it asks about (for selectors that look at the prompt).

        Returns ``input_ids, attention_mask`` (B, L) and, as given, ``pixel_values`` (F, 3, S, S),
        ``frame_counts`` (B,), ``region_boxes`` (R, 4), ``region_frames`` (R,), ``query_ids, query_mask`` (B, Q).
        Raises ModelError with both counts when marks and frames differ in number.
        """
        prompts = [text] if isinstance(text, str) else list(text)
        ids = [self.encode_prompt(prompt, num_image_tokens) for prompt in prompts]
        data: dict[str, Tensor] = self._pad(ids, padding_side)
        counts = [prompt.count(MARK_IMAGE) for prompt in prompts]
        frames = _flatten(images)
        if len(frames) != sum(counts):
            raise ModelError(
                f"The prompts have {sum(counts)} {MARK_IMAGE} marks but {len(frames)} frames were given",
                "Give one frame per mark",
            )
        if frames:
            data["pixel_values"] = self.image_processor(frames)["pixel_values"]
            data["frame_counts"] = torch.tensor(counts)
        data.update(_region_tensors(regions, counts))
        data.update(self.query_tensors(queries))
        return BatchFeature(data)

    def _pad(self, rows: list[list[int]], side: str) -> dict[str, Tensor]:
        width = max(len(row) for row in rows)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        ids = torch.full((len(rows), width), int(pad))
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            span = slice(width - len(row), width) if side == "left" else slice(0, len(row))
            ids[i, span] = torch.tensor(row)
            mask[i, span] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def query_tensors(self, queries: Sequence[str | None] | None) -> dict[str, Tensor]:
        """``query_ids, query_mask`` (B, Q) of the words that each request asks about; empty when none has any."""
        if queries is None or not any(queries):
            return {}
        # Words carry a leading space, as they do in the middle of a question; the end token alone stands for none.
        rows = [self._encode_text(f" {q.strip()}") if q else [] for q in queries]
        padded = self._pad([row or [int(self.tokenizer.eos_token_id)] for row in rows], "right")
        mask = padded["attention_mask"] * torch.tensor([[bool(row)] for row in rows])
        return {"query_ids": padded["input_ids"], "query_mask": mask}


def _flatten(images: Any) -> list[FrameLike]:
    if images is None:
        return []
    if not isinstance(images, (list, tuple)):
        return [images]
    return [frame for item in images for frame in (item if isinstance(item, (list, tuple)) else [item])]


def _region_tensors(regions: Sequence[Sequence[Region]] | None, counts: list[int]) -> dict[str, Tensor]:
    if regions is None or not any(regions):
        return {}
    starts = [sum(counts[:row]) for row in range(len(counts))]
    flat = [(starts[row] + frame, box) for row, boxes in enumerate(regions) for frame, box in boxes]
    return {
        "region_boxes": torch.tensor([list(box) for _, box in flat], dtype=torch.float32),
        "region_frames": torch.tensor([frame for frame, _ in flat]),
    }


def add_marks(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer the placeholders ``<image>`` and ``<region>``, behind its vocabulary, which keeps its size
    in the language model: the model never looks their embeddings up."""
    tokenizer.add_tokens([MARK_IMAGE, MARK_REGION], special_tokens=True)
