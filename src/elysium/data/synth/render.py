"""Composition: sprites through matrices onto a background, with exact alpha extents.

Knows pixels and matrices; knows nothing of assets, paths or words. Matrices (2, 3) map edge coordinates of
a sprite
(0..w, 0..h) to edge coordinates of the frame (0..size, 0..size): the middle of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]

SOLID = 0.5
NO_OWNER = 0


@dataclass(frozen=True)
class Sprite:
    """A picture with alpha, ready to be drawn: `levels[k]` (h, w, 4) float32, halved k times, colours
    premultiplied (0..255), alpha 0..1. `size_wh`: of level 0. `footprint`: solid pixels of level 0."""

    levels: tuple[Floats, ...]
    size_wh: tuple[int, int]
    footprint: float


def make_sprite(rgba: Image, feather: float = 0.0) -> Sprite:
    """Prepare (h, w, 4) uint8 pixels; `feather`: sigma in pixels of a softening of the edge."""
    alpha = rgba[..., 3].astype(np.float32) / 255
    if feather > 0:
        alpha = np.minimum(alpha, cv2.GaussianBlur(alpha, (0, 0), feather))
    picture = np.empty((*alpha.shape, 4), np.float32)
    np.multiply(rgba[..., :3], alpha[..., None], out=picture[..., :3])
    picture[..., 3] = alpha
    levels = [picture]
    while min(levels[-1].shape[:2]) >= 16:
        h, w = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], ((w + 1) // 2, (h + 1) // 2), interpolation=cv2.INTER_AREA))
    return Sprite(tuple(levels), (rgba.shape[1], rgba.shape[0]), float((alpha >= SOLID).sum()))


@dataclass
class Wobble:
    """A slow wave through a sprite, so that not everything is rigid. `amount` is a share of its side."""

    amount: float
    waves: float
    phase: float
    pace: float

    def apply(self, picture: Floats, time: int) -> Floats:
        h, w = picture.shape[:2]
        ys, xs = np.arange(h, dtype=np.float32), np.arange(w, dtype=np.float32)
        turn = self.phase + self.pace * time
        dx = self.amount * w * np.sin(turn + 6.28 * self.waves * ys / h)
        dy = self.amount * h * np.sin(1.7 + turn + 6.28 * self.waves * xs / w)
        map_x = np.add(xs[None, :], dx[:, None], dtype=np.float32)
        map_y = np.add(ys[:, None], dy[None, :], dtype=np.float32)
        return np.asarray(
            cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.float32
        )


@dataclass
class Layer:
    """A sprite over time. `matrices` (T, 2,
    3); `gains` (T,) brightness; `shutter` 0..1 share of a frame exposed."""

    sprite: Sprite
    matrices: Matrix
    gains: Floats
    shutter: float = 0.0
    shadow: tuple[float, float, float] | None = None  # dx, dy as shares of the frame, darkness
    wobble: Wobble | None = None


@dataclass(frozen=True)
class Patch:
    """A warped piece within the frame: `picture` (h, w, 4) premultiplied, at `x`, `y`."""

    x: int
    y: int
    picture: Floats

    @property
    def solid(self) -> NDArray[np.bool_]:
        return np.asarray(self.picture[..., 3] >= SOLID)


def level_matrix(sprite: Sprite, level: int, matrix: Matrix) -> Matrix:
    """OpenCV's matrix (pixel middles at whole numbers) for a level of a sprite."""
    h, w = sprite.levels[level].shape[:2]
    ratio = np.array([sprite.size_wh[0] / w, sprite.size_wh[1] / h])
    linear = matrix[:, :2] * ratio
    return np.concatenate([linear, (linear @ [0.5, 0.5] + matrix[:, 2] - 0.5)[:, None]], 1)


def warp(layer: Layer, time: int, size: int, margin: int = 0) -> Patch | None:
    """The layer's piece within the frame of (size, size) pixels,
    widened by `margin`; None when it is outside."""
    sprite, matrix = layer.sprite, layer.matrices[time]
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    level = int(np.clip(np.floor(np.log2(1 / max(scale, 1e-6)) + 0.2), 0, len(sprite.levels) - 1))
    w, h = sprite.size_wh
    corners = np.array([[0, 0], [w, 0], [0, h], [w, h]]) @ matrix[:, :2].T + matrix[:, 2]
    x0, y0 = np.maximum(np.floor(corners.min(0) - 1 - margin), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(corners.max(0) + 1 + margin), size).astype(int)
    if x1 <= x0 or y1 <= y0:
        return None
    transform = level_matrix(sprite, level, matrix)
    transform[:, 2] -= [x0, y0]
    picture = sprite.levels[level]
    if layer.wobble is not None:
        picture = layer.wobble.apply(picture, time)
    warped = cv2.warpAffine(picture, transform, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR,
                            borderMode=cv2.BORDER_CONSTANT)  # fmt: skip
    return Patch(int(x0), int(y0), np.asarray(warped, np.float32))


def solid_box(piece: Patch | None) -> tuple[int, int, int, int] | None:
    """Pixel box (x1, y1, x2, y2), ends exclusive, of the solid pixels, or None."""
    if piece is None:
        return None
    solid = piece.solid
    xs, ys = np.flatnonzero(solid.any(0)), np.flatnonzero(solid.any(1))
    if not len(xs):
        return None
    return (piece.x + int(xs[0]), piece.y + int(ys[0]), piece.x + int(xs[-1]) + 1, piece.y + int(ys[-1]) + 1)


@dataclass
class Composed:
    """What a composition gives: `frames` (T, H, W, 3) uint8; per layer and frame the pixel box of the
    solid part in
    the frame (L, T, 4), NaN where there is none; `seen` (L, T) share of the solid pixels in the frame and
    uncovered."""

    frames: Image
    boxes: NDArray[np.float32]
    seen: NDArray[np.float32]


@dataclass
class Look:
    """How the frames are taken: gains per frame and channel (T, 3), noise, blur, artefacts."""

    gains: Floats
    noise: float = 0.0
    blur: float = 0.0
    jpeg: int | None = None
    low_resolution: float = 1.0
    camera_shutter: float = 0.0
    noise_bank: Floats | None = field(default=None, repr=False)


def compose(background: Image, camera: Matrix, layers: list[Layer], look: Look, size: int,
            rng: np.random.Generator) -> Composed:  # fmt: skip
    """Draw all layers, first to last, over a background.

    Args:
        background: (B, B, 3) with B >= size; its middle (size, size) is what frame 0 shows.
        camera: (T, 2, 3) in pixels, from frame 0's coordinates to each frame's.
        layers: their matrices include the camera already.
    """
    num_frames, count = len(camera), len(layers)
    frames = np.empty((num_frames, size, size, 3), np.uint8)
    boxes = np.full((count, num_frames, 4), np.nan, np.float32)
    seen = np.zeros((count, num_frames), np.float32)
    for time in range(num_frames):
        canvas = backdrop(background, camera[time], size).astype(np.float32)
        owner = np.zeros((size, size), np.uint8)
        for number, layer in enumerate(layers):
            box = _draw(canvas, owner, layer, time, size, number + 1)
            if box is not None:
                boxes[number, time] = box
        seen[:, time] = visible_shares(owner, layers, time)
        frames[time] = _take(canvas, look, camera, time, rng)
    return Composed(frames, boxes, seen)


def visible_shares(owner: Image, layers: list[Layer], time: int) -> NDArray[np.float32]:
    """For each layer the share (0..1) of its solid pixels that `owner` (H,
    W) of layer numbers (from 1) shows."""
    counts = np.bincount(owner.ravel(), minlength=len(layers) + 1)[1:]
    areas = [abs(np.linalg.det(layer.matrices[time][:, :2])) * layer.sprite.footprint for layer in layers]
    return np.minimum(counts / np.maximum(areas, 1.0), 1.0).astype(np.float32)


def owners(layers: list[Layer], time: int, size: int) -> Image:
    """Which layer (from 1) each pixel of a frame shows, without drawing; 0 is background."""
    owner = np.zeros((size, size), np.uint8)
    for number, layer in enumerate(layers):
        piece = warp(layer, time, size)
        if piece is not None:
            h, w = piece.picture.shape[:2]
            owner[piece.y : piece.y + h, piece.x : piece.x + w][piece.solid] = number + 1
    return owner


def backdrop(background: Image, camera: Matrix, size: int) -> Image:
    """The background as the camera sees it, (size, size, 3)."""
    offset = (background.shape[0] - size) / 2
    matrix = camera.copy()
    matrix[:, 2] += camera[:, :2] @ [0.5 - offset, 0.5 - offset] - 0.5
    warped = cv2.warpAffine(
        background, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(warped, np.uint8)


def _draw(canvas: Floats, owner: Image, layer: Layer, time: int, size: int, number: int) -> (
        tuple[int, int, int, int] | None):  # fmt: skip
    """Draw one layer of one frame; gives its box. Blur changes the picture, never the box."""
    step = _velocity(layer, time) * layer.shutter
    length = float(np.hypot(*step))
    piece = warp(layer, time, size, margin=min(int(np.ceil(length / 2)), 12) if length >= 2 else 0)
    if piece is None:
        return None
    box = solid_box(piece)
    picture = piece.picture
    h, w = picture.shape[:2]
    owner[piece.y : piece.y + h, piece.x : piece.x + w][piece.solid] = number
    if layer.shadow is not None:
        _shade(canvas, picture[..., 3], piece, layer.shadow, size)
    if length >= 2:
        blurred = cv2.filter2D(picture, -1, line_kernel(step), borderType=cv2.BORDER_CONSTANT)
        picture = np.asarray(blurred, np.float32)
    target = canvas[piece.y : piece.y + h, piece.x : piece.x + w]
    target *= 1 - picture[..., 3:]
    gain = float(layer.gains[time])
    target += picture[..., :3] * gain if gain != 1 else picture[..., :3]
    return box


def _velocity(layer: Layer, time: int) -> NDArray[np.float64]:
    """Displacement of the sprite's middle around a frame, in pixels per frame."""
    middle = np.array([*(0.5 * np.array(layer.sprite.size_wh)), 1.0])
    last = len(layer.matrices) - 1
    first, second = (time - 1, time) if time > 0 else (0, min(1, last))
    return np.asarray((layer.matrices[second] - layer.matrices[first]) @ middle)


def line_kernel(step: NDArray[np.float64], longest: int = 21) -> Floats:
    """A blur kernel along a displacement in pixels, odd side, sum 1."""
    length = min(float(np.hypot(*step)), float(longest))
    side = int(np.ceil(length)) // 2 * 2 + 1
    kernel = np.zeros((side, side), np.float32)
    middle = side // 2
    reach = step / max(float(np.hypot(*step)), 1e-6) * length / 2
    begin, end = np.round((middle - reach) * 16).astype(int), np.round((middle + reach) * 16).astype(int)
    cv2.line(kernel, begin.tolist(), end.tolist(), 1.0, 1, cv2.LINE_8, shift=4)
    return kernel / max(float(kernel.sum()), 1e-6)


def _shade(
    canvas: Floats, alpha: Floats, piece: Patch, shadow: tuple[float, float, float], size: int
) -> None:
    """Darken where the shadow of an alpha falls."""
    x, y = piece.x + round(shadow[0] * size), piece.y + round(shadow[1] * size)
    soft = cv2.blur(alpha, (5, 5))
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + alpha.shape[1], size), min(y + alpha.shape[0], size)
    if right > left and bottom > top:
        canvas[top:bottom, left:right] *= (
            1 - shadow[2] * soft[top - y : bottom - y, left - x : right - x, None]
        )


def _take(canvas: Floats, look: Look, camera: Matrix, time: int, rng: np.random.Generator) -> Image:
    """From the ideal picture to what a camera stores."""
    size = canvas.shape[0]
    if look.low_resolution < 1:
        small = max(16, round(size * look.low_resolution))
        reduced = cv2.resize(canvas, (small, small), interpolation=cv2.INTER_AREA)
        canvas = np.asarray(cv2.resize(reduced, (size, size)), np.float32)
    if look.blur > 0:
        canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), look.blur), np.float32)
    if look.camera_shutter > 0 and time > 0:
        step = (camera[time] - camera[time - 1]) @ [size / 2, size / 2, 1.0] * look.camera_shutter
        if np.hypot(*step) >= 2:
            canvas = np.asarray(cv2.filter2D(canvas, -1, line_kernel(step, 13)), np.float32)
    canvas *= look.gains[time]
    if look.noise > 0 and look.noise_bank is not None:
        y, x = rng.integers(0, look.noise_bank.shape[0] - size + 1, 2)
        canvas += look.noise * look.noise_bank[y : y + size, x : x + size]
    image = cv2.convertScaleAbs(np.maximum(canvas, 0, out=canvas))
    if look.jpeg is not None:
        done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, look.jpeg])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
        image = image if decoded is None else decoded
    return np.asarray(image, np.uint8)
