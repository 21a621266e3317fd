"""`elysium build`: options, progress and what is said; nothing of how records are made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elysium.cli import common
from elysium.cli.data import goes_on
from elysium.cli.progress import counted
from elysium.errors import SourceError

if TYPE_CHECKING:
    from elysium.building.funnel import Funnel
    from elysium.building.pipeline import Built
    from elysium.building.settings import BuildSettings

_TOLD = 5  # failures that are told one by one


def build(
    captions: Annotated[Path, typer.Argument(metavar="CAPTIONS", show_default=False, help=(
        "A .jsonl, .csv or .parquet file: videos, and a caption or expressions for each."))],
    videos: Annotated[Path, typer.Option("--videos", metavar="DIR", help="Where the videos are.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where records and frames go.",
                                         show_default=False)],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", show_default=False, help=(
        "Settings in place of the configuration's, with dots for levels."))] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="A YAML file of settings.",
                                                show_default=False)] = None,
    grounder: Annotated[str | None, typer.Option("--grounder", metavar="NAME", show_default=False, help=(
        "Who finds a phrase in a frame: a name, or package.module:Class."))] = None,
    follower: Annotated[str | None, typer.Option("--follower", metavar="NAME", show_default=False, help=(
        "Who follows a box: a name, or package.module:Class."))] = None,
    workers: Annotated[int | None, typer.Option("--workers", metavar="N", show_default=False, help=(
        "So many processes, on Ray; 0: none but this one, without Ray. Default: 1."))] = None,
    ray: Annotated[str | None, typer.Option("--ray", metavar="ADDRESS", show_default=False, help=(
        "Work on this Ray cluster: auto on one of its machines, or HOST:6379."))] = None,
    quiet: common.Quiet = False,
) -> int:  # fmt: skip
    """Make a data set of videos with captions: records to train on, with the frames they need.

    Each line has video (a path below --videos), and caption or expressions; optionally id, start_s, end_s, url. What a
    caption names is looked for in the first frame, followed, and kept if no rule finds fault with it. Videos that are
    done are skipped, so a run that was stopped goes on; those whose line, file or settings have changed are made anew.
    Videos that fail are listed in failures.jsonl, and the exit code is 1.

    Example: elysium build captions.jsonl --videos clips/ --output built filters.drift.enabled=false
    """
    from elysium.building.captions import read_captions

    items = read_captions(captions)
    settings = _settings(config, overrides or [], grounder, follower)
    if not videos.is_dir():
        raise SourceError(f"There is no folder of videos {str(videos)!r}", "Check --videos.")
    workers = settings.running.workers if workers is None else workers
    common.check_workers(workers, ray)

    from elysium.building.account import write_files
    from elysium.building.pipeline import Plan, build
    from elysium.building.staff import choose
    from elysium.building.store import Store

    staff = choose(settings)
    plan = Plan(settings, staff, videos.resolve(), Store(output.resolve()))
    plan.store.prepare()
    if not quiet:
        print("\n".join(f"{stage}: {member.name} ({member.why})" for stage, member in staff.members().items()))
    with plan.store.locked(), goes_on():
        with counted("building", quiet, len(items)) as report:
            done = build(items, plan, workers, ray, report)
        funnel = write_files(plan, items, done.failures, captions)
    for failure in done.failures[:_TOLD]:
        common.error_line(f"{failure.id}: {failure.error}")
    if len(done.failures) > _TOLD:
        common.warn(f"and {len(done.failures) - _TOLD} more: {output / 'failures.jsonl'}")
    if not quiet:
        _tell(done, funnel, output)
    return common.SOME_FAILED if done.failures else common.DONE


def _settings(config: Path | None, overrides: list[str], grounder: str | None, follower: str | None) -> BuildSettings:
    from elysium.building.settings import BuildSettings
    from elysium.config_files import load_section

    named = [("grounding.plugin", grounder), ("following.plugin", follower)]
    more = [f"{key}={name}" for key, name in named if name is not None]
    return load_section(BuildSettings, config, [*overrides, *more], "elysium build")


def _tell(done: Built, funnel: Funnel, output: Path) -> None:
    """What was done, and the funnel, a level a line."""
    if done.skipped:
        print(f"{done.skipped} videos were there from before")
    if done.redone:
        print(f"{done.redone} videos were made anew: their lines, files, settings or plug-ins are not what they were")
    for level in funnel.levels():
        split = f", {level.added} more by splitting" if level.added else ""
        lost = ", ".join(f"{count} {reason}" for reason, count in level.lost.items())
        print(f"{level.count:>8} {level.name}{split}{f'; dropped: {lost}' if lost else ''}")
    print(output / "records.jsonl")
