"""The command line: arguments, exit codes, where files go, and what happens when something goes wrong.

No model runs here: a stand-in answers, so that what is tested is the command line alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from elysium.cli import common, describe, models, outputs
from elysium.cli.main import main
from elysium.errors import OutputError
from elysium.tracks import TrackRecorder, TrackResult
from elysium.video import FrameSource


class StandIn:
    """Answers like a loaded model: every object stands still; `stop_after` frames it is interrupted."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.calls: list[dict[str, Any]] = []

    def track(
        self,
        source: FrameSource,
        expression: list[str] | None = None,
        boxes: list[list[float]] | None = None,
        box_format: str = "xyxy",
        *,
        progress: Callable[[int, int | None], None] | None = None,
        **options: Any,
    ) -> TrackResult:
        from elysium.inference.tracker import Interrupted

        self.calls.append({"expression": expression, "boxes": boxes, "box_format": box_format, **options})
        recorders = [TrackRecorder(i + 1, None, box) for i, box in enumerate(boxes or [])]
        words = [expression] if isinstance(expression, str) else expression or []
        recorders += [TrackRecorder(len(recorders) + 1 + i, text) for i, text in enumerate(words)]
        for number, frame in enumerate(source):
            if number == self.stop_after:
                raise Interrupted(self._result(source, recorders))
            for recorder in recorders:
                recorder.add(frame.index, frame.time_s, [1, 2, 11, 22], 0.5, "tracked")
            if progress is not None:
                progress(number + 1, source.num_frames_estimate)
        return self._result(source, recorders)

    def _result(self, source: FrameSource, recorders: list[TrackRecorder]) -> TrackResult:
        tracks = tuple(recorder.finish() for recorder in recorders)
        return TrackResult(source.name, "nano", source.fps, source.resolution_wh, tracks, ("a warning",))

    def describe(self, source: FrameSource, box: list[float], box_format: str, search_window: float | str) -> str:
        return f"{len(list(source))} frames, {box_format} {box[0]:g}, {search_window}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with `clip/`: ten images of 64 x 48 pixels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip").mkdir()
    for number in range(10):
        image = np.full((48, 64, 3), 20 * number, dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "clip" / f"{number:03}.png")
    return tmp_path


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(common, "load_model", lambda *_: stand_in)
    return stand_in


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the model was loaded before the arguments were checked")

    monkeypatch.setattr(common, "load_model", refuse)


def files_in(folder: Path) -> list[str]:
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and "clip" not in p.parts
    )


def test_boxes_first_then_words(here: Path, model: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "track",
        "clip",
        "the dog",
        "--expression",
        " a cat ",
        "--box",
        "1,2,3,4",
        "--box",
        "-5,6,7,8",
    ]
    options = ["--box-format", "xywh", "--clip-length", "4", "--search-window", "none", "--save", "none"]
    assert main([*arguments, *options, "--zoom"]) == 0
    (call,) = model.calls
    assert (call["zoom"], call["fine"]) == (True, False)
    assert call["expression"] == ["the dog", "a cat"]
    assert call["boxes"] == [[1, 2, 3, 4], [-5, 6, 7, 8]]
    assert call["box_format"] == "xywh"
    assert call["clip_length"] == 4
    assert call["search_window"] is None
    assert call["free"] is False
    said = capsys.readouterr()
    assert "10 frames in" in said.out
    assert 'object 3 "the dog": 10 tracked' in said.out
    assert "warning: a warning\n" in said.err


def test_defaults_are_left_to_the_model(here: Path, model: StandIn) -> None:
    assert main(["track", "clip", "dog", "--save", "none"]) == 0
    (call,) = model.calls
    assert call["boxes"] is None
    assert call["clip_length"] is None
    assert call["search_window"] == "auto"


def test_default_output_is_numbered_up(
    here: Path, model: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        assert main(["track", "clip", "dog", "--save", "json"]) == 0
    wanted = [f"runs/track/{name}/tracks.json" for name in ("clip", "clip-2", "clip-3")]
    found = sorted(str(path.relative_to(here)) for path in (here / "runs").rglob("*") if path.is_file())
    assert found == sorted(wanted)
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("runs")] == wanted


def test_all_formats_in_a_folder(here: Path, model: StandIn) -> None:
    assert (
        main(["track", "clip", "dog", "--output", "out", "--save", "json,csv,mot,mp4,gif", "--stride", "3"])
        == 0
    )
    names = ["annotated.gif", "annotated.mp4", "tracks.csv", "tracks.json", "tracks.mot.txt"]
    assert sorted(path.name for path in (here / "out").iterdir()) == names
    result = json.loads((here / "out" / "tracks.json").read_text(encoding="utf-8"))
    assert [frame["index"] for frame in result["tracks"][0]["frames"]] == [0, 3, 6, 9]
    assert (
        (here / "out" / "tracks.mot.txt")
        .read_text(encoding="utf-8")
        .startswith("1,1,1,2,10,20,0.5,-1,-1,-1\n")
    )


def test_output_file_has_json_beside_it(here: Path, model: StandIn) -> None:
    assert main(["track", "clip", "dog", "--output", "new/dog.mp4", "--max-frames", "2"]) == 0
    assert sorted(path.name for path in (here / "new").iterdir()) == ["dog.json", "dog.mp4"]


def test_a_given_folder_is_written_again(here: Path, model: StandIn) -> None:
    for count in ("4", "2"):
        assert main(["track", "clip", "dog", "--output", "out", "--save", "json", "--max-frames", count]) == 0
    assert TrackResult.from_json(here / "out" / "tracks.json").num_frames == 2


def test_the_source_is_never_written_over(
    here: Path, no_model: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "film.mp4").write_bytes(b"my only copy")
    assert main(["track", "film.mp4", "dog", "--output", "./film.mp4"]) == 2
    assert "write over the source" in capsys.readouterr().err
    assert (here / "film.mp4").read_bytes() == b"my only copy"


def test_json_is_all_there_is_on_stdout(
    here: Path, model: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", "clip", "dog", "--json", "--save", "none"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == 1
    assert result["num_frames"] == 10
    assert result["resolution_wh"] == [64, 48]
    assert not (here / "runs").exists()


def test_quiet_leaves_only_warnings(here: Path, model: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track", "clip", "dog", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "warning: a warning\n"


def test_interrupted_saves_what_was_tracked(
    here: Path, model: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    model.stop_after = 7
    assert main(["track", "clip", "dog", "--save", "json", "--output", "out"]) == 130
    assert TrackResult.from_json(here / "out" / "tracks.json").num_frames == 7
    assert "error: interrupted; what was tracked so far has been kept\n" in capsys.readouterr().err


def test_interrupted_before_the_first_clip(
    here: Path, model: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    model.stop_after = 0
    assert main(["track", "clip", "dog"]) == 130
    assert not (here / "runs").exists()
    assert "nothing was written" in capsys.readouterr().err


@pytest.mark.parametrize(("save", "code", "left"), [("json,csv", 1, ["out/tracks.json"]), ("csv", 2, [])])
def test_a_file_that_cannot_be_written(
    save: str, code: int, left: list[str], here: Path, model: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> str:
        raise OutputError("The disk is full", "Make room.")

    monkeypatch.setattr(TrackResult, "to_csv", full)
    assert main(["track", "clip", "dog", "--save", save, "--output", "out"]) == code
    assert files_in(here) == left
    assert (here / "out").exists() == bool(left)


def test_folders_made_for_nothing_go_again(tmp_path: Path) -> None:
    plan = outputs.OutputPlan(tmp_path / "a" / "b" / "c", numbered=True)
    folder, made = outputs.make_folder(plan)
    assert folder == tmp_path / "a" / "b" / "c"
    assert made == [folder, folder.parent, folder.parent.parent]
    outputs.remove_empty(made)
    assert list(tmp_path.iterdir()) == []


def test_describe(here: Path, model: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "clip", "--box", "1,2,3,4", "--box", "5,6,7,8", "--box-format", "percent"]) == 0
    assert capsys.readouterr().out == "8 frames, percent 1, auto\n8 frames, percent 5, auto\n"
    assert main(["describe", "clip", "--box", "1,2,3,4", "--json", "--max-frames", "1", "--search-window", "3"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["objects"] == [{"box": [1, 2, 3, 4], "description": "1 frames, xyxy 1, 3.0"}]


def test_describe_shows_as_many_frames_as_the_pipeline() -> None:
    from elysium.inference import pipelines

    assert describe.DESCRIBE_FRAMES == pipelines.DESCRIBE_FRAMES


def test_models_lists_what_is_bundled_and_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.dumps({"model_type": "elysium", "tracking": {"known_nouns": ["car", "dog"]}})
    bundled, cached = tmp_path / "weights" / "tiny", tmp_path / "hub" / "models--me--big" / "snapshots" / "abc"
    other = tmp_path / "hub" / "models--me--other" / "snapshots" / "abc"
    for folder, text in ((bundled, config), (cached, '{"model_type": "elysium"}'), (other, '{"model_type": "llama"}')):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(text, encoding="utf-8")
    (bundled / "model.safetensors").write_bytes(bytes(2_000_000 - len(config)))
    (tmp_path / "weights" / "notes").mkdir()
    monkeypatch.setattr(models, "weights_folder", lambda: tmp_path / "weights")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("ELYSIUM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "elysium_7b-0123456789ab").mkdir(parents=True)
    (tmp_path / "cache" / "elysium_7b-0123456789ab" / "config.json").write_text('{"model_type": "elysium"}')
    assert main(["models"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert third.split()[:2] == ["elysium_7b-0123456789ab", "imported"]
    assert first.split() == [
        "tiny", "bundled", "2.0", "MB", "Apache-2.0", "SOT,", "RSOT,", "Video-REG,", "REC,", "REG,", "VideoQA;",
        "2", "nouns",
    ]  # fmt: skip
    assert second.split()[:5] == ["me/big", "cache", "0.0", "MB", "see"]
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["bytes"] == 2_000_000
    assert main(["models", "--nouns", "tiny"]) == 0
    assert capsys.readouterr().out == "car\ndog\n"
    assert main(["models", "--nouns", "me/big"]) == 2
    assert "Those that do: tiny." in capsys.readouterr().err


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["torch"].startswith("2.")
    assert {"python", "device", "dtype", "threads", "bundled weights"} <= set(facts)


def test_train_hands_its_arguments_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    recipe = SimpleNamespace(run=lambda *arguments: given.append(arguments) or Path("done"))
    monkeypatch.setitem(sys.modules, "elysium.training.recipe", recipe)  # the real one takes long to import
    (here / "a.yaml").write_text("output_dir: out\n", encoding="utf-8")
    assert main(["train", "a.yaml", "data.train_clips=4"]) == 0
    assert given == [(Path("a.yaml"), ["data.train_clips=4"])]


def test_train_names_every_wrong_key(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.yaml").write_text("colour: red\ndata:\n  clips: 3\n", encoding="utf-8")
    assert main(["train", "a.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "colour" in said
    assert "data.clips" in said


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("clip", "clip"),
        ("clip/003.png", "003"),
        ("clip/*.png", "clip"),
        ("./clip/", "clip"),
        ("film.v2.mp4", "film.v2"),
    ],
)
def test_source_stem(source: str, stem: str, here: Path) -> None:
    assert common.source_stem(source) == stem


def best_of_three(code: str) -> tuple[float, str]:
    """Seconds of processor time of the fastest of three fresh interpreters, and what it printed last.

    Not seconds on the clock: those depend on what else the machine does.
    """
    seconds = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        after = os.times()
        seconds.append(
            after.children_user - before.children_user + after.children_system - before.children_system
        )
    return min(seconds), done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    [
        "import elysium",
        "from elysium.cli.main import main; main(['--help'])",
        "from elysium.cli.main import main; main(['track', '--help'])",
    ],
)
def test_starts_in_under_a_second_without_torch(code: str) -> None:
    seconds, last = best_of_three(f"{code}\nimport sys; print('torch' in sys.modules)")
    assert last == "False"
    assert seconds < 1.0


def test_python_m_elysium() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "elysium", "track", "no.mp4", "x"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "error: No such file or folder: 'no.mp4'. Check the path.\n"
    assert done.stdout == ""


def test_public_names_are_lazy_and_complete() -> None:
    import elysium

    assert elysium.TrackResult is TrackResult
    assert elysium.__version__ == "0.1.0"
    assert set(elysium.__all__) <= set(dir(elysium))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = elysium.Nothing
