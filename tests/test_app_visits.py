"""Visitors of the web app, and what they may do: everything between the page and the queue."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app_scripted import Model, Told, made_clip
from elysium.app import confine, tasks
from elysium.app.corrections import Correction
from elysium.app.desk import MAX_VERSIONS, Desk, clip_names
from elysium.app.jobs import Cancelled
from elysium.app.limits import Limits, Turned
from elysium.app.visitors import Visitors, inside
from elysium.app.work import Options, Target
from elysium.errors import ElysiumError, InputError

LIMITS = Limits()


# Visitors


def test_a_visitor_has_a_private_folder_of_no_name_of_theirs(tmp_path):
    visitors = Visitors(tmp_path / "root", LIMITS)
    visitor = visitors.get("../../etc")
    assert visitors.get("../../etc") is visitor and visitors.get("other") is not visitor
    assert visitor.folder.parent == tmp_path / "root" and re.fullmatch(r"visit-\w+", visitor.folder.name)
    assert visitor.folder.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o700
    assert visitor.new_folder("clip") != visitor.new_folder("clip")


def test_nothing_outside_a_folder_is_inside(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret").write_text("x")
    os.symlink(tmp_path / "secret", home / "link")
    assert inside(home, home / "a" / "b") == home / "a" / "b"
    for path in (home, tmp_path, home / ".." / "secret", home / "link", Path("/etc/passwd"), tmp_path / "home2" / "a"):
        with pytest.raises(InputError, match="does not belong to this visit"):
            inside(home, path)


def test_who_leaves_is_forgotten_with_all_files(tmp_path):
    gone: list[str] = []
    visitors = Visitors(tmp_path / "root", LIMITS, left=gone.append)
    visitor = visitors.get("a")
    visitor.begin(made_clip(visitor.new_folder("clip")))
    visitors.leave("a")
    visitors.leave("nobody")
    assert not visitor.folder.exists() and visitor.gone and gone == ["a"] and len(visitors) == 0
    visitors.get("b")
    visitors.close()
    assert not (tmp_path / "root").exists()


def test_the_idle_are_swept_but_not_the_busy_and_nothing_is_left_behind(tmp_path):
    visitors = Visitors(tmp_path / "root", replace(LIMITS, idle_seconds=0.05))
    idle, busy = visitors.get("idle"), visitors.get("busy")
    (tmp_path / "root" / "visit-orphan").mkdir()
    (tmp_path / "root" / "0badc0de").mkdir()  # an upload, which is swept by somebody else
    time.sleep(0.06)
    visitors.sweep(lambda name: name == "busy")
    assert not idle.folder.exists() and busy.folder.exists()
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["0badc0de", busy.folder.name]


def test_calls_of_programs_are_forgotten_sooner(tmp_path):
    visitors = Visitors(tmp_path / "root", replace(LIMITS, brief_seconds=0.05))
    brief, person = visitors.get("program a", brief=True), visitors.get("a")
    time.sleep(0.06)
    visitors.sweep()
    assert not brief.folder.exists() and person.folder.exists()


def test_too_many_visitors_are_turned_away(tmp_path):
    visitors = Visitors(tmp_path / "root", replace(LIMITS, max_visitors=1))
    visitors.get("a")
    with pytest.raises(Turned, match="Too many people"):
        visitors.get("b")
    visitors.leave("a")
    visitors.get("b")


def test_a_new_clip_takes_the_place_of_the_old_one(tmp_path):
    visitor = Visitors(tmp_path / "root", LIMITS).get("a")
    first = made_clip(visitor.new_folder("clip"), 2)
    visitor.begin(first)
    visitor.drawn[0] = [(0, 0, 1, 1)]
    second = made_clip(visitor.new_folder("clip"), 2)
    visitor.begin(second)
    assert visitor.clip is second and not visitor.drawn and not first.folder.exists() and second.folder.exists()


# The desk


class Queue:
    """Does jobs at once with the tasks of the app and a scripted model."""

    def __init__(self, model: Model) -> None:
        self.model, self.asked = model, []  # type: ignore[var-annotated]
        self.cancelled: list[str] = []

    def submit(self, owner: str, task: str, **arguments: Any) -> Any:
        self.asked.append((owner, task))
        value = tasks.TASKS[task](self.model, Told(), **arguments)
        return SimpleNamespace(arguments=arguments, result=lambda: value)

    def cancel(self, owner: str, abandon: bool = False) -> bool:
        self.cancelled.append(owner)
        return False


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Queue(Model()), replace(LIMITS, max_objects=3), tmp_path, {})  # type: ignore[arg-type]


@pytest.fixture
def visitor(tmp_path: Path):
    made = Visitors(tmp_path / "root", LIMITS).get("a")
    made.begin(made_clip(made.new_folder("clip")))
    return made


def test_boxes_stay_on_the_frames_they_were_drawn_on(desk, visitor):
    desk.draw(visitor, 5, [[10, 10, 50, 300]])
    desk.draw(visitor, 2, [[0, 0, 20, 20]])
    assert desk.targets(visitor, "the dog; \n") == [
        Target(2, (0, 0, 20, 20)), Target(5, (10, 10, 50, 100)), Target(2, None, "the dog"),
    ]  # fmt: skip
    desk.draw(visitor, 2, [])
    assert [target.frame for target in desk.targets(visitor, "")] == [5]


@pytest.mark.parametrize(
    ("boxes", "words", "told"),
    [
        ([], " \n", "nothing to follow yet"),
        ([[0, 0, 10, 10]] * 2, "a\nb", "4 objects are too many at once. Follow at most 3"),
        ([[0, 0, 10, 10]] * 4, "", "4 boxes are too many"),
        ([[5, 5, float("nan"), 9]], "", "is no box"),
        ([[5, 5, "x", 9]], "", "is no box"),
        ([5], "", "5 is no box"),
        ([[10**400, 5, 8, 9]], "", "is no box"),
        ([[300, 5, 400, 9]], "", "outside"),
        ([], "a" * 400, "has 400 characters"),
    ],
)
def test_what_makes_no_sense_is_refused_before_it_goes_further(desk, visitor, boxes, words, told):
    def draw_and_track() -> None:
        desk.draw(visitor, 0, boxes)
        desk.track(visitor, desk.targets(visitor, words), Options())

    with pytest.raises(InputError, match=told):
        draw_and_track()
    assert desk.queue.asked == []


def test_without_a_clip_or_a_result_nothing_can_be_done(desk, tmp_path):
    nobody = Visitors(tmp_path / "other", LIMITS).get("x")
    for call in (lambda: desk.targets(nobody, "a"), lambda: desk.ask(nobody, "What?"), lambda: desk.show(nobody, 1)):
        with pytest.raises(InputError, match="There is no video yet"):
            call()
    for call in (lambda: desk.undo(nobody), lambda: desk.save_labels(nobody), lambda: desk.make_gif(nobody)):
        with pytest.raises(InputError, match=r"no (result|correction)"):
            call()
    with pytest.raises(InputError, match="no live source"):
        desk.live(nobody, "the dog")
    with pytest.raises(InputError, match="does not belong"):
        desk.take_in(nobody, ["/etc/passwd"])
    with pytest.raises(InputError, match="no sample"):
        desk.take_sample(nobody, "/etc/passwd")


def test_corrections_pile_up_and_are_taken_back(desk, visitor):
    desk.draw(visitor, 0, [[0, 20, 20, 40]])
    first = desk.keep(visitor, desk.track(visitor, desk.targets(visitor, ""), Options()))
    second = desk.keep_correction(visitor, desk.correct(visitor, 1, 12, [100, 50, 140, 90]))
    third = desk.keep_correction(visitor, desk.correct(visitor, 1, 5, None, to_end=True))
    states = third.outcome.result.tracks[0].states.tolist()
    assert states == ["tracked"] * 5 + ["absent"] * 7 + ["tracked"] * 8  # the box of frame 12 is never written over
    assert third.corrections == {1: {12: Correction(12, (100, 50, 140, 90)), 5: Correction(5, None, True)}}
    assert third.outcome.result.tracks[0].boxes_xyxy[12].tolist() == [100, 50, 140, 90]
    assert desk.undo(visitor) is second and desk.undo(visitor) is first
    assert [version.outcome.files["json"].exists() for version in (first, second, third)] == [True, False, False]
    with pytest.raises(InputError, match="no correction to take back"):
        desk.undo(visitor)


def test_old_results_are_forgotten_with_their_files(desk, visitor):
    desk.draw(visitor, 0, [[0, 20, 20, 40]])
    first = desk.keep(visitor, desk.track(visitor, desk.targets(visitor, ""), Options(stride=10)))
    for _ in range(MAX_VERSIONS):
        desk.keep_correction(visitor, desk.correct(visitor, 1, 19, None))
    assert len(visitor.versions) == MAX_VERSIONS and first not in visitor.versions
    assert not first.outcome.files["json"].exists()
    assert visitor.version.outcome.files["json"].exists()


def test_a_result_for_another_clip_is_not_kept(desk, visitor):
    desk.draw(visitor, 0, [[0, 20, 20, 40]])
    job = desk.track(visitor, desk.targets(visitor, ""), Options())
    visitor.begin(made_clip(visitor.new_folder("clip"), 2))
    with pytest.raises(Cancelled, match="Another video"):
        desk.keep(visitor, job)
    assert visitor.version is None and not job.result().files["json"].exists()


def test_a_correction_of_a_result_that_was_taken_back_is_not_kept(desk, visitor):
    desk.draw(visitor, 0, [[0, 20, 20, 40]])
    first = desk.keep(visitor, desk.track(visitor, desk.targets(visitor, ""), Options(stride=10)))
    desk.keep_correction(visitor, desk.correct(visitor, 1, 10, None))
    job = desk.correct(visitor, 1, 0, None, to_end=True)
    desk.undo(visitor)
    with pytest.raises(Cancelled, match="taken back"):
        desk.keep_correction(visitor, job)
    assert visitor.versions == [first] and not job.result().files["json"].exists()


def test_a_gif_belongs_to_the_result_it_shows(desk, visitor):
    desk.draw(visitor, 0, [[0, 20, 20, 40]])
    first = desk.keep(visitor, desk.track(visitor, desk.targets(visitor, ""), Options(stride=10)))
    desk.keep_gif(visitor, desk.make_gif(visitor))
    assert set(visitor.version.outcome.files) == {*first.outcome.files, "gif"}
    assert visitor.version.outcome.result is first.outcome.result


def test_labels_are_saved_once_and_not_on_a_full_disk(desk, visitor):
    desk.draw(visitor, 0, [[0, 20, 20, 40]])
    desk.keep(visitor, desk.track(visitor, desk.targets(visitor, ""), Options(stride=10)))
    first, second = desk.save_labels(visitor), desk.save_labels(visitor)
    assert second.exists() and not first.exists()
    desk.limits = replace(LIMITS, min_free_bytes=2**62)
    with pytest.raises(Turned, match="disk of this server is full"):
        desk.save_labels(visitor)


def test_the_newest_video_wins_and_nothing_of_others_is_left(desk, visitor, monkeypatch):
    """A second upload is taken in while the first one is still being read."""
    picture = visitor.clip.path(0)
    (desk.root / "a.jpg").write_bytes(picture.read_bytes())
    begun: list[Any] = []
    calls: list[Path] = []

    def slowly(files, folder, name, limits, *, told, unwanted):
        calls.append(folder)
        if len(calls) == 1:
            begun.append(desk.take_in(visitor, [desk.root / "a.jpg"]))
            assert unwanted()
        return made_clip(folder, 2)

    monkeypatch.setattr(confine, "take_in", slowly)
    (visitor.folder / "result-9").mkdir()  # of a job that was killed
    with pytest.raises(Cancelled, match="Another video"):
        desk.take_in(visitor, [desk.root / "a.jpg"])
    assert visitor.clip is begun[0] and list(visitor.folder.iterdir()) == [visitor.clip.folder]
    assert desk.queue.cancelled == ["a"] * 3  # both at the start, the newest once more before the old clip goes


def test_half_a_result_is_removed(desk, visitor, monkeypatch):
    def fails(model, report, folder, **others):
        folder.mkdir()
        (folder / "half.json").touch()

    monkeypatch.setitem(tasks.TASKS, "track", fails)
    desk.draw(visitor, 0, [[0, 20, 20, 40]])
    job = desk.track(visitor, desk.targets(visitor, ""), Options())
    monkeypatch.setattr(job, "result", lambda: (_ for _ in ()).throw(Cancelled("The job was stopped")))
    with pytest.raises(Cancelled, match="stopped"):
        desk.keep(visitor, job)
    assert not job.arguments["folder"].exists()


def test_samples_are_the_videos_of_a_folder(tmp_path):
    for name in ("b.mp4", "a2.mkv", "a10.mp4", "a2.mp4", "note.txt"):
        (tmp_path / name).touch()
    assert list(clip_names(tmp_path).values()) and set(clip_names(tmp_path)) == {"a2", "a10", "b"}
    assert clip_names(tmp_path)["a2"].name == "a2.mkv" and clip_names(None) == {}


def test_errors_have_the_words_of_the_app(desk, visitor):
    with pytest.raises(ElysiumError, match="Every 0th frame makes no sense"):
        desk.track(visitor, [Target(0, (0, 0, 9, 9))], Options(stride=0))
