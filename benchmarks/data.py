"""Reading what is trained on: samples per second against a plain Pillow loop, from an index and from shards, and a file
as large as ElysiumTrack-1M.

    python benchmarks/data.py [--records 1270000] [--fast]

- ``loader``: one process on one core draws training samples of eight frames (336 px) from records over the JPEG frames
  of the bundled clip; a plain loop opens, converts and scales the same files with Pillow, sample by sample in turn.
  Once with a question for each clip, once with five about the same frames, as nano is trained.
- ``shards``: samples of eight frames, one of each of 48 clips of 60 frames in a folder, in tar and in Parquet shards,
  in turn; all files have been read before, so that no disk is measured.
- ``file``: a file of so many records of 60 frames is indexed, opened again, and records are read from all over it, each
  in a process of its own; seconds, and the peak of the resident memory. Then a training sample is drawn from it (the
  memory of what is imported for that, which PyTorch is not among, is told as well).

``--fast`` is a toy version and stores nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

SIZE_PX, FRAMES, SAMPLES = 336, 8, 60
CLIPS, SHARD, WINDOW = 48, 16, 16
RECORD_FRAMES, READ = 60, 2000
Figures = dict[str, Any]


def loader(folder: Path) -> Figures:
    """Samples per second, ours and Pillow's, the median over samples; by how many questions share their frames."""
    from elysium.config import DataSection, Phase
    from elysium.data.frames import extract_frames
    from elysium.training.samples import SampleDataset
    from elysium.training.sources import RecordClips

    clip = Path(str(files("elysium"))) / "assets" / "pedestrians.mp4"
    found = extract_frames(clip, folder / "frames" / clip.stem)
    names = [f"frames/{clip.stem}/{file.name}" for file in found.files]
    (folder / "tracks.jsonl").write_text("".join(line(f"r{i}", names, 0.1 * i) for i in range(5)))
    figures: Figures = {"frame_wh": list(found.resolution_wh), "frames_a_sample": FRAMES, "size_px": SIZE_PX}
    for questions in (1, 5):
        asked = DataSection(
            train_clips=0, sources=[{"annotations": folder / "tracks.jsonl", "images": folder}],
            tasks={"SOT": 0.6, "RSOT": 0.4}, group_size=questions, max_interval=20,
        )  # fmt: skip
        clips = RecordClips(folder / "tracks.jsonl", folder, SIZE_PX)
        samples = SampleDataset(clips, 4 * SAMPLES, 4, [Phase(until=1.0, frames=FRAMES)], asked)
        figures[f"questions_{questions}"] = in_turn(samples, folder, names)
    return figures


def in_turn(samples: Any, folder: Path, names: list[str]) -> Figures:
    """Seconds of the processor for each sample and for the same files in a plain loop, one after the other."""
    from elysium.training import sources

    ours, plain = [], []
    for index in range(SAMPLES):
        if index % samples.asked.group_size == 0:
            sources._read.cache_clear()  # the clip is so short that all of its frames would be kept
        start = time.process_time()
        sample = samples[index]
        ours.append(time.process_time() - start)
        start = time.process_time()
        pillow([folder / names[frame] for _, _, frame in sample.frame_keys])
        plain.append(time.process_time() - start)
    mean = {"ours": sum(ours) / SAMPLES, "pillow": sum(plain) / SAMPLES}
    return {
        "samples_per_s": {who: round(1 / seconds, 2) for who, seconds in mean.items()},
        "ratio": round(mean["pillow"] / mean["ours"], 3),
        "ratio_median": round(median(b / a for a, b in zip(ours, plain, strict=True)), 3),
    }


def shards(folder: Path, clips: int) -> Figures:
    """Samples per second of the processor, by where they come from, and bytes on the disk."""
    import datasets.distributed  # noqa: F401  # they take seconds, which belong to no sample
    import torch  # noqa: F401

    from elysium.config import DataSection, Phase
    from elysium.data.sharding import shard
    from elysium.training.dealing import Deal, Mixture
    from elysium.training.samples import SampleDataset
    from elysium.training.sources import Clips, RecordClips, _read
    from elysium.training.streams import ShardClips

    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))
    path = folder / "clips.jsonl"
    turned = ((names[start:] + names[:start])[:RECORD_FRAMES] for start in range(clips))  # no two are one clip
    path.write_text("".join(line(f"c{number}", frames, 0.1) for number, frames in enumerate(turned)))
    sources: dict[str, Clips] = {"index": RecordClips(path, folder, SIZE_PX)}
    for form, suffix in (("webdataset", "tar"), ("parquet", "parquet")):
        shard(path, folder / form, folder, form=form, clips=SHARD)  # type: ignore[arg-type]
        sources[form] = ShardClips(f"{folder}/{form}/*.{suffix}", SIZE_PX, WINDOW)
    asked = DataSection(train_clips=0, sources=[{"annotations": path, "images": folder}], tasks={"SOT": 1.0})
    deal = Deal(Mixture((1.0,), 0), 0, 1)
    drawn = {
        name: SampleDataset(source, clips, 1, [Phase(until=1.0, frames=FRAMES)], asked, deal=deal)
        for name, source in sources.items()
    }
    seconds = dict.fromkeys(drawn, 0.0)
    for index in range(clips):
        for name, samples in drawn.items():
            _read.cache_clear()  # clips of the same few frames
            start = time.process_time()
            samples[index]
            seconds[name] += time.process_time() - start
    held = sum((folder / name).stat().st_size for name in names) / len(names) * RECORD_FRAMES * clips
    stored = {name: sum(p.stat().st_size for p in (folder / name).iterdir()) for name in seconds if name != "index"}
    return {
        "clips": clips, "frames_a_clip": RECORD_FRAMES, "window": WINDOW,
        "samples_per_s": {name: round(clips / spent, 2) for name, spent in seconds.items()},
        "megabytes": {name: round(size / 1e6, 1) for name, size in {"index": held, **stored}.items()},
    }  # fmt: skip


def pillow(paths: list[Path]) -> list[Any]:
    """What anybody would write."""
    import numpy as np
    from PIL import Image

    return [np.array(Image.open(path).convert("RGB").resize((SIZE_PX, SIZE_PX))) for path in paths]


def line(id: str, names: list[str], left: float) -> str:
    box = [round(left, 3), 0.2, round(left + 0.3, 3), 0.7]
    record = {
        "source": "test", "id": id, "vid": names[0].rpartition("/")[0], "metadata": {}, "frames": names,
        "object_class": "person", "box": [box] * len(names), "object_description": "the person in the red coat",
        "frame_size": [1280, 720],
    }  # fmt: skip
    return json.dumps(record) + "\n"


def write(path: Path, records: int) -> None:
    """Three tracks a video."""
    with path.open("w") as file:
        for number in range(records):
            names = [f"group{number // 30000:03d}/{number // 3:07d}/{i:06d}.jpg" for i in range(RECORD_FRAMES)]
            file.write(line(f"track{number}", names, 0.2 * (number % 3)))


def play(role: str, path: Path) -> Figures:
    """What a process does: makes the index, or opens the file and reads, or draws samples."""
    before = peak_mib()
    start = time.perf_counter()
    if role == "samples":
        return draw(path)
    from elysium.data.records.index import RecordFile

    start = time.perf_counter()
    records = RecordFile(path)
    opened = time.perf_counter() - start
    first = records[len(records) // 2]
    seconds = time.perf_counter() - start
    assert len(first.frames) == RECORD_FRAMES
    start = time.perf_counter()
    for number in range(0, len(records), max(1, len(records) // READ)):
        records[number]
    read = (time.perf_counter() - start) / min(READ, len(records))
    return {
        "open_s": round(opened, 3), "first_record_s": round(seconds, 3), "record_us": round(read * 1e6, 1),
        "peak_mib": peak_mib(), "start_mib": before,
    }  # fmt: skip


def draw(path: Path) -> Figures:
    """Open for training and draw one sample, whose images are replaced by nothing."""
    import numpy as np

    from elysium.config import DataSection, Phase
    from elysium.training import sources
    from elysium.training.samples import SampleDataset

    assert "torch" not in sys.modules
    sources._read = lambda images, name, size: np.zeros((size, size, 3), np.uint8)
    sources.check_images = lambda records, images: None
    imported, start = peak_mib(), time.perf_counter()
    asked = DataSection(train_clips=0, sources=[{"annotations": path, "images": path.parent}], tasks={"SOT": 1.0})
    clips = sources.RecordClips(path, path.parent, SIZE_PX)
    sample = SampleDataset(clips, 8, 4, [Phase(until=1.0, frames=FRAMES)], asked)[0]
    assert len(sample.boxes) == FRAMES
    return {
        "clips": len(clips), "first_sample_s": round(time.perf_counter() - start, 3), "peak_mib": peak_mib(),
        "imports_mib": imported,
    }  # fmt: skip


def peak_mib() -> float:
    """Of this process alone: what getrusage tells of a child includes what its parent had when it began."""
    (line,) = (row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024, 1)


def child(role: str, path: Path) -> Figures:
    command = [sys.executable, __file__, "--role", role, "--file", str(path)]
    figures: Figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_270_000)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        print(json.dumps(play(options.role, options.file)))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures: Figures = {"load_average": round(os.getloadavg()[0], 1), "loader": loader(Path(folder))}
        figures["shards"] = shards(Path(folder), 6 if options.fast else CLIPS)
        path = Path(folder) / "large.jsonl"
        write(path, 20_000 if options.fast else options.records)
        figures["file"] = {
            "records": 20_000 if options.fast else options.records, "gigabytes": round(path.stat().st_size / 1e9, 2),
            **{role: child(role, path) for role in ("index", "open", "samples")},
        }  # fmt: skip
    print(json.dumps(figures, indent=1))
    if not options.fast:
        import results

        results.write("data", figures)


if __name__ == "__main__":
    main()
