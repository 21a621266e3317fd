"""Decoding alone with a large language model, for fast.py.

A LLaMA of 460 million parameters with random weights writes what nano wrote about the sequences, cut into tokens as
LLaMA's tokenizer does (digit by digit), behind a prompt of 8 frames of 108 tokens: at each choice the token that nano
chose is taken, and nano is asked what it would say behind a draft's wrong token. So drafts are accepted and rejected
as they were there. The time that nano takes does not count.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from training import like_llama
from transformers import LlamaConfig, LlamaForCausalLM

from elysium.inference.answers import Request, Row
from elysium.inference.contexts import LlamaContext, reading
from elysium.inference.decoding import Decoder
from elysium.inference.pipelines import Elysium

SIZES = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
PROMPT = 8 * 108 + 90  # tokens in front of an answer about a clip: frames, their labels, the question
ANSWERS = 3
WAYS = ("drafted", "joined", "reference")
Figures = dict[str, Any]


class Alone:
    """A language model as the decoder wants one."""

    def __init__(self, language_model: Any) -> None:
        self.language_model, self.config = language_model, language_model.config
        self.generation_config = language_model.generation_config

    def parameters(self) -> Iterator[Any]:
        yield from self.language_model.parameters()

    def embed(self, ids: torch.Tensor, goes_on: bool) -> tuple[torch.Tensor, None]:
        return self.language_model.get_input_embeddings()(ids), None


class AnyPrompt:
    """A processor that makes the same prompt of everything."""

    dialect = "elysium"

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: list[str], **options: Any) -> Figures:
        ids = torch.arange(3, 3 + PROMPT).repeat(len(text), 1)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class Nano:
    """What nano says about one request, in the tokens of another tokenizer."""

    def __init__(self, model: Elysium, request: Request, tokenizer: Any) -> None:
        decoder, self.tokenizer, self.seconds = Decoder(model.model, model.processor), tokenizer, 0.0
        self.own, alphabet = model.processor.tokenizer, decoder.grammar.alphabet(request.num_boxes or 1)
        self.alphabet = torch.tensor(sorted(alphabet or ()))
        features = decoder.features([request])
        ids, mask = features.pop("input_ids"), features.pop("attention_mask")
        self.prompt, self.context = ids.shape[1], reading(model.model, self.alphabet)
        self.context.read(ids, mask, torch.arange(self.prompt)[None], 1, features)

    def hints(self, row: Row, read: int) -> list[int]:
        """What follows ``row.tokens``, the last ``read`` of which stand where the draft does: the draft, with the
        digits that nano would write behind those in front of them."""
        since = time.process_time()
        fed = row.tokens[: len(row.tokens) - read] + row.draft
        said = self.tokenizer(self._in_place(self.tokenizer.decode(fed)), add_special_tokens=False).input_ids
        self.seconds += time.process_time() - since
        return list(said[len(row.tokens) :]) if len(said) == len(fed) else []

    def _in_place(self, text: str) -> str:
        """``text`` with numbers as nano would write them at their places, where they have as many digits; of two digits
        the second stays unless the first is right."""
        encoded = self.own(text, add_special_tokens=False, return_offsets_mapping=True)
        numbers = {start: number for number, (start, _) in enumerate(encoded.offset_mapping)}
        ids = torch.tensor([encoded.input_ids])
        mask = torch.ones(1, self.prompt + ids.shape[1], dtype=torch.long)
        places = torch.arange(self.prompt, mask.shape[1])[None]
        logits = self.context.read(ids, mask, places, ids.shape[1], {})
        self.context.crop(ids.shape[1])
        said = self.alphabet[logits[0].argmax(dim=-1)].tolist()

        def number(match: re.Match[str]) -> str:
            old, new = match[0], self.own.decode([said[numbers[match.start()] - 1]])
            if len(new) != len(old) or not new.isdecimal():
                return old
            return "".join(new[i] if old[:i] == new[:i] else old[i] for i in range(len(old)))

        return re.sub(r"(?<=[\[,])\d+", number, text)


@contextmanager
def chosen(ids: list[int], nano: Nano) -> Iterator[None]:
    """Every row writes these tokens, whatever the logits say, and nano gives the hints."""
    choose, said_besides = Row._choose, Row._said_besides

    def replay(row: Row, logits: np.ndarray) -> int:
        token = ids[len(row.tokens)]
        assert row.state is not None
        legal = row.state.allowed()
        fits = logits[row.places(legal)]
        row._score(fits, legal, int(np.searchsorted(legal, token)))
        row.state.advance(token)
        return token

    def ask(row: Row, logits: np.ndarray, start: int, written: list[int]) -> list[int]:
        hinted = said_besides(row, logits, start, written)
        return nano.hints(row, start + len(written)) if hinted else []

    Row._choose, Row._said_besides = replay, ask  # type: ignore[method-assign]
    try:
        yield
    finally:
        Row._choose, Row._said_besides = choose, said_besides  # type: ignore[method-assign]


@contextmanager
def counted() -> Iterator[list[int]]:
    """The widths of all forwards of the large model."""
    widths: list[int] = []
    original = LlamaContext.read

    def read(context: LlamaContext, ids: torch.Tensor, *args: Any) -> torch.Tensor:
        if isinstance(context.model, Alone):
            widths.append(ids.shape[1])
        return original(context, ids, *args)

    LlamaContext.read = read  # type: ignore[method-assign]
    try:
        yield widths
    finally:
        LlamaContext.read = original  # type: ignore[method-assign]


def large(model: Elysium, answers: list[tuple[Request, str]], spread: Callable[[list[float]], Figures]) -> Figures:
    """Seconds of decoding the same ``answers`` of ``model`` (nano) drafted, undrafted, and token by token."""
    tokenizer = like_llama()
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, vocab_size=32000, bos_token_id=1, eos_token_id=2, max_position_embeddings=4096)
    language_model = LlamaForCausalLM(config).eval()
    picked = [answers[i] for i in np.linspace(0, len(answers) - 1, ANSWERS).round().astype(int)]
    rows = []
    with torch.inference_mode():
        for request, text in picked:
            ids = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
            rows.append(one(language_model, tokenizer, request, ids, Nano(model, request, tokenizer)))
    parameters = sum(parameter.numel() for parameter in language_model.parameters())
    return {
        "parameters": parameters, "answers": len(rows), "prompt_tokens": PROMPT,
        "tokens_per_answer": round(float(np.mean([row["tokens"] for row in rows])), 1),
        "forwards": {way: round(float(np.mean([row["forwards"][way] for row in rows])), 2) for way in WAYS},
        "seconds": {way: round(float(np.mean([row["seconds"][way] for row in rows])), 2) for way in WAYS},
        "prompt_seconds": round(float(np.mean([row["prefill"] for row in rows])), 2),
        "times_as_fast_as_the_reference": {way: spread(quicker(rows, way, prefill=0)) for way in WAYS[:2]},
        "the_same_without_the_prompt": {way: spread(quicker(rows, way, prefill=1)) for way in WAYS[:2]},
        "ceiling": spread([row["seconds"]["reference"] / row["prefill"] for row in rows]),
    }  # fmt: skip


def quicker(rows: list[Figures], way: str, prefill: int) -> list[float]:
    """How many times as fast as the reference, ``prefill`` 1: without the time that the prompt takes."""
    times = [(row["seconds"], prefill * row["prefill"]) for row in rows]
    return [(seconds["reference"] - prompt) / (seconds[way] - prompt) for seconds, prompt in times]


def one(language_model: Any, tokenizer: Any, request: Request, ids: list[int], nano: Nano) -> Figures:
    """One answer, each way."""
    seconds, forwards = {}, {}
    for way in WAYS:
        decoder = Decoder(Alone(language_model), AnyPrompt(tokenizer), spare=None if way == "drafted" else 0)
        decoder.grammar.alphabet(request.num_boxes or 1)  # built before the clock runs
        with counted() as widths, chosen(ids, nano):
            nano.seconds, since = 0.0, time.process_time()
            if way == "reference":
                forwards[way] = token_by_token(language_model, decoder, ids)
            else:
                (answer,) = decoder.decode([request])
                assert list(answer.token_ids) == ids
                forwards[way] = len(widths)
            seconds[way] = time.process_time() - since - nano.seconds
    since = time.process_time()
    language_model(input_ids=torch.arange(3, 3 + PROMPT)[None], logits_to_keep=1)
    return {"tokens": len(ids), "seconds": seconds, "forwards": forwards, "prefill": time.process_time() - since}


def token_by_token(language_model: Any, decoder: Decoder, ids: list[int]) -> int:
    """What `generate` does: the prompt, then one token a forward, with a cache."""
    output = language_model(**decoder.processor(text=[""]), use_cache=True, logits_to_keep=1)
    for token in ids[:-1]:
        output = language_model(
            input_ids=torch.tensor([[token]]), past_key_values=output.past_key_values, use_cache=True
        )
    return len(ids)
