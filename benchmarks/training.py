"""Training against a plain PyTorch loop: real tokens per second, peak memory; padding; what packing saves.

    python benchmarks/training.py [--threads 2] [--fast] [--only smoke,350m,padding,packing] [--table]

Speed: processes of our trainer and of a loop without Trainer step in turn (ours, loop, ours, loop ...), so that what
else the machine does slows both. Ours is the recipe's; the loop goes through a DataLoader over the same samples, and
has the same weights to start from, the same AdamW, schedule and clipping. Its loss is that of the model's ``labels`` in
`350m`; in `smoke` it is our loss, which the model does not have, of logits of all tokens. A third of `smoke`, `handed`,
is a loop as tight as can be: it neither reads, draws nor collates, but is given the very batches that ours has just
made, and has logits of answers alone, as ours. None of them validates or saves; `shipped` is configs/smoke.yaml with
both. Tokens are those of ``input_ids`` without padding. Seconds are of the clock and of the processor, the latter
hardly changed by what else runs. Memory is the peak resident size of each process; that of `handed` has neither Trainer
nor data code in it.

- ``smoke``: configs/smoke.yaml. ``350m``: a CLIP-like tower and a LLaMA of 350M parameters with random weights, the
  whole language model learning in bfloat16 autocast, from records with frames.
- ``padding``: the share of padding in ``input_ids``. ``packing``: the same questions packed and not.

``--fast`` is a toy version and stores nothing. ``--only`` measures some and leaves the stored figures of the others.
``--table`` measures nothing: it writes the tables of docs/training-speed.md from the stored figures, as a run does in
the end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import results
import torch
import yaml
from pages import fill, table
from torch import Tensor
from transformers.optimization import get_scheduler

from elysium.config import TrainConfig
from elysium.config_files import load_stages
from elysium.training.loss import AnswerLoss, GateLoss, gate_parts, name_loss, total
from elysium.training.starting import freeze, given_start

# What trains and what reads data is imported by the roles that use it: the plain loop's memory is measured without.

ROOT = Path(__file__).parents[1]
DOC = ROOT / "docs" / "training-speed.md"
Figures = dict[str, Any]
WARM_UP = 2  # steps that do not count
BATCHES = 40  # that padding is counted on
ROUNDS = 3  # of packing
SIZE_PX = 224
TOWER = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6}
LLAMA = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 20, "num_attention_heads": 16}
TOY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
VOCABULARY = 32000
COMPARED = (("smoke", "loop"), ("350m", "loop"), ("smoke", "handed"))
CASES = ("smoke", "350m", "padding", "packing")
PADDED = {
    "smoke": "`configs/smoke.yaml`",
    "nano": "`configs/nano.yaml`, last stage",
    "350m": "`350m`: records, SOT, RSOT and Video-REG",
    "tracks": "records, six tasks",
    "chats": "records, six tasks, and chats of 1 to 40 words about pictures and clips (three batches in ten)",
    "packed": "`350m` with packing",
}
BOX_TASKS = {"SOT": 0.5, "RSOT": 0.35, "VIDEO_REG": 0.15}  # those of configs/lora-7b.yaml
ALL_TASKS = {"SOT": 0.3, "RSOT": 0.2, "VIDEO_REG": 0.1, "REC": 0.2, "REG": 0.1, "VIDEO_QA": 0.1}


# --- what is trained


def config_of(case: str, folder: Path, fast: bool) -> TrainConfig:
    """The configuration of a case, steps and nothing else unless it is as ``shipped``."""
    if case == "nano":
        stage = load_stages(ROOT / "configs" / "nano.yaml", ["data.assets=null", f"data.cache_dir={cached_nano()}"])[-1]
        return stage.model_copy(update={"model": stage.model.model_copy(update={"path": Path("nano")})})
    if case not in ("smoke", "shipped"):
        return load_stages(folder / f"{case}.yaml")[0]
    changes = [f"output_dir={folder / case}", f"data.cache_dir={folder / 'cache'}"]
    changes += ['trainer.eval_strategy="no"', 'trainer.save_strategy="no"'] if case == "smoke" else []
    changes += ["data.train_clips=8", "trainer.max_steps=6", 'trainer.eval_strategy="no"'] if fast else []
    return load_stages(ROOT / "configs" / "smoke.yaml", changes)[0]


def cached_nano() -> Path:
    return ROOT / "runs" / "nano" / "cache"


def records_config(folder: Path, name: str, batch: int, steps: int, **data: Any) -> Figures:
    """Four frames of 36 kept tokens each, a question and its answer, from records."""
    selector = {"gate": "mlp", "num_tokens": 36, "hidden_size": 256, "noise": 0.0}
    parts = {"vision": str(folder / "tower"), "language": str(folder / "llama"), "selector": selector}
    trainer = {"max_steps": steps, "per_device_train_batch_size": batch, "learning_rate": 1e-4, "bf16": True}
    quiet = {"lr_scheduler_type": "cosine", "logging_steps": 2, "save_strategy": "no", "disable_tqdm": True}
    return {
        "output_dir": str(folder / name),
        "model": {"compose": parts},
        "data": {"train_clips": 0, "val_clips": 0, "sources": [source(folder, "tracks")], "tasks": BOX_TASKS, **data},
        "phases": [{"until": 1.0, "frames": 4}],
        "loss": {"gate": 0.0, "choice": 0.0, "votes": 0.0, "number_sigma": 0.0},
        "trainer": {**trainer, **quiet},
    }


def source(folder: Path, name: str, **more: Any) -> Figures:
    return {"annotations": str(folder / f"{name}.jsonl"), "images": str(folder), **more}


def write_configs(folder: Path, fast: bool) -> None:
    """The configurations that are no files of the repository. The last of them ask about everything."""
    chats = [source(folder, "tracks", weight=0.7), source(folder, "chats", weight=0.3)]
    configs = {
        "350m": records_config(folder, "350m", 4, 6 if fast else 14, group_size=2),
        "tracks": records_config(folder, "tracks", 8, BATCHES, tasks=ALL_TASKS),
        "chats": records_config(folder, "chats", 8, BATCHES, tasks=ALL_TASKS, sources=chats),
        "packed": records_config(folder, "packed", 8, BATCHES, tasks=BOX_TASKS, group_size=4, packing=True),
    }
    for name, values in configs.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))


def write_parts(folder: Path, fast: bool) -> None:
    """A tower and a language model with random weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tower = CLIPVisionConfig(**(TOY if fast else TOWER), image_size=SIZE_PX, patch_size=14)
    CLIPVisionModel(tower).save_pretrained(folder / "tower")
    language = LlamaConfig(**(TOY if fast else LLAMA), vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2)
    LlamaForCausalLM(language).save_pretrained(folder / "llama")
    like_llama().save_pretrained(folder / "llama")


def like_llama() -> Any:
    """A tokenizer that cuts as LLaMA's does: common words are tokens, and so is each digit."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from elysium.training.vocabulary import Vocabulary

    core = Tokenizer(models.BPE())
    pieces = pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]|\s+"), behavior="isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(False, use_regex=False)])
    core.decoder = decoders.ByteLevel()
    special, alphabet = ["<unk>", "<s>", "</s>"], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(Vocabulary([]).tokenizer_texts(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=filled(core), unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def filled(core: Any) -> Any:
    """The tokenizer with names for all rows of the embedding, so that it counts as the model's own."""
    from tokenizers import Tokenizer

    values = json.loads(core.to_str())
    vocabulary = values["model"]["vocab"]
    vocabulary |= {f"<unused {number}>": number for number in range(len(vocabulary), VOCABULARY)}
    return Tokenizer.from_str(json.dumps(values))


def write_records(folder: Path, clips: int) -> None:
    """Tracks over clips of drawn shapes, eight frames each; and chats about their frames, of one to forty words."""
    from PIL import Image

    from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig

    generator = ClipGenerator(SynthConfig(size_px=SIZE_PX, num_frames=8, region_probability=0.0), AssetLibrary(), 5)
    rng = np.random.default_rng(0)
    tracks: list[Figures] = []
    chats: list[Figures] = []
    for number in range(clips):
        clip = generator.generate(number)
        names = [f"clip{number}/{frame}.jpg" for frame in range(len(clip.frames))]
        (folder / f"clip{number}").mkdir()
        for name, frame in zip(names, clip.frames, strict=True):
            Image.fromarray(frame).save(folder / name, quality=90)
        tracks += [track(f"{number}-{i}", names, thing) for i, thing in enumerate(clip.objects) if thing.expressions]
        chats.append(chat(f"chat-{number}", names if number % 2 else names[:1], rng))
    for kind, records in (("tracks", tracks), ("chats", chats)):
        (folder / f"{kind}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def track(id: str, names: list[str], thing: Any) -> Figures:
    absent = [bool(np.isnan(box[0])) for box in thing.boxes_xyxyn]
    boxes = [None if gone else box.round(4).tolist() for gone, box in zip(absent, thing.boxes_xyxyn, strict=True)]
    return {
        "source": "made", "id": id, "vid": names[0].split("/")[0], "metadata": {}, "frames": names, "box": boxes,
        "absent": absent, "object_class": thing.noun, "object_description": thing.description,
        "expressions": list(thing.expressions), "frame_size": [SIZE_PX, SIZE_PX],
    }  # fmt: skip


def chat(id: str, names: list[str], rng: np.random.Generator) -> Figures:
    words = "the thing on the left moves to the right while that on top of it stays where it was before".split()
    said = [" ".join(rng.choice(words, int(rng.integers(low, high)))) for low, high in ((6, 16), (1, 41))]
    turns = [{"from": who, "value": value} for who, value in zip(("human", "gpt"), said, strict=True)]
    return {"source": "made", "id": id, "vid": id, "metadata": {}, "frames": names, "vqa": turns}


# --- the two that are compared, each in a process of its own


class Talk:
    """Lines to and from the process that asked. What anything else prints goes to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        sys.stdout = sys.stderr

    def ask(self) -> str:
        """What the next step is to do with its batch: a path, or nothing."""
        return sys.stdin.readline().strip()

    def say(self, **figures: Any) -> None:
        self._out.write(json.dumps(figures) + "\n")
        self._out.flush()


def now() -> np.ndarray:
    """Seconds of the clock and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def timed(since: np.ndarray) -> dict[str, float]:
    return dict(zip(("seconds", "cpu_seconds"), (now() - since).tolist(), strict=True))


def peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def ours(config: TrainConfig, talk: Talk) -> None:
    """Train with the recipe, a step for every line that is read, and tell how long each took."""
    from transformers import TrainerCallback

    trainer = made_trainer(config)
    before, train_step = peak_mib(), trainer.training_step
    last: Figures = {}

    def step(model: Any, inputs: Figures, *args: Any) -> Tensor:
        loss: Tensor = train_step(model, inputs, *args)
        last.update(batch=inputs, loss=float(loss))
        return loss

    class InTurn(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            last.update(path=talk.ask(), since=now())

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            took = timed(last["since"])
            if last["path"]:
                torch.save(last["batch"], last["path"])
            talk.say(**took, loss=last["loss"], tokens=count(last["batch"])[0])
            last.update(path=talk.ask() if state.global_step < state.max_steps else "", since=now())

    trainer.training_step = step
    trainer.add_callback(InTurn())
    trainer.train()
    talk.say(**timed(last["since"]), peak_mib=peak_mib(), before_mib=before)


def made_trainer(config: TrainConfig) -> Any:
    """The recipe's trainer, as ``recipe.run_stage`` makes it."""
    from elysium.training import recipe

    arguments = recipe.training_arguments(config)
    torch.manual_seed(config.seed)
    start, materials = recipe.prepare(config, arguments)
    freeze(start[0], config.model.learns)
    return recipe.build_trainer(config, arguments, start, materials)


def nano_trainer(config: TrainConfig) -> Any:
    """The trainer of nano's last stage over what an earlier run rendered; nothing is rendered."""
    from elysium.training import recipe
    from elysium.training.features import FeatureCache
    from elysium.training.materials import Materials

    start = given_start(config)
    caches = [FeatureCache(cached_nano() / name, clips) for name, clips in rendered(config).items()]
    assert start is not None
    arguments = recipe.training_arguments(config)
    return recipe.build_trainer(config, arguments, start, Materials(caches[0], None, caches[1]))


def handed(config: TrainConfig, talk: Talk) -> None:
    """Train without Trainer on the batches that are named line by line, and tell how long each took."""
    torch.manual_seed(config.seed)
    start = given_start(config)
    assert start is not None
    freeze(start[0], config.model.learns)
    before, loop = peak_mib(), Loop(start[0], config, at_answers=True)
    while path := talk.ask():
        batch = torch.load(path)
        since = now()
        loss = loop.step(batch)
        talk.say(**timed(since), loss=loss, tokens=count(batch)[0])
    talk.say(peak_mib=peak_mib(), before_mib=before)


def plain(config: TrainConfig, talk: Talk) -> None:
    """Train without Trainer on batches from a DataLoader over the samples of ours, and tell how long each took."""
    trainer = made_trainer(config)
    before, loop = peak_mib(), Loop(trainer.model, config)
    size = config.trainer["per_device_train_batch_size"]
    batches = iter(torch.utils.data.DataLoader(trainer.train_dataset, size, collate_fn=trainer.data_collator))
    while talk.ask():
        since = now()
        batch = next(batches)
        loss = loop.step(batch)
        talk.say(**timed(since), loss=loss, tokens=count(batch)[0])
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    talk.say(peak_mib=peak_mib(), before_mib=before, parameters=parameters)


class Loop:
    """The loop that one would write oneself: no Trainer, no accelerate, and Trainer's default AdamW (fused)."""

    def __init__(self, model: Any, config: TrainConfig, at_answers: bool = False) -> None:
        self.model, self.weights, asked = model.train(), config.loss, config.trainer
        self.at_answers = at_answers
        self.autocast = bool(asked.get("bf16"))
        self.answers = AnswerLoss(model.config.number_token_ids, config.loss.number_sigma)
        self.learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert not asked.get("weight_decay"), "it would need groups"
        self.optimizer = torch.optim.AdamW(self.learned, lr=asked["learning_rate"], weight_decay=0.0, fused=True)
        self.schedule = get_scheduler(
            asked["lr_scheduler_type"], self.optimizer, asked.get("warmup_steps", 0), asked["max_steps"]
        )

    def step(self, batch: Figures) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.learned, 1.0)
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    def loss(self, batch: Figures) -> Tensor:
        """What ours adds up. Where that is the answers' tokens alone, it is the loss of the model's own ``labels``, as
        in transformers' documentation; else the loop needs our code. ``at_answers``: logits of those tokens alone."""
        names = ("named_boxes", "named_frames") if self.weights.names else ()
        keys = ("input_ids", "attention_mask", "position_ids", "pixel_values", "vision_features", "frame_ids",
                "frame_counts", "region_boxes", "region_frames", "query_ids", "query_mask", *names)  # fmt: skip
        labels, values = batch["labels"], batch["number_values"]
        places = torch.arange(1, labels.shape[1])
        if self.at_answers:
            places = (labels != -100).any(dim=0).nonzero().squeeze(-1)
        with torch.autocast("cpu", torch.bfloat16) if self.autocast else nullcontext():
            inputs = {key: batch[key] for key in keys if key in batch}
            if not (self.weights.selects or self.weights.names or len(self.answers.number_ids)):
                own: Tensor = self.model(**inputs, labels=labels, use_cache=False).loss
                return own
            output = self.model(**inputs, logits_to_keep=places - 1, use_cache=False)
            parts = self.answers(output.logits, labels[:, places], values[:, places])
            if self.weights.selects:
                seen = (output.selector_logits, output.votes, output.voted_box)
                parts |= gate_parts(GateLoss(*seen, batch["gate_targets"], batch["gate_boxes"]))
            if output.name_logits is not None:
                parts["names"] = name_loss(output.name_logits, batch["name_labels"])
            return total(parts, self.weights)


def count(batch: Figures) -> tuple[int, int]:
    """Tokens without and with padding. Under a mask of pairs, padding is seen by nothing but itself."""
    mask = batch["attention_mask"]
    if mask.ndim == 4:
        pairs = mask[:, 0]
        mask = (pairs.sum(dim=1) > 1) | (pairs.sum(dim=2) > 1)
    return int(mask.sum()), batch["input_ids"].numel()


# --- padding and packing


def prepare(config: TrainConfig, folder: Path, fast: bool) -> None:
    """Write models, records and configurations, and fill the cache of ``smoke``, validation clips included."""
    from elysium.training import recipe

    write_parts(folder, fast)
    write_records(folder, 4 if fast else 24)
    write_configs(folder, fast)
    recipe.prepare(config, recipe.training_arguments(config))


def paddings(folder: Path, fast: bool) -> Figures:
    """By case."""
    rows = {}
    for case in PADDED:
        if case != "nano" or has_nano_cache():
            make = nano_trainer if case == "nano" else made_trainer
            rows[case] = padding(make(config_of(case, folder, fast)), 2 if fast else BATCHES)
    return rows


def padding(trainer: Any, most: int) -> Figures:
    """Counts over ``most`` batches spread over a run."""
    samples, size = trainer.train_dataset, trainer.args.per_device_train_batch_size
    numbers = np.unique(np.linspace(0, len(samples) // size - 1, most).round().astype(int))
    batches = ([samples[int(i)] for i in range(n * size, (n + 1) * size)] for n in numbers)
    counts = [count(trainer.data_collator(batch)) for batch in batches]
    real, cells = (sum(column) for column in zip(*counts, strict=True))
    return {"batches": len(numbers), "of": size, "tokens": real, "padding": round(1 - real / cells, 4)}


def packing(config: TrainConfig, rounds: int) -> Figures:
    """Forwards and backwards over the same questions about one clip, packed and not, in turn."""
    from elysium.training.collate import Collator

    questions = 5
    data = config.data.model_copy(update={"group_size": questions})
    trainer = made_trainer(config.model_copy(update={"data": data}))
    own, loop = trainer.data_collator, Loop(trainer.model, config)
    samples = [trainer.train_dataset[i] for i in range(questions)]
    kinds = {"packed": True, "unpacked": False}
    batches = {name: Collator(own.processor, [], own.grid, packing)(samples) for name, packing in kinds.items()}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in batches}
    for _ in range(rounds + 1):
        for name, batch in batches.items():
            times[name].append(backwards(loop, batch))
    rows = {name: packing_row(batches[name], times[name][1:], questions) for name in batches}  # the first warmed up
    return {"questions": questions, **rows, "ratios": {key: round(rows["packed"][key] / value, 3)
                                                       for key, value in rows["unpacked"].items()}}  # fmt: skip


def packing_row(batch: Figures, times: list[dict[str, float]], questions: int) -> dict[str, float]:
    """Of one question: tokens computed, padding included, and seconds."""
    tokens = count(batch)[1] / questions
    return {"tokens": tokens} | {key: round(median(t[key] for t in times) / questions, 4) for key in times[0]}


def backwards(loop: Loop, batch: Figures) -> dict[str, float]:
    loop.optimizer.zero_grad()
    since = now()
    loop.loss(batch).backward()
    return timed(since)


# --- measuring


class Child:
    """This script in another role, in a process of its own."""

    def __init__(self, role: str, case: str, folder: Path, options: argparse.Namespace) -> None:
        command = [sys.executable, __file__, "--role", role, "--case", case, "--folder", str(folder)]
        command += ["--threads", str(options.threads), *(["--fast"] if options.fast else [])]
        waits = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "passive"}  # the one whose turn it is not leaves the cores
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**waits, **os.environ}
        )

    def step(self, path: str | Path) -> Figures:
        """What a step took, which stores or reads its batch there."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        return self._heard()

    def end(self) -> Figures:
        """What it says in the end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        figures = self._heard()
        self.process.wait()
        return figures

    def _heard(self) -> Figures:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} ended early")  # type: ignore[arg-type]
        figures: Figures = json.loads(line)
        return figures


def against(case: str, folder: Path, options: argparse.Namespace) -> Figures:
    """Ours and the plain loop, and for ``smoke`` one that is handed its batches, step by step in turn."""
    roles = ("ours", "loop", "handed") if case == "smoke" else ("ours", "loop")  # three of 350m do not fit in 24 GiB
    children = {role: Child(role, case, folder, options) for role in roles}
    steps: dict[str, list[Figures]] = {role: [] for role in children}
    for _ in range(config_of(case, folder, options.fast).trainer["max_steps"]):
        for role, child in children.items():
            steps[role].append(child.step(folder / "batch.pt"))
    by_role = list(steps.values())
    ends = {role: child.end() for role, child in children.items()}
    counted = {role: rows[WARM_UP:] for role, rows in steps.items()}
    return {
        "parameters": ends["loop"]["parameters"],
        "steps": len(counted["ours"]),
        "tokens_per_step": median(row["tokens"] for row in counted["ours"]),
        **{role: pace(counted[role]) | ends_of(ends[role]) for role in children},
        "speed_ratio": {role: speed_ratios(counted["ours"], counted[role]) for role in roles[1:]},
        "memory_ratio": round(ends["ours"]["peak_mib"] / ends["loop"]["peak_mib"], 3),
        "first_losses": {role: [row["loss"] for row in rows[:3]] for role, rows in steps.items()},
        "largest_loss_difference": max(abs(a["loss"] - b["loss"]) for a, b in zip(*by_role[:2], strict=True)),
    }


def ends_of(figures: Figures) -> dict[str, float]:
    return {key: figures[key] for key in ("peak_mib", "before_mib")}


def pace(rows: list[Figures]) -> dict[str, float]:
    """Tokens per second, the median over steps."""
    return {
        name: round(median(row["tokens"] / row[key] for row in rows), 1)
        for name, key in (("tokens_per_s", "seconds"), ("tokens_per_cpu_s", "cpu_seconds"))
    }


def speed_ratios(ours: list[Figures], loop: list[Figures]) -> Figures:
    """How many times as fast ours is, by the clock and by processor time: median and quartiles over pairs of steps, and
    by the sums over all."""
    ratios = {}
    for key in ("seconds", "cpu_seconds"):
        pairs = [b[key] / a[key] for a, b in zip(ours, loop, strict=True)]
        low, middle, high = np.percentile(pairs, [25, 50, 75])
        sums = sum(row[key] for row in loop) / sum(row[key] for row in ours)
        values = {"median": middle, "quartile_1": low, "quartile_3": high, "sums": sums}
        ratios[key] = {name: round(float(value), 3) for name, value in values.items()}
    return ratios


def alone(case: str, folder: Path, options: argparse.Namespace) -> Figures:
    """Ours without the other, all that it does counted: validation, checkpoints, logs."""
    child = Child("ours", case, folder, options)
    rows = [child.step("") for _ in range(config_of(case, folder, options.fast).trainer["max_steps"])]
    end = child.end()
    seconds = sum(row["seconds"] for row in rows) + end["seconds"]
    whole = round(sum(row["tokens"] for row in rows) / seconds, 1)
    return {"steps": len(rows), "tokens_per_s": whole, "seconds": round(seconds, 1)} | ends_of(end)


def measure(folder: Path, options: argparse.Namespace) -> Figures:
    """Everything that is asked for."""
    Child("prepare", "shipped", folder, options).end()
    figures: Figures = {"threads": options.threads, "load_average": [os.getloadavg()[0]]}
    if "smoke" in options.only:
        figures["smoke"] = against("smoke", folder, options)
        figures["shipped"] = alone("shipped", folder, options)
    if "350m" in options.only:
        figures["350m"] = against("350m", folder, options)
    if "padding" in options.only:
        figures["padding"] = Child("padding", "smoke", folder, options).end()
    if "packing" in options.only:
        figures["packing"] = Child("packing", "350m", folder, options).end()
    figures["load_average"].append(os.getloadavg()[0])
    return figures


def has_nano_cache() -> bool:
    """Whether all that configs/nano.yaml renders is there."""
    config = load_stages(ROOT / "configs" / "nano.yaml", ["data.assets=null"])[-1]
    shards = {name: list((cached_nano() / name).glob("labels-*.json")) for name in rendered(config)}
    return all(len(shards[name]) * 100 >= clips for name, clips in rendered(config).items())


def rendered(config: TrainConfig) -> dict[str, int]:
    return {"train": config.data.train_clips, "stills": config.data.still_clips}


def play(options: argparse.Namespace) -> None:
    """What a process does that was started for a role."""
    talk, folder, role = Talk(), options.folder, options.role
    torch.set_num_threads(options.threads)
    config = config_of(options.case, folder, options.fast)
    if role in ("ours", "loop", "handed"):
        {"ours": ours, "loop": plain, "handed": handed}[role](config, talk)
    elif role == "prepare":
        prepare(config, folder, options.fast)
        talk.say()
    elif role == "padding":
        talk.say(**paddings(folder, options.fast))
    else:
        talk.say(**packing(config, 1 if options.fast else ROUNDS))


# --- tables


def tables(figures: Figures) -> dict[str, str]:
    """What the document says in figures, by name, in Markdown."""
    return {
        "about": about(figures),
        "training speed": speed_table(figures),
        "padding": padding_table(figures),
        "packing": packing_table(figures),
    }


def about(figures: Figures) -> str:
    """The machine, and what is in no table."""
    machine, shipped, load = figures["machine"], figures["shipped"], figures["load_average"]
    return (
        f"{machine['cores']} cores ({machine['cpu']}), no GPU, torch {machine['torch']}, {figures['threads']} threads. "
        f"Load average {load[0]:.1f} when it began and {load[1]:.1f} when it ended, {machine['cores']} being all cores "
        f"busy. `configs/smoke.yaml` as shipped, with validation, checkpoints and logs: {shipped['tokens_per_s']:,.0f} "
        f"tokens per second over all, {shipped['seconds']:.0f} s, {shipped['peak_mib']:,.0f} MiB."
    )


def speed_table(figures: Figures) -> str:
    """A column a comparison."""
    compared = [(figures[case], other) for case, other in COMPARED]
    ratios = [case["speed_ratio"][other] for case, other in compared]
    pairs = [(case["ours"], case[other]) for case, other in compared]
    rows: dict[str, list[str]] = {
        "parameters": [f"{case['parameters'] / 1e6:.0f} million" for case, _ in compared],
        "steps, tokens in each (median)": [f"{case['steps']}, {case['tokens_per_step']:,.0f}" for case, _ in compared],
        "tokens per second, ours": [f"{ours['tokens_per_s']:,.0f}" for ours, _ in pairs],
        "tokens per second, the loop": [f"{loop['tokens_per_s']:,.0f}" for _, loop in pairs],
        "**speed, ours / the loop** (median, quartiles)": [spread(ratio["seconds"]) for ratio in ratios],
        "the same of all steps together": [f"{ratio['seconds']['sums']:.3f}" for ratio in ratios],
        "speed by processor time (median, quartiles)": [spread(ratio["cpu_seconds"]) for ratio in ratios],
        "the same of all steps together, by it": [f"{ratio['cpu_seconds']['sums']:.3f}" for ratio in ratios],
        "peak memory, ours": [f"{ours['peak_mib']:,.0f} MiB" for ours, _ in pairs],
        "peak memory, the loop": [f"{loop['peak_mib']:,.0f} MiB" for _, loop in pairs],
        "**memory, ours / the loop**": [f"**{ours['peak_mib'] / loop['peak_mib']:.3f}**" for ours, loop in pairs],
        "before the first step, ours": [f"{ours['before_mib']:,.0f} MiB" for ours, _ in pairs],
        "before the first step, the loop": [f"{loop['before_mib']:,.0f} MiB" for _, loop in pairs],
        "largest difference of losses": [f"{case['largest_loss_difference']:.1g}" for case, _ in compared],
    }
    head = ["", "`smoke`", "`350m`", "`smoke`, the loop is handed batches"]
    return table(head, [[name, *cells] for name, cells in rows.items()])


def spread(ratio: dict[str, float]) -> str:
    return f"**{ratio['median']:.3f}** ({ratio['quartile_1']:.3f} to {ratio['quartile_3']:.3f})"


def padding_table(figures: Figures) -> str:
    rows = [
        [PADDED[case], f"{row['batches']} of {row['of']}", f"{row['tokens']:,}", f"{row['padding']:.1%}"]
        for case, row in figures["padding"].items()
    ]
    return table(["configuration", "batches of samples", "tokens", "padding"], rows)


def packing_table(figures: Figures) -> str:
    found = figures["packing"]
    rows = [
        [name, *(f"{found[key][column]:.3g}" for column in ("tokens", "seconds", "cpu_seconds"))]
        for name, key in (("packed", "packed"), ("one sequence each", "unpacked"), ("ratio", "ratios"))
    ]
    return table(["", "tokens a question", "seconds a question", "processor seconds a question"], rows)


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(CASES), metavar=",".join(CASES))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = asked()
    if options.role:
        play(options)
        return
    if not options.table:
        torch.set_num_threads(options.threads)
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(Path(folder), options)
        print(json.dumps(figures, indent=1))
        if options.fast:
            return
        results.write("training", stored() | figures)
    fill(DOC, tables(stored()))


def stored() -> Figures:
    """The figures of earlier runs."""
    figures: Figures = json.loads((results.RESULTS / "training.json").read_text())
    return figures


if __name__ == "__main__":
    main()
