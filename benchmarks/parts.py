"""Where the time of an answer goes: processor seconds of named parts, and what a machine could do at best.

A part's seconds are its own, without those of the parts inside it. Used by fast.py.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any

import torch

from elysium.inference.answers import Row
from elysium.inference.contexts import Context, LlamaContext
from elysium.inference.drafting import Drafter
from elysium.model import ElysiumForConditionalGeneration, ElysiumImageProcessor
from elysium.model.selector import TSelector

Name = Callable[[dict[str, Any]], str]


class Parts:
    """A context in which parts are timed: ``seconds`` and ``calls`` by their names, ``forwards`` of the model."""

    def __init__(self) -> None:
        self.seconds, self.calls = Counter[str](), Counter[str]()
        self._inner: list[float] = []
        self._undo = ExitStack()

    @property
    def forwards(self) -> int:
        return self.calls["prompt"] + self.calls["tokens"]

    def __enter__(self) -> Parts:
        self._time(ElysiumForConditionalGeneration, "encode_frames", "tower")
        self._time(TSelector, "forward", "selector")
        self._time(ElysiumImageProcessor, "preprocess", "scaling")
        self._time(Drafter, "draft", "drafts")
        self._time(Row, "read", "choosing")
        for kind in (Context, LlamaContext):
            self._time(kind, "read", "tokens", begins=lambda args: bool(args[-1]))
        # The reference's forwards; a `Context` calls it too, and then it is inside of that.
        self._time(ElysiumForConditionalGeneration, "forward", "tokens",
                   begins=lambda args, **options: options.get("pixel_values") is not None)  # fmt: skip
        return self

    def __exit__(self, *args: object) -> None:
        self._undo.close()

    def _time(self, owner: Any, name: str, part: str, begins: Callable[..., bool] | None = None) -> None:
        original = getattr(owner, name)

        @wraps(original)  # generate looks at a forward's arguments
        def timed(*args: Any, **options: Any) -> Any:
            what = "prompt" if begins is not None and begins(args, **options) else part
            since = time.process_time()
            self._inner.append(0.0)
            try:
                return original(*args, **options)
            finally:
                took = time.process_time() - since
                self.seconds[what] += took - self._inner.pop()
                self.calls[what] += 1
                if self._inner:
                    self._inner[-1] += took

        setattr(owner, name, timed)
        self._undo.callback(setattr, owner, name, original)


def machine() -> dict[str, float]:
    """What one thread does at best: multiplications of matrices, and reading of memory that is in no cache."""
    side, many = 1024, 64 * 2**20
    matrix, numbers = torch.randn(side, side), torch.ones(many)
    return {
        "gflops": round(2e-9 * side**3 / _least(lambda: matrix @ matrix), 1),
        "gb_per_s": round(4e-9 * many / _least(lambda: numbers.sum()), 1),
    }


def _least(work: Callable[[], Any]) -> float:
    """Seconds of the quickest of ten tries, after one that does not count."""
    took = []
    for _ in range(11):
        since = time.process_time()
        work()
        took.append(time.process_time() - since)
    return min(took[1:])
