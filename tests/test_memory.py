"""Memory from the configuration equals what the tensors of a loaded model really take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BitsAndBytesConfig, DynamicCache

from elysium.cli.main import main
from elysium.language import prompts
from elysium.language.dialects import ELYSIUM
from elysium.model import ElysiumConfig, ElysiumForConditionalGeneration, ElysiumImageProcessor, ElysiumProcessor
from elysium.model.memory import FRAMES, TEXT_TOKENS, estimate_memory
from elysium.model.presets import elysium_7b_config
from elysium.model.processing import add_marks
from elysium.model.quantization import quantization
from test_model import frames
from tiny import tiny_config, tiny_model_and_processor

ROOT = Path(__file__).resolve().parent.parent


def saved(folder: Path, gate: str, tied: bool = False) -> ElysiumConfig:
    config = tiny_config(gate)
    config.text_config.tie_word_embeddings = config.tie_word_embeddings = tied
    torch.manual_seed(0)
    ElysiumForConditionalGeneration(config).save_pretrained(folder)
    return config


def tensor_bytes(model) -> int:
    """Of all parameters and buffers, each counted once, and of what bitsandbytes hangs on its parameters."""
    total = 0
    for tensor in [*model.parameters(), *model.buffers()]:
        total += tensor.nbytes
        scales, state = getattr(tensor, "SCB", None), getattr(tensor, "quant_state", None)
        parts = [scales, *(() if state is None else _of_state(state))]
        total += sum(part.nbytes for part in parts if part is not None)
    return total


def _of_state(state):
    inner = [] if state.state2 is None else [state.offset, state.state2.absmax, state.state2.code]
    return [state.absmax, state.code, *inner]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("gate", "tied"), [("mlp", False), ("mlp", True), ("legacy", False), ("prompt", False)])
def test_weights_are_those_of_the_loaded_model(gate, tied, dtype, tmp_path):
    config = saved(tmp_path, gate, tied)
    model = ElysiumForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype)
    assert estimate_memory(config, dtype=dtype).weights == tensor_bytes(model)


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_in_few_bits_are_those_of_the_loaded_model(bits, tmp_path):
    pytest.importorskip("bitsandbytes", reason="weights in 8 and 4 bits need bitsandbytes")
    config = saved(tmp_path, "mlp")
    settings = quantization(bits)
    assert isinstance(settings, BitsAndBytesConfig)
    model = ElysiumForConditionalGeneration.from_pretrained(
        tmp_path, dtype=torch.bfloat16, quantization_config=settings
    )
    assert estimate_memory(config, bits=bits).weights == tensor_bytes(model)
    assert estimate_memory(config, bits=bits).weights < estimate_memory(config).weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cache_is_that_of_a_prompt(dtype):
    model, processor = tiny_model_and_processor()
    batch = processor(["<image> a <image> b", "<image> <image> c d e"], images=frames(4), num_image_tokens=9)
    output = model.to(dtype)(**batch, use_cache=True)
    assert isinstance(output.past_key_values, DynamicCache)
    measured = sum(layer.keys.nbytes + layer.values.nbytes for layer in output.past_key_values.layers)
    text = batch["input_ids"].shape[1] - 2 * 9
    told = estimate_memory(
        model.config, frames=2, tokens_per_frame=9, text_tokens=text, requests=2, dtype=dtype
    )
    assert (told.cache, told.tokens) == (measured, batch["input_ids"].shape[1])
    assert told.total == told.weights + told.cache


def test_the_published_model():
    """Parameters as they are known of LLaMA-7B and of CLIP ViT-L/14-336; a cache of two vectors a layer and token."""
    told = estimate_memory(elysium_7b_config(), dtype=torch.float32)
    llama, clip, n, width = 6_738_415_616, 303_507_456, 576, 4096
    between = 1024 * width + width + width * width + width + n * n + n + 1024 + 1
    assert told.tokens == 8 * 108 + TEXT_TOKENS
    assert told.weights == pytest.approx(4 * (llama + clip + between), rel=1e-4)
    half = estimate_memory(elysium_7b_config())
    assert half.cache == 2 * 32 * width * 2 * told.tokens == told.cache // 2
    assert half.weights == pytest.approx(told.weights / 2, rel=1e-3)


def test_questions_about_eight_frames_fit_the_text_that_is_reckoned_with(shared_dir):
    pytest.importorskip("google.protobuf", reason="transformers reads SentencePiece models with protobuf")
    tokenizer = AutoTokenizer.from_pretrained(shared_dir / "compat" / "components" / "llm")
    add_marks(tokenizer)
    processor = ElysiumProcessor(ElysiumImageProcessor(), tokenizer)
    text = ELYSIUM.format_boxes([[34, 40, 51, 67]] * FRAMES, full_stop=True)
    for task in (prompts.Task.SOT, prompts.Task.RSOT):
        question = prompts.build_question(task, box_text="[34,40,51,67]", expression="the red car")
        prompt = prompts.build_prompt(task, FRAMES, question)
        used = len(processor.encode_prompt(prompt, num_image_tokens=1)) - FRAMES + len(processor.encode_answer(text))
        assert 0.8 * TEXT_TOKENS < used <= TEXT_TOKENS, (task, used)


def test_info_tells_what_a_model_needs(tmp_path, capsys):
    tiny_config().save_pretrained(tmp_path)
    assert main(["info", "--memory", str(tmp_path), "--frames", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["float32", "bfloat16", "8-bit", "4-bit"]
    expected = estimate_memory(tiny_config(), frames=3, bits=4)
    assert told["4-bit"] == {"weights": expected.weights, "cache": expected.cache, "tokens": 3 * 5 + TEXT_TOKENS}
    assert main(["info", "--memory", "nano", "--select", "9"]) == 0
    assert f"nano, one question about 8 frames: {8 * 9 + TEXT_TOKENS} tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--memory", "nowhere"], "There is no model 'nowhere'"),
        (["--memory", "nano", "--frames", "0"], "--frames 0 is too small"),
        (["--memory", "nano", "--select", "197"], "Cannot keep 197 of 196 visual tokens"),
        (["--select", "9"], "--select is given without --memory"),
    ],
)
def test_info_refuses(arguments, told, capsys):
    assert main(["info", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_the_table_of_the_documentation_is_what_the_command_prints(capsys):
    written = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    command = "elysium info --memory elysium-7b"
    assert main(command.split()[1:]) == 0
    assert f"$ {command}\n{capsys.readouterr().out}```" in written, f"put there what `{command}` prints"
