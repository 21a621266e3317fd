"""Boxes made by a rule, whose scores by other people's toolkits are recorded in the parity tests.

Recorded with the PyPI package got10k 0.1.3 (NumPy 2.2.6, Python 3.11) by calling its own `ExperimentOTB._calc_metrics`,
`_calc_curves`, `ExperimentGOT10k._evaluate` and `utils.metrics.rect_iou` on these boxes in the order of their `report`.
"""

from __future__ import annotations

import numpy as np

SHIFTS = (0.5, 1.0, 2.0)
RESOLUTION_WH = (150, 70)
COVER = np.where(np.arange(40) % 9 == 4, 0, 8)


def xywh(shift: float) -> tuple[np.ndarray, np.ndarray]:
    """(40, 4) predictions and truth; the larger the shift the worse."""
    k = np.arange(40)
    truth = np.stack([50 + 3 * k, 40 + 2 * k % 37, 30 + k % 11, 24 + k % 7], 1).astype(float)
    offset = [(k * 7 % 23 - 11) * shift, (k * 5 % 17 - 8) * shift, k % 5 - 2, k % 3 - 1]
    return truth + np.stack(offset, 1), truth


def xyxy(shift: float) -> tuple[np.ndarray, np.ndarray]:
    """The same as corners."""
    pred, truth = xywh(shift)
    return tuple(np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in (pred, truth))
