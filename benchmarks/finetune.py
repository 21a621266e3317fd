"""The tutorial's figures: nano before and after fine-tuning on 20 clips of one's own, on 10 others.

    python benchmarks/finetune.py

Runs the commands of docs/tutorial-finetune.md, word for word, in an empty folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import results

ROOT = Path(__file__).resolve().parent.parent


def run(folder: Path, *arguments: object) -> float:
    """Run one command in ``folder``; how many seconds it took."""
    start = time.perf_counter()
    command = [sys.executable, *map(str, arguments)]
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr, env={**os.environ, "PYTHONPATH": path})
    return time.perf_counter() - start


def scores(folder: Path, task: str, model: str, name: str) -> dict[str, float]:
    """Figures of ``model`` on the held-out clips."""
    run(folder, "-m", "elysium", "eval", task, "--annotations", "held.jsonl", "--images", "clips/held",
        "--model", model, "--output", name)  # fmt: skip
    mean = json.loads((folder / name / "scores.json").read_text())["mean"]
    return {key: mean[key] for key in ("auc", "sr50", "sr75", "precision")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split, clips, seed in (("train", 20, 0), ("held", 10, 1)):
            run(folder, ROOT / "examples" / "own_clips.py", f"clips/{split}", "--clips", clips, "--seed", seed)
            run(folder, "-m", "elysium", "data", "convert", "csv", f"clips/{split}", f"{split}.jsonl")
        before = {task: scores(folder, task, "nano", f"before-{task}") for task in ("SOT", "RSOT")}
        seconds = run(folder, "-m", "elysium", "train", ROOT / "configs" / "finetune.yaml")
        after = {task: scores(folder, task, "runs/finetune/final", f"after-{task}") for task in ("SOT", "RSOT")}
    print(results.write("finetune", {"before": before, "after": after, "train_s": round(seconds)}))


if __name__ == "__main__":
    main()
