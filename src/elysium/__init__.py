"""Elysium: track, find and describe objects in videos with a multimodal language model.

    >>> import elysium
    >>> model = elysium.load("nano")                              # doctest: +SKIP
    >>> result = model.track("clip.mp4", expression="the dog")    # doctest: +SKIP
    >>> result.tracks[0].boxes_xyxy                               # (T, 4) pixels  # doctest: +SKIP

The names below are looked up on first use, so that `import elysium` costs nothing: PyTorch is imported only
when a model is. This file knows where the public names live and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elysium.errors import ElysiumError
    from elysium.inference.pipelines import Elysium
    from elysium.tracks import Track, TrackResult

__all__ = ["Elysium", "ElysiumError", "Track", "TrackResult", "__version__", "load"]

_HOMES = {
    "Elysium": "elysium.inference.pipelines",
    "ElysiumError": "elysium.errors",
    "Track": "elysium.tracks",
    "TrackResult": "elysium.tracks",
}


def load(model: str = "nano", **options: Any) -> Elysium:
    """`Elysium.from_pretrained(model, **options)`: a bundled name, a folder or a hub id.

    Raises:
        ModelError: no such model, or a folder without its weights.
    """
    from elysium.inference.pipelines import Elysium

    return Elysium.from_pretrained(model, **options)


def __getattr__(name: str) -> Any:
    """Look a public name up in its home module and keep it (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("elysium-video")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'elysium' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
