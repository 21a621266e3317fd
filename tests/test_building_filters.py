"""Which trajectories are kept: every rule at its edge, their order, what each would drop; drift and cuts alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from building_kit import SIZE_WH, FakeClip, blank_clip, straight, trajectory
from elysium.boxes import iou
from elysium.building import filters
from elysium.building.drift import innovations
from elysium.building.filters import ClipFacts, duplicates, judge, mean_iou
from elysium.building.settings import (
    ConfidenceRule,
    DriftRule,
    DuplicateRule,
    FilterSettings,
    LengthRule,
    MotionRule,
    OverlapRule,
    ShotsRule,
    SizeRule,
)
from elysium.building.shots import ClipPart, difference, differences, find_cuts, histogram, prepare_clip

COUNT = 24
FACTS = ClipFacts([k / 25 for k in range(COUNT)], SIZE_WH)


def lost(boxes: np.ndarray, *frames: int) -> np.ndarray:
    boxes = boxes.copy()
    boxes[list(frames)] = np.nan
    return boxes


def test_length_counts_frames_with_a_box():
    rule = LengthRule(min_frames=8, min_share=0.5)
    assert filters.length(trajectory(lost(straight(), *range(12, 24))), FACTS, rule) is None
    dropped = filters.length(trajectory(lost(straight(), *range(11, 24))), FACTS, rule)
    assert dropped is not None
    assert (dropped.what, dropped.reason) == ("red dog", "length")
    assert dropped.detail == "11 frames with a box, fewer than 12"
    short = filters.length(trajectory(straight(7)), ClipFacts([0] * 7, SIZE_WH), rule)
    assert short is not None and short.detail == "7 frames with a box, fewer than 8"


def test_a_cut_counts_where_there_are_boxes_on_both_sides():
    facts = ClipFacts(FACTS.times_s, SIZE_WH, cuts=(10,))
    dropped = filters.shot_cut(trajectory(straight()), facts, ShotsRule())
    assert dropped is not None and (dropped.reason, dropped.detail) == ("shot-cut", "a new shot begins with frame 10")
    assert filters.shot_cut(trajectory(lost(straight(), *range(10, 24))), facts, ShotsRule()) is None
    assert filters.shot_cut(trajectory(lost(straight(), *range(10))), facts, ShotsRule()) is None


@pytest.mark.parametrize(
    ("side", "rule", "reason"),
    [
        (24.0, SizeRule(), None),
        (7.0, SizeRule(min_side_px=8), "too-small"),
        (8.0, SizeRule(min_side_px=8), None),
        (10.0, SizeRule(min_area_share=0.006), "too-small"),  # 100 of 20000 pixels
        (10.0, SizeRule(min_area_share=0.005), None),
        (100.0, SizeRule(max_area_share=0.49), "too-large"),
        (100.0, SizeRule(max_area_share=0.5), None),
    ],
)
def test_size_is_that_of_the_median_box(side: float, rule: SizeRule, reason: str | None):
    dropped = filters.size(trajectory(straight(side=side)), FACTS, rule)
    assert (dropped.reason if dropped else None) == reason


def test_confidence_is_the_followers_after_the_first_frame():
    scores = np.r_[np.nan, np.full(COUNT - 1, 0.9)]
    scores[5] = 0.5
    sure = trajectory(straight(), scores)
    assert filters.confidence(sure, FACTS, ConfidenceRule(min_score=0.8)) is None
    least = filters.confidence(sure, FACTS, ConfidenceRule(min_score=0.8, of="min"))
    assert least is not None and least.detail == "the min score is 0.500, not above 0.8"
    exactly = trajectory(straight(), np.r_[0.0, np.full(COUNT - 1, 0.75)])
    assert filters.confidence(exactly, FACTS, ConfidenceRule(min_score=0.75)) is not None  # above, not at
    for none in (None, np.full(COUNT, np.nan)):
        assert filters.confidence(trajectory(straight(), none), FACTS, ConfidenceRule()) is None


def test_overlap_is_asked_of_every_witness():
    boxes, rule = straight(), OverlapRule(min_iou=0.3)
    apart = boxes[12] + [12, 0, 12, 0]
    assert float(iou(apart, boxes[12])) == pytest.approx(1 / 3)
    good = trajectory(boxes, witnesses={12: apart, 23: boxes[23]})
    assert filters.overlap(good, FACTS, rule) is None
    far = boxes[23] + [13, 0, 13, 0]
    dropped = filters.overlap(trajectory(boxes, witnesses={12: boxes[12], 23: far}), FACTS, rule)
    assert dropped is not None and (dropped.reason, dropped.detail) == (
        "overlap",
        "IoU 0.30 in frame 23, less than 0.3",
    )
    rescued = trajectory(boxes, witnesses={23: far}, others={23: boxes[23:24]})
    assert filters.overlap(rescued, FACTS, rule) is None  # another candidate there is where the box is
    gone = filters.overlap(trajectory(lost(boxes, 23), witnesses={23: boxes[23]}), FACTS, rule)
    assert gone is not None and gone.detail.startswith("IoU 0.00")
    assert filters.overlap(trajectory(boxes), FACTS, rule) is None


def test_motion_is_off_unless_asked_for_and_counts_in_box_sizes():
    still = trajectory(straight(velocity=(0.0, 0.0)))
    assert filters.motion(still, FACTS, MotionRule()) is None
    assert filters.motion(still, FACTS, MotionRule(min_reach=0.1)).reason == "still"  # type: ignore[union-attr]
    moving = trajectory(straight(velocity=(0.0, 1.0)))  # 23 pixels, sides of 24
    assert filters.motion(moving, FACTS, MotionRule(min_reach=0.95)) is None
    assert filters.motion(moving, FACTS, MotionRule(min_reach=0.97)) is not None


def test_a_straight_path_has_no_jumps_and_a_leap_is_one():
    pytest.importorskip("filterpy", reason="filterpy is not installed")
    rng = np.random.default_rng(0)
    even = straight() + rng.normal(0, 0.7, (COUNT, 4))
    assert filters.drift(trajectory(even), FACTS, DriftRule()) is None
    leap = even.copy()
    leap[15:] += [40, 0, 40, 0]
    dropped = filters.drift(trajectory(leap), FACTS, DriftRule())
    assert dropped is not None and dropped.reason == "drift" and "the worst in frame 15" in dropped.detail
    assert filters.drift(trajectory(leap), FACTS, DriftRule(max_jumps=3)) is None
    grown = even.copy()
    grown[15:, 2:] += 60  # it now holds something else as well
    assert filters.drift(trajectory(grown), FACTS, DriftRule()) is not None


def test_innovations_of_matching_noise_are_chi_square():
    pytest.importorskip("filterpy", reason="filterpy is not installed")
    rng, rule, size = np.random.default_rng(1), DriftRule(), 50.0
    found = []
    for _ in range(40):
        middle = np.array([500.0, 500]) + np.arange(60)[:, None] * 3 + rng.normal(0, rule.measurement * size, (60, 2))
        half = size / 2 * np.exp(rng.normal(0, rule.measurement, (60, 2)))
        found.append(innovations(np.hstack([middle - half, middle + half]), np.arange(60) / 25, rule)[10:])
    # Even motion with the assumed noise: no more than the mean of chi-square with 4 degrees of freedom.
    assert 1.0 < np.mean(found) < 4.0
    assert (np.array(found) > rule.gate).mean() < 0.001


def test_frames_without_a_box_are_predicted_over():
    pytest.importorskip("filterpy", reason="filterpy is not installed")
    gap = lost(straight(), *range(8, 14))
    distances = innovations(gap, FACTS.times_s, DriftRule())
    assert np.isnan(distances[[0, *range(8, 14)]]).all()
    assert np.isfinite(distances[14:]).all() and distances[14] < 1
    assert np.isnan(innovations(np.full((3, 4), np.nan), [0, 1, 2], DriftRule())).all()


def test_the_same_motion_at_another_frame_rate_is_judged_alike():
    pytest.importorskip("filterpy", reason="filterpy is not installed")
    boxes = straight(96, velocity=(1.0, 0.0))
    slow = innovations(boxes[::4], np.arange(96)[::4] / 100, DriftRule())
    wrong = innovations(boxes[::4] + np.eye(24)[20][:, None] * [25, 0, 25, 0], np.arange(96)[::4] / 100, DriftRule())
    assert np.nanmax(slow) < 1 < DriftRule().gate < wrong[20]


def test_of_two_that_run_along_each_other_the_better_stays():
    boxes = straight()
    good, poor = np.full(COUNT, 0.9), np.full(COUNT, 0.8)
    twins = [trajectory(boxes, poor, text="animal"), trajectory(boxes + 1, good, text="dog")]
    first, second = duplicates(twins, DuplicateRule(min_iou=0.8))
    assert first is not None and (first.what, first.reason, first.detail) == ("animal", "duplicate", "runs along 'dog'")
    assert second is None
    by_grounder = [trajectory(boxes, text="a", score=0.7), trajectory(boxes, text="b", score=0.8)]
    assert [one is None for one in duplicates(by_grounder, DuplicateRule())] == [False, True]
    by_words = [trajectory(boxes, expression="a dog"), trajectory(boxes, expression="a dog in the snow")]
    assert [one is None for one in duplicates(by_words, DuplicateRule())] == [False, True]
    apart = [trajectory(boxes), trajectory(boxes + np.array([12, 0, 12, 0]))]
    assert duplicates(apart, DuplicateRule()) == [None, None]


def test_mean_iou_counts_frames_where_one_of_them_is_lost():
    boxes = straight()
    assert mean_iou(trajectory(boxes), trajectory(boxes)) == pytest.approx(1)
    assert mean_iou(trajectory(boxes), trajectory(lost(boxes, *range(12)))) == pytest.approx(0.5)
    nothing = trajectory(np.full((3, 4), np.nan))
    assert mean_iou(nothing, nothing) == 0


def test_a_drop_is_the_first_rules_and_all_that_fire_are_told():
    boxes = straight(side=4)
    bad = trajectory(boxes, np.full(COUNT, 0.1), witnesses={23: boxes[0]})
    fine = trajectory(straight())
    first, second = judge([bad, fine], FACTS, FilterSettings())
    assert first.dropped is not None and first.dropped.reason == "too-small"
    assert first.reasons == ("too-small", "confidence", "overlap") and not first.kept
    assert second.kept and second.reasons == ()


def test_duplicates_are_sought_among_those_that_are_left():
    boxes = straight()
    dropped_before = trajectory(boxes, np.full(COUNT, 0.1), text="best", score=0.99)
    verdicts = judge([dropped_before, trajectory(boxes, text="second", score=0.6)], FACTS, FilterSettings())
    assert [verdict.reasons for verdict in verdicts] == [("confidence",), ()]
    verdicts = judge([trajectory(boxes, score=0.7), trajectory(boxes, score=0.8)], FACTS, FilterSettings())
    assert [verdict.reasons for verdict in verdicts] == [("duplicate",), ()]


def test_rules_can_be_turned_off_one_by_one():
    boxes = straight(side=4)
    off = {name: {"enabled": False} for name in FilterSettings.model_fields}
    twins = [trajectory(boxes, np.zeros(COUNT), witnesses={23: boxes[0]})] * 2
    assert all(verdict.kept for verdict in judge(twins, FACTS, FilterSettings.model_validate(off)))
    assert judge([], FACTS, FilterSettings()) == []


def test_the_filters_need_neither_torch_nor_opencv_nor_spacy():
    code = (
        "import sys, elysium.building.filters, elysium.building.shots, elysium.building.grounding, "
        "elysium.building.following, elysium.building.plugins; "
        "print(sorted({'torch', 'transformers', 'cv2', 'spacy', 'filterpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def textured(seed: int, count: int, lightness: int) -> list[np.ndarray]:
    """A photo-like picture that moves by two pixels a frame."""
    rng = np.random.default_rng(seed)
    picture = np.kron(rng.integers(0, 120, (30, 60, 3)), np.ones((6, 6, 1))) + lightness
    return [picture[: SIZE_WH[1], 2 * k : 2 * k + SIZE_WH[0]].astype(np.uint8) for k in range(count)]


def test_histograms_are_shares_and_differ_by_0_to_1():
    dark, light = (np.full((90, 120, 3), value, dtype=np.uint8) for value in (0, 255))
    found = histogram(dark)
    assert found.shape == (4, 3, 16) and np.allclose(found.sum(axis=2), 1)
    assert difference(found, histogram(dark)) == 0 and difference(found, histogram(light)) == 1
    assert histogram(np.zeros((1, 1, 3), dtype=np.uint8)).shape == (4, 3, 16)


def test_a_cut_is_found_and_motion_is_none():
    frames = textured(0, 12, 0) + textured(1, 12, 120)
    assert find_cuts(differences(frames), ShotsRule()) == [12]
    assert find_cuts(differences(textured(0, 24, 0)), ShotsRule()) == []
    assert differences(frames[:1]).shape == (0,)


def test_a_flash_of_many_frames_is_no_cut():
    steps = np.full(20, 0.02)
    steps[8:14] = 0.4  # every frame differs: a flicker, or a whirl of the camera
    assert find_cuts(steps, ShotsRule()) == []
    steps[8:14] = 0.02
    steps[10] = 0.4
    assert find_cuts(steps, ShotsRule()) == [11]


def test_a_clip_with_a_cut_is_trimmed_to_its_longest_shot():
    clip = FakeClip(textured(0, 9, 0) + textured(1, 12, 120), first=100)
    prepared = prepare_clip(clip, FilterSettings())
    assert prepared.clip is not None and prepared.cuts == ()
    assert list(prepared.clip.indices) == list(range(109, 121)) and len(prepared.clip.times_s) == 12
    assert prepared.clip.resolution_wh == SIZE_WH
    (dropped,) = prepared.dropped
    assert (dropped.what, dropped.reason) == ("frames 100-108", "shot-cut")
    np.testing.assert_array_equal(prepared.clip.frame(0), clip.images[9])
    np.testing.assert_array_equal(list(prepared.clip.frames()), clip.images[9:])


def test_a_clip_with_a_cut_can_be_kept_whole_for_the_rule_to_judge():
    clip = FakeClip(textured(0, 9, 0) + textured(1, 12, 120))
    prepared = prepare_clip(clip, FilterSettings.model_validate({"shots": {"action": "drop"}}))
    assert prepared.clip is clip and prepared.cuts == (9,) and prepared.dropped == ()


def test_clips_that_are_too_short_are_set_aside():
    one = prepare_clip(blank_clip(1, first=5), FilterSettings())
    assert one.clip is None
    assert [(d.what, d.reason) for d in one.dropped] == [("frames 5-5", "one-frame")]
    short = blank_clip(7)
    assert [d.reason for d in prepare_clip(short, FilterSettings()).dropped] == ["too-short"]
    assert short.reads == 0  # nothing was decoded for that
    assert prepare_clip(blank_clip(8), FilterSettings()).clip is not None
    cut = prepare_clip(FakeClip(textured(0, 7, 0) + textured(1, 7, 120)), FilterSettings())
    assert cut.clip is None and [d.reason for d in cut.dropped] == ["shot-cut", "too-short"]


def test_without_the_rule_no_frame_is_read():
    clip = blank_clip(20)
    assert prepare_clip(clip, FilterSettings.model_validate({"shots": {"enabled": False}})).clip is clip
    assert clip.reads == 0


def test_a_part_of_a_part_of_a_clip():
    part = ClipPart(ClipPart(blank_clip(10, first=50), 2, 9), 1, 4)
    assert list(part.indices) == [53, 54, 55]
    assert [int(image[0, 0, 0]) for image in part.frames()] == [3, 4, 5]
    assert int(part.frame(2)[0, 0, 0]) == 5
