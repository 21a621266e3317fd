"""Streams, late starts and lost objects, with a scripted engine in place of a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from elysium.errors import InputError
from elysium.inference.answers import Request
from elysium.inference.clips import TrackedObject
from elysium.inference.sessions import FrameResult
from elysium.inference.streaming import StreamTracker
from elysium.inference.tracker import Tracker
from elysium.sampling import uniform_frames
from elysium.tracks import Track, TrackResult
from elysium.video import Frame, open_source
from scripted import Said, ScriptedEngine, frame_numbers, numbered_frames

GIVEN = np.array([20.0, 20.0, 60.0, 40.0])  # bins 10,20,30,40 of 200 x 100
ABSENT: Said = ("absent", None, 0.8)


def moving(request: Request, frame: int) -> Said:
    """A box that moves with the number of the frame; nothing in every eleventh."""
    return ABSENT if frame % 11 == 10 else ("ok", (frame, 20, frame + 20, 60), 0.5 + frame / 200)


def by_box(id: int = 1, start_s: float | None = None) -> TrackedObject:
    return TrackedObject(id, box=GIVEN, start_s=start_s)


def by_words(id: int = 1, start_s: float | None = None) -> TrackedObject:
    return TrackedObject(id, expression="the red dog", start_s=start_s)


def run(count: int, *objects: TrackedObject, engine: ScriptedEngine | None = None, **options: Any) -> TrackResult:
    source = open_source(numbered_frames(count), fps=10)
    return Tracker(engine or ScriptedEngine(moving), **options).run(source, objects)


def stream(**options: Any) -> StreamTracker:
    return StreamTracker(Tracker(ScriptedEngine(moving), **options), fps=10)


def as_rows(track: Track) -> list[tuple[int, float, list[float], float, str]]:
    boxes = np.nan_to_num(track.boxes_xyxy, nan=-1).tolist()
    return list(zip(track.indices.tolist(), track.times_s.tolist(), boxes, track.scores.tolist(), track.states.tolist(),
                    strict=True))  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 8, 9, 15, 30])
@pytest.mark.parametrize("clip_length", [2, 8])
def test_a_stream_gives_what_track_gives(count: int, clip_length: int) -> None:
    expected = run(count, by_box(1), by_words(2), clip_length=clip_length)
    tracker, frames = stream(clip_length=clip_length), numbered_frames(count)
    assert tracker.init(frames[0], box=GIVEN) == 1
    assert tracker.init(frames[0], expression="the red dog") == 2
    results = list(tracker.stream(frames[1:]))
    assert [result.index for result in results] == list(range(count))
    for track, streamed in zip(expected.tracks, tracker.tracks(), strict=True):
        assert as_rows(track) == as_rows(streamed)
    for place, track in enumerate(expected.tracks):
        boxes = np.array([result.objects[place].box_xyxy for result in results])
        np.testing.assert_array_equal(boxes, track.boxes_xyxy)
        assert [result.objects[place].state for result in results] == track.states.tolist()


@pytest.mark.parametrize(("clip_length", "arrivals"), [
    (8, {7: range(8), 14: range(8, 15)}),
    (2, {frame: [frame] if frame > 1 else [0, 1] for frame in range(1, 16)}),
])  # fmt: skip
def test_when_results_arrive(clip_length: int, arrivals: dict[int, Any]) -> None:
    """With clips of 8 after 7 more frames at most, with clips of 2 with the next frame; the rest at the end."""
    tracker, frames = stream(clip_length=clip_length), numbered_frames(16)
    tracker.init(frames[0], box=GIVEN)
    for number in range(1, 16):
        assert [r.index for r in tracker.update(frames[number])] == list(arrivals.get(number, [])), number
    assert [r.index for r in tracker.finish()] == ([15] if clip_length == 8 else [])


def test_objects_start_in_the_middle_of_a_stream_and_results_stay_in_order() -> None:
    frames, results = numbered_frames(20), []
    tracker = stream()
    tracker.init(frames[0], box=GIVEN)
    for number in range(1, 20):
        if number == 5:
            assert tracker.init(frames[5], expression="the red dog") == 2
        else:
            results += tracker.update(frames[number])
    results += tracker.finish()
    assert [result.index for result in results] == list(range(20))
    assert [[item.id for item in result.objects] for result in results] == [[1]] * 5 + [[1, 2]] * 15
    late = run(20, by_box(1), by_words(2, start_s=0.5))
    assert [as_rows(track) for track in tracker.tracks()] == [as_rows(track) for track in late.tracks]


def test_late_objects_start_in_the_first_frame_that_is_not_before_their_time() -> None:
    engine = ScriptedEngine(moving)
    result = run(20, by_box(1, 0.45), by_words(2), by_box(3, 0.5), engine=engine)
    assert [track.indices.tolist()[0] for track in result.tracks] == [5, 0, 5]
    assert all(track.indices.tolist()[-1] == 19 for track in result.tracks)
    assert result.tracks[0].boxes_xyxy[0].tolist() == GIVEN.tolist()
    clips = {tuple(frame_numbers(request)) for request in engine.requests}
    assert (5, 6, 7, 8, 9, 10, 11, 12) in clips and (0, 1, 2, 3, 4, 5, 6, 7) in clips
    assert result.num_frames == 20
    assert TrackResult.from_json(result.to_json()).tracks[0].indices.tolist() == list(range(5, 20))


def test_an_object_whose_time_never_comes_has_an_empty_track_that_says_so() -> None:
    result = run(4, by_box(1), by_box(2, 9.0))
    assert len(result.tracks[1]) == 0
    assert result.tracks[1].notes == ("it was to start at 9 s, but no frame came after that",)
    assert len(result.tracks[0]) == 4


def test_frames_before_the_first_start_are_not_in_the_result() -> None:
    assert run(6, by_box(1, 0.3)).indices.tolist() == [3, 4, 5]


def lost_at_7(request: Request, frame: int) -> Said:
    return ABSENT if 5 <= frame <= 9 else ("ok", (10, 20, 30, 40), 0.9)


@pytest.mark.parametrize(("policy", "states"), [
    ("search", "tttttaaaaattttttttttt"),
    ("report", "tttttaaaaaaaaaaaaaaaa"),
    ("stop", "tttttaaa"),
])  # fmt: skip
def test_lost_policies(policy: str, states: str) -> None:
    engine = ScriptedEngine(lost_at_7)
    (found,) = run(21, by_words(), engine=engine, lost_policy=policy).tracks
    assert "".join(state[0] for state in found.states) == states
    assert len(engine.requests) == (3 if policy == "search" else 1)
    notes = {
        "search": ("frames 8 to 14: found again by its words",),
        "report": ("frames 8 to 20: lost, and not looked for again",),
        "stop": ("frames 8 to 14: lost: its track ends before",),
    }
    assert found.notes == notes[policy]


def test_stop_reads_no_more_of_a_video_in_which_everything_is_lost() -> None:
    read: list[int] = []

    def frames() -> Iterator[np.ndarray]:
        for number, image in enumerate(numbered_frames(200)):
            read.append(number)
            yield image

    result = Tracker(ScriptedEngine(lost_at_7), lost_policy="stop").run(open_source(frames()), [by_words()])
    assert len(result.tracks[0]) == 8 and len(read) == 15


def test_a_stream_in_which_everything_is_lost_takes_no_more_frames() -> None:
    frames, taken = numbered_frames(200), []
    tracker = StreamTracker(Tracker(ScriptedEngine(lost_at_7), lost_policy="stop"))
    tracker.init(frames[0], expression="the red dog")
    results = list(tracker.stream(taken.append(number) or frames[number] for number in range(1, 200)))
    assert taken[-1] == 14 and [bool(result.objects) for result in results] == [True] * 8 + [False] * 7


def test_stopped_tracks_leave_the_others_alone() -> None:
    def script(request: Request, frame: int) -> Said:
        return lost_at_7(request, frame) if request.query or "[10,20" in request.prompt else ("ok", (1, 2, 3, 4), 0.9)

    other = TrackedObject(2, box=np.array([2.0, 2.0, 6.0, 4.0]))
    result = run(21, by_words(1), other, engine=ScriptedEngine(script), lost_policy="stop")
    assert [len(track) for track in result.tracks] == [8, 21]


def test_a_frame_result_as_json_and_for_supervision() -> None:
    tracker, frames = stream(), numbered_frames(11)
    tracker.init(frames[0], box=GIVEN)
    tracker.init(frames[0], expression="the réd dog")
    results = list(tracker.stream(frames[1:]))
    first = json.loads(results[3].to_json())
    box = [6.0, 20.0, 46.0, 60.0]
    assert first == {"index": 3, "time_s": 0.3, "objects": [
        {"id": 1, "expression": None, "box_xyxy": box, "score": 0.515, "state": "tracked"},
        {"id": 2, "expression": "the réd dog", "box_xyxy": box, "score": 0.515, "state": "tracked"},
    ]}  # fmt: skip
    detections = results[3].to_supervision()
    assert detections.xyxy.tolist() == [box, box] and detections.tracker_id.tolist() == [1, 2]
    assert json.loads(results[10].to_json())["objects"][0]["box_xyxy"] is None
    assert len(results[10].to_supervision()) == 0
    assert isinstance(results[0], FrameResult)


def test_bgr_frames_are_turned() -> None:
    engine = ScriptedEngine(moving)
    tracker = StreamTracker(Tracker(engine, clip_length=2), color="bgr")
    image = np.zeros((10, 20, 3), np.uint8)
    image[..., 0] = 255  # blue
    tracker.init(image, box=[1, 1, 9, 9])
    tracker.update(image.copy())
    assert engine.requests[0].frames[0][0, 0].tolist() == [0, 0, 255]


def test_bad_use_of_a_stream_is_said() -> None:
    tracker, frame = stream(), numbered_frames(1)[0]
    with pytest.raises(InputError, match="nothing to follow yet"):
        tracker.update(frame)
    with pytest.raises(InputError, match="no box and no expression"):
        tracker.init(frame)
    with pytest.raises(InputError, match="A frame of list"):
        tracker.init([1], box=GIVEN)  # type: ignore[arg-type]
    tracker.init(frame, box=GIVEN)
    with pytest.raises(InputError, match="200x100"):
        tracker.update(np.zeros((50, 50, 3), np.uint8))
    later = numbered_frames(1)[0]
    tracker.update(later)
    with pytest.raises(InputError, match="frame that update has taken"):
        tracker.init(later, box=GIVEN)
    with pytest.raises(InputError, match="Unknown lost policy 'hope'"):
        Tracker(ScriptedEngine(moving), lost_policy="hope")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Unknown color"):
        StreamTracker(Tracker(ScriptedEngine(moving)), color="hsv")


def frames_of(count: int) -> list[Frame]:
    return [Frame(number, number / 10, np.zeros((1, 1, 3), np.uint8)) for number in range(count)]


@pytest.mark.parametrize(("available", "count", "expected"), [
    (5, 8, [0, 1, 2, 3, 4]), (8, 8, list(range(8))), (15, 8, [0, 2, 4, 6, 8, 10, 12, 14]), (100, 3, [0, 50, 99]),
    (9, 1, [0]),
])  # fmt: skip
def test_uniform_frames(available: int, count: int, expected: list[int]) -> None:
    assert [f.index for f in uniform_frames(frames_of(available), count, available)] == [
        number if number != 50 else round(99 / 2) for number in expected
    ]


@pytest.mark.parametrize("available", [1, 7, 8, 9, 100, 1000])
def test_uniform_frames_of_a_source_of_unknown_length(available: int) -> None:
    found = [f.index for f in uniform_frames(iter(frames_of(available)), 8)]
    assert len(found) == min(8, available) and found == sorted(set(found)) and found[0] == 0
    assert found[-1] >= available * 0.85 - 1
    if available > 8:
        steps = np.diff(found)
        assert steps.max() <= 2 * steps.min() + 1
