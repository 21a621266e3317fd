"""Reading configurations: YAML files, the stages of training ones, and overrides from a command line.

Knows: files and how mappings are laid over each other. Does not know: what keys there are (``config`` does, and
``config_published`` for the published layout) and what they do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from elysium.config import ComposeSection, TrainConfig
from elysium.config_published import is_published, translate
from elysium.errors import InputError

Section = TypeVar("Section", bound=BaseModel)


def load_stages(path: str | Path, overrides: list[str] | None = None) -> list[TrainConfig]:
    """Read a YAML file and apply ``key.sub=value`` overrides; one configuration for each of its ``stages``, in order.

    A stage is a mapping laid over the rest of the file, with a ``name``: its folder is ``output_dir/name``, and it goes
    on from the model of the stage before. A file without stages is one configuration. Raises InputError that lists
    every wrong key, or names the first file or folder that is not there.
    """
    file = Path(path)
    values = _read(file, overrides or [])
    stages = values.pop("stages", None)
    configs = [_validated(TrainConfig, values, str(file))] if stages is None else list(_staged(file, values, stages))
    _check_paths(file, configs)
    return configs


def composition(values: dict[str, Any], overrides: list[str]) -> ComposeSection:
    """A model to be put together, of a command's own ``values`` and ``key.sub=value`` settings laid over them.

    Raises InputError that lists every wrong key.
    """
    for override in overrides:
        _apply(values, override)
    return _validated(ComposeSection, _with_numbers(values), "elysium new")


def load_section(kind: type[Section], path: Path | None, overrides: list[str], where: str) -> Section:
    """A configuration of its own: of a YAML file, if there is one, with ``key.sub=value`` settings laid over it.

    ``where`` the keys stand without a file, for messages. Raises InputError that lists every wrong key.
    """
    values = {} if path is None else _mapping(path)
    for override in overrides:
        _apply(values, override)
    return _validated(kind, _with_numbers(values), where if path is None else str(path))


def _mapping(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise InputError(f"No such configuration file: {file}", "Name a YAML file such as configs/nano.yaml")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not readable YAML: {error}", "Mend the file") from error
    if not isinstance(values, dict):
        raise InputError(f"{file} holds no keys", "Write it as key: value")
    return values


def _read(file: Path, overrides: list[str]) -> dict[str, Any]:
    values = _mapping(file)
    for override in overrides:
        _apply(values, override)
    values = _with_numbers(values)
    return translate(values, str(file)) if is_published(values) else values


def _with_numbers(value: Any) -> Any:
    """Numbers in place of texts such as 5e-5, which YAML only reads as a number if it has a point."""
    if isinstance(value, dict):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value) else value


def _staged(file: Path, values: dict[str, Any], stages: Any) -> Iterator[TrainConfig]:
    if not isinstance(stages, list) or not all(isinstance(s, dict) and isinstance(s.get("name"), str) for s in stages):
        raise InputError(f"{file}: stages must be a list of mappings, each with a name", "Mend it")
    before: TrainConfig | None = None
    for stage in stages:
        merged = _merged(values, {key: value for key, value in stage.items() if key != "name"})
        merged["output_dir"] = f"{merged.get('output_dir', '')}/{stage['name']}"
        if before is not None:
            model = {key: value for key, value in merged.get("model", {}).items() if key != "compose"}
            merged["model"] = {**model, "path": before.output_dir / "final"}
        before = _validated(TrainConfig, merged, f"{file}, stage {stage['name']}")
        yield before


def _check_paths(file: Path, configs: list[TrainConfig]) -> None:
    """Raises InputError for the first path that is not there, except what an earlier stage will write."""
    for number, config in enumerate(configs):
        data, model = config.data, config.model
        wanted = [("data.sources: annotations", s.annotations) for s in data.sources if s.annotations is not None]
        wanted += [("data.sources: images", s.images) for s in data.sources if s.images is not None]
        wanted += [("data.sources: shards", Path(s.shards)) for s in data.sources if s.shards and "://" not in s.shards]
        wanted += [("model.tower_weights", model.tower_weights)] if model.tower_weights else []
        if data.assets is not None and (data.uses_synth or data.val_clips):
            wanted.append(("data.assets", data.assets))
        if model.path is not None and number == 0 and _is_folder(str(model.path)):
            wanted.append(("model.path", model.path))
        if isinstance(config.trainer.get("deepspeed"), str):
            wanted.append(("trainer.deepspeed", Path(config.trainer["deepspeed"])))
        for key, path in wanted:
            if not (path.expanduser().exists() or (key.endswith("shards") and glob(str(path.expanduser())))):
                raise InputError(f"{file}: {key} is {path}, which does not exist", "Mend it or give it as KEY=VALUE")


def _is_folder(model: str) -> bool:
    """Whether a model is meant as a folder, being neither a bundled name nor ``owner/name`` of a hub."""
    return not re.fullmatch(r"[\w-]+|[\w.-]*\w/[\w.-]+", model) or Path(model).is_dir()


def _validated(kind: type[Section], values: dict[str, Any], where: str) -> Section:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        told = (('.'.join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors())
        problems = "; ".join(f"{key}: {message}" if key else message for key, message in told)
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
