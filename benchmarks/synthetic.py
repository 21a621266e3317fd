"""nano's own exam: SOT, RSOT and REC on held-out clips made by program.

    python benchmarks/synthetic.py --assets ../shared/data --model nano --clips 100

Held out: the generator's ``val`` split (photos and, where a kind has enough, cut-outs that training never used) and a
seed of its own. SOT: every named object of every clip, AUC beside holding the first box. RSOT: clips with exactly four
objects that can be named; one is asked for; it counts as found if more than half of its frames have IoU > 0.5.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import results

from elysium.boxes import denormalize, iou
from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.evaluation.ope import hold_first_box, mean_scores, sequence_scores
from elysium.inference.pipelines import Elysium

SIZE_PX = 224
SOT_SEED, RSOT_SEED = 90_001, 90_002


def score_sot(model: Elysium, generator: ClipGenerator, clips: int) -> dict[str, object]:
    """AUC over all objects of ``clips`` clips, followed from their first box; and of holding it."""
    ours, held = [], []
    for index in range(clips):
        clip = generator.generate(index)
        boxes = [denormalize(o.boxes_xyxyn, (SIZE_PX, SIZE_PX)) for o in clip.objects]
        boxes = [b for b in boxes if np.isfinite(b[0]).all()]
        if not boxes:
            continue
        result = model.track(clip.frames, boxes=np.stack([b[0] for b in boxes]))
        ours += [sequence_scores(t.boxes_xyxy, b) for t, b in zip(result.tracks, boxes, strict=True)]
        held += [sequence_scores(hold_first_box(b), b) for b in boxes]
    return {"objects": len(ours), "model": asdict(mean_scores(ours)), "hold": asdict(mean_scores(held))}


def score_rsot(model: Elysium, generator: ClipGenerator, clips: int) -> dict[str, object]:
    """Share of objects found by words among three distractors, and the AUC; and REC on the first frame."""
    found, first, scores, index, asked = 0, 0, [], 0, 0
    while asked < clips:
        clip = generator.generate(index)
        index += 1
        named = [o for o in clip.objects if o.expressions and np.isfinite(o.boxes_xyxyn[0]).all()]
        if len(clip.objects) != 4 or len(named) != 4:
            continue
        target = named[asked % 4]
        truth = denormalize(target.boxes_xyxyn, (SIZE_PX, SIZE_PX))
        track = model.track(clip.frames, expression=target.expressions[0]).tracks[0]
        there = np.isfinite(truth[:, 0])
        hits = np.nan_to_num(iou(track.boxes_xyxy, truth))[there] > 0.5
        found += bool(hits.mean() > 0.5)
        box, _ = model.ground(clip.frames[0], target.expressions[0])
        first += bool(np.nan_to_num(iou(box[None], truth[:1]))[0] > 0.5)
        scores.append(sequence_scores(track.boxes_xyxy, truth, count_first=True))
        asked += 1
    return {"clips": asked, "found": found / asked, "rec_accuracy": first / asked, "model": asdict(mean_scores(scores))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, default=None)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--name", default="synthetic")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    model = Elysium.from_pretrained(options.model, threads=options.threads)
    assets = AssetLibrary.from_folder(options.assets, "val")
    sot = score_sot(model, ClipGenerator(SynthConfig(size_px=SIZE_PX), assets, seed=SOT_SEED), options.clips)
    crowd = SynthConfig(
        size_px=SIZE_PX,
        min_objects=4,
        max_objects=4,
        patch_share=0.0,
        region_probability=0.0,
        one_kind_probability=0.0,
        leave_probability=0.0,
    )
    rsot = score_rsot(model, ClipGenerator(crowd, assets, seed=RSOT_SEED), options.clips)
    print(
        f"SOT AUC {sot['model']['auc']:.1f} (hold {sot['hold']['auc']:.1f}); "
        f"RSOT found {rsot['found']:.0%}, AUC {rsot['model']['auc']:.1f}; REC {rsot['rec_accuracy']:.0%}"
    )
    results.write(options.name, {"SOT": sot, "RSOT": rsot})


if __name__ == "__main__":
    main()
