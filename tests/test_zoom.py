"""A second look at small objects: what is asked, what replaces what, and that it lifts what rounding costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from elysium.boxes import Affine2d, iou, quantize
from elysium.inference.answers import Answer, Request
from elysium.inference.clips import ClipAnswer, TrackedObject
from elysium.inference.pipelines import Elysium
from elysium.inference.tracker import Tracker
from elysium.inference.zoom import ZOOM_WINDOW, agrees, zoom_window
from elysium.tracks import Track
from elysium.video import open_source
from tiny import tiny_model_and_processor

WIDTH, HEIGHT = 1280, 720
BLUE = 2
WHOLE = Affine2d.full_frame((WIDTH, HEIGHT))


def clip(boxes: np.ndarray) -> list[np.ndarray]:
    """Grey frames with a blue rectangle in each; a box of NaN leaves it out."""
    frames = []
    for box in boxes:
        frame = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
        if np.isfinite(box).all():
            x1, y1, x2, y2 = (round(value) for value in box)
            frame[y1:y2, x1:x2] = (0, 0, 255)
        frames.append(frame)
    return frames


def moving(count: int = 15, side: int = 14, step: float = 3.0) -> np.ndarray:
    """(T, 4) whole pixels: a square on its way to the right and down."""
    places = np.array([[503 + round(step * i), 297 + round(step * i / 2)] for i in range(count)], dtype=np.float64)
    return np.concatenate([places, places + side], axis=1)


def blue(image: np.ndarray) -> np.ndarray | None:
    """(4,) in 0..1 of what is shown: the blue rectangle."""
    rows, columns = np.nonzero((image[..., BLUE] == 255) & (image[..., 0] == 0))
    if not len(rows):
        return None
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=np.float64)
    return box / np.tile([image.shape[1], image.shape[0]], 2)


@dataclass
class Oracle:
    """Writes the true box, in whole per cents of whatever it is shown; ``twist`` may change an answer."""

    twist: Any = None
    max_batch: int = 8
    region_marks: bool = False
    requests: list[Request] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def run(self, requests: Sequence[Request], *, free: bool = False) -> list[Answer]:
        self.batches.append(len(requests))
        self.requests += requests
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Answer:
        said: list[tuple[str, Any, float]] = []
        for number, image in enumerate(request.frames):
            box = blue(image)
            one = ("absent", [np.nan] * 4, 0.8) if box is None else ("ok", quantize(box[None])[0], 0.9)
            said.append(self.twist(request, number, one) if self.twist else one)
        boxes = np.array([box for _, box, _ in said], dtype=np.float64)
        fine = boxes + 0.25
        return Answer(
            "", (), boxes, np.array([score for *_, score in said]), tuple(status for status, *_ in said), fine
        )


def closer(request: Request) -> bool:
    """Whether a request shows a window."""
    return request.frames[0].shape[:2] != (HEIGHT, WIDTH)


def follow(boxes: np.ndarray, oracle: Oracle, *, words: str | None = None, **options: Any) -> Track:
    target = TrackedObject(1, words, None if words else boxes[0])
    return Tracker(oracle, **options).run(open_source(clip(boxes)), [target]).tracks[0]


@pytest.mark.parametrize("words", [None, "the blue square"])
def test_zoom_lifts_what_rounding_costs_a_small_object(words: str | None) -> None:
    boxes = moving()
    plain, zoomed = (follow(boxes, Oracle(), words=words, zoom=zoom) for zoom in (False, True))
    before, after = (iou(track.boxes_xyxy, boxes)[1:] for track in (plain, zoomed))
    assert before.mean() < 0.6
    assert after.mean() > 0.93 and after.min() > 0.85
    assert zoomed.states.tolist() == plain.states.tolist() == ["tracked"] * len(boxes)
    np.testing.assert_array_equal(zoomed.scores, plain.scores)


def test_questions_of_a_second_look() -> None:
    """By box from where the box is known; by words from the frame in which they found it."""
    boxes = moving()
    boxes[:3] = np.nan
    oracle = Oracle()
    follow(boxes, oracle, words="the blue square", zoom=True)
    first, again, second, once_more = oracle.requests
    assert [closer(request) for request in oracle.requests] == [False, True, False, True]
    assert first.query == "the blue square" and len(first.frames) == 8
    assert again.query is None and len(again.frames) == 5 and again.num_boxes == 5
    assert "is a video showing an object with coordinates" in again.prompt
    assert len(second.frames) == len(once_more.frames) == 8
    side = again.frames[0].shape[0]
    assert again.frames[0].shape[:2] == (side, side) and 50 < side < 70


def test_the_known_box_prompts_the_second_look_in_bins_of_the_window() -> None:
    oracle = Oracle()
    follow(moving(2, step=0), oracle, zoom=True)
    window = oracle.requests[1].frames[0]
    seen = blue(window)
    assert seen is not None
    text = ",".join(str(int(value)) for value in quantize(seen[None])[0])
    assert f"coordinates [{text}] in Frame 1" in oracle.requests[1].prompt


def test_all_objects_of_a_batch_are_looked_at_again_together() -> None:
    boxes, oracle = moving(3), Oracle()
    objects = [TrackedObject(1, box=boxes[0]), TrackedObject(2, "the blue square"), TrackedObject(3, box=boxes[0])]
    Tracker(oracle, zoom=True).run(open_source(clip(boxes)), objects)
    assert oracle.batches == [3, 3]


@pytest.mark.parametrize(("boxes", "options"), [(moving(side=120), {}), (moving(), {"search_window": 4.0})])
def test_what_is_not_small_in_what_the_model_saw_is_not_asked_again(boxes: np.ndarray, options: Any) -> None:
    oracle = Oracle()
    zoomed = follow(boxes, oracle, zoom=True, **options)
    assert len(oracle.requests) == 2
    np.testing.assert_array_equal(zoomed.boxes_xyxy, follow(boxes, Oracle(), **options).boxes_xyxy)


def test_a_wide_search_window_in_which_the_object_is_small_is_looked_into() -> None:
    oracle, boxes = Oracle(), moving()
    zoomed = follow(boxes, oracle, zoom=True, search_window=16.0)
    assert [request.frames[0].shape[0] for request in oracle.requests[::2]] == [224, 228]
    assert all(request.frames[0].shape[0] < 112 for request in oracle.requests[1::2])
    assert iou(zoomed.boxes_xyxy, boxes).min() > 0.85


def test_without_zoom_nothing_else_is_asked() -> None:
    oracle = Oracle()
    follow(moving(), oracle)
    assert [len(request.frames) for request in oracle.requests] == [8, 8]


def test_absence_is_decided_by_the_first_answer() -> None:
    """What the first look says of frames 3 and 4 stands, whatever the second one sees there, and of frame 6."""

    def twist(request: Request, number: int, said: Any) -> Any:
        if not closer(request) and number in (3, 4):
            return "absent", [np.nan] * 4, 0.7
        return ("absent", [np.nan] * 4, 0.7) if closer(request) and number == 6 else said

    boxes = moving(8)
    plain, zoomed = (follow(boxes, Oracle(twist), zoom=zoom) for zoom in (False, True))
    assert zoomed.states.tolist() == plain.states.tolist()
    assert zoomed.states.tolist() == ["tracked"] * 3 + ["absent"] * 2 + ["tracked"] * 3
    assert np.isnan(zoomed.boxes_xyxy[3:5]).all()
    np.testing.assert_array_equal(zoomed.boxes_xyxy[6], plain.boxes_xyxy[6])
    assert (iou(zoomed.boxes_xyxy, boxes)[[1, 2, 5, 7]] > 0.85).all()


def test_a_second_answer_that_does_not_fit_the_first_or_scores_too_little_is_dropped() -> None:
    def twist(request: Request, number: int, said: Any) -> Any:
        if closer(request) and number == 2:
            return "ok", [0, 0, 30, 30], 0.9
        return (said[0], said[1], 0.01) if closer(request) and number == 4 else said

    boxes = moving(8)
    plain, zoomed = (follow(boxes, Oracle(twist), zoom=zoom) for zoom in (False, True))
    same = (zoomed.boxes_xyxy == plain.boxes_xyxy).all(axis=1)
    assert same.tolist() == [True, False, True, False, True, False, False, False]  # frame 0 is given


def test_a_frame_that_could_not_be_read_carries_the_finer_box_on() -> None:
    def twist(request: Request, number: int, said: Any) -> Any:
        return ("malformed", [np.nan] * 4, 0.0) if not closer(request) and number == 4 else said

    zoomed = follow(moving(8), Oracle(twist), zoom=True)
    assert zoomed.states[4] == "carried"
    np.testing.assert_array_equal(zoomed.boxes_xyxy[4], zoomed.boxes_xyxy[3])


def test_finer_boxes_prompt_in_whole_bins_and_fractions_do_not() -> None:
    boxes, oracle, fine = moving(), Oracle(), Oracle()
    zoomed, both = follow(boxes, oracle, zoom=True), follow(boxes, fine, zoom=True, fine=True)
    assert [request.prompt for request in oracle.requests] == [request.prompt for request in fine.requests]
    moved = np.abs(both.boxes_xyxy - zoomed.boxes_xyxy)[1:]
    side = oracle.requests[1].frames[0].shape[0]
    np.testing.assert_allclose(moved[:7], 0.0025 * side)  # Oracle's fractions are a quarter of a bin


def test_answers_of_a_second_look_are_told_as_such() -> None:
    told: list[ClipAnswer] = []
    follow(moving(), Oracle(), zoom=True, on_answer=told.append)
    assert [said.closer for said in told] == [False, True, False, True]
    assert told[1].affines[0].scale_x < 200


def test_found_in_the_last_frame_alone_it_is_looked_for_by_words_again() -> None:
    boxes = moving(8)
    boxes[:7] = np.nan
    oracle = Oracle()
    zoomed = follow(boxes, oracle, words="the blue square", zoom=True)
    assert oracle.requests[1].query == "the blue square" and oracle.requests[1].single_box
    assert iou(zoomed.boxes_xyxy[7:], boxes[7:])[0] > 0.85


def test_ground_looks_again() -> None:
    model = Elysium(*tiny_model_and_processor())
    (image,), truth = clip(moving(1)), moving(1)[0]
    oracle = Oracle()
    model.engine = oracle
    plain, score = model.ground(image, "the blue square")
    assert len(oracle.requests) == 1
    zoomed, same = model.ground(image, "the blue square", zoom=True)
    assert score == same == 0.9
    assert [request.query for request in oracle.requests] == ["the blue square"] * 3
    assert iou(plain, truth) < 0.6 < 0.85 < iou(zoomed, truth)
    model.engine = Oracle(lambda request, number, said: ("ok", [0, 0, 30, 30], 0.9) if closer(request) else said)
    np.testing.assert_array_equal(model.ground(image, "the blue square", zoom=True)[0], plain)


def test_windows_are_a_few_sizes_wide_and_hold_the_whole_way() -> None:
    still = zoom_window([[100, 100, 114, 114]] * 3, WHOLE, (WIDTH, HEIGHT))
    assert still == Affine2d(ZOOM_WINDOW * 14, ZOOM_WINDOW * 14, 79.0, 79.0)
    way = zoom_window([[100, 100, 114, 114], [190, 100, 204, 114]], WHOLE, (WIDTH, HEIGHT))
    assert way is not None and way.bounds_xyxy == (93.0, 48.0, 211.0, 166.0)
    assert zoom_window([[100, 100, 114, 114], [500, 100, 514, 114]], WHOLE, (WIDTH, HEIGHT)) is None  # too far
    assert zoom_window([[100, 100, 197, 197]], WHOLE, (WIDTH, HEIGHT)) is None  # 10.1 bins
    assert zoom_window([[100, 100, 191, 191]], WHOLE, (WIDTH, HEIGHT)) is None  # a window of more than half the height
    assert zoom_window([[100, 100, 190, 190]], WHOLE, (WIDTH, HEIGHT)) is not None


@pytest.mark.parametrize(
    ("finer", "agreed"),
    [
        ((506, 300, 520, 314), True),
        ((499, 300, 513, 314), True),
        ((480, 290, 500, 300), False),  # its middle lies outside
        ((506, 300, 540, 314), False),  # its right edge lies more than a bin outside
    ],
)
def test_what_agrees(finer: tuple[int, ...], agreed: bool) -> None:
    coarse = WHOLE.apply(np.array([0.39, 0.41, 0.41, 0.44]))  # 499, 295, 525, 317
    assert agrees(finer, coarse, WHOLE) is agreed
