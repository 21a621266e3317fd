"""`elysium eval`: a benchmark over any model or tracker; stopped, it goes on where it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
)
from elysium.errors import InputError

if TYPE_CHECKING:
    from elysium.evaluation.items import Item
    from elysium.evaluation.judge import Endpoint
    from elysium.evaluation.runner import Settings
    from elysium.evaluation.runs import Scoring

Annotations = Annotated[
    Path, typer.Option("--annotations", metavar="PATH", help="A file of records, or a folder of sequences.")
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images", metavar="DIR", help="Where the frames lie.  [default: beside the annotations]", show_default=False
    ),
]


EvalTask = Annotated[str, typer.Argument(metavar="TASK", help="SOT, RSOT, Video-REG, REC, REG or VideoQA.")]
Output = Annotated[Path, typer.Option("--output", metavar="DIR", help="The folder of this run.")]
EvalModel = Annotated[
    str,
    typer.Option("--model", metavar="NAME|PATH", help="A model, or a baseline: hold, kcf, csrt, mil, nanotrack:PATH."),
]
Protocol = Annotated[
    str, typer.Option("--protocol", metavar="NAME", help="standard, or published: as the released code runs it.")
]
TextKey = Annotated[
    str | None,
    typer.Option(
        "--text-key", metavar="KEY", show_default=False,
        help="The key with the words.  [default: object_description; published: object_class]",
    ),
]  # fmt: skip
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", help="The first N items.", show_default=False)]
FirstFrames = Annotated[
    int | None, typer.Option("--max-frames", metavar="N", help="The first N frames of each.", show_default=False)
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress; figures and failures are still said.")]


def evaluate(
    task: EvalTask, annotations: Annotations, output: Output, images: Images = None, model: EvalModel = "nano",
    protocol: Protocol = "standard", text_key: TextKey = None, workers: common.Workers = 1, limit: Limit = None,
    max_frames: FirstFrames = None, convention: ConventionOption = None, count_first: CountFirst = True,
    search_window: common.SearchWindow = "auto", clip_length: common.ClipLength = None,
    lost_policy: common.LostPolicyOption = "search", fine: common.Fine = False, zoom: common.Zoom = False,
    tokens_per_frame: common.TokensPerFrame = None,
    java: JavaOption = True, judge: JudgeUrl = None,
    judge_model: JudgeModel = None, judge_key: JudgeKey = "OPENAI_API_KEY", device: common.Device = "auto",
    dtype: common.Dtype = "auto", threads: common.Threads = None, reference: common.Reference = False,
    quiet: Quiet = False,
) -> int:  # fmt: skip
    """Evaluate a model or a tracker on a benchmark.

    Writes results.jsonl (and answers.jsonl with the keys of the published evaluation), failures.jsonl, run.json and
    scores.json. Items that have a result are skipped, so a run that was stopped goes on. Under torchrun its processes
    share the items. The exit code is 1 if an item failed.

    Example: elysium eval SOT --annotations val500.jsonl --images frames --model nano --output runs/val500

    Example: elysium eval SOT --annotations sequences --model csrt --output runs/csrt --workers 2
    """
    from elysium.evaluation.items import DEFAULT_TEXT_KEY, PUBLISHED_TEXT_KEY, check_task
    from elysium.evaluation.runs import Scoring

    name, published = check_task(task), protocol == "published"
    check_protocol(protocol)
    _check_counts({"--workers": workers, "--limit": limit, "--max-frames": max_frames,
                   "--tokens-per-frame": tokens_per_frame})  # fmt: skip
    common.check_clip_length(clip_length)
    common.check_lost_policy(lost_policy)
    if name in ("REG", "Video-REG"):
        from elysium.evaluation.caption import check_tools

        check_tools(java=java)
    endpoint = judge_at(judge, judge_model, judge_key, name)
    check_convention(convention, name)
    options = options_for(name, model, published, tracking_options(search_window, clip_length, lost_policy, fine, zoom))
    from elysium.evaluation import runner
    from elysium.evaluation.baselines import is_baseline

    if is_baseline(model) and tokens_per_frame is not None:
        raise InputError(f"The baseline {model!r} has no visual tokens", "Leave --tokens-per-frame out.")
    if not is_baseline(model):
        common.check_machine(device, dtype, threads)
    settings = runner.Settings(
        name, annotations, images or (annotations if annotations.is_dir() else annotations.parent), model, output,
        protocol, text_key or (PUBLISHED_TEXT_KEY if published else DEFAULT_TEXT_KEY), limit, max_frames, options,
        device, dtype, threads, reference, tokens_per_frame,
    )  # fmt: skip
    return run_and_conclude(settings, Scoring(convention, count_first, published, java), endpoint, workers, quiet)


def run_and_conclude(
    settings: Settings, scoring: Scoring, endpoint: Endpoint | None, workers: int, quiet: bool
) -> int:  # fmt: skip
    """Answer all items, then score them; the exit code."""
    from elysium.evaluation import runner
    from elysium.evaluation.results import FAILURES, read_results
    from elysium.evaluation.runs import Run, read_facts

    items, output = runner.begin(settings, ["elysium", *sys.argv[1:]]), settings.output
    try:
        if not run_items(settings, items, workers, quiet):
            return common.DONE  # another process concludes
    except KeyboardInterrupt:
        common.error_line(f"interrupted; what is done is in {output}, and the same command goes on")
        return common.INTERRUPTED
    failures = runner.finish(settings, items)
    results = tuple(read_results(output, may_be_empty=True))
    if not results:
        common.error_line(f"all {len(items)} items failed: see {output / FAILURES}")
        return common.SOME_FAILED
    run = Run(output, read_facts(output), tuple(items), results, tuple(failures))
    return conclude(run, scoring, endpoint)


def _check_counts(counts: dict[str, int | None]) -> None:
    for option, value in counts.items():
        if value is not None and value < 1:
            raise InputError(f"{option} {value} is too small", "Give 1 or more.")


def options_for(task: str, model: str, published: bool, options: dict[str, Any]) -> dict[str, Any]:
    """The options of tracking, none where nothing is tracked in the standard way, but for REC's zoom. Raises InputError
    if some were given there all the same."""
    from elysium.evaluation.baselines import is_baseline
    from elysium.evaluation.items import TRACKING

    if task in TRACKING and not published and not is_baseline(model):
        return options
    zoom = {"zoom": options.pop("zoom")} if task == "REC" and "zoom" in options else {}
    if options != tracking_options("auto", None, "search", fine=False, zoom=False):
        told = "--search-window, --clip-length, --lost-policy, --fine and --zoom"
        raise InputError(f"{told} are for models that track in the standard way", "Leave them out.")
    return zoom


def tracking_options(
    search_window: str, clip_length: int | None, lost_policy: str, fine: bool, zoom: bool
) -> dict[str, Any]:
    """The options of `Elysium.track` that were given. Raises InputError for a window that is none."""
    options: dict[str, Any] = {"lost_policy": lost_policy}
    if clip_length is not None:
        options["clip_length"] = clip_length
    if (window := common.parse_window(search_window)) != "auto":
        options["search_window"] = window
    options |= {name: True for name, given in (("fine", fine), ("zoom", zoom)) if given}
    return options


def run_items(settings: Settings, items: list[Item], workers: int, quiet: bool) -> bool:
    """Answer what is not answered yet; whether this process is the one to conclude."""
    from elysium.evaluation import runner

    place = runner.distributed()
    if place is not None:
        runner.join_group()
    done = len(runner.done_before(settings) & {item.id for item in items})
    with _progress(len(items), done, quiet or bool(place and place[0])) as report:
        if place is not None:
            runner.work(settings, items, *place, report)
            runner.wait_for_all()
        elif workers > 1:
            runner.work_in_processes(settings, items, workers, report)
        else:
            runner.work(settings, items, 0, 1, report)
    return place is None or place[0] == 0


@contextmanager
def _progress(total: int, done: int, quiet: bool) -> Iterator[Callable[[str, str | None], None]]:
    """A line on stderr: items done, failures, time left. Failures are said in any case."""

    def tell(id: str, problem: str | None) -> None:
        if problem is not None:
            common.error_line(f"{id}: {problem}")

    if quiet:
        yield tell
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task("evaluating", total=total, completed=done)

        def report(id: str, problem: str | None) -> None:
            tell(id, problem)
            shown.update(task, advance=1, description=id[:40])

        yield report
