"""One page about a data set that was built: the funnel, histograms, samples to look at, and a sheet for a human check.

Knows what a reader wants to see and in which order; what it looks like is in `report.html.j2`. The page is one file and
loads nothing; its script, which writes the sheet of verdicts, is the only one that its content security policy admits.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elysium.building.captions import CaptionedVideo
from elysium.building.checking import SHEET, Row, Verdicts, judge, read_sheet, write_sheet
from elysium.building.funnel import Funnel
from elysium.building.measures import BINS, MEASURES, Measure, histogram, measured
from elysium.building.results import VideoResult
from elysium.building.samples import Sample, draw, gif, samples_of
from elysium.building.store import FAILURES, MANIFEST, Store
from elysium.errors import SourceError
from elysium.files import atomic_write_text, ensure_folder
from elysium.templates import page_template

if TYPE_CHECKING:
    pass

PAGE = "report.html"
_MOST_FAILURES = 100  # that are listed


def write_report(
    folder: Path, output: Path, samples: int = 12, seed: int = 0, checked: Path | None = None
) -> tuple[list[Path], Verdicts | None]:
    """Write the page and, without ``checked``, an empty sheet beside it.

    Args:
        folder: what `elysium build` wrote. output: where the page goes.
        samples: at most so many that were kept, and as many that were dropped, at random by ``seed``.
        checked: the sheet, with verdicts.

    Returns:
        the files, and what the verdicts say.

    Raises:
        SourceError: the folder or the sheet cannot be read. InputError: the sheet is of another data set.
        OutputError: a file cannot be written.
    """
    store, manifest = Store(folder), _manifest(folder)
    done = [clip["id"] for clip in manifest["clips"]]
    failures = _failures(folder)
    funnel = Funnel()
    for _ in failures:
        funnel.add_failure()
    numbers: dict[bool, list[list[float]]] = {True: [], False: []}  # of kept and of dropped
    for result in map(store.load, done):
        funnel.add(result)
        for sample in samples_of(result):
            assert result.clip is not None
            numbers[not sample.reason].append(measured(sample.trajectory, result.clip.resolution_wh))
    verdicts = judge(read_sheet(checked), _outcomes(store, done)) if checked is not None else None
    kept, dropped = draw(map(store.load, done), samples, seed)
    videos = Path(manifest["videos"])
    page = page_template("elysium.building").render(
        title=f"Data set {folder.resolve().name}", manifest=manifest, levels=list(funnel.levels()),
        most=max(funnel.captions, funnel.chunks, funnel.trajectories, 1), frames=funnel.frames,
        plots=[_plot(place, measure, numbers) for place, measure in enumerate(MEASURES)], bins=BINS,
        kept=[_card(sample, folder, videos) for sample in kept],
        dropped=[_card(sample, folder, videos) for sample in dropped],
        failures=failures[:_MOST_FAILURES], more_failures=max(0, len(failures) - _MOST_FAILURES), verdicts=verdicts,
        settings=json.dumps(manifest["settings"], indent=1), script=_script(), script_hash=_hash(_script()),
        seconds=_seconds(map(store.load, done)), sheet=SHEET,
    )  # fmt: skip
    written = [atomic_write_text(ensure_folder(output) / PAGE, page)]
    if checked is None:
        rows = [Row(one.name, one.outcome, one.reason, one.words) for one in (*kept, *dropped)]
        write_sheet(output / SHEET, rows)
        written.append(output / SHEET)
    return written, verdicts


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        manifest["records"]["count"], manifest["captions"]["lines"], [clip["id"] for clip in manifest["clips"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"{str(folder)!r} is not the output of a finished `elysium build`: {error}"
        raise SourceError(told, "Name its --output; if it was stopped, run it to the end.") from error
    return manifest


def _failures(folder: Path) -> list[dict[str, str]]:
    path = folder / FAILURES
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:  # by lines that end with a newline, not as `str.splitlines`
        return [json.loads(line) for line in file]


def _outcomes(store: Store, done: Sequence[str]) -> Iterator[tuple[str, str]]:
    return ((sample.name, sample.outcome) for id in done for sample in samples_of(store.load(id)))


def _plot(place: int, measure: Measure, numbers: dict[bool, list[list[float]]]) -> dict[str, Any]:
    """A histogram of what was kept and of what was dropped, bars as shares of the highest."""
    columns = {outcome: [row[place] for row in rows] for outcome, rows in numbers.items()}
    known = [value for column in columns.values() for value in column if value == value]
    high = measure.high if measure.high is not None else max([*known, measure.low + 1])
    counts = {outcome: histogram(column, measure, high) for outcome, column in columns.items()}
    most = max([*counts[True], *counts[False], 1])
    return {
        "name": measure.name, "unit": measure.unit, "known": bool(known),
        "low": f"{measure.low:g}", "high": f"{high:g}",
        "bars": [(kept, dropped, kept / most, dropped / most)
                 for kept, dropped in zip(counts[True], counts[False], strict=True)],
    }  # fmt: skip


def _card(sample: Sample, folder: Path, videos: Path) -> dict[str, Any]:
    picture = gif(sample, folder, videos)
    captioned: CaptionedVideo = sample.result.captioned
    lines = [
        ("", f"{sample.reason}{f': {sample.detail}' if sample.detail else ''}" if sample.reason else ""),
        ("asked:", captioned.caption or "; ".join(captioned.expressions)),
        ("grounding score:", f"{sample.trajectory.grounded.score:.2f}"), ("IoU with the grounder:", sample.overlaps),
        ("video:", captioned.video), ("from:", captioned.url),
    ]  # fmt: skip
    return {
        "name": sample.name, "words": sample.words, "outcome": sample.outcome,
        "reason": sample.reason, "lines": [line for line in lines if line[1]],
        "image": "" if picture is None else f"data:image/gif;base64,{base64.b64encode(picture).decode('ascii')}",
    }  # fmt: skip


def _seconds(results: Iterator[VideoResult]) -> list[tuple[str, float, float]]:
    """Of each stage its name, and seconds of the processor and on the clock over all videos."""
    cpu: dict[str, float] = {}
    wall: dict[str, float] = {}
    for result in results:
        for stage, spent in result.cpu_s.items():
            cpu[stage] = cpu.get(stage, 0.0) + spent
            wall[stage] = wall.get(stage, 0.0) + result.wall_s.get(stage, 0.0)
    return [(stage, cpu[stage], wall[stage]) for stage in cpu]


@cache
def _script() -> str:
    return files("elysium.building").joinpath("check.js").read_text(encoding="utf-8").strip()


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
