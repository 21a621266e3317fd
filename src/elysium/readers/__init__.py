"""The kinds of frame source that lie still: image files, animations, arrays, video files.

A reader gives every frame of its source, in order; which of them are wanted is no business of this package.
What arrives while it is read (webcams, streams, pipes) is in elysium.live.
"""

from elysium.readers.arrays import ArrayReader
from elysium.readers.base import CODEC_THREADS, DEFAULT_FPS, ImageArray, RawFrame, Reader, missing
from elysium.readers.images import AnimationReader, ImageReader, image_size, is_animated, read_image, read_picture
from elysium.readers.videos import VideoReader

__all__ = [
    "CODEC_THREADS",
    "DEFAULT_FPS",
    "AnimationReader",
    "ArrayReader",
    "ImageArray",
    "ImageReader",
    "RawFrame",
    "Reader",
    "VideoReader",
    "image_size",
    "is_animated",
    "missing",
    "read_image",
    "read_picture",
]
