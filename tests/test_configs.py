"""Every configuration that is shipped says what it should, and runs at toy size, tiny models in place of the large."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from transformers import AutoTokenizer, CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from elysium.config_files import load_stages
from elysium.errors import InputError
from elysium.inference.pipelines import Elysium
from elysium.training import recipe
from training_kit import losses, write_chats, write_model, write_records

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
LARGE = ("stage1-adapter", "stage1-full", "stage2-8f", "stage2-32f", "lora-7b", "qlora-7b-24gb")


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """Overrides by which a large configuration becomes a tiny one: parts, data, steps, no DeepSpeed."""
    folder = tmp_path_factory.mktemp("toys")
    write_model(folder / "elysium")
    tower = CLIPVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=168, patch_size=14
    )
    CLIPVisionModel(tower).save_pretrained(folder / "tower")
    tokenizer = AutoTokenizer.from_pretrained(folder / "elysium")
    text = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                       num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048)  # fmt: skip
    LlamaForCausalLM(text).save_pretrained(folder / "language")
    tokenizer.save_pretrained(folder / "language")
    tracks = write_records(folder / "tracks")
    chats = write_chats(folder / "tracks", "v0/0.png")
    return folder, tracks, chats


def overrides(name, toys, out):
    folder, tracks, chats = toys
    values = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    said = [f"output_dir={out}", "trainer.max_steps=2", "trainer.per_device_train_batch_size=1", "threads=1",
            "trainer.dataloader_num_workers=0", "trainer.logging_steps=1", "trainer.report_to=none",
            "trainer.gradient_accumulation_steps=1", "trainer.deepspeed=null", "trainer.optim=adamw_torch"]  # fmt: skip
    for number, source in enumerate(values["data"]["sources"]):
        chat = "chat" in source["annotations"] or ("tasks" not in source and "tasks" not in values["data"])
        said += [f"data.sources.{number}.annotations={chats if chat else tracks}",
                 f"data.sources.{number}.images={folder / 'tracks'}"]  # fmt: skip
    if "compose" in values["model"]:
        return [*said, f"model.compose.vision={folder / 'tower'}", f"model.compose.language={folder / 'language'}"]
    return [*said, f"model.path={folder / 'elysium'}"]


@pytest.mark.parametrize("name", LARGE)
def test_the_large_configurations_run_at_toy_size(name, toys, tmp_path):
    if name.startswith("qlora"):
        pytest.importorskip("bitsandbytes", reason="model.lora.four_bit needs bitsandbytes")
    final = recipe.run(CONFIGS / f"{name}.yaml", overrides(name, toys, tmp_path / "run"))
    assert sorted(losses(tmp_path / "run")) == [1, 2]
    assert Elysium.from_pretrained(final).model.config.model_type == "elysium"


@pytest.mark.parametrize("name", LARGE)
def test_what_they_need_is_said_before_anything_loads(name):
    with pytest.raises(InputError, match="which does not exist"):
        load_stages(CONFIGS / f"{name}.yaml")


def stage(name, toys, **more):
    said = overrides(name, toys, "x")
    kept = [text for text in said if not text.startswith("trainer.")]
    (config,) = load_stages(CONFIGS / f"{name}.yaml", [*kept, *[f"{key}={value}" for key, value in more.items()]])
    return config


def test_the_settings_of_the_paper(toys):
    first, second = stage("stage1-adapter", toys), stage("stage1-full", toys)
    assert first.trainer["learning_rate"] == 2e-3 and first.model.learns == ("selector", "projector")
    assert second.trainer["learning_rate"] == 5e-5 and second.trainer["max_steps"] == 30000
    assert second.model.tower_learns and second.model.learning_rates["vision"] < 1
    eight, many = stage("stage2-8f", toys), stage("stage2-32f", toys)
    assert (eight.trainer["max_steps"], many.trainer["max_steps"]) == (20000, 2000)
    assert [(p.min_frames, p.frames) for p in (*eight.phases, *many.phases)] == [(2, 8), (2, 32)]
    assert eight.data.max_interval == many.data.max_interval == 60
    assert many.trainer["per_device_train_batch_size"] == 1
    for config in (first, second, eight, many):
        schedule = [config.trainer[key] for key in ("bf16", "lr_scheduler_type", "warmup_steps", "weight_decay")]
        assert schedule == [True, "cosine", 0.03, 0.0]
        assert "zero" in config.trainer["deepspeed"] and config.loss.number_sigma == 0 and not config.loss.selects
        assert config.loss.template == 1 and config.data.slip_share == config.data.box_jitter == 0


def test_each_stage_goes_on_from_the_one_before():
    values = {name: yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in LARGE[:4]}
    for before, after in pairwise(LARGE[:4]):
        assert values[after]["model"]["path"] == values[before]["output_dir"] + "/final"
