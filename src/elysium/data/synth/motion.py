"""How things and the camera move. Units: one frame side = 1, one frame = 1, angles in radians.

Knows paths only: nothing of pixels, sprites or words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MAX_ROTATION = np.deg2rad(8.0)
MAX_SCALE_STEP = 0.06
USUAL_SPEED = 0.35
FAST_SPEED = 0.9


@dataclass
class Trajectory:
    """Where a thing is: `centres` (T, 2) x and y, `scales` (T,) relative to frame 0, `angles` (T,)
    relative to frame 0, `stretch` (T,) factor on the width (and its inverse on the height, half each)."""

    centres: Floats
    scales: Floats
    angles: Floats
    stretch: Floats


def _wander(rng: np.random.Generator, steps: int, sigma: float, keep: float = 0.75) -> Floats:
    """Smooth noise (steps,): a low-passed random walk's increments."""
    noise = rng.normal(0, sigma, steps)
    value, out = 0.0, np.empty(steps)
    for k in range(steps):
        value = keep * value + noise[k]
        out[k] = value
    return out


def _speed(rng: np.random.Generator, size: float, motion: float) -> float:
    """Length of the displacement per frame: still, usual (up to 0.35 of the size), or fast."""
    kind = rng.random()
    if kind < 0.12:
        return 0.0
    top = FAST_SPEED if kind > 0.92 else USUAL_SPEED
    speed = top * rng.random() ** 1.3 * motion * size
    return float(min(speed, 0.3))


def object_trajectory(
    rng: np.random.Generator,
    num_frames: int,
    start: tuple[float, float],
    size: float,
    motion: float,
    leaves: bool,
) -> Trajectory:
    """A path from `start`; `size` is the side of the thing. One that does not leave turns at the border."""
    steps = max(num_frames - 1, 0)
    heading, speed = rng.uniform(0, 2 * np.pi), _speed(rng, size, motion)
    velocity = speed * np.array([np.cos(heading), 0.75 * np.sin(heading)])
    push = speed * rng.uniform(0, 0.35)
    accelerations = np.stack([_wander(rng, steps, push), _wander(rng, steps, 0.75 * push)], 1)
    centres: NDArray[np.float64] = np.empty((num_frames, 2))
    centres[0] = start
    for k in range(steps):
        velocity = velocity + accelerations[k]
        if not leaves:
            ahead = centres[k] + velocity
            outside = ((ahead < 0.04) & (velocity < 0)) | ((ahead > 0.96) & (velocity > 0))
            velocity = np.where(outside, -velocity, velocity)
        centres[k + 1] = centres[k] + velocity
    if leaves:
        centres = _leave(rng, centres, size)
    angle_rate = 0.0 if rng.random() < 0.45 else rng.normal(0, np.deg2rad(3.0)) * min(motion, 1.5)
    turns = np.clip(angle_rate + _wander(rng, steps, np.deg2rad(0.8) * motion), -MAX_ROTATION, MAX_ROTATION)
    growth = rng.normal(0, 0.02) * motion + _wander(rng, steps, 0.006 * motion)
    growth = np.clip(growth, -MAX_SCALE_STEP, MAX_SCALE_STEP)
    scales = np.exp(np.clip(np.concatenate([[0], np.cumsum(growth)]), np.log(0.45), np.log(1.9)))
    return Trajectory(
        centres, scales, np.concatenate([[0], np.cumsum(turns)]), _stretch(rng, num_frames, motion)
    )


def _stretch(rng: np.random.Generator, num_frames: int, motion: float) -> Floats:
    """Slow change of the aspect, as when a thing turns away from the camera."""
    if rng.random() < 0.5:
        return np.ones(num_frames)
    amount, phase, pace = (
        rng.uniform(0.02, 0.22) * min(motion, 1.5),
        rng.uniform(0, 6.3),
        rng.uniform(0.2, 1.0),
    )
    wave = np.sin(phase + pace * np.arange(num_frames))
    return np.asarray(np.exp(amount * (wave - wave[0])))


def _leave(rng: np.random.Generator, centres: Floats, size: float) -> Floats:
    """Add a drive over the border, with or without a way back."""
    num_frames = len(centres)
    start = centres[0]
    exits = np.array([[-start[0], 0], [1 - start[0], 0], [0, -start[1]], [0, 1 - start[1]]])
    lengths = np.abs(exits).sum(1)
    nearest = exits[int(rng.choice(4, p=(w := 1 / (0.1 + lengths) ** 2) / w.sum()))]
    direction = nearest / max(np.abs(nearest).sum(), 1e-6)
    far = np.abs(nearest).sum() + size * rng.uniform(0.6, 1.1)
    when = max(1.0, rng.uniform(0.3, 0.85) * (num_frames - 1))
    time = np.arange(num_frames) / when
    drive = time**1.2
    if rng.random() < 0.5:
        stay = rng.uniform(0.0, 0.4)
        drive = np.clip(np.where(time <= 1 + stay, drive, 1 - (time - 1 - stay)), 0, 1)
    return np.asarray(centres + direction * far * drive[:, None])


def camera_path(rng: np.random.Generator, num_frames: int, motion: float) -> Floats:
    """Matrices (T, 2, 3) from frame 0's coordinates to those of each frame: pan, zoom, roll and shake."""
    steps = max(num_frames - 1, 0)
    style = rng.random()
    pan_scale = 0.04 * motion * rng.random() ** 1.5 if style < 0.8 else 0.0
    heading = rng.uniform(0, 2 * np.pi)
    pan = pan_scale * np.array([np.cos(heading), 0.6 * np.sin(heading)])
    shake = 0.012 * motion * rng.random() ** 2
    shifts = pan + np.stack([_wander(rng, steps, shake), _wander(rng, steps, shake)], 1)
    zoom = np.clip(
        rng.normal(0, 0.015) * (rng.random() < 0.5) * motion + _wander(rng, steps, 0.002), -0.05, 0.05
    )
    roll = rng.normal(0, np.deg2rad(1.2)) * (rng.random() < 0.35) * motion + _wander(
        rng, steps, np.deg2rad(0.15)
    )
    matrices = np.zeros((num_frames, 2, 3))
    matrices[0] = np.eye(2, 3)
    for k in range(steps):
        total = np.vstack([similarity(np.exp(zoom[k]), float(roll[k]), shifts[k]), [0, 0, 1]])
        matrices[k + 1] = (total @ np.vstack([matrices[k], [0, 0, 1]]))[:2]
    return matrices


def still_camera(num_frames: int) -> Floats:
    """The identity for every frame, (T, 2, 3)."""
    return np.repeat(np.eye(2, 3)[None], num_frames, 0)


def similarity(scale: float, angle: float, shift: Floats) -> Floats:
    """(2, 3): turn and scale about the middle of the frame (0.5, 0.5), then shift."""
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    middle = np.array([0.5, 0.5])
    return np.concatenate([linear, (middle - linear @ middle + shift)[:, None]], 1)


def crossing(rng: np.random.Generator, target: Floats, size: float) -> Floats:
    """Centres (T, 2) of an occluder that meets a thing moving along `target` (T, 2) in mid-clip."""
    num_frames = len(target)
    meeting = rng.uniform(0.35, 0.9) * (num_frames - 1)
    heading = rng.uniform(0, 2 * np.pi)
    step = size * rng.uniform(0.18, 0.5) * np.array([np.cos(heading), np.sin(heading)])
    offsets = (np.arange(num_frames) - meeting)[:, None] * step
    at = target[round(meeting)] if rng.random() < 0.5 else target
    return np.asarray(at + offsets)
