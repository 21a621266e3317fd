"""What a build.yaml may say about the stages of building a data set: every key, its range and its default.

Knows names and numbers; an unknown key is an error that names it. Does not know: files, plug-ins (`options` is handed
to them as it is), what the numbers do to a trajectory.

Where the paper (Elysium, arXiv 2403.16558) gives a number it is the default: 0.6 for the grounder, 0.8 for the
follower, an IoU of 0.3 with the grounder on the middle and the last frame. The others were chosen here;
docs/building.md says on what.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClipSettings(_Strict):
    """Which frames of a video are looked at: at most ``fps`` a second (all, if it has fewer, or with null), and at most
    ``max_frames``, from its start or that of its part."""

    fps: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 25.0
    max_frames: int | None = Field(500, ge=1)


class NounsSettings(_Strict):
    """Which phrases of a caption are looked for.

    ``plugin``: a name of `plugins.NOUNS` or ``package.module:Class``, which is made with ``options``.
    """

    plugin: str = "spacy"
    options: dict[str, Any] = Field(default_factory=dict)


class GroundingSettings(_Strict):
    """Where the phrases are in the first, middle and last frame.

    ``plugin``, ``options``: as for nouns, of `plugins.GROUNDERS`; ``auto`` takes the first that can be had.
    ``min_score``: what scores no more is no candidate. ``same_iou``: of two candidates that overlap more than this, the
    weaker is the same thing again. ``several``: what happens to a phrase with several candidates in the first frame:
    ``drop`` it, ``split`` it into one for each (named by their places: "dog on the left"), or take the ``best``.
    ``witnesses``: whether the phrase must be found in ``all`` of the middle and last frame, in ``any``, or in ``none``.
    """

    plugin: str = "auto"
    options: dict[str, Any] = Field(default_factory=dict)
    min_score: Share = 0.6
    same_iou: Share = 0.8
    several: Literal["drop", "split", "best"] = "drop"
    witnesses: Literal["all", "any", "none"] = "all"


class FollowingSettings(_Strict):
    """Who follows a box through the clip. ``plugin``, ``options``: as for nouns, of `plugins.FOLLOWERS`."""

    plugin: str = "auto"
    options: dict[str, Any] = Field(default_factory=dict)


class ShotsRule(_Strict):
    """Cuts from one shot to another.

    ``min_difference``: how far two frames differ, in 0..1 (`shots.difference`), to be a cut. ``margin``: and how many
    times as much as the frames around them. ``action``: ``trim`` leaves of a clip its longest shot, before anything is
    looked for; ``drop`` lets go of the trajectories that cross a cut.
    """

    enabled: bool = True
    min_difference: Share = 0.32
    margin: float = Field(4.5, ge=1)
    action: Literal["trim", "drop"] = "trim"


class LengthRule(_Strict):
    """``min_frames``: of a clip, and with a box of a trajectory. ``min_share``: of the clip's frames with a box."""

    enabled: bool = True
    min_frames: int = Field(8, ge=2)
    min_share: Share = 0.8


class SizeRule(_Strict):
    """Of the boxes' median: ``min_side_px`` of the shorter side; area as a share of the frame's."""

    enabled: bool = True
    min_side_px: float = Field(8, ge=0)
    min_area_share: Share = 0.0005
    max_area_share: Share = 0.9


class ConfidenceRule(_Strict):
    """The follower's scores after the first frame, where it has any: their ``mean`` or ``min`` must exceed
    ``min_score``."""

    enabled: bool = True
    min_score: Share = 0.8
    of: Literal["mean", "min"] = "mean"


class DriftRule(_Strict):
    """A Kalman filter with constant velocity on the middle and the logarithms of the sides (`drift`).

    ``gate``: squared Mahalanobis distance above which a frame's box does not go on from those before. ``max_jumps``: so
    many frames may do so. ``measurement``, ``acceleration``, ``growth``: standard deviations: of a box's middle in box
    sizes and of its log sides; of the middle's change of velocity, in box sizes, and of the log sides', a twenty-fifth
    of a second to the next.
    """

    enabled: bool = True
    gate: float = Field(18.47, gt=0)
    max_jumps: int = Field(0, ge=0)
    measurement: float = Field(0.05, gt=0)
    acceleration: float = Field(0.1, gt=0)
    growth: float = Field(0.06, gt=0)


class OverlapRule(_Strict):
    """IoU of the trajectory with what the grounder says in the middle and last frame."""

    enabled: bool = True
    min_iou: Share = 0.3


class MotionRule(_Strict):
    """How far the middle gets from where it was in the first frame, at most over the clip, in box sizes. Off (0) by
    default: things at rest are to be followed, too."""

    enabled: bool = True
    min_reach: float = Field(0.0, ge=0)


class DuplicateRule(_Strict):
    """Two trajectories whose mean IoU is at least ``min_iou`` are one; the better is kept."""

    enabled: bool = True
    min_iou: Share = 0.8


class FilterSettings(_Strict):
    """The rules, in the order in which they are asked."""

    length: LengthRule = LengthRule()
    shots: ShotsRule = ShotsRule()
    size: SizeRule = SizeRule()
    confidence: ConfidenceRule = ConfidenceRule()
    drift: DriftRule = DriftRule()
    overlap: OverlapRule = OverlapRule()
    motion: MotionRule = MotionRule()
    duplicate: DuplicateRule = DuplicateRule()


class RecordSettings(_Strict):
    """What records say of where they come from: ``source`` names the data set."""

    source: str = Field("built", min_length=1)


class StagePlace(_Strict):
    """Where a stage runs on Ray, apart from the others: ``workers`` processes with ``num_gpus`` each (0.5: two share
    one)."""

    workers: int = Field(1, ge=1)
    num_gpus: float = Field(0.0, ge=0)


class RunningSettings(_Strict):
    """How the work is shared out; nothing of it changes a record.

    ``workers``: processes for the stages that have no place of their own. ``grounding``, ``following``: places of these
    stages, for models on GPUs; null: with the others.
    """

    workers: int = Field(1, ge=0)
    grounding: StagePlace | None = None
    following: StagePlace | None = None


class BuildSettings(_Strict):
    """All stages of `elysium build`."""

    clip: ClipSettings = ClipSettings()
    nouns: NounsSettings = NounsSettings()
    grounding: GroundingSettings = GroundingSettings()
    following: FollowingSettings = FollowingSettings()
    filters: FilterSettings = FilterSettings()
    records: RecordSettings = RecordSettings()
    running: RunningSettings = RunningSettings()
