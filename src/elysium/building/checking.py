"""A human check of a data set: a sheet of samples with room for verdicts, and the precision that it shows.

    sample,outcome,reason,words,verdict        outcome: kept or dropped; verdict: keep, drop, or nothing for "unsure"

A cell that a table would compute, such as "=1+1" from a caption, stands behind an apostrophe, here and on the page.

Knows sheets and shares; does not know: videos, how samples are shown.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from elysium.errors import InputError, SourceError
from elysium.files import atomic_write_text

SHEET = "check.csv"
COLUMNS = ("sample", "outcome", "reason", "words", "verdict")
VERDICTS = ("keep", "drop", "")
_Z_95 = 1.959964  # of the normal distribution, two-sided
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # what cells begin with that a table computes


@dataclass(frozen=True)
class Row:
    """A sample, and what a human says of it."""

    sample: str
    outcome: str
    reason: str
    words: str
    verdict: str = ""


@dataclass(frozen=True)
class Share:
    """``hits`` of ``number``, as a share, with Wilson's interval for 95 %."""

    hits: int
    number: int

    @property
    def value(self) -> float:
        """NaN of none."""
        return self.hits / self.number if self.number else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.hits, self.number)

    def __str__(self) -> str:
        if not self.number:
            return "nothing was judged"
        low, high = self.interval
        return f"{100 * self.value:.1f} % ({100 * low:.1f} to {100 * high:.1f} %, {self.hits} of {self.number})"


@dataclass(frozen=True)
class Verdicts:
    """``precision``: of what was kept, the share that a human keeps, too; ``missed``: of what was dropped, the share
    that a human would have kept. ``unsure``: samples without a verdict."""

    precision: Share
    missed: Share
    unsure: int


def wilson(hits: int, number: int) -> tuple[float, float]:
    """Wilson's score interval for a share (E. B. Wilson 1927), 95 %; (0, 1) of nothing.

    >>> [round(end, 3) for end in wilson(9, 10)]
    [0.596, 0.982]
    """
    if not number:
        return 0.0, 1.0
    share, square = hits / number, _Z_95**2
    middle = (share + square / (2 * number)) / (1 + square / number)
    half = _Z_95 / (1 + square / number) * math.sqrt(share * (1 - share) / number + square / (4 * number**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def write_sheet(path: Path, rows: Iterable[Row]) -> None:
    """Raises OutputError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(map(_plain, (row.sample, row.outcome, row.reason, row.words, row.verdict)))
    atomic_write_text(path, text.getvalue())


def _plain(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULAS) else cell


def _said(cell: str | None) -> str:
    """The opposite of `_plain`, without blanks around it."""
    text = (cell or "").strip()
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULAS) else text


def read_sheet(path: Path) -> list[Row]:
    """A sheet with verdicts. Raises SourceError if it cannot be read, InputError that names the first wrong line."""
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        cells = [(reader.line_num, values) for values in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"Cannot read the sheet {str(path)!r}: {error}", "Check the path.") from error
    if not set(COLUMNS) <= set(reader.fieldnames or ()):
        raise InputError(f"{path} has not the columns {', '.join(COLUMNS)}", "Start from the sheet of the report.")
    rows = []
    for line, values in cells:
        row = Row(*(_said(values[column]) for column in COLUMNS))
        if row.verdict.lower() not in VERDICTS or row.outcome not in ("kept", "dropped"):
            told = f"{path}, line {line}: outcome {row.outcome!r}, verdict {row.verdict!r}"
            raise InputError(told, "The outcome is kept or dropped; the verdict keep, drop, or nothing.")
        rows.append(Row(row.sample, row.outcome, row.reason, row.words, row.verdict.lower()))
    return rows


def judge(rows: Iterable[Row], known: Iterable[tuple[str, str]]) -> Verdicts:
    """What the verdicts say.

    Args:
        known: each sample of the data set with its outcome.

    Raises InputError for a sample that is not among them, has another outcome there, or is in the sheet twice.
    """
    listed, outcomes = list(rows), dict(known)
    counts = Counter(row.sample for row in listed)
    strange = sorted(set(counts) - set(outcomes)) + sorted(name for name, count in counts.items() if count > 1)
    if strange:
        told = f"The sheet has the sample {strange[0]!r}, which this data set has not, or twice"
        raise InputError(told, "Use the sheet of this report.")
    for row in listed:
        if row.outcome != outcomes[row.sample]:
            told = f"The sheet has the sample {row.sample!r} as {row.outcome}, but it was {outcomes[row.sample]}"
            raise InputError(told, "Use the sheet of this report.")
    said = [row for row in listed if row.verdict]
    kept, dropped = ([row.verdict for row in said if row.outcome == outcome] for outcome in ("kept", "dropped"))
    precision, missed = (Share(verdicts.count("keep"), len(verdicts)) for verdicts in (kept, dropped))
    return Verdicts(precision, missed, len(listed) - len(said))
