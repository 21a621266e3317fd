"""A model composed of pretrained parts: their weights and ids come through, the rest is fresh, errors name the part."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM

from composition_kit import SELECTOR, language_folder, parts, small_tokenizer, tower_folder
from elysium.errors import ModelError
from elysium.inference.loading import load_pretrained
from elysium.model import ElysiumForConditionalGeneration, ElysiumProcessor
from elysium.model.compose import compose
from elysium.model.image_processing import CLIP_MEAN, CLIP_STD
from elysium.model.projector import build_projector
from elysium.model.selector import TSelector


def request(processor):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (40, 60, 3), dtype=np.uint8) for _ in range(2)]
    return processor("Frame 1: <image>, Frame 2: <image>\nFind the dog [18,29,42,61]", images=frames)


def change_weights(folder: str, change) -> None:
    path = Path(folder) / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def change_json(path: Path, **values) -> None:
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.is_file() else {}), **values}))


@pytest.mark.parametrize(
    ("name", "drop_cls", "grid"),
    [
        ("clip whole", True, 4), ("clip", True, 4), ("clip projected", True, 4), ("dinov2", True, 4),
        ("siglip whole", False, 4), ("siglip", False, 4), ("mobilenet", False, 2), ("classifier", False, 2),
    ],
)  # fmt: skip
def test_a_composed_tower_sees_what_the_original_sees(name, drop_cls, grid, tmp_path):
    vision, original = tower_folder(tmp_path, name)
    model, _ = compose(vision, language_folder(tmp_path)[0], selector={"num_tokens": 4})
    tower = getattr(original, "vision_model", getattr(original, "mobilenet_v2", original))
    pixels = torch.randn(3, 3, model.config.image_size, model.config.image_size)
    with torch.inference_mode():
        hidden = tower(pixels, output_hidden_states=True).hidden_states[-2]
        if hidden.dim() == 3:
            hidden = hidden[:, int(drop_cls) :].transpose(1, 2)
        assert hidden.abs().max() > 0.1
        off = (model.encode_frames(pixels) - hidden.flatten(1)).abs().max()
        assert off <= (1e-4 * hidden.abs().max() if hidden.dim() == 4 else 0)  # convolutions run channels last
    assert model.config.vision_drop_cls == drop_cls and model.vision.grid == grid
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("name", ["clip", "clip whole", "dinov2", "siglip", "mobilenet"])
def test_what_lies_behind_the_layer_that_is_read_does_not_run(name, tmp_path):
    model, _ = compose(tower_folder(tmp_path, name)[0], language_folder(tmp_path)[0], selector={"num_tokens": 4})
    ran: list[str] = []
    for part, module in model.vision.tower.named_modules():
        module.register_forward_hook(lambda *_, part=part: ran.append(part))
    pixels = torch.randn(2, 3, model.config.image_size, model.config.image_size)
    with torch.no_grad():
        whole, all_parts = model.encode_frames(pixels), set(ran)
    ran.clear()
    with torch.inference_mode():
        off = (model.encode_frames(pixels) - whole).abs().max()
    assert off <= (1e-4 * whole.abs().max() if name == "mobilenet" else 0)  # its normalisation is folded
    assert set(ran) < all_parts and "" in all_parts - set(ran)
    assert any("layer" in part and part.endswith("1") for part in all_parts - set(ran)) or name == "mobilenet"


def test_the_language_model_answers_text_as_the_original(tmp_path):
    language, original = language_folder(tmp_path)
    model, processor = compose(tower_folder(tmp_path)[0], language, selector=SELECTOR)
    ids = processor("Please find the brown dog in each frame.")["input_ids"]
    with torch.inference_mode():
        assert torch.equal(model(input_ids=ids).logits, original(input_ids=ids).logits)


def test_marks_lie_behind_the_vocabulary_which_keeps_its_size(tmp_path):
    language, original = language_folder(tmp_path)
    model, processor = compose(tower_folder(tmp_path)[0], language, selector=SELECTOR, region_tokens=4)
    size = original.config.vocab_size
    assert processor.tokenizer.convert_tokens_to_ids(["<image>", "<region>"]) == [size, size + 1]
    assert (model.config.image_token_id, model.config.region_token_id) == (size, size + 1)
    assert model.get_input_embeddings().weight.shape == (size, 32) and len(processor.tokenizer) == size + 2
    assert processor.num_region_tokens == 4 and processor.image_processor.image_size == 56
    batch = request(processor)
    assert (batch["input_ids"] == size).sum() == 2 * 5 and batch["input_ids"].max() == size
    output = model(**batch)
    assert output.selected.shape == (2, 5) and output.logits.shape == (*batch["input_ids"].shape, size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
def test_saved_and_loaded_again_it_gives_the_same_logits(dtype, tied, tmp_path):
    language = language_folder(tmp_path, tie_word_embeddings=tied)[0]
    model, processor = compose(tower_folder(tmp_path)[0], language, selector=SELECTOR, dtype=dtype)
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    loaded = ElysiumForConditionalGeneration.from_pretrained(tmp_path / "saved")
    again = ElysiumProcessor.from_pretrained(tmp_path / "saved")
    batch, rebatch = request(processor), request(again)
    assert all(torch.equal(batch[key], rebatch[key]) for key in batch)
    with torch.inference_mode():
        assert torch.equal(model(**batch).logits, loaded(**rebatch).logits)
    for whole in (model, loaded):
        head, table = whole.get_output_embeddings().weight, whole.get_input_embeddings().weight
        assert (head.data_ptr() == table.data_ptr()) == tied
        assert {p.dtype for p in whole.selector.parameters()} == {torch.float32}
        assert {p.dtype for n, p in whole.named_parameters() if not n.startswith("selector.")} == {dtype}
    assert str(tmp_path) not in (tmp_path / "saved" / "config.json").read_text()
    load_pretrained(str(tmp_path / "saved"), dtype)  # which reports weights that do not fit


def test_it_has_what_a_model_built_the_usual_way_has(tmp_path):
    """Every optional part too; nothing stays on the meta device."""
    selector = {"gate": "prompt", "num_tokens": 4, "hidden_size": 16, "annotate": True, "position_embedding": True}
    vision = tower_folder(tmp_path, "mobilenet")[0]
    options = {"vision_feature_layers": (4, 11), "vision_grid": 4, "region_tokens": 1, "projector_type": "linear"}
    language = language_folder(tmp_path, tie_word_embeddings=True)[0]
    model, _ = compose(vision, language, selector=selector, **options)
    usual = ElysiumForConditionalGeneration(model.config)
    for kind in ("named_parameters", "named_buffers"):
        own = {name: (t.shape, t.dtype, t.device, t.requires_grad) for name, t in getattr(model, kind)()}
        assert own == {name: (t.shape, t.dtype, t.device, t.requires_grad) for name, t in getattr(usual, kind)()}
    assert model.all_tied_weights_keys == usual.all_tied_weights_keys and model.all_tied_weights_keys
    assert model.number_scale == usual.number_scale and model.config.number_token_ids
    assert torch.equal(model.selector.gate.reach[-1].bias[:1], torch.tensor([-2.0]))
    assert model.config.vision_feature_layers == [4, 11] and model.vision.num_channels == 16 * 4 + 32


def test_fresh_parts_are_the_first_that_the_seed_gives(tmp_path):
    vision, language = parts(tmp_path)
    torch.manual_seed(3)
    model, _ = compose(vision, language, selector=SELECTOR)
    torch.manual_seed(3)
    selector = TSelector(model.config.selector_config, 24, 16, 32)
    projector = build_projector("mlp2x_gelu", 24, 32)
    for own, expected in ((model.selector, selector), (model.projector, projector)):
        assert all(torch.equal(own.state_dict()[key], value) for key, value in expected.state_dict().items())
    assert not torch.equal(compose(vision, language, selector=SELECTOR)[0].projector[0].weight, projector[0].weight)


def test_the_loaded_language_model_moves_in_and_alone_is_quantised(tmp_path, monkeypatch):
    """Nothing is copied: the very module that from_pretrained gave is in the model."""
    vision, language = parts(tmp_path)
    calls: dict[str, list] = {"tower": [], "language": []}
    for key, factory in (("tower", AutoModel), ("language", AutoModelForCausalLM)):

        def spy(name, *, _load=factory.from_pretrained, _key=key, **options):
            asked = options.pop("quantization_config", None)
            loaded = _load(name, **options)
            calls[_key].append((asked, options, loaded[0]))
            return loaded

        monkeypatch.setattr(factory, "from_pretrained", spy)
    model, _ = compose(vision, language, selector=SELECTOR, quantization_config="4 bit")
    (asked, options, tower), (quantised, _, language_model) = calls["tower"][0], calls["language"][0]
    assert [len(made) for made in calls.values()] == [1, 1]
    assert model.vision.tower is tower and asked is None
    assert model.language_model is language_model and quantised == "4 bit"
    assert options["weights_only"] is True and options["trust_remote_code"] is False


@pytest.mark.parametrize(
    ("named", "pad"), [({"unk_token": "<unk>"}, "<unk>"), ({}, "</s>"), ({"pad_token": "<s>"}, "<s>")]
)
def test_a_pad_token_is_found_in_the_vocabulary(named, pad, tmp_path):
    language, original = language_folder(tmp_path, small_tokenizer(**named))
    model, processor = compose(tower_folder(tmp_path)[0], language, selector=SELECTOR)
    assert processor.tokenizer.pad_token == pad and len(processor.tokenizer) == original.config.vocab_size + 2
    assert model.generation_config.pad_token_id == processor.tokenizer.pad_token_id


def test_bos_before_pieces_where_the_tokenizer_adds_one(tmp_path):
    vision = tower_folder(tmp_path)[0]
    for bos in (True, False):
        language = language_folder(tmp_path, small_tokenizer(bos))[0]
        processor = compose(vision, language, selector=SELECTOR)[1]
        ids = processor.encode_prompt("a <image> b", num_image_tokens=1)
        assert processor.bos_per_piece is bos and ids.count(1) == (2 if bos else 0)


def test_numbers_are_known_only_where_each_is_one_token(tmp_path):
    vision = tower_folder(tmp_path)[0]
    model, processor = compose(vision, language_folder(tmp_path)[0], selector=SELECTOR)
    ids = model.config.number_token_ids
    assert processor.tokenizer.convert_ids_to_tokens(ids) == [str(n) for n in range(101)]
    folder = language_folder(tmp_path)[0]
    path = Path(folder) / "tokenizer.json"
    core = json.loads(path.read_text())
    digits = {"type": "Digits", "individual_digits": True}
    core["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, core["pre_tokenizer"]]}
    path.write_text(json.dumps(core))
    assert compose(vision, folder, selector=SELECTOR)[0].config.number_token_ids == []


def test_llama_pieces_start_with_bos(shared_dir, tmp_path):
    """The released model's tokenizer, read as a checkpoint of Vicuna has it."""
    pytest.importorskip("google.protobuf", reason="transformers reads SentencePiece models with protobuf")
    pieces = shared_dir / "data" / "tokenizer" / "llama.model"
    if not pieces.is_file():
        pytest.skip(f"no {pieces}")
    folder = language_folder(tmp_path, vocab_size=32000)[0]
    (Path(folder) / "tokenizer.json").unlink()
    shutil.copy(pieces, Path(folder) / "tokenizer.model")
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}
    marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (Path(folder) / "tokenizer_config.json").write_text(json.dumps({**settings, **marks}))
    model, processor = compose(tower_folder(tmp_path)[0], folder, selector=SELECTOR)
    assert model.config.image_token_id == 32000 and model.config.region_token_id == 32001
    assert processor.bos_per_piece and processor.tokenizer.pad_token == "<unk>" and not model.config.number_token_ids
    image = [32000] * 5
    ids = processor.encode_prompt("Frame 1: <image>, Frame 2: <image>\nhi")
    texts = [processor.tokenizer(t, add_special_tokens=False).input_ids for t in ("Frame 1: ", ", Frame 2: ", "\nhi")]
    assert ids == [1, *texts[0], *image, 1, *texts[1], *image, 1, *texts[2]]


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_normalisation_is_the_checkpoints(file, tmp_path):
    vision, language = parts(tmp_path)
    plain = compose(vision, language, selector=SELECTOR)[1].image_processor
    assert (tuple(plain.image_mean), tuple(plain.image_std)) == (CLIP_MEAN, CLIP_STD)
    values = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    path = Path(vision) / file
    for given, mean, std in (
        (values, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]),
        ({**values, "do_normalize": False}, [0.0] * 3, [1.0] * 3),
    ):
        path.write_text(json.dumps({"image_processor": given} if file.startswith("processor") else given))
        processor = compose(vision, language, selector=SELECTOR)[1].image_processor
        assert (processor.image_mean, processor.image_std) == (mean, std)


def test_all_end_tokens_of_a_chat_model_end_an_answer(tmp_path):
    vision, language = parts(tmp_path)
    change_json(Path(language) / "generation_config.json", eos_token_id=[2, 7], temperature=0.6, do_sample=True)
    model, processor = compose(vision, language, selector=SELECTOR)
    model.save_pretrained(tmp_path / "saved")
    loaded = ElysiumForConditionalGeneration.from_pretrained(tmp_path / "saved")
    for whole in (model, loaded):
        assert whole.generation_config.eos_token_id == [2, 7] and not whole.generation_config.do_sample
    batch = request(processor)
    assert torch.equal(model.generate(**batch, max_new_tokens=5), loaded.generate(**batch, max_new_tokens=5))


def test_what_is_no_model_is_named(tmp_path, monkeypatch):
    vision, language = parts(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for wrong, message in (
        (str(tmp_path / "none"), r"There is no model '.*none'\. Give a folder"),
        (str(tmp_path / "empty"), r"empty has no config.json\. Give a folder"),
        ("me/nothing", r"me/nothing cannot be loaded: .*\. Give a folder .* a hub id"),
    ):
        with pytest.raises(ModelError, match=message):
            compose(wrong, language)
        with pytest.raises(ModelError, match=message):
            compose(vision, wrong)
    with pytest.raises(ModelError, match="language is no vision model but 'llama'"):
        compose(language, language)
    with pytest.raises(ModelError, match="tower is no causal language model but 'clip'"):
        compose(vision, vision)


def test_weights_that_do_not_fit_are_named(tmp_path):
    vision, language = parts(tmp_path)
    layer = "vision_model.encoder.layers.0.mlp.fc1"
    change_weights(vision, lambda t: t.update({f"{layer}.bias": torch.zeros(3)}))
    told = r"tower do not fit .*: 1 mismatched \(.*layers\.0\.mlp\.fc1\.bias: \(3,\) instead of \(48,\)\)"
    with pytest.raises(ModelError, match=told):
        compose(vision, language, selector=SELECTOR)
    change_weights(vision, lambda t: (t.pop(f"{layer}.bias"), t.update({f"{layer}.shift": torch.zeros(3)})))
    with pytest.raises(ModelError, match=r"1 missing \(.*fc1\.bias\); 1 unexpected \(.*fc1\.shift\)"):
        compose(vision, language, selector=SELECTOR)
    vision = tower_folder(tmp_path)[0]
    change_weights(language, lambda t: (t.pop("model.norm.weight"), t.update({"score.weight": torch.zeros(3)})))
    with pytest.raises(ModelError, match=r"language do not .*1 missing \(model.norm.weight\); 1 unexpected \(score"):
        compose(vision, language, selector=SELECTOR)
    (Path(language) / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"language cannot be loaded: .*model.safetensors.*Give a folder"):
        compose(vision, language, selector=SELECTOR)


def in_pickles(folder: str, shards: int = 1) -> None:
    """The weights of a folder, as older checkpoints have them."""
    path = Path(folder) / "model.safetensors"
    tensors = load_file(path)
    path.unlink()
    if shards == 1:
        torch.save(tensors, Path(folder) / "pytorch_model.bin")
        return
    names = {key: f"pytorch_model-{i % shards + 1:05d}-of-{shards:05d}.bin" for i, key in enumerate(sorted(tensors))}
    for name in set(names.values()):
        torch.save({key: tensors[key] for key in tensors if names[key] == name}, Path(folder) / name)
    (Path(folder) / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def test_weights_in_pickles_are_the_same_weights(tmp_path):
    vision, language = parts(tmp_path)
    torch.manual_seed(0)
    expected = compose(vision, language, selector=SELECTOR)[0].state_dict()
    in_pickles(vision)
    in_pickles(language, shards=2)
    torch.manual_seed(0)
    found = compose(vision, language, selector=SELECTOR)[0].state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


class Bomb:
    """What a pickle can hold: a call that is made while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_wants_to_run_code_is_refused_and_not_run(tmp_path):
    vision, language = parts(tmp_path)
    in_pickles(language)
    torch.save({"model.norm.weight": Bomb(tmp_path / "ran")}, Path(language) / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"language are a pickle that .* was not read\. Give .*safetensors"):
        compose(vision, language, selector=SELECTOR)
    (Path(language) / "pytorch_model.bin").write_bytes(pickle.dumps({"model.norm.weight": Bomb(tmp_path / "ran")}))
    with pytest.raises(ModelError, match="was not read"):
        compose(vision, language, selector=SELECTOR)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("rows", [lambda size: size - 1, lambda size: 2 * size])
def test_a_tokenizer_of_another_language_model_is_refused(rows, tmp_path):
    size = len(small_tokenizer())
    language = language_folder(tmp_path, vocab_size=rows(size))[0]
    with pytest.raises(ModelError, match=rf"language has {size} tokens, .* but the embedding {rows(size)} rows"):
        compose(tower_folder(tmp_path)[0], language, selector=SELECTOR)


def test_padded_embeddings_and_a_pad_token_without_a_row_are_fine(tmp_path):
    size = len(small_tokenizer())
    vision = tower_folder(tmp_path)[0]
    model, _ = compose(vision, language_folder(tmp_path, vocab_size=size + size // 20)[0], selector=SELECTOR)
    assert model.config.image_token_id == size
    tokenizer = small_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    model, processor = compose(vision, language_folder(tmp_path, tokenizer, vocab_size=size)[0], selector=SELECTOR)
    assert (processor.tokenizer.pad_token_id, model.config.image_token_id) == (size, size + 1)
    assert model(**request(processor)).logits.shape[-1] == size


def test_left_over_weights_are_errors_in_a_bare_tower(tmp_path):
    vision, language = tower_folder(tmp_path, "clip")[0], language_folder(tmp_path)[0]
    change_weights(vision, lambda t: t.update({"text_model.weight": torch.zeros(3)}))
    with pytest.raises(ModelError, match=r"1 unexpected \(text_model.weight\)"):
        compose(vision, language, selector=SELECTOR)


def test_settings_that_do_not_fit_the_parts_are_refused(tmp_path):
    vision, language = parts(tmp_path)
    with pytest.raises(ModelError, match=r"keeps 108 of 16 visual tokens\. Set its num_tokens to 1..16"):
        compose(vision, language)
    with pytest.raises(ModelError, match="The selector has no setting tokens"):
        compose(vision, language, selector={"tokens": 3})
    with pytest.raises(ModelError, match=r"has 4 feature layers, none at \[4\]"):
        compose(vision, language, vision_feature_layers=(4,))
    with pytest.raises(ModelError, match="region_tokens is 3"):
        compose(vision, language, region_tokens=3)
    with pytest.raises(ModelError, match="Unknown projector_type 'magic'"):
        compose(vision, language, projector_type="magic")  # type: ignore[arg-type]


def test_parts_that_lack_something_say_what(tmp_path):
    vision, language = tower_folder(tmp_path, "clip")[0], language_folder(tmp_path)[0]
    (Path(vision) / "preprocessor_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"preprocessor_config.json of .*tower cannot be read"):
        compose(vision, language, selector=SELECTOR)
    (Path(vision) / "preprocessor_config.json").write_text('{"image_mean": [0.5], "image_std": [0.5]}')
    with pytest.raises(ModelError, match=r"has image_mean \[0.5\]"):
        compose(vision, language, selector=SELECTOR)
    vision = tower_folder(tmp_path / "mobile", "mobilenet")[0]
    for size in (None, [64, 32]):
        change_json(Path(vision) / "config.json", image_size=size)
        with pytest.raises(ModelError, match=r"tower (has image_size|cannot be loaded)"):
            compose(vision, language, selector=SELECTOR)
    vision = tower_folder(tmp_path)[0]
    change_json(Path(language) / "tokenizer_config.json", eos_token=None)
    with pytest.raises(ModelError, match="language has no end token"):
        compose(vision, language, selector=SELECTOR)


def test_towers_whose_tokens_are_no_grid_are_refused(tmp_path):
    """Registers beside the class token; and a model that wants more than one picture."""
    language = language_folder(tmp_path)[0]
    vision = tower_folder(tmp_path, "registers")[0]
    with pytest.raises(ModelError, match=r"tower makes \[21\] tokens of a frame, no square grid"):
        compose(vision, language, selector=SELECTOR)
    vision = tower_folder(tmp_path / "film", "film")[0]
    with pytest.raises(ModelError, match="tower does not read RGB frames of 56 pixels"):
        compose(vision, language, selector=SELECTOR)
