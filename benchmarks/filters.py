"""What the filters make of good and of lost trajectories: OpenCV's followers on annotated real sequences.

    python benchmarks/filters.py ../shared/data/sequences --nanotrack ../shared/data/models/nanotrack-v2

Clips of 64 frames, four of a sequence at most, followed from the true box. A trajectory is good if its last eight
frames have a mean IoU of 0.5 or more with the truth, lost if below 0.3. For `overlap` the true boxes of the middle and
the last frame stand for a grounder's. The true boxes are judged as well: what fires on them is wrong.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import results

from elysium.boxes import FloatArray, iou
from elysium.building.filters import ClipFacts, judge
from elysium.building.following import OpenCvFollower
from elysium.building.grounding import witness_frames
from elysium.building.settings import FilterSettings
from elysium.building.stages import Grounded, Phrase, Trajectory
from elysium.video import FrameSource, open_source

LENGTH, MOST, LEAST = 64, 4, 20
GOOD_IOU, LOST_IOU, LAST = 0.5, 0.3, 8


class FolderClip:
    """Frames `start` to `start + count` - 1 of a folder of images."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths, self.indices = paths, range(len(paths))
        self.times_s = [number / 25 for number in self.indices]
        self.resolution_wh = self._source().resolution_wh

    def _source(self) -> FrameSource:
        return open_source(self.paths)

    def frames(self) -> Any:
        return (frame.image for frame in self._source())

    def frame(self, number: int) -> Any:
        return next(iter(open_source(self.paths[number : number + 1]))).image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", type=Path)
    parser.add_argument("--nanotrack", type=Path, required=True)
    options = parser.parse_args()
    followers = {"csrt": OpenCvFollower("csrt"), "nanotrack": OpenCvFollower("nanotrack", str(options.nanotrack))}
    counts = {name: {kind: Counter() for kind in ("good", "lost", "between")} for name in ("truth", *followers)}
    for folder in sorted(options.sequences.iterdir()):
        for clip, truth in clips(folder):
            tracks: dict[str, tuple[FloatArray, FloatArray | None]] = {"truth": (truth, None)}
            tracks |= {name: follower.follow(clip, [truth[0]])[0] for name, follower in followers.items()}
            for name, (boxes, scores) in tracks.items():
                count(counts[name], clip, truth, boxes, scores)
            print(folder.name, {name: dict(counts[name]["lost"]) for name in counts}, flush=True)
    results.write("filters", {"rules": FilterSettings().model_dump(), "counts": counts})


def clips(folder: Path) -> Any:
    """(clip, (T, 4) true boxes in pixels) of one sequence."""
    paths = sorted((folder / "frames").iterdir())
    truth = np.loadtxt(folder / "groundtruth.txt", delimiter=",").reshape(-1, 4)
    truth[:, 2:] += truth[:, :2]
    for start in list(range(0, min(len(paths), len(truth)), LENGTH))[:MOST]:
        boxes = truth[start : start + LENGTH]
        if len(boxes) >= LEAST and np.isfinite(boxes[0]).all() and (boxes[0, 2:] - boxes[0, :2] > 1).all():
            yield FolderClip(paths[start : start + len(boxes)]), boxes


def count(
    counts: dict[str, Counter[str]], clip: FolderClip, truth: FloatArray, boxes: FloatArray, scores: FloatArray | None
) -> None:
    """One trajectory, and every rule that fires on it."""
    last = float(iou(boxes, truth)[-LAST:].mean())
    kind = "good" if last >= GOOD_IOU else "lost" if last < LOST_IOU else "between"
    witnesses = {k: truth[k] for k in witness_frames(len(truth)) if np.isfinite(truth[k]).all()}
    start = Grounded(Phrase("thing", "thing", "the thing"), boxes[0], 1.0, witnesses)
    settings = FilterSettings()
    (verdict,) = judge([Trajectory(start, boxes, scores)], ClipFacts(clip.times_s, clip.resolution_wh), settings)
    counts[kind].update(["trajectories", *verdict.reasons, *(["dropped"] if verdict.dropped else [])])


if __name__ == "__main__":
    main()
