"""How much of a mean, or of a difference between two trackers, is luck of the sequences: bootstrap intervals.

Knows one number per sequence. Knows nothing about what the numbers are. Sequences, not frames, are drawn with
replacement: frames of one video are far from independent.

Percentile intervals: Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13. They are a little too
narrow for few sequences (about sqrt((n - 1) / n)), and one sequence alone has an interval of no width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from elysium.boxes import FloatArray

RESAMPLES = 10_000
CONFIDENCE = 0.95
_DRAWS_AT_ONCE = 1 << 21  # numbers drawn in one go: bounds the memory to a few tens of megabytes


@dataclass(frozen=True)
class Interval:
    """A mean over sequences with its percentile interval; all NaN if there is no sequence.

    Attributes:
        mean: of the sequences as they are.
        low, high: the bounds.
        above_zero: share of the resamples whose mean is above 0 (one half counted for exactly 0). Of a difference: how
            often A beats B. Not a p-value.
        num_sequences: those that took part.
    """

    mean: float
    low: float
    high: float
    above_zero: float
    num_sequences: int


def bootstrap_mean(
    values: ArrayLike, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """Interval of the mean of one number per sequence, (n,); NaN (a sequence that has no score) is left out.

    The same seed, values and NumPy give the same interval.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"confidence must lie in 0..1 and resamples be 1 or more, not {confidence}, {resamples}")
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise ValueError(f"values have shape {numbers.shape}; it must be (n,), one number a sequence")
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        nan = float("nan")
        return Interval(nan, nan, nan, nan, 0)
    means = _resampled_means(numbers, resamples, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    above = float((means > 0).mean() + (means == 0).mean() / 2)
    return Interval(float(numbers.mean()), float(low), float(high), above, len(numbers))


def bootstrap_difference(
    a: ArrayLike, b: ArrayLike, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """Interval of the mean of A - B, paired: (n,) and (n,) of the same sequences in the same order.

    Both trackers are resampled together, so what makes a sequence hard for both cancels. A sequence that either has no
    score for (NaN) is left out.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"A has shape {first.shape}, B {second.shape}; pairs need the same sequences in order")
    return bootstrap_mean(first - second, resamples=resamples, confidence=confidence, seed=seed)


def _resampled_means(numbers: FloatArray, resamples: int, seed: int) -> FloatArray:
    """(n,) -> (resamples,) means of n numbers drawn with replacement, a block of resamples at a time."""
    rng = np.random.default_rng(seed)
    block = max(1, _DRAWS_AT_ONCE // len(numbers))
    means = [
        numbers[rng.integers(0, len(numbers), (min(block, resamples - done), len(numbers)))].mean(axis=1)
        for done in range(0, resamples, block)
    ]
    return np.concatenate(means)
