"""Averages over groups of sequences: attributes of a benchmark, and how large the object is.

Knows scores per sequence and names. Knows nothing about boxes over time (`ope.py`) or where attributes are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from elysium.evaluation.conventions import has_area
from elysium.evaluation.ope import Scores, mean_scores

SIZE_CLASSES = ("small", "medium", "large")
# The bounds of COCO's area ranges, cocodataset.org/#detection-eval: 32 and 96 pixels squared.
SMALL_AREA, LARGE_AREA = 32.0**2, 96.0**2


class GroupMean(NamedTuple):
    """Mean scores of a group and how many of its sequences had a frame that counted."""

    scores: Scores
    num_sequences: int


def group_means(
    scores: Mapping[str, Scores], groups: Mapping[str, Iterable[str]]
) -> dict[str, GroupMean]:
    """Mean per group, each sequence with the same weight.

    Args:
        scores: by name of the sequence.
        groups: by name of the sequence, the groups that it is in (none, one or many). Sequences without scores are
            passed over, so a partial run can be reported.

    Returns:
        By name of the group, in order of first mention. LaSOT's toolkit draws no plot for an attribute with fewer than
        two sequences; here such groups are kept, with their count.
    """
    members: dict[str, list[Scores]] = {}
    for sequence, names in groups.items():
        if sequence in scores:
            for name in dict.fromkeys(names):
                members.setdefault(name, []).append(scores[sequence])
    return {
        name: GroupMean(mean_scores(found), sum(1 for one in found if one.num_frames))
        for name, found in members.items()
    }


def size_class(gt_xyxy: ArrayLike) -> str | None:
    """Size of a sequence's object: by the median area of its true boxes, (T, 4) pixels. None if there are none.

    "small" below 32 x 32, "large" above 96 x 96, "medium" from the one to the other.

    >>> size_class([[0, 0, 50, 50], [0, 0, 60, 40], [0, 0, 500, 500]])
    'medium'
    """
    truth = np.asarray(gt_xyxy, dtype=np.float64)
    truth = truth[has_area(truth)]
    if not len(truth):
        return None
    area = float(np.median((truth[:, 2:] - truth[:, :2]).prod(axis=1)))
    return SIZE_CLASSES[int(area >= SMALL_AREA) + int(area > LARGE_AREA)]
