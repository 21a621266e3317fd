"""Who finds phrases best without the network: our own nano or a small COCO detector; on made clips and real frames.

    python benchmarks/grounders.py ../shared/data --detector ../shared/data/models/FastestDet.onnx

Made clips: held-out things; each is asked for by a phrase that means it alone, the detector for its noun. Real: the
phrases of the annotated sequences in their first frames. A phrase is `answered` where the grounding stage takes a start
from it (score above --min-score, one candidate, and with `confirmed` found in the middle and last frame as well), and
`right` where the start's IoU with the true box is above 0.5. First, on other clips, it is fitted how nano's own scores
tell right boxes from wrong ones: the lines in `elysium.building.models.own`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import results

from elysium.boxes import FloatArray, iou
from elysium.building.coco import class_of
from elysium.building.grounding import ground_clip
from elysium.building.plugins import make_follower, make_grounder, make_nouns
from elysium.building.settings import GroundingSettings
from elysium.building.stages import Detections, Grounder, Image, Phrase
from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.video import read_image

RIGHT_IOU = 0.5
FIT_SEED, SEED = 11, 12


@dataclass(frozen=True)
class Shown:
    """Frames in memory as a clip, with the phrases to ask for and their boxes (N, T, 4) in pixels."""

    images: Sequence[Image]
    phrases: list[Phrase]
    truth: FloatArray

    @property
    def indices(self) -> range:
        return range(len(self.images))

    @property
    def times_s(self) -> list[float]:
        return [number / 25 for number in self.indices]

    @property
    def resolution_wh(self) -> tuple[int, int]:
        return self.images[0].shape[1], self.images[0].shape[0]

    def frames(self) -> Iterator[Image]:
        return iter(self.images)

    def frame(self, number: int) -> Image:
        return self.images[number]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="the folder of shared data, with assets and sequences")
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--fit-clips", type=int, default=170)
    parser.add_argument("--scores", type=float, nargs="+", default=[0.3, 0.6, 0.8])
    options = parser.parse_args()
    fits = {"grounding": fit_grounding(list(made(options.shared, options.fit_clips, FIT_SEED)))}
    print(fits, flush=True)
    fits["following"] = fit_following(list(made(options.shared, options.clips, FIT_SEED)))
    print(fits, flush=True)
    sets = {
        "made": list(made(options.shared, options.clips, SEED)),
        "real": list(real(options.shared / "sequences")),
    }
    grounders = {"nano": make_grounder("elysium"), "detector": make_grounder("coco", path=str(options.detector))}
    found: dict[str, Any] = {}
    for name, clips in sets.items():
        for whose, grounder in grounders.items():
            asked = Remembering(grounder)
            for score in options.scores:
                found[f"{name}, {whose}, {score:g}"] = row = measure(asked, clips, score)
                print(name, whose, score, row, flush=True)
    results.write("grounders", {"clips": options.clips, "fits": fits, "runs": found})


def fit_grounding(clips: list[Shown]) -> dict[str, Any]:
    """How nano's own scores tell right boxes."""
    grounder, scores, right = make_grounder("elysium", calibrated=False), [], []
    for clip in clips:
        for answer, truth in zip(grounder.ground(clip.frame(0), clip.phrases), clip.truth[:, 0], strict=True):
            scores += answer.scores.tolist()
            right += (iou(answer.boxes_xyxy, truth) > RIGHT_IOU).tolist()
    return fit(np.array(scores), np.array(right, dtype=float))


def fit_following(clips: list[Shown]) -> dict[str, Any]:
    follower, scores, right = make_follower("elysium", calibrated=False), [], []
    for clip in clips:
        for (boxes, own), truth in zip(follower.follow(clip, list(clip.truth[:, 0])), clip.truth, strict=True):
            there = np.isfinite(boxes).all(axis=1) & np.isfinite(truth).all(axis=1)
            there[0] = False
            scores += own[there].tolist()
            right += (iou(boxes, truth)[there] > RIGHT_IOU).tolist()
    return fit(np.array(scores), np.array(right, dtype=float))


def fit(scores: FloatArray, right: FloatArray) -> dict[str, Any]:
    """Logistic regression of being right on the log odds of the score, by Newton's method."""
    odds = np.log(np.clip(scores, 1e-6, 1 - 1e-6) / np.clip(1 - scores, 1e-6, 1))
    inputs, line = np.c_[np.ones_like(odds), odds], np.zeros(2)
    for _ in range(50):
        shares = 1 / (1 + np.exp(-inputs @ line))
        line += np.linalg.solve(
            inputs.T @ (inputs * (shares * (1 - shares))[:, None]) + 1e-6 * np.eye(2), inputs.T @ (right - shares)
        )
    return {"boxes": len(scores), "right": round(float(right.mean()), 3), "line": [round(float(v), 2) for v in line],
            "quartiles": np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]).round(3).tolist()}  # fmt: skip


def made(shared: Path, count: int, seed: int) -> Iterator[Shown]:
    """Clips of eight frames with the held-out things."""
    assets = AssetLibrary.from_folder(shared).part("val")
    generator = ClipGenerator(SynthConfig(size_px=352, num_frames=8, patch_share=0, region_probability=0), assets, seed)
    for number in range(count):
        clip = generator.generate(number)
        asked = [one for one in clip.objects if one.expressions and np.isfinite(one.boxes_xyxyn[0]).all()]
        phrases = [Phrase(one.expressions[0].removeprefix("the "), one.noun, one.expressions[-1]) for one in asked]
        if asked:
            yield Shown(list(clip.frames), phrases, np.array([one.boxes_xyxyn for one in asked]) * 352.0)


def real(folder: Path) -> Iterator[Shown]:
    nouns = make_nouns()
    for place in sorted(folder.iterdir()):
        paths = sorted((place / "frames").iterdir())[:64]
        left, top, width, height = np.loadtxt(place / "groundtruth.txt", delimiter=",")[0]
        phrase = nouns.phrase_of(json.loads((place / "meta.json").read_text())["object"])
        box = np.array([[[left, top, left + width, top + height]]])
        yield Shown([read_image(paths[k]) for k in (0, len(paths) // 2, -1)], [phrase], box)


class Remembering:
    """A grounder that is asked each question once, however often the rules change."""

    def __init__(self, grounder: Grounder) -> None:
        self.name, self._grounder = grounder.name, grounder
        self._answers: dict[tuple[int, Phrase], Detections] = {}

    def ground(self, image: Image, phrases: Sequence[Phrase]) -> list[Detections]:
        new = [phrase for phrase in phrases if (id(image), phrase) not in self._answers]
        for phrase, answer in zip(new, self._grounder.ground(image, new) if new else [], strict=True):
            self._answers[id(image), phrase] = answer
        return [self._answers[id(image), phrase] for phrase in phrases]


def measure(grounder: Grounder, clips: list[Shown], min_score: float) -> dict[str, int]:
    """How many phrases are asked for, answered, right; the same of confirmed ones; of nouns of COCO classes."""
    counts = dict.fromkeys(("asked", "answered", "right", "confirmed", "confirmed_right", "coco", "coco_right"), 0)
    for clip in clips:
        starts, confirmed = (
            {one.phrase: one for one in ground_clip(
                grounder, clip, clip.phrases, GroundingSettings(min_score=min_score, witnesses=witnesses))[0]}
            for witnesses in ("none", "all")
        )  # fmt: skip
        for phrase, truth in zip(clip.phrases, clip.truth[:, 0], strict=True):
            right = phrase in starts and float(iou(starts[phrase].start_xyxy, truth)) > RIGHT_IOU
            counts["asked"] += 1
            counts["answered"] += phrase in starts
            counts["right"] += right
            counts["confirmed"] += phrase in confirmed
            counts["confirmed_right"] += right and phrase in confirmed
            counts["coco"] += class_of(phrase.noun) is not None
            counts["coco_right"] += right and class_of(phrase.noun) is not None
    return counts


if __name__ == "__main__":
    main()
