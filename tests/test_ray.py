"""On real Ray: the same files whoever works, a worker that ends, and a run that is killed and goes on.

Building with the plug-ins of `building_world`; tracking with nano.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from building_world import overrides, world
from elysium.cli.main import main
from elysium.cli.track_many import Work, _worker
from elysium.cluster import Crew, carried, cluster
from elysium.errors import ElysiumError, InputError
from elysium.manifest import ManifestItem

pytest.importorskip("ray", reason="needs ray, of the extra `build`")

TESTS = Path(__file__).resolve().parent
PYTHONPATH = os.pathsep.join([str(TESTS), str(TESTS.parent / "src"), os.environ.get("PYTHONPATH", "")])


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """One Ray for all that may share it; its processes find the plug-ins of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PYTHONPATH)
        with cluster(4):
            yield


def command(folder: Path, out: str, *more: str, **options: Any) -> list[str]:
    where = ["--videos", str(folder / "videos"), "--output", str(folder / out)]
    return ["build", str(folder / "captions.jsonl"), *where, "--quiet", *overrides(**options), *more]


def files(folder: Path) -> dict[str, bytes]:
    """What readers see of an output: records, manifest, frames."""
    found = [folder / "records.jsonl", folder / "manifest.json", *sorted((folder / "frames").rglob("*.jpg"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.slow
def test_records_do_not_depend_on_who_works(tmp_path: Path, ray: None) -> None:
    """A loop, and three processes that hand a video on; two that do all of it are in the test of kill -9."""
    world(tmp_path, 5)
    assert main(command(tmp_path, "plain", "--workers", "0")) == 0
    assert main(command(tmp_path, "apart", "--workers", "1", "running.following={workers: 1}")) == 0
    plain = files(tmp_path / "plain")
    assert len(plain) == 2 + 5 * 12
    assert files(tmp_path / "apart") == plain


def test_a_worker_that_ends_costs_its_video_alone(tmp_path: Path, ray: None) -> None:
    world(tmp_path, 4)
    log = tmp_path / "log"
    assert main(command(tmp_path, "out", "--workers", "1", dies_on="v1", raises_on="v2", log=str(log))) == 1
    told = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert [(one["id"], one["error"]) for one in told] == [
        ("v1", "following: the process that worked on it ended without a word, 2 times"),
        ("v2", "following: ArithmeticError: no idea"),
    ]
    assert log.read_text().split().count("v1.mp4") == 2
    records = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == ["v0-0", "v3-0", "v3-1"]
    assert not list((tmp_path / "out" / ".videos").rglob("*.begun"))


@pytest.mark.slow
def test_tracking_many_gives_the_same_files_as_alone(tmp_path: Path, ray: None) -> None:
    clip = TESTS.parent / "src" / "elysium" / "assets" / "pedestrians.mp4"
    lines = [
        {"source": str(clip), "id": "one", "expression": "the person", "max_frames": 9},
        {"source": str(clip), "id": "two", "box": [10, 10, 60, 90], "max_frames": 9},
        {"source": str(tmp_path / "none.mp4"), "id": "none", "expression": "the person"},
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["track-many", str(tmp_path / "list.jsonl"), "--save", "json,csv", "--threads", "1", "--quiet"]
    for out, more in (("here", ["--at-once", "1"]), ("ray", ["--workers", "1"])):
        assert main([*command, "--output", str(tmp_path / out), *more]) == 1
    found = {
        out: {str(p.relative_to(tmp_path / out)): p.read_bytes() for p in (tmp_path / out).rglob("*") if p.is_file()}
        for out in ("here", "ray")
    }
    tracks = [f"{id}/tracks.{end}" for id in ("one", "two") for end in ("csv", "json")]
    assert sorted(found["here"]) == ["failures.jsonl", *tracks]
    assert found["ray"] == found["here"]


def test_gpus_that_are_not_there_are_told_and_not_waited_for(
    tmp_path: Path, ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    world(tmp_path, 1)
    for gpus, told in ((1000, "are to have 1000 GPUs together"), (1.5, "cannot have 1.5 GPUs")):
        assert main(command(tmp_path, "out", "--workers", "1", f"running.following={{num_gpus: {gpus}}}")) == 2
        assert told in capsys.readouterr().err
    for gpus in (-1.0, float("nan")):
        with pytest.raises(InputError, match="cannot have"):
            Crew(lambda: lambda item: item, num_gpus=gpus)


def test_what_stops_ray_is_one_sentence(ray: None) -> None:
    def nobody() -> Any:
        raise ImportError("no such plug-in here")

    with pytest.raises(ElysiumError, match=r"Ray gave up: .*no such plug-in here"):
        list(carried([Crew(nobody)], [1, 2]))


def test_a_model_that_cannot_be_loaded_ends_tracking_many(tmp_path: Path) -> None:
    work = Work(tmp_path, ("json",), "nosuch", "cpu", "float32", 1, {}, None)
    _, done = _worker(work)(ManifestItem(source="clip.mp4", id="clip", expressions=("a dog",)))
    assert done.fatal and "nosuch" in done.problem


@pytest.mark.slow
def test_killed_it_goes_on_to_the_same_files(tmp_path: Path) -> None:
    world(tmp_path, 6)
    log, hold = tmp_path / "log", tmp_path / "hold"
    options = {"held_by": str(hold), "log": str(log)}
    assert main(command(tmp_path, "whole", "--workers", "0", **options)) == 0
    log.unlink()
    hold.touch()
    again = [sys.executable, "-m", "elysium", *command(tmp_path, "killed", "--workers", "2", **options)]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    with subprocess.Popen(again, env=environment, start_new_session=True, stderr=subprocess.DEVNULL) as first:
        wait_until(lambda: log.exists() and len(log.read_text().split()) >= 3, first)
        os.killpg(first.pid, signal.SIGKILL)
    assert not (tmp_path / "killed" / "records.jsonl").exists()
    done = {path.stem for path in (tmp_path / "killed" / ".videos").rglob("*.json")}
    assert 1 <= len(done) <= 2
    log.write_text("")
    hold.unlink()
    subprocess.run(again, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert not done & {name.removesuffix(".mp4") for name in log.read_text().split()}
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def wait_until(holds: Any, process: subprocess.Popen[bytes], limit_s: float = 600.0) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.05)
