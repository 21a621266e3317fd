"""Odd frames under each toolkit's convention: by hand, and against loops that follow the toolkits line by line."""

from __future__ import annotations

import numpy as np
import pytest

from elysium.evaluation.conventions import (
    CONVENTIONS,
    LASOT,
    PLAIN,
    PLAIN_SOT,
    PYTRACKING,
    PYTRACKING_UAV,
    frame_errors,
)
from elysium.evaluation.ope import sequence_scores

NAN = float("nan")
BOX = [100.0, 100, 150, 140]
FAR = [300.0, 300, 350, 340]
NONE = [NAN] * 4
ALL = list(CONVENTIONS.values())


def sr50(pred, truth, convention, **options):
    return sequence_scores(pred, truth, convention=convention, **options).sr50


@pytest.mark.parametrize("convention", ALL, ids=lambda c: c.name)
def test_plain_frames_score_the_same_everywhere(convention):
    scores = sequence_scores([BOX, FAR, BOX, FAR], [BOX] * 4, convention=convention)
    assert (scores.sr50, scores.precision, scores.norm_precision, scores.num_frames) == (50, 50, 50, 4)


@pytest.mark.parametrize(
    ("convention", "success", "precision", "frames"),
    [(PLAIN, 100, 100, 2), (PLAIN_SOT, 100, 100, 2), (PYTRACKING, 100, 100, 2), (LASOT, 50, 50, 4),
     (PYTRACKING_UAV, 50, 100, 4)],
    ids=lambda v: getattr(v, "name", ""),
)  # fmt: skip
@pytest.mark.parametrize("absent", [NONE, [0.0] * 4, [100.0, 100, 100, 140]], ids=["nan", "zero", "narrow"])
def test_an_absent_stretch_in_the_middle(convention, success, precision, frames, absent):
    scores = sequence_scores([BOX, FAR, FAR, BOX], [BOX, absent, absent, BOX], convention=convention)
    assert (scores.sr50, scores.precision, scores.num_frames) == (success, precision, frames)
    assert scores.norm_precision == precision
    assert scores.mean_iou == 100  # always over the frames in which the object is there


@pytest.mark.parametrize("convention", ALL, ids=lambda c: c.name)
def test_a_flag_makes_absent_what_has_a_box(convention):
    pred, truth = [BOX, BOX, FAR, BOX], [BOX, NONE, BOX, BOX]
    marked = sequence_scores(pred, [BOX] * 4, convention=convention, visible=[1, 0, 1, 1])
    assert marked == sequence_scores(pred, truth, convention=convention)


@pytest.mark.parametrize("broken", [NONE, [0.0] * 4, [90.0, 90, 90, 90], [150.0, 140, 100, 100]])
def test_a_broken_box_is_a_miss_or_the_box_before_it(broken):
    pred, truth = [BOX, BOX, broken, broken], [BOX] * 4
    assert sr50(pred, truth, PLAIN) == 50
    for convention in (LASOT, PYTRACKING, PYTRACKING_UAV):
        assert sr50(pred, truth, convention) == 100


def test_the_box_before_it_is_the_predicted_one_not_the_truth_of_frame_1():
    """Both toolkits put the truth into frame 1 after they have repeated."""
    assert sr50([FAR, NONE, NONE, BOX], [BOX] * 4, LASOT) == 50
    assert sr50([NONE, NONE, NONE, BOX], [BOX] * 4, PYTRACKING) == 50


@pytest.mark.parametrize("convention", [LASOT, PYTRACKING], ids=lambda c: c.name)
def test_a_broken_box_where_the_truth_is_nan_is_handed_on(convention):
    """The toolkits do not mend it, and the broken one after it copies it."""
    pred, truth = [BOX, [0.0] * 4, [0.0] * 4, BOX], [BOX, NONE, BOX, BOX]
    overlaps = frame_errors(pred, truth, convention=convention).overlaps
    assert overlaps[-2:].tolist() == [0, 1]


def test_lengths():
    truth = [BOX] * 4
    for convention in (PLAIN, PLAIN_SOT):
        for count in (3, 5):
            with pytest.raises(ValueError, match=rf"\({count}, 4\).*\(4, 4\)"):
                sr50([BOX] * count, truth, convention)
    assert sr50([BOX] * 5, truth, LASOT) == 100
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        sr50([BOX] * 3, truth, LASOT)
    assert sr50([BOX] * 5, truth, PYTRACKING) == 100
    assert sr50([BOX] * 3, truth, PYTRACKING) == 75
    assert sr50(np.zeros((0, 4)), truth, PYTRACKING) == 25  # frame 1 counts as the truth even so
    with pytest.raises(ValueError, match="visibility"):
        sr50(truth, truth, PLAIN, visible=[True])
    with pytest.raises(ValueError, match=r"\(4,\)"):
        sr50(BOX, truth, PLAIN)


def test_pytracking_pads_with_boxes_at_the_origin_which_have_a_centre():
    truth = [[0.0, 0, 10, 10]] * 2
    scores = sequence_scores(truth[:1], truth, convention=PYTRACKING)
    assert (scores.sr50, scores.precision, scores.norm_precision) == (50, 100, 50)  # sqrt(50) = 7.07 px, 0.707 sides


def test_the_first_frame():
    pred, truth = [FAR, BOX, FAR, BOX], [BOX] * 4
    assert [sr50(pred, truth, c) for c in (PLAIN, PLAIN_SOT, LASOT, PYTRACKING)] == [50, 75, 75, 75]
    assert [sr50(pred, truth, c, count_first=False) for c in ALL] == pytest.approx([200 / 3] * len(ALL))


@pytest.mark.parametrize("convention", ALL, ids=lambda c: c.name)
def test_nothing_to_score(convention):
    for truth in (np.full((3, 4), NAN), np.zeros((0, 4))):
        scores = sequence_scores(np.array([BOX] * len(truth)).reshape(-1, 4), truth, convention=convention)
        assert scores.num_frames == 0
        assert np.isnan(scores.auc)


@pytest.mark.parametrize("convention", ALL, ids=lambda c: c.name)
def test_the_arguments_are_left_as_they_are(convention):
    pred, truth = np.array([FAR, NONE, BOX]), np.array([BOX, BOX, NONE])
    kept = pred.copy(), truth.copy()
    frame_errors(pred, truth, convention=convention, count_first=False)
    np.testing.assert_array_equal(pred, kept[0])
    np.testing.assert_array_equal(truth, kept[1])


def toolkit_loop(pred, truth, absent, lasot):
    """Success, precision and normalised precision counted frame by frame, in the order of the toolkits' sources."""
    pred, total = pred.copy(), len(truth) if lasot else 0
    for i in range(1, len(truth)):
        if np.isnan(pred[i]).any() or pred[i, 2] <= 0 or pred[i, 3] <= 0:
            pred[i] = pred[i - 1]
    pred[0] = truth[0]
    success, precision, normed = np.zeros(21), np.zeros(51), np.zeros(51)
    for p, t, gone in zip(pred, truth, absent, strict=True):
        if gone:
            continue
        total += 0 if lasot else 1
        wide = min(p[0] + p[2] - 1, t[0] + t[2] - 1) - max(p[0], t[0]) + 1
        high = min(p[1] + p[3] - 1, t[1] + t[3] - 1) - max(p[1], t[1]) + 1
        shared = max(wide, 0) * max(high, 0)
        overlap = shared / (p[2] * p[3] + t[2] * t[3] - shared)
        dx, dy = ((p[a] + (p[a + 2] - 1) / 2, t[a] + (t[a + 2] - 1) / 2) for a in (0, 1))
        pixels = ((dx[0] - dx[1]) ** 2 + (dy[0] - dy[1]) ** 2) ** 0.5
        units = ((dx[0] / t[2] - dx[1] / t[2]) ** 2 + (dy[0] / t[3] - dy[1] / t[3]) ** 2) ** 0.5
        success += [overlap > k / 20 for k in range(21)]
        precision += [pixels <= k for k in range(51)]
        normed += [units <= k / 100 for k in range(51)]
    return [100 * float(v) / total for v in (success.mean(), precision[20], normed[20], success[15])]


@pytest.mark.parametrize("convention", [LASOT, PYTRACKING], ids=lambda c: c.name)
@pytest.mark.parametrize("seed", range(8))
def test_equal_to_a_loop_written_from_the_toolkits(convention, seed):
    rng = np.random.default_rng(seed)
    truth = np.concatenate([rng.integers(1, 300, (200, 2)), rng.integers(10, 80, (200, 2))], 1).astype(float)
    pred = truth + rng.integers(-9, 10, truth.shape)  # whole numbers: plenty of ties at thresholds
    pred[rng.random(200) < 0.1] = [NAN, NAN, NAN, NAN] if seed % 2 else [3, 3, 0, 5]
    pred[0] = truth[0] + 5
    absent = (np.arange(200) % 50 > 40) if seed % 3 else np.zeros(200, bool)
    corners = [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in (pred, truth)]
    scores = sequence_scores(*corners, convention=convention, visible=~absent)
    found = [scores.auc, scores.precision, scores.norm_precision, scores.sr75]
    assert found == pytest.approx(toolkit_loop(pred, truth, absent, convention is LASOT), abs=1e-9)
