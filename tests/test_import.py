"""Checkpoints in the released layout: what they compute after their import, what is told, what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor

from benchmark_files import write_benchmark
from composition_kit import small_tokenizer
from elysium.cli.main import main
from elysium.errors import ElysiumError, InputError, ModelError, OutputError
from elysium.inference.importing import cache_folder
from elysium.inference.loading import load_pretrained, locate
from elysium.inference.pipelines import Elysium
from elysium.language.prompts import Task, build_prompt
from elysium.model import ElysiumConfig, ElysiumForConditionalGeneration, ElysiumProcessor
from elysium.model.legacy import fixed_order, import_checkpoint
from released import KEPT, TOKENS, by_hand, released_tensors, write_components, write_released

PROMPT = "Frame 1: <image>, Frame 2: <image>\nFind the dog [18,29,42,61]"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with components beside which checkpoints may lie."""
    write_components(tmp_path, small_tokenizer())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELYSIUM_CACHE", str(tmp_path / "cache"))
    return tmp_path


def tensors_for(here: Path, **options) -> dict[str, torch.Tensor]:
    return released_tensors(json.loads((here / "components/llm/config.json").read_text())["vocab_size"], **options)


def frames(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 255, (40, 60, 3), dtype=np.uint8) for _ in range(2)]


def same_as_by_hand(folder: Path, tensors: dict[str, torch.Tensor], tied: bool = False) -> None:
    """The model of a folder gives the logits and keeps the places of the released formulas."""
    model, processor = load_pretrained(str(folder), torch.float32)
    inputs = processor(PROMPT, images=frames())
    with torch.inference_mode():
        output = model(**inputs)
    given = inputs["input_ids"][0], processor.image_token_id, inputs["pixel_values"]
    logits, places = by_hand(tensors, *given, tied=tied)
    assert output.selected.tolist() == places.tolist()
    assert (output.logits[0] - logits).abs().max() <= 1e-4 * logits.abs().max()


@pytest.mark.parametrize(
    ("suffix", "shards", "dtype"),
    [
        ("safetensors", 1, torch.float32), ("safetensors", 3, torch.bfloat16), ("bin", 1, torch.float16),
        ("bin", 2, torch.float32),
    ],
)  # fmt: skip
def test_it_computes_what_the_released_formulas_say(suffix, shards, dtype, here):
    tensors = {name: tensor.to(dtype) for name, tensor in tensors_for(here).items()}
    write_released(here / "src", tensors, shards=shards, suffix=suffix)
    report = import_checkpoint("src", "dst")
    assert report.dtype == dtype and sum(report.mapped.values()) == len(tensors) - 2  # without score_proj
    same_as_by_hand(here / "dst", tensors)
    kept = load_pretrained("dst", dtype)[0].state_dict()
    assert torch.equal(kept["language_model.lm_head.weight"], tensors["llm.lm_head.weight"])
    assert kept["selector.gate.trans_weight"].dtype == torch.float32


def test_a_linear_projector_and_another_k(here):
    tensors = {name: tensor for name, tensor in tensors_for(here).items() if not name.startswith("llm_proj.")}
    tensors |= {"llm_proj.weight": torch.randn(32, 24), "llm_proj.bias": torch.randn(32)}
    write_released(here / "src", tensors, projector_config={"type": "linear"}, adapter_config={"out_token_num": TOKENS})
    import_checkpoint("src", "dst")
    model, processor = load_pretrained("dst", torch.float32)
    assert torch.equal(model.projector.weight, tensors["llm_proj.weight"])
    assert processor.num_image_tokens == model.config.selector_config.num_tokens == TOKENS


@pytest.mark.parametrize("present", [False, True])
def test_a_tied_head(present, here):
    write_components(here, small_tokenizer(), tied=True)
    tensors = tensors_for(here, tied=True)
    if present:
        tensors["llm.lm_head.weight"] = tensors["llm.model.embed_tokens.weight"].clone()
    write_released(here / "src", tensors)
    report = import_checkpoint("src", "dst")
    assert (("llm.lm_head.weight", "tied to the embedding") in report.ignored) is present and not report.notes
    same_as_by_hand(here / "dst", tensors, tied=True)
    model = load_pretrained("dst", torch.float32)[0]
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_head_that_is_not_the_embedding_is_kept_whatever_the_configuration_says(here):
    write_components(here, small_tokenizer(), tied=True)
    tensors = tensors_for(here)
    write_released(here / "src", tensors)
    (note,) = import_checkpoint("src", "dst").notes
    assert "llm.lm_head.weight is not the embedding" in note
    same_as_by_hand(here / "dst", tensors)


def test_every_way_of_loading_gives_the_same(here):
    write_released(here / "src", tensors_for(here))
    import_checkpoint("src", "dst")
    model, processor = load_pretrained("dst", torch.float32)
    inputs = processor(PROMPT, images=frames())
    again = AutoProcessor.from_pretrained("dst")(PROMPT, images=frames())
    assert all(torch.equal(inputs[key], again[key]) for key in inputs)
    model.save_pretrained("saved")
    processor.save_pretrained("saved")
    with torch.inference_mode():
        logits = model(**inputs).logits
        for other in (ElysiumForConditionalGeneration.from_pretrained("dst"),
                      AutoModelForImageTextToText.from_pretrained("dst"),
                      Elysium.from_pretrained("saved").model):  # fmt: skip
            assert torch.equal(other(**inputs).logits, logits)
    assert model.generation_config.eos_token_id == 2 and model.generation_config.bos_token_id == 1
    assert str(here) not in Path("dst/config.json").read_text()


def test_weights_are_written_in_shards_and_no_more_is_held(here, monkeypatch):
    from elysium.model import weight_files

    tensors = tensors_for(here)
    write_released(here / "src", tensors, shards=2)
    import_checkpoint("src", "whole")
    held = []
    save = weight_files.save_file

    def spy(values, path, **options):
        held.append(sum(tensor.nbytes for tensor in values.values()))
        save(values, path, **options)

    monkeypatch.setattr(weight_files, "save_file", spy)
    report = import_checkpoint("src", "dst", shard_bytes=60_000)
    index = json.loads(Path("dst/model.safetensors.index.json").read_text())
    names = sorted(set(index["weight_map"].values()))
    assert len(names) == len(held) > 3 and max(held) <= 60_000 and sum(held) == report.num_bytes
    assert names == [f"model-{i + 1:05d}-of-{len(names):05d}.safetensors" for i in range(len(names))]
    assert sorted(path.name for path in Path("dst").glob("*.safetensors")) == names
    whole, shards = (load_pretrained(name, torch.float32)[0].state_dict() for name in ("whole", "dst"))
    assert whole.keys() == shards.keys() and all(torch.equal(whole[key], shards[key]) for key in whole)


def test_what_is_useless_is_told_and_left_behind(here, capsys):
    tensors = tensors_for(here)
    useless = {
        "visual_encoder.vision_model.embeddings.position_ids": torch.arange(17)[None],
        "llm.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4), "llm.extra.weight": torch.ones(2),
    }  # fmt: skip
    sections = {"adapter_config": {"new_trick": True}, "surprise": 1}
    write_released(here / "src", {**tensors, **useless}, **sections)
    assert main(["import-checkpoint", "src", "dst"]) == 0
    out = capsys.readouterr().out
    assert "mapped    llm -> language_model: 21 tensors\n" in out and "missing   nothing\n" in out
    assert "adapter.score_proj.bias, adapter.score_proj.weight: the released code never uses it" in out
    assert "inv_freq: computed from the configuration" in out and "position_ids: counted anew" in out
    assert "llm.extra.weight: not known" in out
    assert "not known, ignored: surprise, adapter_config.new_trick" in out
    assert "ignored: architectures, auto_map," in out
    same_as_by_hand(here / "dst", tensors)


def test_tensors_behind_the_features_may_be_missing(here):
    tensors = tensors_for(here)
    unused = [name for name in tensors if ".encoder.layers.2." in name or "post_layernorm" in name]
    assert len(unused) == 18
    left = {name: tensor for name, tensor in tensors.items() if name not in unused}
    write_released(here / "src", left)
    assert len(import_checkpoint("src", "dst").missing) == 18
    same_as_by_hand(here / "dst", tensors)


@pytest.mark.parametrize("bias", ["different", "equal"])
def test_a_constant_selector_is_folded(bias, here):
    """Whatever the images, the same places; of equal ones those that torch.topk takes, as there."""
    tensors = tensors_for(here)
    tensors["adapter.trans_weight"] = torch.zeros(TOKENS, TOKENS)
    if bias == "equal":
        tensors["adapter.trans_bias"] = torch.zeros(TOKENS)
    write_released(here / "src", tensors)
    before = (here / "src/model.safetensors").read_bytes()
    (note,) = import_checkpoint("src", "dst").notes
    assert (here / "src/model.safetensors").read_bytes() == before
    assert "keeps the same 5 of 16 places in every frame" in note
    same_as_by_hand(here / "dst", tensors)
    model, processor = load_pretrained("dst", torch.float32)
    assert model.config.selector_config.gate == "fixed" and model.selector.looks_at == frozenset()
    places = [model(**processor(PROMPT, images=frames(seed))).selected for seed in (1, 2)]
    assert torch.equal(*places) and (places[0] == places[0][0]).all()


def test_the_folded_order_takes_what_topk_takes():
    torch.manual_seed(0)
    for values in (torch.zeros(576), torch.randn(576), torch.randn(576).bfloat16(), torch.ones(576).half()):
        logits = fixed_order(values.clone(), 108)
        chosen = logits.sort(descending=True, stable=True).indices[:108].sort().values
        assert torch.equal(chosen, values.float().topk(108).indices.sort().values)


def test_a_constant_selector_can_still_learn(here):
    tensors = tensors_for(here)
    tensors["adapter.trans_weight"] = torch.zeros(TOKENS, TOKENS)
    write_released(here / "src", tensors)
    import_checkpoint("src", "dst")
    model, processor = load_pretrained("dst", torch.float32)
    inputs = processor(PROMPT, images=frames())
    with torch.no_grad():
        chosen = model(**inputs).selected
    ids = inputs["input_ids"]
    output = model.train()(**inputs, labels=ids.where(ids < processor.image_token_id, -100))
    assert torch.equal(output.selected, chosen)  # without noise the choice is that of inference
    output.loss.backward()
    assert model.selector.gate.logits.grad.abs().max() > 0


def test_released_checkpoints_are_imported_where_a_model_is_wanted(here, capsys):
    """Once: the second time what is in the cache is taken; another checkpoint under the same name is another import."""
    tensors = tensors_for(here)
    write_released(here / "src", tensors)
    with pytest.warns(UserWarning, match="src is in the released layout and was imported into"):
        Elysium.from_pretrained("src")
    (first,) = cache_folder().iterdir()
    assert locate("src") == str(first)
    same_as_by_hand(here / "src", tensors)
    write_released(here / "src", tensors_for(here, seed=1))
    with pytest.warns(UserWarning, match="was imported"):
        assert locate("src") != str(first)
    assert len(list(cache_folder().iterdir())) == 2 and not list(cache_folder().glob(".*"))
    with pytest.raises(ModelError, match=r"released layout.*elysium import-checkpoint SRC DST"):
        ElysiumConfig.from_pretrained("src")


HUB = """
import sys
from elysium.inference.loading import load_pretrained
import torch
model, _ = load_pretrained("owner/elysium-7b", torch.float32)
print(model.config.selector_config.gate)
"""


def test_a_hub_id_is_taken_from_the_hubs_cache(here):
    hub, commit = here / "hub" / "models--owner--elysium-7b", "0123456789abcdef0123456789abcdef01234567"
    write_released(hub / "snapshots" / commit, tensors_for(here), suffix="bin",
                   llm_config={"pretrained_model_name_or_path": str(here / "components/llm")},
                   visual_config={"pretrained_model_name_or_path": str(here / "components/clip")})  # fmt: skip
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(commit)
    source = Path(__file__).resolve().parents[1] / "src"
    env = {**os.environ, "HF_HUB_CACHE": str(here / "hub"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(source)}
    done = subprocess.run([sys.executable, "-c", HUB], capture_output=True, text=True, env=env)
    assert done.stdout == "legacy\n", done.stderr
    assert "owner/elysium-7b is in the released layout" in done.stderr
    assert [path.name.rpartition("-")[0] for path in cache_folder().iterdir()] == ["owner--elysium-7b"]


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused(zipped, here, capsys):
    write_released(here / "src", {}, suffix="bin")
    content = {"llm.x": torch.ones(1), "llm.y": Evil(here / "was_run")}
    torch.save(content, here / "src/pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert main(["import-checkpoint", "src", "dst"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "pytorch_model.bin wants to run code when it is read" in told and "system" in told
    assert "nothing of it was run. Ask for the weights as safetensors." in told
    assert not (here / "was_run").exists() and not (here / "dst").exists()


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def damage(here: Path, what: str) -> None:
    """A checkpoint in ``src`` with something wrong."""
    sections = {
        "k": {"adapter_config": {"out_token_num": 20}},
        "no k": {"adapter_config": {"out_token_num": "many"}},
        "grid": {"adapter_config": {"in_token_num": 25}},
        "projector": {"projector_config": {"type": "resampler"}},
        "component": {"llm_config": {"pretrained_model_name_or_path": "nowhere/llm"}},
        "no component": {"visual_config": {"pretrained_model_name_or_path": None}},
    }.get(what, {})
    tensors = tensors_for(here)
    if what == "shape":
        tensors["llm_proj.0.weight"] = torch.zeros(32, 25)
    if what == "missing":
        del tensors["llm.model.norm.weight"]
    if what == "quantised":
        tensors["llm.lm_head.weight"] = torch.zeros_like(tensors["llm.lm_head.weight"], dtype=torch.int8)
    shards = {"shard gone": 2, "index": 2}.get(what, 1)
    suffix = "bin" if what in ("cut bin", "no tensors", "garbage") else "safetensors"
    write_released(here / "src", tensors, shards=shards, suffix=suffix, **sections)
    src = here / "src"
    {
        "cut": lambda: cut_off(src / "model.safetensors"),
        "cut bin": lambda: cut_off(src / "pytorch_model.bin"),
        "garbage": lambda: (src / "pytorch_model.bin").write_bytes(b"\x80\x04garbage"),
        "no tensors": lambda: torch.save({"a": {"b": 1}}, src / "pytorch_model.bin"),
        "no weights": lambda: (src / "model.safetensors").unlink(),
        "no config": lambda: (src / "config.json").unlink(),
        "no json": lambda: (src / "config.json").write_text("{"),
        "a list": lambda: (src / "config.json").write_text("[]"),
        "another model": lambda: (src / "config.json").write_text('{"model_type": "llama"}'),
        "ours": lambda: (src / "config.json").write_text('{"model_type": "elysium", "text_config": {}}'),
        "shard gone": lambda: (src / "model-00002-of-00002.safetensors").unlink(),
        "index": lambda: (src / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../x.bin"}}'),
        "tokenizer": lambda: small_tokenizer(extra_special_tokens=["<new>"]).save_pretrained(here / "components/llm"),
        "section": lambda: (src / "config.json").write_text('{"llm_config": 3, "adapter_config": {}}'),
    }.get(what, lambda: None)()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("no config", r"src has no config.json. Give the folder of a checkpoint"),
        ("no json", r"src/config.json is not a model's configuration"),
        ("a list", r"src/config.json is not a model's configuration"),
        ("another model", r"src/config.json is not that of a checkpoint in the released layout"),
        ("ours", r"released layout. It needs no import if it is an Elysium of ours: give it to --model"),
        ("section", r"src/config.json has llm_config 3, which should hold settings"),
        ("no weights", r"src has no weights. One of model.safetensors.index.json, model.safetensors, pytorch_model"),
        ("cut", r"src/model.safetensors is damaged or cut off: .*. Copy or download it again"),
        ("cut bin", r"src/pytorch_model.bin is damaged or cut off: .*. Copy or download it again"),
        ("garbage", r"src/pytorch_model.bin is damaged or no file of tensors. Copy or download it again"),
        ("no tensors", r"src/pytorch_model.bin does not hold tensors by their names"),
        ("shard gone", r"index.json names 'model-00002-of-00002.safetensors', which is not in its folder. Copy"),
        ("index", r"index.json names '../../x.bin', which is not in its folder"),
        ("shape", r"llm_proj.0.weight in src/model.safetensors has the shape \(32, 25\), wanted is \(32, 24\)"),
        ("missing", r"The checkpoint lacks 1 tensors that are needed: language_model.model.norm.weight"),
        ("quantised", r"llm.lm_head.weight in src/model.safetensors holds numbers of the type torch.int8"),
        ("tokenizer", r"The tokenizer of components/llm has 408 tokens, up to number 407, but the embedding 407"),
        ("k", r"src/config.json has out_token_num 20, but a frame has 16 visual tokens. Set it to 1..16"),
        ("no k", r"src/config.json has adapter_config.out_token_num 'many', not a number of tokens"),
        ("grid", r"in_token_num 25, but the tower of components/clip makes 16 tokens of a frame. .*--vision"),
        ("projector", r"src/config.json has a projector of type 'resampler'. Only mlp2x_gelu and linear"),
        ("component", r"The language model 'nowhere/llm' that src/config.json names cannot be had: .*--llm FOLDER"),
        ("no component", r"src/config.json names no vision tower. Say where its config.json lies: --vision FOLDER"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(what, told, here):
    damage(here, what)
    before = sorted(here.rglob("*"))
    with pytest.raises(ModelError, match=told):
        import_checkpoint("src", "dst")
    assert sorted(here.rglob("*")) == before


def test_targets_that_cannot_be(here):
    write_released(here / "src", tensors_for(here))
    (here / "full").mkdir()
    (here / "full" / "a").touch()
    (here / "file").touch()
    (here / "empty").mkdir()
    for target, told in (("src", "is the checkpoint itself"), ("full", "is not empty"), ("file", "is a file")):
        with pytest.raises(InputError, match=told):
            import_checkpoint("src", target)
    with pytest.raises(ModelError, match=r"There is no checkpoint 'nosuch'. Give a folder or a hub id"):
        import_checkpoint("nosuch", "dst")
    with pytest.raises(OutputError, match=r"/file': File exists"):
        import_checkpoint("src", "file/dst")
    import_checkpoint("src", "empty")
    assert load_pretrained("empty", torch.float32)
    assert sorted(path.name for path in here.iterdir()) == ["components", "empty", "file", "full", "src"]


def test_nothing_is_left_of_an_import_that_was_stopped(here, monkeypatch):
    from elysium.model import legacy

    write_released(here / "src", tensors_for(here))
    monkeypatch.setattr(legacy, "fixed_order", None)
    monkeypatch.setattr(legacy, "_write_rest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        import_checkpoint("src", "dst")
    assert sorted(path.name for path in here.iterdir()) == ["components", "src"]


def test_components_are_found_where_they_are_named_or_given(here):
    """In the checkpoint, beside it, in the working directory; options go first."""
    write_released(here / "deep" / "src", tensors_for(here))
    assert import_checkpoint("deep/src", "one").vision == "components/clip"  # of the working directory
    write_components(here / "deep", small_tokenizer())
    assert import_checkpoint("deep/src", "two").vision == "deep/components/clip"
    write_components(here / "deep" / "src", small_tokenizer())
    assert import_checkpoint("deep/src", "three").language == "deep/src/components/llm"
    given = import_checkpoint("deep/src", "four", str(here / "components/clip"), "deep/components/llm")
    assert (given.vision, given.language) == (str(here / "components/clip"), "deep/components/llm")
    with pytest.raises(ModelError, match=r"The vision tower 'nosuch' cannot be had: .*--vision FOLDER"):
        import_checkpoint("deep/src", "five", "nosuch")


def test_keys_that_nobody_knows_are_refused_in_our_own_configuration(here):
    write_released(here / "src", tensors_for(here))
    import_checkpoint("src", "dst")
    path = here / "dst" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "image_sizes": 3}))
    with pytest.raises(ModelError, match=r"dst/config.json has keys that Elysium does not know: image_sizes"):
        locate("dst")
    path.write_text(json.dumps({**values, "selector": {**values["selector"], "gates": 1}}))
    with pytest.raises(ElysiumError, match="The selector has no setting gates"):
        load_pretrained("dst", torch.float32)


def test_prompts_of_an_imported_model(here):
    """BOS before every piece of text, later rounds and the nothing between two images too; frames of chats in
    seconds."""
    write_released(here / "src", tensors_for(here))
    import_checkpoint("src", "dst")
    processor = ElysiumProcessor.from_pretrained("dst")
    image, encode = [processor.image_token_id] * KEPT, processor._encode_text
    assert processor.published and processor.bos_per_piece
    assert processor.encode_prompt("a<image><image>b") == [1, *encode("a"), *image, 1, *image, 1, *encode("b")]
    assert processor.encode_prompt("USER: c", begins=False) == [1, *encode("USER: c")]
    history = "a<image>ASSISTANT:b</s>USER: cASSISTANT:"
    said = [1, *encode("a"), *image, 1, *encode("ASSISTANT:"), *encode("b"), 2, 1, *encode("USER: cASSISTANT:")]
    assert processor.encode_prompt(history) == said
    assert "USER: 1s: <image>; 2s: <image>; \nQ?" in build_prompt(Task.VIDEO_QA, 2, "Q?", published=True)
    assert "USER: <image>\nQ?" in build_prompt(Task.VIDEO_QA, 1, "Q?", published=True)
    assert build_prompt(Task.SOT, 2, "Q?", published=True) == build_prompt(Task.SOT, 2, "Q?")


def test_an_imported_model_is_trained(here):
    """From a released folder as it is; what comes out asks and answers as what went in."""
    write_released(here / "src", tensors_for(here))
    annotations = write_benchmark(here / "data", sequences=2)
    config = {
        "output_dir": "run", "model": {"path": "src", "learns": ["selector", "projector"]},
        "data": {"train_clips": 0, "val_clips": 0, "tasks": {"SOT": 1.0, "REC": 1.0},
                 "sources": [{"annotations": str(annotations), "images": str(annotations.parent / "frames")}]},
        "phases": [{"until": 1.0, "frames": 2}],
        "trainer": {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 0.01, "disable_tqdm": True},
    }  # fmt: skip
    (here / "run.yaml").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="was imported"):
        assert main(["train", "run.yaml"]) == 0
    before, after = (load_pretrained(name, torch.float32) for name in ("src", "run/final"))
    weights = before[0].state_dict()
    off = {name: (value - weights[name]).abs().max() for name, value in after[0].state_dict().items()}
    changed = {name for name, most in off.items() if most > 1e-3}  # of what did not learn, only half precision is kept
    assert {"selector.gate.trans_weight", "selector.gate.pre_proj.weight", "projector.0.weight"} <= changed
    assert not {name for name in changed if not name.startswith(("selector.", "projector."))}
    assert after[1].published and after[1].encode_prompt(PROMPT) == before[1].encode_prompt(PROMPT)


def test_damaged_files_name_themselves_when_a_folder_is_given_as_a_model(here):
    write_released(here / "src", tensors_for(here))
    with safe_open(here / "src/model.safetensors", framework="pt") as content:
        assert len(content.keys()) > 10
    cut_off(here / "src/model.safetensors")
    with pytest.raises(ModelError, match=r"src/model.safetensors is damaged or cut off"):
        Elysium.from_pretrained("src")
    assert not cache_folder().exists() or not list(cache_folder().iterdir())
