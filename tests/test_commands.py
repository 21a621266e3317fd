"""ground, ask, stream and track-many on the command line, and manifests. No model runs here: stand-ins answer."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from elysium.cli import common
from elysium.cli.main import main
from elysium.cli.reference import reference
from elysium.errors import InputError, SourceError
from elysium.inference.clips import LOST_POLICIES
from elysium.inference.streaming import StreamTracker
from elysium.inference.tracker import Interrupted, Tracker
from elysium.manifest import read_manifest
from elysium.tracks import TrackRecorder, TrackResult
from elysium.video import FrameSource, open_source, read_image
from scripted import ScriptedEngine, boxes_at


class StandIn:
    """Finds what has no "nothing" in its name at one place; fails on words and sources that say so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.engine = ScriptedEngine(boxes_at())

    def with_engine(self, engine: Any) -> StandIn:
        return self

    def unknown_words(self, expressions: list[str]) -> list[str]:
        return [f"never saw {text}" for text in expressions if "zyx" in text]

    def ground(self, image: np.ndarray, expression: str, *, zoom: bool) -> tuple[np.ndarray, float]:
        self.asked.append((image.shape, expression, zoom))
        return (np.full(4, np.nan), 0.25) if "nothing" in expression else (np.array([4.0, 6.0, 40.5, 30.0]), 0.75)

    def ask(self, source: FrameSource, question: str, *, num_frames: int | None) -> str:
        self.asked.append((len(list(source)), question, num_frames))
        return "red"

    def tracker(self, *, clip_length: int | None, lost_policy: str) -> StreamTracker:
        self.asked.append((clip_length, lost_policy))
        return StreamTracker(Tracker(ScriptedEngine(boxes_at()), clip_length or 8))

    def track(self, source: str, expression: Any, boxes: Any, box_format: str, **options: Any) -> TrackResult:
        self.asked.append((source, expression, boxes, box_format, options))
        if "stop" in source:
            raise KeyboardInterrupt
        frames = open_source(source, stride=options["stride"])
        recorder = TrackRecorder(1, "dog")
        for frame in frames:
            recorder.add(frame.index, frame.time_s, [1, 2, 11, 22], 0.5, "tracked")
        return TrackResult(frames.name, "nano", frames.fps, frames.resolution_wh, (recorder.finish(),))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("clip", "clip two"):
        (tmp_path / name).mkdir()
        for number in range(10):
            image = np.full((48, 64, 3), number, dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / name / f"{number:03}.png")
    return tmp_path


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(common, "load_model", lambda *_, **__: stand_in)
    return stand_in


def test_the_lost_policies_of_the_command_line_are_the_trackers() -> None:
    assert common.LOST_POLICIES == LOST_POLICIES


def test_ground_prints_boxes_and_draws_them(here: Path, model: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ground", "clip/003.png", "the dog", "--expression", "nothing", "--expression", "zyx"]) == 0
    said = capsys.readouterr()
    picture = "runs/ground/003/annotated.png"
    assert said.out.splitlines() == [
        '"the dog": 4,6,40.5,30 (score 0.75)', '"nothing": not found', '"zyx": 4,6,40.5,30 (score 0.75)', picture,
    ]  # fmt: skip
    assert said.err == "warning: never saw zyx\n"
    drawn = read_image(picture)
    assert drawn.shape == (48, 64, 3) and (drawn[30, 4:40] != 3).any()
    assert model.asked[0] == ((48, 64, 3), "the dog", False)
    assert main(["ground", "clip/003.png", "the dog", "--zoom", "--output", "none"]) == 0
    assert model.asked[-1] == ((48, 64, 3), "the dog", True)


def test_ground_as_json_and_without_a_picture(here: Path, model: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ground", "clip/003.png", "the dog", "--expression", "nothing", "--json", "--output", "none"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "source": "clip/003.png", "model": "nano", "resolution_wh": [64, 48], "objects": [
            {"expression": "the dog", "box_xyxy": [4.0, 6.0, 40.5, 30.0], "score": 0.75},
            {"expression": "nothing", "box_xyxy": None, "score": 0.25},
        ],
    }  # fmt: skip
    assert not (here / "runs").exists()


@pytest.mark.parametrize("name", ["out.png", "new/out.jpg", "out.webp"])
def test_ground_draws_into_the_file_that_is_named(here: Path, model: StandIn, name: str) -> None:
    assert main(["ground", "clip/003.png", "the dog", "--output", name]) == 0
    assert Image.open(name).size == (64, 48)


def test_the_reference_is_what_the_commands_say() -> None:
    written = (Path(__file__).parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == reference(), "run python -m elysium.cli.reference > docs/cli.md"


def test_ask(here: Path, model: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "clip", "What color is the dog?", "--frames", "4"]) == 0
    assert capsys.readouterr().out == "red\n"
    assert main(["ask", "clip/003.png", "What color is the zyx?", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["answer"] == "red" and "never saw" in said.err
    assert model.asked == [(10, "What color is the dog?", 4), (1, "What color is the zyx?", None)]


def test_stream_prints_a_line_a_frame(here: Path, model: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stream", "clip", "the dog", "--box", "1,2,11,22", "--output", "out.mp4"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["index"] for line in lines] == list(range(10))
    assert [item["expression"] for item in lines[4]["objects"]] == [None, "the dog"]
    assert lines[0]["objects"][0]["box_xyxy"] == [1, 2, 11, 22]
    assert open_source("out.mp4").num_frames_estimate == 10
    assert main(["stream", "clip", "the dog", "--low-latency", "--max-frames", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert model.asked == [(None, "search"), (2, "search")]


def test_ctrl_c_in_a_stream_gives_what_is_known_and_130(
    here: Path, model: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = StreamTracker.update

    def stops(self: StreamTracker, frame: Any) -> Any:
        if frame.index == 5:
            raise KeyboardInterrupt
        return honest(self, frame)

    monkeypatch.setattr(StreamTracker, "update", stops)
    assert main(["stream", "clip", "the dog", "--output", "out.mp4"]) == 130
    said = capsys.readouterr()
    assert [json.loads(line)["index"] for line in said.out.splitlines()] == list(range(5))
    assert said.err == "error: interrupted\n" and open_source("out.mp4").num_frames_estimate == 5


MANY = (
    '{"source": "clip", "expression": "dog", "stride": 2}\n'
    '{"source": "clip", "boxes": [[1, 2, 3, 4]], "box_format": "xywh", "at_s": 0.1}\n'
    '{"id": "bad", "source": "gone.mp4", "expression": "dog"}\n'
    '{"source": "clip two", "expressions": ["dog", "cat"]}\n'
)


def test_track_many_goes_on_past_failures_and_skips_what_is_done(
    here: Path, model: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "list.jsonl").write_text(MANY)
    arguments = ["track-many", "list.jsonl", "--output", "out", "--save", "json,csv", "--at-once", "1", "--zoom"]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.out == "3 done, 0 skipped (done before), 1 failed: out\n"
    assert "error: bad: No such file or folder: 'gone.mp4'" in said.err
    assert sorted(str(p.relative_to(here / "out")) for p in (here / "out").rglob("*.*")) == [
        "clip two/tracks.csv", "clip two/tracks.json", "clip-2/tracks.csv", "clip-2/tracks.json", "clip/tracks.csv",
        "clip/tracks.json", "failures.jsonl",
    ]  # fmt: skip
    assert json.loads((here / "out" / "failures.jsonl").read_text())["id"] == "bad"
    assert all(call[4]["zoom"] is True for call in model.asked)
    assert [call[1:4] for call in model.asked] == [
        (("dog",), None, "xyxy"), (None, ((1, 2, 3, 4),), "xywh"), (("dog",), None, "xyxy"),
        (("dog", "cat"), None, "xyxy"),
    ]  # fmt: skip
    assert model.asked[1][4]["at_s"] == (0.1,) and model.asked[0][4]["stride"] == 2
    Path("out/clip/tracks.csv").unlink()
    (here / "gone.mp4").symlink_to(here / "clip")
    model.asked.clear()
    assert main(arguments) == 0
    assert capsys.readouterr().out == "2 done, 2 skipped (done before), 0 failed: out\n"
    assert [call[0] for call in model.asked] == ["clip", "gone.mp4"]
    assert not (here / "out" / "failures.jsonl").exists()


@pytest.mark.parametrize(("more", "told"), [
    (["--workers", "-1"], "error: --workers -1 is too small. Give 0 or more."),
    (["--ray", "auto"], "error: --ray with --workers 0 leaves nobody to do the work. Give --workers 1 or more."),
    (["--gpus", "0.5"], "error: --gpus 0.5 is for each of --workers 0. Give --workers 1 or more, or --device cuda."),
])  # fmt: skip
def test_processes_that_cannot_be_are_told(more: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track-many", "list.jsonl", "--output", "out", *more]) == 2
    assert told in capsys.readouterr().err


def test_ctrl_c_in_track_many_keeps_what_is_done(here: Path, model: StandIn) -> None:
    (here / "stop").mkdir()
    (here / "list.jsonl").write_text(
        '{"source": "clip", "expression": "dog"}\n{"source": "stop", "expression": "dog"}\n'
        '{"source": "clip two", "expression": "dog"}\n'
    )
    arguments = ["track-many", "list.jsonl", "--output", "out", "--save", "json", "--quiet", "--at-once", "1"]
    assert main(arguments) == 130
    assert [str(p.relative_to(here / "out")) for p in (here / "out").rglob("*.json")] == ["clip/tracks.json"]
    assert issubclass(Interrupted, KeyboardInterrupt)


def test_manifests_as_csv_are_those_as_json_lines(here: Path) -> None:
    (here / "list.jsonl").write_text(
        '{"id": "a", "source": "clip", "expression": "the dog, left", "start_s": 1.5}\n'
        '{"source": "clip", "box": [1, 2, 3.5, 4], "at_s": [0.5]}\n'
    )
    (here / "list.csv").write_text(
        'id,source,expression,box,start_s,at_s\na,clip,"the dog, left",,1.5,\n,clip,,"1,2,3.5,4",,0.5\n',
        encoding="utf-8-sig",
    )
    one, two = read_manifest(here / "list.jsonl"), read_manifest(here / "list.csv")
    assert one == two
    assert [item.id for item in one] == ["a", "clip"] and one[1].boxes == ((1, 2, 3.5, 4),)


def test_sources_are_found_beside_the_manifest(here: Path) -> None:
    (here / "lists").mkdir()
    (here / "lists" / "own").mkdir()
    (here / "lists" / "list.jsonl").write_text(
        '{"source": "own", "expression": "dog"}\n{"source": "clip", "expression": "dog"}\n'
    )
    items = read_manifest(here / "lists" / "list.jsonl")
    assert [item.source for item in items] == [str(here / "lists" / "own"), "clip"]
    (here / "list.jsonl").write_text(json.dumps({"source": "x" * 5000, "expression": "dog", "id": "long"}))
    assert read_manifest(here / "list.jsonl")[0].source == "x" * 5000  # told when it is opened


@pytest.mark.parametrize("name", ["a/b", "..", "a\\b"])
def test_ids_are_names_of_folders(here: Path, name: str) -> None:
    (here / "list.jsonl").write_text(json.dumps({"id": name, "source": "clip", "expression": "dog"}))
    with pytest.raises(InputError, match="line 1"):
        read_manifest(here / "list.jsonl")
    with pytest.raises(SourceError):
        read_manifest(here / "none.jsonl")


@pytest.mark.parametrize(("source", "stem"), [
    ("-", "live"), ("0", "live"), ("rtsp://user:secret@cam.local:554/stream 1?x=2", "stream-1"),
    ("https://example.org/a/clip.mp4", "clip"), ("http://example.org", "example.org"), ("clip", "clip"),
    ("clip/003.png", "003"), ("clip/*.png", "clip"),
])  # fmt: skip
def test_results_are_filed_under_the_name_of_the_source(here: Path, source: str, stem: str) -> None:
    assert common.source_stem(source) == stem


def test_a_live_source_is_tracked_without_pictures(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = open_source("clip")
    frames.live = True
    monkeypatch.setattr(common, "open_frames", lambda *_, **__: frames)

    class Follows(StandIn):
        def track(self, source: FrameSource, *_: Any, **__: Any) -> TrackResult:  # type: ignore[override]
            recorder = TrackRecorder(1, "dog")
            for frame in source:
                recorder.add(frame.index, frame.time_s, [1, 2, 11, 22], 0.5, "tracked")
            return TrackResult("webcam 0", "nano", 25.0, (64, 48), (recorder.finish(),))

    monkeypatch.setattr(common, "load_model", lambda *_: Follows())
    assert main(["track", "0", "dog", "--quiet"]) == 0
    assert [str(path) for path in Path("runs").rglob("*.*")] == ["runs/track/live/tracks.json"]
    assert main(["track", "0", "dog", "--save", "gif"]) == 2
    assert "cannot be drawn on as gif" in capsys.readouterr().err


def test_a_full_disk_is_said_and_leaves_no_part_of_a_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Finds(StandIn):
        def track(self, source: FrameSource, *_: Any, **__: Any) -> TrackResult:  # type: ignore[override]
            return StandIn.track(self, "clip", None, None, "xyxy", stride=1)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(common, "load_model", lambda *_: Finds())
    monkeypatch.setattr("os.replace", full)
    assert main(["track", "clip", "dog", "--save", "json,csv,mp4,gif,coco", "--output", "out dir/ünï"]) == 2
    said = capsys.readouterr()
    assert said.err.count("No space left on device") == 5 and not Path("out dir").exists()
    monkeypatch.undo()


def test_a_folder_that_takes_no_files_is_said_before_the_model_is_loaded(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tests may run as root, whom permissions do not stop: so the refusal is played."""

    def refuses(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuses)
    for command in (["track", "clip", "dog"], ["ground", "clip/000.png", "dog"], ["track-many", "l.jsonl"]):
        Path("l.jsonl").write_text('{"source": "clip", "expression": "dog"}')
        assert main([*command, "--output", "out"]) == 2
        assert "Permission denied" in capsys.readouterr().err


def test_two_runs_into_one_folder_replace_files_whole(here: Path, model: StandIn) -> None:
    (here / "list.jsonl").write_text('{"id": "é ü", "source": "clip two", "expression": "dog"}\n')
    for _ in range(2):
        assert main(["track-many", "list.jsonl", "--output", "out", "--save", "json", "--quiet"]) == 0
        assert TrackResult.from_json(Path("out/é ü/tracks.json")).num_frames == 10
    assert len(model.asked) == 1
