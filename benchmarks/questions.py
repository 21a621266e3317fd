"""Questions with known answers on held-out clips made by program: colour, kind, count, direction of motion.

    python benchmarks/questions.py --assets ../shared/data --model nano --questions 200

An answer counts if it is the expected one word for word. Beside it the best that could be had without looking: always
giving the answer that is most frequent for its kind of question.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np
import results

from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.data.synth.questions import ask
from elysium.inference.pipelines import Elysium

SIZE_PX, SEED = 224, 90_004
KINDS = {"What color": "colour", "What is": "kind", "How many": "count", "Which way": "motion"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, default=None)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--name", default="questions")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    model = Elysium.from_pretrained(options.model, threads=options.threads)
    assets = AssetLibrary.from_folder(options.assets, "val")
    generator = ClipGenerator(SynthConfig(size_px=SIZE_PX, patch_share=0.0), assets, seed=SEED)
    expected, right = defaultdict(list), defaultdict(list)
    index = 0
    while sum(map(len, right.values())) < options.questions:
        clip = generator.generate(index)
        rng = np.random.default_rng(index)
        index += 1
        things = [item for item in clip.objects if item.expressions]
        asked = ask(rng, things[0], clip.objects, things[0].boxes_xyxyn) if things else None
        if asked is None:
            continue
        question, answer = asked
        kind = next(name for start, name in KINDS.items() if question.startswith(start))
        expected[kind].append(answer)
        right[kind].append(model.ask(clip.frames, question).strip() == answer)
    table = {
        kind: {
            "questions": len(marks), "accuracy": float(np.mean(marks)),
            "most_frequent_answer": max(Counter(expected[kind]).values()) / len(marks),
        }
        for kind, marks in sorted(right.items())
    }  # fmt: skip
    for kind, row in table.items():
        print(kind, {key: round(value, 3) for key, value in row.items()})
    results.write(options.name, table)


if __name__ == "__main__":
    main()
