"""Options that change answers, each against the defaults: what they cost and what they bring.

    python benchmarks/options.py [--sequences ../shared/data/sequences] [--every 3] [--only tokens-12,bfloat16]

nano follows the object of every third real sequence through its first 24 frames by its box, on one thread, with the
defaults and with each option: AUC, seconds of the processor, the share of frames whose boxes are the same, and how much
they overlap. ``torch-int8`` is no option of ours: PyTorch's dynamic quantisation of the language model's layers, to see
what it would bring. Stored in results/options.json; docs/speed.md is written from it (benchmarks/document.py).
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import results
import torch
from subset import FRAMES, Followed, follow

from elysium.evaluation.items import read_items
from elysium.inference.pipelines import Elysium

CASES: dict[str, dict[str, Any]] = {
    "default": {}, "fine": {}, **{f"tokens-{k}": {"tokens_per_frame": k} for k in (36, 18, 12)},
    "bfloat16": {"dtype": "bfloat16"}, "8bit": {"dtype": "8bit"}, "torch-int8": {},
}  # fmt: skip


def load(name: str, case: str) -> Elysium:
    model = Elysium.from_pretrained(name, threads=1, device="cpu", **CASES[case])
    if case == "torch-int8":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is deprecated, which is why it is no option
            torch.ao.quantization.quantize_dynamic(
                model.model.language_model.model, {torch.nn.Linear}, torch.qint8, inplace=True
            )
    return model


def row(found: Followed, default: Followed, model: Elysium) -> dict[str, float]:
    kept, clip = model.processor.num_image_tokens, model.tracking.get("clip_length", 8)
    return {
        "auc": found.auc, "seconds": found.seconds, "equal": found.equal(default),
        "overlap": found.overlap(default), "visual_tokens": kept * clip, "frames": len(found.boxes),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=Path, default=Path("../shared/data/sequences"))
    parser.add_argument("--every", type=int, default=3, help="take every Nth sequence")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--name", default="options")
    options = parser.parse_args()
    items = read_items(options.sequences, "SOT", max_frames=FRAMES)[:: options.every]
    table: dict[str, dict[str, float]] = {}
    default = None
    for case in ["default", *(case for case in options.only.split(",") if case != "default")]:
        model = load(options.model, case)
        follow(model, items[:1], options.sequences, "SOT")  # the first forwards are slow
        found = follow(model, items, options.sequences, "SOT", **({"fine": True} if case == "fine" else {}))
        default = default or found
        table[case] = row(found, default, model)
        results.write(options.name, {"sequences": len(items), "first_frames": FRAMES, "cases": table})
        print(case, {key: round(value, 3) for key, value in table[case].items()}, flush=True)


if __name__ == "__main__":
    main()
