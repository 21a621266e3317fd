"""Curves of training runs as one picture.

Knows the names of quantities in a log, and matplotlib (never pyplot; imported when something is
drawn). Does not know: files, PyTorch, configurations, how a loss or a score is made.

One run is drawn with all parts of a quantity in one panel; of several runs each quantity gets a panel of its own, so
that a colour always means one thing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elysium.boxes import FloatArray
from elysium.errors import InputError
from elysium.evaluation.plots import COLORS, DPI, SETTINGS, STROKES, shortened
from elysium.training.run_log import GROUPS, LOSS, NORM, RATE, SCORES, Run, group_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
WIDTH_IN = 9.0
_HEIGHTS_IN = {LOSS: 3.0, SCORES: 3.0, RATE: 1.5, NORM: 1.8}
_SMALL_IN = (3.5, 2.1)  # width and height of a panel where each quantity has its own
_MOST_COLUMNS = 3
_NARROW_SHARE = 0.09  # of the width: the names of stages that are narrower are written slanted
_MARKERS = "os^Dvx"
_DASHES = (*STROKES, (0, (5, 1, 1, 1, 1, 1)))
_SMOOTHED = (LOSS, NORM)  # scores are few and means already, a learning rate has no noise
_FEW_DECADES = 2.5  # fewer get ticks at 1, 2 and 5, more at 1


@dataclass(frozen=True)
class Panel:
    """One pair of axes: which series it shows."""

    title: str
    group: str
    keys: tuple[str, ...]


def running_mean(values: FloatArray, num_points: int) -> FloatArray:
    """At each of N points the mean of the last ``num_points`` finite values, of fewer at the beginning."""
    finite = np.isfinite(values)
    window = np.ones(min(num_points, len(values)))
    sums = np.convolve(np.where(finite, values, 0.0), window)[: len(values)]
    with np.errstate(invalid="ignore", divide="ignore"):
        means: FloatArray = sums / np.convolve(finite.astype(np.float64), window)[: len(values)]
    return means


def panels(runs: Sequence[Run]) -> list[Panel]:
    """What is drawn, from top to bottom: four groups of one run, each quantity for itself of several."""
    keys = sorted({key for run in runs for stage in run.stages for key in stage.series})
    grouped = {group: tuple(key for key in keys if group_of(key) == group) for group in GROUPS}
    if len(runs) == 1:
        return [Panel(group, group, members) for group, members in grouped.items() if members]
    return [Panel(_title(key, group), group, (key,)) for group, members in grouped.items() for key in members]


def _title(key: str, group: str) -> str:
    if key == "loss" or group in (RATE, NORM):
        return group
    return f"{'Validation' if group == SCORES else group}: {_part(key)}"


def _part(key: str) -> str:
    """What a legend calls a loss or a score."""
    return "total" if key == "loss" else shortened(key.partition("_")[2], 24)


def draw_curves(runs: Sequence[Run], *, smooth_points: int = 1, format: str = "png") -> bytes:
    """A picture of one or several runs, in one of ``FORMATS``; the same bytes every time.

    Losses and gradient norms are smoothed over ``smooth_points`` logged points, with the raw curve faint behind.
    Raises InputError without matplotlib.
    """
    _require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    buffer = BytesIO()
    settings: Any = {**SETTINGS, "svg.hashsalt": "elysium"}
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        figure = Figure(layout="constrained")
        paint = _paint_one if len(runs) == 1 else _paint_several
        paint(figure, panels(runs), runs, smooth_points)
        undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[format]
        figure.savefig(buffer, format=format, dpi=DPI, metadata=undated)
    return buffer.getvalue()


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f"Plots need the package {error.name or 'matplotlib'!r}, which is not installed",
            "Install elysium with its extra: pip install -c constraints.txt '.[eval]'",
        ) from error


def _paint_one(figure: Figure, shown: Sequence[Panel], runs: Sequence[Run], smooth_points: int) -> None:
    """One run: a column of panels with their legends at the right."""
    heights = [_HEIGHTS_IN[panel.group] for panel in shown]
    figure.set_size_inches(WIDTH_IN, sum(heights) + 0.9)
    column = figure.subplots(len(shown), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, panel in zip(column, shown, strict=True):
        looks = _looks(panel)
        handles = [_line(axes, runs[0], key, panel.group, looks[key], smooth_points) for key in panel.keys]
        _dress(axes, panel, runs)
        if panel.group in (LOSS, SCORES):
            labels = [_legend_label(runs[0], key) for key in panel.keys]
            axes.legend(handles, labels, loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=3)
    _name_stages(column[0], runs[0])
    column[-1].set_xlabel("step" if len(runs[0].stages) == 1 else "step, one stage after the other")
    figure.suptitle(shortened(runs[0].name), fontsize=12, fontweight="bold")


def _paint_several(figure: Figure, shown: Sequence[Panel], runs: Sequence[Run], smooth_points: int) -> None:
    """Several runs: a grid of small panels with one legend below, a colour for each run."""
    columns = min(_MOST_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure.set_size_inches(columns * _SMALL_IN[0], rows * _SMALL_IN[1] + 0.4 + 0.22 * len(runs))
    grid = figure.add_gridspec(rows, columns)
    for place, panel in enumerate(shown):
        axes = figure.add_subplot(grid[place // columns, place % columns])
        handles = [_line(axes, run, panel.keys[0], panel.group, _look(i), smooth_points) for i, run in enumerate(runs)]
        _dress(axes, panel, runs)
        if place + columns >= len(shown):
            axes.set_xlabel("step")
    labels = [shortened(run.name) for run in runs]  # matplotlib leaves out those that begin with _
    figure.legend(handles, [f" {one}" if one.startswith("_") else one for one in labels], loc="outside lower center")


def _look(index: int) -> dict[str, Any]:
    return {"color": COLORS[index % len(COLORS)], "linestyle": STROKES[index // len(COLORS) % len(STROKES)]}


def _looks(panel: Panel) -> dict[str, dict[str, Any]]:
    """How each series of one run is drawn: scores in a colour by task, in stroke and marker by what was measured."""
    if panel.group != SCORES:
        parts = [key for key in panel.keys if key != "loss"]
        looks = {key: _look(index) for index, key in enumerate(parts)}
        return looks | ({"loss": {"color": "#222222", "linewidth": 2.4}} if panel.group == LOSS else {})
    names = {key: _part(key).partition("_") for key in panel.keys}
    tasks = _places(task for task, _, _ in names.values())
    measures = _places(sorted(measure for _, _, measure in names.values()))
    return {
        key: {
            "color": COLORS[tasks[task] % len(COLORS)],
            "linestyle": _DASHES[measures[measure] % len(_DASHES)],
            "marker": _MARKERS[measures[measure] % len(_MARKERS)],
        }
        for key, (task, _, measure) in names.items()
    }


def _places(names: Iterable[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _line(axes: Axes, run: Run, key: str, group: str, look: Mapping[str, Any], smooth_points: int) -> Any:
    """Draw one series, stage by stage, and return a handle for a legend."""
    from matplotlib.lines import Line2D

    style = {"linewidth": 1.8, "markersize": 4, **look}
    smoothed = smooth_points > 1 and group in _SMOOTHED
    for start, stage in zip(run.starts[:-1], run.stages, strict=True):
        if (one := stage.series.get(key)) is None:
            continue
        if smoothed:
            axes.plot(start + one.steps, one.values, color=look["color"], linewidth=1, alpha=0.25)
        marked = {"marker": "o"} if len(one.steps) == 1 or group == SCORES else {}  # a single point is no line
        values = running_mean(one.values, smooth_points) if smoothed else one.values
        axes.plot(start + one.steps, values, **{**marked, **style})
    return Line2D([], [], **style)


def _dress(axes: Axes, panel: Panel, runs: Sequence[Run]) -> None:
    """Title, limits and scale, and a thin line between stages."""
    axes.set_title(panel.title, loc="left")
    axes.set_xlim(0, 1.01 * max(1, *(run.starts[-1] for run in runs)))  # room for half a marker
    _scale(axes, panel.group, [value for run in runs for value in _values(run, panel.keys)])
    for index, run in enumerate(runs):
        color = "#777777" if len(runs) == 1 else _look(index)["color"]
        for start in run.starts[1:-1]:
            axes.axvline(start, color=color, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)


def _scale(axes: Axes, group: str, values: Sequence[float]) -> None:
    """Per cent for scores; logarithms for losses and norms that span more than a decade, with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

    if group == SCORES:
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        return
    if decades := decades_of(values) if group in _SMOOTHED else 0.0:
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < _FEW_DECADES else (1,)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter("{x:.4g}")  # the usual one would write formulas, which are switched off for names


def _values(run: Run, keys: Sequence[str]) -> Iterator[float]:
    for stage in run.stages:
        for key in keys:
            if key in stage.series:
                yield from stage.series[key].values.tolist()


def decades_of(values: Iterable[float]) -> float:
    """How many decades the positive numbers span, 0 if it is not more than one."""
    positive = [value for value in values if 0 < value < math.inf]
    decades = math.log10(max(positive) / min(positive)) if positive else 0.0
    return decades if decades > 1 else 0.0


def _name_stages(axes: Axes, run: Run) -> None:
    """The names of the stages above the first panel, each over the middle of its own."""
    if len(run.stages) == 1:
        return
    starts = run.starts
    above = axes.secondary_xaxis("top")
    above.set_xticks([sum(ends) / 2 for ends in pairwise(starts)], [shortened(one.name, 24) for one in run.stages])
    above.tick_params(length=0, pad=3, labelsize=8)
    above.spines["top"].set_visible(False)
    if any(stage.last_step < _NARROW_SHARE * starts[-1] for stage in run.stages):
        for label in above.get_xticklabels():
            label.set(rotation=35, ha="left", rotation_mode="anchor")


def _legend_label(run: Run, key: str) -> str:
    """A part's name, and its last value where the whole run has one and not each stage its own."""
    if len(run.stages) > 1:
        return _part(key)
    value = run.stages[0].series[key].values[-1]
    text = f"{100 * value:.1f} %" if group_of(key) == SCORES else f"{value:.3g}"
    return f"{_part(key)} [{text}]"


def format_of(output: Path) -> str:
    """The format that a file's ending asks for. Raises InputError for one that is not drawn."""
    ending = output.suffix.lower().lstrip(".")
    if ending not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise InputError(f"{str(output)!r} has no ending of a picture that can be drawn", f"Use one of {known}.")
    return ending
