"""What tracking found: for each object and frame a box, a score and a state; to and from files.

Holds arrays of numbers only, no images, so an hour of video is a few megabytes. Knows nothing about models;
drawing, supervision and the formats of other tools are imported when asked for.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elysium.boxes import FloatArray, IntArray, as_boxes
from elysium.errors import InputError, SourceError
from elysium.files import atomic_write_text

if TYPE_CHECKING:
    import supervision as sv

    from elysium.video import Source

# tracked: the model wrote a box. absent: it wrote that the object is not there. carried: what it wrote was
# unreadable or too unsure, and the last good box stands in.
FrameState: TypeAlias = Literal["tracked", "absent", "carried"]
STATES: tuple[str, ...] = get_args(FrameState)
SCHEMA = 1
CSV_COLUMNS = ("frame_index", "time_s", "track_id", "expression", "x1", "y1", "x2", "y2", "score", "state")


@dataclass(frozen=True, eq=False)
class Track:
    """One object through T processed frames.

    `boxes_xyxy` is in pixels of the source, NaN where the object is absent (or carried with nothing to carry
    yet). Raises ValueError if the lengths differ or a state is unknown.
    """

    id: int
    expression: str | None
    initial_box: FloatArray | None  # (4,) pixels, as given by the user
    indices: IntArray  # (T,) frame numbers in the source, rising
    times_s: FloatArray  # (T,) seconds after the first frame of the source
    boxes_xyxy: FloatArray  # (T, 4)
    scores: FloatArray  # (T,) 0..1
    states: NDArray[np.str_]  # (T,) of FrameState
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.indices)
        shapes = [np.shape(a) for a in (self.times_s, self.scores, self.states, self.boxes_xyxy)]
        if shapes != [(count,)] * 3 + [(count, 4)]:
            raise ValueError(f"track {self.id}: {count} frames, but arrays of shapes {shapes}")
        unknown = set(np.asarray(self.states).tolist()) - set(STATES)
        if unknown:
            raise ValueError(f"track {self.id}: unknown states {sorted(unknown)}")

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def label(self) -> str:
        """What to call it on screen: its expression, or "object" and its number."""
        return self.expression or f"object {self.id}"

    def row(self, index: int) -> int | None:
        """Where frame `index` of the source stands in the arrays; None if it was not processed."""
        place = int(np.searchsorted(self.indices, index))
        return place if place < len(self) and self.indices[place] == index else None


class TrackRecorder:
    """Collects one track frame by frame.

    >>> recorder = TrackRecorder(1, "the dog")
    >>> recorder.add(0, 0.0, [10, 20, 30, 40], 0.9, "tracked")
    >>> recorder.add(1, 0.04, None, 0.8, "absent")
    >>> recorder.finish().boxes_xyxy.shape
    (2, 4)
    """

    def __init__(self, id: int, expression: str | None = None, initial_box: ArrayLike | None = None) -> None:
        self.id = id
        self.expression = expression
        self.initial_box = None if initial_box is None else as_boxes(initial_box)[0]
        self._rows: list[tuple[int, float, float, str]] = []
        self._boxes: list[FloatArray] = []
        self._notes: list[str] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, index: int, time_s: float, box: ArrayLike | None, score: float, state: FrameState) -> None:
        """Append a frame: `box` (4,) xyxy in pixels, or None for none. Frames come in order."""
        if self._rows and index <= self._rows[-1][0]:
            raise ValueError(f"frame {index} after frame {self._rows[-1][0]} in track {self.id}")
        self._boxes.append(np.full(4, np.nan) if box is None or state == "absent" else as_boxes(box)[0])
        self._rows.append((int(index), float(time_s), float(score), state))

    def note(self, text: str) -> None:
        """Remember something the user should know about this track; the same text only once."""
        if text not in self._notes:
            self._notes.append(text)

    def finish(self) -> Track:
        """The track so far. Can be called at any time, also again after more frames."""
        indices, times, scores, states = zip(*self._rows, strict=True) if self._rows else ((), (), (), ())
        return Track(
            id=self.id,
            expression=self.expression,
            initial_box=self.initial_box,
            indices=np.array(indices, dtype=np.int64),
            times_s=np.array(times, dtype=np.float64),
            boxes_xyxy=np.array(self._boxes, dtype=np.float64).reshape(-1, 4),
            scores=np.array(scores, dtype=np.float64),
            states=np.array(states, dtype="<U7"),
            notes=tuple(self._notes),
        )


@dataclass(frozen=True, eq=False)
class TrackResult:
    """All tracks of one source. `resolution_wh` is the source's, `fps` too (whatever the stride)."""

    source: str
    model: str
    fps: float
    resolution_wh: tuple[int, int]
    tracks: Sequence[Track]
    warnings: Sequence[str] = ()

    @property
    def indices(self) -> IntArray:
        """(T,) the processed frames, as numbers in the source, rising."""
        if not self.tracks:
            return np.empty(0, dtype=np.int64)
        return np.unique(np.concatenate([track.indices for track in self.tracks]))

    @property
    def num_frames(self) -> int:
        """How many frames were processed."""
        return len(self.indices)

    @property
    def output_fps(self) -> float:
        """The rate at which the processed frames play at the speed of life: fps divided by the stride."""
        steps = np.diff(self.indices)
        return self.fps / float(np.median(steps)) if len(steps) else self.fps

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The result as JSON text (one line a frame), also written to `path` if given. Raises OutputError."""
        head: dict[str, Any] = {"schema": SCHEMA, "source": self.source, "model": self.model}
        head |= {"fps": round(self.fps, 6), "resolution_wh": list(self.resolution_wh)}
        head |= {"num_frames": self.num_frames}
        if self.warnings:
            head["warnings"] = list(self.warnings)
        tracks = ",\n".join(_track_json(track) for track in self.tracks)
        return _written(_opened(head) + f', "tracks": [\n{tracks}\n]}}\n', path)

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> TrackResult:
        """Read what `to_json` wrote: a path, or the text itself.

        Raises SourceError if the file cannot be read, InputError if it is not a result of this schema.
        """
        text = source if isinstance(source, str) and source.lstrip().startswith("{") else _read_text(source)
        try:
            data = json.loads(text)
            if data["schema"] != SCHEMA:
                raise InputError(
                    f"The tracks have schema {data['schema']!r}", f"This version reads {SCHEMA}."
                )
            width, height = data["resolution_wh"]
            return cls(
                source=data["source"],
                model=data["model"],
                fps=float(data["fps"]),
                resolution_wh=(int(width), int(height)),
                tracks=tuple(_track_from_json(track) for track in data["tracks"]),
                warnings=tuple(data.get("warnings", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            what = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"These are not tracks written by elysium: {what}", "Give a tracks.json."
            ) from error

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """One line a frame and track, columns `CSV_COLUMNS`; an absent object has no coordinates."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for index, track, row in self._walk():
            box = ["" if np.isnan(v) else _number(v, 2) for v in track.boxes_xyxy[row]]
            score = _number(track.scores[row], 4)
            time_s = _number(track.times_s[row], 4)
            state = str(track.states[row])
            writer.writerow([index, time_s, track.id, track.expression or "", *box, score, state])
        return _written(buffer.getvalue(), path)

    def to_mot(self, path: str | os.PathLike[str] | None = None) -> str:
        """MOT Challenge lines: `frame,id,left,top,width,height,score,-1,-1,-1`.

        Frames are those of the source, counted from 1; absent objects have no line.
        """
        lines = []
        for index, track, row in self._walk():
            x1, y1, x2, y2 = track.boxes_xyxy[row].round(2)
            if not np.isnan(x1):
                numbers = [_number(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)] + [
                    _number(track.scores[row], 4)
                ]
                lines.append(",".join(map(str, [index + 1, track.id, *numbers, -1, -1, -1])))
        return _written("".join(line + "\n" for line in lines), path)

    def export(
        self, path: str | os.PathLike[str], format: str, *, include_carried: bool | None = None
    ) -> Path:
        """Write the tracks for another tool: "yolo" (a folder), "coco", "labelstudio", "cvat" or "records".

        Args:
            path: what to write; an earlier export there is replaced.
            format: a key of `elysium.exports.EXPORTS`, where each format is described.
            include_carried: whether boxes that only stand in count; if None, as suits the format.

        Raises InputError for an unknown format, OutputError if it cannot be written.
        """
        from elysium.exports import EXPORTS

        if format not in EXPORTS:
            raise InputError(f"There is no export format {format!r}", f"Use one of {', '.join(EXPORTS)}.")
        write = EXPORTS[format]
        return write(self, path) if include_carried is None else write(self, path, include_carried=include_carried)

    def to_supervision(self, i: int) -> sv.Detections:
        """Processed frame `i` (0-based; negative counts from the end) as `supervision.Detections`.

        Absent objects are left out. `tracker_id` and `class_id` are the track's id, `confidence` the score;
        `data` has `state`, `expression` and `class_name` (which supervision's labels show). Raises
        IndexError.
        """
        import supervision as sv

        index = int(self.indices[i])
        found = [(t, row) for t in self.tracks if (row := t.row(index)) is not None]
        found = [(t, row) for t, row in found if not np.isnan(t.boxes_xyxy[row]).any()]
        ids = np.array([t.id for t, _ in found], dtype=np.int64)
        return sv.Detections(
            xyxy=np.array([t.boxes_xyxy[row] for t, row in found], dtype=np.float64).reshape(-1, 4),
            confidence=np.array([t.scores[row] for t, row in found], dtype=np.float64),
            class_id=ids,
            tracker_id=ids.copy(),
            data={
                "state": np.array([str(t.states[row]) for t, row in found], dtype=str),
                "expression": np.array([t.expression or "" for t, _ in found], dtype=str),
                "class_name": np.array([t.label for t, _ in found], dtype=str),
            },
        )

    def save_video(self, path: str | os.PathLike[str], source: Source | None = None, **options: Any) -> Path:
        """Draw the tracks on the frames they were found in: an `.mp4` (or another video), or a `.gif`.

        Args:
            path: the file to write; replaced if it exists.
            source: where to take the frames from, if not from `self.source` (needed for arrays).
            options: passed on to `elysium.draw.write_video` or `elysium.gif.write_result_gif`.

        Raises SourceError if the frames cannot be read again, OutputError if the video cannot be written.
        """
        from elysium import draw, gif, video

        if source is None and self.source == "array":
            raise InputError("These tracks were made from arrays in memory", "Pass the frames as source=...")
        frames = video.open_source(self.source if source is None else source)
        if Path(path).suffix.lower() == ".gif":
            return gif.write_result_gif(frames, self, path, **options)
        return draw.write_video(frames, self, path, **options)

    def _walk(self) -> Iterable[tuple[int, Track, int]]:
        """(frame index, track, row in its arrays), frame by frame."""
        for index in self.indices.tolist():
            for track in self.tracks:
                row = track.row(index)
                if row is not None:
                    yield index, track, row


def _number(value: float, digits: int) -> float | int:
    """Rounded, and whole numbers without their ".0"."""
    rounded = round(float(value), digits)
    return int(rounded) if rounded.is_integer() else rounded


def _box_json(box: Sequence[float] | FloatArray | None) -> list[float] | None:
    """JSON has no NaN: a box with one is null."""
    if box is None or np.isnan(box).any():
        return None
    return [_number(value, 2) for value in box]


def _opened(data: dict[str, Any]) -> str:
    """A JSON object without its closing brace, so that more can follow."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False)[:-1]


def _track_json(track: Track) -> str:
    head: dict[str, Any] = {"id": track.id, "expression": track.expression}
    head["initial_box"] = _box_json(track.initial_box)
    if track.notes:
        head["notes"] = list(track.notes)
    frames = [
        {
            "index": int(track.indices[row]),
            "time_s": _number(track.times_s[row], 4),
            "box_xyxy": _box_json(track.boxes_xyxy[row]),
            "score": None if np.isnan(track.scores[row]) else _number(track.scores[row], 4),
            "state": str(track.states[row]),
        }
        for row in range(len(track))
    ]
    lines = ",\n".join(json.dumps(frame, allow_nan=False) for frame in frames)
    return _opened(head) + f', "frames": [\n{lines}\n]}}'


def _track_from_json(data: dict[str, Any]) -> Track:
    frames = data["frames"]
    boxes = [[np.nan] * 4 if f["box_xyxy"] is None else f["box_xyxy"] for f in frames]
    return Track(
        id=int(data["id"]),
        expression=data["expression"],
        initial_box=None if data["initial_box"] is None else np.array(data["initial_box"], dtype=np.float64),
        indices=np.array([f["index"] for f in frames], dtype=np.int64),
        times_s=np.array([f["time_s"] for f in frames], dtype=np.float64),
        boxes_xyxy=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        scores=np.array([f["score"] for f in frames], dtype=np.float64),  # null becomes NaN
        states=np.array([f["state"] for f in frames], dtype="<U7"),
        notes=tuple(data.get("notes", ())),
    )


def _read_text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"Cannot read {os.fspath(path)!r}: {error}", "Check the path.") from error


def _written(text: str, path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        atomic_write_text(path, text)
    return text
