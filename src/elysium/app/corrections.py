"""Corrections by hand: what one says about a frame, which frames are tracked anew, and how both become one track.

A correction says where an object is in one frame, or that it is not there. Tracking goes on from there, up to the next
frame that was corrected before: what a person has said is never written over by the model. Knows tracks and numbers,
no model and no page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from elysium.boxes import FloatArray
from elysium.errors import InputError
from elysium.tracks import Track, TrackResult

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Correction:
    """What a person says of one object in one frame.

    Args:
        index: the frame, as a number in the source.
        box: xyxy pixels, None where it is not there.
        to_end: it is not there in all later frames either (up to the next correction).
    """

    index: int
    box: Box | None
    to_end: bool = False


Corrections = Mapping[int, Mapping[int, Correction]]  # by track id and frame


def find(result: TrackResult, track_id: int) -> Track:
    """The track with this id. Raises InputError."""
    for track in result.tracks:
        if track.id == track_id:
            return track
    raise InputError(f"There is no object {track_id} in this result", "Choose one from the list.")


def nearest_frame(result: TrackResult, index: int) -> int:
    """The processed frame at ``index``, or the last one before it, or the first. Raises InputError if there is none."""
    indices = result.indices
    if not len(indices):
        raise InputError("No frame has been tracked yet", "Track first.")
    return int(indices[max(0, int(np.searchsorted(indices, index, side="right")) - 1)])


def frames_to_redo(result: TrackResult, correction: Correction, earlier: Mapping[int, Correction]) -> list[int]:
    """The processed frames behind a correction, up to the next one of the same object (which stays out)."""
    stop = min((index for index in earlier if index > correction.index), default=None)
    later = result.indices[result.indices > correction.index]
    return [int(index) for index in later if stop is None or index < stop]


def last_seen(track: Track, index: int) -> tuple[int, FloatArray] | None:
    """The last frame before ``index`` in which the model or a person saw the object, and its box (4,)."""
    rows = np.flatnonzero((track.indices < index) & (track.states == "tracked"))
    return (int(track.indices[rows[-1]]), track.boxes_xyxy[rows[-1]]) if len(rows) else None


@dataclass(frozen=True)
class Row:
    """One frame of a track."""

    time_s: float
    box: FloatArray  # (4,) NaN where it is absent
    score: float
    state: str


def corrected(correction: Correction, time_s: float) -> Row:
    """What a correction says, as a frame of a track; a person is sure."""
    nowhere = correction.box is None
    box = np.full(4, np.nan) if correction.box is None else np.array(correction.box, dtype=np.float64)
    return Row(time_s, box, 1.0, "absent" if nowhere else "tracked")


def rows_of(track: Track) -> dict[int, Row]:
    """The frames of a track by their number."""
    return {
        int(index): Row(float(track.times_s[row]), track.boxes_xyxy[row], float(track.scores[row]), str(state))
        for row, (index, state) in enumerate(zip(track.indices, track.states, strict=True))
    }


def merged(track: Track, news: Mapping[int, Row | None], note: str = "") -> Track:
    """The track with some of its frames replaced, without those that are None now, or with frames it did not have."""
    rows = {index: row for index, row in {**rows_of(track), **news}.items() if row is not None}
    order = sorted(rows)
    return replace(
        track,
        indices=np.array(order, dtype=np.int64),
        times_s=np.array([rows[index].time_s for index in order], dtype=np.float64),
        boxes_xyxy=np.array([rows[index].box for index in order], dtype=np.float64).reshape(-1, 4),
        scores=np.array([rows[index].score for index in order], dtype=np.float64),
        states=np.array([rows[index].state for index in order], dtype="<U7"),
        notes=(*track.notes, note) if note and note not in track.notes else track.notes,
    )


def replaced(result: TrackResult, track: Track) -> TrackResult:
    """The result with this track in the place of the one with its id."""
    return replace(result, tracks=tuple(track if item.id == track.id else item for item in result.tracks))


def remembered(corrections: Corrections, track_id: int, new: Correction) -> dict[int, dict[int, Correction]]:
    """All corrections with one more; the newest about a frame counts."""
    kept = {number: dict(of_track) for number, of_track in corrections.items()}
    kept.setdefault(track_id, {})[new.index] = new
    return kept
