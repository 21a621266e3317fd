"""The released evaluation's arithmetic: by hand, and against what it wrote (shared/compat)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from elysium.evaluation.published import LABEL, merge_published, parse_published, published_scores


@pytest.fixture(scope="module")
def compat(shared_dir: Path) -> Path:
    if not (shared_dir / "compat" / "pipeline").is_dir():
        pytest.skip(f"no recorded output of the released code in {shared_dir / 'compat'}")
    return shared_dir / "compat"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def record(predict: str, gt: str, size: tuple[int, int] = (100, 100)) -> dict:
    return {"predict": predict, "gt": gt, "image_size": list(size)}


def test_parser_by_the_recorded_vectors(compat):
    vectors = json.loads((compat / "expected.json").read_text(encoding="utf-8"))["parse_eval"]
    assert len(vectors) > 10
    for text, boxes in vectors:
        assert parse_published(text) == boxes, text


@pytest.mark.parametrize("task", ["SOT", "RSOT"])
def test_merging_gives_the_recorded_lines(compat, task):
    merged = merge_published(lines(compat / "pipeline" / f"{task}_infer.jsonl"))
    assert merged == lines(compat / "pipeline" / f"{task}_merged.jsonl")
    assert [list(m) for m in merged] == [list(m) for m in lines(compat / "pipeline" / f"{task}_merged.jsonl")]


@pytest.mark.parametrize("task", ["SOT", "RSOT"])
def test_metrics_are_those_of_the_released_script(compat, task):
    scores = published_scores(lines(compat / "pipeline" / f"{task}_merged.jsonl"))
    want = json.loads((compat / "pipeline" / "metrics.json").read_text())[task]["reference_otb"]
    assert round(scores.auc, 4) == want["auc"]
    assert round(scores.precision, 4) == want["prec"]
    assert round(scores.norm_precision, 4) == want["nprec"]
    assert scores.num_records == 3


def test_the_label_says_that_it_is_not_comparable():
    assert "not comparable" in published_scores([]).label == LABEL
    assert np.isnan(published_scores([]).auc)


def test_the_clamp_makes_wrong_boxes_right():
    """In 1000 x 1000 pixels both boxes begin beyond 100 and are larger than 100: after the clamp they are the same."""
    scores = published_scores([record("[20,20,40,40]", "[60,60,90,90]", (1000, 1000))])
    assert (scores.precision, scores.norm_precision) == (100, 100)
    assert scores.auc == pytest.approx(100 * 20 / 21)


def test_within_100_pixels_nothing_is_clamped_but_zero():
    # 20 of 40 x 40 shared: 800 / 2400 = 1/3, so 7 of 21 thresholds; centres 20 px and half a side apart.
    scores = published_scores([record("[30,10,70,50]", "[10,10,50,50]")])
    assert scores.auc == pytest.approx(100 * 7 / 21)
    assert (scores.precision, scores.norm_precision) == (100, 0)
    # A zero box becomes 1, 1, 1 x 1, beside one of 1, 1, 2 x 2: a quarter, above 0 ... 0.20.
    assert published_scores([record("[0,0,0,0]", "[1,1,3,3]")]).auc == pytest.approx(100 * 5 / 21)


def test_clips_that_are_not_merged_are_averaged_as_they_are():
    good, bad = record("[10,10,50,50]", "[10,10,50,50]"), record("no box", "[60,60,90,90],[60,60,90,90]")
    scores = published_scores([good, bad, record("[1,2,3,4]", "nothing")])
    assert (scores.precision, scores.num_records) == (50, 2)  # frames: 1 of 3


def clip(video: str, number: int, predict: str, gt: str) -> dict:
    return {"id": f"{video}|{number}", "vid": f"{video}|{number}", **record(predict, gt)}


def test_merging_cuts_fills_orders_and_drops_the_overlap():
    one, two = "Frame 1: [1,1,9,9],Frame 2: [2,2,9,9]", "Frame 1: [5,5,9,9],Frame 2: [6,6,9,9]"
    merged = merge_published(
        [clip("v", 10, "", two), clip("w|x", 0, one + "[3,3,9,9]", one), clip("v", 9, two, two), clip("v", 0, one, one)]
    )
    assert [m["id"] for m in merged] == ["v", "w|x"]
    assert merged[0]["predict"] == one + "Frame 3: [6,6,9,9]" + "Frame 4: [0,0,0,0]"
    assert merged[0]["gt"] == one + "Frame 3: [6,6,9,9]" + "Frame 4: [6,6,9,9]"
    assert merged[1]["predict"] == one
