"""Released checkpoints that are given as a model: imported once, then found in a cache.

Knows where the cache lies and when two imports would be the same. Knows nothing of what an import does
(`elysium.model.legacy`).
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

from elysium.errors import ElysiumError

_FORMAT = 1  # raise it when imports come out differently, so that those in the cache are made again


def cache_folder() -> Path:
    """Where imported checkpoints lie: ELYSIUM_CACHE, or `elysium` in the user's folder for caches."""
    given = os.environ.get("ELYSIUM_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "elysium"


def imported(source: str, folder: Path | None = None) -> Path:
    """The folder that a released checkpoint was imported to, by an earlier call or this one (which warns of it).

    Args:
        source: what the user calls it. folder: where it lies; None for a hub id.

    Raises:
        ModelError: it cannot be imported. OutputError: the cache cannot be written.
    """
    from elysium.model.legacy import find_components, import_checkpoint
    from elysium.model.legacy_config import ReleasedConfig, checkpoint_folder

    folder = checkpoint_folder(source) if folder is None else folder
    vision, language = find_components(ReleasedConfig.read(folder))
    facts = [_FORMAT, *(_state(Path(part)) if Path(part).is_dir() else part for part in (folder, vision, language))]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
    name = folder.resolve().name if Path(source).expanduser().is_dir() else source.replace("/", "--")
    target = cache_folder() / f"{name}-{digest}"
    if (target / "config.json").is_file():
        return target
    try:
        report = import_checkpoint(str(folder), target, vision, language)
    except ElysiumError:
        if (target / "config.json").is_file():  # another process was quicker
            return target
        raise
    left = [name for name, reason in report.ignored if reason == "not known"]
    strange = f"; tensors that are not known: {', '.join(left[:4])}" if left else ""
    warnings.warn(f"{source} is in the released layout and was imported into {target}{strange}", stacklevel=2)
    return target


def _state(folder: Path) -> list[Any]:
    """What changes when a folder does: its path, and size and time of its files."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [str(folder.resolve()), *([path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files)]
