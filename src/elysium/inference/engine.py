"""Many requests -> answers, in batches of a bounded size.

Knows batch sizes, PyTorch's inference mode, when memory can go back.
Knows nothing of what is asked or of what an answer means.
This is the place where prefixes and vision features will be shared between requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from elysium.errors import InputError
from elysium.inference.decoding import Answer, Decoder, Request
from elysium.inference.devices import release_memory
from elysium.inference.reference import decode_reference


class Engine:
    """Answers lists of requests with one model.

    Args:
        model: an ElysiumForConditionalGeneration on the device and in the number type it is to run in; put in
            eval mode here.
        processor: its ElysiumProcessor.
        max_batch: most requests in one forward. In float32 answers do not depend on it.
        reference: answer the plain and slow way, one request and one token at a time (`reference.py`): the same
            answers, to hold the fast way against.

    Raises:
        InputError: `max_batch` below 1.
    """

    def __init__(self, model: Any, processor: Any, max_batch: int = 8, *, reference: bool = False) -> None:
        if max_batch < 1:
            raise InputError(f"A batch of {max_batch} requests makes no sense", "Give 1 or more.")
        self.model = model.eval()
        self.processor = processor
        self.max_batch, self.reference = max_batch, reference
        self._decoder = Decoder(model, processor)

    @property
    def region_marks(self) -> bool:
        """Whether the model wants `<region>` after a box in a question."""
        return bool(getattr(self.model.config, "region_tokens", 0))

    def run(self, requests: Sequence[Request], *, free: bool = False) -> list[Answer]:
        """Answers, one for each request, in the order of the requests (see `Decoder.decode` for `free`)."""
        answers: list[Answer] = []
        with torch.inference_mode():
            for start in range(0, len(requests), self.max_batch):
                batch = requests[start : start + self.max_batch]
                if self.reference:
                    answers += [decode_reference(self._decoder, request, free=free) for request in batch]
                else:
                    answers += self._decoder.decode(batch, free=free)
        release_memory()
        return answers
