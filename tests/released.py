"""A tiny checkpoint in the released layout, with random weights, and what it computes, put together by hand."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from elysium.files import atomic_write_text

TOWER = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
         "image_size": 56, "patch_size": 14}  # fmt: skip
LANGUAGE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "eos_token_id": 2, "bos_token_id": 1}  # fmt: skip
TOKENS, KEPT = 16, 5


def released_tensors(vocabulary: int, *, seed: int = 0, tied: bool = False) -> dict[str, Tensor]:
    """Tensors by the names of the released layout, those that nobody uses among them."""
    torch.manual_seed(seed)
    width, hidden = TOWER["hidden_size"], LANGUAGE["hidden_size"]
    tower = CLIPVisionModel(CLIPVisionConfig(**TOWER)).state_dict()
    language = LlamaForCausalLM(LlamaConfig(**LANGUAGE, vocab_size=vocabulary, tie_word_embeddings=tied)).state_dict()
    tensors = {f"visual_encoder.vision_model.{name.removeprefix('vision_model.')}": t for name, t in tower.items()}
    tensors |= {f"llm.{name}": tensor for name, tensor in language.items()}
    if tied:
        del tensors["llm.lm_head.weight"]
    shapes = {
        "adapter.pre_proj.weight": (1, width), "adapter.pre_proj.bias": (1,),
        "adapter.trans_weight": (TOKENS, TOKENS), "adapter.trans_bias": (TOKENS,),
        "adapter.score_proj.weight": (KEPT, TOKENS), "adapter.score_proj.bias": (KEPT,),
        "llm_proj.0.weight": (hidden, width), "llm_proj.0.bias": (hidden,),
        "llm_proj.2.weight": (hidden, hidden), "llm_proj.2.bias": (hidden,),
    }  # fmt: skip
    return tensors | {name: torch.randn(shape) for name, shape in shapes.items()}


def write_components(folder: Path, tokenizer: PreTrainedTokenizerFast, tied: bool = False, **language: object) -> None:
    """``components/clip`` and ``components/llm`` in ``folder``: configurations and tokenizer, no weights."""
    config = {**LANGUAGE, "vocab_size": len(tokenizer), "tie_word_embeddings": tied, **language}
    CLIPVisionConfig(**TOWER).save_pretrained(folder / "components" / "clip")
    LlamaConfig(**config).save_pretrained(folder / "components" / "llm")
    tokenizer.save_pretrained(folder / "components" / "llm")


def released_config(**sections: object) -> dict[str, object]:
    """The values of ``config.json``; ``sections`` are merged into it."""
    values: dict[str, object] = {
        "model_type": "elysium", "architectures": ["ElysiumForCausalLM"], "torch_dtype": "float32",
        "auto_map": {"AutoModelForCausalLM": "modeling_elysium.ElysiumForCausalLM"},
        "adapter_config": {"in_token_num": TOKENS, "out_token_num": KEPT, "num_features": 24, "fix_random": False},
        "llm_config": {"pretrained_model_name_or_path": "components/llm", "freeze_llm": True},
        "visual_config": {"pretrained_model_name_or_path": "components/clip", "freeze_vit": True},
        "projector_config": {"type": "mlp2x_gelu"},
    }  # fmt: skip
    for name, section in sections.items():
        before = values.get(name)
        values[name] = {**before, **section} if isinstance(before, dict) and isinstance(section, dict) else section
    return values


def write_released(folder: Path, tensors: dict[str, Tensor], *, shards: int = 1, suffix: str = "safetensors",
                   **sections: object) -> Path:  # fmt: skip
    """A checkpoint in ``folder``, its weights in so many files of this kind."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(released_config(**sections)))
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    names = list(tensors)
    files = {}
    for number in range(shards):
        name = f"{stem}.{suffix}" if shards == 1 else f"{stem}-{number + 1:05d}-of-{shards:05d}.{suffix}"
        part = {key: tensors[key].contiguous() for key in names[number::shards]}
        if suffix == "safetensors":
            save_file(part, folder / name, metadata={"format": "pt"})
        else:
            torch.save(part, folder / name)
        files.update(dict.fromkeys(part, name))
    if shards > 1:
        atomic_write_text(folder / f"{stem}.{suffix}.index.json", json.dumps({"weight_map": files}))
    return folder


def by_hand(tensors: dict[str, Tensor], ids: Tensor, image_token: int, pixels: Tensor, kept: int = KEPT,
            tied: bool = False) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Logits (L, V) and kept places (F, k) of one prompt (L,), from transformers' classes and the formulas of the
    released model (facts, section 7)."""
    values = {name: tensor.float() for name, tensor in tensors.items()}
    tower = CLIPVisionModel(CLIPVisionConfig(**TOWER)).eval()
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in tower.state_dict()) else ""
    start = "visual_encoder.vision_model."
    seen = {prefix + name.removeprefix(start): t for name, t in values.items() if name.startswith(start)}
    tower.load_state_dict(seen, strict=False)
    vocabulary = len(values["llm.model.embed_tokens.weight"])
    language = LlamaForCausalLM(LlamaConfig(**LANGUAGE, vocab_size=vocabulary, tie_word_embeddings=tied)).eval()
    said = {name.removeprefix("llm."): tensor for name, tensor in values.items() if name.startswith("llm.")}
    language.load_state_dict(said, strict=False)
    with torch.inference_mode():
        tokens = tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        score = tokens @ values["adapter.pre_proj.weight"][0] + values["adapter.pre_proj.bias"]
        logits = score @ values["adapter.trans_weight"] + values["adapter.trans_bias"]
        places = logits.topk(kept, dim=1).indices.sort(dim=1).values
        chosen = torch.stack([frame[rows] for frame, rows in zip(tokens, places, strict=True)])
        hidden = torch.nn.functional.gelu(chosen @ values["llm_proj.0.weight"].T + values["llm_proj.0.bias"])
        visual = hidden @ values["llm_proj.2.weight"].T + values["llm_proj.2.bias"]
        embedded = language.get_input_embeddings()(ids.where(ids < vocabulary, torch.zeros_like(ids)))
        embedded[ids == image_token] = visual.flatten(0, 1)
        return language(inputs_embeds=embedded[None]).logits[0], places
