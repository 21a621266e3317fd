"""Where things stand in frame 0, and the matrices that bring their sprites into every frame.

Knows places, sizes and paths; knows nothing of where cut-outs come from or of what is said about them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elysium.data.synth import motion
from elysium.data.synth.render import Layer, Sprite

Image = NDArray[np.uint8]
PLACE_TRIES = 8


@dataclass
class Item:
    """A thing before it is placed."""

    rgba: Image
    noun: str
    colour: str | None = None
    colours: frozenset[str] = frozenset()
    pattern: str | None = None


@dataclass
class Placed:
    """A thing with its place in frame 0. `side`: square root of its box area, share of the frame."""

    item: Item
    sprite: Sprite
    scale_xy: NDArray[np.float64]
    angle: float
    centre: tuple[float, float]
    side: float


def free_place(rng: np.random.Generator, half: NDArray[np.float64], taken: list[NDArray[np.float64]]) -> (
        NDArray[np.float64]):  # fmt: skip
    """The middle that covers the boxes so far the least, of a few tries; partly outside now and then."""
    best, least = np.array([0.5, 0.5]), np.inf
    slack = rng.uniform(-0.25, 0.0) if rng.random() < 0.15 else 0.01
    low = np.minimum(half * (1 if slack > 0 else 1 + slack) + max(slack, 0), 0.5)
    for _ in range(PLACE_TRIES):
        centre = rng.uniform(low, 1 - low)
        mine = np.concatenate([centre - half, centre + half])
        worst = 0.0
        for other in taken:
            common = np.minimum(mine[2:], other[2:]) - np.maximum(mine[:2], other[:2])
            smaller = min(np.prod(2 * half), np.prod(other[2:] - other[:2]))
            worst = max(worst, float(np.prod(np.maximum(common, 0)) / smaller))
        if worst < least:
            best, least = centre, worst
        if least < 0.05:
            break
    return best


def still_layer(thing: Placed, size: int) -> Layer:
    """The thing as it is in frame 0, one frame long."""
    path = motion.Trajectory(np.array([thing.centre]), np.ones(1), np.zeros(1), np.ones(1))
    return Layer(
        thing.sprite, sprite_matrices(thing, path, motion.still_camera(1), size), np.ones(1, np.float32)
    )


def sprite_matrices(
    thing: Placed, path: motion.Trajectory, camera: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """(T, 2, 3): sprite to frame, pixels; the camera (T, 2, 3) comes last."""
    angles = thing.angle + path.angles
    cos, sin = np.cos(angles), np.sin(angles)
    turn = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
    root = np.sqrt(path.stretch)
    scale = np.stack([path.scales * root, path.scales / root], 1) * thing.scale_xy
    linear = turn * scale[:, None, :]
    middle = np.array(thing.sprite.size_wh) / 2
    shift = path.centres * size - linear @ middle
    linear_seen = camera[:, :, :2] @ linear
    shift_seen = np.einsum("tij,tj->ti", camera[:, :, :2], shift) + camera[:, :, 2]
    return np.concatenate([linear_seen, shift_seen[:, :, None]], 2)
