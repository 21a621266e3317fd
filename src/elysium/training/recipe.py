"""One training run from one configuration: a readable loop around the Hugging Face Trainer.

``run`` does, in this order, for each stage: read the configuration, render and encode the clips (resumed where it
stopped), train the tokenizer on their words, build the model, train (resumed from the last checkpoint), save a
folder that ``Elysium.from_pretrained`` takes.

Knows: the order of things. Does not know: how clips look, what is in a sample, how the loss is made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import TrainingArguments

from elysium.config import DataSection, TrainConfig, load_stages
from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.data.synth.questions import SAMPLES as QUESTION_SAMPLES
from elysium.data.synth.questions import plural
from elysium.errors import InputError
from elysium.files import atomic_write_text, ensure_folder
from elysium.inference.loading import locate
from elysium.language import prompts
from elysium.model import ElysiumForConditionalGeneration, ElysiumProcessor
from elysium.model.presets import build_nano, nano_config, nano_processor, number_token_ids, train_nano_tokenizer
from elysium.training.collate import Collator
from elysium.training.features import FeatureCache, ObjectLabel, render_cache, tower_encoder
from elysium.training.loss import AnswerLoss
from elysium.training.samples import SampleDataset
from elysium.training.stopping import StopGently, claim
from elysium.training.trainer import ElysiumTrainer, JsonLog

Split = Literal["train", "val"]
VAL_SAMPLES = 640
_VAL_SEED = 977
_KNOWN_COUNT = 3


def run(config_path: str | Path, overrides: list[str] | None = None) -> Path:
    """Train as ``config_path`` says and return the folder of the finished model. Goes on where it was stopped."""
    stages = load_stages(config_path, overrides)
    arguments = [training_arguments(stage) for stage in stages]  # wrong ones are told before an hour of rendering
    for stage, options in zip(stages[:-1], arguments, strict=False):
        if not (stage.output_dir / "final" / "training.json").exists():
            run_stage(stage, options)
    return run_stage(stages[-1], arguments[-1])


def run_stage(config: TrainConfig, arguments: TrainingArguments) -> Path:
    """Train one stage and return the folder of its model."""
    ensure_folder(config.output_dir)
    last = claim(config)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    caches = prepare_data(config)
    model, processor = prepare_model(config, caches)
    trainer = build_trainer(config, arguments, model, processor, caches)
    if last:
        print(f"resuming from {last}", flush=True)
    stop = StopGently()
    trainer.add_callback(stop)
    try:
        trainer.train(resume_from_checkpoint=last)
    finally:
        stop.restore()
    if stop.asked:
        step = trainer.state.global_step
        print(f"stopped after step {step}; the same command goes on from {config.output_dir}", flush=True)
        raise KeyboardInterrupt
    return save(config, model, processor)


@dataclass(frozen=True)
class Caches:
    """What was rendered: clips to train and to validate on, and single pictures if there are any."""

    train: FeatureCache
    val: FeatureCache
    stills: FeatureCache | None

    def words(self) -> Iterator[str]:
        """Every expression and description to train on."""
        for item in self._objects():
            yield from item.expressions
            yield item.description

    def nouns(self) -> Iterator[str]:
        """The noun of every thing to train on that has an expression."""
        return (item.noun for item in self._objects() if item.expressions)

    def _objects(self) -> Iterator[ObjectLabel]:
        for cache in (self.train, self.stills):
            if cache is not None:
                yield from cache.all_objects()


def prepare_data(config: TrainConfig) -> Caches:
    """Caches of training and validation clips; the two share no photo and, where a kind has enough, no cut-out."""
    cv2.setNumThreads(0)
    data = config.data
    encode = encoder(config)

    def cache(name: str, split: Split, clips: int, seed: int, synth: dict[str, Any]) -> FeatureCache:
        return render_cache(data.cache_dir / name, clips, clip_generator(data, split, seed, synth), encode)

    stills = {**data.synth, "num_frames": 1, **data.still_synth}
    return Caches(
        cache("train", "train", data.train_clips, data.seed, data.synth),
        cache("val", "val", data.val_clips, data.seed + 1, data.synth),
        cache("stills", "train", data.still_clips, data.seed + 2, stills) if data.still_clips else None,
    )


def encoder(config: TrainConfig) -> Callable[[NDArray[np.uint8]], NDArray[np.float16]]:
    """What the tower of the model to be trained sees in frames."""
    if config.model.path is not None:
        source = locate(str(config.model.path))
        model = ElysiumForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
        return tower_encoder(model.eval(), ElysiumProcessor.from_pretrained(source).image_processor)
    tokenizer = train_nano_tokenizer(["frame"], vocab_size=400)  # only the tower is used
    model = build_nano(tokenizer, config.model.tower_weights).eval()
    return tower_encoder(model, nano_processor(tokenizer, model.config).image_processor)


def clip_generator(data: DataSection, split: Split, seed: int, synth: dict[str, Any]) -> ClipGenerator:
    """The generator of a split. Raises InputError when the asset folder is missing."""
    if data.assets is not None and not data.assets.is_dir():
        raise InputError(
            f"No such asset folder: {data.assets}", "Set data.assets to a folder, or null for drawn shapes only"
        )
    library = AssetLibrary.from_folder(data.assets, split, cache=data.cache_dir / f"assets-{split}.npz")
    image_size = nano_config(1).image_size
    return ClipGenerator(SynthConfig(**{"size_px": image_size, **synth}), library, seed=seed)


def prepare_model(config: TrainConfig, caches: Caches) -> tuple[ElysiumForConditionalGeneration, ElysiumProcessor]:
    """nano with a tokenizer trained on the run's words, or the model of ``model.path``; what does not learn is frozen.

    What training starts from is kept in ``output_dir/start``, so that a resumed run has the same tokenizer.
    """
    start = config.output_dir / "start"
    source: str | Path | None = start if start.exists() else config.model.path
    if source is not None:
        source = locate(str(source))
        model = ElysiumForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
        processor = ElysiumProcessor.from_pretrained(source)
    else:
        tokenizer = train_nano_tokenizer(tokenizer_texts(caches), phrases=template_phrases())
        torch.manual_seed(config.seed)
        model = build_nano(tokenizer, config.model.tower_weights)
        processor = nano_processor(tokenizer, model.config)
        model.config.tracking["known_words"] = known_words(caches)
        model.config.tracking["known_nouns"] = known_nouns(caches)
        model.save_pretrained(start)
        processor.save_pretrained(start)
    freeze(model, config.model.learns)
    return model, processor


def freeze(model: ElysiumForConditionalGeneration, learns: tuple[str, ...] | None) -> None:
    """Freeze the tower and, if ``learns`` names some, all parameters but those that begin so."""
    names = [name for name, _ in model.named_parameters()]
    for start in learns or ():
        if not any(name.startswith(start) for name in names):
            parts = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
            raise InputError(f"model.learns: no parameter begins with {start!r}", f"The parts are {parts}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(learns is None or name.startswith(learns))
    model.vision.tower.requires_grad_(False).eval()


def template_phrases() -> list[str]:
    """The fixed parts of prompts and answers, each of which is one token of nano's."""
    tasks = (prompts.Task.SOT, prompts.Task.VIDEO_REG, prompts.Task.REC, prompts.Task.REG)
    questions = [prompts.TRACKING_RSOT_QUESTION, *(prompts.EVALUATION_QUESTIONS[task] for task in tasks)]
    parts = {part.rstrip() for q in questions for part in re.split(r"\{box\}|\{expression\}", q) if part.strip(" .")}
    return [
        prompts.SYSTEM_SENTENCE + "USER: ",
        "ASSISTANT:",
        "Frame ",
        ", Frame ",
        ": ",
        ": [",
        "], Frame ",
        *sorted(parts),
    ]


def tokenizer_texts(caches: Caches) -> list[str]:
    """Everything nano reads and writes: questions, the system sentence, the words of the clips."""
    fixed = [prompts.TRACKING_RSOT_QUESTION]
    fixed += [q for task in prompts.Task for q in (*prompts.paraphrases(task), prompts.EVALUATION_QUESTIONS[task])]
    frames = prompts.frames_block(8).replace(prompts.MARK_IMAGE, "")
    words = [f" {word}" for text in caches.words() for word in text.split()]
    return [*[*fixed, QUESTION_SAMPLES, prompts.SYSTEM_SENTENCE + "USER: " + frames, "ASSISTANT:"] * 200, *words]


def known_words(caches: Caches) -> list[str]:
    """The words that stood in at least three expressions or descriptions of the training clips, and those of the
    questions, sorted."""
    said = _frequent(word for text in caches.words() for word in text.lower().split())
    plurals = (word for noun in known_nouns(caches) for word in plural(noun).lower().split())
    return sorted({*said, *re.findall(r"[a-z]+", QUESTION_SAMPLES.lower()), *plurals})


def known_nouns(caches: Caches) -> list[str]:
    """What at least three things of the training clips that can be named are called, sorted."""
    return _frequent(caches.nouns())


def _frequent(texts: Iterable[str]) -> list[str]:
    return sorted(text for text, count in Counter(texts).items() if count >= _KNOWN_COUNT)


def training_arguments(config: TrainConfig) -> TrainingArguments:
    """``config.trainer`` over our defaults. Raises InputError unless it says ``max_steps``."""
    options = {"report_to": "none", "remove_unused_columns": False, "use_cpu": not torch.cuda.is_available(),
               "dataloader_num_workers": 0, "seed": config.seed, "max_grad_norm": 1.0, **config.trainer}  # fmt: skip
    if options.get("max_steps", 0) < 1:
        raise InputError("trainer.max_steps is missing", "The curriculum needs the number of steps")
    return TrainingArguments(output_dir=str(config.output_dir), **options)


def build_trainer(
    config: TrainConfig, arguments: TrainingArguments, model: ElysiumForConditionalGeneration,
    processor: ElysiumProcessor, caches: Caches,
) -> ElysiumTrainer:  # fmt: skip
    """The Trainer of a run."""
    ids = number_token_ids(processor.tokenizer)
    step_samples = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    dataset = sample_dataset(
        config, caches, arguments.max_steps * step_samples, arguments.per_device_train_batch_size
    )
    trainer = ElysiumTrainer(
        model=model, args=arguments, train_dataset=dataset, eval_dataset=validation_sets(config, caches.val),
        data_collator=Collator(processor, ids, model.vision.grid),
        callbacks=[JsonLog(config.output_dir / "log.jsonl")],
    )  # fmt: skip
    trainer.answer_loss = AnswerLoss(ids, config.loss.number_sigma)
    trainer.config = config
    return trainer


def sample_dataset(config: TrainConfig, caches: Caches, num_samples: int, batch_size: int) -> SampleDataset:
    """The training samples in the curriculum's order."""
    data = config.data
    return SampleDataset(
        caches.train,
        num_samples,
        batch_size,
        config.phases,
        data.tasks,
        config.seed,
        caches.stills,
        data.group_size,
        data.paraphrase_share,
        data.box_jitter,
        data.slip_share,
        data.questions.model_dump(),
        data.image_questions,
    )


def validation_sets(config: TrainConfig, cache: FeatureCache) -> dict[str, SampleDataset]:
    """Fixed samples of each box task on validation clips, with the evaluation questions and exact boxes.

    Every box that the model hears of its answer is misplaced: hearing the right ones would flatter it.
    """

    def samples(task: str) -> SampleDataset:
        return SampleDataset(
            cache,
            VAL_SAMPLES // 4,
            16,
            config.phases[-1:],
            {task: 1.0},
            _VAL_SEED,
            paraphrase_share=0.0,
            box_jitter=0.0,
            slip_share=1.0,
        )

    return {task: samples(task) for task in ("SOT", "RSOT", "REC")}


def save(config: TrainConfig, model: ElysiumForConditionalGeneration, processor: ElysiumProcessor) -> Path:
    """Write the model in float16 safetensors, its processor and a record of the run to ``output_dir/final``."""
    folder = config.output_dir / "final"
    model.eval().half().save_pretrained(folder)
    processor.save_pretrained(folder)
    atomic_write_text(folder / "training.json", config.model_dump_json(indent=2))
    return folder
