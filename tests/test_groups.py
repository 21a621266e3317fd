"""Averages by attribute and by size of the object."""

from __future__ import annotations

import numpy as np
import pytest

from elysium.evaluation.groups import group_means, size_class
from elysium.evaluation.ope import sequence_scores

BOX = np.array([[0.0, 0, 10, 10]])
HIT, MISS, EMPTY = (sequence_scores(b, t) for b, t in ((BOX, BOX), (BOX + 50, BOX), (BOX, BOX * np.nan)))


def test_each_sequence_counts_once_in_each_of_its_groups():
    scores = {"a": HIT, "b": MISS, "c": HIT, "d": EMPTY}
    groups = {"a": ["fast", "dark", "fast"], "b": ["fast"], "c": [], "d": ["dark"], "not run": ["fast", "other"]}
    means = group_means(scores, groups)
    assert list(means) == ["fast", "dark"]
    assert (means["fast"].scores.sr50, means["fast"].num_sequences) == (50, 2)
    assert (means["dark"].scores.sr50, means["dark"].num_sequences) == (100, 1)


@pytest.mark.parametrize(
    ("sides", "expected"),
    [([(31, 33)], "small"), ([(32, 32)], "medium"), ([(96, 96)], "medium"), ([(97, 96)], "large"),
     ([(10, 10), (20, 20), (500, 500)], "small"), ([(10, 10), (0, 0), (np.nan, 5), (200, 200), (200, 200)], "large"),
     ([(0, 0)], None), ([], None)],
)  # fmt: skip
def test_size_class_is_that_of_the_median_area(sides, expected):
    assert size_class(np.array([[5, 5, 5 + w, 5 + h] for w, h in sides]).reshape(-1, 4)) == expected
