"""Counting absence: by hand, on one track."""

import math

import numpy as np
import pytest

from elysium.evaluation.absence import absence_scores, total_absence

HERE, ELSEWHERE, NOWHERE = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0], [np.nan] * 4


def test_absence_by_hand():
    truth = np.array([HERE, NOWHERE, NOWHERE, HERE, HERE, HERE, NOWHERE, HERE, NOWHERE, HERE])
    boxes = np.array([HERE, NOWHERE, HERE, ELSEWHERE, NOWHERE, HERE, NOWHERE, NOWHERE, ELSEWHERE, HERE])
    scores = absence_scores(boxes, truth)
    assert (scores.absent_frames, scores.recalled, scores.present_frames, scores.found) == (4, 2, 6, 3)
    assert (scores.returns, scores.refound, scores.refind_frames) == (3, 2, (2, 0))
    assert (scores.recall, scores.false_boxes_per_absent_frame, scores.median_refind_frames) == (0.5, 0.5, 1.0)
    both = total_absence([scores, scores])
    assert (both.absent_frames, both.refind_frames, both.recall) == (8, (2, 0, 2, 0), 0.5)


def test_an_object_that_is_always_there_says_nothing_about_absence():
    scores = absence_scores([HERE, HERE], [HERE, HERE])
    assert math.isnan(scores.recall) and math.isnan(scores.median_refind_frames) and scores.found == 2


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="shape"):
        absence_scores([HERE], [HERE, HERE])
