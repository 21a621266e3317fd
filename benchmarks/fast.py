"""The fast way to an answer against the reference (transformers' generate, one request, one token at a time).

    python benchmarks/fast.py [--sequences ../shared/data/sequences] [--assets ../shared/data] [--threads 1]
        [--compat ../shared/compat/checkpoint_trained] [--only equal,compat,bfloat16,track,objects,large,floor,long]

- ``equal``: SOT and RSOT answers about clips made by program, in batches, drafted against undrafted and, of every
  tenth clip, against the reference: how many are equal, token by token, and the largest difference of scores.
  ``compat`` does the same with a checkpoint in the released layout, with the grammar and without (where it writes what
  it likes); ``bfloat16`` with the model in that number type.
- ``track``: one object by its box through the first frames of every sequence, both ways in turn, sequence by
  sequence: forwards per frame of answer, seconds, whether the boxes are equal, where the time goes, and peak memory
  (each way in a process of its own, one sequence).
- ``objects``: 16 objects by words in one clip, at once, against the reference one at a time.
- ``large``: decoding alone with a LLaMA of 460 million parameters (fast_large.py).
- ``long``: one object by its box through 10,000 frames in a process of its own: processor time of the second half
  against the first, and the memory that the process holds after each thousand.
- ``floor``: what one object needs at least of multiplications and of weights read, and what the machine can do.

Both ways run in the same minute on the same machine, so their ratios hold where seconds do not. Stored in
results/fast.json; docs/speed.md is written from it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import results
import torch
from equality import clips, equal
from fast_large import large
from fast_page import tables
from pages import fill
from parts import Parts, machine
from torch.utils.flop_counter import FlopCounterMode

from elysium.inference.answers import Answer, Request
from elysium.inference.clips import ClipAnswer
from elysium.inference.pipelines import Elysium
from elysium.video import read_image

DOC = Path(__file__).parents[1] / "docs" / "speed.md"
CASES = ("equal", "compat", "bfloat16", "track", "objects", "large", "floor", "long")
PARTS = ("tower", "selector", "prompt", "tokens", "scaling", "drafts", "choosing")
Figures = dict[str, Any]
FRAMES = 40  # of each sequence
CLIPS = 200
OBJECTS, MANY = 16, 9  # in each of so many clips
LONG = 10_000  # frames


# --- one object


def folders(sequences: Path) -> list[Path]:
    return sorted(path for path in sequences.iterdir() if path.is_dir())


def sequence(folder: Path) -> tuple[list[str], list[float]]:
    """The first frames of a sequence and its first box, xywh."""
    frames = sorted((folder / "frames").glob("*.jpg"))[:FRAMES]
    box = (folder / "groundtruth.txt").read_text().splitlines()[0].replace("\t", ",").split(",")
    return [str(frame) for frame in frames], [float(value) for value in box]


def track(model: Elysium, folder: Path) -> tuple[Figures, Any]:
    """One object through one sequence."""
    frames, box = sequence(folder)
    with Parts() as parts:
        answered: list[ClipAnswer] = []
        since = time.process_time()
        result = model.track(frames, boxes=[box], box_format="xywh", on_answer=answered.append)
        seconds = time.process_time() - since
    return {
        "frames": result.num_frames, "answered": sum(len(one.frames) for one in answered),
        "token_count": sum(len(model.processor.tokenizer(one.text).input_ids) + 1 for one in answered),
        "forwards": parts.forwards, "seconds": seconds, **{part: parts.seconds[part] for part in PARTS},
        "other": seconds - sum(parts.seconds.values()),
    }, result.tracks[0].boxes_xyxy  # fmt: skip


def tracks(model: Elysium, plain: Elysium, sequences: Path) -> Figures:
    """All sequences, both ways in turn."""
    rows: dict[str, list[Figures]] = {"fast": [], "reference": []}
    equal_boxes = frames = 0
    for folder in folders(sequences):
        found = {name: track(one, folder) for name, one in (("fast", model), ("reference", plain))}
        for name, (row, _) in found.items():
            rows[name].append(row)
        boxes = [boxes for _, boxes in found.values()]
        equal_boxes += int(np.isclose(*boxes, equal_nan=True).all(axis=1).sum())
        frames += len(boxes[0])
    sums = {name: {key: round(sum(row[key] for row in of), 3) for key in of[0]} for name, of in rows.items()}
    speed = [slow["seconds"] / quick["seconds"] for quick, slow in zip(rows["fast"], rows["reference"], strict=True)]
    return {
        **sums, "sequences": len(speed), "boxes": frames, "equal_boxes": equal_boxes,
        "forwards_per_frame": {name: round(row["forwards"] / row["answered"], 3) for name, row in sums.items()},
        "times_as_fast": spread(speed),
    }  # fmt: skip


def spread(ratios: list[float]) -> Figures:
    low, middle, high = (round(float(value), 2) for value in np.percentile(ratios, [25, 50, 75]))
    return {"median": middle, "quartile_1": low, "quartile_3": high}


def long(options: argparse.Namespace) -> Figures:
    """A long video: the same frames over and over."""
    command = [sys.executable, __file__, "--role", "long", "--sequences", str(options.sequences)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, mib = json.loads(out.splitlines()[-1])
    half = len(seconds) // 2
    return {
        "frames": 1000 * len(seconds), "seconds_of_thousands": seconds, "mib_of_thousands": mib,
        "second_half": round(sum(seconds[half:]) / sum(seconds[:half]), 3),
    }  # fmt: skip


def play_long(options: argparse.Namespace) -> None:
    """Prints the processor seconds of each thousand frames, and MiB held after it."""
    model = Elysium.from_pretrained(options.model, threads=1)
    paths, box = sequence(folders(options.sequences)[0])
    images = [read_image(path) for path in paths]
    x, y, width, height = box
    marks: list[tuple[float, float]] = []

    def passing() -> Iterator[Any]:
        for number in range(LONG + 1):
            if number % 1000 == 0:
                held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
                marks.append((time.process_time(), round(held, 1)))
            yield images[number % len(images)]

    model.track(passing(), boxes=[[x, y, x + width, y + height]])
    seconds = [round(later[0] - earlier[0], 2) for earlier, later in pairwise(marks)]
    print(json.dumps([seconds, [held for _, held in marks[1:]]]))


def peak(options: argparse.Namespace) -> Figures:
    """Peak memory of a process that tracks one object through one sequence, each way."""
    peaks = {}
    for name in ("fast", "reference"):
        command = [sys.executable, __file__, "--role", name, "--sequences", str(options.sequences)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks[name] = json.loads(out.splitlines()[-1])
    return {**peaks, "ratio": round(peaks["fast"] / peaks["reference"], 3)}


def play(options: argparse.Namespace) -> None:
    model = Elysium.from_pretrained(options.model, threads=1, reference=options.role == "reference")
    track(model, folders(options.sequences)[0])
    print(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1))


# --- many objects


def objects(model: Elysium, plain: Elysium, assets: Path | None) -> Figures:
    """16 objects by words in one clip, at once and, the plain way, one at a time (four, in turn with the 16)."""
    generator, number = clips(assets), 0
    ratios, equal_tracks = [], 0
    for each in (model, plain):  # builds the grammar, which is once for all
        each.track(generator.generate(0).frames, expression="the person")
    while len(ratios) < MANY:
        clip = generator.generate(number)
        number += 1
        words = [text for thing in clip.objects for text in thing.expressions][:OBJECTS]
        words = (words * OBJECTS)[:OBJECTS]
        if not words:
            continue
        fast, slow = 0.0, 0.0
        for place, one in enumerate(words[: OBJECTS // 4]):
            since = time.process_time()
            together = model.track(clip.frames, expression=words)
            between = time.process_time()
            alone = plain.track(clip.frames, expression=one)
            fast, slow = fast + between - since, slow + OBJECTS * (time.process_time() - between)
            boxes = together.tracks[place].boxes_xyxy, alone.tracks[0].boxes_xyxy
            equal_tracks += np.allclose(*boxes, equal_nan=True)
        ratios.append(slow / fast)
    return {"objects": OBJECTS, "times_as_fast": spread(ratios), "compared": MANY * OBJECTS // 4, "equal": equal_tracks}


# --- what a large language model is to write, and the least that anything takes


def said(model: Elysium, sequences: Path) -> list[tuple[Request, str]]:
    """What nano is asked and writes about the sequences."""
    heard: list[tuple[Request, str]] = []
    run = model.engine.run

    def listen(requests: Any, **options: Any) -> list[Answer]:
        answers = run(requests, **options)
        heard.extend((request, answer.text) for request, answer in zip(requests, answers, strict=True))
        return answers

    model.engine.run = listen  # type: ignore[method-assign]
    for folder in folders(sequences):
        frames, box = sequence(folder)
        model.track(frames[:15], boxes=[box], box_format="xywh")
    del model.engine.run
    return [(request, text) for request, text in heard if request.num_boxes == 8]


def floor(model: Elysium, sequences: Path, fast: Figures) -> Figures:
    """What one object takes at least: the multiplications of the tower, the selector and the prompts at the rate of
    large matrices; for the tokens, weights and cache read once a forward at the rate of memory."""
    request, _ = said(model, folders(sequences)[0].parent)[0]
    network, rates = model.model, machine()
    features = model.processor(
        text=[request.prompt], images=[list(request.frames)], regions=[list(request.regions)]
    )
    with FlopCounterMode(display=False) as tower, torch.no_grad():
        seen = network.encode_frames(features.pop("pixel_values"))
    with FlopCounterMode(display=False) as clip, torch.no_grad():
        network(**features, vision_features=seen, logits_to_keep=1)
    layers, text = network.language_model.model.layers, network.config.text_config
    weights = sum(parameter.numel() * parameter.element_size() for parameter in layers.parameters())
    cache = 2 * len(layers) * features["input_ids"].shape[1] * text.num_key_value_heads * text.head_dim * 4
    clips_per_frame = fast["answered"] / 8 / fast["frames"]
    forwards, moved = fast["forwards"] / fast["frames"], weights + cache
    return {
        **rates, "tower_gflop_per_clip": round(tower.get_total_flops() / 1e9, 3),
        "prompt_gflop_per_clip": round(clip.get_total_flops() / 1e9, 3),
        "weights_mb": round(weights / 1e6, 2), "cache_mb": round(cache / 1e6, 2),
        "mb_per_token": round(fast["forwards"] * moved / fast["token_count"] / 1e6, 2),
        "ms_per_frame": {
            "tower": round(1e-6 * clips_per_frame * tower.get_total_flops() / rates["gflops"], 2),
            "prompt": round(1e-6 * clips_per_frame * clip.get_total_flops() / rates["gflops"], 2),
            "tokens": round(1e-6 * forwards * moved / rates["gb_per_s"], 2),
        },
    }  # fmt: skip


# --- all of it


def measure(options: argparse.Namespace, before: Figures) -> Figures:
    """What is asked for; ``before`` is what was measured before."""
    model = Elysium.from_pretrained(options.model, threads=options.threads)
    plain = Elysium.from_pretrained(options.model, threads=options.threads, reference=True)
    figures: Figures = {"threads": options.threads}
    if "equal" in options.only:
        figures["equal"] = equal(model, options.assets, options.clips)
    if "compat" in options.only:
        released = Elysium.from_pretrained(options.compat, threads=options.threads)
        figures["compat"] = equal(released, options.assets, options.clips)
        figures["compat_free"] = equal(released, options.assets, options.clips // 4, free=True)
    if "bfloat16" in options.only:
        half = Elysium.from_pretrained(options.model, threads=options.threads, dtype="bfloat16")
        figures["bfloat16"] = equal(half, options.assets, options.clips // 4)
    if "track" in options.only:
        figures["track"] = {**tracks(model, plain, options.sequences), "peak_mib": peak(options)}
    if "objects" in options.only:
        figures["objects"] = objects(model, plain, options.assets)
    if "large" in options.only:
        figures["large"] = large(model, said(model, options.sequences), spread)
    if "long" in options.only:
        figures["long"] = long(options)
    if "floor" in options.only:
        figures["floor"] = floor(model, options.sequences, (before | figures)["track"]["fast"])
    return figures


def known(stored: Path) -> Figures:
    """What has been measured, and by which ``commands``."""
    figures = json.loads(stored.read_text()) if stored.is_file() else {}
    return {key: value for key, value in figures.items() if key not in ("command", "machine")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=Path, default=Path("../shared/data/sequences"))
    parser.add_argument("--assets", type=Path, default=None)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--compat", type=Path, default=Path("../shared/compat/checkpoint_trained"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(CASES), metavar=",".join(CASES))
    parser.add_argument("--role", choices=["fast", "reference", "long"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        (play_long if options.role == "long" else play)(options)
        return
    stored = results.RESULTS / "fast.json"
    found = measure(options, known(stored))
    before = known(stored)  # other cases may have been measured meanwhile
    commands = before.pop("commands", {}) | dict.fromkeys(options.only, " ".join(["python", *sys.argv]))
    results.write("fast", before | found | {"commands": commands})
    figures = json.loads(stored.read_text())
    print(json.dumps(figures, indent=1))
    fill(DOC, tables(figures))


if __name__ == "__main__":
    main()
