"""Clips, states and what objects are asked, with a scripted engine in place of a model."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from elysium.boxes import Affine2d
from elysium.errors import InputError
from elysium.inference import tracker as tracker_module
from elysium.inference.answers import Request
from elysium.inference.clips import ClipSession, TrackedObject
from elysium.inference.tracker import Interrupted, Tracker
from elysium.inference.windows import bins_to_box, box_to_bins, cut_out, window_around
from elysium.tracks import Track
from elysium.video import Frame, open_source
from scripted import Said, ScriptedEngine, boxes_at, frame_numbers, numbered_frames

GIVEN = np.array([20.0, 20.0, 60.0, 40.0])  # bins 10,20,30,40 of 200 x 100


def by_box(id: int = 1) -> TrackedObject:
    return TrackedObject(id, box=GIVEN)


def by_words(id: int = 1) -> TrackedObject:
    return TrackedObject(id, expression="the red dog")


def track(engine: ScriptedEngine, count: int, *objects: TrackedObject, **options: Any) -> list[Track]:
    result = Tracker(engine, **options).run(open_source(numbered_frames(count)), objects)
    return list(result.tracks)


def states(track: Track) -> str:
    """One letter a frame: t, a or c."""
    return "".join(str(state)[0] for state in track.states)


def says(**marks: Said) -> Any:
    """A script: `f3=...` says what frame 3 gets, all others the box 10,20,30,40."""
    return lambda request, frame: marks.get(f"f{frame}", ("ok", (10, 20, 30, 40), 0.9))


ABSENT: Said = ("absent", None, 0.8)
MALFORMED: Said = ("malformed", None, 0.0)


@pytest.mark.parametrize(
    ("count", "clips"),
    [
        (1, [[0]]),
        (2, [[0, 1]]),
        (7, [[0, 1, 2, 3, 4, 5, 6]]),
        (8, [[0, 1, 2, 3, 4, 5, 6, 7]]),
        (9, [[0, 1, 2, 3, 4, 5, 6, 7], [7, 8]]),
        (15, [[0, 1, 2, 3, 4, 5, 6, 7], [7, 8, 9, 10, 11, 12, 13, 14]]),
        (16, [[0, 1, 2, 3, 4, 5, 6, 7], [7, 8, 9, 10, 11, 12, 13, 14], [14, 15]]),
    ],
)
def test_clips_overlap_by_one_and_never_hold_only_the_overlap(count: int, clips: list[list[int]]) -> None:
    engine = ScriptedEngine(boxes_at())
    (found,) = track(engine, count, by_words())
    assert [frame_numbers(request) for request in engine.requests] == clips
    assert found.indices.tolist() == list(range(count))
    assert states(found) == "t" * count
    np.testing.assert_allclose(found.boxes_xyxy, np.tile(GIVEN, (count, 1)))
    assert [request.num_boxes for request in engine.requests] == [len(clip) for clip in clips]


def test_the_given_box_stands_in_the_first_frame_and_one_frame_needs_no_model() -> None:
    engine = ScriptedEngine(boxes_at((50, 50, 60, 60), 0.5))
    (found,) = track(engine, 3, by_box())
    assert found.boxes_xyxy.tolist() == [GIVEN.tolist(), [100, 50, 120, 60], [100, 50, 120, 60]]
    assert found.scores.tolist() == [1.0, 0.5, 0.5]
    assert np.array_equal(found.initial_box, GIVEN)
    assert track(engine, 1, by_box())[0].boxes_xyxy.tolist() == [GIVEN.tolist()]
    assert len(engine.requests) == 1


def test_questions_of_first_and_later_clips() -> None:
    engine = ScriptedEngine(boxes_at((50, 50, 60, 60)))
    track(engine, 9, by_box(1), by_words(2))
    box_1, words_1, box_2, words_2 = engine.requests
    assert "coordinates [10,20,30,40] in Frame 1" in box_1.prompt
    assert box_1.regions == [(0, (0.1, 0.2, 0.3, 0.4))]
    assert box_1.query is None
    assert "find the red dog in the initial frame" in words_1.prompt
    assert words_1.query == "the red dog"
    for later in (box_2, words_2):  # once found, an expression's object is followed by its box
        assert "coordinates [50,50,60,60] in Frame 1" in later.prompt
        assert later.regions == [(0, (0.5, 0.5, 0.6, 0.6))]
    assert engine.batches == [2, 2]


def test_region_marks_only_for_models_that_want_them() -> None:
    engine = ScriptedEngine(boxes_at(), region_marks=True)
    track(engine, 2, by_box())
    assert "[10,20,30,40]<region> in Frame 1" in engine.requests[0].prompt


def test_one_frame_and_words_is_a_still_image() -> None:
    engine = ScriptedEngine(boxes_at())
    (found,) = track(engine, 1, by_words())
    assert engine.requests[0].single_box
    assert "USER: <image>\n" in engine.requests[0].prompt
    assert states(found) == "t"


def test_absent_carried_and_low_scores() -> None:
    script = says(f1=ABSENT, f2=MALFORMED, f3=("ok", (0, 0, 50, 50), 0.2), f4=("missing", None, 0.0))
    (found,) = track(ScriptedEngine(script), 6, by_box(), min_score=0.3)
    assert states(found) == "taccct"
    assert np.isnan(found.boxes_xyxy[1]).all()
    np.testing.assert_allclose(found.boxes_xyxy[2:5], np.tile(GIVEN, (3, 1)))
    assert found.scores.tolist() == [1.0, 0.8, 0.0, 0.2, 0.0, 0.9]


def test_with_no_good_box_yet_there_is_nothing_to_carry() -> None:
    (found,) = track(ScriptedEngine(says(f0=MALFORMED, f1=MALFORMED)), 4, by_words())
    assert states(found) == "aatt"
    assert np.isnan(found.boxes_xyxy[:2]).all()


def test_carried_boxes_never_prompt() -> None:
    """Frame 7 is the overlap, unreadable: frame 6, where the last good box was seen, comes instead."""
    script = says(f6=("ok", (60, 60, 70, 70), 0.9), f7=MALFORMED)
    engine = ScriptedEngine(script)
    (found,) = track(engine, 10, by_box())
    assert frame_numbers(engine.requests[1]) == [6, 8, 9]
    assert "coordinates [60,60,70,70] in Frame 1" in engine.requests[1].prompt
    assert states(found) == "tttttttctt"
    assert found.indices.tolist() == list(range(10))
    np.testing.assert_allclose(found.boxes_xyxy[7], [120, 60, 140, 70])
    assert found.notes == ("frames 8 to 9: searched from the last good box, that of frame 6",)


def test_a_lost_object_is_searched_from_the_same_frame_until_found() -> None:
    lost = {f"f{frame}": ABSENT for frame in range(5, 16)}
    engine = ScriptedEngine(says(**lost))
    (found,) = track(engine, 22, by_box())
    assert [frame_numbers(request)[0] for request in engine.requests] == [0, 4, 4]
    assert [len(request.frames) for request in engine.requests] == [8, 8, 8]
    assert states(found) == "t" * 5 + "a" * 11 + "t" * 6
    assert found.notes == ("frames 8 to 21: searched from the last good box, that of frame 4",)


def test_a_lost_object_with_words_is_found_again_by_them() -> None:
    engine = ScriptedEngine(says(f6=ABSENT, f7=ABSENT, f14=MALFORMED))
    (found,) = track(engine, 23, by_words())
    tasks = ["words" if request.query else "box" for request in engine.requests]
    assert tasks == ["words", "words", "words", "box"]
    assert [frame_numbers(request)[0] for request in engine.requests] == [0, 7, 14, 21]
    assert states(found) == "ttttttaa" + "tttttt" + "c" + "tttttttt"
    assert found.notes == ("frames 8 to 21: found again by its words",)


def test_a_box_object_with_words_starts_by_the_box() -> None:
    engine = ScriptedEngine(says(f7=ABSENT))
    track(engine, 9, TrackedObject(1, "the red dog", GIVEN))
    assert [bool(request.query) for request in engine.requests] == [False, True]


def test_the_search_window_maps_back_to_source_pixels() -> None:
    engine = ScriptedEngine(boxes_at((25, 25, 75, 50)))
    (found,) = track(engine, 3, by_box(), search_window=2.0)
    window = window_around(GIVEN, 2.0, (200, 100))  # 57 px around (40, 30)
    assert window == Affine2d(58.0, 58.0, 11.0, 1.0)
    assert engine.requests[0].frames[0].shape == (58, 58, 3)
    np.testing.assert_allclose(found.boxes_xyxy[1], [11 + 14.5, 1 + 14.5, 11 + 43.5, 1 + 29])
    assert "[16,33,84,67]" in engine.requests[0].prompt  # the box in per cents of the window


@pytest.mark.parametrize(("ratio", "full"), [(3.4, False), (3.6, True)])
def test_a_window_as_wide_as_the_frame_gives_way_to_the_full_frame(ratio: float, full: bool) -> None:
    """GIVEN is 28.28 px by its area; the frame is 200 x 100, and windows take whole pixels."""
    engine = ScriptedEngine(says())
    track(engine, 2, by_box(), search_window=ratio)
    assert (engine.requests[0].frames[0].shape[:2] == (100, 200)) is full


def test_words_read_the_full_frame_boxes_the_window() -> None:
    engine = ScriptedEngine(says(f14=ABSENT))
    track(engine, 16, by_words(), search_window=3.0)
    assert [request.frames[0].shape[:2] == (100, 200) for request in engine.requests] == [True, False, True]


def test_a_window_box_outside_the_frame_is_carried() -> None:
    edge = TrackedObject(1, box=np.array([0.0, 0.0, 20.0, 20.0]))  # window 60 px around (10, 10): -20..40
    (found,) = track(ScriptedEngine(boxes_at((0, 0, 20, 20))), 2, edge, search_window=3.0)
    assert states(found) == "tc"
    (found,) = track(ScriptedEngine(boxes_at((0, 0, 50, 50))), 2, edge, search_window=3.0)
    np.testing.assert_allclose(found.boxes_xyxy[1], [0, 0, 10, 10])


def test_cut_out_is_exact_and_grey_outside() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    part = cut_out(image, Affine2d(20.0, 20.0, -5.0, 30.0))
    assert part.shape == (20, 20, 3)
    assert np.array_equal(part[:10, 5:], image[30:, :15])
    assert (part[10:] == 127).all()
    assert (part[:, :5] == 127).all()
    assert (cut_out(image, Affine2d(5.0, 5.0, 100.0, 0.0)) == 127).all()


def test_large_windows_come_back_small() -> None:
    image = np.zeros((1000, 2000, 3), dtype=np.uint8)
    image[400:600, 800:1200] = 255
    part = cut_out(image, Affine2d(4096.0, 4096.0, -1048.0, -1548.0))
    assert part.shape == (1024, 1024, 3)
    white = np.argwhere(part[..., 0] > 200)
    np.testing.assert_allclose(white.min(axis=0) * 4, [1948, 1848], atol=8)
    np.testing.assert_allclose((white.max(axis=0) + 1) * 4, [2148, 2248], atol=8)


def test_boxes_to_bins_and_back() -> None:
    frame = Affine2d.full_frame((200, 100))
    assert box_to_bins([20, 20, 60, 40], frame) == [10, 20, 30, 40]
    assert box_to_bins([0, 0, 0.5, 0.4], frame) == [0, 0, 1, 1]  # never "absent"
    assert box_to_bins([20, 20, 60, 40], frame, 1000) == [100, 200, 300, 400]
    assert bins_to_box([100, 200, 300, 400], frame, (200, 100), 1000).tolist() == [20, 20, 60, 40]  # type: ignore
    assert bins_to_box([0, 0, 10, 10], Affine2d(10, 10, -10, -10), (200, 100)) is None


def test_many_objects_go_in_batches_and_stay_apart() -> None:
    def script(request: Request, frame: int) -> Said:
        corner = int(request.prompt.split("[")[1].split(",")[0])
        return "ok", (corner, corner, corner + 10, corner + 10), 0.9

    engine = ScriptedEngine(script, max_batch=2)
    objects = [TrackedObject(i + 1, box=np.array([20.0 * i, 0, 20.0 * i + 20, 10])) for i in range(5)]
    tracks = track(engine, 10, *objects)
    assert engine.batches == [2, 2, 1, 2, 2, 1]
    for i, found in enumerate(tracks):
        assert found.id == i + 1
        assert found.boxes_xyxy[-1].tolist() == [20.0 * i, 10.0 * i, 20.0 * i + 20, 10.0 * i + 10]


def test_free_is_passed_on() -> None:
    engine = ScriptedEngine(boxes_at())
    track(engine, 9, by_box(), free=True)
    assert engine.free == [True, True]


def test_progress_counts_frames() -> None:
    calls: list[tuple[int, int | None]] = []
    tracker = Tracker(ScriptedEngine(boxes_at()))
    tracker.run(open_source(numbered_frames(16)), [by_box()], lambda *call: calls.append(call))
    assert [done for done, _ in calls] == [8, 15, 16]
    assert calls[-1] == (16, 16)


@pytest.mark.parametrize("where", ["engine", "source", "progress"])
def test_ctrl_c_keeps_what_was_tracked(where: str) -> None:
    def script(request: Request, frame: int) -> Said:
        if where == "engine" and frame == 17:
            raise KeyboardInterrupt
        return "ok", (10, 20, 30, 40), 0.9

    def frames() -> Iterator[np.ndarray]:
        for number, image in enumerate(numbered_frames(30)):
            if where == "source" and number == 18:
                raise KeyboardInterrupt
            yield image

    def progress(done: int, total: int | None) -> None:
        if where == "progress" and done == 15:
            raise KeyboardInterrupt

    tracker = Tracker(ScriptedEngine(script), model_name="tiny")
    with pytest.raises(Interrupted) as caught:
        tracker.run(open_source(frames()), [by_box(1), by_words(2)], progress)
    result = caught.value.result
    assert isinstance(caught.value, KeyboardInterrupt)
    assert [len(track) for track in result.tracks] == [15, 15]
    assert result.model == "tiny"


def test_a_session_takes_frames_one_by_one() -> None:
    session = ClipSession(ScriptedEngine(boxes_at()), [by_box()], clip_length=3)
    images = numbered_frames(6)
    results = [session.push(Frame(10 + i, i / 10, image)) for i, image in enumerate(images)]
    assert [None if r is None else [index for index, _ in r.frames] for r in results] == [
        None, None, [10, 11, 12], None, [13, 14], None,
    ]  # fmt: skip
    last = session.finish()
    assert last is not None
    assert last.frames == [(15, 0.5)]
    assert session.finish() is None
    assert session.num_frames == 6
    assert session.tracks()[0].times_s.tolist() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_an_empty_source_gives_empty_tracks() -> None:
    session = ClipSession(ScriptedEngine(boxes_at()), [by_box()])
    assert session.finish() is None
    assert session.tracks()[0].boxes_xyxy.shape == (0, 4)


def test_memory_does_not_grow_with_the_video() -> None:
    """A lost object keeps one frame, not all of them."""

    def peak(count: int) -> int:
        frames = (np.full((200, 300, 3), i % 256, dtype=np.uint8) for i in range(count))
        tracemalloc.start()
        engine = ScriptedEngine(lambda request, frame: ABSENT)
        engine.requests = _Forgetful()
        Tracker(engine).run(open_source(frames), [by_box(1), by_words(2)])
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(20)
    assert peak(300) < 1.2 * peak(40)


class _Forgetful(list):  # type: ignore[type-arg]
    def __iadd__(self, other: Any) -> Any:
        return self


@pytest.mark.parametrize(
    "options", [{"clip_length": 1}, {"search_window": 0.5}, {"objects": [TrackedObject(1)]}], ids=str
)
def test_senseless_options(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ClipSession(ScriptedEngine(boxes_at()), **{"objects": [by_box()], **options})


def test_files_are_decoded_ahead_and_arrays_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another thread, with the same result."""
    threads: set[str] = set()
    ahead = tracker_module.read_ahead

    def noted(source: Any, count: int) -> Any:
        def items() -> Any:
            for frame in source:
                threads.add(threading.current_thread().name)
                yield frame

        return ahead(items(), count)

    images = list(numbered_frames(9))
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(tracker_module, "read_ahead", noted)
    found = []
    for source in (str(tmp_path), images):
        engine = ScriptedEngine(boxes_at())
        found.append(Tracker(engine, clip_length=4).run(open_source(source), [by_box()]))
        assert threads if source is not images else not threads
        threads.clear()
    assert found[0].num_frames == 9
    np.testing.assert_array_equal(found[0].tracks[0].boxes_xyxy, found[1].tracks[0].boxes_xyxy)
