"""Reading through a LLaMA layer by layer is what transformers' own forward says, place by place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import dispatch_model
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from elysium.inference import contexts
from elysium.inference.contexts import Context, LlamaContext, reading
from tiny import tiny_model_and_processor

SIZES = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
LONG = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "biased": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, head_dim=12),
    "stretched": LlamaConfig(**SIZES, max_position_embeddings=8, rope_parameters=LONG),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "qwen2": Qwen2Config(**SIZES),
}


class Alone:
    """A language model as decoders want one."""

    def __init__(self, config: Any) -> None:
        torch.manual_seed(3)
        self.language_model = AutoModelForCausalLM.from_config(config).eval()

    def embed(self, ids: torch.Tensor, goes_on: bool) -> tuple[torch.Tensor, None]:
        return self.language_model.get_input_embeddings()(ids), None

    def __call__(self, **inputs: Any) -> Any:
        return self.language_model(**inputs)


def steps(rows: int) -> list[tuple[torch.Tensor, int]]:
    """Which columns are real in three forwards, and how many logits are asked for: a padded prompt, a draft, a row
    that waits."""
    prompt, draft, last = torch.ones(rows, 9), torch.ones(rows, 4), torch.ones(rows, 1)
    if rows > 1:
        prompt[1, :5], draft[0, :3], last[1] = 0, 0, 0
    return [(prompt.long(), 1), (draft.long(), 4), (last.long(), 1)]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_transformers(name: str, rows: int) -> None:
    model = Alone(CONFIGS[name])
    ours, theirs = LlamaContext(model), Context(model)
    generator, mask = torch.Generator().manual_seed(1), torch.zeros(rows, 0, dtype=torch.long)
    with torch.inference_mode():
        for real, keep in steps(rows):
            ids = torch.randint(1, 61, real.shape, generator=generator)
            positions = (mask.sum(dim=1, keepdim=True) + real.cumsum(dim=1) - 1).clamp(min=0)
            mask = torch.cat([mask, real], dim=1)
            got, wanted = (context.read(ids, mask, positions, keep, {}) for context in (ours, theirs))
            assert got.shape == wanted.shape == (rows, keep, 61)
            meant = real[:, -keep:].bool()
            torch.testing.assert_close(got[meant], wanted[meant], atol=2e-6, rtol=1e-5)
            assert got.isfinite().all()
            mask[:, -1:] = 0  # the last of each was wrong
            if real.shape[1] > 1:
                assert ours.crop(1) == theirs.crop(1) == True  # noqa: E712
                mask = mask[:, :-1]


def test_one_prompt_for_all_rows() -> None:
    model = Alone(CONFIGS["llama"])
    with torch.inference_mode():
        for kind in (LlamaContext, Context):
            shared, own = kind(model), kind(model)
            prompt, more = torch.arange(1, 8)[None], torch.tensor([[9, 10], [11, 12]])
            shared.read(prompt, torch.ones(1, 7, dtype=torch.long), torch.arange(7)[None], 1, {})
            shared.rearrange(torch.tensor([0, 0]))
            own.read(prompt.repeat(2, 1), torch.ones(2, 7, dtype=torch.long), torch.arange(7).repeat(2, 1), 1, {})
            rest = torch.ones(2, 9, dtype=torch.long), torch.tensor([[7, 8], [7, 8]]), 2, {}
            torch.testing.assert_close(shared.read(more, *rest), own.read(more, *rest), atol=1e-6, rtol=1e-5)


def test_room_grows_with_what_is_read() -> None:
    """One token at a time, far beyond the room of the beginning."""
    model = Alone(CONFIGS["llama"])
    ours, count = LlamaContext(model), 300
    ids = torch.arange(count)[None] % 61
    with torch.inference_mode():
        whole = model.language_model(ids).logits
        for place in range(count):
            mask, position = torch.ones(1, place + 1, dtype=torch.long), torch.tensor([[place]])
            logits = ours.read(ids[:, place : place + 1], mask, position, 1, {})
            torch.testing.assert_close(logits[0, 0], whole[0, place], atol=1e-5, rtol=1e-4)


def test_what_reads_a_model() -> None:
    model, _ = tiny_model_and_processor()
    assert isinstance(reading(model), LlamaContext)
    handle = model.language_model.model.layers[0].register_forward_hook(lambda *_: None)
    assert isinstance(reading(model), Context)  # somebody listens
    handle.remove()
    assert isinstance(reading(model), LlamaContext)
    model.language_model.config._attn_implementation = "eager"
    assert isinstance(reading(model), Context)
    assert isinstance(reading(Alone(MistralConfig(**SIZES, sliding_window=4))), Context)
    assert isinstance(reading(Alone(Qwen3Config(**SIZES))), Context)


@pytest.mark.parametrize("kind", [LlamaContext, Context])
def test_logits_of_some_tokens_and_rows_that_stay(kind: Any) -> None:
    model, only = Alone(CONFIGS["llama"]), torch.tensor([3, 7, 60])
    whole, some = kind(model), kind(model, only)
    prompt, mask, positions = torch.arange(1, 13).view(3, 4), torch.ones(3, 4, dtype=torch.long), torch.arange(4)
    more = torch.tensor([[5], [6], [7]])
    with torch.inference_mode():
        for context in (whole, some):
            context.read(prompt, mask, positions.repeat(3, 1), 1, {})
        everything = whole.read(more, torch.ones(3, 5, dtype=torch.long), torch.full((3, 1), 4), 1, {})
        some.rearrange(torch.tensor([2, 0]))
        got = some.read(more[[2, 0]], torch.ones(2, 5, dtype=torch.long), torch.full((2, 1), 4), 1, {})
    torch.testing.assert_close(got, everything[[2, 0]][..., only], atol=1e-6, rtol=1e-5)


def test_layers_that_others_move_about_are_called_whole(tmp_path: Path) -> None:
    """On disk, or on another device: accelerate fetches a layer's weights in its forward, and says so of the whole
    model alone."""
    model, _ = tiny_model_and_processor()
    prompt = torch.arange(2, 9)[None], torch.ones(1, 7, dtype=torch.long), torch.arange(7)[None], 7, {}
    with torch.inference_mode():
        wanted = LlamaContext(model).read(*prompt)
        places: dict[str, Any] = {name: "cpu" for name, _ in model.named_children() if name != "language_model"}
        places |= {f"language_model.{name}": "cpu" for name in ("model.embed_tokens", "model.norm", "model.rotary_emb")}
        places |= {f"language_model.model.layers.{number}": place for number, place in enumerate(["cpu", "disk"])}
        places["language_model.lm_head"] = "disk"
        dispatch_model(model, places, main_device="cpu", offload_dir=str(tmp_path), force_hooks=True)
        context = reading(model)
        assert isinstance(context, Context)
        torch.testing.assert_close(context.read(*prompt), wanted, atol=1e-6, rtol=1e-5)


def test_a_wrapped_layer_is_called_whole() -> None:
    model = Alone(CONFIGS["llama"])
    model.language_model.model.layers[1] = nn.Sequential(model.language_model.model.layers[1])
    assert isinstance(reading(model), Context)


def test_groups_of_heads_are_the_same_where_a_kernel_takes_none_under_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "_groups_under_masks", lambda device: False)
    asked: list[tuple[bool, bool]] = []
    attend = F.scaled_dot_product_attention

    def note(*args: Any, **options: Any) -> torch.Tensor:
        asked.append((options["attn_mask"] is not None, options.get("enable_gqa", False)))
        return attend(*args, **options)

    monkeypatch.setattr(contexts.F, "scaled_dot_product_attention", note)
    for rows in (1, 3):
        test_logits_are_those_of_transformers("qwen2", rows)
    assert set(asked) == {(True, False), (False, True)}
