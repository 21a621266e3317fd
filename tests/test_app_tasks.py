"""What the model of the web app is asked and what becomes of it: results, corrections, labels, the timeline."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app_scripted import Model, Told, made_clip, made_result, made_track
from elysium.app import said, tasks, timeline
from elysium.app.clips import Clip, file_stem, frame_name
from elysium.app.corrections import (
    Correction,
    corrected,
    frames_to_redo,
    last_seen,
    merged,
    nearest_frame,
    remembered,
    rows_of,
)
from elysium.app.jobs import Progress
from elysium.app.labels import write_labels
from elysium.app.work import Options, Outcome, Target
from elysium.data.records import read_records, validate_records
from elysium.errors import ElysiumError, InputError, OutputError
from elysium.tracks import TrackResult
from scripted import frame_numbers


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    return made_clip(tmp_path / "clip")


# What the model is asked


def test_objects_start_where_they_were_drawn(clip, tmp_path):
    targets = [Target(6, None, "the zebra"), Target(6, (10, 10, 30, 30)), Target(2, (0, 0, 20, 20))]
    outcome = tasks.track(Model(), told := Told(), clip, targets, Options(), tmp_path / "out")
    first, second, third = outcome.result.tracks
    assert [track.indices[0] for track in (first, second, third)] == [2, 6, 6]
    assert (second.expression, third.expression) == (None, "the zebra")
    assert first.boxes_xyxy[0].tolist() == [0, 0, 20, 20] and first.boxes_xyxy[3].tolist() == [10, 20, 30, 40]
    assert outcome.result.warnings == ("unknown: the zebra",) and not outcome.stopped
    assert told.lines[17] == ("tracking", 18, 18) and told.lines[-1] == ("drawing", 18, 18)
    assert sorted(path.name for path in outcome.files.values()) == [
        "street.csv", "street.json", "street.mot.txt", "street.mp4"
    ]  # fmt: skip
    again = TrackResult.from_json(outcome.files["json"])
    assert again.source == "street.mp4" and again.tracks[0].times_s[:2].tolist() == [0.2, 0.3]


def test_every_nth_frame(clip, tmp_path):
    outcome = tasks.track(Model(), Told(), clip, [Target(1, (0, 0, 20, 20))], Options(stride=5), tmp_path / "out")
    assert outcome.result.indices.tolist() == [1, 6, 11, 16]


def test_a_cancelled_track_keeps_the_clips_that_were_finished(clip, tmp_path):
    outcome = tasks.track(
        Model(), Told(stop_after=9), clip, [Target(0, (0, 0, 20, 20)), Target(15, None, "late")], Options(),
        tmp_path / "out",
    )  # fmt: skip
    assert outcome.stopped and outcome.result.tracks[0].indices.tolist() == list(range(7))  # clips of 4 share a frame
    assert outcome.result.tracks[1].notes == ("tracking ended before the frame in which it was to start",)


def test_where_the_visitors_folder_is_gone_nothing_is_made(clip, tmp_path):
    with pytest.raises(OutputError):
        tasks.track(Model(), Told(), clip, [Target(0, (0, 0, 9, 9))], Options(), tmp_path / "gone" / "out")
    assert not (tmp_path / "gone").exists()


def tracked(clip: Clip, tmp_path: Path, model: Model, expression: str | None = None) -> Outcome:
    target = Target(0, None if expression else (0, 20, 20, 40), expression)
    return tasks.track(model, Told(), clip, [target], Options(), tmp_path / "first")


def test_a_box_drawn_anew_is_followed_from_there(clip, tmp_path):
    model = Model()
    before = tracked(clip, tmp_path, model)
    asked = len(model.engine.requests)
    fix = Correction(10, (150, 50, 250, 90))
    after = tasks.track_on(model, Told(), clip, before, 1, fix, {14: Correction(14, None)}, tmp_path / "second")
    old, new = before.result.tracks[0], after.result.tracks[0]
    (request,) = model.engine.requests[asked:]
    assert frame_numbers(request) == [10, 11, 12, 13]
    assert new.boxes_xyxy[10].tolist() == [150, 50, 200, 90]  # inside the frame
    assert new.indices.tolist() == list(range(20)) and new.scores[10] == 1.0
    np.testing.assert_array_equal(np.delete(new.boxes_xyxy, 10, 0), np.delete(old.boxes_xyxy, 10, 0))
    assert new.notes == ("corrected by hand in frame 10: its box",)


def test_an_absent_object_with_words_is_looked_for_by_them(clip, tmp_path):
    model = Model()
    before = tracked(clip, tmp_path, model, "the dog")
    asked = len(model.engine.requests)
    after = tasks.track_on(model, Told(), clip, before, 1, Correction(16, None), {}, tmp_path / "second")
    (request,) = model.engine.requests[asked:]
    assert "the dog" in request.prompt and frame_numbers(request) == [17, 18, 19]
    assert after.result.tracks[0].states.tolist() == ["tracked"] * 16 + ["absent"] + ["tracked"] * 3


def test_an_absent_object_without_words_is_looked_for_from_where_it_was_last_seen(clip, tmp_path):
    model = Model(blind=(15,))
    before = tracked(clip, tmp_path, model)
    asked = len(model.engine.requests)
    after = tasks.track_on(model, Told(), clip, before, 1, Correction(16, None), {}, tmp_path / "second")
    (request,) = model.engine.requests[asked:]
    assert frame_numbers(request) == [14, 17, 18, 19]
    assert after.result.tracks[0].states.tolist() == ["tracked"] * 15 + ["absent"] * 2 + ["tracked"] * 3
    with pytest.raises(InputError, match="never seen before this frame"):
        tasks.track_on(model, Told(), clip, before, 1, Correction(0, None), {}, tmp_path / "third")


def test_gone_from_here_on_asks_the_model_nothing(clip, tmp_path):
    model = Model()
    before = tracked(clip, tmp_path, model)
    asked = len(model.engine.requests)
    after = tasks.track_on(model, Told(), clip, before, 1, Correction(12, None, True), {}, tmp_path / "second")
    assert len(model.engine.requests) == asked
    assert after.result.tracks[0].states.tolist() == ["tracked"] * 12 + ["absent"] * 8
    assert np.isnan(after.result.tracks[0].boxes_xyxy[12:]).all()


def test_a_cancelled_correction_leaves_what_was_not_reached(clip, tmp_path):
    before = tracked(clip, tmp_path, Model())
    model = Model(blind=tuple(range(20)))
    after = tasks.track_on(model, Told(5), clip, before, 1, Correction(4, (9, 9, 29, 29)), {}, tmp_path / "b")
    assert after.result.tracks[0].states.tolist() == ["tracked"] * 5 + ["absent"] * 3 + ["tracked"] * 12


def test_a_corrected_track_that_is_lost_and_ends_keeps_no_frame_of_the_old_one_behind_it(clip, tmp_path):
    options, target = Options(lost_policy="stop"), Target(0, (0, 20, 20, 40))
    before = tasks.track(Model(), Told(), clip, [target], options, tmp_path / "first")
    model = Model(blind=tuple(range(10, 20)))
    fix = Correction(5, (9, 9, 29, 29))
    ended = tasks.track_on(model, Told(), clip, before, 1, fix, {}, tmp_path / "a").result.tracks[0]
    assert ended.indices.tolist() == list(range(12)) and ended.states.tolist() == ["tracked"] * 10 + ["absent"] * 2
    held = tasks.track_on(model, Told(), clip, before, 1, fix, {15: Correction(15, None)}, tmp_path / "b")
    assert held.result.tracks[0].indices.tolist() == [*range(12), *range(15, 20)]


def test_a_gif_that_is_given_up_leaves_nothing(clip, tmp_path):
    before = tracked(clip, tmp_path, Model())
    with pytest.raises(ElysiumError, match="GIF was given up"):
        tasks.make_gif(Model(), Told(stop_after=3), clip, before)
    assert sorted(tmp_path.glob("first/*")) == sorted(before.files.values())


def test_a_gif_is_made_when_it_is_asked_for(clip, tmp_path):
    before = tracked(clip, tmp_path, Model())
    after = tasks.make_gif(Model(), Told(), clip, before)
    assert after.files["gif"].name == "street.gif" and after.files["gif"].read_bytes()[:3] == b"GIF"
    assert "gif" not in before.files and after.result is before.result


def test_the_live_view_sends_every_frame_drawn_on(clip, tmp_path):
    told = Told()
    count = tasks.live(Model(), told, str(clip.folder), ["the dog"], [(0.1, 0.2, 0.3, 0.4)], 60.0)
    assert count == len(told.images) == 20
    image = np.asarray(Image.open(io.BytesIO(told.images[5])))
    assert image.shape == (100, 200, 3) and image.max() > 100  # a dark frame with something bright on it
    stopped = Told(stop_after=4)
    assert tasks.live(Model(), stopped, str(clip.folder), ["the dog"], [], 60.0) == 4


# Corrections


def test_only_frames_up_to_the_next_correction_are_done_anew():
    result = made_result(made_track("tttttttttt"))
    assert frames_to_redo(result, Correction(6, None), {}) == [7, 8, 9]
    assert frames_to_redo(result, Correction(2, None), {1: Correction(1, None), 5: Correction(5, None)}) == [3, 4]
    assert frames_to_redo(result, Correction(9, None), {}) == []


def test_a_frame_that_was_passed_over_counts_as_the_one_before_it():
    track = made_track("ttt")
    sparse = made_result(replace(track, indices=np.array([2, 6, 10])))
    assert [nearest_frame(sparse, index) for index in (0, 2, 5, 6, 99)] == [2, 2, 2, 6, 10]
    with pytest.raises(InputError, match="No frame has been tracked"):
        nearest_frame(made_result(), 0)


def test_last_seen_is_what_the_model_wrote_not_what_stood_in():
    assert last_seen(made_track("ttcaa"), 4)[0] == 1
    assert last_seen(made_track("ttcaa"), 4)[1].tolist() == [1, 10, 21, 30]
    assert last_seen(made_track("att"), 1) is None


def test_merging_replaces_frames_and_takes_new_ones_in_order():
    track = made_track("tt", first=4)
    news = {2: corrected(Correction(2, (1, 2, 3, 4)), 0.2), 5: corrected(Correction(5, None), 0.5)}
    new = merged(track, news, "note")
    assert new.indices.tolist() == [2, 4, 5] and new.states.tolist() == ["tracked", "tracked", "absent"]
    assert new.times_s.tolist() == [0.2, 0.4, 0.5] and new.scores.tolist() == [1.0, 0.5, 1.0]
    assert new.boxes_xyxy[0].tolist() == [1, 2, 3, 4] and np.isnan(new.boxes_xyxy[2]).all()
    assert new.notes == ("note",) and merged(new, {}, "note").notes == ("note",)
    assert rows_of(track)[4].box.tolist() == [4, 10, 24, 30]


def test_the_newest_correction_of_a_frame_counts():
    once = remembered({}, 1, Correction(3, None))
    twice = remembered(once, 1, Correction(3, (0, 0, 1, 1)))
    assert once == {1: {3: Correction(3, None)}} and twice == {1: {3: Correction(3, (0, 0, 1, 1))}}


# Labels


def test_labels_are_valid_records_with_their_images(clip, tmp_path):
    unseen, unnamed = made_track("aaa", number=2), made_track("tt", expression=None, number=3)
    result = made_result(made_track("ttcaatt"), unseen, unnamed)
    path = write_labels(clip, result, {1: {3: Correction(3, None)}}, tmp_path)
    assert path.name == "street.labels.zip"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "labels")
    sizes = lambda name: Image.open(tmp_path / "labels" / "images" / name).size  # noqa: E731
    assert list(validate_records(tmp_path / "labels" / "records.jsonl", image_size=sizes)) == []
    first, second = read_records(tmp_path / "labels" / "records.jsonl")
    assert first.frames == [f"street/{index:06d}.jpg" for index in (0, 1, 3, 4, 5, 6)]  # carried is unknown
    assert first.absent == [False, False, True, True, False, False]
    assert first.boxes_xyxy[1].tolist() == pytest.approx([1, 10, 21, 30], abs=1e-3) and first.box[2] is None
    assert (first.object_class, first.expressions, first.times_s[2]) == ("the dog", ["the dog"], 0.3)
    assert first.metadata["by_hand"] == [3] and first.frame_size == (200, 100)
    assert (second.object_class, second.expressions, second.id) == ("object", None, "street_3")
    assert sorted(p.name for p in (tmp_path / "labels" / "images" / "street").iterdir()) == [
        frame_name(index) for index in (0, 1, 3, 4, 5, 6)
    ]


def test_nothing_seen_is_nothing_to_save(clip, tmp_path):
    with pytest.raises(InputError, match="No object has a frame"):
        write_labels(clip, made_result(made_track("aaa")), {}, tmp_path)


@pytest.mark.parametrize(
    ("name", "stem"), [("../../a b.mp4", "a_b"), ("é世.mov", "é世"), ("...", "clip"), ("x" * 200 + ".mp4", "x" * 80)]
)
def test_a_visitors_name_makes_a_harmless_file_name(name, stem):
    assert file_stem(name) == stem


# The timeline and other words


def test_the_timeline_has_a_band_a_state_and_points_that_open_frames():
    svg = timeline.timeline_svg(made_result(made_track("ttcaat", expression="a <b>")), shown=3)
    assert re.findall(r'<rect class="(\w+)"', svg) == ["tracked", "carried", "absent", "tracked"]
    assert re.findall(r'data-frame="(\d+)"', svg) == ["0", "2", "3", "5"]
    assert json.loads(re.search(r'data-frames="(.*?)"', svg)[1]) == [0, 1, 2, 3, 4, 5]
    lefts = json.loads(re.search(r'data-lefts="(.*?)"', svg)[1])
    assert lefts[0] == timeline.LEFT and lefts[-1] == timeline.WIDTH - timeline.RIGHT
    assert f'<line class="now" x1="{lefts[3]:.1f}"' in svg
    assert "a &lt;b&gt;" in svg and "<b>" not in svg
    assert timeline.timeline_svg(made_result()) == ""


def test_progress_is_told_in_words():
    assert "3 of 12 frames · 4.5 frames/s" in said.progress_html(Progress(0, "tracking", 3, 12, 4.5))
    assert 'value="0.250"' in said.progress_html(Progress(0, "tracking", 3, 12, 4.5))
    assert "1 job is before yours" in said.progress_html(Progress(1, "waiting"))
    assert "2 jobs are before yours" in said.progress_html(Progress(2, "waiting"))
    assert "Starting" in said.progress_html(Progress(0, "starting"))


def test_everything_from_outside_is_escaped(clip):
    track = made_track("tt", expression="<script>")
    outcome = Outcome(replace(made_result(track), warnings=("<img>",)), {}, 2.0, stopped=True)
    named = said.clip_html(replace(clip, name="<b>.mp4"))
    for html in (said.outcome_html(outcome), named, said.note_html("<i>", "bad"), said.facts_html("<i>")):
        assert not re.search("<script>|<img>|<b>|<i>", html)
    assert "Stopped. What was done by then is kept: 2 frames in 2.0 s (1.0 frames/s)" in said.outcome_html(outcome)
