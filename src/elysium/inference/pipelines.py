"""The face of a model for users: load it by name, then `track`, `tracker`, `describe`, `ground`, `ask`.

Knows what users may ask for, and checks all of it before the model runs. Knows nothing of clips
(elysium.inference.clips) or tokens (elysium.inference.decoding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from elysium.boxes import Affine2d
from elysium.errors import InputError
from elysium.inference.answers import Request
from elysium.inference.asked import expressions_of, objects_of, one_box, opened, starting, without, words_of
from elysium.inference.clips import Answers, ClipAnswer, LostPolicy
from elysium.inference.devices import BITS, resolve_device, resolve_dtype, set_threads
from elysium.inference.engine import MAX_BATCH, Engine
from elysium.inference.loading import load_pretrained, set_tokens_per_frame
from elysium.inference.streaming import DEFAULT_FPS, StreamTracker
from elysium.inference.tracker import (
    DEFAULT_CLIP_LENGTH,
    DEFAULT_MIN_SCORE,
    Progress,
    Tracker,
)
from elysium.inference.windows import bins_to_box, bins_to_region, box_to_bins, check_window, cut_out, look_around
from elysium.inference.zoom import agrees, zoom_window
from elysium.language.dialects import get_dialect
from elysium.language.prompts import Task, build_prompt, build_question
from elysium.model.processing import VIDEO_FRAMES
from elysium.model.quantization import quantization
from elysium.sampling import uniform_frames
from elysium.tracks import TrackResult
from elysium.video import read_image

DESCRIBE_FRAMES = 8


class Elysium:
    """A loaded model, ready to be asked.

    Args:
        model: an ElysiumForConditionalGeneration on its device.
        processor: its ElysiumProcessor.
        name: what the results call it.
        max_batch: most objects in one forward.
        reference: answer with transformers' `generate`, one object at a time: slow, and the same answers.
    """

    def __init__(
        self, model: Any, processor: Any, name: str = "custom", max_batch: int = MAX_BATCH, *, reference: bool = False
    ) -> None:
        self.model, self.processor, self.name = model, processor, name
        self.engine: Answers = Engine(model, processor, max_batch, reference=reference)
        self.dialect = get_dialect(processor.dialect)
        self.tracking: dict[str, Any] = dict(getattr(model.config, "tracking", None) or {})

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "nano",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        threads: int | None = None,
        max_batch: int = MAX_BATCH,
        reference: bool = False,
        tokens_per_frame: int | None = None,
    ) -> Elysium:
        """Load a model.

        Args:
            model: "nano" (bundled, needs no network), a folder written by `save_pretrained`, or a hub id.
            device: auto, cpu, cuda, cuda:N or mps.
            dtype: auto (float32 on the CPU), float32, bfloat16 or float16; 8bit or 4bit: of the language model's
                layers (needs bitsandbytes).
            threads: CPU threads of PyTorch for the whole process; None leaves them alone.
            max_batch: most objects in one forward.
            reference: answer with transformers' `generate`, one object at a time: slow, and the same answers.
            tokens_per_frame: k, the visual tokens that its selector keeps of each frame; None for as many as it was
                made for. Fewer are faster, and answers change.

        Raises:
            InputError: an unknown device or dtype, or more tokens than there are.
            ModelError: no such model, a folder without weights, weights that do not fit (all keys listed), or 8bit or
                4bit without bitsandbytes.
        """
        where = resolve_device(device)
        kind, bits = resolve_dtype(dtype, where), BITS.get(str(dtype))
        set_threads(threads)
        held = None if bits is None else quantization(bits, kind)
        loaded, processor = load_pretrained(str(model), kind, held, where)
        if tokens_per_frame is not None:
            set_tokens_per_frame(loaded, processor, tokens_per_frame)
        return cls(loaded, processor, str(model), max_batch, reference=reference)

    def with_engine(self, engine: Answers) -> Elysium:
        """The same model asked through another engine, such as a `Together` for several videos at once."""
        other = copy(self)
        other.engine = engine
        return other

    def track(
        self,
        source: Any,
        expression: str | Sequence[str] | None = None,
        boxes: ArrayLike | None = None,
        box_format: str = "xyxy",
        *,
        at_s: float | Sequence[float] | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        stride: int = 1,
        max_frames: int | None = None,
        fps: float | None = None,
        clip_length: int | None = None,
        search_window: float | Literal["auto"] | None = "auto",
        min_score: float | None = None,
        lost_policy: LostPolicy = "search",
        free: bool = False,
        fine: bool = False,
        zoom: bool = False,
        color: str = "rgb",
        progress: Progress | None = None,
        on_answer: Callable[[ClipAnswer], None] | None = None,
    ) -> TrackResult:
        """Follow one or several objects through a video.

        Args:
            source: video file, folder of images, glob, list of paths, (T, H, W, 3) uint8 array or an iterable
                of frames; or an open `FrameSource`, which brings its own choice of frames.
            expression: words for an object, or several; each gets a track.
            boxes: (4,) or (N, 4) in `box_format`, in the frame in which they start; each gets a track.
            box_format: `xyxy` or `xywh` in pixels, `xyxyn` in 0..1, `percent` in 0..100.
            at_s: when objects start, in seconds of the video: one number for all of them, or one for each, boxes
                first. An object starts in the first processed frame that is not before its time. None: the first.
            start_s, end_s: seconds of the video to process.
            stride: process every `stride`-th frame; the others are not in the result.
            max_frames: stop after so many processed frames.
            fps: frames per second of images and arrays, 25 by default; a video file knows its own.
            clip_length: frames in a clip, with one of overlap; None for the model's default (8).
            search_window: side of the search window in box sizes, None for full frames, "auto" for the
                model's.
            min_score: boxes that score less are `carried`; None for the model's default.
            lost_policy: what happens with an object that is lost at the end of a clip. `search`: it is looked for
                again. `report`: it is `absent` from then on. `stop`: its track ends.
            free: decode without the answer grammar.
            fine: boxes in fractions of what the model writes, which are whole per cents of what it looks at: the mean
                over the numbers near the one written, by their probabilities. It goes on asking in whole ones. Where
                the model's numbers are not single tokens, nothing changes.
            zoom: objects that are under a tenth as large as what the model looks at are looked at again through a
                window around them, and boxes that agree with the first ones replace them. Takes up to twice as long.
            color: channel order of arrays, `rgb` or `bgr`.
            progress: called after each clip with the number of frames done and the expected total or None.
            on_answer: told what the model was asked and said, clip by clip.

        Returns:
            Tracks with ids from 1, boxes first, then expressions, each in the order given.

        Raises:
            InputError: nothing to follow, a bad box, an empty expression, or options that make no sense.
            SourceError: a source that cannot be read or has no frames.
            Interrupted: on Ctrl-C, with the result so far.
        """
        words = expressions_of(expression)
        if boxes is None and not words:
            raise InputError(
                "There is nothing to follow: no box and no expression", "Give a box, words, or both."
            )
        frames = opened(
            source, start_s=start_s, end_s=end_s, stride=stride, max_frames=max_frames, color=color, fps=fps
        )
        objects = starting(objects_of(boxes, box_format, words, frames.resolution_wh), at_s)
        tracker = self._tracker(clip_length, search_window, min_score, lost_policy, free, fine, zoom, on_answer)
        return tracker.run(frames, objects, progress, self.unknown_words(words))

    def tracker(
        self,
        *,
        clip_length: int | None = None,
        search_window: float | Literal["auto"] | None = "auto",
        min_score: float | None = None,
        lost_policy: LostPolicy = "search",
        free: bool = False,
        fine: bool = False,
        zoom: bool = False,
        color: str = "rgb",
        fps: float = DEFAULT_FPS,
    ) -> StreamTracker:
        """A tracker for frames that come one at a time; options as of `track`.

        The result of a frame comes when the clip that holds it is full: with clips of 8 up to 7 frames later, with
        `clip_length=2`, the low-latency mode, one frame later. On the frames of a video it gives what `track` gives.

        Raises:
            InputError: options that make no sense.
        """
        tracker = self._tracker(clip_length, search_window, min_score, lost_policy, free, fine, zoom)
        return StreamTracker(tracker, color, fps)

    def _tracker(
        self, clip_length: int | None, search_window: float | Literal["auto"] | None, min_score: float | None,
        lost_policy: LostPolicy, free: bool, fine: bool, zoom: bool,
        on_answer: Callable[[ClipAnswer], None] | None = None,
    ) -> Tracker:  # fmt: skip
        return Tracker(
            self.engine,
            self._default("clip_length", clip_length, DEFAULT_CLIP_LENGTH),
            self.tracking.get("search_window") if search_window == "auto" else search_window,
            self._default("min_score", min_score, DEFAULT_MIN_SCORE),
            free=free,
            fine=fine,
            zoom=zoom,
            dialect=self.dialect,
            model_name=self.name,
            lost_policy=lost_policy,
            on_answer=on_answer,
        )

    def ask(
        self,
        source: Any,
        question: str,
        *,
        num_frames: int | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        color: str = "rgb",
    ) -> str:
        """Answer a question about a video or an image.

        Args:
            source, start_s, end_s, color: as for `track`. A single (H, W, 3) image is a video of one frame.
            question: any words.
            num_frames: how many frames the model sees, spread evenly; None for the model's default (16).

        Raises:
            InputError: an empty question or an option that makes no sense. SourceError: nothing to read.
        """
        count = self._default("ask_frames", num_frames, VIDEO_FRAMES)
        if count < 1:
            raise InputError(f"{count} frames show nothing", "Give 1 or more.")
        words = build_question(Task.VIDEO_QA, question=question)
        frames = opened(source, start_s=start_s, end_s=end_s, color=color)
        images = [frame.image for frame in uniform_frames(frames, count, frames.num_frames_estimate)]
        published = getattr(self.processor, "published", False)
        prompt = build_prompt(Task.VIDEO_QA, len(images), words, published=published)
        (answer,) = self.engine.run([Request(prompt, images, query=question.strip())])
        return answer.text

    def describe(
        self,
        source: Any,
        box: ArrayLike,
        box_format: str = "xyxy",
        *,
        start_s: float | None = None,
        end_s: float | None = None,
        stride: int = 1,
        max_frames: int = DESCRIBE_FRAMES,
        search_window: float | Literal["auto"] | None = "auto",
        color: str = "rgb",
    ) -> str:
        """Describe in words the object in `box` of the first processed frame (REG for one frame, else
        Video-REG).

        Args:
            source, box_format, start_s, end_s, stride, color: as for `track`. A single (H, W, 3) image is a
                video of one frame.
            box: (4,) in `box_format`.
            max_frames: frames that the model sees.
            search_window: side in box sizes of the window around `box` that it sees of each, None for full frames,
                "auto" for the model's. What it says of places in a window is true of nothing that users see; phrases
                that the model lists (`config.tracking["places"]`) are taken out.

        Raises:
            InputError: a bad box or option. SourceError: a source that cannot be read or has no frames.
        """
        window = self.tracking.get("describe_window") if search_window == "auto" else search_window
        check_window(window)
        frames = opened(
            source, start_s=start_s, end_s=end_s, stride=stride, max_frames=max_frames, color=color
        )
        pixels = one_box(box, box_format, frames.resolution_wh)
        images = [frame.image for frame in islice(frames, max_frames)]
        images, seen = look_around(images, pixels, window)
        task = Task.REG if len(images) == 1 else Task.VIDEO_REG
        bins = box_to_bins(pixels, seen, self.dialect.max_bin)
        question = build_question(
            task, box_text=self.dialect.format_box(bins), region_mark=self.engine.region_marks
        )
        prompt = build_prompt(task, len(images), question)
        (answer,) = self.engine.run(
            [Request(prompt, images, regions=[(0, bins_to_region(bins, self.dialect.max_bin))])]
        )
        whole = seen == Affine2d.full_frame(frames.resolution_wh)
        return answer.text if whole else without(answer.text, self.tracking.get("places", ()))

    def ground(
        self, image: NDArray[np.uint8] | str | Path, expression: str, *, free: bool = False, zoom: bool = False
    ) -> tuple[NDArray[np.float64], float]:
        """Find what `expression` names in one image (REC).

        Args:
            image: (H, W, 3) uint8 RGB, or a file.
            expression: words.
            free: decode without the answer grammar.
            zoom: what is found small is looked for again in a window around it, and a box that agrees replaces the
                first; the score stays.

        Returns:
            (4,) xyxy pixels, NaN if the model found nothing or could not be read, and the score in 0..1.

        Raises:
            InputError: an empty expression or an array that is no image. SourceError: a file that cannot be read.
        """
        (words,) = expressions_of([expression])
        if isinstance(image, str | Path):
            image = read_image(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(
                f"An image of shape {image.shape} and {image.dtype}", "Give (H, W, 3) uint8 RGB."
            )
        size = (image.shape[1], image.shape[0])
        whole = Affine2d.full_frame(size)
        found, score = self._find(image, words, whole, size, free)
        window = zoom_window(found, whole, size, self.dialect.max_bin) if zoom and found is not None else None
        if window is not None and found is not None:
            finer, _ = self._find(cut_out(image, window), words, window, size, free)
            if finer is not None and agrees(finer, found, whole, self.dialect.max_bin):
                found = finer
        return (np.full(4, np.nan) if found is None else found), score

    def _find(
        self, seen: NDArray[np.uint8], words: str, view: Affine2d, resolution_wh: Sequence[int], free: bool
    ) -> tuple[NDArray[np.float64] | None, float]:
        """REC in ``seen``, what ``view`` shows of an image of that size: (4,) pixels of it or None, the score."""
        prompt = build_prompt(Task.REC, 1, build_question(Task.REC, expression=words))
        request = Request(prompt, [seen], query=words, num_boxes=1, single_box=True)
        (answer,) = self.engine.run([request], free=free)
        assert answer.boxes_bins is not None
        score = float(answer.box_scores[0])
        if answer.statuses[0] != "ok":
            return None, score
        return bins_to_box(answer.boxes_bins[0], view, resolution_wh, self.dialect.max_bin), score

    def unknown_words(self, expressions: Iterable[str]) -> list[str]:
        """One warning line for each expression that holds words which the model never saw in training. Only
        models that list the words they know (`config.tracking["known_words"]`) can tell."""
        known = self.tracking.get("known_words")
        if not known:
            return []
        vocabulary = {word.casefold() for word in known}
        warnings = []
        for expression in expressions:
            strange = [word for word in words_of(expression) if word not in vocabulary]
            if strange:
                listed = ", ".join(dict.fromkeys(strange))
                warnings.append(f"{self.name} never saw these words of {expression!r} in training: {listed}")
        return warnings

    def _default(self, key: str, given: Any, fallback: Any) -> Any:
        """What was given, else what the model wants, else ours."""
        if given is not None:
            return given
        value = self.tracking.get(key)
        return fallback if value is None else value
