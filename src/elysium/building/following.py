"""From a box in the first frame to one in each: the stage, and OpenCV's trackers as followers.

Knows the rules of the stage. Does not know: phrases, which trajectories are any good (the filters do).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from elysium.boxes import FloatArray
from elysium.building.stages import Clip, Follower, Grounded, Trajectory
from elysium.errors import InputError, ModelError
from elysium.opencv import BoxTracker, build_tracker, check_one_opencv


def follow_clip(follower: Follower, clip: Clip, grounded: Sequence[Grounded]) -> list[Trajectory]:
    """Follow all that was found in a clip's first frame, in its order.

    Raises SourceError from reading frames, ModelError where a plug-in breaks its protocol.
    """
    if not grounded:
        return []
    answers = follower.follow(clip, [one.start_xyxy for one in grounded])
    count = len(clip.indices)
    shapes = [(np.shape(boxes), None if scores is None else np.shape(scores)) for boxes, scores in answers]
    if len(answers) != len(grounded) or any(a != (count, 4) or b not in (None, (count,)) for a, b in shapes):
        raise ModelError(
            f"The follower {follower.name!r} answered {len(grounded)} boxes in {count} frames with boxes and scores of "
            f"shapes {shapes}",
            "A Follower gives for each start boxes_xyxy (T, 4) and scores (T,) or None.",
        )
    return [Trajectory(one, boxes, scores) for one, (boxes, scores) in zip(grounded, answers, strict=True)]


class OpenCvFollower:
    """One of OpenCV's trackers for each object, all of them in one pass over the frames.

    Args:
        kind: `csrt`, `kcf` or `nanotrack`.
        path: for nanotrack, a folder with its two ONNX files. It alone has scores.

    Where the tracker says "lost" there is no box; one that cannot start from a box has none after the first frame.
    Raises ModelError if OpenCV is missing, not the only one, or without contributed trackers; InputError for the path.
    """

    def __init__(self, kind: str = "csrt", path: str | None = None) -> None:
        if kind != "nanotrack" and path is not None:
            raise InputError(f"{kind} has no files, but path is {path!r}", "Leave it out, or use nanotrack.")
        check_one_opencv()
        self.name = kind
        self._tracker = f"{kind}:{path or ''}" if kind == "nanotrack" else kind
        self._scored = kind == "nanotrack"
        build_tracker(self._tracker)  # so that what is missing is said before the work begins

    def follow(self, clip: Clip, starts_xyxy: Sequence[FloatArray]) -> list[tuple[FloatArray, FloatArray | None]]:
        count = len(clip.indices)
        boxes = np.full((len(starts_xyxy), count, 4), np.nan)
        scores = np.full((len(starts_xyxy), count), np.nan)
        boxes[:, 0] = np.array(starts_xyxy).reshape(-1, 4)
        trackers: list[BoxTracker | None] = [build_tracker(self._tracker) for _ in starts_xyxy]
        for number, image in enumerate(clip.frames()):
            for k, tracker in enumerate(trackers):
                if tracker is None:
                    continue
                if number:
                    boxes[k, number], scores[k, number] = tracker.update(image)
                    continue
                try:
                    tracker.init(image, starts_xyxy[k])
                except InputError:
                    trackers[k] = None
        return [(boxes[k], scores[k] if self._scored else None) for k in range(len(starts_xyxy))]
