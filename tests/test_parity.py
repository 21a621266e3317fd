"""An imported checkpoint does what the released code does with it: recorded numbers of shared/compat, both checkpoints.

`expected.json` and `expected.npz` are of the random checkpoint, `pipeline/` of the trained one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sentencepiece import SentencePieceProcessor

from elysium.boxes import quantize
from elysium.cli.main import main
from elysium.inference.answers import Request
from elysium.inference.decoding import Decoder
from elysium.inference.loading import load_pretrained
from elysium.inference.pipelines import Elysium
from elysium.inference.reference import decode_reference
from elysium.language.dialects import ELYSIUM
from elysium.language.prompts import Task, build_prompt, build_question
from elysium.model.legacy import import_checkpoint
from elysium.training.collate import Collator
from elysium.training.samples import Sample
from elysium.video import read_image

IMAGE = -200  # what stands for an image in the recorded ids
RELATIVE = 1e-4
TASKS = {"SOT": Task.SOT, "VideoREC": Task.RSOT, "VideoREG": Task.VIDEO_REG, "REC": Task.REC, "REG": Task.REG}


@pytest.fixture(scope="module")
def compat(shared_dir: Path) -> Path:
    if not (shared_dir / "compat" / "expected.npz").is_file():
        pytest.skip(f"nothing recorded of the released code in {shared_dir / 'compat'}")
    return shared_dir / "compat"


@pytest.fixture(scope="module")
def expected(compat: Path) -> dict[str, Any]:
    return json.loads((compat / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def arrays(compat: Path) -> dict[str, np.ndarray]:
    return dict(np.load(compat / "expected.npz"))


@pytest.fixture(scope="module")
def native(compat: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of both checkpoints after their import."""
    folder = tmp_path_factory.mktemp("native")
    for name in ("checkpoint", "checkpoint_trained"):
        import_checkpoint(str(compat / name), folder / name)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def random_one(native: dict[str, Path]):
    return load_pretrained(str(native["checkpoint"]), torch.float32)


@pytest.fixture(scope="module")
def frames(compat: Path) -> list[np.ndarray]:
    record = json.loads((compat / "anno_8frames.jsonl").read_text().splitlines()[0])
    return [read_image(compat / "frames" / name) for name in record["frames"]]


def collapsed(ids: Any, processor) -> list[int]:
    """Ids with one IMAGE for all tokens of an image; 5 frames that touched would show as one."""
    out: list[int] = []
    run = 0
    for token in [*np.asarray(ids).tolist(), -1]:
        if token == processor.image_token_id:
            run += 1
            continue
        assert run % processor.num_image_tokens == 0
        out += [IMAGE] * (run // processor.num_image_tokens)
        run = 0
        out.append(token)
    return out[:-1]


def sample(task: Task, rounds: list[tuple[str, str]], num_frames: int, pixels: np.ndarray) -> Sample:
    """A training sample of given words."""
    (prompt, answer), *later = rounds
    nowhere = np.full((num_frames, 4), np.nan, np.float32)
    keys = tuple(("a", 0, i) for i in range(num_frames))
    shown = np.stack([pixels] * num_frames)
    return Sample(task, prompt, answer, answer, shown, nowhere, None, None, keys, (), np.zeros(4, np.float32),
                  later=tuple(later))  # fmt: skip


def rounds_of(prompt: str, response: str, key: str) -> list[tuple[str, str]]:
    if key != "vqa_2rounds_1f":
        return [(prompt, response)]
    first, second = prompt.split("ASSISTANT: ")
    said = response.split(". ")
    return [(first + "ASSISTANT:", said[0] + "."), (second, said[1])]


def test_prompts_of_the_evaluation_have_the_recorded_ids(random_one, expected):
    _, processor = random_one
    evaluated = {key: value for key, value in expected["prompts"].items() if key.startswith("eval_")}
    assert len(evaluated) == 2
    for key, recorded in evaluated.items():
        assert collapsed(processor.encode_prompt(recorded["prompt"]), processor) == recorded["input_ids"], key


def test_samples_of_training_have_the_recorded_ids_and_labels(random_one, expected):
    _, processor = random_one
    collator = Collator(processor, [], 24)
    pixels = np.zeros((336, 336, 3), np.uint8)
    taught = {key: value for key, value in expected["prompts"].items() if "labels" in value}
    assert len(taught) == 8
    for key, recorded in taught.items():
        task = next((TASKS[part] for part in key.split("_") if part in TASKS), Task.VIDEO_QA)
        count = recorded["prompt"].count("<image>")
        batch = collator([sample(task, rounds_of(recorded["prompt"], recorded["response"], key), count, pixels)])
        ids, labels = batch["input_ids"][0].numpy(), batch["labels"][0].numpy()
        assert collapsed(ids, processor) == recorded["input_ids"], key
        assert (labels[ids == processor.image_token_id] == -100).all()
        image_labels = np.where(ids == processor.image_token_id, processor.image_token_id, labels)
        without = [-100 if token == IMAGE else token for token in collapsed(image_labels, processor)]
        assert without == recorded["labels"], key


def test_a_history_by_the_chat_template_has_the_ids_of_training(random_one, expected):
    _, processor = random_one
    recorded = expected["prompts"]["vqa_2rounds_1f"]
    chat = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\nWhat is it?"}]},
        {"role": "assistant", "content": "A dog at [10,26,34,100]."},
        {"role": "user", "content": "Colour?"},
        {"role": "assistant", "content": "Brown."},
    ]
    text = processor.apply_chat_template(chat, tokenize=False)
    assert collapsed(processor.encode_prompt(text), processor) == recorded["input_ids"]


def test_a_chat_about_a_video_has_the_ids_of_training(random_one, expected, frames):
    _, processor = random_one
    recorded = expected["prompts"]["vqa_video_token_2f"]
    chat = [
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": "A dog."},
    ]
    text = processor.apply_chat_template(chat, tokenize=False)
    inputs = processor(text, videos=[frames[:2]])
    assert collapsed(inputs["input_ids"][0], processor) == recorded["input_ids"]
    assert inputs["pixel_values"].shape[0] == 2


def test_the_tokenizer_is_the_sentencepiece_model(random_one, compat):
    """For texts that begin with spaces, too, and after being saved and loaded."""
    _, processor = random_one
    pieces = SentencePieceProcessor(model_file=str(compat / "components" / "llm" / "tokenizer.model"))
    texts = [" Colour?", "  two", "\nWhat", "", " ", "a  b   c", "ünïcödé 漢字 🙂", "Frame 1: [1,2,3,4].", "\t\n x",
             ", Frame 2: ", "don't", "▁low", "9" * 30, "; \nWhat is it?", "Ünder_score-and/slash", "😀 a"]  # fmt: skip
    for text in texts:
        assert processor.tokenizer(text, add_special_tokens=False).input_ids == pieces.encode(text), repr(text)
        assert processor.tokenizer(text).input_ids == [1, *pieces.encode(text)]
        assert processor.tokenizer.decode(pieces.encode(text)) == pieces.decode(pieces.encode(text))


def test_pixels_features_and_selection(random_one, expected, arrays, frames):
    model, processor = random_one
    pixels = processor.image_processor(frames)["pixel_values"]
    assert np.abs(pixels[0].numpy() - arrays["pixel_values_f0"]).max() < 1e-5
    assert pixels.norm().item() == pytest.approx(expected["frames"]["norm"], rel=RELATIVE)
    with torch.inference_mode():
        tokens = model.vision(pixels)
        embeddings, selection = model.select_tokens(tokens, None, None)
    close(tokens[0].numpy(), arrays["clip_features_f0"])
    assert tokens.norm().item() == pytest.approx(expected["clip_features"]["norm"], rel=RELATIVE)
    assert selection.indices.tolist() == expected["tselector"]["indices"]
    close(embeddings.numpy(), arrays["projected_features"])


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Within 1e-4 of the largest number of what was recorded."""
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= RELATIVE * np.abs(theirs).max()


def teacher_forced(model, processor, prompts: list[tuple[str, str]], frames: list[np.ndarray], side: str):
    """Output and labels for prompts with their answers, as one padded batch."""
    rows = [(processor.encode_prompt(prompt), processor.encode_answer(answer)) for prompt, answer in prompts]
    batch = processor._pad([asked + said for asked, said in rows], side)
    told = processor._pad([[-100] * len(asked) + said for asked, said in rows], side)
    labels = torch.where(told["attention_mask"].bool(), told["input_ids"], -100)
    counts = torch.tensor([prompt.count("<image>") for prompt, _ in prompts])
    positions = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    with torch.inference_mode():
        return model(
            **batch, labels=labels, position_ids=positions, frame_counts=counts,
            pixel_values=processor.image_processor(frames)["pixel_values"],
        ), labels  # fmt: skip


def test_logits_and_loss_of_a_forced_answer(random_one, expected, arrays, frames):
    model, processor = random_one
    recorded = expected["prompts"]["online_SOT_8f"]
    output, labels = teacher_forced(model, processor, [(recorded["prompt"], recorded["response"])], frames, "left")
    forced, logits = expected["teacher_forced_SOT"], output.logits[0]
    assert len(logits) == forced["seq_len"] and int((labels != -100).sum()) == forced["n_target"]
    assert labels[0].numpy().tolist() == arrays["targets"].tolist()
    assert output.loss.item() == pytest.approx(forced["loss"], rel=RELATIVE)
    assert logits.norm().item() == pytest.approx(forced["logits_norm"], rel=RELATIVE)
    assert (logits.argmax(dim=-1).numpy() == arrays["logits_argmax"]).all()
    close(logits.logsumexp(dim=-1).numpy(), arrays["logits_logsumexp"])
    close(logits[-64:, :512].numpy(), arrays["logits_last64_first512"])


@pytest.mark.parametrize("side", ["left", "right"])
def test_loss_of_a_batch_of_two(side, random_one, expected, frames):
    """SOT over eight frames and REG over one; theirs is padded on the right, ours may be on either side."""
    model, processor = random_one
    recorded = [expected["prompts"][key] for key in ("online_SOT_8f", "online_REG_1f")]
    pairs = [(one["prompt"], one["response"]) for one in recorded]
    output, _ = teacher_forced(model, processor, pairs, [*frames, frames[0]], side)
    forced = expected["teacher_forced_batch2"]
    assert output.logits.shape[1] == forced["seq_len"]
    assert output.loss.item() == pytest.approx(forced["loss"], rel=RELATIVE)
    alone, _ = teacher_forced(model, processor, pairs[1:], frames[:1], side)
    assert alone.logits.shape[1] == forced["reg_seq_len"]
    assert alone.loss.item() == pytest.approx(forced["loss_REG_alone"], rel=RELATIVE)


@pytest.mark.parametrize("task", ["SOT", "RSOT"])
def test_greedy_ids(task, random_one, expected, frames):
    model, processor = random_one
    recorded = expected[f"greedy_{task}_40"]
    inputs = processor(expected["prompts"][f"eval_{task}_8f"]["prompt"], images=frames)
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=40, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert ids.tolist() == recorded["ids"][1:]  # the first is a BOS that transformers 4.37 puts in front
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == recorded["text"]


def test_boxes_are_written_as_recorded(expected):
    for value, text in expected["box_quant"]:
        bins = quantize(np.array([[value] * 4]), clamp=False)[0]
        assert ELYSIUM.format_box(bins) == "[" + ",".join([text] * 4) + "]"


@pytest.mark.parametrize("task", ["SOT", "RSOT"])
def test_the_published_protocol_gives_the_recorded_lines(task, native, compat, tmp_path, capsys):
    """Every answer over clips that are chained (SOT) and not (RSOT), and the figures of the released metric script."""
    code = main(
        ["eval", task, "--protocol", "published", "--annotations", str(compat / "anno.jsonl"), "--images",
         str(compat / "frames"), "--model", str(native["checkpoint_trained"]), "--output", str(tmp_path / "run"),
         "--quiet"]
    )  # fmt: skip
    assert code == 0
    lines = (tmp_path / "run" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines == (compat / "pipeline" / f"{task}_infer.jsonl").read_text(encoding="utf-8").splitlines()
    figures = json.loads((tmp_path / "run" / "scores.json").read_text())
    told = json.loads((compat / "pipeline" / "metrics.json").read_text())[task]["reference_otb"]
    published = figures["published"]
    assert [published[key] for key in ("auc", "precision", "norm_precision")] == pytest.approx(
        list(told.values()), abs=1e-3
    )
    assert "not comparable" in capsys.readouterr().out


@pytest.mark.parametrize("free", [False, True], ids=["grammar", "free"])
def test_every_shortcut_gives_what_generate_gives(native, compat, free):
    """Drafted alone and together, and plain: token by token, scores to 1e-5. The checkpoint was trained on these."""
    model = Elysium.from_pretrained(native["checkpoint_trained"])
    fast, wide = (Decoder(model.model, model.processor, spare=spare) for spare in (None, 200))
    requests = []
    for name in ("clip_a", "clip_b", "clip_c"):
        frames = [read_image(path) for path in sorted((compat / "frames" / name).glob("*.png"))[:8]]
        question = build_question(Task.SOT, box_text=ELYSIUM.format_box([25, 30, 60, 70]))
        region = (0, (0.25, 0.3, 0.6, 0.7))
        requests.append(Request(build_prompt(Task.SOT, 8, question), frames, [region], num_boxes=8))
    with torch.inference_mode():
        alone = [fast.decode([request], free=free)[0] for request in requests]
        together = wide.decode(requests, free=free)
    for request, one, other in zip(requests, alone, together, strict=True):
        reference = decode_reference(fast, request, free=free)
        assert one.token_ids == other.token_ids == reference.token_ids
        np.testing.assert_allclose(one.box_scores, reference.box_scores, atol=1e-5)
        np.testing.assert_allclose(other.box_scores, reference.box_scores, atol=1e-5)


def test_the_imported_model_tracks_grounds_describes_and_answers(native, compat):
    """Under the grammar, by the usual calls: what is written is boxes of every frame, and words."""
    model = Elysium.from_pretrained(native["checkpoint_trained"])
    found = model.track(str(compat / "frames" / "clip_a"), "boat", boxes=[[72, 87, 168, 183]])
    assert [len(track) for track in found.tracks] == [17, 17]
    assert (found.tracks[0].states == "tracked").sum() >= 16 and not np.isnan(found.tracks[0].boxes_xyxy).any()
    image = np.asarray(Image.open(compat / "frames" / "clip_a" / "000000.png").convert("RGB"))
    box, score = model.ground(image, "boat")
    assert box.shape == (4,) and 0 <= score <= 1
    assert isinstance(model.describe(image, [72, 87, 168, 183]), str) and isinstance(model.ask(image, "What?"), str)
