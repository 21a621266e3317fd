"""What the plug-ins of transformers share: loading without torchvision, and pixels as their models want them.

transformers' own processors for video, and for images in part, need torchvision, which this package does without: a
frame is resized with Pillow and normalised with NumPy here, by what the checkpoint's preprocessor_config.json says.
Knows nothing of phrases or boxes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage
from transformers.utils import cached_file

from elysium.building.stages import Image
from elysium.errors import ModelError
from elysium.pretrained import is_hub_id, key_problems, load_error, silence

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MOST_NAMED = 5


def load_model(kind: Any, model: str, device: torch.device, dtype: torch.dtype) -> Any:
    """`kind.from_pretrained(model)` in eval mode on a device.

    Raises ModelError: nothing of this name, a damaged folder, or weights that are missing for the architecture.
    """
    check_place(model)
    try:
        with silence():
            loaded, report = kind.from_pretrained(model, dtype=dtype, output_loading_info=True)
    except Exception as error:  # transformers raises anything for what is not a checkpoint
        raise load_error(model, error, _remedy(model)) from error
    if report.get("missing_keys") or report.get("mismatched_keys"):
        raise ModelError(
            f"The weights of {model} do not fit its architecture: {_problems(report)}",
            "Use a checkpoint of this architecture.",
        )
    return loaded.eval().to(device)


def check_place(model: str) -> None:
    """Raises ModelError where `model` is neither a folder nor looks like a hub id."""
    if not Path(model).expanduser().is_dir() and not is_hub_id(model):
        raise ModelError(f"There is no folder {model!r}, and it is no hub id", "Name a folder or owner/name.")


def is_here(model: str) -> bool:
    """Whether a model can be had without the network: a folder, or a hub id in the cache."""
    if Path(model).expanduser().is_dir():
        return True
    return _cached(model, "config.json", local_files_only=True) is not None


def preprocessing(model: str, file: str = "preprocessor_config.json") -> dict[str, Any]:
    """What a checkpoint says of its pixels; {} if it says nothing."""
    found = _cached(model, file)
    if found is None:
        return {}
    try:
        said = json.loads(Path(found).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{found} is not JSON: {error}", "Mend or remove it.") from error
    return said if isinstance(said, dict) else {}


def pixels(image: Image, size_wh: tuple[int, int], said: Mapping[str, Any]) -> torch.Tensor:
    """(H, W, 3) uint8 RGB -> (1, 3, h, w): resized to exactly `size_wh`, bilinear with antialiasing, in 0..1, then with
    the mean and deviation that `said` has, ImageNet's by default."""
    resized = PillowImage.fromarray(image).resize(size_wh, PillowImage.Resampling.BILINEAR)
    shares = np.asarray(resized, dtype=np.float32) / 255.0
    mean, std = (np.array(said.get(k) or d, dtype=np.float32)
                 for k, d in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD)))  # fmt: skip
    return torch.from_numpy(np.ascontiguousarray(((shares - mean) / std).transpose(2, 0, 1)))[None]


def _cached(model: str, file: str, **options: Any) -> str | None:
    """Where a file of a model lies on this machine; None if it cannot be had."""
    quiet = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors", "gated_repo")}
    found: str | None = cached_file(model, file, **quiet, **options)
    return found


def _problems(report: Mapping[str, Any]) -> str:
    return "; ".join(key_problems(report, _MOST_NAMED))


def _remedy(model: str) -> str:
    if Path(model).expanduser().is_dir():
        return "Check that it is a folder that save_pretrained wrote, of this kind of model."
    return f"Download it once with network: hf download {model}; or name a folder that holds it."
