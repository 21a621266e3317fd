"""Decoding alone with a large language model, for fast.py.

A LLaMA of 460 million parameters with random weights writes what nano wrote about the sequences, cut into tokens as
LLaMA's tokenizer does (digit by digit), behind a prompt of 8 frames of 108 tokens: at each choice the token that nano
chose is taken, so drafts are accepted and rejected as they were there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from training import like_llama
from transformers import LlamaConfig, LlamaForCausalLM

from elysium.inference.answers import Request, Row
from elysium.inference.contexts import LlamaContext
from elysium.inference.decoding import Decoder

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


@contextmanager
def chosen(ids: list[int]) -> Iterator[None]:
    """Every row writes these tokens, whatever the logits say."""
    original = Row._choose

    def replay(row: Row, logits: np.ndarray) -> int:
        token = ids[len(row.tokens)]
        assert row.state is not None
        legal = row.state.allowed()
        fits = logits[legal if row.columns is None else row.columns[legal]]
        row._score(fits, legal, int(np.searchsorted(legal, token)))
        row.state.advance(token)
        return token

    Row._choose = replay  # type: ignore[method-assign]
    try:
        yield
    finally:
        Row._choose = original  # type: ignore[method-assign]


@contextmanager
def counted() -> Iterator[list[int]]:
    """The widths of all forwards."""
    widths: list[int] = []
    original = LlamaContext.read

    def read(context: LlamaContext, ids: torch.Tensor, *args: Any) -> torch.Tensor:
        widths.append(ids.shape[1])
        return original(context, ids, *args)

    LlamaContext.read = read  # type: ignore[method-assign]
    try:
        yield widths
    finally:
        LlamaContext.read = original  # type: ignore[method-assign]


def large(answers: list[tuple[Request, str]], spread: Callable[[list[float]], Figures]) -> Figures:
    """Seconds of decoding the same answers drafted, undrafted, and token by token."""
    tokenizer = like_llama()
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, vocab_size=32000, bos_token_id=1, eos_token_id=2, max_position_embeddings=4096)
    language_model = LlamaForCausalLM(config).eval()
    picked = [answers[i] for i in np.linspace(0, len(answers) - 1, ANSWERS).round().astype(int)]
    rows = []
    with torch.inference_mode():
        for request, text in picked:
            ids = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
            rows.append(one(language_model, tokenizer, request, ids))
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


def one(language_model: Any, tokenizer: Any, request: Request, ids: list[int]) -> Figures:
    """One answer, each way."""
    seconds, forwards = {}, {}
    for way in WAYS:
        decoder = Decoder(Alone(language_model), AnyPrompt(tokenizer), spare=None if way == "drafted" else 0)
        decoder.grammar.alphabet(request.num_boxes or 1)  # built before the clock runs
        with counted() as widths, chosen(ids):
            since = time.process_time()
            if way == "reference":
                forwards[way] = token_by_token(language_model, decoder, ids)
            else:
                (answer,) = decoder.decode([request])
                assert list(answer.token_ids) == ids
                forwards[way] = len(widths)
            seconds[way] = time.process_time() - since
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
