"""One-pass evaluation: hand-computed figures, an independent loop, and the published floor."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from elysium.evaluation.ope import Scores, hold_first_box, mean_scores, sequence_scores, success_curve

NAN = float("nan")
# Four frames with the truth 100 wide and 50 high.
TRUTH = np.array([[0.0, 0, 100, 50]] * 4)
# IoU 1 | shifted right by 20: 80 / 120 = 2/3 | shifted right by 60: 40 / 160 = 1/4 | no box
PRED = np.array([[0.0, 0, 100, 50], [20, 0, 120, 50], [60, 0, 160, 50], [NAN] * 4])


def test_every_figure_by_hand():
    scores = sequence_scores(PRED, TRUTH)
    # Thresholds below 1: 20 of 21. Below 2/3: 0 ... 0.65, 14. Below 1/4, strictly: 0 ... 0.20, 5.
    assert scores.auc == pytest.approx(100 * (20 + 14 + 5 + 0) / 21 / 4)
    assert scores.precision == pytest.approx(50)  # centres off by 0, 20 (counts), 60, no box
    assert scores.norm_precision == pytest.approx(50)  # 0, 0.2 (counts), 0.6
    assert scores.sr50 == pytest.approx(50)
    assert scores.sr75 == pytest.approx(25)
    assert scores.mean_iou == pytest.approx(100 * (1 + 2 / 3 + 1 / 4) / 4)
    assert scores.num_frames == 4


def test_normalised_precision_uses_each_side():
    pred = TRUTH[:2] + np.array([[0, 8, 0, 8], [0, 12, 0, 12]])  # 8/50 = 0.16 and 12/50 = 0.24
    scores = sequence_scores(pred, TRUTH[:2])
    assert (scores.precision, scores.norm_precision) == (100, 50)


def test_perfect_is_twenty_of_twenty_one():
    scores = sequence_scores(TRUTH, TRUTH)
    assert scores.auc == pytest.approx(95.238, abs=1e-3)
    assert (scores.precision, scores.norm_precision, scores.sr50, scores.sr75) == (100, 100, 100, 100)


def test_nothing_found_is_zero_not_nan():
    scores = sequence_scores(np.full((4, 4), NAN), TRUTH)
    assert scores == Scores(0, 0, 0, 0, 0, 0, 4)


def test_frames_without_truth_do_not_count():
    truth = TRUTH.copy()
    truth[1] = NAN
    truth[2] = [5, 5, 5, 20]
    truth[3] = 0
    assert sequence_scores(PRED, truth).num_frames == 1
    assert sequence_scores(PRED, truth).sr75 == 100
    nothing = sequence_scores(PRED, truth, count_first=False)
    assert nothing.num_frames == 0
    assert math.isnan(nothing.auc)


def test_the_first_frame_can_be_left_out():
    assert sequence_scores(PRED, TRUTH, count_first=False).sr50 == pytest.approx(100 / 3)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        sequence_scores(PRED[:3], TRUTH)


def test_means_weigh_sequences_not_frames():
    one = sequence_scores(TRUTH, TRUTH)
    none = sequence_scores(np.full((1, 4), NAN), TRUTH[:1])
    empty = sequence_scores(TRUTH, TRUTH * NAN)
    mean = mean_scores([one, none, empty])
    assert mean.sr50 == 50
    assert mean.num_frames == 5
    assert math.isnan(mean_scores([empty]).auc)


def test_curve_against_a_plain_loop():
    overlaps = np.random.default_rng(0).random(200).round(2)  # many fall exactly on a threshold
    loop = [sum(o > k * 5 / 100 for o in overlaps) / 200 for k in range(21)]
    np.testing.assert_allclose(success_curve(overlaps), loop)


def test_holding_the_first_box_on_the_real_sequences(shared_dir: Path):
    scores = []
    for path in sorted((shared_dir / "data" / "sequences").glob("*/groundtruth.txt")):
        truth = np.loadtxt(path, delimiter=",")
        truth[:, 2:] += truth[:, :2]
        scores.append(sequence_scores(hold_first_box(truth), truth))
    assert len(scores) == 21
    assert round(mean_scores(scores).auc, 1) == 27.3  # the published floor
