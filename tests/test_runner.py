"""A run of an evaluation: each item once, whatever is killed on the way; what is refused before it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from benchmark_files import boxes, write_benchmark
from elysium.boxes import denormalize
from elysium.cli.main import main
from elysium.evaluation.items import boxes_text, read_items
from elysium.evaluation.predictors import Published, published_clips, question_of, spread
from elysium.evaluation.results import Result, read_results
from elysium.inference.answers import Answer

SRC = str(Path(__file__).resolve().parents[1] / "src")
TESTS = str(Path(__file__).resolve().parent)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def evaluate(annotations: Path, output: Path, *more: object, task: str = "SOT", model: str = "hold") -> int:
    images = annotations.parent / "frames"
    return run("eval", task, "--annotations", annotations, "--images", images, "--model", model, "--output", output,
               "--quiet", *more)  # fmt: skip


def comparable(folder: Path) -> list[dict]:
    """The lines of results.jsonl without the time, which no two runs share."""
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.fixture
def benchmark_file(tmp_path: Path) -> Path:
    return write_benchmark(tmp_path / "data")


def test_hold_holds_the_first_box(benchmark_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert evaluate(benchmark_file, tmp_path / "run") == 0
    lines = comparable(tmp_path / "run")
    assert [line["id"] for line in lines] == ["seq_0", "seq_1", "seq_2", "seq_3"]
    for number, line in enumerate(lines):
        first = denormalize(np.array(boxes(number, 1)), (64, 48))[0]
        assert np.allclose(line["boxes_xyxy"], np.tile(first, (5, 1)))
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    # The square that stands still is perfect; the one that moves by 1 px a frame has IoU (16-d)/(16+d) after d frames.
    assert scores["sequences"]["seq_0"]["auc"] == pytest.approx(100 * 20 / 21)
    ious = np.array([1, 15 / 17, 14 / 18, 13 / 19, 12 / 20])
    by_hand = np.mean([(ious > t / 20).mean() for t in range(21)])
    assert scores["sequences"]["seq_1"]["auc"] == pytest.approx(100 * by_hand)
    assert scores["mean"]["num_frames"] == 20 and scores["convention"] == "plain-sot"
    assert "4 sequences, 20 frames, convention plain-sot, frame 1 counts" in capsys.readouterr().out
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["task"] == "SOT" and facts["model"] == "hold" and len(facts["annotations_sha256"]) == 64
    assert not (tmp_path / "run" / "parts").exists() and not (tmp_path / "run" / "failures.jsonl").exists()


SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
from elysium.evaluation import runner
load = runner.load_predictor
def slow(settings, worker):
    predictor, count = load(settings, worker), 0
    def predict(item):
        nonlocal count
        count += 1
        if count == 3:
            print("third", flush=True)
            time.sleep(60)
        return predictor(item)
    return predict
runner.load_predictor = slow
from elysium.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_killed_and_started_again_gives_the_same(benchmark_file: Path, tmp_path: Path):
    assert evaluate(benchmark_file, tmp_path / "whole") == 0
    command = ["eval", "SOT", "--annotations", str(benchmark_file), "--images", str(benchmark_file.parent / "frames"),
               "--model", "hold", "--output", str(tmp_path / "cut"), "--quiet"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(tests=TESTS), *command], stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SRC},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"third\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    part = tmp_path / "cut" / "parts" / "0.jsonl"
    assert len(part.read_text().splitlines()) == 2 and not (tmp_path / "cut" / "results.jsonl").exists()
    with part.open("a") as file:
        file.write('{"id": "seq_2", "boxes_xyxy": [[1')  # as if killed while it wrote the third
    with pytest.warns(UserWarning, match="cut off in the middle"):
        assert evaluate(benchmark_file, tmp_path / "cut") == 0
    assert comparable(tmp_path / "cut") == comparable(tmp_path / "whole")
    whole, cut = (json.loads((tmp_path / name / "scores.json").read_text()) for name in ("whole", "cut"))
    for scores in (whole, cut):
        del scores["fps"]
        for row in scores["sequences"].values():
            del row["fps"]
    assert whole == cut


def test_killed_in_its_first_line_it_starts_again(benchmark_file: Path, tmp_path: Path):
    assert evaluate(benchmark_file, tmp_path / "whole") == 0
    (tmp_path / "cut" / "parts").mkdir(parents=True)
    (tmp_path / "cut" / "parts" / "0.jsonl").write_text('{"id": "seq_0", "vid": "se')
    with pytest.warns(UserWarning, match="cut off in the middle"):
        assert evaluate(benchmark_file, tmp_path / "cut") == 0
    assert comparable(tmp_path / "cut") == comparable(tmp_path / "whole")


def test_workers_end_with_a_killed_parent(benchmark_file: Path, tmp_path: Path):
    """Else they would go on alone, and whoever starts again would be told to wait for them."""
    script = tmp_path / "slow.py"  # spawned workers import the main module again: its patches reach them
    script.write_text(SLOW.format(tests=TESTS).replace("from elysium.cli.main", "if __name__ != '__main__':\n"
                      "    sys.exit = lambda code: None\nfrom elysium.cli.main").replace(
                      "sys.exit(main(sys.argv[1:]))", "if __name__ == '__main__':\n    sys.exit(main(sys.argv[1:]))"))
    command = ["eval", "SOT", "--annotations", str(benchmark_file), "--images", str(benchmark_file.parent / "frames"),
               "--model", "hold", "--output", str(tmp_path / "cut"), "--quiet", "--workers", "1"]  # fmt: skip
    many = write_benchmark(tmp_path / "many", sequences=8, frames=2)
    command[3], command[5] = str(many), str(many.parent / "frames")
    command[-1] = "2"
    process = subprocess.Popen([sys.executable, str(script), *command], env={**os.environ, "PYTHONPATH": SRC},
                               stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"third\n"  # a worker stays in its third item
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(100):  # until both are gone, and with them their locks
        if evaluate(many, tmp_path / "cut") == 0:
            break
        time.sleep(0.1)
    assert [line["id"] for line in comparable(tmp_path / "cut")] == [f"seq_{i}" for i in range(8)]


def test_all_failed_is_said(benchmark_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for image in (benchmark_file.parent / "frames").glob("*/004.png"):
        image.write_bytes(b"no image")
    assert evaluate(benchmark_file, tmp_path / "run") == 1
    assert "all 4 items failed: see" in capsys.readouterr().err


def test_an_unforeseen_error_fails_one_item(benchmark_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from elysium.evaluation import predictors

    def fail(tracker, frames, box):
        raise RuntimeError("bad_alloc\nmore") if abs(box[0] - 8) < 1e-9 and next(calls) == 1 else KeyError("x")

    calls = iter(range(9))
    monkeypatch.setattr(predictors, "track_boxes", fail)
    assert evaluate(benchmark_file, tmp_path / "run") == 1
    failures = [json.loads(line) for line in (tmp_path / "run" / "failures.jsonl").read_text().splitlines()]
    assert failures[1] == {"id": "seq_1", "error": "RuntimeError: bad_alloc"}
    assert failures[0] == {"id": "seq_0", "error": "KeyError: 'x'"}


def test_changed_annotations_are_noticed(benchmark_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert evaluate(benchmark_file, tmp_path / "run") == 0
    benchmark_file.write_text(benchmark_file.read_text().replace('"made"', '"other"'))
    assert run("score", tmp_path / "run") == 2 and "has changed since" in capsys.readouterr().err
    assert run("score", tmp_path / "run", "--annotations", benchmark_file) == 0
    assert run("report", tmp_path / "run") == 2
    cut = benchmark_file.read_bytes()[:-40]
    benchmark_file.write_bytes(cut)
    assert evaluate(benchmark_file, tmp_path / "new") == 2 and not (tmp_path / "new").exists()


def test_runs_that_are_not_alike_are_not_compared(
    benchmark_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, options in (("a", ()), ("b", ("--no-count-first",)), ("c", ("--max-frames", 2)), ("d", ("--limit", 3))):
        assert evaluate(benchmark_file, tmp_path / name, *options) == 0
    assert run("compare", tmp_path / "a", tmp_path / "b") == 2 and "count_first is True" in capsys.readouterr().err
    assert run("compare", tmp_path / "a", tmp_path / "c") == 2
    assert "different frames of 'seq_0'" in capsys.readouterr().err
    assert run("compare", tmp_path / "a", tmp_path / "d", "--json") == 0
    told = capsys.readouterr()
    value = json.loads(told.out)
    assert value["num_sequences"] == 3 and value["runs"][1]["difference_to_first"]["mean"] == 0.0
    assert "1 sequences for which not all runs have a figure are left out" in told.err


def test_a_track_that_ends_is_filled_up(benchmark_file: Path, tmp_path: Path):
    """The lost policy `stop` ends tracks; what is not there counts as missed."""
    assert evaluate(benchmark_file, tmp_path / "run", "--lost-policy", "stop", "--threads", 1, "--clip-length", 2,
                    model="nano") == 0  # fmt: skip
    assert all(len(result.boxes_xyxy) == 5 for result in read_results(tmp_path / "run"))


def test_what_is_done_is_not_done_again(benchmark_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert evaluate(benchmark_file, tmp_path / "run") == 0
    from elysium.evaluation import runner

    monkeypatch.setattr(runner, "load_predictor", lambda *settings: pytest.fail("nothing is left to do"))
    assert evaluate(benchmark_file, tmp_path / "run") == 0


def test_two_processes_share_the_items(benchmark_file: Path, tmp_path: Path):
    assert evaluate(benchmark_file, tmp_path / "one") == 0
    assert evaluate(benchmark_file, tmp_path / "two", "--workers", 2) == 0
    assert comparable(tmp_path / "two") == comparable(tmp_path / "one")


def test_torchrun_shares_the_items(benchmark_file: Path, tmp_path: Path):
    assert evaluate(benchmark_file, tmp_path / "one") == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29541", "-m",
               "elysium", "eval", "SOT", "--annotations", str(benchmark_file), "--images",
               str(benchmark_file.parent / "frames"), "--model", "hold", "--output", str(tmp_path / "two")]  # fmt: skip
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": SRC}, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert comparable(tmp_path / "two") == comparable(tmp_path / "one")
    assert ended.stdout.count("AUC") == 1  # one process concludes


def test_a_failure_is_listed_and_the_rest_is_done(
    benchmark_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    hidden = benchmark_file.parent / "frames" / "seq_2" / "003.png"
    away = hidden.rename(tmp_path / "away.png")
    assert evaluate(benchmark_file, tmp_path / "run") == 1
    failures = [json.loads(line) for line in (tmp_path / "run" / "failures.jsonl").read_text().splitlines()]
    assert [failure["id"] for failure in failures] == ["seq_2"] and "003.png" in failures[0]["error"]
    told = capsys.readouterr()
    assert "seq_2: " in told.err and "1 items have no result and are not in the figures: seq_2, 1 failed" in told.err
    assert "3 sequences" in told.out
    away.rename(hidden)
    assert evaluate(benchmark_file, tmp_path / "run") == 0
    assert not (tmp_path / "run" / "failures.jsonl").exists() and len(comparable(tmp_path / "run")) == 4


def test_another_run_is_refused(benchmark_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert evaluate(benchmark_file, tmp_path / "run") == 0
    assert evaluate(benchmark_file, tmp_path / "run", "--max-frames", 3) == 2
    told = capsys.readouterr().err
    assert "holds the results of another run: max_frames was None, is 3. Choose another --output." in told


def test_a_model_is_run_as_track_runs_it(benchmark_file: Path, tmp_path: Path):
    from elysium import Elysium

    for task in ("SOT", "RSOT"):
        assert evaluate(benchmark_file, tmp_path / task, "--limit", 1, "--threads", 1, task=task, model="nano") == 0
    model = Elysium.from_pretrained("nano", threads=1)
    paths = sorted((benchmark_file.parent / "frames" / "seq_0").iterdir())
    by_box = model.track(paths, boxes=[[8, 12, 24, 28]]).tracks[0]
    by_words = model.track(paths, "the red square").tracks[0]
    for task, track in (("SOT", by_box), ("RSOT", by_words)):
        (result,) = read_results(tmp_path / task)
        assert np.allclose(result.boxes_xyxy, track.boxes_xyxy, atol=1e-9, equal_nan=True)
        assert np.allclose(result.scores, track.scores, atol=1e-9)
        (line,) = (tmp_path / task / "answers.jsonl").read_text().splitlines()
        answer = json.loads(line)
        assert list(answer) == ["vid", "id", "question", "prompt", "gt", "predict", "image_size"]
        assert answer["id"] == "seq_0|0" and answer["image_size"] == [64, 48]
        assert answer["gt"].startswith("Frame 1: [12,25,38,58], Frame 2: [12,25,38,58]")
        assert answer["predict"].startswith("Frame 1: [") and answer["question"] in answer["prompt"]


@pytest.mark.parametrize("task", ["RSOT", "REC"])
def test_zoom_and_fewer_tokens_reach_the_model(benchmark_file: Path, tmp_path: Path, task: str):
    """Boxes are those of track and ground with the same options; a second look is no answer of its own."""
    from elysium import Elysium

    options = ("--limit", 1, "--threads", 1, "--zoom", "--tokens-per-frame", 20)
    assert evaluate(benchmark_file, tmp_path / "run", *options, task=task, model="nano") == 0
    model = Elysium.from_pretrained("nano", threads=1, tokens_per_frame=20)
    paths = sorted((benchmark_file.parent / "frames" / "seq_0").iterdir())
    (result,) = read_results(tmp_path / "run")
    if task == "RSOT":
        boxes = model.track(paths, "the red square", zoom=True).tracks[0].boxes_xyxy
    else:
        boxes = model.ground(paths[0], "the red square", zoom=True)[0][None]
    assert np.allclose(result.boxes_xyxy, boxes, atol=1e-9, equal_nan=True)
    assert len(result.answers) == 1
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["tokens_per_frame"] == 20 and facts["options"]["zoom"] is True


def test_second_looks_are_no_answers_of_their_own(benchmark_file: Path, monkeypatch: pytest.MonkeyPatch):
    """Every object is small for once, so that each clip is asked about twice."""
    from elysium import Elysium
    from elysium.evaluation.predictors import build_predictor

    monkeypatch.setattr("elysium.inference.zoom.SMALL_BINS", 101.0)
    monkeypatch.setattr("elysium.inference.zoom.NARROWER", 0.1)
    item = read_items(benchmark_file, "RSOT")[0]
    images = benchmark_file.parent / "frames"
    model = Elysium.from_pretrained("nano", threads=1)
    asked: list[int] = []
    run = model.engine.run
    monkeypatch.setattr(model.engine, "run", lambda requests, **options: (asked.append(1), run(requests, **options))[1])
    assert len(build_predictor("RSOT", model, images, zoom=True)(item).answers) == 1
    assert len(asked) == 2
    assert len(build_predictor("REC", model, images, zoom=True)(item).answers) == 1
    assert len(asked) == 4


def test_the_tasks_in_words(tmp_path: Path):
    """REC, REG, Video-REG and VideoQA run over a model and are scored; an item's answer is the pipeline's."""
    from elysium import Elysium

    tracks = write_benchmark(tmp_path / "data", sequences=2, frames=3)
    chat = tmp_path / "data" / "chat.jsonl"
    turns = [{"from": "human", "value": "<video>\nWhat color is the square?"}, {"from": "gpt", "value": "Red."}]
    frames = [f"seq_0/{i:03d}.png" for i in range(3)]
    chat.write_text(json.dumps({"id": 7, "vid": "v", "frames": frames, "vqa": turns}) + "\n")
    options = ("--threads", 1, "--no-java")
    model = Elysium.from_pretrained("nano", threads=1)
    paths = [tmp_path / "data" / "frames" / name for name in frames]
    for task, records in (("REC", tracks), ("REG", tracks), ("Video-REG", tracks), ("VideoQA", chat)):
        assert evaluate(records, tmp_path / task, *options, task=task, model="nano") == 0
        result = next(read_results(tmp_path / task))
        scores = json.loads((tmp_path / task / "scores.json").read_text())
        assert scores["num_items"] == (1 if task == "VideoQA" else 2)
        if task == "REC":
            box, score = model.ground(paths[0], "the red square")
            assert np.allclose(result.boxes_xyxy[0], box, equal_nan=True) and result.scores[0] == score
            assert set(scores) >= {"accuracy", "mean_iou", "per_item"}
        elif task == "VideoQA":
            assert result.text == model.ask(paths, "What color is the square?") and "exact_match" in scores
        else:
            shown = paths if task == "Video-REG" else paths[:1]
            assert result.text == model.describe(shown, [8, 12, 24, 28])
            assert scores["meteor_name"].startswith("METEOR (")


def test_images_of_another_size_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Boxes are in pixels of the record's frame, whatever the images are."""
    annotations = write_benchmark(tmp_path / "data", sequences=2, frame_size=[128, 96])
    assert evaluate(annotations, tmp_path / "run") == 0
    told = capsys.readouterr().err
    assert "seq_0: the images are 64x48, the record says 128x96: boxes were scaled (and 1 more)" in told
    assert np.allclose(next(read_results(tmp_path / "run")).boxes_xyxy[0], [16, 24, 48, 56])


class _Judge(BaseHTTPRequestHandler):
    """Says yes to whatever it is asked."""

    asked: ClassVar[list[dict]] = []

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        reply = {"model": "judge-1", "choices": [{"message": {"content": '{"pred": "yes", "score": 4}'}}]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *args: object) -> None:
        pass


def test_a_judge_is_asked_once_about_each_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_benchmark(tmp_path / "data", sequences=1, frames=2)
    chat = tmp_path / "data" / "chat.jsonl"
    turns = [{"from": "human", "value": "<video>\nWhat color is the square?"}, {"from": "gpt", "value": "red"}]
    frames = ["seq_0/000.png", "seq_0/001.png"]
    chat.write_text("".join(json.dumps({"id": i, "vid": "v", "frames": frames, "vqa": turns}) + "\n" for i in range(2)))
    server = HTTPServer(("127.0.0.1", 0), _Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    judge = ("--judge", f"http://127.0.0.1:{server.server_port}/v1", "--judge-model", "judge", "--threads", 1)
    try:
        for _ in range(2):  # the second time nothing is asked again
            assert evaluate(chat, tmp_path / "run", *judge, task="VideoQA", model="nano") == 0
    finally:
        server.shutdown()
    assert len(_Judge.asked) == 2 and _Judge.asked[0]["model"] == "judge"
    assert "What color is the square?" in _Judge.asked[0]["messages"][1]["content"]
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert (scores["judge_accuracy"], scores["judge_score"], scores["judge_model"]) == (100.0, 4.0, "judge-1")
    kept = [json.loads(line) for line in (tmp_path / "run" / "judged.jsonl").read_text().splitlines()]
    assert [line["id"] for line in kept] == ["0", "1"] and "What color" in kept[0]["verdict"]["prompt"]
    assert "judge accuracy 100.0" in capsys.readouterr().out


class _Replay:
    """An engine that says what a file of answers says, in its order."""

    max_batch, region_marks = 8, False

    def __init__(self, texts: list[str]) -> None:
        self.texts = iter(texts)
        self.prompts: list[str] = []

    def run(self, requests: list, *, free: bool = False) -> list[Answer]:
        assert free and len(requests) == 1
        self.prompts.append(requests[0].prompt)
        return [Answer(next(self.texts), ())]


@pytest.mark.parametrize("task", ["SOT", "RSOT"])
def test_the_published_protocol_asks_what_the_released_code_asks(task: str, shared_dir: Path):
    """Given the released code's own answers, the same questions, prompts and truths come out, to the byte."""
    lines = (shared_dir / "compat" / "pipeline" / f"{task}_infer.jsonl").read_text().splitlines()
    answers = [json.loads(line) for line in lines]

    class Model:
        engine = _Replay([answer["predict"] for answer in answers])

    items = read_items(shared_dir / "compat" / "anno.jsonl", task, text_key="object_class")
    predictor = Published(Model(), shared_dir / "compat" / "frames", task)  # type: ignore[arg-type]
    made = [answer.to_json() for item in items for answer in predictor(item).answers]
    assert made == lines


def published_run(folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, Path, _Replay]:
    """`elysium eval SOT --protocol published` over a sequence of 15 frames, with such answers; code, folder, engine."""
    engine = _Replay(texts)

    class Model:
        pass

    Model.engine = engine  # type: ignore[attr-defined]
    load = "elysium.evaluation.runner.load_predictor"
    annotations = write_benchmark(folder / "data", sequences=1, frames=15)
    monkeypatch.setattr(load, lambda settings, worker=0: Published(Model(), settings.images, "SOT"))  # type: ignore
    code = evaluate(annotations, folder / "run", "--protocol", "published", model="nano")
    return code, folder / "run", engine


def test_a_clip_without_a_box_ends_the_sequence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Where the released code would crash: the failure is listed, answers so far are kept, later frames are missed."""
    code, run_folder, engine = published_run(
        tmp_path, ["Frame 1: [1,2,30,40], Frame 2: [3,4,130,60]", "lost it"], monkeypatch
    )
    assert code == 1 and "[3,4,130,60] in Frame 1" in engine.prompts[1]  # beyond the frame, as it was read
    (failure,) = [json.loads(line) for line in (run_folder / "failures.jsonl").read_text().splitlines()]
    assert failure == {"id": "seq_0", "error": "the answer to clip 2 of 3 has no box for the next: 'lost it'"}
    answers = [json.loads(line) for line in (run_folder / "answers.jsonl").read_text().splitlines()]
    assert [answer["predict"] for answer in answers][1:] == ["lost it"] and answers[1]["id"] == "seq_0|1"
    (result,) = read_results(run_folder)
    assert result.failure == failure["error"] and result.num_frames == 15
    assert np.isfinite(result.boxes_xyxy[:2]).all() and np.isnan(result.boxes_xyxy[2:]).all()
    told = capsys.readouterr()
    assert "1 sequences ended before their end (see failures.jsonl): seq_0" in told.err and "15 frames" in told.out
    assert evaluate(tmp_path / "data" / "anno.jsonl", run_folder, "--protocol", "published", model="nano") == 1
    assert len((run_folder / "failures.jsonl").read_text().splitlines()) == 1  # known from the result, not asked again


def test_a_last_clip_without_a_box_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    texts = ["Frame 1: [1,2,30,40]", "{<12><2><30><40>}", "nothing"]
    code, run_folder, engine = published_run(tmp_path, texts, monkeypatch)
    assert code == 0 and not (run_folder / "failures.jsonl").exists()
    assert "[1200,200,3000,4000] in Frame 1" in engine.prompts[2]  # that form is not divided by 100
    assert engine.prompts[2].count("<image>") == 1  # 15 = 2 * 7 + 1


def test_published_clips_may_end_with_the_overlap_alone():
    assert [list(clip) for clip in published_clips(8)] == [list(range(8)), [7]]
    assert [len(clip) for clip in published_clips(17)] == [8, 8, 3] and [list(c) for c in published_clips(1)] == [[0]]


def test_small_helpers(benchmark_file: Path):
    paths = [Path(str(i)) for i in range(10)]
    assert [p.name for p in spread(paths, 4)] == ["0", "3", "6", "9"] and spread(paths[:2], 8) == paths[:2]
    assert question_of("A chat. USER: x") == "A chat. USER: x"
    (item,) = read_items(benchmark_file, "SOT", limit=1)
    assert boxes_text(item.record, (0, 1)) == "Frame 1: [12,25,38,58], Frame 2: [12,25,38,58]"


def test_a_result_comes_back_from_its_line():
    result = Result("a", "v", np.array([[1.5, 2, 3, 4], [np.nan] * 4]), np.array([0.5, np.nan]), None, 1.0, 2)
    again = Result.from_value(json.loads(result.to_json()))
    assert again.to_json() == result.to_json() and np.isnan(again.boxes_xyxy[1]).all() and again.scores[0] == 0.5
    with pytest.raises(ValueError, match="neither boxes_xyxy nor text"):
        Result.from_value({"id": "a"})
