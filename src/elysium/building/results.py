"""What came of one video: everything that was kept of its caption, everything that was not and why, and its records.

Knows the types of the stages, JSON and records. Does not know: how any of it was found, where it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from elysium.boxes import FloatArray, clip_to_frame, normalize
from elysium.building.captions import CaptionedVideo
from elysium.building.clips import VideoClip, frame_names
from elysium.building.stages import Dropped, Grounded, Phrase, Trajectory
from elysium.data.records import Record

FRAMES = "frames"  # the folder of images, below which each video has its own
_PLACES = 3  # decimals of pixels
_SHARES = 6  # decimals of a record's boxes


@dataclass(frozen=True)
class Loss:
    """Something that ``stage`` dropped; with the trajectory, if there is one, and the codes of all rules against it."""

    stage: str
    dropped: Dropped
    trajectory: Trajectory | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipFrames:
    """The frames that were looked at: (T,) indices in the file, (T,) times, the size; see `VideoClip`."""

    indices: tuple[int, ...]
    times_s: tuple[float, ...]
    resolution_wh: tuple[int, int]
    source_fps: float

    @classmethod
    def of(cls, clip: VideoClip) -> ClipFrames:
        return cls(tuple(clip.indices), tuple(clip.times_s), clip.resolution_wh, clip.source_fps)


@dataclass
class VideoResult:
    """One video. It adds up: all that the caption names is in ``losses`` or goes on, stage by stage (see `funnel`).

    Args:
        captioned: what was asked.
        set_aside: why the caption as a whole was not used (its language), if it was not.
        clip: None where no frame had to be looked at, because nothing was to be looked for.
        notes: what was left out of the clip: shots that are not the longest one.
        phrases: so many that are to be looked for. grounded: so many found, one box each (a phrase may be split).
        followed: so many trajectories. kept: those that passed all rules.
        cpu_s, wall_s: seconds of the processor, and on the clock, by stage. Not compared: no two runs have the same.
    """

    captioned: CaptionedVideo
    set_aside: Dropped | None = None
    clip: ClipFrames | None = None
    notes: list[Dropped] = field(default_factory=list)
    phrases: int = 0
    grounded: int = 0
    followed: int = 0
    losses: list[Loss] = field(default_factory=list)
    kept: list[Trajectory] = field(default_factory=list)
    cpu_s: dict[str, float] = field(default_factory=dict, compare=False)
    wall_s: dict[str, float] = field(default_factory=dict, compare=False)

    @property
    def id(self) -> str:
        return self.captioned.id

    def records(self, source: str) -> list[Record]:
        """One for each trajectory that was kept; frames are paths below the output folder."""
        return [self._record(number, one, source) for number, one in enumerate(self.kept)]

    def _record(self, number: int, trajectory: Trajectory, source: str) -> Record:
        clip, captioned = self.clip, self.captioned
        assert clip is not None  # there is no trajectory without
        boxes = normalize(clip_to_frame(trajectory.boxes_xyxy, clip.resolution_wh), clip.resolution_wh)
        boxes[(boxes[:, 2:] <= boxes[:, :2]).any(axis=1)] = np.nan  # it is outside of the frame
        absent = ~np.isfinite(boxes).all(axis=1)
        phrase = trajectory.grounded.phrase
        metadata: dict[str, Any] = {"video": captioned.video, "frame_indices": list(clip.indices)}
        metadata |= {"url": captioned.url} if captioned.url else {}
        metadata |= {"caption": captioned.caption} if captioned.caption else {}
        metadata |= {"phrase": phrase.text, "grounding_score": round(trajectory.grounded.score, 4)}
        values: dict[str, Any] = {
            "source": source, "id": f"{self.id}-{number}", "vid": self.id, "metadata": metadata,
            "frames": frame_names(f"{FRAMES}/{self.id}", clip.indices), "object_class": phrase.noun,
            "box": rows(boxes, _SHARES), "object_description": phrase.expression,
            "frame_size": list(clip.resolution_wh), "times_s": list(clip.times_s),
        }  # fmt: skip
        return Record.model_validate(values | ({"absent": absent.tolist()} if absent.any() else {}))


def rows(boxes: FloatArray, places: int) -> list[list[float] | None]:
    """(T, 4) boxes rounded, null for those with NaN."""
    return [[round(v, places) for v in box.tolist()] if np.isfinite(box).all() else None for box in boxes]


def array(boxes: Sequence[Sequence[float] | None]) -> FloatArray:
    """The opposite of `rows`: (T, 4) with NaN."""
    return np.array([box or (np.nan,) * 4 for box in boxes], dtype=np.float64).reshape(-1, 4)


def to_json(result: VideoResult) -> dict[str, Any]:
    """What `from_json` reads."""
    clip = result.clip
    return {
        "captioned": result.captioned.model_dump(exclude_defaults=True),
        "set_aside": None if result.set_aside is None else vars(result.set_aside),
        "clip": None if clip is None else {
            "indices": clip.indices, "times_s": clip.times_s, "resolution_wh": clip.resolution_wh,
            "source_fps": clip.source_fps,
        },
        "notes": [vars(note) for note in result.notes],
        "phrases": result.phrases, "grounded": result.grounded, "followed": result.followed,
        "losses": [
            {"stage": one.stage, **vars(one.dropped)} | ({} if one.trajectory is None else {
                "trajectory": _trajectory_json(one.trajectory), "reasons": list(one.reasons)})
            for one in result.losses
        ],
        "kept": [_trajectory_json(one) for one in result.kept],
        "cpu_s": _rounded(result.cpu_s), "wall_s": _rounded(result.wall_s),
    }  # fmt: skip


def from_json(value: Mapping[str, Any]) -> VideoResult:
    """A stored result. Raises ValueError, KeyError or TypeError for what is none."""
    clip, aside = value["clip"], value["set_aside"]
    facts = None
    if clip is not None:
        width, height = clip["resolution_wh"]
        facts = ClipFrames(tuple(clip["indices"]), tuple(clip["times_s"]), (width, height), clip["source_fps"])
    losses = [
        Loss(one["stage"], Dropped(one["what"], one["reason"], one["detail"]),
             _trajectory(one["trajectory"]) if "trajectory" in one else None, tuple(one.get("reasons", ())))
        for one in value["losses"]
    ]  # fmt: skip
    return VideoResult(
        CaptionedVideo.model_validate(value["captioned"]), None if aside is None else Dropped(**aside), facts,
        [Dropped(**note) for note in value["notes"]], value["phrases"], value["grounded"], value["followed"], losses,
        [_trajectory(one) for one in value["kept"]], value["cpu_s"], value["wall_s"],
    )  # fmt: skip


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(spent, 4) for stage, spent in seconds.items()}


def _trajectory_json(trajectory: Trajectory) -> dict[str, Any]:
    grounded = trajectory.grounded
    witnesses = {str(number): rows(box[None], _PLACES)[0] for number, box in sorted(grounded.witnesses.items())}
    others = {str(number): rows(boxes, _PLACES) for number, boxes in sorted(grounded.others.items())}
    return {
        "phrase": vars(grounded.phrase), "start": rows(grounded.start_xyxy[None], _PLACES)[0],
        "score": round(float(grounded.score), _PLACES + 1), "witnesses": witnesses,
        "others": others,
        "boxes": rows(trajectory.boxes_xyxy, _PLACES),
        "scores": None if trajectory.scores is None else [
            round(float(score), _PLACES + 1) if np.isfinite(score) else None for score in trajectory.scores
        ],
    }  # fmt: skip


def _trajectory(value: Mapping[str, Any]) -> Trajectory:
    witnesses = {int(number): array([box])[0] for number, box in value["witnesses"].items()}
    others = {int(number): array(boxes) for number, boxes in value["others"].items()}
    grounded = Grounded(Phrase(**value["phrase"]), array([value["start"]])[0], value["score"], witnesses, others)
    scores = None if value["scores"] is None else np.array(value["scores"], dtype=np.float64)
    return Trajectory(grounded, array(value["boxes"]), scores)
