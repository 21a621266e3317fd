"""SOT and RSOT of a model on annotated real sequences, beside holding the first box.

    python benchmarks/real_sequences.py ../shared/data/sequences --model nano [--search-window 4] [--limit 60]

A sequence is a folder with ``frames/``, ``groundtruth.txt`` (x,y,w,h in pixels) and ``meta.json`` (``object`` is the
expression). Scores are those of ``elysium.evaluation.ope``, frame 1 counted in SOT, not in RSOT.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import results

from elysium.evaluation.ope import hold_first_box, mean_scores, sequence_scores
from elysium.inference.pipelines import Elysium


def read_truth(folder: Path) -> np.ndarray:
    """(T, 4) xyxy pixels; one-based benchmarks shifted to zero-based."""
    text = (folder / "groundtruth.txt").read_text().replace("\t", ",").strip()
    xywh = np.array([[float(v) for v in line.split(",")] for line in text.splitlines()])
    if folder.name.startswith("otb_"):
        xywh[:, :2] -= 1
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sequences", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--search-window", type=float, default=None)
    parser.add_argument("--limit", type=int, default=None, help="frames per sequence")
    parser.add_argument("--tasks", nargs="+", default=["SOT", "RSOT"])
    parser.add_argument("--name", default="real_sequences")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    model = Elysium.from_pretrained(options.model, threads=options.threads)
    rows = {}
    for folder in sorted(p for p in options.sequences.iterdir() if (p / "groundtruth.txt").exists()):
        truth = read_truth(folder)[: options.limit]
        words = json.loads((folder / "meta.json").read_text())["object"]
        rows[folder.name] = {"hold": sequence_scores(hold_first_box(truth), truth)}
        for task in options.tasks:
            target = {"boxes": truth[:1]} if task == "SOT" else {"expression": words}
            tracked = model.track(
                folder / "frames", max_frames=len(truth), search_window=options.search_window, **target
            )
            boxes = tracked.tracks[0].boxes_xyxy
            rows[folder.name][task] = sequence_scores(boxes, truth[: len(boxes)], count_first=task == "SOT")
        print(folder.name, {k: round(v.auc, 1) for k, v in rows[folder.name].items()}, flush=True)
    means = {key: asdict(mean_scores(row[key] for row in rows.values())) for key in ("hold", *options.tasks)}
    print({k: round(v["auc"], 2) for k, v in means.items()})
    sequences = {name: {k: round(v.auc, 2) for k, v in row.items()} for name, row in rows.items()}
    results.write(
        options.name,
        {"search_window": options.search_window, "limit": options.limit, "mean": means, "auc_by_sequence": sequences},
    )


if __name__ == "__main__":
    main()
