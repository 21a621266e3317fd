"""One-pass evaluation: hand-computed figures, an independent loop, and the published floor."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import toolkit_boxes
from elysium.evaluation.conventions import PLAIN_SOT, PYTRACKING
from elysium.evaluation.ope import (
    Scores,
    hold_first_box,
    mean_curves,
    mean_scores,
    sequence_curves,
    sequence_scores,
    success_curve,
)
from elysium.evaluation.published import parse_published

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
    # Within 0 ... 0.5: all 51 thresholds, those from 0.2 on (31), none.
    assert scores.norm_precision_auc == pytest.approx(100 * (51 + 31) / 51 / 4)
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
    assert scores == Scores(0, 0, 0, 0, 0, 0, 0, 4)


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


def test_curves_by_hand():
    curves = sequence_curves(PRED, TRUTH)
    assert curves.success.tolist() == [0.75] * 5 + [0.5] * 9 + [0.25] * 6 + [0]
    assert curves.precision.tolist() == [0.25] * 20 + [0.5] * 31
    assert curves.norm_precision.tolist() == [0.25] * 20 + [0.5] * 31
    assert curves.scores() == sequence_scores(PRED, TRUTH)


def test_the_mean_curve_has_the_mean_scores():
    pairs = [(PRED, TRUTH), (TRUTH[:2], TRUTH[:2]), (TRUTH, TRUTH * NAN)]
    from_curves = mean_curves(sequence_curves(*pair) for pair in pairs).scores()
    of_scores = mean_scores(sequence_scores(*pair) for pair in pairs)
    for name, value in vars(of_scores).items():
        assert getattr(from_curves, name) == pytest.approx(value), name
    assert mean_curves([]).num_frames == 0
    assert np.isnan(mean_curves([]).success).all()


def test_a_box_without_area_is_no_box():
    truth = TRUTH[:3]
    pred = np.array([[50, 25, 50, 25], [100, 50, 0, 0], [0, 0, np.inf, 50]])  # a point, inverted, infinite
    assert sequence_scores(pred, truth) == Scores(0, 0, 0, 0, 0, 0, 0, 3)


def test_the_truth_is_not_rounded():
    truth = np.array([[0.4, 0.4, 10.4, 10.4]])
    assert sequence_scores([[0.0, 0, 10, 10]], truth).mean_iou == pytest.approx(100 * 92.16 / 107.84)  # 9.6 * 9.6


# success_score, precision_score, success_rate of the got10k toolkit's OTB experiment: see toolkit_boxes.py.
GOT10K_OTB = {
    0.5: (0.7333333333333334, 1.0, 1.0),
    1.0: (0.5702380952380952, 1.0, 0.625),
    2.0: (0.3595238095238095, 0.725, 0.2),
}


@pytest.mark.parametrize("shift", toolkit_boxes.SHIFTS)
@pytest.mark.parametrize("convention", [PLAIN_SOT, PYTRACKING])
def test_equal_to_what_the_got10k_toolkit_said(shift, convention):
    scores = sequence_scores(*toolkit_boxes.xyxy(shift), convention=convention)
    found = (scores.auc, scores.precision, scores.sr50)
    assert found == pytest.approx([100 * value for value in GOT10K_OTB[shift]], abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_the_got10k_toolkit_where_it_is_installed(seed):
    metrics = pytest.importorskip("got10k.utils.metrics", reason="the got10k toolkit is not installed")
    rng = np.random.default_rng(seed)
    truth = rng.uniform(5, 200, (300, 4)).round(seed % 3)
    pred = truth + rng.normal(0, 12, truth.shape).round(seed % 3)
    pred[:, 2:] = pred[:, 2:].clip(1)
    corners = [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in (pred, truth)]
    curves = sequence_curves(*corners)
    overlaps, distances = metrics.rect_iou(pred, truth), metrics.center_error(pred, truth)
    np.testing.assert_allclose(curves.success, [(overlaps > t).mean() for t in np.linspace(0, 1, 21)], atol=1e-12)
    np.testing.assert_allclose(curves.precision, [(distances <= t).mean() for t in range(51)], atol=1e-12)


@pytest.mark.parametrize("task", ["SOT", "RSOT"])
def test_the_standard_figures_recorded_for_the_published_answers(shared_dir: Path, task):
    """compat/pipeline/metrics.json: real ground truth, pytracking's protocol, frame 1 counted as the truth."""
    compat = shared_dir / "compat"
    if not (compat / "pipeline" / "metrics.json").exists():
        pytest.skip(f"no recorded answers in {compat}")
    truths = {r["id"]: r for r in map(json.loads, (compat / "anno.jsonl").read_text().splitlines())}
    scores = []
    for line in (compat / "pipeline" / f"{task}_merged.jsonl").read_text().splitlines():
        answer = json.loads(line)
        scale = np.array(answer["image_size"] * 2, dtype=float)
        pred, truth = np.array(parse_published(answer["predict"])), np.array(truths[answer["id"]]["box"])
        scores.append(sequence_scores(pred * scale, truth * scale, convention=PLAIN_SOT))
    mean = mean_scores(scores)
    want = json.loads((compat / "pipeline" / "metrics.json").read_text())[task]["standard_real_gt_frame1_gt"]
    assert mean.auc == pytest.approx(want["auc"], abs=1e-6)
    assert mean.precision == pytest.approx(want["prec20"], abs=1e-6)
    assert mean.norm_precision == pytest.approx(want["nprec20"], abs=1e-6)
