"""Image files as frames: one file a frame, or one animated file (GIF, WebP, PNG) as a video.

Everything becomes 8 bit RGB here, upright as EXIF says. Transparency is dropped: the colours stored under it are
used. Knows nothing about video containers.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from elysium.errors import SourceError
from elysium.readers.base import DEFAULT_FPS, ImageArray, RawFrame, Reader, missing

_IMAGE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
_ANIMATED_FORMATS = ("GIF", "PNG", "WEBP")  # not MPO: a photograph with a second view in it is a photograph
_PROBED_FRAMES = 100  # of an animation, to learn its fps: opening a long one must not take long
_LEAST_DELAY_S, _USUAL_DELAY_S = 0.011, 0.1  # browsers take shorter delays for nonsense and wait so long


class ImageReader(Reader):
    """Image files, one a frame. Sizes are checked from the headers before any work is done."""

    def __init__(self, name: str, paths: list[Path], fps: float | None) -> None:
        self.name, self.paths, self.fps = name, paths, fps or DEFAULT_FPS
        self.count = len(paths)
        self.warnings = []
        self.resolution_wh = image_size(paths[0])
        for path in paths[1:]:
            self._same_size(path, image_size(path))

    def read(self) -> Generator[RawFrame, None, None]:
        for index, path in enumerate(self.paths):
            yield RawFrame(index, index / self.fps, partial(self._load, path))

    def _load(self, path: Path) -> ImageArray:
        image = read_image(path)
        self._same_size(path, (image.shape[1], image.shape[0]))
        return image

    def _same_size(self, path: Path, size: tuple[int, int]) -> None:
        if size != self.resolution_wh:
            (w, h), (w1, h1) = size, self.resolution_wh
            raise SourceError(
                f"{str(path)!r} is {w}x{h} pixels, but the first image, {self.paths[0].name!r}, is {w1}x{h1}",
                "The frames of one video need one size: remove or resize the odd ones.",
            )


class AnimationReader(Reader):
    """An animated GIF, WebP or PNG: a video whose frames each say how long they stay."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.warnings = []
        delays_s: list[float] = []
        try:
            with Image.open(path) as image:
                self.resolution_wh = image.size
                self.count = len(_places(image))
                delays_s.extend(_delay_s(image) for _ in islice(_pictures(image), _PROBED_FRAMES))
        except _IMAGE_ERRORS as error:
            if not delays_s:
                raise _image_error(path, error) from error
            # What is wrong further on is said by whoever reads that far.
        self.fps = len(delays_s) / sum(delays_s)

    def read(self) -> Generator[RawFrame, None, None]:
        index, time_s = -1, 0.0
        try:
            with Image.open(self.path) as image:
                for index, _ in enumerate(_pictures(image)):
                    yield RawFrame(index, time_s, partial(_to_rgb, image))
                    time_s += _delay_s(image)
        except _IMAGE_ERRORS as error:
            if index < 0:
                raise _image_error(self.path, error) from error
            text = f"{self.name} is cut short: {index + 1} of {self.count} frames could be read and were used."
            if text not in self.warnings:
                self.warnings.append(text)


def is_animated(path: Path) -> bool:
    """Whether an image file has several pictures to be shown one after the other."""
    try:
        with Image.open(path) as image:
            return image.format in _ANIMATED_FORMATS and len(_places(image)) > 1
    except _IMAGE_ERRORS:
        return False  # whoever reads it as an image will say what is wrong


def _places(image: Any) -> range:
    """The pictures of the animation, without the stand-in for viewers that know no animated PNG."""
    return range(int(bool(getattr(image, "default_image", False))), getattr(image, "n_frames", 1))


def _pictures(image: Any) -> Iterator[None]:
    """Turn `image` into each picture of its animation, decoded, one after the other."""
    for place in _places(image):
        image.seek(place)
        image.load()
        yield


def _delay_s(image: Any) -> float:
    """How long the present picture stays."""
    delay_s = float(image.info.get("duration") or 0) / 1000
    return delay_s if delay_s >= _LEAST_DELAY_S else _USUAL_DELAY_S


def _image_error(path: Path, error: Exception, held: bool = False) -> SourceError:
    """``held``: the contents were at hand, and the path is but a name."""
    if not held and not path.exists():
        return missing(path, "image")
    why = str(error)
    if isinstance(error, UnidentifiedImageError):
        why = "its content is of no known image format" if held or path.stat().st_size else "it is empty"
    return SourceError(f"Cannot read the image {str(path)!r}: {why}", "Replace or remove that file.")


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) as displayed, from the header alone. Raises SourceError."""
    try:
        with Image.open(path) as image:
            return displayed_size(image)
    except _IMAGE_ERRORS as error:
        raise _image_error(path, error) from error


def displayed_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an opened image once it is turned as its EXIF says."""
    width, height = image.size
    turned = image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 swap the sides
    return (height, width) if turned else (width, height)


def read_image(path: str | os.PathLike[str], data: BinaryIO | None = None, *, plain: bool = False) -> ImageArray:
    """An image file as (H, W, 3) uint8 RGB, turned as its EXIF says, alpha dropped. Raises SourceError.

    ``data``: its contents, where they are not to be read from ``path``, which then only names it. ``plain``: whatever
    Pillow makes of it, not turned, as the released code reads images.
    """
    return np.array(read_picture(path, data, plain=plain))


def read_picture(path: str | os.PathLike[str], data: BinaryIO | None = None, *, plain: bool = False) -> Image.Image:
    """The same as an image of Pillow, for those who go on with it there."""
    try:
        with Image.open(path if data is None else data) as opened:
            return opened.convert("RGB") if plain else _rgb(ImageOps.exif_transpose(opened))
    except _IMAGE_ERRORS as error:
        raise _image_error(Path(path), error, held=data is not None) from error


def _to_rgb(image: Any) -> ImageArray:
    return np.array(_rgb(image))


def _rgb(image: Any) -> Image.Image:
    """The image in RGB, which may be the same one."""
    if image.mode.startswith("I"):  # 16 bit grey: Pillow would clip instead of scale
        grey = ((np.asarray(image).astype(np.int64).clip(0, 65535) + 128) // 257).astype(np.uint8)
        return Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
    if image.mode == "P":  # straight to RGB, Pillow warns about transparent colours of a palette
        image = image.convert("RGBA")
    picture: Image.Image = image if image.mode == "RGB" else image.convert("RGB")
    return picture
