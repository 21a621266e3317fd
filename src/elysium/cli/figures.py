"""What `elysium eval` and `elysium score` share: the options of scoring, and how figures are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from elysium.cli import common
from elysium.errors import InputError

if TYPE_CHECKING:
    from elysium.evaluation.figures import Figures
    from elysium.evaluation.judge import Endpoint
    from elysium.evaluation.runs import Run, Scoring

PROTOCOLS = ("standard", "published")

ConventionOption = Annotated[
    str | None,
    typer.Option(
        "--convention", metavar="NAME", show_default=False,
        help="plain, plain-sot, lasot, pytracking or pytracking-uav.  [default: plain-sot for SOT, else plain]",
    ),
]  # fmt: skip
CountFirst = Annotated[
    bool,
    typer.Option("--count-first/--no-count-first", help="Whether frame 1 counts; in SOT as the truth."),
]
JavaOption = Annotated[
    bool, typer.Option("--java/--no-java", help="Description metrics by the Java programs, or without Java.")
]
JudgeUrl = Annotated[
    str | None,
    typer.Option(
        "--judge", metavar="URL", help="An OpenAI-compatible endpoint that judges answers.", show_default=False
    ),
]
JudgeModel = Annotated[
    str | None, typer.Option("--judge-model", metavar="NAME", help="The judge's name there.", show_default=False)
]
JudgeKey = Annotated[
    str, typer.Option("--judge-key", metavar="VARIABLE", help="The environment variable with the endpoint's key.")
]


def check_protocol(protocol: str) -> None:
    """Raise InputError for a protocol that does not exist."""
    if protocol not in PROTOCOLS:
        raise InputError(f"--protocol {protocol!r} does not exist", f"Use one of {', '.join(PROTOCOLS)}.")


def check_convention(convention: str | None, task: str) -> None:
    """Raise InputError for a convention that does not exist."""
    from elysium.evaluation.scoring import convention_for

    convention_for(task, convention)


def judge_at(url: str | None, model: str | None, key: str, task: str) -> Endpoint | None:
    """The judge that the options name; None without one. Raises InputError for half a judge or another task."""
    if url is None:
        return None
    if task != "VideoQA":
        raise InputError(f"--judge judges answers to questions, not {task}", "Leave it out.")
    if not model:
        raise InputError("--judge needs --judge-model", "Name the model that the endpoint is to ask.")
    from elysium.evaluation.judge import Endpoint

    return Endpoint.from_environment(url, model, key)


def conclude(run: Run, scoring: Scoring, endpoint: Endpoint | None) -> int:
    """Score a run, write its `scores.json`, tell the figures; the exit code."""
    from elysium.evaluation.results import SCALED
    from elysium.evaluation.runs import remembering_judge, write_scores

    figures = run.figures(scoring, None if endpoint is None else remembering_judge(run.folder, endpoint))
    write_scores(run.folder, figures)
    tell(figures, run.name)
    scaled = [(result.id, note) for result in run.results for note in result.notes if note.endswith(SCALED)]
    if scaled:
        common.warn(f"{scaled[0][0]}: {scaled[0][1]}" + (f" (and {len(scaled) - 1} more)" if len(scaled) > 1 else ""))
    ended = [result.id for result in run.results if result.failure]
    if ended:
        some = ", ".join(ended[:3]) + (" ..." if len(ended) > 3 else "")
        common.warn(f"{len(ended)} sequences ended before their end (see failures.jsonl): {some}")
    missing = told_missing(figures, len(run.failures) - len(ended))
    return common.SOME_FAILED if ended else missing


def told_missing(figures: Figures, num_failures: int) -> int:
    """Say what has no result; the exit code."""
    if not figures.missing:
        return common.DONE
    some = ", ".join(figures.missing[:3]) + (" ..." if len(figures.missing) > 3 else "")
    why = f", {num_failures} failed (see failures.jsonl)" if num_failures else ""
    common.warn(f"{len(figures.missing)} items have no result and are not in the figures: {some}{why}")
    return common.SOME_FAILED


def tell(figures: Figures, name: str) -> None:
    """The figures as a few lines on stdout."""
    for line in lines_of(figures, name):
        print(line)


def lines_of(figures: Figures, name: str) -> list[str]:
    """What is printed of the figures of the run called ``name``."""
    lines = []
    if figures.tracking is not None:
        track = figures.tracking
        first = "frame 1 counts" if track.count_first else "frame 1 left out"
        lines += [
            f"{figures.task} {name}: {len(track.sequences)} sequences, {track.mean.num_frames} frames, "
            f"convention {track.convention}, {first}",
            f"  AUC {_n(track.mean.auc)}   SR0.5 {_n(track.mean.sr50)}   SR0.75 {_n(track.mean.sr75)}   "
            f"precision {_n(track.mean.precision)}   normalised precision {_n(track.mean.norm_precision)}",
            f"  GOT-10k: AO {_n(track.got10k.ao)}   SR0.5 {_n(track.got10k.sr50)}   SR0.75 {_n(track.got10k.sr75)}",
        ]
        more = [("frames/s", track.fps), ("AUROC of scores", 100 * track.auroc)]
        shown = [f"{label} {_n(value)}" for label, value in more if value == value]
        lines += ["  " + "   ".join(shown)] if shown else []
    if figures.published is not None:
        published = figures.published
        lines += [
            f"  {published.label}:",
            f"  AUC {_n(published.auc)}   precision {_n(published.precision)}   "
            f"normalised precision {_n(published.norm_precision)}   ({published.num_records} records)",
        ]
    if figures.language is not None:
        given = {key: value for key, value in figures.language.items() if key not in ("per_item", "num_items")}
        lines.append(f"{figures.task} {name}: {figures.language['num_items']} items")
        lines += [f"  {key.replace('_', ' ')} {_n(value)}" for key, value in given.items()]
    return lines


def _n(value: Any) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.1f}"
    return str(value)
