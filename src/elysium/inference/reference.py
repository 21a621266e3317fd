"""The plain and slow way to an answer, to hold the fast one against.

transformers' `generate`: one request, one token at a time, the grammar as a logits processor; the tower's whole forward
on the pixels of every frame.

Knows `generate`. Does not know: batches of requests, drafts, forced tokens, what was seen before.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LogitsProcessor

from elysium.inference.answers import FREE_TOKENS_PER_BOX, Answer, Request
from elysium.inference.decoding import Decoder
from elysium.language.grammar import GrammarState


class GrammarLogitsProcessor(LogitsProcessor):
    """Leaves the legal next tokens of one answer, for `generate` with one sequence.

    Args:
        state: where the answer begins, from `AnswerGrammar.start`; it is moved along.
        prompt_length: tokens before the answer.
    """

    def __init__(self, state: GrammarState, prompt_length: int) -> None:
        self.state, self.seen = state, prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        for token in input_ids[0, self.seen :].tolist():
            self.state.advance(token)
        self.seen = input_ids.shape[1]
        legal = torch.tensor(self.state.allowed(), device=scores.device)
        masked = torch.full_like(scores, -torch.inf)
        masked[0, legal] = scores[0, legal]
        return masked  # type: ignore[return-value]


@torch.inference_mode(False)  # in which the model takes shortcuts of its own
@torch.no_grad()
def decode_reference(decoder: Decoder, request: Request, *, free: bool = False, use_cache: bool = True) -> Answer:
    """What ``decoder.decode([request], free=free)`` must answer. Without ``use_cache`` every token sees the whole
    sequence anew."""
    row = decoder.begin(request, free)
    features = decoder.inputs([request])
    grammar = [] if row.free or row.state is None else [
        GrammarLogitsProcessor(row.state.copy(), features["input_ids"].shape[1])
    ]  # fmt: skip
    boxes = request.num_boxes or 0
    output: Any = decoder.model.generate(
        **features, do_sample=False, num_beams=1, use_cache=use_cache, logits_processor=grammar,
        max_new_tokens=request.token_limit if row.free else FREE_TOKENS_PER_BOX * (boxes + 1),
        eos_token_id=sorted(decoder.eos), pad_token_id=decoder.pad, return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    for logits in output.logits:
        row.read(logits.float().cpu().numpy(), join=False)
    return decoder.finish(row)
