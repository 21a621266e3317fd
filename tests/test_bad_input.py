"""Everything that can be given wrongly: one sentence on stderr, exit code 2, and nothing on disk has changed.

No model is loaded in any of these cases: all of it is told before that.
"""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from elysium.cli import common
from elysium.cli.main import main

EVAL = ["--annotations", "anno.jsonl", "--images", "clip", "--output", "out"]
BAD_INPUT = [
    (["track", "nosuch.mp4", "dog"], "No such file or folder: 'nosuch.mp4'"),
    (["track", "none/*.jpg", "dog"], "none/*.jpg"),
    (["track", "", "dog"], "source is empty"),
    (["track", "notes.txt", "dog"], "notes.txt"),
    (["track", "empty", "dog"], "empty"),
    (["track", "broken", "dog"], "broken"),
    (["track", "clip"], "no box and no expression"),
    (["track", "clip", ""], "expression is empty"),
    (["track", "clip", "--expression", "  "], "expression is empty"),
    (["track", "clip/000.png", "clip/001.png"], "in quotes"),
    (["track", "clip", "--box", "1,2,3"], "3 numbers instead of 4"),
    (["track", "clip", "--box", "1,2,3,4,5"], "5 numbers instead of 4"),
    (["track", "clip", "--box", "1,2,x,4"], "not a number"),
    (["track", "clip", "--box", "1,2,nan,4"], "not finite"),
    (["track", "clip", "--box", "1,2,inf,4"], "not finite"),
    (["track", "clip", "--box", "10,10,10,20"], "no width or no height"),
    (["track", "clip", "--box", "20,10,10,20"], "wrong way round"),
    (["track", "clip", "--box", "100,100,200,200"], "wholly outside"),
    (["track", "clip", "--box", "-20,-20,-10,-10"], "wholly outside"),
    (["track", "clip", "--box", "1,1,2,2", "--box-format", "polar"], "polar"),
    (["track", "clip", "dog", "--stride", "0"], "stride is 0"),
    (["track", "clip", "dog", "--stride", "two"], "--stride"),
    (["track", "clip", "dog", "--max-frames", "-1"], "max-frames is -1"),
    (["track", "clip", "dog", "--max-frames", "0"], "max-frames is 0"),
    (["track", "clip", "dog", "--start", "2", "--end", "1"], "not after start"),
    (["track", "clip", "dog", "--end", "nan"], "end is nan"),
    (["track", "clip", "dog", "--clip-length", "1"], "--clip-length 1"),
    (["track", "clip", "dog", "--search-window", "-2"], "--search-window"),
    (["track", "clip", "dog", "--threads", "0"], "--threads 0"),
    (["track", "clip", "dog", "--tokens-per-frame", "0"], "--tokens-per-frame 0"),
    (["track", "clip", "dog", "--device", "toaster"], "toaster"),
    (["track", "clip", "dog", "--device", "cuda:99"], "cuda:99"),
    (["track", "clip", "dog", "--dtype", "int3"], "int3"),
    (["track", "clip", "dog", "--save", "avi"], "avi"),
    (["track", "clip", "dog", "--save", "none,json"], "none and something else"),
    (["track", "clip", "dog", "--save", "none", "--output", "out"], "writes nothing"),
    (["track", "clip", "dog", "--output", "out.avi"], "neither a folder nor"),
    (["track", "clip", "dog", "--output", "notes.txt/out"], "is a file"),
    (["track", "clip", "dog", "--output", "/proc/nowhere/out"], "/proc/nowhere/out"),
    (["track", "clip", "dog", "--no-such-option"], "--no-such-option"),
    (["track"], "Missing argument"),
    (["fly"], "No such command"),
    (["describe", "clip"], "no box"),
    (["describe", "clip", "--box", "1,2,3"], "3 numbers"),
    (["describe", "clip", "--box", "1,2,3,4", "--max-frames", "0"], "max-frames is 0"),
    (["train", "none.yaml"], "none.yaml"),
    (["demo", "--output", "notes.txt/out"], "is a file"),
    (["ground", "nosuch.png", "dog"], "No such file or folder: 'nosuch.png'"),
    (["ground", "clip/000.png"], "no expression"),
    (["ground", "clip/000.png", " "], "expression is empty"),
    (["ground", "clip/000.png", "dog", "--output", "a.txt"], "neither a folder nor an image"),
    (["ground", "clip/000.png", "dog", "--output", "clip/000.png"], "write over the source"),
    (["ground", "clip/000.png", "dog", "--output", "notes.txt/a.png"], "is a file"),
    (["ground", "notes.txt", "dog"], "notes.txt"),
    (["ground", "clip/000.png", "dog", "--threads", "0"], "--threads 0"),
    (["ground", "clip/000.png", "dog", "--tokens-per-frame", "-1"], "--tokens-per-frame -1"),
    (["ask", "clip"], "Missing argument"),
    (["ask", "clip", "  "], "question is empty"),
    (["ask", "clip", "what?", "--frames", "0"], "--frames 0"),
    (["ask", "clip", "what?", "--start", "2", "--end", "1"], "not after start"),
    (["ask", "nosuch.mp4", "what?"], "nosuch.mp4"),
    (["ask", "clip", "what?", "--device", "toaster"], "toaster"),
    (["stream", "clip"], "no box and no expression"),
    (["stream", "clip", "dog", "--low-latency", "--clip-length", "4"], "both set the clip"),
    (["stream", "clip", "dog", "--clip-length", "1"], "--clip-length 1"),
    (["stream", "clip", "dog", "--output", "a.avi"], "not an .mp4 file"),
    (["stream", "clip", "dog", "--output", "notes.txt/a.mp4"], "is a file"),
    (["stream", "clip", "--box", "1,2,3"], "3 numbers instead of 4"),
    (["stream", "clip", "--box", "100,100,200,200"], "wholly outside"),
    (["stream", "clip", "dog", "--lost-policy", "hope"], "--lost-policy 'hope'"),
    (["stream", "nosuch.mp4", "dog"], "nosuch.mp4"),
    (["track", "clip", "dog", "--lost-policy", "hope"], "--lost-policy 'hope'"),
    (["track", "clip", "dog", "--at", "-1"], "--at -1 is not a time"),
    (["track", "clip", "dog", "--at", "nan"], "--at nan is not a time"),
    (["track", "clip", "dog", "--at", "1", "--at", "2"], "2 times for 1 objects"),
    (["track-many", "nosuch.jsonl", "--output", "out"], "Cannot read the manifest 'nosuch.jsonl'"),
    (["track-many", "notes.txt", "--output", "out"], "neither .jsonl nor .csv"),
    (["track-many", "empty.jsonl", "--output", "out"], "lists nothing"),
    (["track-many", "bad.jsonl", "--output", "out"], "line 1: not JSON"),
    (["track-many", "bad.jsonl", "--output", "out"], "line 3: there is nothing to follow"),
    (["track-many", "bad.jsonl", "--output", "out"], "line 4: colour: Extra inputs"),
    (["track-many", "bad.jsonl", "--output", "out"], "line 5: stride"),
    (["track-many", "twice.jsonl", "--output", "out"], "two items have the id 'a'"),
    (["track-many", "bad.csv", "--output", "out"], "line 2: boxes.0"),
    (["track-many", "good.jsonl"], "Missing option '--output'"),
    (["track-many", "good.jsonl", "--output", "notes.txt/x"], "is a file"),
    (["track-many", "good.jsonl", "--output", "out", "--save", "none"], "--save none"),
    (["track-many", "good.jsonl", "--output", "out", "--clip-length", "0"], "--clip-length 0"),
    (["track", "empty.mp4", "dog"], "empty.mp4"),
    (["track", "text.mp4", "dog"], "text.mp4"),
    (["track", "sound.wav", "dog"], "sound.wav"),
    (["track", "gone.mp4", "dog"], "is a link to 'nowhere.mp4'"),
    (["track", "sizes", "dog"], "sizes"),
    (["track", "ftp://example.org/a.mp4", "dog"], "ftp"),
    (["track", "77", "dog"], "77"),
    (["track", "clip", "dog", "--save", "coco", "--output", "a.xml"], "neither a folder nor"),
    (["ground", "sound.wav", "dog"], "sound.wav"),
    (["ground", "empty.png", "dog"], "empty.png"),
    (["ask", "sizes", "what?"], "sizes"),
    (["models", "--nouns", "nosuch"], "'nosuch'"),
    (["train", "good.jsonl"], "good.jsonl"),
    (["eval", "FLY", *EVAL], "no task 'FLY'. Use one of SOT, RSOT"),
    (["eval", "SOT", "--output", "out"], "--annotations"),
    (["eval", "SOT", "--annotations", "nosuch.jsonl", "--output", "out"], "nosuch.jsonl"),
    (["eval", "SOT", "--annotations", "empty.jsonl", "--output", "out"], "'empty.jsonl' is empty"),
    (["eval", "SOT", "--annotations", "notes.txt", "--output", "out"], "notes.txt"),
    (["eval", "SOT", "--annotations", "empty", "--output", "out"], "holds no sequence"),
    (["eval", "SOT", "--annotations", "percent.jsonl", "--images", "clip", "--output", "out"], "look like per cent"),
    (["eval", "SOT", "--annotations", "twin.jsonl", "--images", "clip", "--output", "out"], "the id 'a' occurs twice"),
    (["eval", "SOT", "--annotations", "short.jsonl", "--images", "clip", "--output", "out"], "1 boxes for 2 frames"),
    (["eval", "SOT", *EVAL, "--images", "empty"], "holds none of the frames of the annotations (for exam"),
    (["eval", "SOT", *EVAL, "--images", "nosuch"], "no folder of images 'nosuch'"),
    (["eval", "SOT", *EVAL, "--model", "nosuch"], "no model 'nosuch'"),
    (["eval", "RSOT", *EVAL, "--model", "hold"], "baseline 'hold' cannot be run for RSOT"),
    (["eval", "SOT", *EVAL, "--model", "hold", "--protocol", "published"], "'hold' cannot be run in the published way"),
    (["eval", "SOT", *EVAL, "--model", "nanotrack"], "nanotrack:PATH"),
    (["eval", "SOT", *EVAL, "--model", "nanotrack:empty"], "nanotrack:PATH"),
    (["eval", "SOT", *EVAL, "--protocol", "mine"], "--protocol 'mine' does not exist"),
    (["eval", "REC", *EVAL, "--protocol", "published"], "no published protocol for REC"),
    (["eval", "RSOT", *EVAL, "--text-key", "colour"], "no words under 'colour'"),
    (["eval", "VideoQA", *EVAL], "has no vqa"),
    (["eval", "SOT", *EVAL, "--workers", "0"], "--workers 0"),
    (["eval", "SOT", *EVAL, "--limit", "0"], "--limit 0"),
    (["eval", "SOT", *EVAL, "--max-frames", "-1"], "--max-frames -1"),
    (["eval", "SOT", *EVAL, "--convention", "mine"], "no convention 'mine'"),
    (["eval", "SOT", *EVAL, "--search-window", "wide"], "--search-window 'wide' is not a size"),
    (["eval", "SOT", *EVAL, "--threads", "0"], "--threads 0"),
    (["eval", "SOT", *EVAL, "--tokens-per-frame", "0"], "--tokens-per-frame 0"),
    (["eval", "SOT", *EVAL, "--tokens-per-frame", "197"], "its vision tower gives 196. Give 1 to 196"),
    (["eval", "SOT", *EVAL, "--model", "hold", "--tokens-per-frame", "9"], "'hold' has no visual tokens"),
    (["eval", "SOT", *EVAL, "--model", "hold", "--zoom"], "--zoom are for models"),
    (["eval", "RSOT", *EVAL, "--protocol", "published", "--zoom"], "--zoom are for models"),
    (["eval", "VideoQA", *EVAL, "--zoom"], "--zoom are for models"),
    (["eval", "REC", *EVAL, "--fine"], "--zoom are for models"),
    (["eval", "SOT", *EVAL, "--judge", "http://localhost:1"], "--judge judges answers to questions, not SOT"),
    (["eval", "VideoQA", *EVAL, "--judge", "http://localhost:1"], "--judge needs --judge-model"),
    (["eval", "SOT", *EVAL[:-1], "notes.txt/out"], "notes.txt"),
    (["score", "nosuch", "--annotations", "anno.jsonl"], "no results 'nosuch'"),
    (["score", "empty", "--annotations", "anno.jsonl"], "holds no results"),
    (["score", "notes.txt", "--annotations", "anno.jsonl"], "is not JSON lines"),
    (["score", "notes.txt"], "is not JSON lines"),
    (["score", "clip"], "holds no results"),
    (["score", "boxes", "--annotations", "anno.jsonl", "--format", "mine"], "no format 'mine'"),
    (["score", "boxes", "--annotations", "anno.jsonl", "--box-format", "polar"], "no box format 'polar'"),
    (["score", "boxes", "--annotations", "anno.jsonl", "--origin", "2"], "--origin 2 does not exist"),
    (["score", "boxes", "--annotations", "anno.jsonl", "--export", "lasot"], "--export 'lasot' makes no sense"),
    (["score", "boxes", "--annotations", "anno.jsonl", "--export", "mine=out"], "--export 'mine=out' makes no sense"),
    (["score", "boxes", "--annotations", "anno.jsonl", "--task", "REC"], "scored as SOT or RSOT, not REC"),
    (["score", "boxes", "--annotations", "anno.jsonl"], "'a' has 1 boxes for 2 frames"),
    (["score", "boxes"], "is not a run's folder. Name the truth with --annotations"),
    (["score", "strangers", "--annotations", "anno.jsonl"], "no lasot file for any sequence"),
    (["compare", "empty"], "One run cannot be compared"),
    (["compare", "empty", "clip"], "'empty' has no scores.json. Run `elysium score empty` first"),
    (["report", "nosuch"], "no folder 'nosuch'"),
    (["report", "empty"], "not the folder of a run: it has no run.json"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ten images in `clip/`, and all kinds of broken things."""
    monkeypatch.chdir(tmp_path)
    for name in ("clip", "empty", "broken", "sizes"):
        (tmp_path / name).mkdir()
    for number in range(10):
        Image.fromarray(np.full((48, 64, 3), 20 * number, np.uint8)).save(tmp_path / "clip" / f"{number:03}.png")
    for side in (8, 9):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(tmp_path / "sizes" / f"{side}.png")
    for folder, name in (("boxes", "a"), ("strangers", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.txt").write_text("1,2,3,4\n")
    (tmp_path / "broken" / "0.jpg").write_bytes(b"no image")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "gone.mp4").symlink_to("nowhere.mp4")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(4000))
    return tmp_path


RECORD = (
    '{"source": "", "id": "a", "vid": "a", "metadata": {}, "frames": ["000.png", "001.png"], "object_class": "dog", '
    '"box": [[0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.5]], "object_description": "a dog", "frame_size": [64, 48]}\n'
)
DOG = '{"source": "clip", "expression": "dog"}\n'
FILES = {
    "notes.txt": "no video", "empty.mp4": "", "empty.png": "", "text.mp4": "no video", "empty.jsonl": "\n\n",
    "good.jsonl": DOG, "twice.jsonl": '{"id": "a", "source": "clip", "expression": "dog"}\n' * 2,
    "anno.jsonl": RECORD, "twin.jsonl": RECORD * 2, "percent.jsonl": RECORD.replace("0.1", "10").replace("0.5", "50"),
    "short.jsonl": RECORD.replace('"box": [[0.1, 0.1, 0.5, 0.5], ', '"box": ['),
    "bad.csv": 'source,box\nclip,"1,2,3"\n',
    "bad.jsonl": (
        '{"source"\n' + DOG + '{"source": "clip"}\n{"source": "clip", "expression": "dog", "colour": "red"}\n'
        '{"source": "clip", "expression": "dog", "stride": 0}\n'
    ),
}  # fmt: skip


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    ("arguments", "fragment"), BAD_INPUT, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    arguments: list[str], fragment: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the model was loaded before the arguments were checked")

    monkeypatch.setattr(common, "load_model", refuse)
    before = everything(here)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert fragment in said.err
    assert everything(here) == before


def test_the_table_is_long_enough() -> None:
    assert len({" ".join(arguments) for arguments, _ in BAD_INPUT}) >= 130
