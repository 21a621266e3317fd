"""The Hugging Face Trainer with our loss, our order of samples, our optimizer, our checkpoints and our validation.

A step's loss is a mean over everything that the step learns from: each micro-batch of each process counts by its answer
tokens, frames and things, so that it does not matter how they were cut into micro-batches and dealt out.

Knows: the Trainer's hooks. Does not know: where data and models come from.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from elysium.config import TrainConfig
from elysium.errors import InputError, TrainingError
from elysium.files import atomic_write_text
from elysium.model.modeling import ElysiumOutput
from elysium.model.processing import IGNORED
from elysium.training.loss import (
    PARTS,
    AnswerLoss,
    GateLoss,
    gate_parts,
    labelled,
    name_loss,
    part_counts,
    total,
)
from elysium.training.optimizer import MuonAdamW, part_groups
from elysium.training.validation import Validation

BAD_BATCH = "bad_batch.json"
TRAINED = "trained.safetensors"
STAGING = "saving"
BOOKMARKS = "bookmarks_{rank}.json"
_MOST_REASONS = 1000  # for skipped clips, that are told apart
_ABOUT = ("ids", "dropped_frames", "dropped_rounds", "skipped", "bookmarks", "counts")
_TARGETS = ("labels", "number_values", "gate_targets", "gate_boxes", "name_labels")


class ElysiumTrainer(Trainer):
    """Trains on samples in their own order, the curriculum's.

    Set ``answer_loss`` and ``config`` before training. ``eval_dataset`` is a dictionary of task name to samples.
    """

    answer_loss: AnswerLoss
    optimizer: Any
    config: TrainConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss_is_scaled_for_ga = True  # by the shares of micro-batches
        self.told: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._bookmarks: dict[tuple[int, int], str] = {}  # the latest of each lane of each source
        self._sums: dict[str, tuple[Tensor | float, Tensor | float]] = {}
        self._staging: str | None = None
        self._scored: int | None = None  # the step of the last validation: the last step would have two
        self._scalars = widened_scalars(self.model) if self.shards else frozenset()
        self.model.touches_parts = self.shards or not self._finds_unused()

    @property
    def shards(self) -> bool:
        """Whether processes share out what they train: optimizer states at least."""
        return bool(self.is_deepspeed_enabled or self.is_fsdp_enabled)

    @property
    def in_pieces(self) -> bool:
        """Whether they share out the weights too, so that none of them has all."""
        return bool(self.is_fsdp_enabled or (self.is_deepspeed_enabled and is_deepspeed_zero3_enabled()))

    def _finds_unused(self) -> bool:
        """Whether data parallelism, if there is any, does without the gradients that a process does not have."""
        asked = self.args.ddp_find_unused_parameters
        return self.args.world_size == 1 or (not self.args.gradient_checkpointing if asked is None else bool(asked))

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Muon and AdamW, or what ``TrainingArguments`` says, with the learning rates of parts."""
        rates = self.config.model.learning_rates
        if self.optimizer is None and self.config.muon_lr:
            args = self.args
            self.optimizer = MuonAdamW(
                self.model.named_parameters(), self.config.muon_lr, args.learning_rate, args.weight_decay, rates
            )
        elif self.optimizer is None and rates:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            decayed = set(self.get_decay_parameter_names(self.model))
            groups = part_groups(self.model.named_parameters(), options["lr"], rates, self.args.weight_decay, decayed)
            self.optimizer = kind(groups, **options)
        optimizer: torch.optim.Optimizer = super().create_optimizer()
        return optimizer

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Tensor | None]:
        """The micro-batches of a step and (7,) what their parts are means over, summed over all processes."""
        batches = []
        for _ in range(num_batches):
            batch = next(epoch_iterator, None)
            if batch is None:
                break
            self._count_troubles(batch)
            for mark in batch["bookmarks"][-1:]:  # a batch is of one source and of one lane
                told = json.loads(mark)
                self._bookmarks[told["source"], told["lane"]] = mark
            batches.append({**batch, "counts": part_counts(batch)})
        if not batches:
            return batches, None
        counts = torch.stack([batch["counts"] for batch in batches]).sum(dim=0).to(device)
        return batches, self.accelerator.reduce(counts, reduction="sum")

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: the Trainer's estimate takes every parameter to learn, and walks through all at every step."""
        return 0

    def _count_troubles(self, batch: dict[str, Any]) -> None:
        """Remember what went wrong on the way to a batch."""
        for what in ("dropped_frames", "dropped_rounds"):
            self.told[what] += sum(batch[what])
        self.told["skipped_clips"] += len(batch["skipped"])
        for reason in batch["skipped"]:
            if reason in self.reasons or len(self.reasons) < _MOST_REASONS:
                self.reasons[reason] += 1

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        counts = inputs["counts"]
        parts, output = self.loss_parts(model, inputs)
        shares = None
        if num_items_in_batch is not None:  # the mean over processes follows, so each counts for all
            shares = self.accelerator.num_processes * counts / num_items_in_batch.clamp_min(1)
        if not parts:
            raise InputError(
                "A batch holds nothing to learn from: no answers are taught, and no boxes known", "Mix tracks in"
            )
        loss = total(parts, self.config.loss, shares)
        if not bool(torch.isfinite(loss)):
            self._refuse(loss, parts, inputs["ids"])
        self._remember(parts, counts)
        return (loss, {"logits": output.logits}) if return_outputs else loss

    def _refuse(self, loss: Tensor, parts: Mapping[str, Tensor], ids: list[str]) -> None:
        """Write down what was in a batch whose loss is no number. Raises TrainingError."""
        path = Path(str(self.args.output_dir)) / BAD_BATCH
        step = self.state.global_step + 1
        values = {name: str(part.item()) for name, part in parts.items()}
        atomic_write_text(path, json.dumps({"step": step, "loss": values, "ids": ids}, indent=2) + "\n")
        raise TrainingError(
            f"The loss of step {step} is {loss.item()}; the {len(ids)} samples of its batch are listed in {path}",
            "Look at them, or lower trainer.learning_rate; the last checkpoint is from before",
        )

    def loss_parts(self, model: nn.Module, batch: dict[str, Any]) -> tuple[dict[str, Tensor], ElysiumOutput]:
        """The parts of the loss by name, and the model's output with the logits (B, T, V) that predict the T tokens of
        `answer_places`; no logits if only the gate is taught."""
        inputs = {key: value for key, value in batch.items() if key not in (*_TARGETS, *_ABOUT)}
        names, taught = batch.get("name_labels"), self.config.loss
        if not taught.names:
            inputs = {key: value for key, value in inputs.items() if not key.startswith("named_")}
        if not (taught.answers or taught.selects):
            if names is None:
                raise InputError("A batch holds nothing that has a name", "Let a stage of names ask REG alone")
            used = ("vision_features", "pixel_values", "named_boxes", "named_frames")
            inputs = {key: inputs[key] for key in used if key in inputs}
        places = answer_places(batch["labels"])
        output = model(**inputs, logits_to_keep=places - 1, use_cache=False, only_select=not taught.answers)
        parts: dict[str, Tensor] = {}
        if output.name_logits is not None and names is not None:
            parts["names"] = name_loss(output.name_logits, names)
        if output.selector_logits is not None and taught.selects:
            parts |= _of_gate(output.selector_logits, output, batch)
        if output.logits is not None:
            parts |= self.answer_loss(output.logits, batch["labels"][:, places], batch["number_values"][:, places])
        return parts, output

    def _remember(self, parts: Mapping[str, Tensor], counts: Tensor) -> None:
        """Sum up the parts until they are logged; a part that a batch does not have does not count."""
        for name, part in parts.items():
            there = (counts[PARTS.index(name)] > 0).float()
            value, seen = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (value + part.detach().float() * there, seen + there)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            for name, (value, seen) in self._sums.items():
                if seen > 0:
                    logs[f"loss_{name}"] = round(float(value / seen), 4)
            self._sums = {}
            logs.update({name: count for name, count in self.told.items() if count})
        super().log(logs, *args, **kwargs)

    @torch.no_grad()  # inference mode would spoil weights that ZeRO-3 puts together here for the next step
    def evaluate(self, eval_dataset: Any = None, **kwargs: Any) -> dict[str, float]:
        """Teacher-forced scores on validation clips, logged as ``val_<task>``, once a step."""
        if self._scored == self.state.global_step:
            return {}
        self._scored = self.state.global_step
        self.model.eval()
        scores: dict[str, float] = {}
        for name, samples in (eval_dataset or self.eval_dataset or {}).items():
            scores |= self._teacher_forced(name, samples)
        self.model.train()
        self.log({f"val_{name}": round(value, 4) for name, value in scores.items()})
        return scores

    def _teacher_forced(self, name: str, samples: Any) -> dict[str, float]:
        tally = Validation(name, self.answer_loss, self.data_collator.processor)
        for start in range(0, len(samples), samples.batch_size):
            indices = range(start, min(start + samples.batch_size, len(samples)))
            batch = self._prepare_inputs(self.data_collator([samples[i] for i in indices]))
            _, output = self.loss_parts(self.model, batch)
            tally.add(batch, output, answer_places(batch["labels"]))
        return tally.scores()

    def narrow_scalars(self) -> None:
        """Single numbers are single numbers again, as files and other models have them."""
        for name, parameter in self.model.named_parameters():
            if name in self._scalars:
                parameter.data = parameter.data.reshape(())

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """With adapters, what learns is saved alone: the rest is what the run started from."""
        if self._scalars and state_dict is not None:
            state_dict = {k: v.reshape(()) if k in self._scalars else v for k, v in state_dict.items()}
        if self.config.model.lora is None:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            folder.mkdir(parents=True, exist_ok=True)
            learned = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
            state = self.model.state_dict() if state_dict is None else state_dict
            kept = {name: value.contiguous() for name, value in state.items() if name in learned}
            save_file(kept, folder / TRAINED, metadata={"format": "pt"})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.config.model.lora is None:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        found = load_file(Path(resume_from_checkpoint) / TRAINED)
        left = (model or self.model).load_state_dict(found, strict=False).unexpected_keys
        if left:
            raise TrainingError(f"{resume_from_checkpoint} has weights that the model has not: {left[:3]} ...")

    def bookmarks_of(self, checkpoint: str) -> list[str]:
        """Where this process was in its shards when a checkpoint was written."""
        path = Path(checkpoint) / BOOKMARKS.format(rank=self.args.process_index)
        marks: list[str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        self._bookmarks = {(told["source"], told["lane"]): mark for mark in marks for told in [json.loads(mark)]}
        return marks

    def _get_output_dir(self, trial: Any) -> str:
        return self._staging or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint aside and move it to its place when it is whole: a killed run leaves no half one."""
        home = Path(super()._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        self._staging = str(home / STAGING)
        try:
            if self.args.should_save:
                shutil.rmtree(home / STAGING, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            if self._bookmarks:
                text = json.dumps(list(self._bookmarks.values()), indent=1) + "\n"
                atomic_write_text(home / STAGING / name / BOOKMARKS.format(rank=self.args.process_index), text)
        finally:
            self._staging = None
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            shutil.rmtree(home / name, ignore_errors=True)
            os.replace(home / STAGING / name, home / name)
            shutil.rmtree(home / STAGING, ignore_errors=True)
            keep_last(home, self.args.save_total_limit)
        self.accelerator.wait_for_everyone()


def _of_gate(logits: Tensor, output: ElysiumOutput, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """What the gate is taught by the frames of which it is known what lies where; ``logits`` (F, N) are its own."""
    known = labelled(batch["gate_targets"]) if "gate_targets" in batch else None
    if known is None or not bool(known.any()):  # every process goes through the gate; this batch counts for nothing
        return dict.fromkeys(("gate", "choice", "votes"), 0.0 * logits.sum())
    votes, box = (None if value is None else value[known] for value in (output.votes, output.voted_box))
    return gate_parts(GateLoss(logits[known], votes, box, batch["gate_targets"][known], batch["gate_boxes"][known]))


def widened_scalars(model: nn.Module) -> frozenset[str]:
    """Make vectors of one number of the parameters that are single numbers, and name them: DeepSpeed and FSDP cut
    parameters along their first dimension and refuse those without one."""
    scalars = {name: parameter for name, parameter in model.named_parameters() if parameter.ndim == 0}
    for parameter in scalars.values():
        parameter.data = parameter.data.reshape(1)
    return frozenset(scalars)


def answer_places(labels: Tensor) -> Tensor:
    """(T,) ascending places at which any row of ``labels`` (B, L) has an answer token."""
    return (labels != IGNORED).any(dim=0).nonzero().squeeze(-1)


def keep_last(folder: Path, limit: int | None) -> None:
    """Remove all but the last ``limit`` checkpoints of ``folder``."""
    found = sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for path in found[: -limit if limit else 0]:
        shutil.rmtree(path)


class JsonLog(TrainerCallback):
    """Appends every logged line to a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")
