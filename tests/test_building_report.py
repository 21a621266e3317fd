"""The page about a data set, and what a human check says."""

from __future__ import annotations

import csv
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from building_world import overrides, world
from elysium.building.captions import CaptionedVideo
from elysium.building.checking import COLUMNS, Row, judge, read_sheet, wilson, write_sheet
from elysium.building.measures import MEASURES, histogram, measured
from elysium.building.report import write_report
from elysium.building.results import Loss, VideoResult
from elysium.building.samples import Reservoir, Sample, draw, samples_of
from elysium.building.stages import Dropped, Grounded, Phrase, Trajectory
from elysium.building.store import Store
from elysium.cli.main import main
from elysium.errors import InputError, SourceError

TRAJECTORY = Trajectory(Grounded(Phrase("dog", "dog", "a dog"), np.zeros(4), 0.9), np.zeros((2, 4)), None)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos: four things are kept, two dropped (of v1 nobody is sure), and v9 fails."""
    folder = tmp_path_factory.mktemp("built")
    world(folder, 4)
    (folder / "videos" / "v9.mp4").write_bytes(b"no video")
    with (folder / "captions.jsonl").open("a") as file:
        file.write('{"video": "v9.mp4", "caption": "a red square <script>"}\n')
    command = ["build", str(folder / "captions.jsonl"), "--videos", str(folder / "videos")]
    main([*command, "--output", str(folder / "out"), "--workers", "0", "--quiet", *overrides(unsure_of="v1")])
    return folder


def test_the_page_shows_the_funnel_and_samples_with_reasons_and_loads_nothing(built: Path, tmp_path: Path) -> None:
    written, verdicts = write_report(built / "out", tmp_path)
    assert [path.name for path in written] == ["report.html", "check.csv"] and verdicts is None
    page = written[0].read_text()
    assert "2 not-found" in page and "1 failed" in page
    kept = re.findall(r'data-sample="([^"]+)" data-outcome="kept"', page)
    dropped = re.findall(r'data-sample="([^"]+)" data-outcome="dropped" data-reason="confidence"', page)
    assert kept == ["v0-0", "v2-0", "v3-0", "v3-1"] and len(dropped) == 2
    assert page.count("data:image/gif;base64,") == 6
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script>" in page and page.count("<script>") == 1  # that of a caption is escaped
    with (tmp_path / "check.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and [row["sample"] for row in rows] == kept + dropped


def test_the_same_seed_draws_the_same_samples(built: Path) -> None:
    results = [Store(built / "out").load(f"v{number}") for number in range(4)]

    def names(seed: int) -> tuple[str, ...]:
        return tuple(sample.name for samples in draw(results, 2, seed) for sample in samples)

    assert names(3) == names(3) and len({names(seed) for seed in range(6)}) > 1


def test_verdicts_become_a_precision(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_report(built / "out", tmp_path)
    rows = read_sheet(tmp_path / "check.csv")
    said = [replace(row, verdict=verdict) for row, verdict in zip(rows, ["keep"] * 3 + ["drop"] * 3, strict=True)]
    write_sheet(tmp_path / "done.csv", said)
    command = ["build-report", str(built / "out"), "--output", str(tmp_path), "--checked", str(tmp_path / "done.csv")]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "precision: 75.0 % (30.1 to 95.4 %, 3 of 4)" in told
    assert "dropped, though right: 0.0 % (0.0 to 65.8 %, 0 of 2)" in told
    assert "Wilson" in (tmp_path / "report.html").read_text()


def test_without_frames_there_is_no_picture_and_a_page_all_the_same(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built / "out", tmp_path / "out", ignore=shutil.ignore_patterns("frames"))
    page = write_report(tmp_path / "out", tmp_path)[0][0].read_text()
    assert "no picture: its frames are not there" in page


def test_wilsons_interval() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(81, 263)  # Newcombe 1998, table I, method 3
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = wilson(0, 20)
    assert low == 0 and round(high, 4) == 0.1611
    assert wilson(20, 20)[1] == 1.0


def test_sheets_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    head = ",".join(COLUMNS) + "\n"
    for text, told in (
        ("a,b\n", "has not the columns"),
        (head + "a-0,kept,,a dog,maybe\n", "line 2: outcome 'kept', verdict 'maybe'"),
        (head + "a-0,lost,,a dog,keep\n", "outcome 'lost'"),
    ):
        (tmp_path / "sheet.csv").write_text(text)
        with pytest.raises(InputError, match=told):
            read_sheet(tmp_path / "sheet.csv")
    with pytest.raises(SourceError, match="Cannot read the sheet"):
        read_sheet(tmp_path / "none.csv")
    row = Row("a-0", "kept", "", "a dog", "keep")
    for rows in ([Row("b-0", "kept", "", "a dog", "keep")], [row, row]):
        with pytest.raises(InputError, match="which this data set has not, or twice"):
            judge(rows, [("a-0", "kept")])
    with pytest.raises(InputError, match="'a-0' as kept, but it was dropped"):
        judge([row], [("a-0", "dropped")])
    (tmp_path / "sheet.csv").write_text(head + "a-0,kept,," + "x" * 140_000 + ",keep\n")
    with pytest.raises(SourceError, match="field larger than field limit"):
        read_sheet(tmp_path / "sheet.csv")


def test_no_table_computes_a_cell_of_the_sheet(tmp_path: Path) -> None:
    rows = [Row(f"{sign}a-0", "kept", "", f"{sign}1+1", "keep") for sign in ("=", "+", "-", "@", "'")]
    write_sheet(tmp_path / "sheet.csv", rows)
    with (tmp_path / "sheet.csv").open(newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]
    assert read_sheet(tmp_path / "sheet.csv") == rows


def test_names_of_samples_are_their_own_whatever_ids_are() -> None:
    lost = Loss("filters", Dropped("dog", "drift"), TRAJECTORY, ("drift",))
    one = VideoResult(CaptionedVideo(video="a.mp4", caption="x", id="a"), losses=[lost])
    other = VideoResult(CaptionedVideo(video="a.mp4", caption="x", id="a-0-dropped"), kept=[TRAJECTORY])
    third = VideoResult(CaptionedVideo(video="a.mp4", caption="x", id="a-dropped"), kept=[TRAJECTORY])
    names = [sample.name for result in (one, other, third) for sample in samples_of(result)]
    assert names == ["a-0-dropped", "a-0-dropped-0", "a-dropped-0"]


def test_what_was_dropped_though_right_is_told() -> None:
    rows = [Row(f"a-{n}", "dropped", "drift", "x", verdict) for n, verdict in enumerate(["keep", "drop", "drop", ""])]
    verdicts = judge(rows, [(row.sample, "dropped") for row in rows])
    assert (verdicts.missed.hits, verdicts.missed.number, verdicts.unsure) == (1, 3, 1)
    assert math.isnan(verdicts.precision.value) and str(verdicts.precision) == "nothing was judged"


def test_measures_are_those_of_the_boxes() -> None:
    boxes = np.array([[0, 0, 20, 20], [10, 0, 30, 20], [np.nan] * 4, [40, 30, 60, 50]], dtype=np.float64)
    grounded = Grounded(Phrase("dog", "dog", "a dog"), boxes[0], 0.75)
    values = measured(Trajectory(grounded, boxes, np.array([1.0, 0.5, np.nan, 0.7])), (200, 200))
    assert [measure.name for measure in MEASURES] == [
        "length", "size", "motion", "grounding score", "following score",
    ]  # fmt: skip
    assert values == pytest.approx([3, 10, 2.5, 0.75, 0.6])
    assert math.isnan(measured(Trajectory(grounded, boxes, None), (200, 200))[4])
    counts = histogram([0.0, 0.5, 9.0, float("nan")], MEASURES[3], 1.0)
    assert counts[0] == 1 and counts[8] == 1 and counts[15] == 1 and sum(counts) == 3


def test_every_sample_has_the_same_chance() -> None:
    counts = [0] * 8
    for seed in range(400):
        reservoir = Reservoir(2, seed)
        for number in range(8):
            reservoir.add(Sample(str(number), None, None))  # type: ignore[arg-type]
        for sample in reservoir.held:
            counts[int(sample.name)] += 1
    assert sum(counts) == 800 and min(counts) > 65 and max(counts) < 135


def test_samples_are_drawn_from_both(built: Path) -> None:
    store = Store(built / "out")
    results: list[VideoResult] = [store.load(f"v{number}") for number in range(4)]
    kept, dropped = draw(results, 100, 0)
    assert {sample.reason for sample in kept} == {""} and all(sample.reason for sample in dropped)
    assert len(kept) == sum(len(result.kept) for result in results)


def test_a_folder_that_is_no_output_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build-report", str(tmp_path)]) == 2
    assert "is not the output of a finished `elysium build`" in capsys.readouterr().err
    for text in ("[]", "{}", '{"clips": [{}]}'):
        (tmp_path / "manifest.json").write_text(text)
        assert main(["build-report", str(tmp_path)]) == 2
        assert "is not the output of a finished `elysium build`" in capsys.readouterr().err
