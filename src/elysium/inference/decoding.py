"""From requests to answers: greedy decoding of a batch under the answer grammar.

Knows token ids, logits, the key-value cache. Knows nothing of videos, pixels or clips, and nothing of how a model
sees: whatever the processor makes beside `input_ids` and `attention_mask` is handed to the first forward unopened.

How a batch moves, and why no shortcut changes an answer. A row feeds the tokens that it has written and the model has
not seen, and behind them a draft of what may follow:

- Tokens that the grammar forces cost no forward of their own: what the model would say there is not asked for, so
  they are fed together with the choice before them ("], Frame 2: [" and the like).
- A draft (`drafting.py`) is fed in the same forward. A causal model's logits at a place depend on the tokens up to it
  and on nothing behind. So as long as the draft's tokens are the ones that would have been chosen, the logits behind
  them are those of a forward of their own. `Row.read` chooses as if there were no draft, and stops at the first
  difference. Logits behind that are of no answer, and only guide the next draft.
- Requests about the same frames begin with the same tokens, as questions stand behind the frames. Where the selector
  does not look at the question, what the model makes of them is the same too: it is computed once and copied to every
  row. Of any other requests that is so of the words in front of the first frame.
- The slots of a draft's wrong tokens get attention mask 0 for good, or leave the cache if every row has some.
  Positions are counted per row over real tokens only, so what follows stands where it would have stood.
- Logits are made of tokens that some legal answer has, and at places where one is chosen. Scores compare legal tokens
  alone, so the others' logits are never looked at.
- Rows that have finished leave the batch. Rows do not see each other.

Every forward, the first included, is padded on the left: a row's tokens end in the last column. Rows that feed fewer
tokens than the widest one fill up with masked slots. Causality is by cache slot, and a
row's real slots are in order, so the mask that transformers builds from the 2-D attention mask is right.

Two exceptions are known. Sliding-window attention counts slots, hence masked ones too; it is exact for such models only
up to a window longer than the sequence. Rotations that follow the length of what is read ("dynamic" and "longrope")
follow the longest row with its draft, so behind the length that such a model was trained with answers depend on what is
asked beside them.

What remains is rounding: forwards of other shapes add up in another order, which in float32 moves logits in the sixth
digit, and in bfloat16 in the second or third.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from elysium.inference.answers import Answer, Request, Row, common_length
from elysium.inference.contexts import reading
from elysium.inference.drafting import Drafter, draft_width, spare_tokens
from elysium.language.dialects import Dialect, get_dialect
from elysium.language.grammar import AnswerGrammar

_CROWDED = 0.75  # of a batch's rows may be at work for its others to be sent away


class Decoder:
    """Answers batches of requests with one model and processor, greedily.

    Args:
        model: an ElysiumForConditionalGeneration (or whatever is called like it), in eval mode.
        processor: its processor, with `.tokenizer` and `.dialect` (name).
        spare: tokens of a forward, over all its rows, that drafts may fill up; None: what such a model has to spare
            on its device (`drafting.py`). 0: no drafts. Answers are the same.
    """

    def __init__(self, model: Any, processor: Any, *, spare: int | None = None) -> None:
        self.model, self.processor, self.tokenizer = model, processor, processor.tokenizer
        self._spare = spare
        self.dialect: Dialect = get_dialect(processor.dialect)
        self.eos = _eos_ids(model, self.tokenizer)
        self.pad = int(self.tokenizer.pad_token_id or 0)  # stands in masked slots only
        # Frames of the last batch and what the tower saw, by the id of the array, which is its own while it lives.
        self._seen: dict[int, tuple[NDArray[np.uint8], torch.Tensor]] = {}

    @cached_property
    def grammar(self) -> AnswerGrammar:
        """Built once: it reads the whole vocabulary."""
        return AnswerGrammar(self.tokenizer, self.dialect)

    @cached_property
    def number_values(self) -> NDArray[np.int64] | None:
        """(V,) the number that each token is, -1 for others; None where numbers are not single tokens."""
        ids = getattr(self.model.config, "number_token_ids", None) or []
        if len(ids) != self.dialect.max_bin + 1:
            return None
        values = np.full(max(len(self.tokenizer), self.model.config.text_config.vocab_size), -1)
        values[list(ids)] = np.arange(len(ids))
        return values

    @cached_property
    def spare(self) -> int:
        """Tokens of a forward that drafts may fill up."""
        if self._spare is not None:
            return self._spare
        language_model = getattr(self.model, "language_model", self.model)
        parameters = sum(parameter.numel() for parameter in language_model.parameters())
        return spare_tokens(_device(self.model).type, parameters)

    @cached_property
    def drafter(self) -> Drafter:
        """Built once: it writes every number."""
        return Drafter(self.tokenizer, self.dialect)

    def decode(self, requests: Sequence[Request], *, free: bool = False) -> list[Answer]:
        """Answer all `requests` as one batch, in order.

        Args:
            requests: any mixture of kinds and lengths.
            free: no grammar for boxes either; what comes is read by the dialect's parser, which says with a
                status per box what could be read. Scores then use the grammar's renormalisation up to the
                first token that the grammar would not have allowed, and the geometric mean of all token
                probabilities after it.
        """
        if not requests:
            return []
        rows = [self.begin(request, free) for request in requests]
        batch = _Batch(self.model, rows, self.pad, self._alphabet(rows))
        if self._share_a_prefix(requests):
            prompts, features = self._feed_prefix(batch, requests), {}
        else:
            features = self.features(requests)
            prompts = _unpadded(features.pop("input_ids"), features.pop("attention_mask"))
            prompts = self._feed_words(batch, prompts)
        for row, prompt in zip(rows, prompts, strict=True):
            row.start(prompt)
        while batch.rows:
            self._draft(batch.rows)
            batch.step(features)
            features = {}
        return [self.finish(row) for row in rows]

    def _alphabet(self, rows: Sequence[Row]) -> NDArray[np.int64] | None:
        """Ids that answers to these can have, ascending; None where they can have any."""
        if any(row.free or row.request.num_boxes is None for row in rows):
            return None
        asked = {(row.request.num_boxes or 1, row.request.single_box) for row in rows}
        ids = [self.grammar.alphabet(count, single_box=single) for count, single in asked]
        if any(some is None for some in ids):
            return None
        return np.array(sorted(frozenset().union(*(some for some in ids if some))), dtype=np.int64)

    def _share_a_prefix(self, requests: Sequence[Request]) -> bool:
        """Whether what the model sees up to the questions is the same for all: frames stand in front of them."""
        first = [id(image) for image in requests[0].frames]
        if len(requests) < 2 or any([id(image) for image in other.frames] != first for other in requests):
            return False
        selector = getattr(self.model, "selector", None)
        return selector is not None and "prompt" not in selector.looks_at and not self.model.config.region_tokens

    def _feed_prefix(self, batch: _Batch, requests: Sequence[Request]) -> list[list[int]]:
        """Feed the part that all prompts begin with once, for all rows; returns what is left of each."""
        prompts = [self.processor.encode_prompt(request.prompt) for request in requests]
        common = _common_beginning(prompts)
        features = self.features(requests[:1])
        del features["input_ids"], features["attention_mask"]
        batch.feed_all(prompts[0][:common], features)
        return [prompt[common:] for prompt in prompts]

    def _feed_words(self, batch: _Batch, prompts: list[list[int]]) -> list[list[int]]:
        """Feed the words that all prompts begin with, up to the first frame, once; returns what is left of each."""
        config = self.model.config
        marks = [getattr(config, name, None) for name in ("image_token_id", "region_token_id")]
        if len(prompts) < 2 or None in marks:
            return prompts
        common = _common_beginning(prompts)
        common = next((place for place, token in enumerate(prompts[0][:common]) if token in marks), common)
        if common > 0:
            batch.feed_all(prompts[0][:common], {})
        return [prompt[common:] for prompt in prompts]

    def _draft(self, rows: Sequence[Row]) -> None:
        width = draft_width(_device(self.model).type, len(rows), self.spare)
        for row in rows:
            row.draft = self.drafter.draft(row, width)

    def begin(self, request: Request, free: bool) -> Row:
        """A row at the beginning of its answer."""
        wants_boxes = request.num_boxes is not None
        state = None
        if wants_boxes:
            state = self.grammar.start(request.num_boxes or 1, single_box=request.single_box)
        return Row(request, state, free or not wants_boxes, self.eos, self.number_values)

    def finish(self, row: Row) -> Answer:
        """The answer of a row that is done."""
        kept = [token for token in row.tokens if token not in self.eos]
        text = self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return row.answer(str(text), self.dialect)

    def features(self, requests: Sequence[Request]) -> dict[str, Any]:
        """What the model takes for a batch, with what its tower sees in place of pixels."""
        if not hasattr(self.model, "encode_frames") or not hasattr(self.processor, "image_processor"):
            return self.inputs(requests)  # no tower, or frames that it has seen already
        features = self.inputs(requests, pixels=False)
        images = [image for request in requests for image in request.frames]
        if images:
            self._look_once(features, images)
        return features

    def inputs(self, requests: Sequence[Request], pixels: bool = True) -> dict[str, Any]:
        """The processor's output for a batch, on the model's device, with or without its ``pixels``."""
        extra: dict[str, Any] = {} if pixels else {"pixels": False}
        if any(request.regions for request in requests):
            extra["regions"] = [list(request.regions) for request in requests]
        if any(request.query for request in requests):
            extra["queries"] = [request.query or "" for request in requests]
        features = self.processor(
            text=[request.prompt for request in requests],
            images=[list(request.frames) for request in requests],
            padding_side="left",
            return_tensors="pt",
            **extra,
        )
        device = _device(self.model)
        return {key: value.to(device) for key, value in features.items()}

    def _look_once(self, features: dict[str, Any], images: Sequence[NDArray[np.uint8]]) -> None:
        """Add what the tower sees. It looks at each frame (the very same array) once, also if several requests of the
        batch show it, or the batch before did, as clips overlap by a frame."""
        places = {id(image): image for image in images}
        new = [image for key, image in places.items() if key not in self._seen]
        seen = {key: looks for key, (_, looks) in self._seen.items()}
        if new:
            pixels = self.processor.image_processor(new)["pixel_values"].to(_device(self.model))
            seen |= zip(map(id, new), self.model.encode_frames(pixels), strict=True)
        features["vision_features"] = torch.stack([seen[key] for key in places])
        if len(places) < len(images):
            order = {key: place for place, key in enumerate(places)}
            features["frame_ids"] = torch.tensor([order[id(image)] for image in images], device=_device(self.model))
        # What may be written to may hold another frame by the next batch.
        self._seen = {id(image): (image, seen[id(image)]) for image in images if not image.flags.writeable}


class _Batch:
    """The rows that are still being answered, what they have read, and which slots of it are real.

    Args:
        alphabet: ids that answers can have: no other's logits are made. None: any.
    """

    def __init__(self, model: Any, rows: Sequence[Row], pad: int, alphabet: NDArray[np.int64] | None) -> None:
        self.rows, self.pad, self.device = list(rows), pad, _device(model)
        self.context = reading(model, None if alphabet is None else torch.from_numpy(alphabet).to(self.device))
        self.mask = torch.zeros((len(rows), 0), dtype=torch.long, device=self.device)
        for row in rows:
            row.alphabet = alphabet

    def step(self, features: dict[str, Any]) -> None:
        """One forward: every row feeds what it has to, and reads what the model says of it."""
        logits = self.forward([row.feed for row in self.rows], max(len(row.draft) for row in self.rows) + 1, features)
        wrong = [
            row.read(seen[len(seen) - len(row.draft) - 1 :]) for row, seen in zip(self.rows, logits, strict=True)
        ]
        self._forget(wrong)
        self._leave()

    def forward(self, feeds: Sequence[Sequence[int]], keep: int, features: dict[str, Any]) -> NDArray[np.float32]:
        """Feed each row its tokens, some rows perhaps none; returns the logits (B, keep, V) behind the last columns
        (where a row was fed fewer tokens they are meaningless)."""
        width = max(len(feed) for feed in feeds)
        gaps = [width - len(feed) for feed in feeds]
        ids = torch.tensor([[self.pad] * gap + list(feed) for gap, feed in zip(gaps, feeds, strict=True)])
        real = (torch.arange(width) >= torch.tensor(gaps)[:, None]).long().to(self.device)
        seen = self.mask.sum(dim=1, keepdim=True)
        positions = (seen + real.cumsum(dim=1) - 1).clamp(min=0)
        self.mask = torch.cat([self.mask, real], dim=1)
        logits = self.context.read(ids.to(self.device), self.mask, positions, keep, features)
        numbers: NDArray[np.float32] = logits.float().cpu().numpy()
        return numbers

    def feed_all(self, ids: Sequence[int], features: dict[str, Any]) -> None:
        """Feed the same tokens to every row, in a forward of one."""
        size, self.mask = len(self.mask), self.mask[:1]
        self.forward([ids], 1, features)
        self.context.rearrange(torch.zeros(size, dtype=torch.long, device=self.device))
        self.mask = self.mask.repeat(size, 1)

    def _forget(self, wrong: Sequence[int]) -> None:
        """Take back each row's last ``wrong`` tokens; rows that are done need nothing of what they saw."""
        for row, count in enumerate(wrong):
            self.mask[row, self.mask.shape[1] - count :] = 0
        by_all = min((count for row, count in zip(self.rows, wrong, strict=True) if not row.done), default=0)
        if by_all and self.context.crop(by_all):
            self.mask = self.mask[:, : self.mask.shape[1] - by_all]

    def _leave(self) -> None:
        """Rows that are done leave, once they are a quarter of all: each time, what the others have read is copied."""
        staying = [number for number, row in enumerate(self.rows) if not row.done]
        if not staying:
            self.rows = []
        elif len(staying) <= _CROWDED * len(self.rows):
            places = torch.tensor(staying, device=self.device)
            self.context.rearrange(places)
            self.rows, self.mask = [self.rows[number] for number in staying], self.mask[places]


def _common_beginning(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens two prompts or more all begin with; of each, something is left to feed."""
    common = min(common_length(prompts[0], other) for other in prompts[1:])
    return min(common, *(len(prompt) - 1 for prompt in prompts))


def _unpadded(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    """(B, L) padded ids -> a list of ids per row."""
    return [row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)]


def _device(model: Any) -> torch.device:
    device: torch.device = next(model.parameters()).device
    return device


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """End tokens: the tokenizer's and those that the generation config names."""
    config = getattr(model, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    ids = [] if named is None else [named] if isinstance(named, int) else list(named)
    return frozenset(int(i) for i in [*ids, tokenizer.eos_token_id] if i is not None)
