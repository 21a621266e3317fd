"""One training run from one configuration: a readable loop around the Hugging Face Trainer.

``run`` does, in this order: read the configuration, render and encode the clips (resumed where it stopped),
train the tokenizer on their words, build the model, train (resumed from the last checkpoint), save a folder
that ``Elysium.from_pretrained`` takes.

Knows: the order of things. Does not know: how clips look, what is in a sample, how the loss is made.
"""

from __future__ import annotations

import json
import re

from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import PreTrainedTokenizerFast, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from elysium.boxes import iou
from elysium.config import DataSection, TrainConfig, load_train_config
from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.errors import InputError
from elysium.files import atomic_write_text, ensure_folder
from elysium.language import prompts
from elysium.model import ElysiumForConditionalGeneration, ElysiumProcessor
from elysium.model.presets import build_nano, nano_config, nano_processor, number_token_ids, train_nano_tokenizer
from elysium.training.collate import Collator
from elysium.training.features import FeatureCache, render_cache, tower_encoder
from elysium.training.loss import AnswerLoss, GateLoss, LossParts, teacher_forced_boxes
from elysium.training.optimizer import MuonAdamW
from elysium.training.samples import SampleDataset

_VAL_SAMPLES = 640
_VAL_SEED = 977


def run(config_path: str | Path, overrides: list[str] | None = None) -> Path:
    """Train as ``config_path`` says and return the folder of the finished model. Goes on where it was stopped."""
    config = load_train_config(config_path, overrides)
    ensure_folder(config.output_dir)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    train_cache, val_cache = prepare_data(config)
    model, processor = prepare_model(config, train_cache)
    trainer = build_trainer(config, model, processor, train_cache, val_cache)
    last = get_last_checkpoint(str(config.output_dir))
    if last:
        print(f"resuming from {last}", flush=True)
    trainer.train(resume_from_checkpoint=last)
    return save(config, model, processor, val_cache)


def prepare_data(config: TrainConfig) -> tuple[FeatureCache, FeatureCache]:
    """Caches of training and validation clips; the two share no photo and, where a kind has enough, no cut-out."""
    cv2.setNumThreads(0)
    data = config.data
    model = build_nano(_placeholder_tokenizer(), config.model.tower_weights).eval()
    processor = nano_processor(_placeholder_tokenizer(), model.config)
    encode = tower_encoder(model, processor.image_processor)

    def cache(split: str, clips: int, seed: int) -> FeatureCache:
        return render_cache(data.cache_dir / split, clips, clip_generator(data, split, seed), encode)

    return cache("train", data.train_clips, data.seed), cache("val", data.val_clips, data.seed + 1)


def clip_generator(data: DataSection, split: str, seed: int) -> ClipGenerator:
    """The generator of a split. Raises InputError when the asset folder is missing."""
    if data.assets is not None and not data.assets.is_dir():
        raise InputError(f"no such asset folder: {data.assets}", "set data.assets to a folder, or null for drawn shapes only")
    library = AssetLibrary.from_folder(data.assets, split, cache=data.cache_dir / f"assets-{split}.npz")
    image_size = nano_config(1).image_size
    return ClipGenerator(SynthConfig(**{"size_px": image_size, **data.synth}), library, seed=seed)


def _placeholder_tokenizer() -> PreTrainedTokenizerFast:
    return train_nano_tokenizer(["frame"], vocab_size=400)


def prepare_model(
    config: TrainConfig, cache: FeatureCache
) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """nano with a tokenizer trained on the run's words, or the model of ``model.path``; the tower is frozen.

    What training starts from is kept in ``output_dir/start``, so that a resumed run has the same tokenizer.
    """
    start = config.output_dir / "start"
    source = start if start.exists() else config.model.path
    if source is not None:
        model = ElysiumForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
        processor = ElysiumProcessor.from_pretrained(source)
    else:
        tokenizer = train_nano_tokenizer(tokenizer_texts(cache), phrases=template_phrases())
        torch.manual_seed(config.seed)
        model = build_nano(tokenizer, config.model.tower_weights)
        processor = nano_processor(tokenizer, model.config)
        model.config.tracking["known_words"] = known_words(cache)
        model.save_pretrained(start)
        processor.save_pretrained(start)
    model.vision.tower.requires_grad_(False).eval()
    return model, processor


def template_phrases() -> list[str]:
    """The fixed parts of prompts and answers, each of which is one token of nano's."""
    tasks = (prompts.Task.SOT, prompts.Task.VIDEO_REG, prompts.Task.REC, prompts.Task.REG)
    questions = [prompts.TRACKING_RSOT_QUESTION, *(prompts.EVALUATION_QUESTIONS[task] for task in tasks)]
    parts = {part.rstrip() for q in questions for part in re.split(r"\{box\}|\{expression\}", q) if part.strip(" .")}
    return [prompts.SYSTEM_SENTENCE + "USER: ", "ASSISTANT:", "Frame ", ", Frame ", ": ", ": [", "], Frame ", *sorted(parts)]


def tokenizer_texts(cache: FeatureCache) -> list[str]:
    """Everything nano reads and writes: questions, the system sentence, the words of the clips."""
    fixed = [prompts.TRACKING_RSOT_QUESTION]
    fixed += [q for task in prompts.Task for q in (*prompts.paraphrases(task), prompts.EVALUATION_QUESTIONS[task])]
    frames = prompts.frames_block(8).replace(prompts.MARK_IMAGE, "")
    words = [f" {word}" for text in cache.all_words() for word in text.split()]
    return [*[*fixed, prompts.SYSTEM_SENTENCE + "USER: " + frames, "ASSISTANT:"] * 200, *words]


def known_words(cache: FeatureCache) -> list[str]:
    """The words that stood in at least three expressions or descriptions of the training clips, sorted."""
    counts: dict[str, int] = {}
    for text in cache.all_words():
        for word in text.lower().split():
            counts[word] = counts.get(word, 0) + 1
    return sorted(word for word, count in counts.items() if count >= 3)


class ElysiumTrainer(Trainer):
    """The Hugging Face Trainer with our loss, samples in the curriculum's order, and a teacher-forced validation."""

    answer_loss: AnswerLoss
    config: TrainConfig

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Muon and AdamW, unless the configuration leaves ``muon_lr`` at 0: then what ``TrainingArguments`` says."""
        if not self.config.muon_lr:
            return super().create_optimizer()
        if self.optimizer is None:
            names = self.model.named_parameters()
            args = self.args
            self.optimizer = MuonAdamW(names, self.config.muon_lr, args.learning_rate, args.weight_decay)
        return self.optimizer

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        parts, logits = self.loss_parts(model, dict(inputs))
        self._remember(parts)
        total = parts.total(self.config.loss)
        return (total, {"logits": logits}) if return_outputs else total

    def loss_parts(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[LossParts, Tensor]:
        """Loss parts and the logits (B, T+1, V) that predict the last T tokens, T the longest answer."""
        labels, values, targets, boxes = (inputs.pop(k) for k in ("labels", "number_values", "gate_targets", "gate_boxes"))
        longest = int((labels != -100).sum(dim=1).max())
        output = model(**inputs, logits_to_keep=longest + 1, use_cache=False)
        gate = GateLoss(output.selector_logits, output.votes, targets, boxes)
        parts = self.answer_loss(output.logits, labels[:, -longest:], values[:, -longest:], gate)
        return parts, output.logits

    def _remember(self, parts: LossParts) -> None:
        sums = self.__dict__.setdefault("_part_sums", {})
        for name, value in vars(parts).items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = (total + float(value.detach()), count + 1) if name != "words" or value > 0 else (total, count)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        for name, (total, count) in self.__dict__.pop("_part_sums", {}).items():
            if count and "loss" in logs:
                logs[f"loss_{name}"] = round(total / count, 4)
        super().log(logs, *args, **kwargs)

    @torch.inference_mode()
    def evaluate(self, eval_dataset: Any = None, **kwargs: Any) -> dict[str, float]:
        """Teacher-forced scores on validation clips: mean IoU of the boxes after the first, by task."""
        self.model.eval()
        scores = teacher_forced_scores(self, eval_dataset if eval_dataset is not None else self.eval_dataset)
        self.model.train()
        self.log({f"val_{name}": round(value, 4) for name, value in scores.items()})
        return scores


def teacher_forced_scores(trainer: ElysiumTrainer, datasets: dict[str, SampleDataset]) -> dict[str, float]:
    """Mean IoU (0..1) with every earlier token given: of frames 2..n for SOT, of all frames for RSOT and REC; and
    for SOT of holding the prompted box. ``gate``: share of the object's tokens that were kept."""
    scores: dict[str, float] = {}
    for name, dataset in datasets.items():
        model_iou, hold_iou = [], []
        for start in range(0, len(dataset), dataset.batch_size):
            inputs = trainer.data_collator([dataset[i] for i in range(start, min(start + dataset.batch_size, len(dataset)))])
            values, counts = inputs["number_values"], inputs["frame_counts"]
            _, logits = trainer.loss_parts(trainer.model, dict(inputs))
            predicted, true = teacher_forced_boxes(logits, values[:, -logits.shape[1] + 1 :], trainer.answer_loss.number_ids.tolist())
            frames = int(counts[0])
            predicted, true = (t.view(-1, frames, 4).numpy().astype(float) for t in (predicted, true))
            first = 1 if name == "SOT" else 0
            present = (true[:, first:].sum(axis=2) > 0).ravel()
            held = true[:, :1].repeat(frames - first, axis=1).reshape(-1, 4)
            model_iou += iou(predicted[:, first:].reshape(-1, 4), true[:, first:].reshape(-1, 4))[present].tolist()
            hold_iou += iou(held, true[:, first:].reshape(-1, 4))[present].tolist()
        scores[name] = sum(model_iou) / len(model_iou)
        if name == "SOT":
            scores["SOT_hold"] = sum(hold_iou) / len(hold_iou)
    return scores


class JsonLog(TrainerCallback):
    """Appends every logged line to ``log.jsonl`` in the output folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")


def build_trainer(
    config: TrainConfig, model: ElysiumForConditionalGeneration, processor: ElysiumProcessor,
    train_cache: FeatureCache, val_cache: FeatureCache,
) -> ElysiumTrainer:  # fmt: skip
    """The Trainer of a run. ``config.trainer`` must say ``max_steps``."""
    options = {"report_to": "none", "remove_unused_columns": False, "use_cpu": not torch.cuda.is_available(),
               "dataloader_num_workers": 0, "seed": config.seed, "max_grad_norm": 1.0, **config.trainer}  # fmt: skip
    if options.get("max_steps", 0) < 1:
        raise InputError("trainer.max_steps is missing", "the curriculum needs the number of steps")
    arguments = TrainingArguments(output_dir=str(config.output_dir), **options)
    ids = number_token_ids(processor.tokenizer)
    step_samples = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    dataset = sample_dataset(config, train_cache, arguments.max_steps * step_samples, arguments.per_device_train_batch_size)
    trainer = ElysiumTrainer(
        model=model, args=arguments, train_dataset=dataset, eval_dataset=validation_sets(config, val_cache),
        data_collator=Collator(processor, ids, model.vision.grid),
        callbacks=[JsonLog(config.output_dir / "log.jsonl")],
    )  # fmt: skip
    trainer.answer_loss = AnswerLoss(ids, config.loss.number_sigma)
    trainer.config = config
    return trainer


def sample_dataset(config: TrainConfig, cache: FeatureCache, num_samples: int, batch_size: int) -> SampleDataset:
    """The training samples in the curriculum's order."""
    data = config.data
    return SampleDataset(
        cache, num_samples, batch_size, config.phases, data.tasks, config.seed, data.paraphrase_share, data.box_jitter
    )


def validation_sets(config: TrainConfig, cache: FeatureCache) -> dict[str, SampleDataset]:
    """Fixed samples of each box task on validation clips, with the evaluation questions and exact boxes."""
    frames = config.phases[-1:]
    return {
        name: SampleDataset(cache, _VAL_SAMPLES // 4, 16, frames, {name: 1.0}, _VAL_SEED, 0.0, 0.0)
        for name in ("SOT", "RSOT", "REC")
    }


def save(
    config: TrainConfig, model: ElysiumForConditionalGeneration, processor: ElysiumProcessor, val_cache: FeatureCache
) -> Path:
    """Write the model in float16 safetensors, its processor and a record of the run to ``output_dir/final``."""
    folder = config.output_dir / "final"
    model.eval().half().save_pretrained(folder)
    processor.save_pretrained(folder)
    atomic_write_text(folder / "training.json", config.model_dump_json(indent=2))
    return folder
