"""Figures of results: hand-computed cases, units that are recognised, files of other programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmark_files import boxes, write_benchmark
from elysium.cli.main import main
from elysium.errors import InputError, SourceError
from elysium.evaluation.figures import compute_figures
from elysium.evaluation.imports import boxes_of, from_answers, guess_format, import_results, published_of, to_pixels
from elysium.evaluation.items import read_items
from elysium.evaluation.results import Result
from elysium.evaluation.scoring import Truth, attributes, check_units, convention_for, score_tracking

PERFECT = 100 * 20 / 21


def truth(id: str = "a", rows: list | None = None, groups: tuple[str, ...] = ()) -> Truth:
    rows = [[10, 10, 50, 50]] * 4 if rows is None else rows
    return Truth(id, np.array(rows, dtype=np.float64), (640, 480), groups)


def result(rows: list, id: str = "a", **more) -> Result:
    return Result(id, boxes_xyxy=np.array(rows, dtype=np.float64).reshape(-1, 4), **more)


NAN = [np.nan] * 4
BOX = [10, 10, 50, 50]


@pytest.mark.parametrize(
    ("predicted", "true", "convention", "auc", "frames"),
    [
        ([BOX] * 4, [BOX] * 4, "plain-sot", PERFECT, 4),
        ([BOX, NAN, NAN, NAN], [BOX] * 4, "plain-sot", PERFECT / 4, 4),  # lost: only the first, which counts as truth
        ([NAN] * 4, [BOX] * 4, "plain-sot", PERFECT / 4, 4),
        ([NAN] * 4, [BOX] * 4, "plain", 0.0, 4),
        ([BOX] * 4, [BOX, NAN, NAN, BOX], "plain-sot", PERFECT, 2),  # absent: not counted, whatever is claimed
        ([BOX] * 4, [BOX, NAN, NAN, BOX], "lasot", PERFECT / 2, 4),  # the toolkit's divisor is the whole sequence
        ([BOX, NAN, BOX, BOX], [BOX] * 4, "pytracking", PERFECT, 4),  # a broken box repeats the one before
        ([BOX, [5, 5, 5, 9], BOX, BOX], [BOX] * 4, "plain-sot", PERFECT * 3 / 4, 4),  # no width: a miss
        ([BOX, BOX], [BOX] * 4, "pytracking", PERFECT / 2, 4),  # too few: filled up with nothing
    ],
)
def test_by_hand(predicted: list, true: list, convention: str, auc: float, frames: int):
    summary = score_tracking([result(predicted)], {"a": truth(rows=true)}, convention_for("SOT", convention))
    assert summary.mean.auc == pytest.approx(auc) and summary.mean.num_frames == frames


def test_too_few_boxes_are_told():
    with pytest.raises(InputError, match=r"'a' has 2 boxes for 4 frames.*--convention pytracking"):
        score_tracking([result([BOX] * 2)], {"a": truth()}, convention_for("SOT"))


def test_the_first_frame_is_the_truth_in_sot_and_never_in_rsot():
    rows = [NAN, BOX, BOX, BOX]
    by_task = {
        (task, name): score_tracking([result(rows)], {"a": truth()}, convention_for(task, name)).mean.auc
        for task in ("SOT", "RSOT") for name in (None, "pytracking")
    }  # fmt: skip
    assert by_task["SOT", None] == by_task["SOT", "pytracking"] == pytest.approx(PERFECT)
    assert by_task["RSOT", None] == by_task["RSOT", "pytracking"] == pytest.approx(PERFECT * 3 / 4)
    left_out = score_tracking([result(rows)], {"a": truth()}, convention_for("SOT"), count_first=False).mean
    assert left_out.auc == pytest.approx(PERFECT) and left_out.num_frames == 3
    with pytest.raises(InputError, match="no convention 'x'"):
        convention_for("SOT", "x")


def test_means_missing_groups_and_speed():
    truths = {"a": truth("a", groups=("fast", "size: medium")), "b": truth("b", groups=("fast",)), "c": truth("c")}
    results = [
        result([BOX] * 4, "a", seconds=2.0, num_frames=4),
        result([BOX, NAN, NAN, NAN], "b", seconds=2.0, num_frames=4),
    ]
    summary = score_tracking(results, truths, convention_for("SOT"))
    assert summary.missing == ("c",) and summary.mean.auc == pytest.approx(PERFECT * 5 / 8)
    assert summary.groups["fast"].num_sequences == 2
    assert summary.groups["size: medium"].scores.auc == summary.sequences[0].scores.auc
    assert summary.fps == 2.0 and [one.fps for one in summary.sequences] == [2.0, 2.0]
    assert summary.got10k.num_frames == 6 and summary.got10k.ao == pytest.approx(50.0)  # frame 1 left out, pooled
    value = summary.to_json()
    assert value["score_auroc"] is None and json.dumps(value, allow_nan=False)


def test_the_scores_of_frames_are_judged_without_the_first():
    scores = np.array([1.0, 0.9, 0.2, 0.8])
    found = result([BOX, BOX, [100, 100, 120, 120], BOX], scores=scores)
    summary = score_tracking([found], {"a": truth()}, convention_for("SOT"))
    assert summary.auroc == 1.0 and summary.reliability is not None and summary.reliability.counts.sum() == 3
    beyond = result([BOX] * 4, scores=np.array([1.0, 7.0, -2.0, 3.0]))  # a tracker's own scale
    assert score_tracking([beyond], {"a": truth()}, convention_for("SOT")).reliability is None


def test_results_of_something_else_are_refused():
    with pytest.raises(InputError, match=r"result for 'z'.*annotations know nothing \(they have 'a'"):
        score_tracking([result([BOX] * 4, "z")], {"a": truth()}, convention_for("SOT"))
    with pytest.raises(InputError, match="no boxes but words"):
        score_tracking([Result("a", text="a dog")], {"a": truth()}, convention_for("SOT"))


@pytest.mark.parametrize(("scale", "name"), [(100, "per cent"), (1, "0..1")])
def test_boxes_in_another_unit_are_recognised(scale: float, name: str):
    rows = np.array([[300, 200, 400, 300]] * 4, dtype=np.float64)
    pairs = [(result(rows / (640, 480, 640, 480) * scale), truth(rows=rows.tolist()))]
    with pytest.raises(InputError, match=rf"look like {name} of the frame, not pixels \(1 of 1 sequences\)"):
        check_units(pairs)
    check_units([(result(rows), truth(rows=rows.tolist()))])
    corner = [[5, 5, 60, 70]] * 4
    check_units([(result(corner), truth(rows=corner))])  # a thing in the corner of its frame is no mistake


def test_attributes_of_a_record():
    from elysium.data.records import Record

    base = {"id": "a", "frames": ["x"], "box": [[0, 0, 1, 1]], "frame_size": [10, 10]}
    assert attributes(Record(**base, metadata={"attributes": ["fast", "dark"]})) == ("fast", "dark")
    assert attributes(Record(**base, metadata={"attributes": {"fast": 1, "dark": 0}})) == ("fast",)
    assert attributes(Record(**base, metadata={})) == () == attributes(Record(**base))
    with pytest.raises(InputError, match="no boxes"):
        Truth.from_record(Record(id="a", frames=["x"]))


@pytest.mark.parametrize("format", ["lasot", "otb", "trackingnet", "got10k", "mot"])
def test_what_is_exported_comes_back(format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    annotations = write_benchmark(tmp_path / "data")
    common = ["--annotations", str(annotations)]
    assert main(["eval", "SOT", *common, "--images", str(tmp_path / "data" / "frames"), "--model", "hold", "--output",
                 str(tmp_path / "run"), "--quiet"]) == 0  # fmt: skip
    first = capsys.readouterr().out.splitlines()[1]
    assert main(["score", str(tmp_path / "run"), "--export", f"{format}={tmp_path / format}"]) == 0
    capsys.readouterr()
    assert main(["score", str(tmp_path / format), *common, "--format", format]) == 0
    assert capsys.readouterr().out.splitlines()[1] == first
    if format in ("lasot", "got10k"):
        assert guess_format(tmp_path / format) == format


def test_text_files_in_other_boxes(tmp_path: Path):
    annotations = write_benchmark(tmp_path / "data", sequences=1)
    items = read_items(annotations, "SOT")
    truths = {"seq_0": Truth.from_record(items[0].record)}
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "seq_0.txt").write_text("\n".join(",".join(str(100 * v) for v in row) for row in boxes(0, 5)))
    (found,) = import_results(tmp_path / "r", truths, box_format="percent")
    assert np.allclose(found.boxes_xyxy, truths["seq_0"].boxes_xyxy)
    assert to_pixels(np.array([[11.0, 21, 5, 6]]), "xywh", (64, 48), 1).tolist() == [[10.0, 20, 15, 26]]
    with pytest.raises(InputError, match="no box format 'x'"):
        to_pixels(np.zeros((1, 4)), "x", (64, 48))
    (tmp_path / "r" / "stranger.txt").write_text("1,2,3,4\n")
    with pytest.raises(InputError, match="results for 'stranger', of which the annotations know nothing"):
        import_results(tmp_path / "r", truths)


@pytest.mark.parametrize("task", ["SOT", "RSOT"])
@pytest.mark.parametrize("kind", ["infer", "merged"])
def test_published_answers_give_the_published_figures(task: str, kind: str, shared_dir: Path):
    """``metrics.json`` has what the published metric script printed, and the standard protocol on the same boxes."""
    folder = shared_dir / "compat" / "pipeline"
    expected = json.loads((folder / "metrics.json").read_text())[task]
    scores = published_of(folder / f"{task}_{kind}.jsonl")
    assert (scores.auc, scores.precision, scores.norm_precision) == pytest.approx(
        tuple(expected["reference_otb"].values()), abs=1e-3
    )
    items = read_items(shared_dir / "compat" / "anno.jsonl", "SOT")
    figures = compute_figures("SOT", items, from_answers(folder / f"{task}_{kind}.jsonl"))
    standard = expected["standard_real_gt_frame1_gt"]
    mean = figures.tracking.mean
    assert (mean.auc, mean.precision, mean.norm_precision) == pytest.approx(
        (standard["auc"], standard["prec20"], standard["nprec20"]), abs=1e-9
    )


def test_boxes_of_an_answer():
    true = "Frame 1: [1,1,2,2], Frame 2: [1,1,2,2], [3,3,4,4]"
    found = boxes_of("Frame 1: [10,10,20,20], Frame 2: [0,0,0,0]", true, (200, 100))
    assert found[0].tolist() == [20.0, 10, 40, 20] and np.isnan(found[1:]).all() and found.shape == (3, 4)


def test_no_box_at_all_is_of_no_unit(tmp_path: Path):
    items = read_items(write_benchmark(tmp_path / "data", sequences=1), "SOT")
    found = Result("seq_0", boxes_xyxy=np.full((5, 4), np.nan))
    figures = compute_figures("SOT", items, [found], convention="plain")
    assert figures.tracking.mean.num_frames == 5 and figures.tracking.mean.auc == 0


def test_guessing_formats(tmp_path: Path):
    with pytest.raises(SourceError, match="no results"):
        guess_format(tmp_path / "nothing")
    with pytest.raises(InputError, match="holds no results"):
        guess_format(tmp_path)
    for text, told in (("", "is empty"), ("hello\n", "is not JSON lines")):
        (tmp_path / "x").write_text(text)
        with pytest.raises(InputError, match=told):
            guess_format(tmp_path / "x")


def test_other_columns_are_no_sequences_and_strangers_are_told(tmp_path: Path):
    annotations = write_benchmark(tmp_path / "data", sequences=1)
    truths = {"seq_0": Truth.from_record(read_items(annotations, "SOT")[0].record)}
    rows = "".join("1,2,3,4\n" for _ in range(5))
    for name in ("seq_0.txt", "seq_0_time.txt", "seq_0_object_presence_scores.txt"):
        (tmp_path / "r").mkdir(exist_ok=True)
        (tmp_path / "r" / name).write_text(rows)
    assert [one.id for one in import_results(tmp_path / "r", truths)] == ["seq_0"]
    for name in ("seq_0", "stranger"):
        (tmp_path / "g" / name).mkdir(parents=True)
        (tmp_path / "g" / name / f"{name}_001.txt").write_text(rows)
    with pytest.raises(InputError, match="results for 'stranger'"):
        import_results(tmp_path / "g", truths)


@pytest.mark.parametrize("format", ["mot", "lasot"])
def test_an_export_stays_in_its_folder(format: str, tmp_path: Path):
    from elysium.cli.score import export_boxes

    rows = [Result(id, boxes_xyxy=np.array([[0.0, 0, 1, 1]])) for id in ("fine", "../x")]
    with pytest.raises(InputError, match=r"'../x' is no name"):
        export_boxes([(format, tmp_path / "out")], rows)
    assert not (tmp_path / "out").exists() and not (tmp_path / "x.txt").exists()


def test_answers_that_miss_frames_have_no_published_figures(tmp_path: Path):
    from elysium.evaluation.raw import RawAnswer

    items = read_items(write_benchmark(tmp_path / "data", sequences=1), "SOT")
    answer = RawAnswer("seq_0|0", "seq_0|0", "", "", "Frame 1: [1,1,2,2]", "Frame 1: [1,1,2,2]", (64, 48))
    found = Result("seq_0", boxes_xyxy=np.full((5, 4), np.nan), answers=(answer,))
    with pytest.raises(InputError, match="asked about 1 of the 5 frames of 'seq_0'"):
        compute_figures("SOT", items, [found], published=True)


def chat(*sides: str) -> str:
    turns = [{"from": side, "value": f"<video>\n{i}"} for i, side in enumerate(sides)]
    return json.dumps({"id": "c", "vid": "v", "frames": ["a.png"], "vqa": turns}) + "\n"


def test_chats_are_read_as_question_and_answer(tmp_path: Path):
    path = tmp_path / "chat.jsonl"
    path.write_text(chat("system", "human", "gpt", "human", "gpt"))
    found = [(item.id, item.words, item.references) for item in read_items(path, "VideoQA")]
    assert found == [("c|0", "1", ("<video>\n2",)), ("c|1", "3", ("<video>\n4",))]
    for sides in (("human", "gpt", "human"), ("gpt", "human"), ("human", "human"), ("system",)):
        path.write_text(chat(*sides))
        with pytest.raises(InputError, match="is not question and answer in turn"):
            read_items(path, "VideoQA")
