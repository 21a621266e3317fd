"""Makes the footage of the tutorial (docs/tutorial-finetune.md): folders of frames and labels.csv, drawn by program.

Stands in for clips of one's own of a kind that nano has never seen: a thermal camera by night, grey and full of noise,
in which a drone (four rotors and a body) flies among birds (a bent line). Words and boxes are exact.

    python examples/own_clips.py OUT [--clips 20] [--seed 0]
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT, FRAMES = 320, 240, 16
HEAD = ("clip", "frame", "x1", "y1", "x2", "y2", "object")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(HEAD)
        for number in range(arguments.clips):
            rng = np.random.default_rng((arguments.seed, number))
            table.writerows(write_clip(arguments.out, f"night{number:03d}", rng))


def write_clip(out: Path, clip: str, rng: np.random.Generator) -> list[tuple[object, ...]]:
    """The frames of one clip, and its lines for labels.csv."""
    (out / clip).mkdir(exist_ok=True)
    things = [Flyer("the drone", rng)] + [Flyer("the bird", rng) for _ in range(1)]
    ground = background(rng)
    rows: list[tuple[object, ...]] = []
    for time in range(FRAMES):
        image = Image.fromarray(ground)
        name = f"{time:04d}.jpg"
        for thing in things:
            x1, y1, x2, y2 = box = thing.box(time)
            thing.draw(ImageDraw.Draw(image), box, time)
            seen = (max(x1, 0.0), max(y1, 0.0), min(x2, float(WIDTH)), min(y2, float(HEIGHT)))
            if seen[2] - seen[0] > 6 and seen[3] - seen[1] > 6:
                rows.append((clip, name, *(round(value, 1) for value in seen), thing.words))
        noisy = np.asarray(image.filter(ImageFilter.GaussianBlur(0.8)), np.float64) + rng.normal(0, 14, (HEIGHT, WIDTH))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert("RGB").save(out / clip / name, quality=85)
    return rows


def background(rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W) a sky that darkens upwards, warm patches, and a few bright lights on the ground."""
    rows = np.linspace(rng.uniform(30, 60), rng.uniform(70, 110), HEIGHT)[:, None]
    patches = Image.fromarray(rng.integers(0, 60, (6, 8), dtype=np.uint8)).resize(
        (WIDTH, HEIGHT), Image.Resampling.BICUBIC
    )
    image = Image.fromarray((rows + np.asarray(patches)).clip(0, 255).astype(np.uint8))
    for _ in range(5):
        x, y, r = rng.uniform(0, WIDTH), rng.uniform(HEIGHT * 0.75, HEIGHT), rng.uniform(2, 6)
        ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), fill=int(rng.integers(150, 230)))
    return np.asarray(image)


class Flyer:
    """One thing that flies on a curve: words for it, its box at a time, and how it is drawn."""

    def __init__(self, words: str, rng: np.random.Generator) -> None:
        self.words = words
        self.start = rng.uniform((0.2 * WIDTH, 0.2 * HEIGHT), (0.8 * WIDTH, 0.7 * HEIGHT))
        self.speed = rng.uniform(-7, 7, 2)
        self.sway, self.phase = rng.uniform(2, 12), rng.uniform(0, 6)
        self.size = rng.uniform(30, 60)
        self.heat = int(rng.integers(170, 250))

    def box(self, time: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels at frame ``time``; it turns back at the borders."""
        x, y = self.start + self.speed * time + self.sway * np.sin((0.5 * time + self.phase, 0.4 * time))
        x, y = (reflected(value, side) for value, side in ((x, WIDTH), (y, HEIGHT)))
        half_height = self.size * (0.25 if self.words == "the drone" else 0.3)
        return x - self.size / 2, y - half_height, x + self.size / 2, y + half_height

    def draw(self, canvas: ImageDraw.ImageDraw, box: tuple[float, float, float, float], time: int) -> None:
        """Draw it into its box."""
        x1, y1, x2, y2 = box
        middle, height = (x1 + x2) / 2, y2 - y1
        if self.words == "the drone":
            canvas.line((x1 + 4, y1 + 4, x2 - 4, y2 - 3), fill=self.heat, width=3)
            canvas.line((x1 + 4, y2 - 3, x2 - 4, y1 + 4), fill=self.heat, width=3)
            canvas.ellipse((middle - height / 3, y1 + height / 4, middle + height / 3, y2 - height / 6), fill=self.heat)
            for x in (x1, x2 - 10):
                for y in (y1, y2 - 5):
                    canvas.ellipse((x, y, x + 10, y + 5), fill=min(self.heat + 20, 255))
            return
        lift = height * (0.5 + 0.4 * np.sin(1.5 * time + self.phase))  # wings beat
        points = [(x1 + 2, y2 - lift), (x1 + (middle - x1) * 0.6, y1 + 2), (middle, y2 - 3)]
        points += [(x2 - (x2 - middle) * 0.6, y1 + 2), (x2 - 2, y2 - lift)]
        canvas.line(points, fill=self.heat, width=4, joint="curve")


def reflected(value: float, side: int) -> float:
    """``value`` folded back into 15 % to 85 % of ``side``."""
    low, span = 0.15 * side, 0.7 * side
    folded = abs((value - low) % (2 * span))
    return low + (folded if folded <= span else 2 * span - folded)


if __name__ == "__main__":
    main()
