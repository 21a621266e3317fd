"""configs/smoke.yaml end to end, as a user runs it: trained, interrupted, resumed, evaluated, and tracking a clip."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from elysium.cli.main import main
from training_kit import log_lines, losses

ROOT = Path(__file__).resolve().parent.parent
STEPS = 12
LIMIT_S = 300


def command(out: Path) -> list[str]:
    return [
        sys.executable, "-m", "elysium", "train", str(ROOT / "configs" / "smoke.yaml"), f"output_dir={out}",
        f"data.cache_dir={out}/cache", "data.train_clips=8", "data.val_clips=4", f"trainer.max_steps={STEPS}",
        "trainer.save_steps=50", "trainer.logging_steps=1", "trainer.eval_steps=12", "threads=1",
    ]  # fmt: skip


def own_clips(folder: Path) -> Path:
    """Two clips of the tutorial as records."""
    subprocess.run([sys.executable, ROOT / "examples" / "own_clips.py", folder, "--clips", "2"], check=True)
    assert main(["data", "convert", "csv", str(folder), str(folder / "held.jsonl")]) == 0
    return folder / "held.jsonl"


@pytest.mark.slow
def test_smoke_trains_is_interrupted_resumes_is_evaluated_and_tracks(tmp_path, capsys):
    out = tmp_path / "smoke"
    log = (tmp_path / "first.log").open("w")
    first = subprocess.Popen(command(out), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env={**os.environ})
    deadline = time.monotonic() + LIMIT_S
    while not ((out / "log.jsonl").exists() and len(losses(out)) >= 3):
        assert first.poll() is None and time.monotonic() < deadline, (tmp_path / "first.log").read_text()[-2000:]
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    assert first.wait(LIMIT_S) == 130, (tmp_path / "first.log").read_text()[-2000:]
    stopped = max(losses(out))
    assert 3 <= stopped < STEPS and (out / f"checkpoint-{stopped}").is_dir() and not (out / "final").exists()
    assert f"stopped after step {stopped}; the same command goes on" in (tmp_path / "first.log").read_text()

    second = subprocess.run(command(out), cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert second.returncode == 0, second.stderr[-2000:]
    assert f"resuming from {out}/checkpoint-{stopped}" in second.stdout
    assert sorted(losses(out)) == list(range(1, STEPS + 1))
    assert any("val_SOT" in line for line in log_lines(out))

    held = own_clips(tmp_path / "clips")
    evaluated = ["eval", "SOT", "--annotations", str(held), "--images", str(held.parent), "--model", str(out / "final")]
    assert main([*evaluated, "--output", str(tmp_path / "scores")]) == 0
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert scores["num_sequences"] == 4 and scores["mean"]["auc"] > 20  # nano itself: about 60

    clip = ROOT / "src" / "elysium" / "assets" / "pedestrians.mp4"
    capsys.readouterr()
    arguments = ["track", str(clip), "--box", "100,60,180,200", "--model", str(out / "final"), "--max-frames", "16"]
    assert main([*arguments, "--save", "none", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["num_frames"] == 16 and len(result["tracks"][0]["frames"]) == 16
