"""GOT-10k's metrics: by hand, and against figures of its own toolkit."""

from __future__ import annotations

import numpy as np
import pytest

import toolkit_boxes
from elysium.evaluation.got10k import got10k_curve, got10k_overlaps, got10k_scores

NAN = float("nan")
BOX = [10.0, 10, 20, 20]


def test_by_hand_the_first_frame_never_counts():
    # Frame 1 wrong (not counted), IoU 1, shifted by half (1/3), no box.
    overlaps = got10k_overlaps([[0, 0, 1, 1], BOX, [15, 10, 25, 20], [NAN] * 4], [BOX] * 4)
    assert overlaps.tolist() == pytest.approx([1, 1 / 3, 0])
    scores = got10k_scores(overlaps)
    assert (scores.ao, scores.sr50, scores.sr75, scores.num_frames) == pytest.approx((400 / 9, 100 / 3, 100 / 3, 3))


def test_boxes_are_moved_into_the_image_as_the_toolkit_does():
    # The corner -10 becomes 0 and the width of 20 stays, so 0..20 covers the truth 0..20 wholly.
    assert got10k_overlaps([BOX, [-10, 0, 10, 10]], [BOX, [0, 0, 20, 10]], resolution_wh=(100, 100)).tolist() == [1]
    assert got10k_overlaps([BOX, [-10, 0, 10, 10]], [BOX, [0, 0, 20, 10]]).tolist() == pytest.approx([1 / 3])
    # At the right the width shrinks to what is left: 90..100 of 90..110, so both are the same.
    assert got10k_overlaps([BOX, [90, 0, 110, 10]], [BOX, [90, 0, 100, 10]], resolution_wh=(100, 100)).tolist() == [1]


def test_which_frames_count():
    truth = [BOX, BOX, [NAN] * 4, [5, 5, 5, 5], BOX]
    pred = [BOX] * 5
    assert len(got10k_overlaps(pred, truth)) == 2
    assert got10k_overlaps(pred, truth, cover=[8, 0, 8, 1, 3]).tolist() == [0, 1]  # an empty truth that is "visible"
    assert got10k_scores(got10k_overlaps([BOX], [BOX])).num_frames == 0
    assert np.isnan(got10k_scores([]).ao)
    with pytest.raises(ValueError, match=r"\(2, 4\)"):
        got10k_overlaps([BOX] * 2, [BOX])
    with pytest.raises(ValueError, match="cover"):
        got10k_overlaps([BOX], [BOX], cover=[1, 1])


def test_sequences_are_pooled_not_averaged():
    assert got10k_scores([np.ones(3), np.zeros(1)]).ao == 75


def test_the_curve_is_strict():
    curve = got10k_curve(np.array([0.0, 0.5, 1.0, 0.75]))
    assert (curve[0], curve[49], curve[50], curve[75], curve[100]) == (0.75, 0.75, 0.5, 0.25, 0)
    assert np.isnan(got10k_curve(np.zeros(0))).all()


# ao, sr and succ_curve[75] (SR0.75) as got10k 0.1.3 said them: see toolkit_boxes.py.
RECORDED = {
    0.5: (0.47435013611292354, 0.5714285714285714, 0.2857142857142857, 35),
    1.0: (0.3469992655790533, 0.34285714285714286, 0.11428571428571428, 35),
    2.0: (0.19919009609315935, 0.14285714285714285, 0.02857142857142857, 35),
    "all": (0.34017983259504536, 0.3523809523809524, 0.14285714285714285, 105),
}


def overlaps_of(shift: float) -> np.ndarray:
    return got10k_overlaps(
        *toolkit_boxes.xyxy(shift), resolution_wh=toolkit_boxes.RESOLUTION_WH, cover=toolkit_boxes.COVER
    )


@pytest.mark.parametrize("shift", [*toolkit_boxes.SHIFTS, "all"])
def test_equal_to_what_the_toolkit_said(shift):
    overlaps = np.concatenate([overlaps_of(s) for s in (toolkit_boxes.SHIFTS if shift == "all" else [shift])])
    scores = got10k_scores(overlaps)
    found = (scores.ao, scores.sr50, scores.sr75, scores.num_frames)
    *shares, frames = RECORDED[shift]
    assert found == pytest.approx((*(100 * share for share in shares), frames), abs=1e-9)
    assert got10k_curve(overlaps)[75] == pytest.approx(shares[2])


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_the_toolkit_where_it_is_installed(seed):
    metrics = pytest.importorskip("got10k.utils.metrics", reason="the got10k toolkit is not installed")
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-20, 200, (300, 4))
    truth[:, 2:] = rng.uniform(2, 90, (300, 2))
    pred = truth + rng.normal(0, 15, truth.shape)
    pred[:, 2:] = pred[:, 2:].clip(0)
    corners = [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in (pred, truth)]
    ours = got10k_overlaps(*corners, resolution_wh=(180, 150), cover=np.ones(300))
    np.testing.assert_allclose(ours, metrics.rect_iou(pred[1:], truth[1:], bound=(180, 150)), atol=1e-9)
