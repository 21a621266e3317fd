"""From requests to answers: greedy decoding of a batch under the answer grammar.

Knows token ids, logits, the key-value cache and the grammar's interface. Knows nothing of videos, pixels or
clips,
and nothing of how a model sees: whatever the processor makes beside `input_ids` and `attention_mask` is
handed to the first forward unopened.

How a batch moves. Every forward, the first included, is padded on the left: a row's real tokens end in the
last column, so the next logits are always the last column's. A row feeds the token it has just chosen *and*
all tokens the grammar forces after it, so the template of an answer ("], Frame 2: [" and the like) costs no
forward of its own and the one before the first number rides on the prompt. Rows that feed fewer tokens than
the widest one, and rows that have finished, fill up with slots whose attention mask is 0 for good; positions
are counted per row over real tokens only. Causality is by cache slot, and a row's real slots are in order, so
the mask that transformers builds from the 2-D attention mask is right. (One exception is known:
sliding-window attention counts slots, hence masked ones too; it is exact for such models only up to a window
longer than the sequence.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from elysium.language.dialects import Dialect, get_dialect
from elysium.language.grammar import AnswerGrammar, GrammarState

FREE_TEXT_TOKENS = 128  # a description; Video-REG answers of the published system are a sentence
FREE_TOKENS_PER_BOX = 40  # LLaMA needs 17 a frame; the rest is for models that ramble

Region = tuple[int, tuple[float, float, float, float]]


@dataclass(frozen=True)
class Request:
    """One question about some frames.

    Args:
        prompt: the whole text up to and with "ASSISTANT:", an `<image>` for each frame.
        frames: images (H, W, 3) uint8 RGB, sizes may differ.
        regions: (0-based frame of this request, x1 y1 x2 y2 in 0..1 of that frame) for each `<region>` mark
            in the prompt; also what a prompt-conditioned selector may look at.
        query: the words asked about, for a prompt-conditioned selector; None if there are none.
        num_boxes: how many boxes the answer has; None for free text.
        single_box: the answer is one box alone, without "Frame 1: " (REC).
        max_new_tokens: where an answer without grammar stops at the latest; None for a default by kind. Under
            the grammar answers end by themselves.
    """

    prompt: str
    frames: Sequence[NDArray[np.uint8]]
    regions: Sequence[Region] = ()
    query: str | None = None
    num_boxes: int | None = None
    single_box: bool = False
    max_new_tokens: int | None = None

    @property
    def token_limit(self) -> int:
        """`max_new_tokens`, or the default for this kind of answer."""
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        return FREE_TEXT_TOKENS if self.num_boxes is None else FREE_TOKENS_PER_BOX * (self.num_boxes + 1)


@dataclass(frozen=True)
class Answer:
    """What the model said.

    Args:
        text: without special tokens.
        token_ids: with the end token, if it was reached.
        boxes_bins: (n, 4) float64 in bins of the dialect (0..100), NaN where none could be read; None for
            free text.
        box_scores: (n,) in 0..1, geometric mean over the four numbers of the box, each the product of its
            steps' probabilities renormalised over the tokens that were legal (forced steps count 1); 0 where
            no box is.
        statuses: n of `ok`, `absent`, `missing`, `malformed`.
    """

    text: str
    token_ids: tuple[int, ...]
    boxes_bins: NDArray[np.float64] | None = None
    box_scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    statuses: tuple[str, ...] = ()


class _Row:
    """One request while it is being answered: its tokens so far, its grammar state, its probabilities."""

    def __init__(self, request: Request, state: GrammarState | None, free: bool, eos: frozenset[int]) -> None:
        self.request, self.state, self.free, self.eos = request, state, free, eos
        self.tokens: list[int] = []
        self.done = False
        self.log_probs = np.zeros((request.num_boxes or 0, 4))  # of each number of each box
        self.text_log_prob = 0.0  # of the whole text, over the full vocabulary; free answers only
        self.scored = np.zeros(request.num_boxes or 0, dtype=bool)  # boxes whose numbers the grammar followed

    def start(self) -> list[int]:
        """Tokens that stand at the start of every legal answer; free answers have none."""
        return [] if self.free else self._take([], join=True)

    def step(self, logits: NDArray[np.float32], *, join: bool = True) -> list[int]:
        """Choose from the next-token `logits` (V,).

        Returns what the model has to see next: the choice and, with `join`, all that must follow it; nothing
        once the answer has ended.
        """
        return [] if self.done else self._take([self._choose(logits)], join)

    def _choose(self, logits: NDArray[np.float32]) -> int:
        """The likeliest token, or the likeliest legal one, counted toward the scores."""
        if self.free:
            chosen = int(np.argmax(logits))
            self.text_log_prob += _log_prob(logits, logits[chosen])
            self._shadow(logits, chosen)
            return chosen
        assert self.state is not None
        legal = self.state.allowed()
        chosen = int(legal[int(np.argmax(logits[legal]))])
        self._score(logits, legal, chosen)
        self.state.advance(chosen)
        return chosen

    def _take(self, tokens: list[int], join: bool) -> list[int]:
        """Write `tokens` down, with those forced after them; returns them unless the answer has ended."""
        if self.free or self.state is None:
            self.done = tokens[-1] in self.eos or len(self.tokens) + 1 >= self.request.token_limit
        else:
            for token in self.state.forced() if join and not self.state.done else ():
                self.state.advance(token)
                tokens.append(token)
            self.done = self.state.done
        self.tokens += tokens
        return [] if self.done else tokens

    def _score(self, logits: NDArray[np.float32], legal: NDArray[np.int64], chosen: int) -> None:
        """Count the choice toward the number that it belongs to, if any."""
        assert self.state is not None
        slot, frame = self.state.slot, self.state.frame or 0  # a single box (REC) is in no frame
        if slot is None or frame >= len(self.log_probs):
            return
        self.log_probs[frame, slot] += _log_prob(logits[legal], logits[chosen])
        self.scored[frame] = slot == 3 or self.scored[frame]

    def _shadow(self, logits: NDArray[np.float32], chosen: int) -> None:
        """Free answers are scored like legal ones for as long as they happen to be legal."""
        if self.state is None:
            return
        legal = self.state.allowed()
        if self.state.done or chosen not in legal:
            self.state = None
            return
        self._score(logits, legal, chosen)
        self.state.advance(chosen)

    def answer(self, text: str, dialect: Dialect) -> Answer:
        """The finished row as an answer."""
        count = self.request.num_boxes
        if count is None:
            return Answer(text.strip(), tuple(self.tokens))
        parsed = dialect.parse(text, count)
        scores = np.exp(self.log_probs.sum(axis=1) / 4)
        if self.free:  # past the first illegal token only the whole text's probability is known
            fallback = float(np.exp(self.text_log_prob / max(len(self.tokens), 1)))
            scores = np.where(self.scored, scores, fallback)
        readable = ~np.isnan(parsed.boxes).any(axis=1)
        read = readable | np.array([status == "absent" for status in parsed.statuses], dtype=bool)
        return Answer(
            text, tuple(self.tokens), parsed.boxes, np.where(read, scores, 0.0), tuple(parsed.statuses)
        )


def _log_prob(logits: NDArray[np.float32], chosen: np.float32) -> float:
    """log softmax of one entry, in float64."""
    values = logits.astype(np.float64)
    peak = values.max()
    return float(chosen - peak - np.log(np.exp(values - peak).sum()))


class Decoder:
    """Answers batches of requests with one model and processor, greedily.

    Args:
        model: an ElysiumForConditionalGeneration (or whatever is called like it), in eval mode.
        processor: its processor, with `.tokenizer` and `.dialect` (name).
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor, self.tokenizer = model, processor, processor.tokenizer
        self.dialect: Dialect = get_dialect(processor.dialect)
        self.eos = _eos_ids(model, self.tokenizer)
        self.pad = int(self.tokenizer.pad_token_id or 0)  # stands in masked slots only

    @cached_property
    def grammar(self) -> AnswerGrammar:
        """Built once: it reads the whole vocabulary."""
        return AnswerGrammar(self.tokenizer, self.dialect)

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
        rows = [self._row(request, free) for request in requests]
        features = self._features(requests)
        prompts = _unpadded(features.pop("input_ids"), features.pop("attention_mask"))
        batch = _Batch(self.model, len(rows), self.pad)
        feeds = [prompt + row.start() for prompt, row in zip(prompts, rows, strict=True)]
        while any(feeds) and not all(row.done for row in rows):
            logits = batch.forward(feeds, features)
            features = {}
            feeds = [row.step(values) for row, values in zip(rows, logits, strict=True)]
        return [row.answer(self._text(row.tokens), self.dialect) for row in rows]

    def _row(self, request: Request, free: bool) -> _Row:
        wants_boxes = request.num_boxes is not None
        state = None
        if wants_boxes:
            state = self.grammar.start(request.num_boxes or 1, single_box=request.single_box)
        return _Row(request, state, free or not wants_boxes, self.eos)

    def _features(self, requests: Sequence[Request]) -> dict[str, Any]:
        """The processor's output for a batch, on the model's device."""
        extra: dict[str, Any] = {}
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
        moved = {key: value.to(device) for key, value in features.items()}
        self._share_frames(moved, requests)
        return moved

    def _share_frames(self, features: dict[str, Any], requests: Sequence[Request]) -> None:
        """Frames that several requests of the batch show (the very same array) are looked at once."""
        images = [id(image) for request in requests for image in request.frames]
        order = {image: place for place, image in enumerate(dict.fromkeys(images))}
        if len(order) == len(images) or not hasattr(self.model, "encode_frames"):
            return
        pixels = features["pixel_values"]
        once = torch.tensor([images.index(image) for image in order], device=pixels.device)
        features["pixel_values"] = pixels[once]
        features["frame_ids"] = torch.tensor([order[image] for image in images], device=pixels.device)

    def _text(self, tokens: Sequence[int]) -> str:
        kept = [token for token in tokens if token not in self.eos]
        return str(self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class _Batch:
    """The cache of a batch and what belongs to it: which slots are real, and how many real ones each row
    has."""

    def __init__(self, model: Any, size: int, pad: int) -> None:
        self.model, self.pad = model, pad
        self.device = _device(model)
        self.cache = DynamicCache()
        self.mask = torch.zeros((size, 0), dtype=torch.long, device=self.device)

    def forward(self, feeds: Sequence[Sequence[int]], features: dict[str, Any]) -> NDArray[np.float32]:
        """Feed each row its tokens, some rows perhaps none; returns next-token logits (B, V) of every row
        that was fed (the others' are meaningless)."""
        width = max(len(feed) for feed in feeds)
        gaps = [width - len(feed) for feed in feeds]
        ids = torch.tensor([[self.pad] * gap + list(feed) for gap, feed in zip(gaps, feeds, strict=True)])
        real = (torch.arange(width) >= torch.tensor(gaps)[:, None]).long().to(self.device)
        seen = self.mask.sum(dim=1, keepdim=True)
        positions = (seen + real.cumsum(dim=1) - 1).clamp(min=0)
        self.mask = torch.cat([self.mask, real], dim=1)
        output = self.model(
            input_ids=ids.to(self.device),
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
            **features,
        )
        self.cache = output.past_key_values
        logits: NDArray[np.float32] = output.logits[:, -1].float().cpu().numpy()
        return logits


@torch.inference_mode()
def decode_reference(model: Any, processor: Any, request: Request, *, free: bool = False) -> Answer:
    """What `Decoder.decode([request])` must answer, done the plain and slow way: one request, one token at a
    time (forced ones too), the whole sequence afresh for each token, no cache, no padding."""
    decoder = Decoder(model, processor)
    row = decoder._row(request, free)
    features = decoder._features([request])
    ids, mask = features.pop("input_ids"), features.pop("attention_mask")
    while not row.done:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **features).logits[0, -1]
        row.step(logits.float().cpu().numpy(), join=False)
        ids = torch.cat([ids, torch.tensor([row.tokens[-1:]], device=ids.device)], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    return row.answer(decoder._text(row.tokens), decoder.dialect)


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
