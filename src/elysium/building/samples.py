"""Random trajectories of a data set, kept and dropped, as GIFs.

Knows results, frames on disk and drawing. Does not know: pages. A sample whose frames cannot be had has no picture, and
costs nothing else.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from elysium.boxes import iou
from elysium.building.captions import find_video
from elysium.building.clips import VideoClip, frame_names
from elysium.building.results import FRAMES, VideoResult
from elysium.building.stages import Image, Trajectory
from elysium.draw import annotate
from elysium.errors import ElysiumError
from elysium.gif import write_gif
from elysium.sampling import spread_frames
from elysium.video import read_image

GIF_FRAMES, GIF_FPS, GIF_WIDTH, GIF_BYTES = 20, 5.0, 320, 600_000


@dataclass(frozen=True, eq=False)
class Sample:
    """A trajectory: ``name`` says which, ``reason`` why it was dropped ("" if it was kept)."""

    name: str
    result: VideoResult
    trajectory: Trajectory
    reason: str = ""
    detail: str = ""

    @property
    def outcome(self) -> str:
        return "dropped" if self.reason else "kept"

    @property
    def words(self) -> str:
        return self.trajectory.grounded.phrase.expression

    @property
    def overlaps(self) -> str:
        """IoU with what the grounder says in the frames to hold it against."""
        witnesses = sorted(self.trajectory.grounded.witnesses.items())
        boxes = self.trajectory.boxes_xyxy
        told = [f"frame {number}: {iou(boxes[number : number + 1], box[None])[0]:.2f}" for number, box in witnesses]
        return ", ".join(told)


def samples_of(result: VideoResult) -> Iterator[Sample]:
    """All trajectories of a video, kept ones by the ids of their records."""
    for number, trajectory in enumerate(result.kept):
        yield Sample(f"{result.id}-{number}", result, trajectory)
    for number, loss in enumerate(result.losses):
        if loss.trajectory is not None:
            name = f"{result.id}-{number}-dropped"  # a record's ends with its number, whatever ids are
            yield Sample(name, result, loss.trajectory, loss.dropped.reason, loss.dropped.detail)


@dataclass
class Reservoir:
    """``size`` of however many samples pass, each with the same probability; the same ones for the same seed."""

    size: int
    seed: int
    seen: int = 0
    held: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def add(self, sample: Sample) -> None:
        self.seen += 1
        if len(self.held) < self.size:
            self.held.append(sample)
        elif (place := self._random.randrange(self.seen)) < self.size:
            self.held[place] = sample


def draw(results: Iterable[VideoResult], size: int, seed: int) -> tuple[list[Sample], list[Sample]]:
    """At most ``size`` samples of what was kept, and as many of what was dropped, at random."""
    kept, dropped = Reservoir(size, seed), Reservoir(size, seed + 1)
    for result in results:
        for sample in samples_of(result):
            (dropped if sample.reason else kept).add(sample)
    return kept.held, dropped.held


def gif(sample: Sample, output: Path, videos: Path) -> bytes | None:
    """At most 20 of its frames with its box, and the grounder's where there is one; None if the frames are not there.

    Frames of what was kept come from ``output``, others from the ``videos``.
    """
    count = len(sample.trajectory.boxes_xyxy)
    wanted = sorted({*spread_frames(count, GIF_FRAMES).tolist(), *sample.trajectory.grounded.witnesses})
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sample.gif"
            images = _images(sample, wanted, output, videos)
            drawn = (_drawn(sample, number, image) for number, image in zip(wanted, images, strict=True))
            write_gif(path, drawn, GIF_FPS, GIF_WIDTH, GIF_BYTES)
            return path.read_bytes()
    except (ElysiumError, OSError):
        return None


def _images(sample: Sample, wanted: list[int], output: Path, videos: Path) -> Iterator[Image]:
    facts = sample.result.clip
    assert facts is not None  # there is no trajectory without
    indices = [facts.indices[number] for number in wanted]
    if not sample.reason:
        yield from (read_image(output / name) for name in frame_names(f"{FRAMES}/{sample.result.id}", indices))
        return
    times_s = [facts.times_s[number] for number in wanted]
    path = find_video(videos, sample.result.captioned.video)
    yield from VideoClip(path, indices, times_s, facts.resolution_wh, facts.source_fps).frames()


def _drawn(sample: Sample, number: int, image: Image) -> Image:
    witness = sample.trajectory.grounded.witnesses.get(number)
    boxes = [sample.trajectory.boxes_xyxy[number], *([] if witness is None else [witness])]
    labels = [sample.trajectory.grounded.phrase.noun, "grounder"][: len(boxes)]
    return annotate(image, np.stack(boxes), labels, ["tracked"] * len(boxes), [1, 2][: len(boxes)])
