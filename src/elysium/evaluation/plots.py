"""Pictures of figures: curves, bars and reliability of one or several runs, as PNG bytes.

Knows matplotlib (its Agg canvas, never pyplot, so that no window system and no state of the caller's is touched; it is
imported when something is drawn) and which figure belongs beside which curve. Knows nothing about results, files or
pages.

Lines differ in colour and, from the seventh run on, in stroke; the colours are those of `elysium.draw`, the ones that
are dark enough for lines on white. Names are drawn as they are given: a dollar sign starts no formula.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from elysium.boxes import FloatArray
from elysium.draw import PALETTE
from elysium.evaluation.groups import GroupMean
from elysium.evaluation.ope import (
    IOU_THRESHOLDS,
    NORM_PRECISION,
    PIXEL_THRESHOLDS,
    PRECISION_PX,
    UNIT_THRESHOLDS,
    Curves,
)
from elysium.evaluation.quality import Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 150
COLORS = tuple(PALETTE.by_idx(place).as_hex() for place in (6, 5, 2, 4, 0, 1))  # all but the yellow, dark ones first
STROKES = ("solid", "dashed", "dotted", "dashdot")
NAME_LENGTH = 48  # characters of a name in a plot
MANY_SEQUENCES = 40  # more than that make no readable bars
WORST_SEQUENCES = 25  # so many of many still get theirs
MOST_GROUPS = 40
MOST_BARS = 4  # runs that bars are drawn for
SETTINGS: dict[str, Any] = {
    "text.usetex": False, "text.parse_math": False, "font.family": "DejaVu Sans", "font.size": 10,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#DDDDDD", "grid.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "axes.titleweight": "bold",
    "legend.frameon": False, "legend.fontsize": 9, "figure.facecolor": "white", "axes.facecolor": "white",
}  # fmt: skip

Named = Sequence[tuple[str, Mapping[str, float]]]  # for each run its name and a figure by sequence or group


def shortened(text: str, length: int = NAME_LENGTH) -> str:
    """One line of at most ``length`` characters, the middle of a longer one replaced by an ellipsis.

    >>> shortened("a very long name", 9)
    'a ve…name'
    """
    clean = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    if len(clean) <= length:
        return clean
    tail = (length - 1) // 2
    return f"{clean[: length - 1 - tail]}…{clean[len(clean) - tail :]}"


def legend_label(name: str, figure: str, percent: float) -> str:
    """What a legend says of a run: its name and its figure with one decimal, or a dash for NaN.

    >>> legend_label("nano", "AUC", 48.66)
    'nano [AUC 48.7]'
    """
    value = f"{percent:.1f}" if np.isfinite(percent) else "–"
    return f"{shortened(name)} [{figure} {value}]"


def success_plot(runs: Sequence[tuple[str, Curves]]) -> bytes:
    """Share of frames whose overlap exceeds a threshold; the legend has the AUC, the best first."""
    lines = [(name, curves.success, curves.scores().auc) for name, curves in runs]
    return _curves(lines, IOU_THRESHOLDS, "AUC", "Success", "IoU threshold", "success rate")


def precision_plot(runs: Sequence[tuple[str, Curves]]) -> bytes:
    """Share of frames whose centre is at most so many pixels off; the legend has the value at 20."""
    lines = [(name, curves.precision, curves.scores().precision) for name, curves in runs]
    labels = ("20 px:", "Precision", "location error threshold in pixels", "precision")
    return _curves(lines, PIXEL_THRESHOLDS, *labels, at=PRECISION_PX)


def norm_precision_plot(runs: Sequence[tuple[str, Curves]]) -> bytes:
    """The same with the error in units of the true width and height; the legend has the value at 0.2."""
    lines = [(name, curves.norm_precision, curves.scores().norm_precision) for name, curves in runs]
    labels = ("0.2:", "Normalised precision", "location error threshold in box sizes", "normalised precision")
    return _curves(lines, UNIT_THRESHOLDS, *labels, at=NORM_PRECISION)


def _curves(
    lines: Sequence[tuple[str, FloatArray, float]], thresholds: FloatArray, figure: str, title: str, x: str, y: str,
    *, at: float | None = None,
) -> bytes:  # fmt: skip
    """Lines of (name, shares, figure); colours go by the order of the runs, the legend by the figure."""

    def paint(axes: Axes) -> None:
        handles = [axes.plot(thresholds, shares, **_stroke(i))[0] for i, (_, shares, _) in enumerate(lines)]
        if at is not None:
            axes.axvline(at, color="#777777", linewidth=1, linestyle=(0, (2, 3)))
        axes.set(title=title, xlabel=x, ylabel=y, xlim=(thresholds[0], thresholds[-1]), ylim=(0, 1.02))
        order = np.argsort([np.inf if np.isnan(value) else -value for *_, value in lines], kind="stable")
        labels = [legend_label(name, figure, value) for name, _, value in lines]
        _legend(axes, [handles[i] for i in order], [labels[i] for i in order])

    return _drawn(6.4, 4.4 + 0.22 * len(lines), [1.0], lambda axes: paint(axes[0]))


def sequences_plot(runs: Named) -> bytes:
    """AUC by sequence, those where the first run is worst on top, of up to four runs.

    Up to 40 sequences get bars. Of more, all are drawn as a curve of the first run, sorted, with the other runs as dots
    above the same place, and the 25 worst get bars below it, with their names.
    """
    shown = runs[:MOST_BARS]
    names = ordered(shown)
    many = len(names) > MANY_SEQUENCES
    bars = names[:WORST_SEQUENCES] if many else names
    title = f"AUC of the {len(bars)} worst sequences" if many else "AUC by sequence"
    height = _bars_height(len(bars), len(shown))

    def paint(axes: Sequence[Axes]) -> None:
        if many:
            _sorted_curve(axes[0], names, shown)
        _bars(axes[-1], bars, bars, shown, title, with_legend=not many)

    heights = [3.2, height] if many else [height]
    return _drawn(7.2, sum(heights) + 0.22 * len(shown), heights, paint)


def groups_plot(runs: Sequence[tuple[str, Mapping[str, GroupMean]]]) -> bytes:
    """Mean AUC by group, the worst of the first run on top, with how many sequences there are; the 40 largest."""
    shown = runs[:MOST_BARS]
    counts = group_counts(shown)
    largest = sorted(counts, key=lambda name: -counts[name])[:MOST_GROUPS]
    figures = [(name, {key: groups[key].scores.auc for key in largest if key in groups}) for name, groups in shown]
    names = ordered(figures)
    texts = [f"{name} ({counts[name]})" for name in names]
    title = "Mean AUC by group (number of sequences)"
    height = _bars_height(len(names), len(shown))
    return _drawn(
        7.2, height + 0.22 * len(shown), [height], lambda axes: _bars(axes[0], names, texts, figures, title)
    )


def group_counts(runs: Sequence[tuple[str, Mapping[str, GroupMean]]]) -> dict[str, int]:
    """The number of sequences by group, the largest of all runs: one that was stopped has fewer."""
    counts: dict[str, int] = {}
    for _, groups in runs:
        for name, mean in groups.items():
            counts[name] = max(counts.get(name, 0), mean.num_sequences)
    return counts


def reliability_plot(runs: Sequence[tuple[str, Reliability]]) -> bytes:
    """Score against the share of frames that are right, and how many there are; calibration errors in per cent."""
    errors = [100 * one.expected_error for _, one in runs]
    error = f"{errors[0]:.1f} %" if len(runs) == 1 else "(ECE) in per cent"

    def paint(axes: Sequence[Axes]) -> None:
        upper, lower = axes
        upper.plot([0, 1], [0, 1], color="#777777", linewidth=1, linestyle=(0, (2, 3)))
        handles = [
            upper.plot(one.confidence, one.accuracy, marker="o", **_stroke(i))[0] for i, (_, one) in enumerate(runs)
        ]
        upper.set(title=f"Reliability, expected calibration error {error}", xlim=(0, 1), ylim=(0, 1.02))
        upper.set_ylabel("share of frames with IoU > 0.5")
        _count_bars(lower, [one for _, one in runs])
        labels = [legend_label(name, "ECE", value) for (name, _), value in zip(runs, errors, strict=True)]
        _legend(upper, handles, labels)

    return _drawn(6.4, 5.6 + 0.22 * len(runs), [3.0, 1.2], paint)


def ordered(runs: Named) -> list[str]:
    """The names of all runs by the first run's figure, the lowest first, those without one last."""
    first = runs[0][1] if runs else {}
    names = dict.fromkeys(name for _, figures in runs for name in figures)

    def place(name: str) -> tuple[bool, float]:
        value = first.get(name, float("nan"))
        return (bool(np.isnan(value)), 0.0 if np.isnan(value) else value)

    return sorted(names, key=lambda name: (*place(name), name))


def _stroke(index: int) -> dict[str, Any]:
    """Colour and stroke of the run at this place."""
    color, stroke = index % len(COLORS), index // len(COLORS) % len(STROKES)
    return {"color": COLORS[color], "linestyle": STROKES[stroke], "linewidth": 2, "markersize": 5}


def _legend(axes: Axes, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Below the plot, where it covers nothing. A label that begins with _ would be left out by matplotlib."""
    figure = axes.get_figure()
    assert figure is not None
    shown = [f" {label}" if label.startswith("_") else label for label in labels]
    figure.legend(handles, shown, loc="outside lower center", ncols=1)


def _bars_height(names: int, runs: int) -> float:
    """Inches: room for a name's text, or for its bars where they need more."""
    return 1.1 + names * max(0.22, 0.11 * runs + 0.08)


def _bars(
    axes: Axes, names: Sequence[str], texts: Sequence[str], runs: Named, title: str, *, with_legend: bool = True
) -> None:
    """Horizontal bars, the first name on top; a run's figure beside its bar where there is room for it."""
    thick = 0.8 / max(1, len(runs))
    handles = []
    for i, (_, figures) in enumerate(runs):
        places = np.arange(len(names)) + (i - (len(runs) - 1) / 2) * thick
        values = [figures.get(name, float("nan")) for name in names]
        handles.append(axes.barh(places, values, height=thick * 0.94, color=COLORS[i]))
        for place, value in zip(places, values, strict=True):
            text = f"{value:.1f}" if np.isfinite(value) else "–"
            axes.text(np.nan_to_num(value) + 0.6, place, text, va="center", fontsize=7 if len(runs) < 3 else 6)
    axes.set(title=title, xlabel="AUC", xlim=(0, 100), ylim=(len(names) - 0.4, -0.6))
    axes.set_yticks(np.arange(len(names)), [shortened(text, 32) for text in texts], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    if with_legend and len(runs) > 1:
        _legend(axes, handles, [shortened(name) for name, _ in runs])


def _sorted_curve(axes: Axes, names: Sequence[str], runs: Named) -> None:
    """Every sequence, the worst of the first run at the left: that run as a line, the others as dots."""
    places = np.arange(1, len(names) + 1)
    handles = []
    for i, (_, figures) in enumerate(runs):
        values = [figures.get(name, float("nan")) for name in names]
        look: dict[str, Any] = {"linestyle": "none", "marker": "os^"[i - 1], "markersize": 3} if i else {"linewidth": 2}
        handles.append(axes.plot(places, values, color=COLORS[i], zorder=2 if i else 3, **look)[0])
    xlabel = f"{len(names)} sequences, by the AUC of {shortened(runs[0][0], 28)}"
    axes.set(title="AUC by sequence", xlabel=xlabel, ylabel="AUC", xlim=(0, len(names) + 1), ylim=(0, 100))
    _legend(axes, handles, [shortened(name) for name, _ in runs])


def _count_bars(axes: Axes, runs: Sequence[Reliability]) -> None:
    """Frames per bin of the score, side by side; with their numbers if there is one run."""
    for i, one in enumerate(runs):
        width = np.diff(one.edges) / len(runs)
        axes.bar(one.edges[:-1] + width * i, one.counts, width=width * 0.94, align="edge", color=_stroke(i)["color"])
        if len(runs) == 1:
            for left, wide, count in zip(one.edges[:-1], width, one.counts, strict=True):
                axes.text(left + wide / 2, count, str(count), ha="center", va="bottom", fontsize=7)
    axes.margins(y=0.2)
    axes.set(xlabel="score", ylabel="frames", xlim=(0, 1))
    axes.grid(visible=False, axis="x")


def _drawn(width: float, height: float, heights: Sequence[float], paint: Callable[[Sequence[Axes]], None]) -> bytes:
    """A figure of this size in inches, its axes one below the other, painted and saved in our style."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        figure = Figure(figsize=(width, height), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": list(heights)})[:, 0]
        paint(list(axes))
        canvas.figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})  # the same bytes every time
    return buffer.getvalue()
