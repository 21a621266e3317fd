"""One training run from one configuration: a readable loop around the Hugging Face Trainer.

``run`` does, in this order, for each stage: read the configuration, load the model (or, for a new nano, train a
tokenizer on the words of the clips), read the records, render and encode the clips (resumed where it stopped), train
(resumed from the last checkpoint), save a folder that ``Elysium.from_pretrained`` takes.

Knows: the order of things, and which of them one process does for all. Does not know: how clips look, what is in a
sample, how the loss is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import TrainingArguments
from transformers.integrations import deepspeed as hf_deepspeed
from transformers.integrations import is_tensorboard_available

from elysium.config import TrainConfig
from elysium.config_files import load_stages
from elysium.errors import InputError
from elysium.files import atomic_write_text, ensure_folder
from elysium.model import ElysiumProcessor
from elysium.model.presets import nano_config, number_token_ids
from elysium.pretrained import no_progress_bars
from elysium.training.collate import Collator
from elysium.training.features import Encode, tower_encoder
from elysium.training.loss import AnswerLoss
from elysium.training.materials import Materials, gather, read_sources, training_samples, validation_sets
from elysium.training.run_log import LOG
from elysium.training.samples import Sample
from elysium.training.starting import (
    Start,
    adapt,
    bare_nano,
    check_fits,
    counted_as_adapted,
    freeze,
    fresh_nano,
    given_start,
    in_full_precision,
)
from elysium.training.stopping import StopGently, claim, refuse_changed
from elysium.training.trainer import ElysiumTrainer, JsonLog
from elysium.training.vocabulary import Vocabulary

DONE = "training.json"  # in the folder of a finished model
MOST_TOKENS = 1 << 20  # where a language model sets no limit
REASONS_TOLD = 3  # why clips were skipped, most frequent first
_REFUSED = {
    "load_best_model_at_end": "the curriculum ends with the last step",
    "label_smoothing_factor": "numbers are softened by loss.number_sigma",
    "auto_find_batch_size": "the curriculum is laid out for one size of batches",
}
_COUNTS = ("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps")


def run(config_path: str | Path, overrides: list[str] | None = None) -> Path:
    """Train as ``config_path`` says and return the folder of the finished model. Goes on where it was stopped."""
    stages = load_stages(config_path, overrides)
    arguments = [training_arguments(stage) for stage in stages]  # wrong ones are told before an hour of rendering
    with no_progress_bars():  # of reading and writing weights: a line each, at every checkpoint
        for stage, options in zip(stages[:-1], arguments, strict=False):
            done = stage.output_dir / "final" / DONE
            if done.exists():
                refuse_changed(done, stage)
            else:
                run_stage(stage, options)
        return run_stage(stages[-1], arguments[-1])


def run_stage(config: TrainConfig, arguments: TrainingArguments) -> Path:
    """Train one stage and return the folder of its model."""
    ensure_folder(config.output_dir)
    with arguments.main_process_first(desc="reading the output folder"):
        last = claim(config, arguments.world_size, writes=arguments.should_save)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    with not_cut_up():
        (model, processor), materials = prepare(config, arguments)
    freeze(model, config.model.learns, adapted=config.model.lora is not None)
    merge = adapt(config, model)
    if not (arguments.deepspeed or arguments.fsdp):
        in_full_precision(model)
    with counted_as_adapted(model, config):
        trainer = build_trainer(config, arguments, (model, processor), materials)
    if last:
        materials.read_from(trainer.bookmarks_of(last))
    train(trainer, config, last)
    return save(trainer, config, merge, processor)


@contextmanager
def not_cut_up() -> Iterator[None]:
    """ZeRO-3 would share weights out while models are built and put together, which takes whole ones: it does so when
    training begins."""
    asked = hf_deepspeed._hf_deepspeed_config_weak_ref
    hf_deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        hf_deepspeed._hf_deepspeed_config_weak_ref = asked


def prepare(config: TrainConfig, arguments: TrainingArguments) -> tuple[Start, Materials]:
    """Model, processor, and what they learn from. One process renders, the others read what it wrote."""
    start = given_start(config)
    if start is not None:
        check_fits(config, start[0])
    size_px = nano_config(1).image_size if start is None else start[1].image_processor.image_size
    validates = arguments.eval_strategy != "no"
    records = read_sources(config.data, size_px)
    with arguments.main_process_first(desc="rendering clips"):
        materials = gather(config, records, size_px, encoder(config, start), validates)
    if start is None:
        with arguments.main_process_first(desc="training the tokenizer"):
            start = given_start(config) or fresh_nano(config, Vocabulary(materials.things()))
    materials.check_frames((size_px, size_px, 3) if keeps_pixels(config) else (start[0].vision.num_features,))
    return start, materials


def keeps_pixels(config: TrainConfig) -> bool:
    """Whether rendered frames are kept as pixels: where the tower learns, or where records bring pixels too."""
    return config.model.tower_learns or bool(config.data.sources)


def encoder(config: TrainConfig, start: Start | None) -> Encode:
    """What is kept of rendered frames: their pixels, or what the frozen tower sees in them."""
    if keeps_pixels(config):
        return lambda frames: frames
    made: list[Encode] = []

    def encode(frames: NDArray[np.uint8]) -> NDArray[Any]:
        if not made:
            model, processor = start or bare_nano(config.model.tower_weights)
            made.append(tower_encoder(model.eval(), processor.image_processor))
        return made[0](frames)

    return encode


def training_arguments(config: TrainConfig) -> TrainingArguments:
    """``config.trainer`` over our defaults. Raises InputError for what it cannot be."""
    _check_trainer(config)
    report = "tensorboard" if is_tensorboard_available() else "none"
    options = {"report_to": report, "remove_unused_columns": False, "use_cpu": not torch.cuda.is_available(),
               "dataloader_num_workers": 0, "seed": config.seed, "max_grad_norm": 1.0, **config.trainer}  # fmt: skip
    counted = not (config.data.uses_synth or any(source.shards for source in config.data.sources))
    if options.get("max_steps", -1) < 1 and not ("num_train_epochs" in options and counted):
        raise InputError(
            "trainer.max_steps is missing",
            "The curriculum needs the number of steps (or, for records that are not in shards, epochs)",
        )
    try:
        arguments = TrainingArguments(output_dir=str(config.output_dir), **options)
    except (TypeError, ValueError, ImportError) as error:
        told = str(error).replace("TrainingArguments.__init__() got an", "an").split("\n")[0]
        raise InputError(f"trainer: {told}", "Its keys are those of transformers' TrainingArguments") from error
    dealing = arguments.accelerator_config
    if any(source.shards for source in config.data.sources) and (dealing.split_batches or dealing.dispatch_batches):
        raise InputError("trainer.accelerator_config deals batches out in another way than shards are", "Leave it out")
    if arguments.n_gpu > 1:
        raise InputError(
            f"There are {arguments.n_gpu} GPUs for one process",
            "Start one for each: torchrun --nproc-per-node N -m elysium train ...; or set CUDA_VISIBLE_DEVICES=0",
        )
    return arguments


def _check_trainer(config: TrainConfig) -> None:
    """Raises InputError for values that TrainingArguments takes and that fail or mean nothing later."""
    for key, reason in _REFUSED.items():
        if config.trainer.get(key):
            raise InputError(f"trainer.{key} does not go here: {reason}", "Leave it out")
    for key in _COUNTS:
        value = config.trainer.get(key, 1)
        least = -1 if key == "max_steps" else 1
        if type(value) is not int or value < least:
            raise InputError(f"trainer.{key} is {value!r}", f"It must be a whole number, {least} or more")
    for key in ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps"):
        value = config.trainer.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise InputError(f"trainer.{key} is {value!r}", "It must be a number, 0 or more")


def build_trainer(
    config: TrainConfig, arguments: TrainingArguments, start: Start, materials: Materials
) -> ElysiumTrainer:
    """The Trainer of a run."""
    model, processor = start
    numbers = number_token_ids(processor.tokenizer)
    collator = Collator(
        processor, numbers, model.vision.grid, config.data.packing, config.model.tokens_per_frame or (), config.seed
    )
    if arguments.max_steps < 1:
        step = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
        arguments.max_steps = math.ceil(arguments.num_train_epochs * materials.num_clips() / step)
    marks = bool(processor.num_region_tokens)
    limit = getattr(model.config.text_config, "max_position_embeddings", None)
    most_tokens = config.data.max_tokens or limit or MOST_TOKENS
    samples = training_samples(config, materials, arguments, processor, fits_into(collator, most_tokens))
    trainer = ElysiumTrainer(
        model=model, args=arguments, train_dataset=samples, eval_dataset=validation_sets(config, materials.val, marks),
        data_collator=collator, callbacks=[JsonLog(config.output_dir / LOG)],
    )  # fmt: skip
    check_shards(config, trainer, start)
    trainer.answer_loss = AnswerLoss(numbers, config.loss.number_sigma)
    trainer.config = config
    return trainer


def check_shards(config: TrainConfig, trainer: ElysiumTrainer, start: Start) -> None:
    """Raises InputError for what cannot be trained in the way that the launcher or ``config.trainer`` asks for."""
    model, processor = start
    if config.muon_lr and trainer.shards:
        raise InputError("muon_lr needs whole matrices, which DeepSpeed and FSDP shard", "Leave it out")
    if not trainer.in_pieces:
        return
    if config.model.lora is not None:
        raise InputError("model.lora under ZeRO-3 or FSDP cannot be merged at the end", "Use DDP, ZeRO-1 or ZeRO-2")
    if config.loss.names:
        raise InputError("loss.names needs a whole table of words, which ZeRO-3 and FSDP shard", "Use DDP or ZeRO-2")
    by_prompt = "prompt" in model.selector.looks_at or bool(processor.num_region_tokens)
    if by_prompt and trainer.is_deepspeed_enabled:  # DeepSpeed: "Detected a disagreement on list length"
        raise InputError(
            "ZeRO-3 wants every batch to use the same modules, but those of this model depend on the question",
            "Use FSDP, ZeRO-2 or DDP",
        )


def fits_into(collator: Collator, most_tokens: int) -> Callable[[Sample], bool]:
    """Whether a sample's sequence has at most so many tokens."""

    def fits(sample: Sample) -> bool:
        # A token is a byte or more of text, so most samples need not be tokenised for this.
        per_frame = max(collator.tokens_per_frame, default=collator.processor.num_image_tokens)
        pieces = (sample.prompt, sample.answer, *(text for pair in sample.later for text in pair))
        text = sum(len(piece.encode()) + 1 for piece in pieces)
        bound = text + (per_frame + 1) * len(sample.boxes) + collator.processor.num_region_tokens + 8
        return bound <= most_tokens or collator.length(sample) <= most_tokens

    return fits


def train(trainer: ElysiumTrainer, config: TrainConfig, last: str | None) -> None:
    """Train to the end, from the checkpoint ``last`` if there is one. Raises KeyboardInterrupt if a signal stopped
    it."""
    says = trainer.is_world_process_zero()
    if last and says:
        print(f"resuming from {last}", flush=True)
    stop = StopGently()
    trainer.add_callback(stop)
    try:
        trainer.train(resume_from_checkpoint=last)
    except InputError as error:  # a loader's process sends its whole traceback, ours at the end
        raise InputError(str(error).strip().rpartition("InputError: ")[2]) from error
    finally:
        stop.restore()
    if says:
        for what, count in trainer.told.items():
            if count:
                print(f"{what.replace('_', ' ')}: {count}", flush=True)
        for reason, count in trainer.reasons.most_common(REASONS_TOLD):
            print(f"  {count} times: {reason}", flush=True)
    if stop.asked:
        if says:
            step = trainer.state.global_step
            print(f"stopped after step {step}; the same command goes on from {config.output_dir}", flush=True)
        raise KeyboardInterrupt


def save(
    trainer: ElysiumTrainer, config: TrainConfig, merge: Callable[[], nn.Module], processor: ElysiumProcessor
) -> Path:
    """Write the model in safetensors, its processor and a record of the run to ``output_dir/final``.

    Half precision: float16, or what the weights were trained in; adapters merged.
    """
    folder = config.output_dir / "final"
    half = torch.bfloat16 if config.model.dtype == "bfloat16" else torch.float16
    if trainer.in_pieces:
        whole = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # of all processes, for the one that writes
        trainer._save(str(folder), {k: v.to(half) if v.is_floating_point() else v for k, v in (whole or {}).items()})
    elif trainer.args.should_save:
        trainer.narrow_scalars()
        model: Any = merge().eval()
        model.to(half).save_pretrained(folder)
    if trainer.args.should_save:
        processor.save_pretrained(folder)
        atomic_write_text(folder / DONE, config.model_dump_json(indent=2))
    trainer.accelerator.wait_for_everyone()
    return folder
