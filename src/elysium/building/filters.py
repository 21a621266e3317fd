"""Which trajectories are kept: one small function a rule, each with a reason code, and all of them in order.

Knows trajectories as numbers (NumPy only; the drift rule's Kalman filter comes from filterpy). Does not know: pixels,
models, files. Every rule takes a trajectory, what is known of its clip, and its settings; it gives None or what to
report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.boxes import FloatArray, box_area, iou
from elysium.building.drift import innovations
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
from elysium.building.stages import Dropped, Trajectory


@dataclass(frozen=True)
class ClipFacts:
    """What rules may know of a clip of T frames: its times (T,) in seconds, its size in pixels, and the numbers of the
    frames with which a new shot begins (`shots.find_cuts`)."""

    times_s: Sequence[float]
    resolution_wh: tuple[int, int]
    cuts: Sequence[int] = ()


@dataclass(frozen=True)
class Verdict:
    """What became of a trajectory: `dropped` by the first rule that fires, None if it is kept; and `reasons`, the codes
    of all rules that fire, so that one can count what each rule buys."""

    trajectory: Trajectory
    dropped: Dropped | None
    reasons: tuple[str, ...]

    @property
    def kept(self) -> bool:
        return self.dropped is None


def length(trajectory: Trajectory, facts: ClipFacts, rule: LengthRule) -> Dropped | None:
    """`length`: too few frames with a box."""
    count = int(_there(trajectory).sum())
    least = max(rule.min_frames, int(np.ceil(rule.min_share * len(trajectory.boxes_xyxy) - 1e-9)))
    return _drop(trajectory, "length", f"{count} frames with a box, fewer than {least}") if count < least else None


def shot_cut(trajectory: Trajectory, facts: ClipFacts, rule: ShotsRule) -> Dropped | None:
    """`shot-cut`: the trajectory has boxes on both sides of a cut."""
    frames = np.flatnonzero(_there(trajectory))
    crossed = [cut for cut in facts.cuts if len(frames) and frames[0] < cut <= frames[-1]]
    return _drop(trajectory, "shot-cut", f"a new shot begins with frame {crossed[0]}") if crossed else None


def size(trajectory: Trajectory, facts: ClipFacts, rule: SizeRule) -> Dropped | None:
    """`too-small` or `too-large`: the median over the frames of the shorter side, or of the share of the frame."""
    boxes = trajectory.boxes_xyxy[_there(trajectory)]
    if not len(boxes):
        return None
    side = float(np.median(np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])))
    share = float(np.median(box_area(boxes)) / np.prod(facts.resolution_wh))
    if side < rule.min_side_px:
        return _drop(trajectory, "too-small", f"a side of {side:.1f} px, less than {rule.min_side_px:g}")
    if share < rule.min_area_share:
        return _drop(trajectory, "too-small", f"{share:.5f} of the frame, less than {rule.min_area_share:g}")
    if share > rule.max_area_share:
        return _drop(trajectory, "too-large", f"{share:.3f} of the frame, more than {rule.max_area_share:g}")
    return None


def confidence(trajectory: Trajectory, facts: ClipFacts, rule: ConfidenceRule) -> Dropped | None:
    """`confidence`: the follower is not sure enough. One without scores after the first frame passes."""
    score = mean_score(trajectory) if rule.of == "mean" else _finite(trajectory, np.min)
    if score is None or score > rule.min_score:
        return None
    return _drop(trajectory, "confidence", f"the {rule.of} score is {score:.3f}, not above {rule.min_score:g}")


def drift(trajectory: Trajectory, facts: ClipFacts, rule: DriftRule) -> Dropped | None:
    """`drift`: boxes that do not go on from those before, by `drift.innovations`."""
    distances = innovations(trajectory.boxes_xyxy, facts.times_s, rule)
    jumps = np.flatnonzero(np.nan_to_num(distances) > rule.gate)
    if len(jumps) <= rule.max_jumps:
        return None
    worst = int(np.nanargmax(distances))
    return _drop(trajectory, "drift", f"{len(jumps)} jumps, the worst in frame {worst} ({distances[worst]:.0f})")


def overlap(trajectory: Trajectory, facts: ClipFacts, rule: OverlapRule) -> Dropped | None:
    """`overlap`: in the middle or the last frame the box is not where the grounder says (best of its candidates)."""
    for number, witness in sorted(trajectory.grounded.witnesses.items()):
        others = trajectory.grounded.others.get(number, np.empty((0, 4)))
        found = float(iou(np.vstack([witness, others]), trajectory.boxes_xyxy[number]).max())
        if found < rule.min_iou:
            return _drop(trajectory, "overlap", f"IoU {found:.2f} in frame {number}, less than {rule.min_iou:g}")
    return None


def motion(trajectory: Trajectory, facts: ClipFacts, rule: MotionRule) -> Dropped | None:
    """`still`: the middle never gets `min_reach` box sizes away from where it was first."""
    boxes = trajectory.boxes_xyxy[_there(trajectory)]
    if not len(boxes) or not rule.min_reach:
        return None
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    reach = float(np.linalg.norm(middles - middles[0], axis=1).max() / max(np.sqrt(np.median(box_area(boxes))), 1.0))
    return _drop(trajectory, "still", f"moves {reach:.2f} box sizes at most") if reach < rule.min_reach else None


def duplicates(trajectories: Sequence[Trajectory], rule: DuplicateRule) -> list[Dropped | None]:
    """`duplicate`, for each trajectory: it runs along a better one. Better: a higher mean score of the follower, then a
    higher one of the grounder, then the longer expression, then the one that comes first."""
    ranking = sorted(range(len(trajectories)), key=lambda number: _quality(trajectories[number]), reverse=True)
    results: list[Dropped | None] = [None] * len(trajectories)
    kept: list[Trajectory] = []
    for number in ranking:
        one = trajectories[number]
        twin = next((other for other in kept if mean_iou(one, other) >= rule.min_iou), None)
        if twin is None:
            kept.append(one)
        else:
            results[number] = _drop(one, "duplicate", f"runs along {twin.grounded.phrase.text!r}")
    return results


def mean_iou(a: Trajectory, b: Trajectory) -> float:
    """Over the frames where either has a box; one without the other counts as 0."""
    either = _there(a) | _there(b)
    return float(iou(a.boxes_xyxy[either], b.boxes_xyxy[either]).mean()) if either.any() else 0.0


def mean_score(trajectory: Trajectory) -> float | None:
    """Of the follower, after the first frame; None where it has none."""
    return _finite(trajectory, np.mean)


# In the order in which they are asked; `duplicate` comes after them, among those that are left.
RULES: tuple[tuple[str, Callable[[Trajectory, ClipFacts, Any], Dropped | None]], ...] = (
    ("length", length),
    ("shots", shot_cut),
    ("size", size),
    ("confidence", confidence),
    ("drift", drift),
    ("overlap", overlap),
    ("motion", motion),
)


def judge(trajectories: Sequence[Trajectory], facts: ClipFacts, settings: FilterSettings) -> list[Verdict]:
    """What becomes of all trajectories of a clip, in their order. Rules that are not enabled say nothing."""
    verdicts = []
    for trajectory in trajectories:
        said = [
            rule(trajectory, facts, getattr(settings, name)) for name, rule in RULES if getattr(settings, name).enabled
        ]
        fired = [one for one in said if one is not None]
        verdicts.append(Verdict(trajectory, fired[0] if fired else None, tuple(one.reason for one in fired)))
    if not settings.duplicate.enabled:
        return verdicts
    left = [number for number, verdict in enumerate(verdicts) if verdict.kept]
    twins = duplicates([trajectories[number] for number in left], settings.duplicate)
    for number, twin in zip(left, twins, strict=True):
        if twin is not None:
            verdicts[number] = Verdict(trajectories[number], twin, (twin.reason,))
    return verdicts


def _there(trajectory: Trajectory) -> NDArray[np.bool_]:
    """(T,) where there is a box."""
    return np.asarray(np.isfinite(trajectory.boxes_xyxy).all(axis=1))


def _finite(trajectory: Trajectory, function: Callable[[FloatArray], Any]) -> float | None:
    """A function of the follower's scores after the first frame, or None where there are none."""
    scores = np.empty(0) if trajectory.scores is None else trajectory.scores[1:]
    scores = scores[np.isfinite(scores)]
    return float(function(scores)) if len(scores) else None


def _quality(trajectory: Trajectory) -> tuple[float, float, int]:
    score = mean_score(trajectory)
    words = len(trajectory.grounded.phrase.expression.split())
    return (1.0 if score is None else score, trajectory.grounded.score, words)


def _drop(trajectory: Trajectory, reason: str, detail: str) -> Dropped:
    return Dropped(trajectory.grounded.phrase.text, reason, detail)
