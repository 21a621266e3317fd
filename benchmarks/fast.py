"""The fast way to an answer against the reference (transformers' generate, one request, one token at a time).

    python benchmarks/fast.py [--sequences ../shared/data/sequences] [--assets ../shared/data] [--threads 1]
        [--only equal,track,objects,large,bfloat16]

- ``equal``: SOT and RSOT answers about clips made by program, in batches, drafted against undrafted: how many are
  equal, token by token, and the largest difference of scores. ``bfloat16`` does the same with the model in that
  number type.
- ``track``: one object by its box through the first frames of every sequence, both ways in turn, sequence by
  sequence: forwards per frame of answer, seconds, whether the boxes are equal, where the time goes, and peak memory
  (each way in a process of its own, one sequence).
- ``objects``: 16 objects by words in one clip, at once, against the reference one at a time.
- ``large``: decoding alone. A LLaMA of 460 million parameters with random weights writes what nano wrote about the
  sequences, cut into tokens as LLaMA's tokenizer does (digit by digit), behind a prompt of 8 frames of 108 tokens: at
  each choice the token that nano chose is taken, so drafts are accepted and rejected as they were there.

Both ways run in the same minute on the same machine, so their ratios hold where seconds do not. Stored in
results/fast.json; docs/speed.md is written from it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import results
import torch
from pages import fill, table

from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.inference.answers import Answer, Request, Row
from elysium.inference.decoding import Decoder
from elysium.inference.pipelines import Elysium
from elysium.language.dialects import ELYSIUM
from elysium.language.prompts import Task, build_prompt, build_question

DOC = Path(__file__).parents[1] / "docs" / "speed.md"
CASES = ("equal", "bfloat16", "track", "objects", "large")
Figures = dict[str, Any]
FRAMES = 40  # of each sequence
CLIPS = 60
OBJECTS = 16
LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
PROMPT = 8 * 108 + 90  # tokens in front of an answer about a clip: frames, their labels, the question
LARGE_ANSWERS = 3
WAYS = ("drafted", "joined", "reference")


class Counted:
    """A model whose forwards and their seconds are counted, and those of the vision tower, which runs before them."""

    def __init__(self, model: Any) -> None:
        self.model, self.forwards, self.seconds, self.vision_seconds = model, 0, 0.0, 0.0
        self._forward, self._encode = model.forward, model.encode_frames

    def __enter__(self) -> Counted:
        @wraps(self._forward)  # generate looks at its arguments
        def forward(*args: Any, **kwargs: Any) -> Any:
            since = time.process_time()
            output = self._forward(*args, **kwargs)
            self.forwards, self.seconds = self.forwards + 1, self.seconds + time.process_time() - since
            return output

        def encode(*args: Any, **kwargs: Any) -> Any:
            since = time.process_time()
            output = self._encode(*args, **kwargs)
            self.vision_seconds += time.process_time() - since
            return output

        self.model.forward, self.model.encode_frames = forward, encode
        return self

    def __exit__(self, *args: object) -> None:
        del self.model.forward, self.model.encode_frames


# --- are answers equal?


def requests_about(number: int, generator: ClipGenerator) -> list[Request]:
    """SOT of every thing in a clip made by program, and RSOT of those that have words."""
    clip = generator.generate(number)
    frames, count, asked = list(clip.frames), len(clip.frames), []
    for thing in clip.objects:
        if not np.isnan(thing.boxes_xyxyn[0]).any():
            bins = np.round(thing.boxes_xyxyn[0] * 100).astype(int)
            question = build_question(Task.SOT, box_text=ELYSIUM.format_box(bins), region_mark=True)
            region: Any = (0, tuple(float(value) for value in bins / 100))
            asked.append(Request(build_prompt(Task.SOT, count, question), frames, [region], num_boxes=count))
        if thing.expressions:
            prompt = build_prompt(Task.RSOT, count, build_question(Task.RSOT, expression=thing.expressions[0]))
            asked.append(Request(prompt, frames, query=thing.expressions[0], num_boxes=count))
    return asked


def clips(assets: Path | None) -> ClipGenerator:
    kind = SynthConfig(size_px=224, num_frames=8, max_objects=4, patch_share=0.0)
    return ClipGenerator(kind, AssetLibrary.from_folder(assets, "val"), seed=77)


def equal(model: Elysium, assets: Path | None, number: int) -> Figures:
    """Drafted and undrafted answers, compared."""
    fast, plain = Decoder(model.model, model.processor), Decoder(model.model, model.processor, drafts=False)
    generator, pairs = clips(assets), []
    with torch.inference_mode():
        for clip in range(number):
            asked = requests_about(clip, generator)
            pairs += list(zip(fast.decode(asked), plain.decode(asked), strict=True))
    off = [float(np.abs(one.box_scores - other.box_scores).max()) for one, other in pairs if same(one, other)]
    boxes = [one.boxes_bins for one, _ in pairs], [other.boxes_bins for _, other in pairs]
    frames = np.isclose(np.concatenate(boxes[0]), np.concatenate(boxes[1]), equal_nan=True).all(axis=1)
    return {
        "clips": number, "answers": len(pairs), "equal": sum(same(*pair) for pair in pairs),
        "boxes": len(frames), "equal_boxes": int(frames.sum()), "largest_score_difference": max(off),
    }  # fmt: skip


def same(one: Answer, other: Answer) -> bool:
    return one.token_ids == other.token_ids


# --- one object


def sequence(folder: Path) -> tuple[list[str], list[float]]:
    """The first frames of a sequence and its first box, xywh."""
    frames = sorted((folder / "frames").glob("*.jpg"))[:FRAMES]
    box = (folder / "groundtruth.txt").read_text().splitlines()[0].replace("\t", ",").split(",")
    return [str(frame) for frame in frames], [float(value) for value in box]


def track(model: Elysium, folder: Path) -> tuple[Figures, Any]:
    """One object through one sequence."""
    frames, box = sequence(folder)
    with Counted(model.model) as counted:
        answered: list[int] = []
        since = time.process_time()
        result = model.track(frames, boxes=[box], box_format="xywh", on_answer=lambda a: answered.append(len(a.frames)))
        seconds = time.process_time() - since
    return {
        "frames": result.num_frames, "answered": sum(answered), "forwards": counted.forwards, "seconds": seconds,
        "vision": counted.vision_seconds, "model": counted.seconds,
    }, result.tracks[0].boxes_xyxy  # fmt: skip


def tracks(model: Elysium, plain: Elysium, sequences: Path) -> Figures:
    """All sequences, both ways in turn."""
    rows: dict[str, list[Figures]] = {"fast": [], "reference": []}
    equal_boxes = frames = 0
    for folder in sorted(path for path in sequences.iterdir() if path.is_dir()):
        found = {name: track(one, folder) for name, one in (("fast", model), ("reference", plain))}
        for name, (row, _) in found.items():
            rows[name].append(row)
        boxes = [boxes for _, boxes in found.values()]
        equal_boxes += int(np.isclose(*boxes, equal_nan=True).all(axis=1).sum())
        frames += len(boxes[0])
    sums = {name: {key: round(sum(row[key] for row in of), 3) for key in of[0]} for name, of in rows.items()}
    speed = [slow["seconds"] / quick["seconds"] for quick, slow in zip(rows["fast"], rows["reference"], strict=True)]
    return {
        **sums, "sequences": len(speed), "boxes": frames, "equal_boxes": equal_boxes,
        "forwards_per_frame": {name: round(row["forwards"] / row["answered"], 3) for name, row in sums.items()},
        "times_as_fast": spread(speed),
    }  # fmt: skip


def spread(ratios: list[float]) -> Figures:
    low, middle, high = (round(float(value), 2) for value in np.percentile(ratios, [25, 50, 75]))
    return {"median": middle, "quartile_1": low, "quartile_3": high}


def peak(options: argparse.Namespace) -> Figures:
    """Peak memory of a process that tracks one object through one sequence, each way."""
    peaks = {}
    for name in ("fast", "reference"):
        command = [sys.executable, __file__, "--role", name, "--sequences", str(options.sequences)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks[name] = json.loads(out.splitlines()[-1])
    return {**peaks, "ratio": round(peaks["fast"] / peaks["reference"], 3)}


def play(options: argparse.Namespace) -> None:
    model = Elysium.from_pretrained(options.model, threads=1, reference=options.role == "reference")
    track(model, next(path for path in sorted(options.sequences.iterdir()) if path.is_dir()))
    print(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1))


# --- many objects


def objects(model: Elysium, plain: Elysium, assets: Path | None) -> Figures:
    """16 objects by words in one clip, at once and, the plain way, one at a time (four of them, times four)."""
    generator, number = clips(assets), 0
    ratios, equal_tracks = [], 0
    while len(ratios) < 3:
        clip = generator.generate(number)
        number += 1
        words = [text for thing in clip.objects for text in thing.expressions][:OBJECTS]
        words = (words * OBJECTS)[:OBJECTS]
        if not words:
            continue
        since = time.process_time()
        together = model.track(clip.frames, expression=words)
        fast = time.process_time() - since
        since = time.process_time()
        alone = [plain.track(clip.frames, expression=one) for one in words[: OBJECTS // 4]]
        slow = (time.process_time() - since) * 4
        equal_tracks += sum(
            np.allclose(one.boxes_xyxy, other.tracks[0].boxes_xyxy, equal_nan=True)
            for one, other in zip(together.tracks, alone, strict=False)
        )
        ratios.append(slow / fast)
    return {"objects": OBJECTS, "times_as_fast": spread(ratios), "compared": 3 * OBJECTS // 4, "equal": equal_tracks}


# --- a large language model


class Alone:
    """A language model as the decoder wants one."""

    def __init__(self, language_model: Any) -> None:
        self.language_model, self.config = language_model, language_model.config
        self.generation_config = language_model.generation_config
        self.forwards, self.columns = 0, 0

    def parameters(self) -> Iterator[Any]:
        yield from self.language_model.parameters()

    def __call__(self, **inputs: Any) -> Any:
        self.forwards, self.columns = self.forwards + 1, self.columns + inputs["input_ids"].shape[1]
        return self.language_model(**inputs)


class AnyPrompt:
    """A processor that makes the same prompt of everything."""

    dialect = "elysium"

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: list[str], **options: Any) -> Figures:
        ids = torch.arange(3, 3 + PROMPT).repeat(len(text), 1)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@contextmanager
def chosen(ids: list[int]) -> Iterator[None]:
    """Every row writes these tokens, whatever the logits say."""
    original = Row._choose

    def replay(row: Row, logits: np.ndarray) -> int:
        token = ids[len(row.tokens)]
        assert row.state is not None
        row._score(logits, row.state.allowed(), token)
        row.state.advance(token)
        return token

    Row._choose = replay  # type: ignore[method-assign]
    try:
        yield
    finally:
        Row._choose = original  # type: ignore[method-assign]


def large(model: Elysium, sequences: Path) -> Figures:
    """Seconds of decoding the same answers drafted, undrafted, and token by token."""
    from training import like_llama  # this folder's
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = like_llama()
    torch.manual_seed(0)
    config = LlamaConfig(**LARGE, vocab_size=32000, bos_token_id=1, eos_token_id=2, max_position_embeddings=4096)
    language_model = LlamaForCausalLM(config).eval()
    answers = said(model, sequences)
    picked = [answers[i] for i in np.linspace(0, len(answers) - 1, LARGE_ANSWERS).round().astype(int)]
    rows = []
    with torch.inference_mode():
        for request, text in picked:
            ids = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
            rows.append(one_large(language_model, tokenizer, request, ids))
    parameters = sum(parameter.numel() for parameter in language_model.parameters())
    return {
        "parameters": parameters, "answers": len(rows), "prompt_tokens": PROMPT,
        "tokens_per_answer": round(float(np.mean([row["tokens"] for row in rows])), 1),
        "forwards": {way: round(float(np.mean([row["forwards"][way] for row in rows])), 2) for way in WAYS},
        "times_as_fast_as_the_reference": {way: spread(quicker(rows, way, prefill=0)) for way in WAYS[:2]},
        "the_same_without_the_prompt": {way: spread(quicker(rows, way, prefill=1)) for way in WAYS[:2]},
    }  # fmt: skip


def quicker(rows: list[Figures], way: str, prefill: int) -> list[float]:
    """How many times as fast as the reference, ``prefill`` 1: without the time that the prompt takes."""
    times = [(row["seconds"], prefill * row["prefill"]) for row in rows]
    return [(seconds["reference"] - prompt) / (seconds[way] - prompt) for seconds, prompt in times]


def one_large(language_model: Any, tokenizer: Any, request: Request, ids: list[int]) -> Figures:
    seconds, forwards = {}, {}
    for key in WAYS:
        alone = Alone(language_model)
        decoder = Decoder(alone, AnyPrompt(tokenizer), drafts=key == "drafted")
        decoder.grammar  # noqa: B018  (built before the clock runs)
        since = time.process_time()
        if key == "reference":
            forwards[key] = token_by_token(alone, decoder, ids)
        else:
            with chosen(ids):
                (answer,) = decoder.decode([request])
            assert list(answer.token_ids) == ids
            forwards[key] = alone.forwards
        seconds[key] = time.process_time() - since
    since = time.process_time()
    language_model(input_ids=torch.arange(3, 3 + PROMPT)[None], logits_to_keep=1)
    return {"tokens": len(ids), "seconds": seconds, "forwards": forwards, "prefill": time.process_time() - since}


def token_by_token(alone: Alone, decoder: Decoder, ids: list[int]) -> int:
    """What `generate` does: the prompt, then one token a forward, with a cache."""
    inputs = decoder.processor(text=[""])
    output = alone(**inputs, use_cache=True, logits_to_keep=1)
    for token in ids[:-1]:
        output = alone(input_ids=torch.tensor([[token]]), past_key_values=output.past_key_values, use_cache=True)
    return alone.forwards


def said(model: Elysium, sequences: Path) -> list[tuple[Request, str]]:
    """What nano is asked and writes about the sequences."""
    heard: list[tuple[Request, str]] = []
    run = model.engine.run

    def listen(requests: Any, **options: Any) -> list[Answer]:
        answers = run(requests, **options)
        heard.extend((request, answer.text) for request, answer in zip(requests, answers, strict=True))
        return answers

    model.engine.run = listen  # type: ignore[method-assign]
    for folder in sorted(path for path in sequences.iterdir() if path.is_dir()):
        frames, box = sequence(folder)
        model.track(frames[:15], boxes=[box], box_format="xywh")
    del model.engine.run
    return [(request, text) for request, text in heard if request.num_boxes == 8]


# --- all of it


def measure(options: argparse.Namespace) -> Figures:
    """What is asked for."""
    model = Elysium.from_pretrained(options.model, threads=options.threads)
    plain = Elysium.from_pretrained(options.model, threads=options.threads, reference=True)
    figures: Figures = {"threads": options.threads}
    if "equal" in options.only:
        figures["equal"] = equal(model, options.assets, options.clips)
    if "bfloat16" in options.only:
        half = Elysium.from_pretrained(options.model, threads=options.threads, dtype="bfloat16")
        figures["bfloat16"] = equal(half, options.assets, options.clips // 4)
    if "track" in options.only:
        figures["track"] = {**tracks(model, plain, options.sequences), "peak_mib": peak(options)}
    if "objects" in options.only:
        figures["objects"] = objects(model, plain, options.assets)
    if "large" in options.only:
        figures["large"] = large(model, options.sequences)
    return figures


def tables(figures: Figures) -> dict[str, str]:
    """What docs/speed.md says in figures, of what has been measured."""
    track = figures["track"]
    names = {"seconds": "all", "vision": "vision tower", "model": "rest of the model"}
    parts = [[name, *(f"{track[way][key]:.1f}" for way in ("reference", "fast"))] for key, name in names.items()]
    kinds = [
        [kind, f"{figures[key]['answers']}", f"{figures[key]['equal']}",
         f"{figures[key]['equal_boxes']:,} of {figures[key]['boxes']:,}",
         f"{figures[key]['largest_score_difference']:.1g}"]
        for kind, key in (("float32", "equal"), ("bfloat16", "bfloat16")) if key in figures
    ]  # fmt: skip
    return {
        "fast": table(["work", "reference", "fast", "target"], speed_rows(figures)),
        "where": table(["processor seconds", "reference", "fast"], parts),
        "equal": table(["number type", "answers", "equal", "boxes equal", "scores off by at most"], kinds),
    }


def speed_rows(figures: Figures) -> list[list[str]]:
    passes, memory = (figures["track"][key] for key in ("forwards_per_frame", "peak_mib"))
    rows = [
        ["forwards per frame of answer", f"{passes['reference']:.1f}", f"{passes['fast']:.2f}", "at most 3"],
        ["one object, end to end", "1", times(figures["track"]["times_as_fast"]), "3"],
        ["16 objects by words, end to end, per object", "1", times(figures["objects"]["times_as_fast"]), "12"],
        ["peak memory of a process, MiB", f"{memory['reference']:,.0f}", f"{memory['fast']:,.0f}", "at most the same"],
    ]
    if "large" in figures:
        large = figures["large"]
        whole, rest = large["times_as_fast_as_the_reference"], large["the_same_without_the_prompt"]
        rows += [
            ["decoding, 460M parameters, prompt included", "1", times(whole["drafted"]), ""],
            ["decoding, 460M parameters, behind the prompt", "1", times(rest["drafted"]), "4"],
            ["the same without drafts", "1", times(rest["joined"]), ""],
        ]
    return rows


def times(ratio: Figures) -> str:
    return f"**{ratio['median']:.2f}** times as fast ({ratio['quartile_1']:.2f} to {ratio['quartile_3']:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=Path, default=Path("../shared/data/sequences"))
    parser.add_argument("--assets", type=Path, default=None)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(CASES), metavar=",".join(CASES))
    parser.add_argument("--role", choices=["fast", "reference"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        play(options)
        return
    stored = results.RESULTS / "fast.json"
    known = json.loads(stored.read_text()) if stored.is_file() else {}
    results.write("fast", known | measure(options))
    figures = json.loads(stored.read_text())
    print(json.dumps(figures, indent=1))
    if all(case in figures for case in ("equal", "track", "objects")):
        fill(DOC, tables(figures))


if __name__ == "__main__":
    main()
