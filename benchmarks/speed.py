"""Speed and memory of tracking with the defaults, and start-up times.

    python benchmarks/speed.py [--model nano] [--threads 2]

Frames per second: the bundled clip of pedestrians, one object by box and one by words, end to end (decoding, tracking,
no files). Memory: peak resident size of a fresh process that tracks one object through 200 and through 2,000 frames
of the same clip played over and over. Start-up: wall time of ``import elysium`` and ``elysium --help``, best of five.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from itertools import cycle, islice
from pathlib import Path

import results

from elysium.video import VideoWriter, open_source

CLIP = Path(str(files("elysium"))) / "assets" / "pedestrians.mp4"
CHILD = """
import json, resource, sys, time
from elysium.inference.pipelines import Elysium
path, model, threads, target = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
elysium = Elysium.from_pretrained(model, threads=threads)
elysium.track(path, max_frames=16, **target)
start = time.perf_counter()
result = elysium.track(path, **target)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
fps = round(result.num_frames / seconds, 2)
print(json.dumps({"frames": result.num_frames, "fps": fps, "peak_mib": round(peak, 1)}))
"""


def track_in_child(path: Path, model: str, threads: int, target: dict[str, object]) -> dict[str, float]:
    """Track in a process of its own; frames, frames per second and peak memory."""
    command = [sys.executable, "-c", CHILD, str(path), model, str(threads), json.dumps(target)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def looped(frames: int, path: Path) -> Path:
    """The bundled clip played over and over, ``frames`` frames."""
    source = open_source(CLIP)
    images = [frame.image for frame in source]
    with VideoWriter(path, source.fps, source.resolution_wh) as writer:
        for image in islice(cycle(images), frames):
            writer.write(image)
    return path


def best_of_five(command: list[str]) -> float:
    """Shortest wall time in seconds."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return round(min(times), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    demo = json.loads((CLIP.parent / "demo.json").read_text())
    targets = {"box": {"boxes": [demo["box_xyxy"]]}, "words": {"expression": demo["expression"]}}
    speed = {name: track_in_child(CLIP, options.model, options.threads, t) for name, t in targets.items()}
    with tempfile.TemporaryDirectory() as folder:
        memory = {}
        for frames in (200, 2000):
            video = looped(frames, Path(folder) / f"{frames}.mp4")
            memory[frames] = track_in_child(video, options.model, options.threads, targets["box"])
    start_up = {
        "import_s": best_of_five([sys.executable, "-c", "import elysium"]),
        "help_s": best_of_five([sys.executable, "-m", "elysium", "--help"]),
    }
    ratio = round(memory[2000]["peak_mib"] / memory[200]["peak_mib"], 3)
    figures = {"threads": options.threads, "speed": speed, "memory": memory, "memory_ratio": ratio}
    figures["start_up"] = start_up
    print(json.dumps(figures, indent=1))
    results.write("speed", figures)


if __name__ == "__main__":
    main()
