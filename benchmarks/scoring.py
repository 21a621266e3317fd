"""How long scoring takes: 280 sequences of 2,500 frames, the size of LaSOT's test set, on one core.

    python benchmarks/scoring.py [--got10k /tmp/got10kvenv/bin/python] [--sequences 280] [--frames 2500]

With --got10k, a Python that has the PyPI package got10k (and shapely), the same boxes are scored by that toolkit's own
functions in a process of its own: the OTB experiment's curves beside ours (which include the normalised precision, that
the toolkit has not), and GOT-10k's beside ours. Only arithmetic is timed, no files. Figures of both must agree, or the
script fails. Seconds are of processor time, so a machine that is busy with other things says the same, and are the best
of --rounds. For one core set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import results

from elysium.evaluation.bootstrap import bootstrap_difference
from elysium.evaluation.conventions import LASOT, PLAIN_SOT
from elysium.evaluation.got10k import got10k_curve, got10k_overlaps, got10k_scores
from elysium.evaluation.ope import mean_curves, sequence_curves
from elysium.evaluation.quality import auroc, reliability, scored_frames

RESOLUTION_WH = (1280, 720)
# Runs in the other Python. Its experiments draw and read images too: what it lacks for that is replaced by nothing.
TOOLKIT = """
import json, sys, time, types
import numpy as np
for name in ("cv2", "matplotlib", "matplotlib.pyplot", "matplotlib.patches", "matplotlib.colors", "PIL", "PIL.Image",
             "wget", "six"):
    try:
        __import__(name)
    except ImportError:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(Image=None, pyplot=None, string_types=(str,), __path__=[])
from got10k.experiments.got10k import ExperimentGOT10k
from got10k.experiments.otb import ExperimentOTB
from got10k.utils.metrics import rect_iou
path, rounds, width, height = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
data = np.load(path)
pred, truth = data["pred"], data["truth"]
otb, got = ExperimentOTB.__new__(ExperimentOTB), ExperimentGOT10k.__new__(ExperimentGOT10k)
otb.nbins_iou, otb.nbins_ce = 21, 51
def run_otb():
    curves = [otb._calc_curves(*otb._calc_metrics(p, t)) for p, t in zip(pred, truth)]
    return [float(np.mean([c[0].mean() for c in curves])), float(np.mean([c[1][20] for c in curves]))]
def run_got():
    ious = np.concatenate([rect_iou(p[1:].copy(), t[1:].copy(), bound=(width, height)) for p, t in zip(pred, truth)])
    return [float(v) for v in got._evaluate(ious, [])[:2]]
out = {}
for name, run in (("ope", run_otb), ("got10k", run_got)):
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        figures = run()
        seconds.append(time.process_time() - start)
    out[name] = {"seconds": min(seconds), "figures": figures}
print(json.dumps(out))
"""


def made_boxes(sequences: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """(S, T, 4) predictions and truth, xyxy: random walks, and a tracker that is off by up to half a side."""
    rng = np.random.default_rng(0)
    corner = np.clip(300 + rng.normal(0, 3, (sequences, frames, 2)).cumsum(axis=1), 0, 600)
    size = rng.uniform(20, 200, (sequences, 1, 2)) * rng.uniform(0.8, 1.2, (sequences, frames, 2))
    moved = corner + size * rng.uniform(-0.5, 0.5, size.shape)
    truth = np.concatenate([corner, corner + size], axis=2)
    pred = np.concatenate([moved, moved + size * rng.uniform(0.8, 1.25, size.shape)], axis=2)
    pred[:, 0] = truth[:, 0]
    return pred, truth


def best(rounds: int, run: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds of the fastest round, what it returned)."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        result = run()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def our_times(pred: np.ndarray, truth: np.ndarray, rounds: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Seconds by task, and the figures to compare."""
    pairs = list(zip(pred, truth, strict=True))
    visible = np.arange(pred.shape[1]) % 50 < 45
    confidence = np.random.default_rng(1).random(pred.shape[1])
    seconds = {}
    seconds["ope"], curves = best(rounds, lambda: [sequence_curves(p, t, convention=PLAIN_SOT) for p, t in pairs])
    seconds["ope_lasot"], _ = best(
        rounds, lambda: [sequence_curves(p, t, convention=LASOT, visible=visible) for p, t in pairs]
    )
    seconds["got10k"], pooled = best(
        rounds,
        lambda: (o := np.concatenate([got10k_overlaps(p, t, resolution_wh=RESOLUTION_WH) for p, t in pairs]),
                 got10k_scores(o), got10k_curve(o))[1],
    )  # fmt: skip

    def quality() -> None:
        parts = [scored_frames(confidence, p, t) for p, t in pairs]
        scores, right = (np.concatenate(part) for part in zip(*parts, strict=True))
        auroc(scores, right)
        reliability(scores, right)

    seconds["quality"], _ = best(rounds, quality)
    aucs = np.array([c.scores().auc for c in curves])
    seconds["bootstrap_difference"], _ = best(rounds, lambda: bootstrap_difference(aucs, aucs[::-1]))
    mean = mean_curves(curves).scores()
    figures = {"ope": [mean.auc, mean.precision], "got10k": [pooled.ao, pooled.sr50]}
    return {name: round(value, 4) for name, value in seconds.items()}, figures


def toolkit_times(python: str, pred: np.ndarray, truth: np.ndarray, rounds: int) -> dict[str, Any]:
    """What the toolkit needs, and says, about the same boxes."""
    as_xywh = [np.concatenate([b[..., :2], b[..., 2:] - b[..., :2]], axis=-1) for b in (pred, truth)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "boxes.npz"
        np.savez(path, pred=as_xywh[0], truth=as_xywh[1])
        command = [python, "-c", TOOLKIT, str(path), str(rounds), *map(str, RESOLUTION_WH)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=280)
    parser.add_argument("--frames", type=int, default=2500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--got10k", default=None, help="a Python that has the package got10k")
    options = parser.parse_args()
    pred, truth = made_boxes(options.sequences, options.frames)
    seconds, figures = our_times(pred, truth, options.rounds)
    record: dict[str, Any] = {"sequences": options.sequences, "frames": options.frames, "seconds": seconds}
    if options.got10k:
        theirs = toolkit_times(options.got10k, pred, truth, options.rounds)
        for name, answer in theirs.items():
            np.testing.assert_allclose(figures[name], 100 * np.array(answer["figures"]), rtol=0, atol=1e-6)
        record["got10k_toolkit_seconds"] = {name: round(answer["seconds"], 4) for name, answer in theirs.items()}
        record["times_faster"] = {n: round(a["seconds"] / seconds[n], 2) for n, a in theirs.items()}
    record["figures"] = {name: [round(value, 4) for value in values] for name, values in figures.items()}
    print(json.dumps(record, indent=1))
    results.write("scoring", record)


if __name__ == "__main__":
    main()
