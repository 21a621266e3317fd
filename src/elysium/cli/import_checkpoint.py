"""`elysium import-checkpoint`: a released checkpoint becomes a folder for `--model`. Knows how an import is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elysium.cli import common

if TYPE_CHECKING:
    from elysium.model.legacy import ImportReport

_LISTED = 6  # names in a line


def import_checkpoint(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="A folder in the released layout, or a hub id.", show_default=False)
    ],
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="The folder to make; it must not be there yet.", show_default=False)
    ],
    vision: Annotated[
        str | None,
        typer.Option(
            "--vision", metavar="NAME|PATH", show_default=False,
            help="Where the tower's config.json lies.  [default: what SRC names]",
        ),
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(
            "--llm", metavar="NAME|PATH", show_default=False,
            help="Where config.json and tokenizer of the language model lie.  [default: what SRC names]",
        ),
    ] = None,
) -> int:  # fmt: skip
    """Turn a released checkpoint (the published 7B model, or one made from it) into a folder for --model.

    Weights are read from safetensors, or from .bin without running what is in it, and written shard by shard in their
    own number type. Says which tensors were mapped, ignored and missing. Every command that takes --model imports a
    released checkpoint by itself, into a cache; this makes a folder of your own.

    Example: elysium import-checkpoint elysium_7b models/elysium-7b

    Example: elysium import-checkpoint elysium_7b models/elysium-7b --vision clip-vit-large-patch14-336 --llm vicuna-7b
    """
    from elysium.model.legacy import import_checkpoint

    for line in lines_of(import_checkpoint(source, target, vision, llm)):
        print(line)
    return common.DONE


def lines_of(report: ImportReport) -> Iterator[str]:
    """What is printed of an import."""
    yield f"read      {report.source} ({str(report.dtype).removeprefix('torch.')})"
    yield f"          tower as in {report.vision}"
    yield f"          language model and tokenizer as in {report.language}"
    for place, count in report.mapped.items():
        yield f"mapped    {place}: {count} tensors"
    reasons = dict.fromkeys(reason for _, reason in report.ignored)
    for reason in reasons:
        yield f"ignored   {_some([name for name, why in report.ignored if why == reason])}: {reason}"
    yield f"missing   {_some(report.missing) + ': never used, filled in' if report.missing else 'nothing'}"
    if report.config_ignored:
        yield f"settings  ignored: {', '.join(report.config_ignored)}"
    if report.config_unknown:
        yield f"settings  not known, ignored: {', '.join(report.config_unknown)}"
    for note in report.notes:
        yield f"note      {note}"
    yield f"written   {report.target} ({report.num_bytes / 1e6:.1f} MB of weights)"


def _some(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
