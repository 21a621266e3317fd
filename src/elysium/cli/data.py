"""`elysium data convert`: labels in other forms as annotation records. Knows which converters there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elysium.cli import common
from elysium.errors import InputError

if TYPE_CHECKING:
    from elysium.data.records import Record

app = typer.Typer(help="Annotations: the records that training and evaluation read.", no_args_is_help=True)


def _table(source: Path) -> Iterator[Record]:
    from elysium.data.convert.tables import read_table

    return read_table(source)


def _sequences(source: Path) -> Iterator[Record]:
    from elysium.data.convert.sequences import read_sequences

    return read_sequences(source)


CONVERTERS: dict[str, Callable[[Path], Iterator[Record]]] = {"csv": _table, "sequences": _sequences}


@app.command("convert")
def convert(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="csv: frames in folders and labels.csv; sequences: folders with groundtruth.txt.",
            show_default=False,
        ),
    ],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The folder to read.", show_default=False)],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, JSON lines.", show_default=False)],
) -> int:
    """Write labels as records (JSON lines); image paths in them are relative to SRC.

    Example: elysium data convert csv clips/ clips.jsonl
    """
    from elysium.files import atomic_path

    if name not in CONVERTERS:
        raise InputError(f"There is no converter {name!r}", f"Use one of {', '.join(CONVERTERS)}.")
    count = 0
    with atomic_path(output) as path, path.open("w", encoding="utf-8") as file:
        for record in CONVERTERS[name](source):
            file.write(record.to_json() + "\n")
            count += 1
    print(f"{output}: {count} records")
    return common.DONE
