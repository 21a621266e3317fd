"""What a file of records is like, in numbers and one picture. Knows records; opens no image."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np

from elysium.data.records import Record
from elysium.errors import InputError

_MOST_CLASSES = 20
_BINS = 40


@dataclass
class Statistics:
    """Of tracks: their frames, box sizes (square root of the area of the box as a share of the frame's), motion (how
    far the middle goes from one frame to the next, in box sizes, the mean of a track), absences; of words: how many a
    description has, and what is described; of chats: their rounds; and how many records have a caption."""

    tracks: int = 0
    chats: int = 0
    others: int = 0  # captions alone
    captions: int = 0
    videos: set[int] = field(default_factory=set)
    frames: Counter[int] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    motion: Counter[int] = field(default_factory=Counter)
    words: Counter[int] = field(default_factory=Counter)
    rounds: Counter[int] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    boxes: int = 0
    absences: int = 0

    def add(self, record: Record) -> None:
        """Count one more record."""
        self.sources[record.source] += 1
        self.videos.add(hash((record.source, record.vid)))
        self.captions += record.caption is not None
        if record.vqa is not None:
            self.chats += 1
            self.rounds[sum(turn.from_ not in ("gpt", "assistant", "system") for turn in record.vqa)] += 1
            return
        if record.box is None:
            self.others += 1
            return
        self.tracks += 1
        self.frames[len(record.frames)] += 1
        self.classes[record.object_class] += 1
        self.words[len(record.object_description.split())] += 1
        boxes = record.boxes_xyxyn
        sides = np.sqrt(np.prod(np.abs(boxes[:, 2:] - boxes[:, :2]), axis=1))
        there = np.isfinite(sides)
        self.boxes += int(there.sum())
        self.absences += int((~there).sum())
        self.sizes.update((sides[there] * _BINS).astype(int).clip(0, _BINS - 1).tolist())
        steps = np.hypot(*np.diff((boxes[:, :2] + boxes[:, 2:]) / 2, axis=0).T) / sides[1:].clip(1e-6)
        if np.isfinite(steps).any():
            self.motion[min(int(np.nanmean(steps) * _BINS), _BINS)] += 1

    def summary(self) -> dict[str, Any]:
        """The figures: counts, and medians."""
        figures: dict[str, Any] = {
            "records": self.tracks + self.chats + self.others, "tracks": self.tracks, "chats": self.chats,
            "captions": self.captions,
            "videos": len(self.videos), "boxes": self.boxes, "absences": self.absences,
            "classes": len(self.classes), "sources": dict(self.sources.most_common()),
        }  # fmt: skip
        if self.tracks:
            figures |= {
                "frames_median": median(self.frames), "frames_most": max(self.frames),
                "box_size_median": round((median(self.sizes) + 0.5) / _BINS, 3) if self.sizes else None,
                "motion_median": round((median(self.motion) + 0.5) / _BINS, 3) if self.motion else None,
                "words_median": median(self.words), "most_frequent": dict(self.classes.most_common(_MOST_CLASSES)),
            }  # fmt: skip
        if self.chats:
            figures["rounds_median"] = median(self.rounds)
        return figures


def statistics(records: Iterable[Record]) -> Statistics:
    """Of all records, in memory that grows with the number of videos and classes alone. Raises InputError for none."""
    found = Statistics()
    for record in records:
        found.add(record)
    if not found.tracks + found.chats + found.others:
        raise InputError("There is no record to count", "Give a file with at least one.")
    return found


def median(counts: Counter[int]) -> int:
    """The smallest value that half of what was counted does not exceed.

    >>> median(Counter({1: 3, 2: 1, 9: 1}))
    1
    """
    left = sum(counts.values()) / 2
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    raise ValueError("nothing was counted")


def picture(found: Statistics) -> bytes:
    """A PNG with six panels: lengths, sizes, motion, words, the most frequent classes, rounds of chats."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 3).flatten()
    shown = (
        ("frames in a track", found.frames, 1.0), ("box size, share of the frame's side", found.sizes, 1 / _BINS),
        ("motion from frame to frame, box sizes", found.motion, 1 / _BINS),
        ("words in a description", found.words, 1.0), ("rounds of a chat", found.rounds, 1.0),
    )  # fmt: skip
    for axes, (title, counts, unit) in zip(panels, shown, strict=False):
        _bars(axes, counts, unit)
        axes.set_title(title)
        axes.set_ylabel({1: "boxes", 4: "chats"}.get(list(panels).index(axes), "tracks"))
    common = found.classes.most_common(_MOST_CLASSES)[::-1]
    names = [textwrap.shorten(name, 28, placeholder="…").replace("$", r"\$") or "(none)" for name, _ in common]
    panels[5].barh(range(len(common)), [count for _, count in common], color="#D55E00")
    panels[5].set_yticks(range(len(common)), names)
    panels[5].set_title(f"most frequent of {len(found.classes)} classes")
    for axes, shows in zip(panels, (*(counts for _, counts, _ in shown), found.classes), strict=True):
        axes.set_visible(bool(shows))
    png = BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()


def _bars(axes: Any, counts: Counter[int], unit: float) -> None:
    """How often each value was counted; many different ones in at most 40 bars."""
    if not counts:
        return
    values = np.array(list(counts))
    step = -(-(values.max() - values.min() + 1) // _BINS)
    heights, edges = np.histogram(
        values, np.arange(values.min(), values.max() + step + 1, step), weights=list(counts.values())
    )
    axes.bar(edges[:-1] * unit, heights, width=step * unit, color="#0072B2", align="edge")
    axes.yaxis.get_major_locator().set_params(integer=True)
