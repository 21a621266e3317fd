"""Training configurations: what a YAML file may say, checked before anything loads.

Knows: names, types, ranges and defaults of every key, and which of them exclude each other; an unknown key is an error
that names it. Does not know: files (``config_files`` reads them), torch, models, what the values do.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
TaskName = Literal["SOT", "RSOT", "VIDEO_REG", "REC", "REG", "VIDEO_QA", "CAPTION"]
Tasks = Annotated[dict[TaskName, Annotated[float, Field(ge=0)]], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ComposeSection(_Strict):
    """A model put together from a vision tower and a causal language model, each a folder or a hub id.

    The keys below them are those of ``ElysiumConfig``, which has their defaults.
    """

    vision: str
    language: str
    selector: dict[str, Any] = Field(default_factory=dict)
    projector_type: Literal["mlp2x_gelu", "linear"] | None = None
    vision_feature_layers: tuple[int, ...] | None = None
    vision_grid: int | None = None
    region_tokens: int | None = None


class LoraSection(_Strict):
    """Low-rank adapters (Hu et al. 2021) on the language model's layers named ``targets``, the rest of it frozen.

    ``four_bit``: the frozen weights are held in 4-bit NormalFloat (QLoRA, Dettmers et al. 2023; needs bitsandbytes).
    """

    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: Share = 0.05
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    four_bit: bool = False


class ModelSection(_Strict):
    """Which model is trained. ``preset: nano`` starts from ImageNet features; ``path`` goes on from a folder, a hub id
    or a bundled model; ``compose`` from a tower and a language model.

    ``learns``: the parts that are trained, by the beginnings of their parameters' names; ``None``: all but the tower.
    With ``lora`` the language model is not among them. ``learning_rates``: factors on the learning rate of parts, by
    the same beginnings, the longest that fits. ``tokens_per_frame``: each batch keeps one of these numbers of visual
    tokens, drawn anew; ``None``: the model's own. ``dtype``: of the weights, which is not that of
    autocast (``trainer.bf16``).
    """

    preset: Literal["nano"] = "nano"
    path: Path | None = None
    compose: ComposeSection | None = None
    tower_weights: Path | None = None
    learns: tuple[str, ...] | None = None
    learning_rates: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    lora: LoraSection | None = None
    tokens_per_frame: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def tower_learns(self) -> bool:
        """Whether the vision tower is trained: only where ``learns`` names it."""
        return any(part == "vision" or part.startswith("vision.") for part in self.learns or ())

    @model_validator(mode="after")
    def _fits(self) -> ModelSection:
        if self.path is not None and self.compose is not None:
            raise ValueError("path and compose exclude each other")
        if self.lora is not None and any(part.startswith("language_model") for part in self.learns or ()):
            raise ValueError("lora freezes the language model, which learns names")
        return self


class QuestionShares(_Strict):
    """How often each kind of question is drawn, in shares of any sum."""

    colour: float = Field(1.0, ge=0)
    kind: float = Field(1.0, ge=0)
    count: float = Field(1.0, ge=0)
    motion: float = Field(1.0, ge=0)


def _default_tasks() -> dict[TaskName, float]:
    return {"SOT": 0.5, "RSOT": 0.2, "VIDEO_REG": 0.05, "REC": 0.2, "REG": 0.05}


class SourceSection(_Strict):
    """Records (``elysium.data.records``) and the folder that their image paths are relative to; or ``shards``, a path
    or pattern of files that hold both (``elysium.data.shards``), which are read from their beginning to their end.

    ``weight``: its share of the batches, against other sources and ``data.synth_weight``. ``tasks``: what is asked;
    those of ``data`` by default. A record that is a chat is asked its own questions, as VIDEO_QA. ``frames``: of each
    of its samples (16 is the paper's number for VideoQA); by default those of ``phases``. ``window``: how many clips
    of its shards each reader holds, to show them in a drawn order.
    """

    annotations: Path | None = None
    images: Path | None = None
    shards: str | None = None
    window: int = Field(64, ge=1)
    weight: float = Field(1.0, gt=0)
    tasks: Tasks | None = None
    frames: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _either(self) -> SourceSection:
        if (self.annotations is None) != (self.images is None):
            raise ValueError("annotations and images go together")
        if (self.annotations is None) == (self.shards is None):
            raise ValueError("give annotations and images, or shards")
        return self


class DataSection(_Strict):
    """What is learned from: ``sources`` of records, and clips made by program; and what is asked about them.

    Clips made by program are rendered once; what a frozen tower sees in them (or, where it learns, their pixels) is
    kept in ``cache_dir``. ``synth_weight``: their share of the batches, against the weights of ``sources``.
    ``max_interval``: frames of one sample of a record lie 1 to so many frames apart. ``max_tokens``: what a sequence
    may hold, by default as much as the language model; longer samples lose rounds of their chat, then frames, from the
    end. ``packing``: questions about the same frames share them in one sequence, under a mask that hides them from each
    other; only for selectors that do not look at the question.

    ``box_jitter``: how far, in object sizes, a question's box is off in half of the samples. ``slip_share``: how many
    of the boxes that the model hears of its own answer are misplaced, so that it looks instead of repeating.
    ``still_clips``: single pictures, for questions on images; with 0 those are asked on frames of clips.
    ``questions``: how often each kind is drawn where a question is to be asked; some kinds seldom can be.
    ``image_questions``: the share of them, and of captions, that is about single pictures, which cost less than
    clips.
    ``group_size``: how many neighbouring questions of a batch are about the same frames.
    """

    assets: Path | None = None
    cache_dir: Path = Path("runs/nano/cache")
    sources: tuple[SourceSection, ...] = ()
    max_interval: int = Field(60, ge=1)
    max_tokens: int | None = Field(None, ge=16)
    packing: bool = False
    synth_weight: float = Field(1.0, ge=0)
    train_clips: int = Field(8000, ge=0)
    val_clips: int = Field(200, ge=0)
    still_clips: int = Field(0, ge=0)
    seed: int = 0
    synth: dict[str, Any] = Field(default_factory=dict)
    still_synth: dict[str, Any] = Field(default_factory=dict)
    group_size: int = Field(1, ge=1)
    tasks: Tasks = Field(default_factory=_default_tasks)
    paraphrase_share: Share = 0.3
    box_jitter: float = Field(0.06, ge=0, le=0.5)
    slip_share: Share = 0.6
    questions: QuestionShares = QuestionShares()
    image_questions: Share = 0.0

    @property
    def uses_synth(self) -> bool:
        """Whether clips made by program are among what is learned from."""
        return self.train_clips > 0 and self.synth_weight > 0

    @model_validator(mode="after")
    def _there_is_something(self) -> DataSection:
        if not (self.uses_synth or self.sources):
            raise ValueError("train_clips is 0 and there are no sources: nothing to learn from")
        return self


class Phase(_Strict):
    """Up to ``until`` (share of all steps), clips have ``frames`` frames, or ``min_frames`` to ``frames``, drawn for
    each batch."""

    until: float = Field(gt=0, le=1)
    frames: int = Field(ge=1, le=32)
    min_frames: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Phase:
        if self.min_frames is not None and self.min_frames > self.frames:
            raise ValueError(f"min_frames is {self.min_frames}, more than frames, {self.frames}")
        return self


class LossSection(_Strict):
    """Weights of the loss.

    Numbers are softened by a Gaussian of ``number_sigma`` bins; ``template`` weighs the rest of a box answer;
    ``gate`` the prompt gate's question whether a token lies in the object, ``choice`` its choice among a frame's
    tokens, ``votes`` the boxes its tokens vote for. ``names``: whether what is projected of a thing looks like words
    for it. ``answers: false`` leaves the language model out: only the gate is taught, or, with its weights at 0, names.
    """

    number_sigma: float = Field(1.0, ge=0)
    template: float = Field(0.1, ge=0)
    answers: bool = True
    gate: float = Field(1.0, ge=0)
    choice: float = Field(0.5, ge=0)
    votes: float = Field(1.0, ge=0)
    names: float = Field(0.0, ge=0)

    @property
    def selects(self) -> bool:
        """Whether the gate is taught."""
        return bool(self.gate or self.choice or self.votes)


class TrainConfig(_Strict):
    """One training run.

    ``trainer`` is handed to transformers' ``TrainingArguments`` as it is. ``muon_lr`` above 0 trains weight matrices
    with Muon at that rate and the rest with AdamW at ``trainer.learning_rate``.
    """

    output_dir: Path
    seed: int = 0
    threads: int = Field(2, ge=1)
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    phases: tuple[Phase, ...] = (Phase(until=1.0, frames=2),)
    loss: LossSection = LossSection()
    muon_lr: float = Field(0.0, ge=0)
    trainer: dict[str, Any] = Field(default_factory=dict)

    @field_validator("phases")
    @classmethod
    def _phases_end(cls, phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
        if not phases or phases[-1].until != 1.0 or any(a.until >= b.until for a, b in pairwise(phases)):
            raise ValueError("phases must rise and the last must have until: 1.0")
        return phases

    @model_validator(mode="after")
    def _fits(self) -> TrainConfig:
        if self.muon_lr and (self.trainer.get("deepspeed") or self.trainer.get("fsdp")):
            raise ValueError("muon_lr needs whole matrices, which DeepSpeed and FSDP shard: leave it out")
        if not self.loss.answers and self.model.lora is not None:
            raise ValueError("loss.answers is false, so the language model that model.lora adapts is not run")
        if not (self.loss.answers or self.loss.selects or self.loss.names):
            raise ValueError("every weight of the loss is zero")
        return self
