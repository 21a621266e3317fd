"""AUROC and reliability of scores, by hand and against the definition."""

from __future__ import annotations

import numpy as np
import pytest

from elysium.evaluation.quality import auroc, reliability, scored_frames

NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "right", "expected"),
    [
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 1.0),
        ([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], 0.0),
        ([0.5] * 4, [1, 0, 1, 0], 0.5),
        ([0.8, 0.4, 0.6, 0.2], [1, 1, 0, 0], 0.75),  # pairs won: 0.8 beats both, 0.4 beats one: 3 of 4
        ([0.9, 0.6, 0.6, 0.1], [1, 1, 0, 0], 0.875),  # 2 + 1/2 + 1 of 4
        ([3, 1, 2, 2, 2], [1, 0, 1, 0, 0], 5 / 6),  # 3 wins thrice; 2 wins once and ties twice: 5 of 6
    ],
)
def test_auroc_by_hand(scores, right, expected):
    assert auroc(scores, np.array(right, bool)) == pytest.approx(expected)


def test_auroc_is_the_share_of_pairs_won():
    rng = np.random.default_rng(0)
    scores, right = rng.integers(0, 12, 300) / 11, rng.random(300) < 0.3
    pairs = np.sign(scores[right][:, None] - scores[~right][None, :])
    assert auroc(scores, right) == pytest.approx((pairs.mean() + 1) / 2)


def test_auroc_needs_both_kinds():
    assert np.isnan(auroc([0.1, 0.9], [True, True]))
    assert np.isnan(auroc([], []))
    with pytest.raises(ValueError, match="NaN"):
        auroc([NAN, 1], [True, False])
    with pytest.raises(ValueError, match=r"\(2,\).*\(1,\)"):
        auroc([0.1, 0.9], [True])


def test_which_frames_have_a_score_and_which_are_right():
    box, other, none = [0, 0, 10, 10], [5, 0, 15, 10], [NAN] * 4
    # right | IoU 1/3 | a box where nothing is | no box | no score | IoU exactly 1/2
    boxes = [box, other, box, none, box, [0, 0, 10, 5]]
    truth = [box, box, none, box, box, box]
    scores, right = scored_frames([0.9, 0.5, 0.8, 0.1, NAN, 0.3], boxes, truth)
    assert scores.tolist() == [0.9, 0.5, 0.8, 0.1, 0.3]
    assert right.tolist() == [True, False, False, False, False]
    with pytest.raises(ValueError, match=r"\(1,\) scores"):
        scored_frames([0.5], boxes, truth)


def test_reliability_by_hand():
    found = reliability([0.0, 0.2, 0.5, 0.6, 1.0], [False, True, True, False, True], bins=4)
    assert found.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.counts.tolist() == [2, 0, 2, 1]  # 0.5 belongs to the bin above it, 1 to the last
    np.testing.assert_allclose(found.confidence, [0.1, NAN, 0.55, 1])
    np.testing.assert_allclose(found.accuracy, [0.5, NAN, 0.5, 1])
    assert found.expected_error == pytest.approx((2 * 0.4 + 2 * 0.05 + 0) / 5)


def test_scores_on_the_edges_of_ten_bins():
    found = reliability(np.arange(11) / 10, np.ones(11, bool))
    assert found.counts.tolist() == [1] * 9 + [2]


def test_reliability_of_nothing_and_of_too_much():
    assert np.isnan(reliability([], []).expected_error)
    with pytest.raises(ValueError, match=r"0\.2\.\.3"):
        reliability([0.2, 3], [True, False])
