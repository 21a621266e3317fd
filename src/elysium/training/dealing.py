"""Who gets what: which source a batch comes from, whose batch it is, and which clip a group of samples is about.

Batches are dealt out to processes one after the other, and by each process to the processes of its loader. So with
``lanes`` readers in all, batch ``b`` always goes to lane ``b % lanes``, before and after a run was stopped.

Knows: numbers. Does not know: clips, samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Group:
    """Neighbouring samples about the same clip.

    ``number``: of all groups of the run. ``lane``, ``turn``: of a source that can only be read on, in which lane it is
    read, and how many groups about it that lane has had before.
    """

    number: int
    lane: int = 0
    turn: int = 0


@dataclass(frozen=True)
class Mixture:
    """Which source a batch comes from: drawn by weight."""

    weights: tuple[float, ...]
    seed: int

    def source_of(self, batch: int) -> int:
        """The number of the source."""
        if len(self.weights) == 1:
            return 0
        shares = np.array(self.weights) / sum(self.weights)
        return int(np.random.default_rng((self.seed, 3, batch)).choice(len(shares), p=shares))


class Deal:
    """Counts the batches about one ``source`` of a mixture that each lane has had."""

    def __init__(self, mixture: Mixture, source: int, lanes: int) -> None:
        self.mixture, self.source, self.lanes = mixture, source, lanes
        self._counted: dict[int, tuple[int, int]] = {}  # by lane: up to which batch, how many

    def __call__(self, batch: int) -> tuple[int, int]:
        """The lane of a batch, and how many batches about the source it has had before."""
        lane = batch % self.lanes
        start, count = self._counted.get(lane, (lane, 0))
        if start > batch:
            start, count = lane, 0
        count += sum(self.mixture.source_of(b) == self.source for b in range(start, batch, self.lanes))
        self._counted[lane] = batch, count
        return lane, count


def weighted(rng: np.random.Generator, weights: Iterable[float]) -> int:
    """A place drawn by weight."""
    shares = np.array(list(weights))
    return int(rng.choice(len(shares), p=shares / shares.sum()))


@lru_cache(maxsize=8)
def shuffled(count: int, seed: int, turn: int) -> NDArray[np.int64]:
    """0..count-1 in the order of the ``turn``-th time through them."""
    return np.random.default_rng((seed, 6, turn)).permutation(count)
