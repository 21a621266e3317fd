"""Bootstrap intervals in cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from elysium.evaluation import bootstrap
from elysium.evaluation.bootstrap import Interval, bootstrap_difference, bootstrap_mean


def test_equal_values_have_no_spread():
    assert bootstrap_mean([40.0] * 7) == Interval(40, 40, 40, 1.0, 7)
    assert bootstrap_mean([-3.0]) == Interval(-3, -3, -3, 0.0, 1)


def test_two_values_by_hand():
    """Means of 0 and 1 drawn twice: 0, 1/2, 1 with 1/4, 1/2, 1/4."""
    wide, narrow = bootstrap_mean([0.0, 1.0]), bootstrap_mean([0.0, 1.0], confidence=0.4)
    assert (wide.mean, wide.low, wide.high) == (0.5, 0, 1)
    assert (narrow.low, narrow.high) == (0.5, 0.5)
    assert wide.above_zero == pytest.approx(0.75 + 0.25 / 2, abs=0.02)


def test_of_zeros_and_ones_it_is_the_binomial():
    """50 of 100: the 2.5 and 97.5 per cent points of a binomial of 100 and 1/2 are 40 and 60."""
    found = bootstrap_mean(np.arange(100) % 2)
    assert found.low == pytest.approx(0.40, abs=0.011)
    assert found.high == pytest.approx(0.60, abs=0.011)


def test_of_many_values_it_is_the_normal_interval():
    values = np.random.default_rng(3).normal(50, 20, 280)
    half = 1.96 * values.std() / np.sqrt(280)
    found = bootstrap_mean(values)
    assert found.mean == values.mean()
    assert found.high - found.mean == pytest.approx(half, rel=0.05)
    assert found.mean - found.low == pytest.approx(half, rel=0.05)


def test_pairs_cancel_what_is_hard_for_both():
    hard = np.linspace(0, 90, 30)
    assert bootstrap_difference(hard + 2, hard) == Interval(2, 2, 2, 1.0, 30)
    apart = bootstrap_mean(hard)
    assert apart.high - apart.low > 10
    assert bootstrap_difference(hard, hard) == Interval(0, 0, 0, 0.5, 30)
    there, back = bootstrap_difference(hard**1.1, hard), bootstrap_difference(hard, hard**1.1)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_the_seed_decides():
    values = np.arange(20.0)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_the_size_of_a_block_decides_nothing(monkeypatch):
    values = np.random.default_rng(0).random(30)
    whole = bootstrap_mean(values, resamples=1001)
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 200)  # 6 resamples at a time
    assert bootstrap_mean(values, resamples=1001) == whole


def test_sequences_without_a_score_are_left_out():
    nan = float("nan")
    assert bootstrap_mean([1.0, nan, 1.0]).num_sequences == 2
    assert bootstrap_difference([1.0, nan, 5.0], [0.0, 1.0, nan]) == Interval(1, 1, 1, 1.0, 1)
    assert bootstrap_mean([nan]).num_sequences == 0
    assert np.isnan(bootstrap_mean([]).low)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"\(2,\).*\(1,\)"):
        bootstrap_difference([1, 2], [1])
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_mean([1, 2], confidence=95)
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        bootstrap_mean([[1, 2]])
