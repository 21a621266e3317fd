"""`elysium build` on known truth, its speed and its memory.

    python benchmarks/building.py truth --assets ../shared/data --videos 60
    python benchmarks/building.py real --videos ../shared/data/videos --output runs/building-real
    python benchmarks/building.py speed --assets ../shared/data
    python benchmarks/building.py memory

truth: clips made by program from the generator's held-out split, written as H.264, with a caption of the plain
expressions of what can be named in them. A trajectory is right if its mean IoU with the thing that its phrase names is
0.5 or more; precision: of all that were kept, recall: of all things that captions name. What each rule buys: the same
without it.
speed: seconds of the processor by stage, and the plain loop, 1 and 2 workers side by side. memory: the peak of every
process, for 100 and for 1,000 clips, with plug-ins that cost nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import results

from elysium.boxes import FloatArray, denormalize, iou
from elysium.building.account import write_files
from elysium.building.captions import CaptionedVideo, read_captions
from elysium.building.checking import Share, judge, read_sheet
from elysium.building.pipeline import Plan, advanced, build
from elysium.building.results import VideoResult
from elysium.building.samples import samples_of
from elysium.building.settings import BuildSettings
from elysium.building.staff import Stages, choose
from elysium.building.stages import Trajectory
from elysium.building.store import Store
from elysium.config_files import load_section
from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.video import VideoWriter

SIZE_PX, FRAMES, FPS, SEED = 256, 24, 25.0, 90_003
RIGHT_IOU = 0.5
RULES = {  # rule -> the codes of its reasons
    "length": ("length",), "size": ("too-small", "too-large"), "confidence": ("confidence",), "drift": ("drift",),
    "overlap": ("overlap",), "duplicate": ("duplicate",),
}  # fmt: skip
CHEAP = [
    "nouns.plugin=building_plugins:CommaNouns", "grounding.plugin=building_plugins:MiddleGrounder",
    "following.plugin=building_plugins:StillFollower", "filters.shots.enabled=false",
]  # fmt: skip
ONCE = ["following.plugin=building_plugins:RememberingFollower"]  # both settings of grounding start from the same boxes
FEW_AND_MANY = (100, 1000)  # clips
Figures = dict[str, Any]


@dataclass(frozen=True)
class Thing:
    """What a caption names: the words, and the true boxes (T, 4) in pixels, NaN where it is absent."""

    words: str
    boxes_xyxy: FloatArray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("truth", "real", "speed", "memory", "carry"))
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--videos", default="60", help="truth and speed: how many; real: their folder")
    parser.add_argument("--output", type=Path)
    options = parser.parse_intermixed_args()
    parts = {"truth": truth, "real": real, "speed": speed, "memory": memory}
    if options.part == "carry":
        carry(options)
        return
    figures = parts[options.part](options)
    print(json.dumps(figures, indent=1))
    results.write(f"building_{options.part}", figures)


# --- known truth ---


def truth(options: argparse.Namespace) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        things = write_world(place, options.assets, int(options.videos))
        figures: Figures = {"videos": len(things), "things": sum(map(len, things.values())), "frames": FRAMES}
        for name, more in (("defaults", []), ("without witnesses", ["grounding.witnesses=none"])):
            built, plan = run(place, place / name, [*ONCE, *options.settings, *more])
            figures[name] = judged(built, things)
            figures.setdefault("plugins", named(plan))
        return figures


def named(plan: Plan) -> dict[str, str]:
    """The plug-ins of a build by stage."""
    stages = Stages(plan.staff)
    return {"nouns": stages.nouns.name, "grounding": stages.grounder.name, "following": stages.follower.name}


def write_world(folder: Path, assets: Path | None, count: int) -> dict[str, list[Thing]]:
    """``count`` videos and captions.jsonl in ``folder``; the things that each caption names, by the video's id."""
    config = SynthConfig(size_px=SIZE_PX, num_frames=FRAMES, min_objects=2, max_objects=4, motion=0.5, patch_share=0.0,
                         region_probability=0.0)  # fmt: skip
    generator = ClipGenerator(config, AssetLibrary.from_folder(assets, "val"), seed=SEED)
    things: dict[str, list[Thing]] = {}
    lines, index = [], 0
    while len(things) < count:
        clip = generator.generate(index)
        index += 1
        named = [
            Thing(plain, denormalize(thing.boxes_xyxyn, (SIZE_PX, SIZE_PX)))
            for thing in clip.objects
            if np.isfinite(thing.boxes_xyxyn[0]).all() and (plain := plain_words(thing.expressions, thing.noun))
        ]
        if not named:
            continue
        id = f"clip{len(things):04d}"
        things[id] = named
        with VideoWriter(folder / f"{id}.mp4", FPS, (SIZE_PX, SIZE_PX)) as writer:
            for image in clip.frames:
                writer.write(image)
        caption = " and ".join([", ".join(thing.words for thing in named[:-1]), named[-1].words]).removeprefix(" and ")
        lines.append({"video": f"{id}.mp4", "caption": f"{caption[0].upper()}{caption[1:]}."})
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return things


def plain_words(expressions: Sequence[str], noun: str) -> str:
    """The first expression that ends with the noun: its colour and pattern at most stand before it."""
    return next((f"the {text.removeprefix('the ')}" for text in expressions if text.endswith(noun)), "")


def run(folder: Path, output: Path, overrides: Sequence[str], workers: int = 0) -> tuple[list[VideoResult], Plan]:
    """Build what ``folder`` has captions of; all results, in their order."""
    items = read_captions(folder / "captions.jsonl")
    plan = planned(folder, output, overrides)
    done = build(items, plan, workers)
    assert not done.failures, done.failures
    return [plan.store.load(item.id) for item in items], plan


def planned(videos: Path, output: Path, overrides: Sequence[str]) -> Plan:
    settings = load_section(BuildSettings, None, list(overrides), "the settings")
    plan = Plan(settings, choose(settings), videos, Store(output))
    plan.store.prepare()
    return plan


def judged(built: Sequence[VideoResult], things: Mapping[str, Sequence[Thing]]) -> Figures:
    """Precision and recall as they are, and without each rule; and where things were lost."""
    found = [(result.id, trajectory, reasons) for result in built for trajectory, reasons in trajectories(result)]
    right = [thing_of(trajectory, things[id]) for id, trajectory, _ in found]
    total = sum(map(len, things.values()))
    figures: Figures = {"all rules": scores(found, right, total, ())}
    for rule, codes in RULES.items():
        figures[f"without {rule}"] = scores(found, right, total, codes)
    figures["no rule"] = scores(found, right, total, tuple(code for codes in RULES.values() for code in codes))
    lost = Counter(f"{loss.stage}: {loss.dropped.reason}" for result in built for loss in result.losses)
    return {"rules": figures, "lost": dict(sorted(lost.items())), "boxes": sum(result.grounded for result in built)}


def trajectories(result: VideoResult) -> Iterator[tuple[Trajectory, tuple[str, ...]]]:
    """All trajectories of a video with the codes of the rules that find fault with them."""
    yield from ((one, ()) for one in result.kept)
    yield from ((loss.trajectory, loss.reasons) for loss in result.losses if loss.trajectory is not None)


def thing_of(trajectory: Trajectory, things: Sequence[Thing]) -> int | None:
    """The number of the thing that a trajectory's phrase names, if it follows it; else None."""
    words = trajectory.grounded.phrase.text
    for number, thing in enumerate(things):
        if thing.words.endswith(words):
            there = np.isfinite(thing.boxes_xyxy).all(axis=1)
            overlaps = iou(np.nan_to_num(trajectory.boxes_xyxy), np.nan_to_num(thing.boxes_xyxy))
            if float(overlaps[there].mean()) >= RIGHT_IOU:
                return number
    return None


def scores(
    found: Sequence[tuple[str, Trajectory, tuple[str, ...]]], right: Sequence[int | None], total: int,
    without: Sequence[str],
) -> Figures:  # fmt: skip
    """Precision and recall of what is kept when the codes ``without`` do not count."""
    kept = [n for n, (_, _, reasons) in enumerate(found) if not set(reasons) - set(without)]
    hits = [(found[n][0], right[n]) for n in kept if right[n] is not None]
    precision = Share(len(hits), len(kept))
    return {
        "kept": len(kept), "right": len(hits), "precision": precision.value, "interval": precision.interval,
        "recall": len(set(hits)) / total,
    }  # fmt: skip


# --- real clips ---


def real(options: argparse.Namespace) -> Figures:
    captions = Path(__file__).with_name("building_captions.jsonl")
    items, plan = read_captions(captions), planned(Path(options.videos), options.output, options.settings)
    done = build(items, plan, 0)
    funnel = write_files(plan, items, done.failures, captions)
    built = [plan.store.load(item.id) for item in items]
    return {
        "plugins": named(plan), "settings": options.settings, "checked": checked(built), "funnel": funnel.to_json(),
        "kept": [[result.id, one.grounded.phrase.expression] for result in built for one in result.kept],
        "cpu_s": spent(built),
    }  # fmt: skip


def checked(built: Sequence[VideoResult]) -> Figures | None:
    """What the verdicts of `building_check.csv` say, if they are about these samples."""
    rows = read_sheet(Path(__file__).with_name("building_check.csv"))
    samples = {sample.name: sample.outcome for result in built for sample in samples_of(result)}
    if {row.sample for row in rows} != set(samples):
        return None
    verdicts = judge(rows, samples.items())
    return {"precision": str(verdicts.precision), "missed": str(verdicts.missed)}


def spent(built: Sequence[VideoResult]) -> dict[str, float]:
    """Mean seconds of the processor a video, by stage."""
    return {stage: round(mean(result.cpu_s[stage] for result in built), 4) for stage in built[0].cpu_s}


# --- speed ---


def speed(options: argparse.Namespace) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_world(place, options.assets, int(options.videos))
        items = read_captions(place / "captions.jsonl")
        runs = {
            name: timed(place, place / name, options.settings, items, workers)
            for name, workers in (("plain loop", 0), ("1 worker", 1), ("2 workers", 2))
        }
        built = [Store(place / "plain loop").load(item.id) for item in items]
        by_stage = spent(built)
        return {
            "videos": len(items), "frames": FRAMES, "size_px": SIZE_PX, "load_average": round(os.getloadavg()[0], 1),
            "phrases": mean(result.phrases for result in built), "boxes": mean(result.grounded for result in built),
            "cpu_s": by_stage,
            "videos_per_core_hour": {stage: round(3600 / max(s, 1e-4)) for stage, s in by_stage.items()}
            | {"all": round(3600 / sum(by_stage.values()))},
            "runs": runs,
        }  # fmt: skip


def timed(
    videos: Path, output: Path, overrides: Sequence[str], items: Sequence[CaptionedVideo], workers: int
) -> Figures:
    """Seconds on the clock, in all and from the first to the last video, and of the processor: stages, this process."""
    plan = planned(videos, output, overrides)
    began, cpu = time.perf_counter(), time.process_time()
    ends = [time.perf_counter() for task in advanced(plan, items, workers, None) if not task.error]
    assert len(ends) == len(items)
    stages = sum(sum(plan.store.load(item.id).cpu_s.values()) for item in items)
    return {
        "clock_s": round(time.perf_counter() - began, 2),
        "steady_s_per_video": round((ends[-1] - ends[0]) / (len(items) - 1), 4),
        "stages_cpu_s_per_video": round(stages / len(items), 4),
        "driver_cpu_s": round(time.process_time() - cpu - (0 if workers else stages), 2),
    }


# --- memory ---


def memory(options: argparse.Namespace) -> Figures:
    """Each run in a process of its own: what one leaves behind would count for the next."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with VideoWriter(place / "grey.mp4", FPS, (96, 64)) as writer:
            for number in range(12):
                writer.write(np.full((64, 96, 3), 10 * number, dtype=np.uint8))
        for count in FEW_AND_MANY:
            lines = [{"video": "grey.mp4", "caption": "a thing, a thing, a thing", "id": f"c{n}"} for n in range(count)]
            (place / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            for workers in (0, 1, 2):
                command = [sys.executable, __file__, "carry", f"running.workers={workers}", "--videos", folder]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                figures[f"{count} clips, {workers} workers"] = json.loads(done.stdout)
    return figures


def carry(options: argparse.Namespace) -> None:
    """One run of `memory`: prints the peaks."""
    place = Path(options.videos)
    plan = planned(place, Path(tempfile.mkdtemp(dir=place)), [*CHEAP, *options.settings])
    with peaks() as found:
        items = read_captions(place / "captions.jsonl")
        done = build(items, plan, plan.settings.running.workers)
        write_files(plan, items, done.failures, place / "captions.jsonl")
    assert done.built == len(items)
    print(json.dumps(found))


@contextmanager
def peaks() -> Iterator[dict[str, float]]:
    """Peak memory in MiB of this process and of those below it that build, by what they are, and seconds of the
    processor of all of them (`cpu_s`), those that Ray keeps for itself among them; read twice a second."""
    found: dict[str, float] = {}
    seconds: dict[int, float] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
                if (name := role(pid)) and (now := resident(pid)):
                    found[name] = max(found.get(name, 0.0), now)
                    seconds[pid] = cpu_seconds(pid)
            found["cpu_s"] = round(sum(seconds.values()), 2)
            found.pop("ray", None)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def role(pid: int) -> str:
    """What a process is for: "driver" for this one, "worker" for those that build; "" for all others."""
    if pid == os.getpid():
        return "driver"
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
    if str(os.getpid()) not in ancestors(pid):
        return ""
    return "worker" if "ray::MapWorker" in title else "ray"


def cpu_seconds(pid: int) -> float:
    """Of a process, in user and system mode, so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ancestors(pid: int) -> Iterator[str]:
    """The processes above one."""
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return
        yield str(pid)


def resident(pid: int) -> float:
    """MiB in memory now, without what is shared with others (Ray's store is)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssFile"))) / 1024


if __name__ == "__main__":
    main()
