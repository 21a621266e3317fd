"""Questions with known answers, and descriptions, on held-out clips made by program.

    python benchmarks/questions.py --assets ../shared/data --model nano --questions 200

Questions are about colour, kind, count and direction of motion; an answer counts if it is the expected one, word for
word.
A description (REG of the first frame, Video-REG of the clip, by the true box) is searched for the noun and the colour.
Beside each the best that could be had without looking: always giving the most frequent answer, noun or colour.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import results

from elysium.data.synth import AssetLibrary, ClipGenerator, SynthClip, SynthConfig
from elysium.data.synth.questions import ask
from elysium.inference.pipelines import Elysium

SIZE_PX, SEED = 224, 90_004
KINDS = {"What color": "colour", "What is": "kind", "How many": "count", "Which way": "motion"}


def clips(assets: Path | None) -> Iterator[tuple[int, SynthClip, Any]]:
    """(number, clip, its first object that has words) without end, from held-out material."""
    library = AssetLibrary.from_folder(assets, "val")
    generator = ClipGenerator(SynthConfig(size_px=SIZE_PX, patch_share=0.0), library, seed=SEED)
    number = 0
    while True:
        clip = generator.generate(number)
        things = [item for item in clip.objects if item.expressions]
        if things:
            yield number, clip, things[0]
        number += 1


def questions(model: Elysium, assets: Path | None, count: int) -> dict[str, dict[str, float]]:
    """Accuracy by kind."""
    pairs = defaultdict(list)
    for number, clip, thing in clips(assets):
        asked = ask(np.random.default_rng(number), thing, clip.objects, thing.boxes_xyxyn)
        if asked is None:
            continue
        question, answer = asked
        kind = next(name for start, name in KINDS.items() if question.startswith(start))
        pairs[kind].append((answer, model.ask(clip.frames, question).strip() == answer))
        if sum(map(len, pairs.values())) == count:
            return {kind: row(found) for kind, found in sorted(pairs.items())}
    raise AssertionError("clips do not end")


def descriptions(model: Elysium, assets: Path | None, count: int) -> dict[str, dict[str, float]]:
    """Share of descriptions with the right noun, and with the right colour where the thing has one."""
    pairs = defaultdict(list)
    for _, clip, thing in clips(assets):
        if np.isnan(thing.boxes_xyxyn[0]).any():
            continue
        for task, frames in (("REG", clip.frames[:1]), ("Video-REG", clip.frames)):
            words = f" {' '.join(re.findall('[a-z]+', model.describe(frames, thing.boxes_xyxyn[0], 'xyxyn').lower()))} "
            for what, right in (("noun", thing.noun), ("colour", thing.colour)):
                if right:
                    pairs[f"{task} {what}"].append((right, f" {right} " in words))
        if len(pairs["REG noun"]) == count:
            return {name: row(found) for name, found in pairs.items()}
    raise AssertionError("clips do not end")


def row(found: list[tuple[str, bool]]) -> dict[str, float]:
    """Of (right answer, whether it was given): how many, how often, and how often the most frequent one is right."""
    return {
        "number": len(found), "accuracy": float(np.mean([hit for _, hit in found])),
        "most_frequent": max(Counter(right for right, _ in found).values()) / len(found),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=None)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--name", default="questions")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    model = Elysium.from_pretrained(options.model, threads=options.threads)
    table = {
        "questions": questions(model, options.assets, options.questions),
        "descriptions": descriptions(model, options.assets, options.questions),
    }
    for name, rows in table.items():
        for kind, figures in rows.items():
            print(name, kind, {key: round(value, 3) for key, value in figures.items()})
    results.write(options.name, table)


if __name__ == "__main__":
    main()
