"""One page about one or several runs: tables, plots, pictures of failures, and how it was run, in a single file.

Knows what a reader of results wants to see and in which order. Knows nothing about models or metrics: figures come
from `scoring.py`, words around them from `report_tables.py`, curves from `plots.py`, pictures from `gallery.py`; what
the page looks like is in `report.html.j2`.

The page loads nothing: pictures are in it, there is no script, and its content security policy forbids both. All that
comes from runs, annotations and models is escaped by the template.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elysium.data.records import Record
from elysium.errors import InputError
from elysium.evaluation import plots
from elysium.evaluation.examples import example_cards, has_boxes
from elysium.evaluation.gallery import (
    ANSWER_COLOR,
    LOST_IOU,
    TRUTH_COLOR,
    Pictured,
    contact_sheet,
    encoded,
    failure_pictures,
    worst_frames,
)
from elysium.evaluation.quality import FOUND_IOU
from elysium.evaluation.report_tables import (
    DASH,
    Scored,
    explanations,
    facts,
    failures_table,
    groups_table,
    headline_table,
    language_table,
    number,
    sequences_table,
)
from elysium.evaluation.results import Result
from elysium.evaluation.scoring import TrackingSummary
from elysium.files import atomic_path, atomic_write_text, ensure_folder
from elysium.templates import page_template

if TYPE_CHECKING:
    pass

PAGE, SHEET = "report.html", "failures.png"
PLOTS = ("success.png", "precision.png", "norm_precision.png", "sequences.png", "groups.png", "reliability.png")
# The parts of the page in their order, by their anchors.
SECTIONS = {
    "headline": "Figures", "language": "Words", "plots": "Plots", "groups": "Groups", "sequences": "Sequences",
    "gallery": "Where it fails", "examples": "Examples", "trouble": "Failed or missing", "how": "How it was run",
}  # fmt: skip
MOST_ROWS = 40  # a longer table is folded
MOST_NAMED = 500  # ids in a list of what is missing


@dataclass(frozen=True, eq=False)
class RunView:
    """A run as the page shows it.

    Attributes:
        name: what legends call it. folder: where it lies.
        run: what `run.json` says; any key may be missing.
        records, results: by id.
        failures: "id" and "error" of each.
        images: the folder of the frames; None or missing: no pictures.
        summary: figures of SOT and RSOT.
        language: figures of the other tasks by name, nested ones too; scores of items under "per_item".
    """

    name: str
    folder: Path
    run: Mapping[str, Any]
    records: Mapping[str, Record]
    results: Mapping[str, Result]
    failures: Sequence[Mapping[str, str]]
    images: Path | None
    summary: TrackingSummary | None = None
    language: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Plot:
    """A picture of the page; ``wide`` takes the whole width."""

    image: str
    alt: str
    note: str = ""
    wide: bool = False


def write_report(runs: Sequence[RunView], output: Path, *, gallery: int = 12) -> list[Path]:
    """Write the page and its pictures.

    Args:
        runs: the first is the one that sequences are sorted by and whose failures are shown.
        output: a folder, made if it is missing. Pictures of an earlier report that this one does not have are removed.
        gallery: pictures of failures, and examples of answers in words, at most.

    Returns:
        report.html and the PNG files that there was something to draw for.

    Raises:
        InputError: no run. OutputError: a file cannot be written.
    """
    if not runs:
        raise InputError("There is no run to report on", "Name the folder of a run.")
    folder = ensure_folder(output)
    drawn = draw_plots(runs)
    pictures = _failures(runs, gallery)
    page = _page(runs, drawn, pictures, gallery)
    sheet = {SHEET: encoded(contact_sheet(pictures), "PNG")} if pictures else {}
    written = [atomic_write_text(folder / PAGE, page)]
    for name in (*PLOTS, SHEET):
        data = {**drawn, **sheet}.get(name)
        if data is None:
            with suppress(OSError):  # an old picture beside a new page would be taken for its own
                (folder / name).unlink(missing_ok=True)
            continue
        with atomic_path(folder / name) as path:
            path.write_bytes(data)
        written.append(folder / name)
    return written


def scored(runs: Sequence[RunView]) -> list[Scored]:
    """The runs that have figures of tracking."""
    return [Scored(view.name, view.summary, len(view.failures)) for view in runs if view.summary is not None]


def draw_plots(runs: Sequence[RunView]) -> dict[str, bytes]:
    """PNG by file name, of what there are figures for."""
    tracked = scored(runs)
    if not tracked:
        return {}
    curves = [(one.name, one.summary.curves) for one in tracked]
    drawn = {
        "success.png": plots.success_plot(curves),
        "precision.png": plots.precision_plot(curves),
        "norm_precision.png": plots.norm_precision_plot(curves),
    }
    if any(one.summary.sequences for one in tracked):
        by_sequence = [(one.name, {s.id: s.scores.auc for s in one.summary.sequences}) for one in tracked]
        drawn["sequences.png"] = plots.sequences_plot(by_sequence)
    if any(one.summary.groups for one in tracked):
        drawn["groups.png"] = plots.groups_plot([(one.name, one.summary.groups) for one in tracked])
    trusted = [(one.name, one.summary.reliability) for one in tracked if one.summary.reliability is not None]
    if trusted:
        drawn["reliability.png"] = plots.reliability_plot(trusted)
    return drawn


def data_uri(data: bytes, kind: str = "png") -> str:
    """A picture as part of the page."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _first_tracked(runs: Sequence[RunView]) -> RunView | None:
    return next((view for view in runs if view.summary is not None), None)


def _failures(runs: Sequence[RunView], limit: int) -> list[Pictured]:
    view = _first_tracked(runs)
    if view is None or view.summary is None or view.images is None:
        return []
    frames = worst_frames(view.summary, view.records, view.results, limit, str(view.run.get("task", "")))
    return failure_pictures(frames, view.images)


def _page(runs: Sequence[RunView], drawn: Mapping[str, bytes], pictures: Sequence[Pictured], limit: int) -> str:
    tracked, spoken = scored(runs), [view for view in runs if view.language is not None]
    sections = {
        "headline": headline_table(tracked) if tracked else None,
        "explained": explanations([(view.name, view.run, view.summary) for view in runs if view.summary is not None]),
        "language": language_table([(view.name, view.language or {}) for view in spoken]) if spoken else None,
        "plots": _plots(tracked, drawn),
        "groups": groups_table(tracked),
        "sequences": sequences_table(tracked),
        **_gallery(runs, pictures),
        **_examples(spoken[0] if spoken else None, limit),
        "trouble": [_trouble(view) for view in runs if view.failures or (view.summary and view.summary.missing)],
        "how": [{"name": view.name, "facts": facts(view.run, view.folder)} for view in runs],
    }
    page = page_template("elysium.evaluation").render(
        **sections,
        contents=[(key, name) for key, name in SECTIONS.items() if sections[key]],
        title=_title(runs),
        subtitle=_subtitle(runs),
        names=SECTIONS,
        most_rows=MOST_ROWS,
        truth_color="#{:02x}{:02x}{:02x}".format(*TRUTH_COLOR),
        answer_color="#{:02x}{:02x}{:02x}".format(*ANSWER_COLOR),
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair, which JSON can hold


def _title(runs: Sequence[RunView]) -> str:
    tasks = list(dict.fromkeys(str(view.run["task"]) for view in runs if view.run.get("task")))
    return f"{', '.join(tasks) or 'Evaluation'}: {runs[0].name if len(runs) == 1 else f'{len(runs)} runs'}"


def _subtitle(runs: Sequence[RunView]) -> str:
    sets = dict.fromkeys(str(view.run["annotations"]) for view in runs if view.run.get("annotations"))
    return ", ".join(view.name for view in runs) + (f"; on {', '.join(sets)}" if sets else "")


def _plots(tracked: Sequence[Scored], drawn: Mapping[str, bytes]) -> list[Plot]:
    best = ", ".join(f"{one.name} {number(one.summary.mean.auc)}" for one in tracked)
    trust = ", ".join(f"{one.name} {number(one.summary.auroc, 2)}" for one in tracked)
    left_out = f"Bars for the first {plots.MOST_BARS} of {len(tracked)} runs." if len(tracked) > plots.MOST_BARS else ""
    words = {
        "success.png": (f"Success plot, AUC: {best}", "", False),
        "precision.png": ("Precision plot", "", False),
        "norm_precision.png": ("Plot of the normalised precision", "", False),
        "reliability.png": ("Reliability of the scores", f"AUROC of the scores against IoU > 0.5: {trust}", False),
        "groups.png": ("Mean AUC by group", left_out, True),
        "sequences.png": ("AUC by sequence", left_out, True),
    }
    return [Plot(data_uri(drawn[name]), *said) for name, said in words.items() if name in drawn]


def _gallery(runs: Sequence[RunView], pictures: Sequence[Pictured]) -> dict[str, Any]:
    """The cards of failures; None without frames to show any on."""
    view = _first_tracked(runs)
    if view is None or view.images is None:
        return {"gallery": None, "gallery_text": ""}
    text = (
        f"The worst sequences of {view.name}: each by the frame in the middle of its longest stretch with an IoU below "
        f"{LOST_IOU}, or else by its worst frame."
        if pictures
        else f"No picture: no sequence of {view.name} falls below an IoU of {FOUND_IOU}, or no frame could be read."
    )
    cards = [
        {
            "image": data_uri(encoded(image), "jpeg"),
            "title": frame.id,
            "lines": [("", frame.caption), ("asked:", frame.asked or DASH)],
        }
        for frame, image in pictures
    ]
    return {"gallery": cards, "gallery_text": text}


def _examples(view: RunView | None, limit: int) -> dict[str, Any]:
    if view is None:
        return {"examples": [], "examples_text": "", "examples_boxes": False}
    cards, what = example_cards(view.records, view.results, view.run, view.language or {}, view.images, limit)
    shown = [
        {
            "image": data_uri(encoded(card.image), "jpeg") if card.image is not None else "",
            "title": card.title,
            "lines": card.lines,
        }
        for card in cards
    ]
    return {
        "examples": shown,
        "examples_text": f"{what} of {view.name}.",
        "examples_boxes": any(card.image is not None and has_boxes(card) for card in cards),
    }


def _trouble(view: RunView) -> dict[str, Any]:
    missing = view.summary.missing if view.summary else ()
    named = ", ".join(missing[:MOST_NAMED])
    more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
    return {
        "name": view.name,
        "failures": failures_table(view.failures),
        "missing": named + more,
        "num_missing": len(missing),
    }
