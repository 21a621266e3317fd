"""Things drawn from nothing: coloured shapes, textures, irregular patches and backgrounds.

Knows arrays only; knows nothing of files or clips. Images are uint8 RGB(A).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "diamond", "rectangle", "oval",
          "pentagon", "crescent", "arrow")  # fmt: skip
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 30, 30), "orange": (245, 130, 20), "yellow": (245, 215, 30), "green": (40, 160, 55),
    "blue": (35, 75, 215), "purple": (130, 45, 170), "pink": (250, 130, 185), "brown": (115, 65, 25),
    "black": (20, 20, 20), "white": (245, 245, 245), "gray": (128, 128, 128),
}  # fmt: skip
PATTERNS = ("striped", "spotted", "checkered")


@dataclass(frozen=True)
class Shape:
    """A drawn shape: (h, w, 4) uint8 pixels and the words that are true of it."""

    rgba: Image
    noun: str
    colour: str
    second_colour: str | None
    pattern: str | None


def _star(points: int, inner: float) -> Floats:
    angles = np.arange(2 * points) * np.pi / points - np.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1).astype(np.float32)


def _polygon(noun: str) -> Floats | None:
    """Corners (n, 2) within -1..1, or None for a shape that is no polygon."""
    time = np.linspace(0, 2 * np.pi, 60)
    heart = np.stack([16 * np.sin(time) ** 3,
        -(13 * np.cos(time) - 5 * np.cos(2 * time) - 2 * np.cos(3 * time)
                      - np.cos(4 * time)) + 2], 1) / 17  # fmt: skip
    bar = 0.36
    table = {
        "square": [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
        "rectangle": [[-1, -0.5], [1, -0.5], [1, 0.5], [-1, 0.5]],
        "diamond": [[0, -1], [0.75, 0], [0, 1], [-0.75, 0]],
        "triangle": [[0, -0.95], [1, 0.85], [-1, 0.85]],
        "cross": [[-bar, -1], [bar, -1], [bar, -bar], [1, -bar], [1, bar], [bar, bar], [bar, 1], [-bar, 1],
        [-bar, bar],
                  [-1, bar], [-1, -bar], [-bar, -bar]],
        "arrow": [[-1, -0.3], [0.15, -0.3], [0.15, -0.8], [1, 0], [0.15, 0.8], [0.15, 0.3], [-1, 0.3]],
        "star": _star(5, 0.42), "heart": heart,
        "pentagon": [[np.sin(a), -np.cos(a)] for a in np.arange(5) * 2 * np.pi / 5],
    }  # fmt: skip
    return np.asarray(table[noun], np.float32) if noun in table else None


def shape_mask(noun: str, side: int) -> Image:
    """Mask (side, side) 0..255 of a shape of `SHAPES`, with soft edges."""
    large, middle, radius = 2 * side, side, side * 0.96
    mask = np.zeros((large, large), np.uint8)
    corners = _polygon(noun)
    if corners is not None:
        cv2.fillPoly(mask, [np.round(corners * radius + middle).astype(np.int32)], 255)
    elif noun == "oval":
        cv2.ellipse(mask, (middle, middle), (int(radius), int(radius * 0.6)), 0, 0, 360, 255, -1)
    else:
        cv2.circle(mask, (middle, middle), int(radius), 255, -1)
        if noun == "ring":
            cv2.circle(mask, (middle, middle), int(radius * 0.55), 0, -1)
        elif noun == "crescent":
            cv2.circle(mask, (int(middle + radius * 0.5), middle), int(radius * 0.8), 0, -1)
    return cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)


def value_noise(rng: np.random.Generator, side: int, cells: int = 4, octaves: int = 3) -> Floats:
    """Smooth noise (side, side) float32 in 0..1."""
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        n = min(cells * 2**octave + 1, side)
        grid = rng.random((n, n), dtype=np.float32) * 0.5**octave
        total += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def pattern_mask(rng: np.random.Generator, pattern: str, side: int) -> NDArray[np.bool_]:
    """Where the second colour of a pattern lies, (side, side); it covers about 30 to 45 %."""
    ys, xs = np.mgrid[:side, :side].astype(np.float32)
    period = side / rng.uniform(3, 6)
    if pattern == "striped":
        angle = rng.uniform(0, np.pi)
        along = xs * np.cos(angle) + ys * np.sin(angle)
        return np.asarray(np.mod(along, period) < 0.42 * period)
    u, v = np.mod(xs, period) / period, np.mod(ys, period) / period
    if pattern == "spotted":
        return np.asarray((u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.1)
    return np.asarray((u < 0.47) ^ (v < 0.47))


def draw_shape(rng: np.random.Generator, noun: str | None = None, side: int = 96) -> Shape:
    """A shape of a random colour (or of the given noun), shaded, textured,
    sometimes with a two-colour pattern."""
    noun = noun or str(rng.choice(SHAPES))
    names = list(COLOURS)
    colour = names[int(rng.integers(len(names)))]
    pixels = np.empty((side, side, 3), np.float32)
    pixels[:] = _near(rng, colour)
    pattern, second = None, None
    if rng.random() < 0.35:
        pattern = PATTERNS[int(rng.integers(3))]
        second = "white" if colour in ("black", "brown", "purple", "blue", "red", "green") else "black"
        pixels[pattern_mask(rng, pattern, side)] = _near(rng, second)
    style = rng.random()
    if style < 0.5:
        # Shading changes the lightness only by so much that the colour's name stays right.
        slope = np.linspace(0.86, 1.1, side, dtype=np.float32)
        pixels *= (slope[:, None] if rng.random() < 0.5 else slope[None, ::-1])[..., None]
    if style > 0.3:
        pixels *= (0.86 + 0.24 * value_noise(rng, side, int(rng.integers(3, 12)), 2))[..., None]
    rgba = np.dstack([pixels.clip(0, 255), shape_mask(noun, side)]).astype(np.uint8)
    return Shape(_cropped(rgba), noun, colour, second, pattern)


def _near(rng: np.random.Generator, colour: str) -> Floats:
    return np.asarray(np.array(COLOURS[colour]) * rng.uniform(0.92, 1.05) + rng.normal(0, 5, 3), np.float32)


def _cropped(rgba: Image) -> Image:
    solid = rgba[..., 3] > 127
    ys, xs = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    return rgba[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]


def blob_mask(rng: np.random.Generator, side: int) -> Image:
    """A random smooth outline, mask (side, side) 0..255."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radii: NDArray[np.float64] = np.ones(48)
    for wave in range(1, 6):
        radii += rng.normal(0, 0.28 / wave) * np.cos(wave * angles + rng.uniform(0, 6.3))
    radii = np.clip(radii, 0.25, None)
    corners = np.stack([np.cos(angles) * radii, np.sin(angles) * radii * rng.uniform(0.6, 1)], 1)
    turn = rng.uniform(0, 2 * np.pi)
    corners = corners @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    low, high = corners.min(0), corners.max(0)
    corners = (corners - low) / (high - low).max() * (side - 1)
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.round(corners * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return mask


def patch(rng: np.random.Generator, texture: Image, side: int = 96) -> Image:
    """An irregular piece (h, w, 4) of a (side, side, 3) texture."""
    kind = rng.random()
    if kind < 0.7:
        mask = blob_mask(rng, side)
    else:
        mask = np.zeros((side, side), np.uint8)
        half = rng.uniform(0.25, 0.5, 2) * side
        x, y = int(side / 2 - half[0]), int(side / 2 - half[1])
        mask[y : side - y, x : side - x] = 255
    return _cropped(np.dstack([texture, mask]).astype(np.uint8))


def texture(rng: np.random.Generator, side: int) -> Image:
    """A background (side, side, 3): clouds, gradient, stripes, tiles or clutter, in random colours."""
    first, second = rng.uniform(0, 255, (2, 3))
    kind = rng.random()
    if kind < 0.4:
        mix = value_noise(rng, side, int(rng.integers(2, 14)), 4)
    elif kind < 0.55:
        ys, xs = np.mgrid[:side, :side].astype(np.float32) / side
        angle = rng.uniform(0, 6.3)
        mix = 0.5 + 0.5 * (xs * np.cos(angle) + ys * np.sin(angle))
    elif kind < 0.75:
        mask = pattern_mask(rng, PATTERNS[int(rng.integers(3))], side)
        mix = 0.7 * mask.astype(np.float32) + 0.3 * value_noise(rng, side, 6, 3)
    else:
        return _clutter(rng, side)
    image = (
        first
        + (second - first) * np.asarray(mix)[..., None]
        + 18 * (value_noise(rng, side, 24, 2)[..., None] - 0.5)
    )
    return np.asarray(image.clip(0, 255), np.uint8)


def _clutter(rng: np.random.Generator, side: int) -> Image:
    """Overlapping dull polygons over clouds: structure that is nobody's object."""
    base = rng.uniform(60, 190, 3)
    image = np.asarray(
        (base + 50 * (value_noise(rng, side, 5, 4)[..., None] - 0.5)).clip(0, 255), np.uint8
    ).copy()
    for _ in range(int(rng.integers(10, 40))):
        middle = rng.uniform(0, side, 2)
        corners = middle + rng.normal(0, side * rng.uniform(0.02, 0.12), (int(rng.integers(3, 7)), 2))
        tone = base + rng.normal(0, 35, 3)
        cv2.fillPoly(
            image, [corners.astype(np.int32)], tuple(float(v) for v in tone.clip(0, 255)), cv2.LINE_AA
        )
    return image
