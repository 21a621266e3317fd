"""`elysium data`, and `convert` in it. Knows options and what is said, nothing about any format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elysium.cli import common, records
from elysium.cli.progress import counted

if TYPE_CHECKING:
    from elysium.data.units import Done

app = typer.Typer(help="Annotations: the records that training and evaluation read.", no_args_is_help=True)

_TOLD = 5  # failures and defects that are told one by one


@app.command("convert")
def convert(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help=(
        "What SRC holds, such as lasot, coco or mot; a wrong one lists all."))],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The folder or file to read.", show_default=False)],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, JSON lines.", show_default=False)],
    split: Annotated[str | None, typer.Option("--split", metavar="NAME", help="train, test ... where SRC has several.",
                                              show_default=False)] = None,
    images: Annotated[Path | None, typer.Option("--images", metavar="DIR", help="Where the images are, if not in SRC.",
                                                show_default=False)] = None,
    frames: Annotated[int, typer.Option("--frames", metavar="N", help="Of videos without boxes: so many frames.")] = 16,
    workers: common.Workers = 1, quiet: common.Quiet = False,
) -> int:  # fmt: skip
    """Write labels as records (JSON lines); image paths in them are relative to SRC (a file: its folder), or to
    --images.

    A run that was stopped goes on when it is started again; parts of SRC that have changed are converted anew. The
    records are checked in the end; the exit code is 1 if a part of SRC could not be converted, an entry of it was left
    out, or a record has a defect.

    Example: elysium data convert csv clips/ clips.jsonl
    """
    from elysium.data.convert.base import Options
    from elysium.data.convert.run import convert as run
    from elysium.data.records import validate_records

    common.at_least("--workers", workers)
    common.at_least("--frames", frames)
    with goes_on(), counted(f"converting {name}", quiet) as report:
        done = run(name, source, output, Options(split, images, frames), workers, report)
    _tell(done, "parts")
    defects = 0
    for defects, problem in enumerate(validate_records(output), 1):
        if defects <= _TOLD:
            common.warn(str(problem))
    print(f"{output}: {done.lines} records{_troubles(done)}, {defects} defects")
    return common.SOME_FAILED if done.failed or done.left_out or defects else common.DONE


@contextmanager
def goes_on() -> Iterator[None]:
    """Say so of work that Ctrl-C stops."""
    try:
        yield
    except KeyboardInterrupt:
        common.warn("stopped; the same command goes on where it was")
        raise


def _tell(done: Done, units: str) -> None:
    """How many units were there from an earlier run, and what went wrong, one by one."""
    if done.resumed:
        print(f"{done.resumed} {units} were there from before")
    told = [f"{part}: {reason}" for part, reason in done.failed.items()]
    told += [f"{part}: {reason}" for part, reasons in done.told.items() for reason in reasons]
    for sentence in told[:_TOLD]:
        common.warn(sentence)
    if len(told) > _TOLD:
        common.warn(f"and {len(told) - _TOLD} more like these")


def _troubles(done: Done) -> str:
    """In how many parts something went wrong."""
    failed = f", {len(done.failed)} of {done.units} parts failed" if done.failed else ""
    return failed + (f", in {done.left_out} parts something was left out" if done.left_out else "")


@app.command("shard")
def shard(
    file: records.File,
    output: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write the shards.", show_default=False)],
    images: records.Images = None,
    form: Annotated[str, typer.Option("--format", metavar="webdataset|parquet", help="Tar files, or Parquet.")] = (
        "webdataset"),
    size: Annotated[int, typer.Option("--shard-size", metavar="N", help="So many clips in a shard.")] = 256,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another one gives another order of clips.")] = 0,
    workers: common.Workers = 1, quiet: common.Quiet = False,
) -> int:  # fmt: skip
    """Put records and their images into shards, to be trained on without random access.

    A shard holds clips whole: the tracks over the same frames, or a chat, and their images, which are copied as they
    are. A run that was stopped goes on when it is started again. The exit code is 1 if a clip was left out.

    Example: elysium data shard tracks.jsonl shards --images frames --workers 2
    """
    from elysium.data.sharding import count_shards
    from elysium.data.sharding import shard as run

    common.at_least("--workers", workers)
    common.at_least("--shard-size", size)
    with counted("indexing", quiet) as report:
        total = count_shards(file, size, report)
    with goes_on(), counted("shards", quiet, total) as report:
        done = run(
            file, output, images or file.parent, form=form, clips=size, seed=seed,  # type: ignore[arg-type]
            workers=workers, report=report,
        )  # fmt: skip
    _tell(done, "shards")
    print(f"{output}: {done.lines} shards{_troubles(done)}")
    return common.SOME_FAILED if done.failed or done.left_out else common.DONE


for command in (records.validate, records.stats, records.show, records.split, records.merge, records.frames):
    app.command(command.__name__)(command)
