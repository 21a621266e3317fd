"""Training configurations: what a YAML file may say, checked before anything loads.

Knows: names, types, ranges and defaults of every key; an unknown key is an error that names it.
Does not know: torch, models, what the values do.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from elysium.errors import InputError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(_Strict):
    """Which model is trained. ``preset: nano`` starts from ImageNet features; ``path`` goes on from a folder.

    ``learns``: the parts that are trained, by the beginnings of their parameters' names; ``None``: all but the tower,
    which is always frozen.
    """

    preset: str = "nano"
    path: Path | None = None
    tower_weights: Path | None = None
    learns: tuple[str, ...] | None = None


class QuestionShares(_Strict):
    """How often each kind of question is drawn, in shares of any sum."""

    colour: float = Field(1.0, ge=0)
    kind: float = Field(1.0, ge=0)
    count: float = Field(1.0, ge=0)
    motion: float = Field(1.0, ge=0)


class DataSection(_Strict):
    """Clips made by program, rendered once, their frozen-tower features kept in ``cache_dir``; and what is asked.

    ``box_jitter``: how far, in object sizes, a question's box is off in half of the samples. ``slip_share``: how many
    of the boxes that the model hears of its own answer are misplaced, so that it looks instead of repeating.
    ``still_clips``: single pictures, for questions on images; with 0 those are asked on frames of clips.
    ``questions``: how often each kind is drawn where a question is to be asked; some kinds seldom can be.
    ``image_questions``: the share of them that is about single pictures, which cost less than clips.
    ``group_size``: how many neighbouring questions of a batch are about the same frames.
    """

    assets: Path | None = None
    cache_dir: Path = Path("runs/nano/cache")
    train_clips: int = Field(8000, ge=1)
    val_clips: int = Field(200, ge=1)
    still_clips: int = Field(0, ge=0)
    seed: int = 0
    synth: dict[str, Any] = Field(default_factory=dict)
    still_synth: dict[str, Any] = Field(default_factory=dict)
    group_size: int = Field(1, ge=1)
    tasks: dict[str, float] = Field(
        default_factory=lambda: {"SOT": 0.5, "RSOT": 0.2, "VIDEO_REG": 0.05, "REC": 0.2, "REG": 0.05}
    )
    paraphrase_share: float = Field(0.3, ge=0, le=1)
    box_jitter: float = Field(0.06, ge=0, le=0.5)
    slip_share: float = Field(0.6, ge=0, le=1)
    questions: QuestionShares = QuestionShares()
    image_questions: float = Field(0.0, ge=0, le=1)


class Phase(_Strict):
    """Up to ``until`` (share of all steps), clips have ``frames`` frames."""

    until: float = Field(gt=0, le=1)
    frames: int = Field(ge=1, le=32)


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


def load_stages(path: str | Path, overrides: list[str] | None = None) -> list[TrainConfig]:
    """Read a YAML file and apply ``key.sub=value`` overrides; one configuration for each of its ``stages``, in order.

    A stage is a mapping laid over the rest of the file, with a ``name``: its folder is ``output_dir/name``, and it goes
    on from the model of the stage before. A file without stages is one configuration. Raises InputError that lists
    every wrong key.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"No such configuration file: {file}", "Name a YAML file such as configs/nano.yaml")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not readable YAML: {error}", "Mend the file") from error
    for override in overrides or []:
        _apply(values, override)
    if not isinstance(values, dict):
        raise InputError(f"{file} holds no keys", "Write it as key: value")
    stages = values.pop("stages", None)
    if stages is None:
        return [_validated(values, str(file))]
    if not isinstance(stages, list) or not all(isinstance(s, dict) and isinstance(s.get("name"), str) for s in stages):
        raise InputError(f"{file}: stages must be a list of mappings, each with a name", "Mend it")
    configs: list[TrainConfig] = []
    for stage in stages:
        merged = _merged(values, {key: value for key, value in stage.items() if key != "name"})
        merged["output_dir"] = f"{merged.get('output_dir', '')}/{stage['name']}"
        if configs:
            merged["model"] = {**merged.get("model", {}), "path": configs[-1].output_dir / "final"}
        configs.append(_validated(merged, f"{file}, stage {stage['name']}"))
    return configs


def _validated(values: dict[str, Any], where: str) -> TrainConfig:
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"{where}: {problems}", "Mend or remove these keys") from error


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings merged key by key; all else of ``above`` replaces that of ``below``, and ``tasks`` do so whole."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict) and key != "tasks"
        result[key] = _merged(result[key], value) if both else value
    return result


def _apply(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise InputError(f"Cannot read the override {override!r}", "Write it as key.sub=value")
    *parents, last = key.split(".")
    place: Any = values
    try:
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
        place[last] = yaml.safe_load(text)
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise InputError(f"The override {override!r} names no place in the file", "Write key.sub=value") from error
