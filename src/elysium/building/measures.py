"""Figures of trajectories for histograms: length, size, motion, scores. Knows boxes; no video, no rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elysium.boxes import box_area
from elysium.building.stages import Trajectory

BINS = 16


@dataclass(frozen=True)
class Measure:
    """A figure of a trajectory: its name, its unit, and the range of its histogram: what lies outside counts for the
    first or last bin; without a ``high``, it ends with the highest value."""

    name: str
    unit: str
    low: float
    high: float | None


MEASURES = (
    Measure("length", "frames with a box", 0, None),
    Measure("size", "side of the median box, % of the frame's", 0, 100),
    Measure("motion", "farthest from the start, in box sizes", 0, 4),
    Measure("grounding score", "of the first frame", 0, 1),
    Measure("following score", "mean after the first frame", 0, 1),
)


def measured(trajectory: Trajectory, resolution_wh: tuple[int, int]) -> list[float]:
    """One number for each of `MEASURES`; NaN where there is none."""
    boxes = trajectory.boxes_xyxy
    there = np.isfinite(boxes).all(axis=1)
    shown = boxes[there]
    scores = None if trajectory.scores is None else trajectory.scores[1:]
    area = float(np.median(box_area(shown))) if len(shown) else np.nan
    centers = (shown[:, :2] + shown[:, 2:]) / 2
    reach = float(np.linalg.norm(centers - centers[:1], axis=1).max()) if len(shown) else np.nan
    side = np.sqrt(box_area(shown[:1]))[0] if len(shown) else np.nan
    return [
        float(there.sum()), 100 * float(np.sqrt(area / (resolution_wh[0] * resolution_wh[1]))),
        float(reach / side) if side > 0 else np.nan, trajectory.grounded.score,
        float(np.nanmean(scores)) if scores is not None and np.isfinite(scores).any() else np.nan,
    ]  # fmt: skip


def histogram(values: Sequence[float], measure: Measure, high: float) -> list[int]:
    """How many of ``values`` lie in each of `BINS` equal parts of the range; NaN counts nowhere."""
    known = np.array([value for value in values if np.isfinite(value)])
    counts, _ = np.histogram(np.clip(known, measure.low, high), BINS, (measure.low, high))
    return [int(count) for count in counts]
