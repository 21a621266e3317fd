"""From captions to records in a plain loop: what is kept, what is counted, what fails, and how a run goes on.

The plug-ins are those of `building_world`: they know colours. Ray is in test_ray.py.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from building_world import overrides, settings, world, write_captions, write_video
from elysium.building import store as stores
from elysium.building.account import write_files
from elysium.building.captions import CaptionedVideo, read_captions
from elysium.building.clips import VideoClip, write_frames
from elysium.building.funnel import Funnel
from elysium.building.pipeline import Plan, build, build_video
from elysium.building.results import Loss, VideoResult, from_json, to_json
from elysium.building.settings import BuildSettings
from elysium.building.staff import Stages, choose
from elysium.building.stages import Dropped
from elysium.building.store import Store
from elysium.cli.main import main
from elysium.data.records import read_records
from elysium.data.validate import validate
from elysium.training import recipe
from training_kit import log_lines, source, write_config, write_model

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`elysium build` in a plain loop over ``tmp_path``, into its folder ``out``."""

    def call(*more: str, out: str = "out", workers: int = 0, **options: Any) -> int:
        where = ["--videos", str(tmp_path / "videos"), "--output", str(tmp_path / out), "--workers", str(workers)]
        return main(["build", str(tmp_path / "captions.jsonl"), *where, *overrides(**options), *more])

    return call


def result_of(folder: Path, id: str) -> VideoResult:
    return Store(folder / "out").load(id)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_are_what_was_followed_with_frames_that_stand_alone(tmp_path: Path, run: Run) -> None:
    world(tmp_path, 2)
    assert run() == 0
    records = list(read_records(tmp_path / "out" / "records.jsonl"))
    assert [record.id for record in records] == ["v0-0", "v1-0", "v1-1"]
    blue = records[2]
    assert (blue.object_class, blue.object_description, blue.frame_size) == ("square", "a blue square", (96, 64))
    truth = np.array([[6 + 2 * t, 22, 22 + 2 * t, 38] for t in range(12)])
    assert np.abs(blue.boxes_xyxy - truth).max() < 0.01
    assert blue.metadata["url"] == "https://example.org/1" and blue.metadata["frame_indices"] == list(range(12))
    assert blue.times_s == pytest.approx([t / 25 for t in range(12)])
    (tmp_path / "videos").rename(tmp_path / "elsewhere")
    summary = validate(tmp_path / "out" / "records.jsonl", tmp_path / "out")
    assert summary.records == 3 and not summary.defective


def test_training_learns_from_the_records(tmp_path: Path, run: Run) -> None:
    world(tmp_path, 2)
    run()
    out, model = tmp_path / "out", write_model(tmp_path / "model")
    data, steps = {"sources": [source(out / "records.jsonl", out)]}, {"max_steps": 2, "save_steps": 2}
    config = write_config(tmp_path / "run.yaml", model={"path": model}, data=data, trainer=steps)
    recipe.run(config)
    losses = [line["loss"] for line in log_lines(tmp_path / "run") if "loss" in line]
    assert len(losses) == 2 and all(np.isfinite(losses))


def test_a_folder_of_images_is_a_video(tmp_path: Path, run: Run) -> None:
    write_video(tmp_path / "a.mp4")
    write_frames(VideoClip.open(tmp_path / "a.mp4"), tmp_path / "videos", "walk")
    write_captions(tmp_path / "captions.jsonl", [{"video": "walk", "caption": "a red square"}])
    assert run() == 0
    assert [record["vid"] for record in lines(tmp_path / "out" / "records.jsonl")] == ["walk"]


def test_every_phrase_is_accounted_for_exactly_once(tmp_path: Path, run: Run) -> None:
    world(tmp_path, 4)
    write_video(tmp_path / "videos" / "short.mp4", frames=3)
    write_video(tmp_path / "videos" / "one.mp4", frames=1)
    more = [
        {"video": "short.mp4", "caption": "a red square, a green square"},
        {"video": "one.mp4", "expressions": ["the red square"]},
        {"video": "v0.mp4", "caption": "ein rotes Quadrat, ein anderes", "id": "german"},
        {"video": "v0.mp4", "caption": "happiness, freedom", "id": "abstract"},
        {"video": "none.mp4", "caption": "a red square"},
    ]
    with (tmp_path / "captions.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in more)
    assert run("filters.size.min_side_px=10", "grounding.witnesses=none") == 1
    funnel = json.loads((tmp_path / "out" / "manifest.json").read_text())["funnel"]
    assert funnel == {
        "captions": {"count": 9, "lost": {"failed": 1, "no-phrase": 1, "not-english": 1}},
        "chunks": {"count": 17, "lost": {"abstract": 6}},
        "phrases": {"count": 11, "lost": {"not-found": 2, "one-frame": 1, "too-short": 2}},
        "boxes": {"count": 6}, "trajectories": {"count": 6}, "records": {"count": 6},
    }  # fmt: skip
    named = Counter(word for id in ("v0", "v1", "short", "one") for word in accounted(result_of(tmp_path, id)))
    assert named == Counter(
        {"a red square": 3, "a blue square": 2, "a green square": 1, "the red square": 1, "happiness": 2}
    )


def accounted(result: VideoResult) -> list[str]:
    """The words of all that came of a caption, with an article where it had one."""
    words = [loss.dropped.what for loss in result.losses] + [one.grounded.phrase.text for one in result.kept]
    return [f"a {word}" if word.split()[0] in ("red", "blue", "green") else word for word in words]


def test_the_levels_of_the_funnel_hang_together(tmp_path: Path, run: Run) -> None:
    world(tmp_path, 3)
    run("filters.length.min_frames=40")
    funnel = Funnel()
    for id in ("v0", "v1", "v2"):
        funnel.add(result_of(tmp_path, id))
    levels = list(funnel.levels())
    for level, below in pairwise(levels[1:]):
        assert level.left == below.count
    assert levels[2].lost == {"too-short": 6} and levels[-1].count == 0


def test_a_split_phrase_counts_for_each_of_its_boxes() -> None:
    funnel, captioned = Funnel(), CaptionedVideo(video="a.mp4", caption="a dog", id="a")
    funnel.add(VideoResult(captioned, phrases=2, grounded=3, losses=[Loss("grounding", Dropped("cat", "not-found"))]))
    phrases = list(funnel.levels())[2]
    assert (phrases.count, phrases.added, phrases.lost, phrases.left) == (2, 2, {"not-found": 1}, 3)


def test_what_fails_costs_its_video_alone_and_is_tried_again(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    world(tmp_path, 4)
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "outside.mp4").touch()
    with (tmp_path / "captions.jsonl").open("a") as file:
        for name in ("broken.mp4", "none.mp4", "../outside.mp4"):
            file.write(json.dumps({"video": name, "caption": "a red square"}) + "\n")
    assert run(raises_on="v2") == 1
    told = {line["id"]: line["error"] for line in lines(tmp_path / "out" / "failures.jsonl")}
    assert list(told) == ["v2", "broken", "none", "outside"]  # in the order of the captions
    assert told["v2"] == "following: ArithmeticError: no idea"
    assert "is not a video that can be read" in told["broken"] and "No such video" in told["none"]
    assert "is not inside" in told["outside"]
    assert {record["vid"] for record in lines(tmp_path / "out" / "records.jsonl")} == {"v0", "v1", "v3"}
    assert "error: v2: following" in capsys.readouterr().err
    world(tmp_path, 4)
    assert run() == 0
    assert not (tmp_path / "out" / "failures.jsonl").exists()


def test_a_run_skips_what_is_done_and_makes_anew_what_has_changed(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    world(tmp_path, 3)
    log = tmp_path / "log"
    run(log=str(log))
    first = (tmp_path / "out" / "records.jsonl").read_bytes()
    assert log.read_text().split() == ["v0.mp4", "v1.mp4", "v2.mp4"]
    assert run(log=str(log)) == 0 and len(log.read_text().split()) == 3
    assert "3 videos were there from before" in capsys.readouterr().out
    assert (tmp_path / "out" / "records.jsonl").read_bytes() == first

    os.utime(tmp_path / "videos" / "v1.mp4", (1, 1))
    run(log=str(log))
    assert log.read_text().split()[3:] == ["v1.mp4"]
    assert "1 videos were made anew" in capsys.readouterr().out
    run("running.workers=2", log=str(log))  # changes no record
    assert len(log.read_text().split()) == 4
    run("clip.max_frames=10", log=str(log))
    assert len(log.read_text().split()) == 7
    assert [len(record["box"]) for record in lines(tmp_path / "out" / "records.jsonl")] == [10] * 4
    assert len(list((tmp_path / "out" / "frames" / "v1").iterdir())) == 10
    run("filters.size.min_side_px=50")
    assert not list((tmp_path / "out" / "frames").iterdir())


def test_what_is_torn_is_made_again(tmp_path: Path, run: Run) -> None:
    world(tmp_path, 2)
    run()
    first = (tmp_path / "out" / "records.jsonl").read_bytes()
    Store(tmp_path / "out").result_path("v0").write_text('{"form": 1, "dig')
    assert run() == 0 and (tmp_path / "out" / "records.jsonl").read_bytes() == first


def test_the_order_of_records_is_that_of_the_captions(tmp_path: Path, run: Run) -> None:
    world(tmp_path, 3)
    run()
    listed = (tmp_path / "captions.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "captions.jsonl").write_text("".join(reversed(listed)))
    run()
    assert [r["vid"] for r in lines(tmp_path / "out" / "records.jsonl")] == ["v2", "v1", "v1", "v0"]


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world(tmp_path, 3)
    honest = stores.atomic_write_text
    log = tmp_path / "log"

    def full(path: Path, text: str) -> Path:
        if path.name == "v1.json":
            raise stores.output_error(path, OSError(errno.ENOSPC, "No space left on device"))
        return honest(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(stores, "atomic_write_text", full)
        assert run(log=str(log)) == 2
    told = capsys.readouterr().err
    assert "No space left on device" in told and "Traceback" not in told
    assert not (tmp_path / "out" / "records.jsonl").exists()
    assert run(log=str(log)) == 0
    assert log.read_text().split() == ["v0.mp4", "v1.mp4", "v1.mp4", "v2.mp4"]


def test_stopped_by_ctrl_c_it_says_so_and_goes_on(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world(tmp_path, 3)
    import building_world

    honest = building_world.ColorFollower.follow

    def stopped(self: Any, clip: Any, starts: Any) -> Any:
        if clip.path.name == "v1.mp4":
            raise KeyboardInterrupt
        return honest(self, clip, starts)

    with monkeypatch.context() as patch:
        patch.setattr(building_world.ColorFollower, "follow", stopped)
        assert run() == 130
    assert "the same command goes on where it was" in capsys.readouterr().err
    assert run() == 0 and "1 videos were there from before" in capsys.readouterr().out


def test_the_manifest_says_what_the_records_were_made_with(tmp_path: Path, run: Run) -> None:
    world(tmp_path, 2)
    run("clip.fps=12.5", "filters.length.min_frames=4")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert BuildSettings.model_validate(manifest["settings"]).clip.fps == 12.5
    assert "running" not in manifest["settings"]
    assert manifest["records"]["count"] == 3 and manifest["captions"]["lines"] == 2
    assert {"elysium", "python", "packages", "plugins", "funnel"} <= set(manifest)
    assert manifest["packages"]["numpy"] == np.__version__
    clip = manifest["clips"][1]
    assert clip["url"] == "https://example.org/1" and clip["records"] == ["v1-0", "v1-1"]
    assert clip["frame_indices"] == [0, 2, 4, 6, 8, 10]
    assert clip["times_s"] == pytest.approx([0, 0.08, 0.16, 0.24, 0.32, 0.4])


def test_options_that_make_no_sense_are_told_before_any_work(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    world(tmp_path, 1)
    for more, told in (
        (["--workers", "-1"], "--workers -1 is too small"),
        (["--ray", "auto"], "--ray with --workers 0"),
        (["filters.nosuch=1"], "filters.nosuch"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--videos", str(tmp_path / "nowhere")], "There is no folder of videos"),
    ):
        assert run(*more) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    for more, told in (
        (["--follower", "nosuch"], "There is no plug-in 'nosuch' for Follower"),
        (["--grounder", "building_world:Nobody"], "building_world:Nobody"),
        (["following.options.speed=3"], "speed"),
    ):
        assert run(*more) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "out" / "records.jsonl").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "records.jsonl").write_text("{}")
    assert run(out="other") == 2 and "did not write" in capsys.readouterr().err


def test_a_package_that_a_rule_needs_is_missed_before_any_video(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world(tmp_path, 2)
    monkeypatch.setitem(sys.modules, "filterpy.kalman", None)
    log = tmp_path / "log"
    assert run("filters.drift.enabled=true", log=str(log)) == 2
    assert 'pip install "elysium-video[build]"' in capsys.readouterr().err and not log.exists()
    assert run(log=str(log)) == 0


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    world(tmp_path, 1)
    store = Store(tmp_path / "out")
    store.prepare()
    with store.locked():
        assert run() == 2
    assert "Another run is writing" in capsys.readouterr().err


def test_one_video_can_be_built_by_itself(tmp_path: Path) -> None:
    captions = world(tmp_path, 2)
    plan = Plan(settings(), choose(settings()), tmp_path / "videos", Store(tmp_path / "out"))
    result = build_video(read_captions(captions)[1], Stages(plan.staff), plan)
    assert [one.grounded.phrase.text for one in result.kept] == ["red square", "blue square"]
    assert set(result.cpu_s) == {"nouns", "open", "grounding", "following", "filters", "records"}
    assert plan.store.load("v1").kept[1].boxes_xyxy.shape == (12, 4)
    assert plan.store.digest("v1") == plan.digest(result.captioned)


def test_frames_that_a_stopped_run_took_away_are_made_again_with_the_settings_of_before(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    world(tmp_path, 1)
    run()
    frames = sorted((tmp_path / "out" / "frames" / "v0").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", lambda *_: signal.raise_signal(signal.SIGINT))
        assert run("clip.max_frames=9") == 130
    assert len(list((tmp_path / "out" / "frames" / "v0").iterdir())) == 9
    assert run() == 0 and sorted((tmp_path / "out" / "frames" / "v0").iterdir()) == frames


def test_a_caption_of_one_thing_that_is_dropped_counts_like_any_other(tmp_path: Path, run: Run) -> None:
    write_video(tmp_path / "videos" / "a.mp4")
    write_captions(tmp_path / "captions.jsonl", [{"video": "a.mp4", "caption": "happiness"}])
    run()
    funnel = json.loads((tmp_path / "out" / "manifest.json").read_text())["funnel"]
    assert funnel["captions"] == {"count": 1, "lost": {"no-phrase": 1}}
    assert funnel["chunks"] == {"count": 1, "lost": {"abstract": 1}}


def test_results_survive_json(tmp_path: Path) -> None:
    captions = world(tmp_path, 2)
    plan = Plan(settings(), choose(settings()), tmp_path / "videos", Store(tmp_path / "out"))
    result = build_video(read_captions(captions)[1], Stages(plan.staff), plan)
    again = from_json(json.loads(json.dumps(to_json(result))))
    assert to_json(again) == to_json(result)
    assert again.records("x") == result.records("x")


def test_videos_of_several_lines_have_records_of_their_own(tmp_path: Path, run: Run) -> None:
    write_video(tmp_path / "videos" / "a.mp4", ("red",), frames=30)
    write_captions(tmp_path / "captions.jsonl", [
        {"video": "a.mp4", "caption": "a red square", "start_s": start, "end_s": start + 0.4} for start in (0, 0.6)
    ])  # fmt: skip
    assert run() == 0
    first, second = lines(tmp_path / "out" / "records.jsonl")
    assert (first["id"], second["id"]) == ("a-0", "a-2-0")
    assert second["metadata"]["frame_indices"] == list(range(15, 25))
    assert second["frames"][0] == "frames/a-2/000015.jpg"


def test_building_without_the_command_writes_the_same_files(tmp_path: Path, run: Run) -> None:
    captions = world(tmp_path, 2)
    run()
    items = read_captions(captions)
    plan = Plan(settings(), choose(settings()), tmp_path / "videos", Store(tmp_path / "other"))
    plan.store.prepare()
    with plan.store.locked():
        done = build(items, plan, 0)
        write_files(plan, items, done.failures, captions)
    assert (done.built, done.skipped, done.failures) == (2, 0, [])
    ours, theirs = (tmp_path / out / "records.jsonl" for out in ("out", "other"))
    assert ours.read_bytes() == theirs.read_bytes()
