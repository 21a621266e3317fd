"""The tables and sentences of a report: figures as text, in rows.

Knows which figures stand beside each other, how they are rounded, and how to say what a convention does. Knows nothing
about pages, pictures or files.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from elysium.evaluation.conventions import CONVENTIONS
from elysium.evaluation.plots import group_counts, ordered
from elysium.evaluation.scoring import SequenceScores, TrackingSummary

DASH = "–"
NAN = float("nan")
FIGURES = (
    "All in per cent but the speed. AUC is the mean of the success rate over 21 thresholds of the IoU, so that a "
    "perfect tracker has 95.2; each sequence weighs the same. The figures named after GOT-10k weigh each frame the "
    "same, without the first frames."
)
PER_ITEM = "per_item"  # scores of single answers among the figures of a run; shown as examples, not as figures
# What run.json says, in the order of reading; what is not named here comes after it.
FACTS = (
    "task", "command", "model", "model_sha256", "device", "protocol", "convention", "count_first", "annotations",
    "images", "started", "seconds", "num_records", "versions",
)  # fmt: skip


class Scored(NamedTuple):
    """A run with figures of tracking."""

    name: str
    summary: TrackingSummary
    failures: int = 0


@dataclass(frozen=True)
class Cell:
    """One cell: text, whether it is words rather than a number, whether it is the best of its column."""

    text: str
    words: bool = False
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells below the names of the columns; the first cell of a row names it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


def number(value: Any, decimals: int = 1) -> str:
    """A figure with so many decimals; a dash for NaN, infinity and None; whole numbers as they are.

    >>> number(48.66), number(float("nan")), number(12)
    ('48.7', '–', '12')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)


_HEADLINE: dict[str, Callable[[TrackingSummary], float]] = {
    "AUC": lambda s: s.mean.auc,
    "SR0.5": lambda s: s.mean.sr50,
    "SR0.75": lambda s: s.mean.sr75,
    "precision at 20 px": lambda s: s.mean.precision,
    "norm. precision at 0.2": lambda s: s.mean.norm_precision,
    "AO (GOT-10k)": lambda s: s.got10k.ao,
    "SR0.5 (GOT-10k)": lambda s: s.got10k.sr50,
    "SR0.75 (GOT-10k)": lambda s: s.got10k.sr75,
    "frames/s": lambda s: s.fps,
}


def headline_table(runs: Sequence[Scored]) -> Table:
    """One row per run; the best of a column is marked where there are several."""
    columns = [_marked([float(get(run.summary)) for run in runs]) for get in _HEADLINE.values()]
    rows = []
    for i, run in enumerate(runs):
        counts = (len(run.summary.sequences), len(run.summary.missing), run.failures)
        rows.append((Cell(run.name), *(column[i] for column in columns), *(Cell(str(count)) for count in counts)))
    return Table(("run", *_HEADLINE, "sequences", "missing", "failures"), tuple(rows))


def _marked(values: Sequence[float]) -> list[Cell]:
    """Figures of the same kind, the highest (as shown) marked where there are several and they differ."""
    texts = [number(value) for value in values]
    known = [value for value in values if math.isfinite(value)]
    best = number(max(known)) if len({number(value) for value in known}) > 1 else None
    return [Cell(text, best=text == best) for text in texts]


def explanations(runs: Sequence[tuple[str, Mapping[str, Any], TrackingSummary]]) -> list[str]:
    """What the figures mean, and the protocol and convention of each run; runs that are alike share a sentence."""
    names: dict[str, list[str]] = {}
    for name, run, summary in runs:
        protocol = f"protocol {run['protocol']}; " if run.get("protocol") else ""
        convention = "; ".join(_convention(summary, run.get("task")))
        names.setdefault(f"{protocol}convention {summary.convention}: {convention}.", []).append(name)
    if len(names) == 1:
        said = [text[0].upper() + text[1:] for text in names]
    else:
        said = [f"{', '.join(alike)}: {text}" for text, alike in names.items()]
    return [FIGURES, *_unlike(runs), *said]


def _unlike(runs: Sequence[tuple[str, Mapping[str, Any], TrackingSummary]]) -> list[str]:
    """A warning where means are over different sequences: they cannot be compared."""
    sets = [frozenset(one.id for one in summary.sequences) for _, _, summary in runs]
    if len(set(sets)) < 2:
        return []
    common = len(frozenset.intersection(*sets))
    return [f"The runs do not have the same sequences, only {common} in common: their means cannot be compared."]


def _convention(summary: TrackingSummary, task: Any) -> Iterator[str]:
    convention = CONVENTIONS.get(summary.convention)
    if convention is not None:
        yield {
            "skip": "frames without the object do not count",
            "miss": "frames without the object count as missed",
            "miss_overlap": "frames without the object count as missed in overlap and as hit in distance",
        }[convention.absent]
        yield {
            "miss": "a missing or broken box is a miss",
            "repeat": "a missing or broken box is replaced by the one before it",
        }[convention.broken]
        if convention.lengths == "pad":
            yield "boxes missing at the end are empty ones"
    if not summary.count_first:
        yield "the first frame does not count"
    elif convention is not None and convention.first_is_truth and task == "SOT":
        yield "the first frame counts, with the truth, which was given, for an answer"
    else:
        yield "the first frame counts as it was answered"


def groups_table(runs: Sequence[Scored]) -> Table | None:
    """AUC of each run by group, the worst of the first run first, and more figures of the first run."""
    figures = [(run.name, {name: mean.scores.auc for name, mean in run.summary.groups.items()}) for run in runs]
    names = ordered(figures)
    if not names:
        return None
    counts = group_counts([(run.name, run.summary.groups) for run in runs])
    first = runs[0].summary.groups
    rows = []
    for name in names:
        scores = first[name].scores if name in first else None
        more = [scores.sr50, scores.sr75, scores.precision, scores.norm_precision] if scores else [NAN] * 4
        aucs = _marked([values.get(name, NAN) for _, values in figures])
        rows.append((Cell(name), Cell(str(counts[name])), *aucs, *(Cell(number(value)) for value in more)))
    columns = ("group", "sequences", *_auc_columns(runs), "SR0.5", "SR0.75", "precision", "norm. precision")
    return Table(columns, tuple(rows), _caption(runs))


def sequences_table(runs: Sequence[Scored]) -> Table | None:
    """The same by sequence, with its frames, speed and notes."""
    figures = [(run.name, {one.id: one.scores.auc for one in run.summary.sequences}) for run in runs]
    names = ordered(figures)
    if not names:
        return None
    first = {one.id: one for one in runs[0].summary.sequences}
    rows = []
    for name in names:
        aucs = _marked([values.get(name, NAN) for _, values in figures])
        rows.append((Cell(name), *aucs, *_sequence_cells(first.get(name))))
    more = ("SR0.5", "SR0.75", "precision", "norm. precision", "AO", "frames", "frames/s", "notes")
    return Table(("sequence", *_auc_columns(runs), *more), tuple(rows), _caption(runs))


def _sequence_cells(one: SequenceScores | None) -> list[Cell]:
    if one is None:
        return [Cell(DASH)] * 8
    scores = one.scores
    shares = (scores.sr50, scores.sr75, scores.precision, scores.norm_precision, one.got10k.ao)
    cells = [Cell(number(value)) for value in (*shares, scores.num_frames, one.fps)]
    return [*cells, Cell("; ".join(one.notes), words=True)]


def _auc_columns(runs: Sequence[Scored]) -> tuple[str, ...]:
    return ("AUC",) if len(runs) == 1 else tuple(f"AUC of {run.name}" for run in runs)


def _caption(runs: Sequence[Scored]) -> str:
    return f"What stands to the right of the AUC is that of {runs[0].name}." if len(runs) > 1 else ""


def failures_table(failures: Sequence[Mapping[str, str]]) -> Table:
    """What failed and why."""
    rows = tuple((Cell(one.get("id", "")), Cell(one.get("error", ""), words=True)) for one in failures)
    return Table(("record", "error"), rows)


def language_table(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """A row per figure, a column per run."""
    figures = [(name, dict(flat_figures(values))) for name, values in runs]
    names = dict.fromkeys(key for _, values in figures for key in values)
    rows = tuple((Cell(key), *(Cell(_figure(values.get(key))) for _, values in figures)) for key in names)
    return Table(("figure", *(name for name, _ in figures)), rows)


def flat_figures(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Figures by name, nested ones as "outer / inner"; without scores of single items and without long lists."""
    for key, value in values.items():
        name = f"{above}{key}"
        if key == PER_ITEM:
            continue
        if isinstance(value, Mapping):
            yield from flat_figures(value, f"{name} / ")
        elif not isinstance(value, list | tuple) or len(value) <= 4:
            yield name, value


def _figure(value: Any) -> str:
    """One decimal from 10 on, else two; an interval as its parts."""
    if isinstance(value, list | tuple):
        return ", ".join(_figure(part) for part in value)
    if isinstance(value, float):
        return number(value, 1 if abs(value) >= 10 else 2)
    return DASH if value is None else _words(value)


def facts(run: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    """How a run was made, as names and words."""
    known = [key for key in FACTS if key in run]
    others = [key for key in run if key not in FACTS]
    shown = [(key, _command(run[key]) if key == "command" else _words(run[key])) for key in (*known, *others)]
    return [("folder", str(folder)), *((key.replace("_", " "), text) for key, text in shown)]


def _command(value: Any) -> str:
    return shlex.join(str(part) for part in value) if isinstance(value, list | tuple) else str(value)


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(part) for part in value)
    return number(value)
