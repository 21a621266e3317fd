"""Running a converter: in several processes, stopped and gone on with, written atomically (`elysium.data.units`).

Knows: converters, their options. Does not know: what is in the records.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from elysium.data.convert.base import Options, Unit, checked, image_root
from elysium.data.convert.registry import converter
from elysium.data.units import Done, Report, carry_out
from elysium.files import check_target, ensure_folder


def convert(
    name: str, source: Path, output: Path, options: Options | None = None, workers: int = 1,
    report: Report | None = None,
) -> Done:  # fmt: skip
    """Write the records of ``source`` as JSON lines.

    Raises:
        SourceError, InputError: a source that is not there, or something else; no unit gave a record (then nothing is
        written, and the first reason told).
    """
    options = checked(name, converter(name), options or Options())
    check_target(output, source)
    ensure_folder(output.parent)
    about = {"converter": name, "source": str(source.resolve()), **_plain(options)}
    return carry_out(
        partial(_lines, name, source, options), converter(name).units(source, options), output, about,
        nothing=f"{source} holds nothing to convert", reads=(source, image_root(source, options)), workers=workers,
        report=report,
    )  # fmt: skip


def _plain(options: Options) -> dict[str, Any]:
    return {name: str(v.resolve()) if isinstance(v, Path) else v for name, v in asdict(options).items()}


def _lines(name: str, source: Path, options: Options, unit: Unit) -> list[str]:
    return [record.to_json() for record in converter(name).records(source, unit, options)]
