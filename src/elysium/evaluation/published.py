"""The arithmetic of the released evaluation: its parser, its merging of clips, its metrics. NOT COMPARABLE with others.

For those who must set a figure beside one that came out of the released script, and for nothing else. The script scales
per cents to pixels and then clamps x, y, width and height to 1..100 pixels, so a box beyond pixel 100 is moved and a
larger one shrunk, in predictions and truth alike; the truth is rounded to per cents before; the first frame counts as
predicted. Run on clips that are not merged it averages over clips instead of sequences. Standard figures: `ope.py`.

Knows the text of answers as the released code writes and reads it, quirks included (our own parser, which invents
nothing, is `language/dialects.py`). Knows nothing about models or files. Written from the behaviour that
`shared/docs/elysium-facts.md`, section 6, and `shared/compat` record; tested against the latter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.boxes import FloatArray

LABEL = "published arithmetic (boxes clamped to 1..100 pixels): not comparable with any other figures"
CLAMP = (1.0, 100.0)
_ANGLED = re.compile(r"\{<(\d+)><(\d+)><(\d+)><(\d+)>\}")
_LISTED = re.compile(r"\[([\d, ]+)\]")
Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class PublishedScores:
    """Per cent, averaged over records of equal weight; NaN if there are none."""

    auc: float
    precision: float
    norm_precision: float
    num_records: int
    label: str = LABEL


def parse_published(text: str) -> list[list[float]]:
    """Boxes of an answer as the released parser reads them: lists of four numbers.

    Boxes in the form `{<a><b><c><d>}` come first and are not divided by 100; without any, every `[digits, commas,
    spaces]` is a box in per cent. More than four numbers are cut to four; fewer repeat the box before, and empty the
    whole answer if there is none; so does one item that is no list of integers.

    >>> parse_published("[1,2,3,4],[5,6]")
    [[0.01, 0.02, 0.03, 0.04], [0.01, 0.02, 0.03, 0.04]]
    """
    if angled := _ANGLED.findall(text):
        return [[float(number) for number in box] for box in angled]
    boxes: list[list[float]] = []
    for listed in _LISTED.findall(text):
        try:
            numbers = [int(part) / 100 for part in listed.split(",")][:4]
        except ValueError:
            return []
        if len(numbers) < 4 and not boxes:
            return []
        boxes.append(numbers if len(numbers) == 4 else list(boxes[-1]))
    return boxes


def merge_published(clips: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Answers per clip (`id` is "video|number") joined to answers per video, as the released code does.

    A clip's answer is cut, or filled with zero boxes, to the length of its truth; of every clip but the first the first
    frame is dropped, so the overlap keeps the earlier clip's box. Clips are put in order of their number. The `source`
    is "unknown", as there.
    """
    videos: dict[str, list[Mapping[str, Any]]] = {}
    for clip in clips:
        videos.setdefault(str(clip["id"]).rpartition("|")[0], []).append(clip)
    return [_merged(video, sorted(parts, key=_clip_number)) for video, parts in videos.items()]


def _clip_number(clip: Mapping[str, Any]) -> int:
    return int(str(clip["id"]).rpartition("|")[2])


def _merged(video: str, clips: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One video's record. The text has commas inside of a clip and nothing between clips, as the released code's."""
    predicted, true, done = "", "", 0
    for clip in clips:
        truth = parse_published(clip["gt"])
        boxes = (parse_published(clip["predict"]) + [[0.0] * 4] * len(truth))[: len(truth)]
        overlap = 1 if done else 0
        predicted += _frames_text(boxes[overlap:], done)
        true += _frames_text(truth[overlap:], done)
        done += len(truth) - overlap
    size = clips[0]["image_size"]
    return {"predict": predicted, "gt": true, "image_size": size, "source": "unknown", "vid": video, "id": video}


def _frames_text(boxes: Sequence[Sequence[float]], done: int) -> str:
    texts = ("[" + ",".join(str(round(100 * number)) for number in box) + "]" for box in boxes)
    return ",".join(f"Frame {number}: {text}" for number, text in enumerate(texts, start=done + 1))


def published_scores(records: Iterable[Mapping[str, Any]]) -> PublishedScores:
    """Scores of answers with `predict`, `gt` and `image_size` (w, h): merged ones, or clips for the mean over clips.

    Records without a box in the truth are left out; a prediction is cut, or filled with zero boxes (which the clamp
    turns into 1 x 1 pixel), to the truth's length, as merging does.
    """
    rows = [row for record in records if (row := _record_scores(record)) is not None]
    if not rows:
        nan = float("nan")
        return PublishedScores(nan, nan, nan, 0)
    auc, precision, norm_precision = 100.0 * np.mean(rows, axis=0)
    return PublishedScores(float(auc), float(precision), float(norm_precision), len(rows))


def _record_scores(record: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Success AUC, precision at 20 and normalised precision at 0.2 of one record, 0..1."""
    truth = parse_published(record["gt"])
    if not truth:
        return None
    boxes = (parse_published(record["predict"]) + [[0.0] * 4] * len(truth))[: len(truth)]
    pred, gt = (_clamped_xywh(rows, record["image_size"]) for rows in (boxes, truth))
    overlaps = _overlaps(pred, gt)
    center, true_center = (xywh[:, :2] + 0.5 * (xywh[:, 2:] - 1) for xywh in (pred, gt))
    pixels = np.sqrt(((center - true_center) ** 2).sum(axis=1))
    units = np.sqrt(((center / gt[:, 2:] - true_center / gt[:, 2:]) ** 2).sum(axis=1))
    success = (overlaps[:, None] > np.arange(21) * 0.05).mean()
    return float(success), float((pixels <= 20).mean()), float((units <= 0.2).mean())


def _clamped_xywh(boxes: Sequence[Sequence[float]], image_size: Sequence[int]) -> Float32Array:
    """0..1 xyxy -> pixel xywh, all four clamped to 1..100. In float32, as there: ties at thresholds depend on it."""
    width, height = image_size
    xyxy = np.array(boxes, dtype=np.float32) * np.array([width, height] * 2, dtype=np.float32)
    return np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1).clip(*CLAMP).astype(np.float32)


def _overlaps(pred: Float32Array, gt: Float32Array) -> FloatArray:
    """IoU of (T, 4) xywh in pytracking's order of operations, in float32."""
    corner = np.maximum(pred[:, :2], gt[:, :2])
    end = np.minimum(pred[:, :2] + pred[:, 2:] - 1, gt[:, :2] + gt[:, 2:] - 1)
    shared = (end - corner + 1).clip(0).prod(axis=1)
    union = pred[:, 2:].prod(axis=1) + gt[:, 2:].prod(axis=1) - shared
    return np.asarray(shared / union, dtype=np.float64)
