"""`elysium data validate`, `stats`, `show`, `split`, `merge`, `frames`. Knows options and what is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elysium.cli import common
from elysium.cli.progress import counted
from elysium.errors import ElysiumError, InputError

if TYPE_CHECKING:
    from elysium.data.records import Record

File = Annotated[Path, typer.Argument(metavar="FILE", help="Records: JSON lines or an array.", show_default=False)]
Images = Annotated[
    Path | None,
    typer.Option("--images", metavar="DIR", help="The folder that image paths are relative to.", show_default=False),
]
Output = Annotated[Path, typer.Option("--output", metavar="FILE", help="Where to write.", show_default=False)]
_SHOWN = 12  # records on a sheet, and frames of one record


def validate(
    file: File, images: Images = None,
    fix: Annotated[Path | None, typer.Option("--fix", metavar="OUT", help="Write what can be mended there.",
                                             show_default=False)] = None,
    workers: common.Workers = 1, quiet: common.Quiet = False,
) -> int:  # fmt: skip
    """Check records, and with --images every image they name: a line for each defect, then how many of which kind.

    The exit code is 1 if there is a defect, also where it could be mended.

    Example: elysium data validate tracks.jsonl --images frames --fix mended.jsonl --workers 2
    """
    from elysium.data.validate import validate as run
    from elysium.files import check_target

    common.at_least("--workers", workers)
    if fix is not None:
        check_target(fix, file)
    with counted("checking", quiet) as report:
        found = run(file, images, fix=fix, workers=workers, on_problem=common.print_while_read, report=report)
    kinds = ", ".join(f"{name} {count}" for name, count in found.kinds.most_common())
    print(f"{file}: {found.records} records, {found.defective} with defects{f' ({kinds})' if kinds else ''}")
    if fix is not None:
        kept = found.records - found.left_out
        print(f"{fix}: {kept} records, {found.changed} of them mended, {found.left_out} left out")
    return common.SOME_FAILED if found.defective else common.DONE


def stats(
    file: File,
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE.png", help="Draw them as well.",
                                                show_default=False)] = None,
) -> int:  # fmt: skip
    """Say in figures (JSON) what records are like: how many, how long, how large and fast things are, which words.

    Example: elysium data stats tracks.jsonl --output tracks.png
    """
    from elysium.data.statistics import picture, statistics
    from elysium.files import atomic_path, check_target

    if output is not None:
        check_target(output, file)
    found = statistics(_read(file))
    if output is not None:
        with atomic_path(output) as path:
            path.write_bytes(picture(found))
    print(json.dumps(found.summary(), indent=2, ensure_ascii=False))
    return common.DONE


def show(
    file: File, output: Output, images: Images = None,
    record: Annotated[str | None, typer.Option("--record", metavar="ID", help="This record alone.",
                                               show_default=False)] = None,
    number: Annotated[int, typer.Option("--number", metavar="N", help="So many records, or frames of one.")] = _SHOWN,
) -> int:  # fmt: skip
    """Draw boxes and words of records: a contact sheet, or, of one record, a sheet of its frames or a GIF.

    Example: elysium data show tracks.jsonl --images frames --output sheet.png

    Example: elysium data show tracks.jsonl --images frames --record 17 --output track.gif
    """
    from elysium.data.records.images import ImageFolder
    from elysium.data.sheets import gif, save, sheet
    from elysium.files import check_target

    common.at_least("--number", number)
    check_target(output, file)
    folder = ImageFolder(images or file.parent)
    chosen = list(islice(_chosen(file, record), 1 if record is not None else number))
    if not chosen:
        raise InputError(f"{file} has no record {record!r}", "Give the id of one.")
    if output.suffix.lower() == ".gif":
        if record is None:
            raise InputError("A GIF shows one record", "Name it with --record ID.")
        gif(chosen[0], folder, output)
    else:
        save(sheet(chosen, folder, 1 if record is None else number), output)
    print(output)
    return common.DONE


def split(
    file: File, output: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write.", show_default=False)],
    parts: Annotated[list[str], typer.Argument(metavar="NAME=SHARE...", help="Such as train=0.9 val=0.1.",
                                               show_default=False)],
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another one gives another split.")] = 0,
    by: Annotated[str, typer.Option("--by", metavar="KEY", help="Never cut: vid, frames (a folder), source.")] = "vid",
) -> int:  # fmt: skip
    """Deal records out to parts, all of a video to the same one.

    Example: elysium data split tracks.jsonl parts train=0.9 val=0.1
    """
    from elysium.data.rearrange import split as run

    for name, count in run(file, _shares(parts), output, seed=seed, by=by).items():
        print(f"{name}: {count} records")
    return common.DONE


def merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Records.", show_default=False)],
    output: Output,
    folder: Annotated[list[str] | None, typer.Option("--folder", metavar="DIR", show_default=False, help=(
        "Put in front of the image paths of a file. Once for each file, in their order."))] = None,
) -> int:  # fmt: skip
    """Put files of records together.

    Example: elysium data merge lasot.jsonl got10k.jsonl --folder lasot --folder got10k --output all.jsonl
    """
    from elysium.data.rearrange import merge as run
    from elysium.files import check_target

    check_target(output)
    print(f"{output}: {run(files, output, folder or [])} records")
    return common.DONE


def frames(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="Video files.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="A folder for each video is made in it.",
                                         show_default=False)],
    count: Annotated[int | None, typer.Option("--count", metavar="N", help="So many, evenly spread.",
                                              show_default=False)] = None,
    fps: Annotated[float | None, typer.Option("--fps", metavar="F", help="So many a second.",
                                              show_default=False)] = None,
    stride: common.Stride = 1, start: common.Start = None, end: common.End = None,
    png: Annotated[bool, typer.Option("--png", help="Without loss, instead of JPEG.")] = False,
    quiet: common.Quiet = False,
) -> int:  # fmt: skip
    """Write frames of videos as images named by their number in the video, and frames.json with their times.

    A video that is done is passed over, so that a run that was stopped goes on.

    Example: elysium data frames clips/*.mp4 --output frames --fps 5
    """
    from elysium.data.frames import extract_frames

    failed = 0
    with counted("videos", quiet) as report:
        for number, video in enumerate(videos, 1):
            try:
                extract_frames(
                    video, output / video.stem, count=count, fps=fps, stride=stride, start_s=start, end_s=end,
                    image_format="png" if png else "jpg",
                )  # fmt: skip
            except ElysiumError as error:
                if len(videos) == 1:
                    raise
                common.warn(str(error))
                failed += 1
            if report is not None:
                report(number)
    print(f"{output}: frames of {len(videos) - failed} of {len(videos)} videos")
    return common.SOME_FAILED if failed else common.DONE


def _read(file: Path) -> Iterator[Record]:
    """The records of a file, and a warning for each that nothing can be made of."""
    from elysium.data.records import read_records

    yield from read_records(file, on_problem=lambda problem: common.warn(str(problem)) if problem.fatal else None)


def _chosen(file: Path, id: str | None) -> Iterator[Record]:
    return (record for record in _read(file) if record.frames and id in (None, str(record.id)))


def _shares(parts: list[str]) -> dict[str, float]:
    shares = {}
    for part in parts:
        name, _, share = part.partition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            raise InputError(f"{part!r} is not NAME=SHARE", "For example train=0.9 val=0.1.") from None
        if not name or "/" in name:
            raise InputError(f"{part!r} has no name for a file", "For example train=0.9 val=0.1.")
    return shares
