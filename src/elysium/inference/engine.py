"""Many requests -> answers, in batches of a bounded size.

Knows batch sizes, PyTorch's inference mode, when memory can go back.
Knows nothing of what is asked or of what an answer means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from elysium.errors import InputError, ModelError
from elysium.inference.answers import Answer, Request
from elysium.inference.decoding import Decoder
from elysium.inference.reference import decode_reference
from elysium.processes import release_memory

TOKENS_PER_BOX = 17  # with its "Frame 1: ", in LLaMA's
_TRIM_EVERY = 16  # runs: handing memory back takes time, and so does getting it again (a tenth of all, in each run)
MAX_BATCH = 16  # requests in one forward, where nobody says otherwise


class Engine:
    """Answers lists of requests with one model.

    Args:
        model: an ElysiumForConditionalGeneration on the device and in the number type it is to run in; put in
            eval mode here.
        processor: its ElysiumProcessor.
        max_batch: most requests in one forward. In float32 answers do not depend on it. Where so many do not fit into
            the memory of the device, half as many are tried, and stay the most.
        max_tokens: most tokens in one forward, padding and answers included, counted roughly; None: no limit. A
            request that has more is asked alone.
        reference: answer the plain and slow way, one request and one token at a time (`reference.py`): the same
            answers, to hold the fast way against.

    Raises:
        InputError: `max_batch` below 1.
    """

    def __init__(
        self, model: Any, processor: Any, max_batch: int = MAX_BATCH, *, max_tokens: int | None = None,
        reference: bool = False,
    ) -> None:  # fmt: skip
        if max_batch < 1:
            raise InputError(f"A batch of {max_batch} requests makes no sense", "Give 1 or more.")
        self.model = model.eval()
        self.processor = processor
        self.max_batch, self.max_tokens, self.reference = max_batch, max_tokens, reference
        self._decoder = Decoder(model, processor)
        self._runs = 0

    @property
    def region_marks(self) -> bool:
        """Whether the model wants `<region>` after a box in a question."""
        return bool(getattr(self.model.config, "region_tokens", 0))

    def run(self, requests: Sequence[Request], *, free: bool = False) -> list[Answer]:
        """Answers, one for each request, in the order of the requests (see `Decoder.decode` for `free`).

        Raises ModelError for a request that does not fit into the memory of the device.
        """
        answers: list[Answer] = []
        with torch.inference_mode():
            while len(answers) < len(requests):
                batch = self._next_batch(requests[len(answers) :])
                answers += self._answer(batch, free)
        self._runs += 1
        if self._runs % _TRIM_EVERY == 0:
            release_memory()
        return answers

    def _next_batch(self, requests: Sequence[Request]) -> Sequence[Request]:
        """As many of the first requests as may be answered at once."""
        count, longest = 1, self._tokens(requests[0])
        for request in requests[1 : self.max_batch]:
            longest = max(longest, self._tokens(request))
            if self.max_tokens is not None and longest * (count + 1) > self.max_tokens:
                break
            count += 1
        return requests[:count]

    def _tokens(self, request: Request) -> int:
        """Roughly how many tokens a request and its answer have: a word has one or two."""
        visual = len(request.frames) * int(getattr(self.processor, "num_image_tokens", 0))
        return visual + len(request.prompt) // 3 + (request.num_boxes or 1) * TOKENS_PER_BOX

    def _answer(self, batch: Sequence[Request], free: bool) -> list[Answer]:
        """The answers of a batch, or of its first half where the whole does not fit."""
        if self.reference:
            return [decode_reference(self._decoder, request, free=free) for request in batch]
        try:
            return self._decoder.decode(batch, free=free)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                told = "One clip does not fit into the memory of the device"
                raise ModelError(told, "Use fewer frames (--clip-length) or a smaller --dtype.") from error
        torch.cuda.empty_cache()
        self.max_batch = len(batch) // 2
        return self._answer(batch[: self.max_batch], free)
