"""Where a clip's phrases are: in its first frame, to start from there, and in its middle and last, to check.

Knows the rules of the stage. Does not know: who finds the boxes (a `Grounder`), where the phrases come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from elysium.boxes import FloatArray, box_area, clip_to_frame, iou
from elysium.building.settings import GroundingSettings
from elysium.building.stages import Clip, Detections, Dropped, Grounded, Grounder, Phrase
from elysium.errors import ModelError

# How `split` names candidates from left to right; with more of them nobody could say which is meant.
_PLACES = {2: ("on the left", "on the right"), 3: ("on the left", "in the middle", "on the right")}
_APART = 0.1  # of the frame's width, from one middle to the next, for these names to be true


def witness_frames(count: int) -> list[int]:
    """The middle and the last frame of a clip of `count`, which is none of one frame and one of two.

    >>> witness_frames(9), witness_frames(2), witness_frames(1)
    ([4, 8], [1], [])
    """
    return sorted({count // 2, count - 1} - {0, -1})


def ground_clip(
    grounder: Grounder, clip: Clip, phrases: Sequence[Phrase], settings: GroundingSettings
) -> tuple[list[Grounded], list[Dropped]]:
    """Find phrases in a clip.

    Only those found in the first frame are looked for in the middle and the last one. Reason codes: `not-found` (no
    candidate in the first frame), `several` (more than one there), `not-confirmed` (not found again, by
    `settings.witnesses`).

    Raises SourceError from reading frames, ModelError where a plug-in breaks its protocol.
    """
    if not phrases:
        return [], []
    starts: list[Grounded] = []
    dropped: list[Dropped] = []
    for phrase, found in zip(phrases, _ground(grounder, clip, 0, phrases), strict=True):
        usable = candidates(found, clip.resolution_wh, settings)
        if len(usable.scores):
            chosen, left_out = _choose(phrase, usable, clip.resolution_wh[0], settings)
            starts += chosen
            dropped += left_out
        else:
            best = f"best score {found.scores.max():.2f}" if len(found.scores) else "nothing"
            dropped.append(Dropped(phrase.text, "not-found", best))
    return _confirmed(grounder, clip, starts, dropped, settings)


def candidates(found: Detections, resolution_wh: tuple[int, int], settings: GroundingSettings) -> Detections:
    """What scores more than `min_score`, inside of the frame and with an area, best first; of two that overlap more
    than `same_iou` the better."""
    boxes = clip_to_frame(found.boxes_xyxy.reshape(-1, 4), resolution_wh)
    kept: list[int] = []
    for number in np.argsort(-found.scores, kind="stable"):
        good = found.scores[number] > settings.min_score and box_area(boxes[number]) > 0
        if good and not (iou(boxes[number], boxes[kept]) > settings.same_iou).any():
            kept.append(int(number))
    return Detections(boxes[kept], found.scores[kept])


def _ground(grounder: Grounder, clip: Clip, number: int, phrases: Sequence[Phrase]) -> list[Detections]:
    """What the grounder says of a frame. Raises ModelError unless that is as the protocol has it."""
    answers = grounder.ground(clip.frame(number), phrases)
    shapes = [(np.shape(answer.boxes_xyxy), np.shape(answer.scores)) for answer in answers]
    if len(answers) != len(phrases) or any(boxes != (*scores, 4) or len(scores) != 1 for boxes, scores in shapes):
        raise ModelError(
            f"The grounder {grounder.name!r} answered {len(phrases)} phrases with boxes and scores of shapes {shapes}",
            "A Grounder gives Detections for each phrase: boxes_xyxy (N, 4) and scores (N,).",
        )
    return answers


def _choose(
    phrase: Phrase, found: Detections, width: int, settings: GroundingSettings
) -> tuple[list[Grounded], list[Dropped]]:
    """Where to start from, and why from nowhere."""
    count = len(found.scores)
    if count == 1 or settings.several == "best":
        return [Grounded(phrase, found.boxes_xyxy[0], float(found.scores[0]))], []
    if settings.several == "split" and (order := _from_left(found.boxes_xyxy, width)) is not None:
        named = zip(order, _PLACES[count], strict=True)
        return [
            Grounded(_placed(phrase, place), found.boxes_xyxy[number], float(found.scores[number]))
            for number, place in named
        ], []
    return [], [Dropped(phrase.text, "several", f"{count} candidates in the first frame")]


def _from_left(boxes_xyxy: FloatArray, width: int) -> list[int] | None:
    """Numbers of the boxes from left to right; None if they are too many or too close for words."""
    middles = (boxes_xyxy[:, 0] + boxes_xyxy[:, 2]) / 2
    order = np.argsort(middles)
    if len(order) not in _PLACES or (np.diff(middles[order]) < _APART * width).any():
        return None
    return [int(number) for number in order]


def _placed(phrase: Phrase, place: str) -> Phrase:
    return replace(phrase, expression=f"the {phrase.text} {place}")


def _confirmed(
    grounder: Grounder, clip: Clip, starts: list[Grounded], dropped: list[Dropped], settings: GroundingSettings
) -> tuple[list[Grounded], list[Dropped]]:
    """The starts with their witnesses, without those that lack one they need."""
    frames = witness_frames(len(clip.indices))
    if settings.witnesses == "none" or not starts or not frames:
        return starts, dropped
    kept = starts
    for number in frames:
        unique = list({one.phrase.text: one.phrase for one in kept}.values())
        answers = _ground(grounder, clip, number, unique) if unique else []
        found = {
            phrase.text: candidates(answer, clip.resolution_wh, settings)
            for phrase, answer in zip(unique, answers, strict=True)
        }
        kept = [_with_witness(one, number, found[one.phrase.text]) for one in kept]
        if settings.witnesses == "all":
            dropped = dropped + [_unconfirmed(one, number) for one in kept if number not in one.witnesses]
            kept = [one for one in kept if number in one.witnesses]
    dropped = dropped + [_unconfirmed(one, *frames) for one in kept if not one.witnesses]
    return [one for one in kept if one.witnesses], dropped


def _with_witness(one: Grounded, number: int, found: Detections) -> Grounded:
    if not len(found.scores):
        return one
    others = {**one.others, number: found.boxes_xyxy[1:]} if len(found.scores) > 1 else one.others
    return replace(one, witnesses={**one.witnesses, number: found.boxes_xyxy[0]}, others=others)


def _unconfirmed(one: Grounded, *numbers: int) -> Dropped:
    return Dropped(
        one.phrase.text, "not-confirmed", f"not found in frame {' and '.join(map(str, numbers))} of the clip"
    )
