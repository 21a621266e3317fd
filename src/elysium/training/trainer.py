"""The Hugging Face Trainer with our loss, our order of samples, our optimizer and our validation.

Knows: the Trainer's hooks. Does not know: where data and models come from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback

from elysium.config import TrainConfig
from elysium.errors import InputError
from elysium.model.modeling import ElysiumOutput
from elysium.training.collate import IGNORED
from elysium.training.loss import (
    AnswerLoss,
    GateLoss,
    LossParts,
    gate_parts,
    name_loss,
    teacher_forced_boxes,
)
from elysium.training.optimizer import MuonAdamW
from elysium.training.samples import SampleDataset
from elysium.training.validation import IouTally, NameTally


class ElysiumTrainer(Trainer):
    """Trains on samples in their own order, the curriculum's.

    Set ``answer_loss`` and ``config`` before training. ``eval_dataset`` is a dictionary of task name to samples.
    """

    answer_loss: AnswerLoss
    optimizer: Any
    config: TrainConfig

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Muon and AdamW, unless the configuration leaves ``muon_lr`` at 0: then what ``TrainingArguments`` says."""
        if self.config.muon_lr and self.optimizer is None:
            parameters, args = self.model.named_parameters(), self.args
            self.optimizer = MuonAdamW(parameters, self.config.muon_lr, args.learning_rate, args.weight_decay)
        optimizer: torch.optim.Optimizer = self.optimizer or super().create_optimizer()
        return optimizer

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        parts, output = self.loss_parts(model, inputs)
        self._remember(parts)
        total = parts.total(self.config.loss)
        return (total, {"logits": output.logits}) if return_outputs else total

    def loss_parts(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[LossParts, ElysiumOutput]:
        """Loss parts, and the model's output with the logits (B, T+1, V) that predict the last T tokens, T the longest
        answer; no logits if only the gate is taught."""
        inputs = dict(batch)
        labels, values = inputs.pop("labels"), inputs.pop("number_values")
        targets, boxes = inputs.pop("gate_targets"), inputs.pop("gate_boxes")
        names = inputs.pop("name_labels", None)
        if not self.config.loss.names:
            inputs = {key: value for key, value in inputs.items() if not key.startswith("named_")}
        longest = int((labels != IGNORED).sum(dim=1).max())
        taught = self.config.loss
        if not (taught.answers or taught.selects):
            if names is None:
                raise InputError("A batch holds nothing that has a name", "Let a stage of names ask REG alone")
            inputs = {key: inputs[key] for key in ("vision_features", "named_boxes", "named_frames")}
        output = model(**inputs, logits_to_keep=longest + 1, use_cache=False, only_select=not taught.answers)
        parts: dict[str, Tensor] = {}
        if output.name_logits is not None and names is not None:
            parts["names"] = name_loss(output.name_logits, names)
        if output.selector_logits is not None:
            parts |= gate_parts(GateLoss(output.selector_logits, output.votes, output.voted_box, targets, boxes))
        if output.logits is not None:
            parts |= self.answer_loss(output.logits, labels[:, -longest:], values[:, -longest:])
        return LossParts(**parts), output

    def _remember(self, parts: LossParts) -> None:
        """Sum up the parts until they are logged; a part that a batch does not have (zero) does not count."""
        sums = self.__dict__.setdefault("_part_sums", {})
        for name, value in vars(parts).items():
            total, count = sums.get(name, (0.0, 0))
            if value > 0:
                sums[name] = (total + float(torch.as_tensor(value).detach()), count + 1)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            for name, (total, count) in self.__dict__.pop("_part_sums", {}).items():
                logs[f"loss_{name}"] = round(total / count, 4)
        super().log(logs, *args, **kwargs)

    @torch.inference_mode()
    def evaluate(self, eval_dataset: Any = None, **kwargs: Any) -> dict[str, float]:
        """Teacher-forced scores on validation clips, logged as ``val_<task>``."""
        self.model.eval()
        scores: dict[str, float] = {}
        for name, samples in (eval_dataset or self.eval_dataset).items():
            scores.update(self._teacher_forced(name, samples))
        self.model.train()
        self.log({f"val_{name}": round(value, 4) for name, value in scores.items()})
        return scores

    def _teacher_forced(self, name: str, samples: SampleDataset) -> dict[str, float]:
        written, voted = IouTally(name, name == "SOT"), IouTally(f"{name}_voted", name == "SOT")
        named = NameTally(f"{name}_named")
        for start in range(0, len(samples), samples.batch_size):
            indices = range(start, min(start + samples.batch_size, len(samples)))
            inputs = self.data_collator([samples[i] for i in indices])
            _, output = self.loss_parts(self.model, inputs)
            if output.name_logits is not None:
                named.add(output.name_logits, inputs["name_labels"])
            num_frames = int(inputs["frame_counts"][0])
            if output.voted_box is not None:
                voted.add(output.voted_box, inputs["gate_boxes"], num_frames)
            if output.logits is not None:
                values = inputs["number_values"][:, 1 - output.logits.shape[1] :]
                written.add(*teacher_forced_boxes(output.logits, values, self.answer_loss.number_ids), num_frames)
        return {**written.scores(), **voted.scores(), **named.scores()}


class JsonLog(TrainerCallback):
    """Appends every logged line to a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")
