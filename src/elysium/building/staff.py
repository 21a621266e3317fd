"""Who builds: the plug-ins of one build, resolved once, made once a process, and what they are in a digest's terms.

Knows settings, plug-ins by name and where models lie. Does not know: what plug-ins do.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from elysium.building import plugins
from elysium.building.settings import BuildSettings
from elysium.building.stages import Follower, Grounder, Nouns

_MADE = {"nouns": "nouns", "grounding": "grounder", "following": "follower"}  # by stage, the property of `Stages`
_BLOCK = 2**20
_FILES = ("model", "path", "pipeline")  # options of plug-ins that name a model


@dataclass(frozen=True)
class Member:
    """A plug-in: ``name``, ``options``, ``why`` it is this one, and the ``files`` of its model: path, bytes, sha256."""

    name: str
    options: dict[str, Any]
    why: str
    files: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "options": self.options, "why": self.why, "files": list(self.files)}

    @property
    def identity(self) -> Any:
        """What changes when other answers are to be expected: not where a model lies."""
        options = {key: value for key, value in self.options.items() if key not in _FILES or not self.files}
        return [self.name, options, [[Path(file["path"]).name, file["sha256"]] for file in self.files]]


@dataclass(frozen=True)
class Staff:
    """The plug-ins of a build by stage. Picklable: each process makes its own `Stages` of it."""

    nouns: Member
    grounding: Member
    following: Member

    def members(self) -> dict[str, Member]:
        return vars(self)

    def to_json(self) -> dict[str, Any]:
        return {stage: member.to_json() for stage, member in self.members().items()}

    @property
    def identity(self) -> Any:
        return {stage: member.identity for stage, member in self.members().items()}


class Stages:
    """The plug-ins themselves, each made when first asked for: a process that does not ground loads no grounder."""

    def __init__(self, staff: Staff) -> None:
        self._staff = staff

    def make(self, stages: Iterable[str]) -> None:
        """Make those of some stages now. Raises what they raise."""
        for stage in stages:
            if stage in _MADE:
                getattr(self, _MADE[stage])

    @cached_property
    def nouns(self) -> Nouns:
        return plugins.make_nouns(self._staff.nouns.name, **self._staff.nouns.options)

    @cached_property
    def grounder(self) -> Grounder:
        return plugins.make_grounder(self._staff.grounding.name, **self._staff.grounding.options)

    @cached_property
    def follower(self) -> Follower:
        return plugins.make_follower(self._staff.following.name, **self._staff.following.options)


def choose(settings: BuildSettings) -> Staff:
    """Resolve ``auto``, and find the files of the models. Nothing is loaded.

    Raises InputError for a plug-in that there is none of, ModelError for what is missing.
    """
    nouns = plugins.Pick(settings.nouns.plugin, settings.nouns.options)
    grounder = plugins.pick_grounder(settings.grounding.plugin, settings.grounding.options)
    follower = plugins.pick_follower(settings.following.plugin, settings.following.options)
    known = (plugins.NOUNS, plugins.GROUNDERS, plugins.FOLLOWERS)
    return Staff(*(_member(pick, table) for pick, table in zip((nouns, grounder, follower), known, strict=True)))


def _member(pick: plugins.Pick, known: plugins.Plugins) -> Member:
    where, given = known.get(pick.name, (pick.name, {}))
    options = {**_defaults(where), **given, **pick.options}
    places = [place for key in _FILES if (place := _place(key, options.get(key))) is not None]
    files = tuple(hashed for place in places for hashed in _hashed(place))
    return Member(pick.name, dict(pick.options), pick.why, files)


def _defaults(where: str) -> Mapping[str, Any]:
    """What a plug-in's class takes where no option says otherwise; nothing of one that cannot be imported, which is
    told when it is made."""
    module, _, name = where.partition(":")
    try:
        parameters = inspect.signature(getattr(import_module(module), name)).parameters.values()
    except (ImportError, AttributeError, ValueError, TypeError):
        return {}
    return {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}


def _place(key: str, value: Any) -> Path | None:
    """Where the model of an option lies; None if it says nothing, or what it names is not here."""
    if key == "pipeline":
        value = _pipeline(value)
    if not isinstance(value, str | Path):
        return None
    if (path := Path(value).expanduser()).exists():
        return path.resolve()
    from elysium.inference.loading import BUNDLED, bundled_folder

    if key == "model" and value in BUNDLED:
        return bundled_folder(str(value))
    from elysium.pretrained import cached_folder

    return cached_folder(str(value)) if key == "model" else None


def _pipeline(name: str | None) -> str | None:
    """The folder of a spaCy pipeline that is a package."""
    from elysium.building.nouns import PIPELINES

    for one in PIPELINES if name is None else (name,):
        if (spec := find_spec(one) if one.isidentifier() else None) is not None and spec.origin is not None:
            return str(Path(spec.origin).parent)
    return name


def _hashed(place: Path) -> Iterator[dict[str, Any]]:
    """A file, or all in a folder but compiled Python."""
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    for path in files:
        if path.suffix != ".pyc":
            yield {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256(path)}


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()
