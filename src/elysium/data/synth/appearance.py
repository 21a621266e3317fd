"""How things and frames look: colours, light, noise, blur and what compression leaves.

Knows pixels and chance; knows nothing of which things are in a clip or where. Pictures are uint8 RGB(A).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.data.synth.render import Look, Wobble

Image = NDArray[np.uint8]


def recoloured(rng: np.random.Generator, rgba: Image) -> Image:
    """Jitter of hue, saturation and lightness; now and then a hue of its own."""
    style = rng.random()
    if style < 0.2:
        return rgba
    hsv = cv2.cvtColor(np.ascontiguousarray(rgba[..., :3]), cv2.COLOR_RGB2HSV).astype(np.int16)
    shift = int(rng.integers(0, 180)) if style > 0.92 else int(rng.normal(0, 3))
    hsv[..., 0] = (hsv[..., 0] + shift) % 180
    table = np.arange(256)
    saturation = (table * rng.uniform(0.7, 1.25)).clip(0, 255).astype(np.int16)
    value = (
        (255 * (table / 255) ** rng.uniform(0.8, 1.25) * rng.uniform(0.82, 1.1)).clip(0, 255).astype(np.int16)
    )
    hsv[..., 1], hsv[..., 2] = saturation[hsv[..., 1]], value[hsv[..., 2]]
    return np.dstack([cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB), rgba[..., 3]]).astype(np.uint8)


def photo_crop(rng: np.random.Generator, photo: Image, side: int, smallest: float, largest: float) -> Image:
    """A square of a photo, flipped and recoloured, (side, side, 3)."""
    h, w = photo.shape[:2]
    length = max(8, int(min(h, w) * rng.uniform(smallest, largest)))
    y, x = int(rng.integers(0, h - length + 1)), int(rng.integers(0, w - length + 1))
    crop = photo[y : y + length, x : x + length]
    method = cv2.INTER_AREA if length > side else cv2.INTER_LINEAR
    image = cv2.resize(crop, (side, side), interpolation=method)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    gamma, gain = rng.uniform(0.75, 1.3), rng.uniform(0.75, 1.1, 3) * rng.uniform(0.85, 1.1)
    table = 255 * (np.arange(256)[:, None] / 255) ** gamma * gain
    lut = table.clip(0, 255).astype(np.uint8)[None]
    return np.asarray(cv2.LUT(np.ascontiguousarray(image), lut), np.uint8)


def drifting_gains(rng: np.random.Generator, num_frames: int) -> NDArray[np.float32]:
    """Brightness of a thing over time, (T,): constant or slowly drifting."""
    drift = rng.normal(0, 0.015) * np.arange(num_frames) if rng.random() < 0.4 else np.zeros(num_frames)
    return np.asarray(np.exp(drift.clip(-0.25, 0.2)), np.float32)


def draw_wobble(rng: np.random.Generator) -> Wobble:
    """A slow wave of random strength."""
    return Wobble(*(float(v) for v in (rng.uniform(0.01, 0.05), rng.uniform(0.4, 1.6), rng.uniform(0, 6.3),
                                       rng.uniform(0.2, 1.2))))  # fmt: skip


def draw_look(
    rng: np.random.Generator, num_frames: int, blur_probability: float, noise_bank: NDArray[np.float32]
) -> Look:
    """Light, noise, blur and artefacts of a clip."""
    base = rng.uniform(0.8, 1.12) * rng.uniform(0.93, 1.06, 3)
    drift = rng.normal(0, 0.02) if rng.random() < 0.25 else 0.0
    gains = base * np.exp((drift * np.arange(num_frames)).clip(-0.4, 0.25))[:, None]
    return Look(
        gains.astype(np.float32),
        noise=float(rng.uniform(1, 9)) if rng.random() < 0.5 else 0.0,
        blur=float(rng.uniform(0.4, 1.1)) if rng.random() < 0.5 * blur_probability else 0.0,
        jpeg=int(rng.integers(25, 80)) if rng.random() < 0.15 else None,
        low_resolution=float(rng.uniform(0.4, 0.8)) if rng.random() < 0.12 else 1.0,
        camera_shutter=float(rng.uniform(0.2, 0.7)) if rng.random() < blur_probability else 0.0,
        noise_bank=noise_bank,
    )


def lit(rgba: Image, look: Look) -> Image:
    """A cut-out in the light of frame 0."""
    lit = (rgba[..., :3] * look.gains[0]).clip(0, 255).astype(np.uint8)
    return np.dstack([lit, rgba[..., 3]]).astype(np.uint8)
