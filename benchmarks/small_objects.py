"""Small objects, with and without a second, closer look (``zoom``).

    python benchmarks/small_objects.py [--sequences ../shared/data/sequences] [--assets ../shared/data] [--clips 8]

- ``oracle``: squares of 14 pixels on their ways through frames of 1280x720, and a stand-in for a model that writes the
  true box in whole per cents of whatever it is shown. All that it loses is lost to rounding.
- ``synthetic``: nano in full frames, by box and by words, on clips made by program with things under a tenth as large
  as their frames of 640x640.
- ``real``: the same on the first 24 frames of the real sequences whose object is that small in the first.

AUC without and with zoom, seconds of the processor on one thread, and how many frames have other boxes. Stored in
results/small_objects.json; docs/speed.md is written from it (benchmarks/document.py).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import results
from subset import FRAMES, follow, truth

from elysium.boxes import FloatArray, denormalize, quantize
from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.evaluation.items import read_items
from elysium.evaluation.ope import mean_scores, sequence_scores
from elysium.inference.answers import Answer, Request
from elysium.inference.clips import TrackedObject
from elysium.inference.pipelines import Elysium
from elysium.inference.tracker import Tracker
from elysium.inference.zoom import SMALL_BINS
from elysium.video import open_source

Figures = dict[str, Any]
Track = Callable[[bool], tuple[list[FloatArray], list[FloatArray]]]  # zoom -> boxes and truth of each object
WIDTH, HEIGHT, SIDE, SEED = 1280, 720, 14, 90_004
BLUE = (0, 0, 255)
SYNTH = SynthConfig(size_px=640, num_frames=16, min_scale=0.03, max_scale=SMALL_BINS / 100, leave_probability=0.0,
                    patch_share=0.0, region_probability=0.0, max_objects=3)  # fmt: skip


@dataclass
class Oracle:
    """Writes the true box of what is blue, in whole per cents of what it is shown."""

    max_batch: int = 8
    region_marks: bool = False

    def run(self, requests: Sequence[Request], *, free: bool = False) -> list[Answer]:
        return [self._answer([blue(image) for image in request.frames]) for request in requests]

    def _answer(self, boxes_xyxyn: list[FloatArray]) -> Answer:
        boxes = quantize(np.stack(boxes_xyxyn)).astype(np.float64)
        return Answer("", (), boxes, np.ones(len(boxes)), ("ok",) * len(boxes))


def blue(image: np.ndarray) -> FloatArray:
    """(4,) in 0..1 of the image: the blue rectangle; all of it must be in there."""
    rows, columns = np.nonzero((image == BLUE).all(axis=2))
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=np.float64)
    return box / np.tile([image.shape[1], image.shape[0]], 2)


def squares(clips: int) -> list[FloatArray]:
    """(T, 4) whole pixels for each clip: straight ways of up to 4 pixels a frame."""
    rng, ways = np.random.default_rng(SEED), []
    for _ in range(clips):
        start = rng.uniform([200, 200], [WIDTH - 200, HEIGHT - 200])
        places = np.round(start + np.arange(FRAMES)[:, None] * rng.uniform(-4, 4, 2))
        ways.append(np.concatenate([places, places + SIDE], axis=1))
    return ways


def painted(boxes: FloatArray) -> np.ndarray:
    frames = np.full((len(boxes), HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    for frame, (x1, y1, x2, y2) in zip(frames, boxes.astype(int), strict=True):
        frame[y1:y2, x1:x2] = BLUE
    return frames


def oracle(ways: Sequence[FloatArray], by_words: bool, zoom: bool) -> tuple[list[FloatArray], list[FloatArray]]:
    found = []
    for boxes in ways:
        target = TrackedObject(1, "the blue square") if by_words else TrackedObject(1, box=boxes[0])
        found.append(Tracker(Oracle(), zoom=zoom).run(open_source(painted(boxes)), [target]).tracks[0].boxes_xyxy)
    return found, list(ways)


def synthetic(
    model: Elysium, generator: ClipGenerator, clips: int, by_words: bool, zoom: bool
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Every thing of each clip that is there in the first frame and can be named."""
    found, right = [], []
    for index in range(clips):
        clip = generator.generate(index)
        things = [o for o in clip.objects if o.expressions and np.isfinite(o.boxes_xyxyn[0]).all()]
        truths = [denormalize(o.boxes_xyxyn, (SYNTH.size_px, SYNTH.size_px)) for o in things]
        for thing, boxes in zip(things, truths, strict=True):
            target = {"expression": thing.expressions[0]} if by_words else {"boxes": boxes[0]}
            found.append(model.track(clip.frames, search_window=None, zoom=zoom, **target).tracks[0].boxes_xyxy)
            right.append(boxes)
    return found, right


def real(model: Elysium, folder: Path, task: str, zoom: bool) -> tuple[list[FloatArray], list[FloatArray]]:
    items = read_items(folder, task, max_frames=FRAMES)
    items = [item for item in items if _side(item.record.boxes_xyxyn[0]) < SMALL_BINS / 100]
    right = [truth(item) for item in items]
    found = follow(model, items, folder, task, search_window=None, zoom=zoom).boxes
    return np.split(found, np.cumsum([len(boxes) for boxes in right])[:-1]), right


def _side(box_xyxyn: FloatArray) -> float:
    return float(np.sqrt((box_xyxyn[2] - box_xyxyn[0]) * (box_xyxyn[3] - box_xyxyn[1])))


def compared(track: Track) -> Figures:
    """Without and with zoom."""
    rows: list[Figures] = []
    boxes: list[FloatArray] = []
    for zoom in (False, True):
        began = time.process_time()
        found, right = track(zoom)
        seconds = time.process_time() - began
        auc = mean_scores([sequence_scores(one, other) for one, other in zip(found, right, strict=True)]).auc
        rows.append({"auc": auc, "seconds": seconds})
        boxes.append(np.concatenate(found))
    other = ~np.isclose(*boxes, equal_nan=True).all(axis=1)
    return {"objects": len(right), "frames": len(other), "other_boxes": float(other.mean()), "plain": rows[0],
            "zoom": rows[1]}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=Path, default=Path("../shared/data/sequences"))
    parser.add_argument("--assets", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="nano")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--name", default="small_objects")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    model = Elysium.from_pretrained(options.model, threads=1)
    generator = ClipGenerator(SYNTH, AssetLibrary.from_folder(options.assets, "val"), SEED)
    ways = squares(options.clips)
    table: dict[str, Figures] = {}
    for task, by_words in (("box", False), ("words", True)):
        cases: dict[str, Track] = {
            "oracle": lambda zoom, by_words=by_words: oracle(ways, by_words, zoom),
            "synthetic": lambda zoom, by_words=by_words: synthetic(model, generator, options.clips, by_words, zoom),
            "real": lambda zoom, by_words=by_words: real(model, options.sequences, "RSOT" if by_words else "SOT", zoom),
        }
        for name, track in cases.items():
            table[f"{name}, by {task}"] = figures = compared(track)
            print(name, task, figures, flush=True)
    results.write(options.name, {"side_px": SIDE, "resolution_wh": [WIDTH, HEIGHT], "cases": table})


if __name__ == "__main__":
    main()
