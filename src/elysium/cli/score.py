"""`elysium score`: figures of results that are there, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elysium.cli import common
from elysium.cli.figures import (
    ConventionOption,
    CountFirst,
    JavaOption,
    JudgeKey,
    JudgeModel,
    JudgeUrl,
    check_convention,
    check_protocol,
    conclude,
    judge_at,
    tell,
    told_missing,
)
from elysium.errors import InputError

if TYPE_CHECKING:
    from elysium.evaluation.results import Result
    from elysium.evaluation.runs import Scoring

EXPORTS = ("lasot", "got10k", "trackingnet", "otb", "mot")


def score(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="A run's folder, a file of results or answers, or text files.")
    ],
    annotations: Annotated[
        Path | None,
        typer.Option(
            "--annotations", metavar="PATH", help="Needed unless RESULTS is a run's folder.", show_default=False
        ),
    ] = None,
    task: Annotated[str, typer.Option("--task", metavar="TASK", help="SOT or RSOT, if it is no run's folder.")] = "SOT",
    protocol: Annotated[
        str, typer.Option("--protocol", metavar="NAME", help="standard, or published: the released arithmetic too.")
    ] = "standard",
    convention: ConventionOption = None,
    count_first: CountFirst = True,
    format: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help="auto, elysium, answers, lasot, otb, trackingnet, got10k, mot."),
    ] = "auto",
    box_format: common.BoxFormat = "xywh",
    origin: Annotated[int, typer.Option("--origin", metavar="N", help="Number of the first pixel in text files.")] = 0,
    export: Annotated[
        list[str] | None,
        typer.Option(
            "--export", metavar="FORMAT=DIR", show_default=False,
            help="Also write the boxes for another toolkit: lasot, got10k, trackingnet, otb or mot. Repeatable.",
        ),
    ] = None,
    java: JavaOption = True,
    judge: JudgeUrl = None,
    judge_model: JudgeModel = None,
    judge_key: JudgeKey = "OPENAI_API_KEY",
) -> int:  # fmt: skip
    """Score results again, or those of another program.

    A folder of `elysium eval` is scored by its own annotations, and its scores.json written anew. Anything else needs
    --annotations, whose ids name the sequences: answers with the keys of the published evaluation, or text files of
    the toolkits of LaSOT, OTB, TrackingNet, GOT-10k and MOT.

    Example: elysium score runs/val500 --convention lasot

    Example: elysium score results/lasot --annotations lasot.jsonl --export got10k=out/got10k
    """
    from elysium.evaluation.items import TRACKING, check_task
    from elysium.evaluation.results import RUN
    from elysium.evaluation.runs import Run, Scoring

    targets = [_target(text) for text in export or ()]
    check_protocol(protocol)
    if origin not in (0, 1):
        raise InputError(f"--origin {origin} does not exist", "Pixels are counted from 0 or from 1.")
    check_convention(convention, check_task(task))
    scoring = Scoring(convention, count_first, protocol == "published", java)
    if (results / RUN).is_file():
        if (format, box_format, origin, task) != ("auto", "xywh", 0, "SOT"):
            raise InputError(f"{results} is a run's folder", "Leave --task, --format, --box-format and --origin out.")
        run = Run.open(results, annotations)
        if targets and run.task not in TRACKING:
            raise InputError(f"{run.task} has no tracks to export", "Leave --export out.")
        code = conclude(run, scoring, judge_at(judge, judge_model, judge_key, run.task))
        export_boxes(targets, run.results)
        return code
    if annotations is None:
        return _score_by_own_truth(results, check_task(task), scoring, targets)
    return _score_foreign(results, annotations, check_task(task), scoring, targets, (format, box_format, origin))


def _score_by_own_truth(results: Path, task: str, scoring: Scoring, targets: list[tuple[str, Path]]) -> int:
    """Answers hold the truth, in per cent: enough for the released arithmetic, not for any other."""
    from elysium.evaluation.figures import Figures
    from elysium.evaluation.imports import guess_format, published_of

    if guess_format(results) != "answers" or not scoring.published or targets:
        raise InputError(f"{str(results)!r} is not a run's folder", "Name the truth with --annotations.")
    tell(Figures(task, (), published=published_of(results)), results.name)
    return common.DONE


def _score_foreign(
    results: Path, annotations: Path, task: str, scoring: Scoring, targets: list[tuple[str, Path]],
    reading: tuple[str, str, int],
) -> int:  # fmt: skip
    from elysium.evaluation.figures import Figures, compute_figures, truths_of
    from elysium.evaluation.imports import guess_format, import_results, published_of
    from elysium.evaluation.items import TRACKING, read_items
    from elysium.evaluation.runs import lenient

    if task not in TRACKING:
        raise InputError(f"Results of another program are scored as SOT or RSOT, not {task}", "Use --task SOT or RSOT.")
    items = read_items(annotations, "SOT", on_problem=lenient)  # needs no words
    truths = truths_of(items)
    format, box_format, origin = reading
    kind = guess_format(results) if format == "auto" else format
    found = import_results(results, truths, format=kind, box_format=box_format, origin=origin)
    figures = compute_figures(task, items, found, convention=scoring.convention, count_first=scoring.count_first)
    tell(figures, results.name)
    if scoring.published:
        if kind != "answers":
            raise InputError("--protocol published needs answers as text", "Give a file with the published keys.")
        tell(Figures(task, (), published=published_of(results)), results.name)
    export_boxes(targets, found)
    return told_missing(figures, 0)


def _target(text: str) -> tuple[str, Path]:
    format, sign, folder = text.partition("=")
    if not sign or format not in EXPORTS or not folder:
        raise InputError(f"--export {text!r} makes no sense", f"Write FORMAT=DIR, with one of {', '.join(EXPORTS)}.")
    return format, Path(folder)


def export_boxes(targets: list[tuple[str, Path]], results: Sequence[Result]) -> None:
    """Write the tracks of results with boxes into each target's folder."""
    import numpy as np

    from elysium.evaluation.formats import WRITERS, MotTrack, result_file, write_mot

    for format, folder in targets:
        files = [result_file(folder, result.id) for result in results]  # wrong names are told before the first file
        for result, file in zip(results, files, strict=True):
            xyxy = np.asarray(result.boxes_xyxy, dtype=np.float64)
            xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
            if format == "mot":
                scores = np.full(len(xywh), np.nan) if result.scores is None else result.scores
                write_mot(file, {1: MotTrack(xywh, scores)})
            else:
                WRITERS[format](folder, result.id, xywh)
        print(f"{len(results)} tracks for {format}: {folder}")
