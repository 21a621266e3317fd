"""Who does a stage: plug-ins by name, by `package.module:Class`, or whichever can be had (`auto`).

Knows names and the order of falling back. Does not know: what plug-ins do; each is imported when it is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, TypeVar

from elysium.building.stages import Follower, Grounder, Nouns
from elysium.errors import InputError, ModelError

AUTO = "auto"
OFFLINE_MODEL = "nano"  # comes with the package

Plugins = Mapping[str, tuple[str, Mapping[str, Any]]]
_Stage = TypeVar("_Stage", Nouns, Grounder, Follower)

# Name -> class, and what it is made with.
NOUNS: Plugins = MappingProxyType({"spacy": ("elysium.building.nouns:SpacyNouns", {})})
GROUNDERS: Plugins = MappingProxyType(
    {
        "grounding-dino": ("elysium.building.models.grounding_dino:GroundingDino", {}),
        "elysium": ("elysium.building.models.own:OwnGrounder", {}),
        "coco": ("elysium.building.coco:CocoGrounder", {}),
    }
)
FOLLOWERS: Plugins = MappingProxyType(
    {
        "csrt": ("elysium.building.following:OpenCvFollower", {"kind": "csrt"}),
        "kcf": ("elysium.building.following:OpenCvFollower", {"kind": "kcf"}),
        "nanotrack": ("elysium.building.following:OpenCvFollower", {"kind": "nanotrack"}),
        "elysium": ("elysium.building.models.own:OwnFollower", {}),
        "sam2": ("elysium.building.models.sam2:Sam2Follower", {}),
    }
)


@dataclass(frozen=True)
class Pick:
    """A plug-in that will be used: its name, its options, and why it is this one, in words."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    why: str = "as asked for"

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"


def make_nouns(name: str = "spacy", **options: Any) -> Nouns:
    """A plug-in of `NOUNS`, or `package.module:Class`.

    Raises InputError for a name or an option that there is none of, ModelError for what is missing.
    """
    return _make(Nouns, NOUNS, name, options)  # type: ignore[type-abstract]


def make_grounder(name: str = AUTO, **options: Any) -> Grounder:
    """A plug-in of `GROUNDERS`, `auto` (see `pick_grounder`), or `package.module:Class`; raises as `make_nouns`."""
    pick = pick_grounder(name, options)
    return _make(Grounder, GROUNDERS, pick.name, pick.options)  # type: ignore[type-abstract]


def make_follower(name: str = AUTO, **options: Any) -> Follower:
    """A plug-in of `FOLLOWERS`, `auto` (see `pick_follower`), or `package.module:Class`; raises as `make_nouns`."""
    pick = pick_follower(name, options)
    return _make(Follower, FOLLOWERS, pick.name, pick.options)  # type: ignore[type-abstract]


def pick_grounder(name: str = AUTO, options: Mapping[str, Any] | None = None) -> Pick:
    """Which grounder `name` means. `auto`: Grounding DINO if the options name its checkpoint as `model`, or its default
    one is in the cache; else our own model, which needs nothing outside of the package."""
    given = dict(options or {})
    if name != AUTO:
        return Pick(name, given)
    if "model" in given:
        return Pick("grounding-dino", given, f"options.model is {given['model']!r}")
    from elysium.building.models.grounding_dino import DEFAULT_MODEL
    from elysium.building.models.loading import is_here

    if is_here(DEFAULT_MODEL):
        return Pick("grounding-dino", {**given, "model": DEFAULT_MODEL}, f"{DEFAULT_MODEL} is in the cache")
    why = f"no Grounding DINO: options.model names none, and {DEFAULT_MODEL} is not in the cache"
    return Pick("elysium", {**given, "model": OFFLINE_MODEL}, f"the bundled {OFFLINE_MODEL}; {why}")


def pick_follower(name: str = AUTO, options: Mapping[str, Any] | None = None) -> Pick:
    """Which follower `name` means. `auto`: OpenCV's CSRT where there is an OpenCV; else our own model."""
    given = dict(options or {})
    if name != AUTO:
        return Pick(name, given)
    if find_spec("cv2") is not None:
        return Pick("csrt", given, "OpenCV's CSRT, the offline default")
    return Pick("elysium", {**given, "model": OFFLINE_MODEL}, f"the bundled {OFFLINE_MODEL}; OpenCV is not installed")


def _make(protocol: type[_Stage], known: Plugins, name: str, options: Mapping[str, Any]) -> _Stage:
    """An instance of a plug-in, which is checked to have what the protocol asks for."""
    stage = protocol.__name__
    where, given = known.get(name, (name, {}))
    if ":" not in where:
        named = ", ".join(known) + ("" if protocol is Nouns else f", {AUTO}")
        raise InputError(f"There is no plug-in {name!r} for {stage}", f"Use one of {named}, or package.module:Class.")
    kind = _class(where, stage)
    wanted = {**given, **options}
    try:
        inspect.signature(kind).bind(**wanted)
    except TypeError as error:
        named = ", ".join(key for key in inspect.signature(kind).parameters if key not in given)
        raise InputError(f"The options of {name!r} do not fit: {error}", f"It takes {named or 'none'}.") from error
    made = kind(**wanted)
    if not isinstance(made, protocol):
        raise ModelError(f"{where!r} is no {stage}", "See the protocols in elysium.building.stages.")
    return made


def _class(where: str, stage: str) -> Any:
    """What `package.module:Class` names; raises InputError if there is no such thing."""
    module, _, name = where.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"The plug-in {where!r} for {stage} cannot be imported ({error})", "Write it as package.module:Class."
        ) from error
    if not isinstance(found, type):
        raise InputError(f"The plug-in {where!r} for {stage} is no class", "Write it as package.module:Class.")
    return found
