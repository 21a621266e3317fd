"""Writing video files: H.264 through PyAV, complete or not at all. Knows nothing about their content."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from elysium.errors import InputError, OutputError
from elysium.files import ensure_folder, output_error, temporary_beside
from elysium.readers import CODEC_THREADS, ImageArray

_BT709 = 1  # its number in H.264, for matrix, primaries and transfer alike


class VideoWriter:
    """Writes RGB frames as H.264 (yuv420p, playable everywhere); the file appears when it is complete.

    Use as a context manager: on a clean exit the file replaces `path`, on an exception nothing is left.
    An odd width or height, which yuv420p cannot store, gets one more column or row, a copy of the last.

    Args:
        path: `.mp4`, `.mov`, `.mkv` or another container that takes H.264.
        fps: frames per second, constant.
        resolution_wh: size of the frames in pixels.
        crf: x264's quality, lower is better and larger.

    Raises OutputError if the file cannot be written, InputError for a frame of another size.
    """

    def __init__(
        self, path: str | os.PathLike[str], fps: float, resolution_wh: Sequence[int], crf: int = 20
    ) -> None:
        self.path = Path(path)
        self.resolution_wh = (int(resolution_wh[0]), int(resolution_wh[1]))
        ensure_folder(self.path.parent)
        if self.path.is_dir():
            raise OutputError(f"{str(path)!r} is a folder", "Name a file, for example out.mp4.")
        self._temporary = temporary_beside(self.path)
        self._frames = 0
        options = {"movflags": "+faststart"} if self.path.suffix.lower() in (".mp4", ".mov", ".m4v") else {}
        try:
            self._container: Any = av.open(str(self._temporary), "w", options=options)
            self._stream = self._add_stream(fps, crf)
        except (OSError, ValueError) as error:
            self.abort()
            raise OutputError(
                f"Cannot write a video to {str(path)!r}: {error}", "Use a name ending in .mp4."
            ) from error

    def _add_stream(self, fps: float, crf: int) -> Any:
        rate = Fraction(fps).limit_denominator(1001)  # finds 30000/1001 behind 29.97003
        stream = self._container.add_stream(
            "libx264", rate=rate, options={"crf": str(crf), "preset": "veryfast"}
        )
        stream.width, stream.height = (side + side % 2 for side in self.resolution_wh)
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.thread_count = CODEC_THREADS
        # Say which YUV this is: players guess by the height otherwise, and shift the colours.
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = ColorRange.MPEG
        return stream

    def write(self, image: ImageArray) -> None:
        """Append one frame, (H, W, 3) uint8 RGB."""
        width, height = self.resolution_wh
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise InputError(
                f"A frame of shape {image.shape}, {image.dtype} in a video of {width}x{height} pixels"
            )
        if width % 2 or height % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, threads=1)
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            raise output_error(self.path, error) from error
        self._frames += 1

    def close(self) -> None:
        """Finish the file and move it into place. A video without frames leaves no file."""
        if self._container is None:
            return
        if not self._frames:
            self.abort()
            return
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise output_error(self.path, error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Give up and remove what was written. Harmless after `close`."""
        container, self._container = getattr(self, "_container", None), None
        try:
            if container is not None:
                container.close()
        except OSError:
            pass  # the disk is full or gone: the error that led here is the one to report
        finally:
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
