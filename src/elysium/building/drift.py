"""Where a trajectory does not go on as it went: a Kalman filter with constant velocity on its boxes.

Knows boxes and times as numbers (NumPy and filterpy). Does not know: pixels, phrases, what is done about a jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from elysium.boxes import FloatArray
from elysium.building.settings import DriftRule
from elysium.errors import ModelError

UNIT_S = 1 / 25  # the rule's constants are for steps of so many seconds
_FIRST_VELOCITY = 10.0  # standard deviation of the unknown first velocity, in units of the acceleration's


def import_filter() -> Any:
    """filterpy's class of filters; raises ModelError if it is not installed."""
    try:
        from filterpy.kalman import KalmanFilter
    except ImportError as error:
        raise ModelError(
            f"The drift rule needs filterpy, which cannot be imported ({error})",
            'pip install "elysium-video[build]", or set filters.drift.enabled to false.',
        ) from error
    return KalmanFilter


def innovations(boxes_xyxy: FloatArray, times_s: Sequence[float], rule: DriftRule) -> FloatArray:
    """How little each box follows from those before: squared Mahalanobis distances of the filter's innovations.

    The state is the middle (cx, cy) in pixels, the logarithms of the sides, and their velocities. Where a box follows
    from a constant velocity but for noise, its distance is distributed as chi-square with 4 degrees of freedom (1 in
    1000 is above 18.47). Standard deviations of the middle are shares of the box's size, the square root of its area,
    and at least a pixel, since boxes are often whole pixels; R. E. Kalman 1960, with the white-noise acceleration of
    Bar-Shalom et al. 2001, 6.3.2.

    Args:
        boxes_xyxy: (T, 4) pixels, NaN where there is none: there the filter predicts on.
        times_s: (T,) seconds, rising.

    Returns:
        (T,), NaN where there is no box and at the first one.

    Raises ModelError if filterpy is not installed.
    """
    distances = np.full(len(boxes_xyxy), np.nan)
    kalman: Any = None
    before_s = 0.0
    for number, (box, time_s) in enumerate(zip(boxes_xyxy, times_s, strict=True)):
        if np.isnan(box).any():
            continue
        measured, noise = _measured(box, rule)
        if kalman is None:
            kalman = _start(measured, noise, box, rule)
        else:
            _predict(kalman, max((time_s - before_s) / UNIT_S, 1e-3), _size(box), rule)
            kalman.update(measured, R=noise)
            distances[number] = float((kalman.y.T @ kalman.SI @ kalman.y).item())
        before_s = time_s
    return distances


def _size(box: FloatArray) -> float:
    """Square root of the area, at least a pixel."""
    return float(np.sqrt(max(box[2] - box[0], 1.0) * max(box[3] - box[1], 1.0)))


def _measured(box: FloatArray, rule: DriftRule) -> tuple[FloatArray, FloatArray]:
    """(4, 1) what the filter sees of a box, and (4, 4) how sure that is."""
    width, height = max(box[2] - box[0], 1.0), max(box[3] - box[1], 1.0)
    seen = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, np.log(width), np.log(height)])
    middle = max(rule.measurement * _size(box), 1.0)
    sides = np.maximum(rule.measurement, 1 / np.array([width, height]))
    return seen[:, None], np.diag(np.array([middle, middle, *sides]) ** 2)


def _start(measured: FloatArray, noise: FloatArray, box: FloatArray, rule: DriftRule) -> Any:
    """A filter at the first box, whose velocity is unknown. State: 4 values, then their 4 velocities."""
    kalman = import_filter()(dim_x=8, dim_z=4)
    kalman.H = np.eye(4, 8)
    kalman.x = np.vstack([measured, np.zeros((4, 1))])
    speed = _FIRST_VELOCITY * np.array([rule.acceleration * _size(box)] * 2 + [rule.growth] * 2)
    kalman.P = np.diag(np.r_[np.diag(noise), speed**2])
    return kalman


def _predict(kalman: Any, steps: float, size: float, rule: DriftRule) -> None:
    """On by `steps` units of time. White noise on the acceleration: [[s^4/4, s^3/2], [s^3/2, s^2]] times variance."""
    kalman.F = np.eye(8)
    kalman.F[:4, 4:] = np.eye(4) * steps
    variance = np.diag(np.array([rule.acceleration * size] * 2 + [rule.growth] * 2) ** 2)
    kalman.Q = np.kron([[steps**4 / 4, steps**3 / 2], [steps**3 / 2, steps**2]], variance)
    kalman.predict()
