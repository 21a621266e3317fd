"""Accuracy of boxes for phrases, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from elysium.errors import InputError
from elysium.evaluation.rec import rec_accuracy

TRUTH = [0.0, 0.0, 10.0, 10.0]
HALF = [0.0, 0.0, 10.0, 5.0]  # an IoU of exactly 1/2
NAN, INF = math.nan, math.inf


def test_rec_by_hand():
    # all of it | half of it | 25 of 175 | nothing of it
    boxes = [TRUTH, HALF, [5, 5, 15, 15], [20, 20, 30, 30]]
    scores = rec_accuracy(boxes, [TRUTH] * 4)
    assert scores.ious.tolist() == [1.0, 0.5, pytest.approx(1 / 7), 0.0]
    assert scores.accuracy == 50.0
    assert scores.mean_iou == pytest.approx(100 * (1 + 1 / 2 + 1 / 7) / 4)
    assert (scores.num_items, scores.num_missing) == (4, 0)


def test_what_happens_at_the_threshold():
    assert rec_accuracy([HALF], [TRUTH]).accuracy == 100
    assert rec_accuracy([HALF], [TRUTH], strict=True).accuracy == 0
    assert rec_accuracy([HALF], [TRUTH], threshold=0.49, strict=True).accuracy == 100
    assert rec_accuracy([HALF], [TRUTH], threshold=0.51).accuracy == 0


@pytest.mark.parametrize("box", [[NAN] * 4, [0, 0, 10, NAN], [0, 0, INF, 10], [10, 10, 0, 0], [3, 3, 3, 9]])
def test_no_box_is_a_miss(box):
    scores = rec_accuracy([box, TRUTH], [TRUTH, TRUTH])
    assert (scores.accuracy, scores.mean_iou, scores.num_missing) == (50, 50, 1)
    assert rec_accuracy([box], [TRUTH], threshold=0).accuracy == 0


def test_no_phrases_have_no_scores():
    scores = rec_accuracy(np.empty((0, 4)), [])
    assert math.isnan(scores.accuracy) and math.isnan(scores.mean_iou) and scores.num_items == 0


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="2 boxes for 1 true"):
        rec_accuracy([TRUTH, TRUTH], [TRUTH])
    with pytest.raises(ValueError, match="row 1 is no box"):
        rec_accuracy([TRUTH, TRUTH], [TRUTH, [NAN] * 4])
    with pytest.raises(ValueError, match=r"0\.\.1, not 50"):
        rec_accuracy([TRUTH], [TRUTH], threshold=50)
    with pytest.raises(InputError, match="4 numbers"):
        rec_accuracy([[1, 2, 3]], [TRUTH])
