"""Frames to pixel tensors: resize to a square, scale, normalise, with Pillow and NumPy alone.

Knows: the preprocessing of the released model (RGB, exactly S x S with Pillow's antialiased bilinear filter and
the aspect ratio not kept, scaled to 0..1, channel mean and standard deviation).
Does not know: crops and windows (they are cut out before), EXIF turns (the source's affair).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature

from elysium.errors import InputError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

FrameLike = Image.Image | NDArray[np.uint8]


class ElysiumImageProcessor(BaseImageProcessor):
    """Turns RGB frames (PIL images or (H, W, 3) uint8 arrays) into ``pixel_values`` (F, 3, S, S) float32."""

    model_input_names = ["pixel_values"]

    def __init__(
        self,
        image_size: int = 336,
        image_mean: tuple[float, ...] | list[float] = CLIP_MEAN,
        image_std: tuple[float, ...] | list[float] = CLIP_STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image_size = image_size
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)

    def preprocess(self, images: list[FrameLike] | FrameLike, **kwargs: Any) -> BatchFeature:
        """Frames -> ``{"pixel_values": (F, 3, S, S)}``. Raises InputError for anything that is no RGB frame."""
        frames = images if isinstance(images, (list, tuple)) else [images]
        scaled = np.stack([self._resize(frame) for frame in frames])
        # Channels apart before anything else: bytes are moved faster than floats, and planes computed faster.
        pixels = torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous().float().div_(255)
        mean = torch.tensor(self.image_mean).view(1, 3, 1, 1)
        std = torch.tensor(self.image_std).view(1, 3, 1, 1)
        return BatchFeature({"pixel_values": pixels.sub_(mean).div_(std)})

    def __call__(self, images: list[FrameLike] | FrameLike, **kwargs: Any) -> BatchFeature:
        return self.preprocess(images, **kwargs)

    def _resize(self, frame: FrameLike) -> NDArray[np.uint8]:
        size = (self.image_size, self.image_size)
        image = frame.convert("RGB") if isinstance(frame, Image.Image) else _as_image(frame)
        return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BILINEAR))


def _as_image(frame: NDArray[np.uint8]) -> Image.Image:
    array = np.asarray(frame)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise InputError(f"A frame has shape {array.shape} and type {array.dtype}", "Pass (H, W, 3) uint8 RGB frames")
    return Image.fromarray(array)
