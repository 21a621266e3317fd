"""Curves of training: what a log says, in which order stages stand, and what is drawn of it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from elysium.cli.main import main
from elysium.errors import InputError, SourceError
from elysium.training import curves
from elysium.training.curves import decades_of, draw_curves, panels, running_mean
from elysium.training.run_log import LOG, distinct, last_values, read_log, read_run, stage_folders

LINES: tuple[dict[str, Any], ...] = (
    {"step": 50, "loss": 4.0, "loss_words": 0.5, "learning_rate": 1e-3, "grad_norm": 2.0, "epoch": 0.1},
    {"step": 100, "loss": 3.0, "loss_words": 0.25, "learning_rate": 5e-4, "grad_norm": 1.5, "epoch": 0.2},
    {"step": 100, "val_SOT": 0.68, "val_SOT_hold": 0.41, "val_REC": 0.5, "epoch": 0.2},
    {"step": 120, "train_runtime": 1147.6, "train_loss": 3.2, "epoch": 0.24},
)


def written(folder: Path, lines: Iterable[dict[str, Any]] = LINES, *, time_s: float = 1e9, rest: str = "") -> Path:
    """A run's folder with these lines in its log, last written at this time."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / LOG
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + rest, encoding="utf-8")
    os.utime(log, (time_s, time_s))
    return folder


def points(folder: Path, key: str) -> list[tuple[int, float]]:
    one = read_log(folder / LOG).series[key]
    return list(zip(one.steps.tolist(), one.values.tolist(), strict=True))


def losses(*pairs: tuple[int, float]) -> list[dict[str, Any]]:
    return [{"step": step, "loss": loss} for step, loss in pairs]


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The axes that are drawn, by their titles."""
    seen: dict[str, Any] = {}
    dress: Callable[..., None] = curves._dress

    def catch(axes: Any, panel: curves.Panel, *rest: Any) -> None:
        dress(axes, panel, *rest)
        seen[panel.title] = axes

    monkeypatch.setattr(curves, "_dress", catch)
    return seen


def test_a_log_becomes_series(tmp_path: Path) -> None:
    log = read_log(written(tmp_path / "boxes") / LOG)
    assert (log.name, log.last_step) == ("boxes", 120)
    assert list(log.series) == [
        "grad_norm", "learning_rate", "loss", "loss_words", "val_REC", "val_SOT", "val_SOT_hold",
    ]  # fmt: skip
    assert log.series["loss"].steps.dtype == np.int64
    assert points(tmp_path / "boxes", "loss") == [(50, 4.0), (100, 3.0)]
    assert points(tmp_path / "boxes", "val_SOT_hold") == [(100, 0.41)]
    assert last_values(log) == {
        "grad_norm": 1.5, "learning_rate": 5e-4, "loss": 3.0, "loss_words": 0.25,
        "val_REC": 0.5, "val_SOT": 0.68, "val_SOT_hold": 0.41,
    }  # fmt: skip


def test_the_later_line_of_a_step_wins(tmp_path: Path) -> None:
    twice = losses((50, 4.0), (100, 3.0), (150, 2.0), (100, 3.5), (150, 2.5), (200, 1.0))
    assert points(written(tmp_path / "run", twice), "loss") == [(50, 4.0), (100, 3.5), (150, 2.5), (200, 1.0)]
    same = [{"step": 9, "val_SOT": 0.1}, {"step": 9, "val_SOT": 0.2}, {"step": 9, "loss": 1.0}]
    assert points(written(tmp_path / "same", same), "val_SOT") == [(9, 0.2)]


def test_going_on_takes_back_what_was_logged_beyond_the_checkpoint(tmp_path: Path) -> None:
    """The steps after it are those of a run that is no more, also where the new one has not come so far yet."""
    folder = written(tmp_path / "run", [*losses((50, 4.0), (100, 3.0), (150, 2.0)), {"step": 150, "val_REC": 0.5},
                                        *losses((100, 3.5))])  # fmt: skip
    log = read_log(folder / LOG)
    assert (list(log.series), log.last_step) == (["loss"], 100)
    assert points(folder, "loss") == [(50, 4.0), (100, 3.5)]


def test_lines_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    rest = '[1]\n{"step": true, "loss": 9}\n{"loss": 9}\n{"step": -1, "loss": 9}\n\n{"step": 150, "loss": "9"}\n'
    rest += '{"step": 200, "loss": 1}\n{"step": 250, "lo'
    folder = written(tmp_path / "run", rest=rest)
    assert points(folder, "loss") == [(50, 4.0), (100, 3.0), (200, 1.0)]


def test_a_loss_that_is_no_number_is_kept(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", losses((1, 2.0), (2, math.inf), (3, math.nan)))
    values = read_log(folder / LOG).series["loss"].values
    assert values[:2].tolist() == [2.0, math.inf]
    assert math.isnan(values[2])
    assert last_values(read_log(folder / LOG)) == {"loss": None}
    assert draw_curves([read_run(folder)], smooth_points=2)


def test_stages_stand_in_the_order_of_training(tmp_path: Path) -> None:
    for name, time_s in (("words", 3e8), ("answers", 1e8), ("selector", 2e8), ("extra", 4e8)):
        written(tmp_path / name, time_s=time_s)
    (tmp_path / "cache").mkdir()
    assert [one.name for one in stage_folders(tmp_path)] == ["answers", "selector", "words", "extra"]
    for name, before in (("words", "selector"), ("answers", "words")):
        config = json.dumps({"model": {"path": f"elsewhere/nano/{before}/final"}})
        (tmp_path / name / "run_config.json").write_text(config)
    assert [one.name for one in stage_folders(tmp_path)] == ["selector", "words", "answers", "extra"]


@pytest.mark.parametrize("start", ['{"model": {"path": "x/b/final"}}', '{"model": {"path": null}}', "torn{", "[]"])
def test_an_odd_configuration_stops_no_order(tmp_path: Path, start: str) -> None:
    for name, time_s in (("a", 1e8), ("b", 2e8)):
        (written(tmp_path / name, time_s=time_s) / "run_config.json").write_text(start)
    expected = ["b", "a"] if "x/b/final" in start else ["a", "b"]  # b claims to start from itself
    assert [one.name for one in stage_folders(tmp_path)] == expected


def test_runs_are_folders_logs_and_parents(tmp_path: Path) -> None:
    written(tmp_path / "nano" / "one", time_s=1e8)
    written(tmp_path / "nano" / "two", losses((10, 1.0)), time_s=2e8)
    written(tmp_path / "nano" / "begun", [], time_s=3e8, rest='{"step"')
    run = read_run(tmp_path / "nano")
    assert (run.name, [stage.name for stage in run.stages], run.starts) == ("nano", ["one", "two"], [0, 120, 130])
    assert read_run(tmp_path / "nano" / "one").name == "one"
    assert read_run(tmp_path / "nano" / "one" / LOG).name == "one"
    other = (tmp_path / "nano" / "one" / LOG).rename(tmp_path / "first.jsonl")
    assert (read_run(other).name, read_run(other).starts) == ("first", [0, 120])


def test_runs_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    paths = [written(tmp_path / parent / name) for parent, name in (("a", "words"), ("b", "words"), ("b", "boxes"))]
    names = [run.name for run in distinct([read_run(path) for path in paths], paths)]
    assert names == [str(paths[0]), str(paths[1]), "boxes"]


def test_smoothing_by_hand() -> None:
    values = np.array([4.0, 2.0, 6.0, 1.0])
    assert running_mean(values, 1).tolist() == [4, 2, 6, 1]
    assert running_mean(values, 2).tolist() == [4, 3, 4, 3.5]
    assert running_mean(values, 3).tolist() == pytest.approx([4, 3, 4, 3])
    assert running_mean(values, 10**9).tolist() == pytest.approx([4, 3, 4, 3.25])
    holed = running_mean(np.array([np.nan, 2.0, np.inf, 4.0]), 2)
    assert math.isnan(holed[0]) and holed[1:].tolist() == [2, 2, 4]


def test_decades() -> None:
    assert decades_of([0.01, 10, 0, math.nan, math.inf, -5]) == pytest.approx(3)
    assert decades_of([1.0, 9.9]) == decades_of([]) == decades_of([0.0]) == 0


def test_one_run_has_a_panel_a_group_and_several_one_a_quantity(tmp_path: Path) -> None:
    first, second = read_run(written(tmp_path / "a")), read_run(written(tmp_path / "b", losses((1, 2.0))))
    assert [(one.title, one.keys) for one in panels([first])] == [
        ("Loss", ("loss", "loss_words")),
        ("Validation scores", ("val_REC", "val_SOT", "val_SOT_hold")),
        ("Learning rate", ("learning_rate",)),
        ("Gradient norm", ("grad_norm",)),
    ]
    assert [one.title for one in panels([second])] == ["Loss"]
    assert [one.title for one in panels([second, first])] == [
        "Loss", "Loss: words", "Validation: REC", "Validation: SOT", "Validation: SOT_hold",
        "Learning rate", "Gradient norm",
    ]  # fmt: skip


def test_axes_of_one_run(tmp_path: Path, painted: dict[str, Any]) -> None:
    draw_curves([read_run(written(tmp_path / "run"))], smooth_points=2)
    loss = painted["Loss"]
    drawn = [line.get_ydata().tolist() for line in loss.lines]
    assert drawn == [[4, 3], [4, 3.5], [0.5, 0.25], [0.5, 0.375]]  # each raw, then smoothed
    assert [line.get_alpha() for line in loss.lines] == [0.25, None, 0.25, None]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["total [3]", "words [0.25]"]
    assert loss.get_yscale() == "log"  # 4 to 0.25
    scores = painted["Validation scores"]
    assert scores.get_ylim() == (0, 1.02)
    assert [line.get_ydata().tolist() for line in scores.lines] == [[0.5], [0.68], [0.41]]  # never smoothed
    assert {line.get_marker() for line in scores.lines} == {"o", "s"}
    assert [text.get_text() for text in scores.get_legend().get_texts()] == [
        "REC [50.0 %]", "SOT [68.0 %]", "SOT_hold [41.0 %]",
    ]  # fmt: skip
    assert painted["Gradient norm"].get_yscale() == "linear"
    assert scores.get_yticklabels()[1].get_text() == "20 %"


def test_stages_follow_each_other(tmp_path: Path, painted: dict[str, Any]) -> None:
    written(tmp_path / "nano" / "one", losses((10, 3.0), (20, 2.0)), time_s=1e8)
    written(tmp_path / "nano" / "two", losses((10, 1.0), (15, 1.5)), time_s=2e8)
    draw_curves([read_run(tmp_path / "nano")])
    first, second, between = painted["Loss"].lines
    assert (first.get_xdata().tolist(), second.get_xdata().tolist()) == ([10, 20], [30, 35])
    assert first.get_color() == second.get_color()
    assert list(between.get_xdata()) == [20, 20]
    (above,) = painted["Loss"].child_axes
    assert [(label.get_text(), tick) for label, tick in zip(above.get_xticklabels(), above.get_xticks(), strict=True)] \
        == [("one", 10), ("two", 27.5)]  # fmt: skip


def test_runs_differ_in_colour(tmp_path: Path, painted: dict[str, Any]) -> None:
    runs = [read_run(written(tmp_path / f"_{name} $x$", losses((5, 1.0), (10, 0.5)))) for name in "abcdefgh"]
    png = draw_curves(runs)
    lines = painted["Loss"].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(runs)
    with Image.open(BytesIO(png)) as image:
        image.load()
        assert image.size == (3.5 * curves.DPI, round((2.1 + 0.4 + 0.22 * 8) * curves.DPI))


def test_pictures_have_the_size_of_their_panels(tmp_path: Path) -> None:
    for lines, height_in in ((LINES, 3 + 3 + 1.5 + 1.8 + 0.9), (losses((1, 2.0)), 3 + 0.9)):
        with Image.open(BytesIO(draw_curves([read_run(written(tmp_path / "run", lines))]))) as image:
            image.load()
            assert (image.format, image.size) == ("PNG", (1350, round(height_in * 150)))


@pytest.mark.parametrize(("format", "head"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_formats_give_the_same_bytes_every_time(tmp_path: Path, format: str, head: bytes) -> None:
    run = read_run(written(tmp_path / "run"))
    picture = draw_curves([run], format=format)
    assert picture.startswith(head)
    assert picture == draw_curves([run], format=format)


def test_the_command_prints_where_the_picture_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = written(tmp_path / "run")
    assert main(["plot", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'curves.png'}\n"
    assert sorted(path.name for path in run.iterdir()) == ["curves.png", LOG]
    assert (
        main(["plot", str(run / LOG), str(written(tmp_path / "b")), "--output", str(tmp_path / "new" / "x.SVG")]) == 0
    )
    assert (tmp_path / "new" / "x.SVG").read_bytes().startswith(b"<?xml")


def test_json_has_the_last_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "nano" / "one", losses((10, 3.0)), time_s=1e8)
    written(tmp_path / "nano" / "two", losses((5, math.nan)), time_s=2e8)
    assert main(["plot", str(tmp_path / "nano"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "picture": str(tmp_path / "nano" / "curves.png"),
        "runs": [
            {
                "run": str(tmp_path / "nano"),
                "stages": [
                    {"name": "one", "last_step": 10, "last_values": {"loss": 3.0}},
                    {"name": "two", "last_step": 5, "last_values": {"loss": None}},
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nosuch"], "error: There is no folder 'nosuch'. Name the output folder of `elysium train`, or the log.jsonl"),
        (["empty"], "error: 'empty' has no log.jsonl, nor has a folder in it. Name the output folder"),
        (["torn"], "error: 'torn/log.jsonl' holds not a single line of a training log that can be read. Name"),
        (["parent"], "error: 'parent/torn/log.jsonl' holds not a single line"),
        (["bytes.bin"], "error: 'bytes.bin' holds not a single line"),
        (
            ["run", "--output", "x.jpg"],
            "error: 'x.jpg' has no ending of a picture that can be drawn. Use one of .png, ",
        ),
        (
            ["run", "--output", "empty"],
            "error: 'empty' has no ending of a picture that can be drawn. Use one of .png, ",
        ),
        (["run", "--output", "folder.png"], "error: Cannot write 'folder.png'"),
        (["run", "--smooth", "0"], "error: --smooth 0 is too small. Give 1 or more"),
        (["run", "--smooth", "x"], "error: Invalid value for '--smooth'"),
        ([], "error: Missing argument 'RUN [RUN ...]'"),
        (["x" * 300], "error: "),
    ],
)
def test_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str],
    sentence: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "folder.png"):
        Path(folder).mkdir()
    written(Path("run"))
    for folder in ("torn", "parent/torn"):
        written(Path(folder), [], rest='{"step": 50, "lo')
    Path("bytes.bin").write_bytes(bytes(range(256)) * 8)
    assert main(["plot", *arguments]) == 2
    told = capsys.readouterr()
    assert told.err.startswith(sentence) and told.err.count("\n") == 1
    assert not told.out
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".") or path.name == "curves.png"]


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(written(tmp_path / "run"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"need the package 'matplotlib'.*pip install -c constraints.txt '\.\[eval\]'"):
        draw_curves([run])


def test_a_log_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    folder = written(tmp_path / "run")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceError, match=r"Cannot read '.*run': Permission denied"):
        read_run(folder)


def test_neither_pytorch_nor_matplotlib_is_imported_to_read() -> None:
    heavy = {"torch", "transformers", "matplotlib"}
    modules = "elysium.training.curves, elysium.training.run_log, elysium.cli.plot"
    code = f"import sys, {modules}; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
