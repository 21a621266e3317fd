"""One request and its answer, token by token.

Knows what is asked, how a token is chosen from logits (greedily, the likeliest legal one), and what the choices say
about how sure the model is. Does not know: batches, caches, models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from elysium.language.dialects import Dialect
from elysium.language.grammar import GrammarState

FREE_TEXT_TOKENS = 128  # a description; Video-REG answers of the published system are a sentence
NEARBY = 2  # bins: what lies further away is another guess, not a finer one
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
        fine_bins: (n, 4) float64, each number as the mean over the bins near the one written, weighted by their
            probabilities; NaN where numbers are not single tokens. None for free text.
        statuses: n of `ok`, `absent`, `missing`, `malformed`.
    """

    text: str
    token_ids: tuple[int, ...]
    boxes_bins: NDArray[np.float64] | None = None
    box_scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    statuses: tuple[str, ...] = ()
    fine_bins: NDArray[np.float64] | None = None


class Row:
    """One request while it is being answered: its tokens so far, its grammar state, its probabilities.

    ``tokens`` are written; of these the model has not seen ``pending`` yet. ``draft`` is a guess at what comes behind
    them. Both are fed together, and what the model says behind each tells how much of the guess was right. What it
    says behind the rest are ``hints``: the model's own guess at what comes behind ``tokens``, made behind a token
    that turned out wrong (Jacobi iteration: Song et al. 2021, Santilli et al. 2023).
    """

    def __init__(
        self, request: Request, state: GrammarState | None, free: bool, eos: frozenset[int],
        values: NDArray[np.int64] | None = None,
    ) -> None:  # fmt: skip
        """``values`` (V,): the number that each token is, -1 for others; None if numbers are not single tokens."""
        self.values = values
        self.alphabet: NDArray[np.int64] | None = None  # (A,) ascending ids, where logits are made for them alone
        self.fine = np.full((request.num_boxes or 0, 4), np.nan)
        self.request, self.state, self.free, self.eos = request, state, free, eos
        self.tokens: list[int] = []
        self.pending: list[int] = []
        self.draft: list[int] = []
        self.hints: list[int] = []
        self.done = False
        self.log_probs = np.zeros((request.num_boxes or 0, 4))  # of each number of each box
        self.text_log_prob = 0.0  # of the whole text, over the full vocabulary; free answers only
        self.scored = np.zeros(request.num_boxes or 0, dtype=bool)  # boxes whose numbers the grammar followed

    def start(self, prompt: list[int]) -> None:
        """Begin behind ``prompt``, with what stands at the start of every legal answer; free answers have nothing."""
        self.pending = prompt + ([] if self.free else self._write([], join=True))

    @property
    def feed(self) -> list[int]:
        """What the model has to see next; nothing once the answer has ended."""
        return [] if self.done else self.pending + self.draft

    def read(self, logits: NDArray[np.float32], *, join: bool = True) -> int:
        """Go on from logits (len(draft) + 1, V): those that follow ``pending``, and each token of the draft; (.., A)
        where there is an ``alphabet``.

        Chooses as if there were no draft. As long as the choices are those of the draft, the logits behind them are
        what the model would have said anyway. With ``join``, tokens that must follow a choice are written with it.
        Returns how many tokens of the draft were wrong, which the model has to forget.
        """
        right = held = 0
        written: list[int] = []
        while not self.done and held == len(written):
            written = self._write([self._choose(logits[right])], join)
            held = common_length(written, self.draft[right:])
            right += held
        self.pending = written[held:]
        self.hints = self._said_besides(logits, right - held, written)
        return len(self.draft) - right

    def _said_besides(self, logits: NDArray[np.float32], start: int, written: list[int]) -> list[int]:
        """What the model says behind the places of ``written``, whose first token was chosen at place ``start`` of
        the draft; nothing unless only that one differs from the draft."""
        behind = start + len(written)
        if self.draft[start + 1 : behind] != written[1:]:
            return []
        said = logits[behind:].argmax(axis=-1)
        ids: list[int] = (said if self.alphabet is None else self.alphabet[said]).tolist()
        return ids

    def places(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in a place's logits those of ``ids`` are."""
        return ids if self.alphabet is None else np.searchsorted(self.alphabet, ids)

    def _choose(self, logits: NDArray[np.float32]) -> int:
        """The likeliest token, or the likeliest legal one, counted toward the scores."""
        if self.free:
            chosen = int(np.argmax(logits))
            self.text_log_prob += _log_prob(logits, logits[chosen])
            self._shadow(logits, chosen)
            return chosen
        assert self.state is not None
        legal = self.state.allowed()
        fits = logits[self.places(legal)]
        place = int(np.argmax(fits))
        self._score(fits, legal, place)
        self.state.advance(int(legal[place]))
        return int(legal[place])

    def _write(self, tokens: list[int], join: bool) -> list[int]:
        """Write ``tokens`` down, with those forced after them; returns them all."""
        if self.free or self.state is None:
            self.done = tokens[-1] in self.eos or len(self.tokens) + 1 >= self.request.token_limit
        else:
            for token in self.state.forced() if join and not self.state.done else ():
                self.state.advance(token)
                tokens.append(token)
            self.done = self.state.done
        self.tokens += tokens
        return tokens

    def _score(self, fits: NDArray[np.float32], legal: NDArray[np.int64], place: int) -> None:
        """Count the choice of ``legal[place]`` toward the number that it belongs to, if any; ``fits`` (k,) are the
        logits of the legal tokens."""
        assert self.state is not None
        slot, frame = self.state.slot, self.state.frame or 0  # a single box (REC) is in no frame
        if slot is None or frame >= len(self.log_probs):
            return
        self.log_probs[frame, slot] += _log_prob(fits, fits[place])
        self.scored[frame] = slot == 3 or self.scored[frame]
        if self.values is not None:
            self.fine[frame, slot] = _mean_nearby(self.values[legal], fits, self.values[legal[place]])

    def _shadow(self, logits: NDArray[np.float32], chosen: int) -> None:
        """Free answers are scored like legal ones for as long as they happen to be legal."""
        if self.state is None:
            return
        legal = self.state.allowed()
        if self.state.done or chosen not in legal:
            self.state = None
            return
        self._score(logits[legal], legal, int(np.searchsorted(legal, chosen)))
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
            text, tuple(self.tokens), parsed.boxes, np.where(read, scores, 0.0), tuple(parsed.statuses), self.fine
        )


def _mean_nearby(values: NDArray[np.int64], logits: NDArray[np.float32], chosen: np.int64) -> float:
    """The mean of ``values`` (k,) within `NEARBY` of the chosen one by the softmax of their ``logits``; NaN if what was
    chosen is no number."""
    if chosen < 0:
        return float("nan")
    near = (values >= 0) & (np.abs(values - chosen) <= NEARBY)
    weights = np.exp(logits[near].astype(np.float64) - logits[near].max())
    return float(values[near] @ weights / weights.sum())


def _log_prob(logits: NDArray[np.float32], chosen: np.float32) -> float:
    """log softmax of one entry, in float64."""
    values = logits.astype(np.float64)
    peak = values.max()
    return float(chosen - peak - np.log(np.exp(values - peak).sum()))


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return count
