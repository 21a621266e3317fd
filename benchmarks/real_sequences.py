"""nano and the baselines on annotated real sequences, by `elysium eval`.

    python benchmarks/real_sequences.py ../shared/data/sequences --nanotrack ../shared/data/models/nanotrack-v2

Each line of the table is one run of `elysium eval` into ``runs/real/NAME``, which goes on where it was stopped; take
the folder away to measure anew. ``elysium report runs/real/*`` draws them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import results

from elysium.cli.main import main as elysium

RUNS = {
    "hold": ["SOT", "--model", "hold"],
    "kcf": ["SOT", "--model", "kcf"],
    "mil": ["SOT", "--model", "mil"],
    "csrt": ["SOT", "--model", "csrt"],
    "nanotrack": ["SOT", "--model", "nanotrack:{nanotrack}"],
    "nano": ["SOT", "--model", "{model}"],
    "nano-full-frame": ["SOT", "--model", "{model}", "--search-window", "none"],
    "nano-by-words": ["RSOT", "--model", "{model}"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--nanotrack", type=Path, default=None, help="without it, NanoTrack is left out")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--output", type=Path, default=Path("runs/real"))
    parser.add_argument("--name", default="real_sequences")
    options = parser.parse_args()
    table = {}
    for name in options.only:
        if name == "nanotrack" and options.nanotrack is None:
            continue
        words = [word.format(model=options.model, nanotrack=options.nanotrack) for word in RUNS[name]]
        folder = options.output / name
        command = ["eval", *words, "--annotations", str(options.sequences), "--output", str(folder)]
        print(f"elysium {' '.join(command)}", flush=True)
        if elysium(command):
            raise SystemExit(f"{name} did not finish")
        table[name] = row(folder, command)
    results.write(options.name, {"runs": table})


def row(folder: Path, command: list[str]) -> dict[str, object]:
    """The figures of one run."""
    scores, facts = (json.loads((folder / file).read_text()) for file in ("scores.json", "run.json"))
    kept = ("mean", "got10k", "fps", "score_auroc", "expected_calibration_error", "convention", "groups")
    figures = {key: scores[key] for key in kept}
    aucs = {id: round(one["auc"], 2) for id, one in scores["sequences"].items()}
    return {
        "command": f"elysium {' '.join(command)}",
        "model_sha256": facts["model_sha256"],
        "versions": facts["versions"],
        **figures,
        "auc_by_sequence": aucs,
    }


if __name__ == "__main__":
    main()
