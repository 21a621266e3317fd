"""When a video is done, and when it is made anew or given up: of single videos, without the command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from building_world import ColorFollower, settings, world
from elysium.building.captions import CaptionedVideo, read_captions
from elysium.building.pipeline import STAGES, Plan, Task, advance, build_video
from elysium.building.staff import Stages, choose
from elysium.building.store import Store
from elysium.cluster import Mark
from elysium.errors import SourceError


def test_what_is_done_is_not_done_again_when_its_process_ended_behind_it(tmp_path: Path) -> None:
    captions, log = world(tmp_path, 1), tmp_path / "log"
    made = settings(log=str(log))
    plan = Plan(made, choose(made), tmp_path / "videos", Store(tmp_path / "out"))
    task, stages = Task(read_captions(captions)[0]), Stages(plan.staff)
    assert [advance(task, plan, stages, list(STAGES)).error for _ in range(2)] == ["", ""]
    assert log.read_text().split() == ["v0.mp4"]


def test_a_file_that_changes_while_it_is_built_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = world(tmp_path, 1)
    plan = Plan(settings(), choose(settings()), tmp_path / "videos", Store(tmp_path / "out"))
    item, stages = read_captions(captions)[0], Stages(plan.staff)
    honest = ColorFollower.follow

    def changed(self: Any, clip: Any, starts: Any) -> Any:
        os.utime(tmp_path / "videos" / "v0.mp4", (1, 1))
        return honest(self, clip, starts)

    monkeypatch.setattr(ColorFollower, "follow", changed)
    build_video(item, stages, plan)
    assert plan.store.digest("v0") not in (None, plan.digest(item))


def test_an_image_that_changes_in_a_folder_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "videos" / "walk"
    folder.mkdir(parents=True)
    (folder / "0.jpg").write_bytes(b"0")
    plan = Plan(settings(), choose(settings()), tmp_path / "videos", Store(tmp_path / "out"))
    item = CaptionedVideo(video="walk", caption="a red square", id="walk")
    before = plan.digest(item)
    assert plan.digest(item) == before
    (folder / "0.jpg").write_bytes(b"00")
    assert plan.digest(item) != before
    (folder / "1.jpg").symlink_to("nowhere")
    with pytest.raises(SourceError, match="Cannot read"):
        plan.digest(item)


def test_a_video_that_ended_its_process_twice_is_not_tried_again(tmp_path: Path) -> None:
    captions = world(tmp_path, 1)
    plan = Plan(settings(), choose(settings()), tmp_path / "videos", Store(tmp_path / "out"))
    task, stages = Task(read_captions(captions)[0]), Stages(plan.staff)
    for tries, run, error in ((1, plan.run, ""), (2, "another", ""), (2, plan.run, "filters: the process that")):
        Mark(plan.store.result_path("v0").with_suffix(".begun"), run).begin(tries, "filters")
        told = advance(task, plan, stages, list(STAGES)).error
        assert told.startswith(error) and bool(told) == bool(error)
        assert plan.store.mark("v0", plan.run).tries() == (0, "")
