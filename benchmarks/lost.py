"""Objects that vanish and come back, on clips made by program, where absence is known exactly.

    python benchmarks/lost.py --assets ../shared/data --model nano --clips 40

``leaving``: clips of 40 frames in which an object leaves over the border, half of the time to return, or is hidden.
``cut``: 16 frames of a clip, 12 of another one in which the object never was, then the rest of the first. Objects are
asked for by box and by words, under each lost policy. Only boxes of state ``tracked`` count as claims.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import results

from elysium.boxes import denormalize
from elysium.data.synth import AssetLibrary, ClipGenerator, SynthClip, SynthConfig
from elysium.evaluation.absence import AbsenceScores, absence_scores, total_absence
from elysium.inference.clips import LOST_POLICIES
from elysium.inference.pipelines import Elysium

SIZE_PX, LENGTH, SEED = 224, 40, 90_003
CUT_START, CUT_LENGTH = 16, 12
CONFIG = SynthConfig(size_px=SIZE_PX, num_frames=LENGTH, motion=0.4, leave_probability=1.0, patch_share=0.0,
                     region_probability=0.0, max_objects=3)  # fmt: skip


def leaving(generator: ClipGenerator, clips: int) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """(frames, truth, expression) of the first object that is absent for a while, of each clip that has one."""
    items, index = [], 0
    while len(items) < clips:
        clip = generator.generate(index)
        index += 1
        gone = [o for o in clip.objects if o.expressions and np.isnan(o.boxes_xyxyn[1:, 0]).sum() >= 3]
        items += [(clip.frames, _truth(o.boxes_xyxyn), o.expressions[0]) for o in gone[:1]]
    return items


def cuts(generator: ClipGenerator, clips: int) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """The same for objects that never leave, with a piece of another clip put in."""
    items: list[tuple[np.ndarray, np.ndarray, str]] = []
    index, other = 0, generator.generate(10_000)
    while len(items) < clips:
        clip: SynthClip = generator.generate(index)
        index += 1
        stays = [o for o in clip.objects if o.expressions and np.isfinite(o.boxes_xyxyn).all()]
        for item in stays[:1]:
            frames = np.concatenate([clip.frames[:CUT_START], other.frames[:CUT_LENGTH], clip.frames[CUT_START:]])
            truth = _truth(item.boxes_xyxyn)
            nothing = np.full((CUT_LENGTH, 4), np.nan)
            items.append((frames, np.concatenate([truth[:CUT_START], nothing, truth[CUT_START:]]), item.expressions[0]))
        other = clip
    return items


def _truth(boxes_xyxyn: np.ndarray) -> np.ndarray:
    return denormalize(boxes_xyxyn, (SIZE_PX, SIZE_PX))


def score(
    model: Elysium, items: list[tuple[np.ndarray, np.ndarray, str]], by_words: bool, policy: str
) -> AbsenceScores:
    """All items followed, their first frame left out (it is given, or asked about)."""
    found = []
    for frames, truth, words in items:
        target = {"expression": words} if by_words else {"boxes": truth[0]}
        track = model.track(frames, lost_policy=policy, **target).tracks[0]
        boxes = np.full_like(truth, np.nan)
        told = track.states == "tracked"
        boxes[track.indices[told]] = track.boxes_xyxy[told]
        found.append(absence_scores(boxes[1:], truth[1:]))
    return total_absence(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, default=None)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--name", default="lost")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    model = Elysium.from_pretrained(options.model, threads=options.threads)
    assets = AssetLibrary.from_folder(options.assets, "val")
    generator = ClipGenerator(CONFIG, assets, seed=SEED)
    stay = SynthConfig(**{**vars(CONFIG), "leave_probability": 0.0, "occlusion_probability": 0.0})
    sets = {
        "leaving": leaving(generator, options.clips),
        "cut": cuts(ClipGenerator(stay, assets, seed=SEED + 1), options.clips),
    }
    table: dict[str, dict[str, object]] = {}
    for name, items in sets.items():
        for by_words in (False, True):
            for policy in LOST_POLICIES:
                total = score(model, items, by_words, policy)
                row = {
                    "clips": len(items), "absent_frames": total.absent_frames, "recall": total.recall,
                    "false_boxes_per_absent_frame": total.false_boxes_per_absent_frame,
                    "found_when_present": total.found / total.present_frames, "returns": total.returns,
                    "refound": total.refound,
                    "median_refind_frames": total.median_refind_frames if total.refound else None,
                }  # fmt: skip
                key = f"{name}, {'words' if by_words else 'box'}, {policy}"
                table[key] = row
                print(key, {k: v if v is None else round(v, 3) for k, v in row.items()}, flush=True)
    results.write(options.name, table)


if __name__ == "__main__":
    main()
