"""Frames in memory: arrays, lists of arrays, and iterators that make them. Knows nothing about files."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sized
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from elysium.errors import InputError, SourceError
from elysium.readers.base import DEFAULT_FPS, ImageArray, RawFrame, Reader


class ArrayReader(Reader):
    """Arrays in memory, or an iterator that makes them."""

    def __init__(self, frames: Iterable[Any], fps: float | None, color: str) -> None:
        self.name, self.fps, self._color = "array", fps or DEFAULT_FPS, color
        self.count = len(frames) if isinstance(frames, Sized) else None
        self.warnings = []
        try:
            iterator = iter(frames)
            head = next(iterator)
        except StopIteration:
            raise SourceError("The list of frames is empty", "Give at least one frame.") from None
        except TypeError:
            raise InputError(f"Cannot read frames from a {type(frames).__name__}", "Give a path or arrays.") from None
        # An iterator can be gone through only once, and its first frame is in our hands already.
        self._once = chain([head], iterator) if iterator is frames else None
        self._frames = frames
        height, width = self._image(0, head, None).shape[:2]
        self.resolution_wh = (width, height)

    def read(self) -> Generator[RawFrame, None, None]:
        frames = self._frames if self._once is None else self._once
        empty = True
        for index, frame in enumerate(frames):
            empty = False
            yield RawFrame(index, index / self.fps, partial(self._image, index, frame, self.resolution_wh))
        if empty:
            raise InputError("These frames were an iterator that is used up", "Give a list, or a new iterator.")

    def _image(self, index: int, frame: Any, size: tuple[int, int] | None) -> ImageArray:
        image = np.asarray(frame)
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if image.ndim != 3 or image.shape[2] not in (3, 4) or image.dtype != np.uint8 or 0 in image.shape:
            raise InputError(
                f"Frame {index} is an array of shape {image.shape} and type {image.dtype}",
                "Frames are (height, width, 3) arrays of uint8.",
            )
        if size is not None and (image.shape[1], image.shape[0]) != size:
            raise InputError(
                f"Frame {index} is an array of shape {image.shape}, the first is {size[0]}x{size[1]} pixels",
                "The frames of one video need one size.",
            )
        image = image[..., :3]
        return np.ascontiguousarray(image[..., ::-1] if self._color == "bgr" else image)
