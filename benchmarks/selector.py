"""Does a learned choice of tokens help? One model a way of choosing, each evaluated at every number of kept tokens.

    python benchmarks/selector.py --assets ../shared/data

Everything is trained from ``configs/selector.yaml``. First one language model learns to find drawn shapes on
photographs in all tokens of a frame; every method starts from it, with a gate of its own that is fresh, and learns with
as many tokens as each batch draws. Held out: pictures and clips of the generator's ``val`` split. What is finished is
not done again: runs and scores lie in ``--runs``. ``--fast`` is a rehearsal of a minute, whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pages
import results
import torch
from torch import Tensor

from elysium.boxes import iou
from elysium.config import Phase, TrainConfig
from elysium.config_files import load_stages
from elysium.data.synth import ClipGenerator
from elysium.files import atomic_write_text, ensure_folder
from elysium.inference.answers import Request
from elysium.inference.decoding import Decoder
from elysium.inference.loading import locate
from elysium.model import ElysiumForConditionalGeneration, ElysiumProcessor
from elysium.training.collate import Collator, gate_targets
from elysium.training.features import FeatureCache, render_cache, tower_encoder
from elysium.training.materials import clip_generator
from elysium.training.recipe import DONE, run
from elysium.training.samples import Sample, SampleDataset

CONFIG = Path(__file__).parents[1] / "configs/selector.yaml"
KEPT = (12, 25, 39, 98, 196)  # 1/16, 1/8, 1/5, 1/2 and all of 196
SEEDS = (0, 1)
TAUGHT = ("loss.gate=1.0", "loss.choice=0.5")
VAL_SEED = 90_003
BASE = "base/clips"  # the last of the stages
Scores = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Method:
    """A way of choosing tokens: its gate, and how its run differs from the others'."""

    name: str
    gate: str
    told: str
    learns: bool = True
    noise: float = 1.0
    overrides: tuple[str, ...] = ()


METHODS = (
    Method("uniform", "uniform", "a fixed grid", learns=False),
    Method("legacy", "legacy", "the released formula; no gradient reaches it, as there", learns=False, noise=0.0),
    Method("average", "average", "cells of the frame, averaged", learns=False),
    Method("learned", "mlp", "the paper's gate, told which tokens lie in things", overrides=TAUGHT),
    Method("learned-answers", "mlp", "the paper's gate, taught by the answers alone"),
    Method(
        "prompt", "prompt", "nano's gate: sees the question, and writes its evidence on kept tokens", noise=0.0,
        overrides=("loss.gate=3.0", "loss.choice=0.5", "loss.votes=1.0", "data.packing=false"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How much is trained and asked."""

    kept: tuple[int, ...] = KEPT
    seeds: tuple[int, ...] = SEEDS
    base: tuple[str, ...] = ()
    each: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    pictures: int = 250
    clips: int = 80


FAST = Plan(
    (12, 196), (0,), ("stages.0.trainer.max_steps=1", "stages.1.trainer.max_steps=1"), ("trainer.max_steps=2",),
    ("data.train_clips=4", "data.still_clips=6", "trainer.per_device_train_batch_size=4", "trainer.warmup_steps=1",
     "trainer.bf16=false"),  # slow on a CPU without instructions for it
    4, 4,
)  # fmt: skip


# --- training --------------------------------------------------------------------------------------


def train(folder: Path, overrides: Sequence[str], output: Path | None = None) -> Path:
    """The model of a run that ends in ``folder``, trained unless it is there."""
    final = folder / "final"
    if not (final / DONE).exists():
        run(CONFIG, [f"output_dir={output or folder}", *overrides])
    return final


def minutes(folder: Path) -> float:
    """How long a run took that was never stopped."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return float(sum(line.get("train_runtime", 0.0) for line in lines) / 60)


def with_gate(source: str | Path, folder: Path, method: Method, seed: int) -> Path:
    """The model at ``source`` with a fresh gate, written to ``folder``."""
    given = ElysiumForConditionalGeneration.from_pretrained(locate(str(source)), dtype=torch.float32)
    processor = ElysiumProcessor.from_pretrained(locate(str(source)))
    config = given.config
    config.selector = {**config.selector, "gate": method.gate, "noise": method.noise}
    torch.manual_seed(seed)
    model = ElysiumForConditionalGeneration(config)
    kept = {name: value for name, value in given.state_dict().items() if not name.startswith("selector.")}
    model.load_state_dict(kept, strict=False)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def train_all(runs: Path, plan: Plan, methods: Sequence[Method], shared: Sequence[str]) -> None:
    """Every run that is not finished."""
    start = with_gate("nano", ensure_folder(runs / "start"), METHODS[0], 0)
    base = train(runs / BASE, [f"model.path={start}", *shared, *plan.data, *plan.base], runs / "base")
    for (method, seed), folder in folders(runs, plan, methods).items():
        if (folder / "final" / DONE).exists():
            continue
        start = with_gate(base, ensure_folder(runs / "starts" / folder.name), method, seed)
        learns = ["projector", "annotation", "language_model"]
        learns += ["selector"] if method.learns else []
        learns += ["query_embeddings", "number_scale"] if method.gate == "prompt" else []
        train(folder, [
            f"model.path={start}", f"model.learns={learns}", f"model.tokens_per_frame={list(plan.kept)}",
            f"seed={seed + 1}", "stages=null", *shared, *plan.data, *plan.each, *method.overrides,
        ])  # fmt: skip


def folders(runs: Path, plan: Plan, methods: Sequence[Method]) -> dict[tuple[Method, int], Path]:
    """Where the run of each method and seed is."""
    return {(method, seed): runs / f"{method.name}-{seed}" for seed in plan.seeds for method in methods}


# --- examination -----------------------------------------------------------------------------------


class FeatureProcessor:
    """Stands where the decoder wants a processor: prompts for k tokens a frame, and features instead of images."""

    def __init__(self, processor: ElysiumProcessor, k: int) -> None:
        self.processor, self.k = processor, k
        self.tokenizer, self.dialect = processor.tokenizer, processor.dialect

    def __call__(
        self, text: Sequence[str], images: Sequence[Sequence[Any]], queries: Any = None, **options: Any
    ) -> dict[str, Tensor]:
        ids = [self.processor.encode_prompt(prompt, self.k) for prompt in text]
        width = max(map(len, ids))
        frames = [frame for request in images for frame in request]
        return {
            "input_ids": torch.tensor([[0] * (width - len(row)) + row for row in ids]),
            "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids]),
            "vision_features": torch.from_numpy(np.stack(frames)).float(),
            "frame_counts": torch.tensor([len(request) for request in images]),
            **self.processor.query_tensors(queries),
        }


@dataclass(frozen=True)
class Exam:
    """Held-out questions: boxes in single pictures, and in every frame of clips."""

    rec: tuple[Sample, ...]
    rsot: tuple[Sample, ...]


def held_out(runs: Path, plan: Plan, config: TrainConfig, model: Any, processor: ElysiumProcessor) -> Exam:
    """Pictures and clips of the generator's val split: one question each."""
    encode, size_px = tower_encoder(model, processor.image_processor), processor.image_processor.image_size

    def rendered(name: str, count: int, frames: int, seed: int) -> FeatureCache:
        def generator() -> ClipGenerator:
            synth = {**config.data.synth, "num_frames": frames, "size_px": size_px}
            return clip_generator(config.data, "val", seed, synth)

        return render_cache(config.data.cache_dir / name, count, generator, encode)

    def asked(cache: FeatureCache, task: str, frames: int, count: int) -> tuple[Sample, ...]:
        told = config.data.model_copy(update={"tasks": {task: 1.0}, "paraphrase_share": 0.0, "group_size": 1})
        samples = SampleDataset(cache, count, 1, (Phase(until=1.0, frames=frames),), told, VAL_SEED, region_mark=False)
        return tuple(samples[i] for i in range(count))

    pictures = rendered("val-pictures", plan.pictures, 1, VAL_SEED)
    clips = rendered("val-clips", plan.clips, config.data.synth["num_frames"], VAL_SEED + 1)
    frames = config.phases[-1].frames
    return Exam(asked(pictures, "REC", 1, plan.pictures), asked(clips, "RSOT", frames, plan.clips))


@torch.inference_mode()
def answer(model: Any, processor: ElysiumProcessor, k: int, samples: Sequence[Sample]) -> list[np.ndarray]:
    """IoU in each frame of each sample, answers written freely under the grammar; NaN where the object is absent."""
    decoder = Decoder(model, FeatureProcessor(processor, k))
    ious = []
    for start in range(0, len(samples), 32):
        part = samples[start : start + 32]
        requests = [
            Request(s.prompt, [np.array(f) for f in s.features], query=s.query, num_boxes=len(s.boxes),
                    single_box=s.task.value == "REC") for s in part
        ]  # fmt: skip
        for sample, said in zip(part, decoder.decode(requests), strict=True):
            boxes = np.zeros((len(sample.boxes), 4)) if said.boxes_bins is None else said.boxes_bins / 100
            there = ~np.isnan(sample.boxes[:, 0])
            ious.append(np.where(there, iou(np.nan_to_num(boxes), np.nan_to_num(sample.boxes)), np.nan))
    return ious


@torch.inference_mode()
def coverage(model: Any, processor: ElysiumProcessor, k: int, samples: Sequence[Sample]) -> tuple[float, float]:
    """Over frames with the object: the mean share of its tokens that is kept, and how often any is."""
    collator = Collator(processor, [], model.vision.grid, tokens_per_frame=(k,))
    shares = []
    for start in range(0, len(samples), 32):
        part = samples[start : start + 32]
        batch = collator(part)
        inputs = {key: batch[key] for key in (
            "input_ids", "vision_features", "frame_ids", "frame_counts", "query_ids", "query_mask") if key in batch
        }  # fmt: skip
        selected = model(**inputs, only_select=True).selected
        inside = torch.cat([gate_targets(torch.from_numpy(s.boxes), model.vision.grid) for s in part]) > 0.5
        there = inside.any(dim=1)
        shares.append((inside.gather(1, selected).sum(dim=1) / inside.sum(dim=1).clamp_min(1))[there])
    all_shares = torch.cat(shares)
    return float(all_shares.mean()), float((all_shares > 0).float().mean())


def examine(path: Path, plan: Plan, exam: Exam, merges: bool) -> Scores:
    """The scores of a model at every number of kept tokens, by that number as text."""
    model = ElysiumForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()
    processor = ElysiumProcessor.from_pretrained(path)
    scores: Scores = {}
    for k in plan.kept:
        rec = np.concatenate(answer(model, processor, k, exam.rec))
        rsot = np.concatenate(answer(model, processor, k, exam.rsot))
        kept, touched = coverage(model, processor, k, exam.rec)
        scores[str(k)] = {
            "rec_accuracy": float((rec > 0.5).mean()), "rec_iou": float(rec.mean()),
            "rsot_iou": float(np.nanmean(rsot)), "rsot_accuracy": float((rsot[~np.isnan(rsot)] > 0.5).mean()),
            "coverage": None if merges else kept, "touched": None if merges else touched,
        }  # fmt: skip
    return scores


def scores_of(folder: Path, plan: Plan, exam: Exam, merges: bool) -> Scores:
    """The scores of a finished run, kept beside it."""
    kept = folder / "scores.json"
    if not kept.exists():
        atomic_write_text(kept, json.dumps(examine(folder / "final", plan, exam, merges), indent=1) + "\n")
    found: Scores = json.loads(kept.read_text())
    return found


# --- tables ----------------------------------------------------------------------------------------

TABLES = (
    ("rec_accuracy", "REC, pictures with IoU > 0.5"),
    ("rec_iou", "REC, mean IoU"),
    ("rsot_iou", "RSOT, mean IoU over frames"),
    ("coverage", "Coverage: share of the target's tokens that is kept (REC)"),
    ("touched", "Pictures in which at least one token of the target is kept (REC)"),
)


def table(figure: str, title: str, scores: dict[str, Scores], kept: Sequence[int]) -> str:
    """Markdown: the mean over seeds in per cent, and each seed in brackets."""
    names = list(dict.fromkeys(name.rpartition("-")[0] for name in scores))
    rows = []
    for name in names:
        runs = [found for run_name, found in scores.items() if run_name.rpartition("-")[0] == name]
        rows.append([name, *(_cell([run[str(k)][figure] for run in runs]) for k in kept)])
    return pages.table([title, *(f"k = {k}" for k in kept)], rows)


def _cell(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "–"
    single = ", ".join(f"{value:.1f}" for value in known)
    return f"{np.mean(known):.1f} ({single})" if len(known) > 1 else single


def tables(scores: dict[str, Scores], kept: Sequence[int]) -> str:
    """All tables in Markdown."""
    return "\n\n".join(table(figure, title, scores, kept) for figure, title in TABLES)


def photos_alone(assets: Path | None, runs: Path) -> str:
    """The override that names a folder with the photographs of ``assets`` and nothing else."""
    if assets is None:
        return "data.assets=null"
    folder = ensure_folder(runs / "assets")
    if not (folder / "photos").exists():
        (folder / "photos").symlink_to((assets / "photos").resolve(), target_is_directory=True)
    return f"data.assets={folder}"


def examined(
    runs: Path, plan: Plan, methods: Sequence[Method], shared: Sequence[str]
) -> tuple[Exam, dict[str, Scores]]:
    """What was asked, and the scores of the finished runs by their names."""
    config = load_stages(CONFIG, [*shared, *plan.data, *plan.base])[0]
    base = runs / BASE / "final"
    model = ElysiumForConditionalGeneration.from_pretrained(base, dtype=torch.float32).eval()
    exam = held_out(runs, plan, config, model, ElysiumProcessor.from_pretrained(base))
    finished: dict[Method, list[Path]] = {method: [] for method in methods}
    for (method, _), folder in folders(runs, plan, methods).items():
        if (folder / "final" / DONE).exists():
            finished[method].append(folder)
    return exam, {folder.name: scores_of(folder, plan, exam, method.gate == "average")
                  for method, found in finished.items() for folder in found}  # fmt: skip


def store(runs: Path, methods: Sequence[Method], exam: Exam, scores: dict[str, Scores]) -> None:
    """Write the scores, and how they came about, to ``results/selector.json``."""
    made = [*(f"base/{stage}" for stage in ("pictures", "clips")), *scores]
    results.write("selector", {
        "questions": {"REC": len(exam.rec), "RSOT": len(exam.rsot)}, "methods": {m.name: m.told for m in methods},
        "training_minutes": {name: round(minutes(runs / name), 1) for name in made}, "scores": scores,
    })  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [m.name for m in METHODS]
    parser.add_argument("--assets", type=Path, default=None, help="a folder with photos/; without it, drawn textures")
    parser.add_argument("--runs", type=Path, default=Path("runs/selector"))
    parser.add_argument("--methods", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=None)
    parser.add_argument("--finished", action="store_true", help="train nothing: examine what is finished")
    parser.add_argument("--fast", action="store_true", help="a rehearsal")
    parser.add_argument("--docs", type=Path, default=Path("docs/selector.md"), help="the page that gets the tables")
    options = parser.parse_args()
    plan = FAST if options.fast else Plan(seeds=tuple(options.seeds or SEEDS))
    shared = [photos_alone(options.assets, options.runs), f"data.cache_dir={options.runs / 'cache'}"]
    methods = [m for m in METHODS if m.name in options.methods]
    if not options.finished:
        train_all(options.runs, plan, methods, shared)
    exam, scores = examined(options.runs, plan, methods, shared)
    text = tables(scores, plan.kept)
    print(text)
    if not options.fast:
        store(options.runs, methods, exam, scores)
        if options.docs.exists():
            pages.fill(options.docs, {"figures": text})


if __name__ == "__main__":
    main()
