"""The composed model and its processor: ids, counts, batching, caching, saving."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from elysium.errors import InputError, ModelError
from elysium.language import prompts
from elysium.model import ElysiumConfig, ElysiumForConditionalGeneration, ElysiumImageProcessor
from tiny import tiny_config, tiny_model_and_processor

RNG = np.random.default_rng(0)


def frames(count: int) -> list[np.ndarray]:
    return [RNG.integers(0, 255, (40, 60, 3), dtype=np.uint8) for _ in range(count)]


def requests(processor, marks: bool):
    """A SOT request on two frames and an RSOT request on three."""
    box = {"box_text": "[18,29,42,61]", "region_mark": marks}
    texts = [
        prompts.build_prompt(prompts.Task.SOT, 2, prompts.build_question(prompts.Task.SOT, **box)),
        prompts.build_prompt(prompts.Task.RSOT, 3, prompts.build_question(prompts.Task.RSOT, expression="the red car")),
    ]
    images = [frames(2), frames(3)]
    regions = [[(0, (0.18, 0.29, 0.42, 0.61))], []] if marks else None
    queries = [None, "the red car"] if marks else None

    def make(rows):
        pick = lambda values: None if values is None else [values[r] for r in rows]  # noqa: E731
        return processor(pick(texts), images=pick(images), regions=pick(regions), queries=pick(queries))

    return make


@pytest.mark.parametrize("gate", ["mlp", "legacy", "fixed", "uniform", "prompt"])
def test_batched_logits_equal_single_ones(gate):
    model, processor = tiny_model_and_processor(gate)
    make = requests(processor, marks=gate == "prompt")
    with torch.inference_mode():
        both = make([0, 1])
        positions = (both["attention_mask"].cumsum(1) - 1).clamp_min(0)
        together = model(**both, position_ids=positions).logits
        for row in (0, 1):
            alone = model(**make([row])).logits[0]
            assert torch.allclose(together[row, -len(alone) :], alone, atol=1e-5)


@pytest.mark.parametrize("gate", ["mlp", "prompt"])
def test_generate_cached_equals_uncached(gate):
    model, processor = tiny_model_and_processor(gate)
    batch = requests(processor, marks=gate == "prompt")([0, 1])
    cached = model.generate(**batch, max_new_tokens=12, do_sample=False, eos_token_id=-1)
    assert torch.equal(
        cached, model.generate(**batch, max_new_tokens=12, do_sample=False, eos_token_id=-1, use_cache=False)
    )
    assert cached.shape[1] == batch["input_ids"].shape[1] + 12


@pytest.mark.parametrize("gate", ["mlp", "prompt"])
def test_save_and_load_round_trip_is_bit_exact(gate, tmp_path):
    model, processor = tiny_model_and_processor(gate)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, info = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    again = AutoProcessor.from_pretrained(tmp_path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key]), key
    make, remake = requests(processor, gate == "prompt"), requests(again, gate == "prompt")
    assert torch.equal(make([0, 1])["input_ids"], remake([0, 1])["input_ids"])
    assert again.num_region_tokens == processor.num_region_tokens and again.dialect == "elysium"
    assert isinstance(AutoConfig.from_pretrained(tmp_path), ElysiumConfig)
    assert AutoConfig.from_pretrained(tmp_path).selector == model.config.selector


def test_each_frame_takes_k_image_tokens_and_k_can_be_asked_for():
    model, processor = tiny_model_and_processor()
    batch = processor("Frame 1: <image>, Frame 2: <image>\nhello", images=frames(2), num_image_tokens=9)
    assert (batch["input_ids"] == processor.image_token_id).sum() == 18
    assert model(**batch).selected.shape == (2, 9)


def test_image_token_mismatch_gives_both_counts():
    model, processor = tiny_model_and_processor()
    batch = processor("<image> <image>", images=frames(2))
    batch["input_ids"][0, 0] = 5
    batch["input_ids"][batch["input_ids"] == processor.image_token_id] = 5
    with pytest.raises(ModelError, match="0 image tokens but 2 frames give 10 visual tokens"):
        model(**batch)
    with pytest.raises(ModelError, match="2 <image> marks but 3 frames"):
        processor("<image> <image>", images=frames(3))
    with pytest.raises(ModelError, match="5 image tokens but no frames"):
        model(input_ids=processor("<image>", images=frames(1))["input_ids"])


def test_region_mismatch_gives_both_counts():
    model, processor = tiny_model_and_processor("prompt")
    with pytest.raises(ModelError, match="1 region tokens but the regions give 0"):
        model(**processor("<image> [1,2,3,4]<region>", images=frames(1)))


def test_chat_template_gives_the_processors_ids():
    _, processor = tiny_model_and_processor()
    task, question = prompts.Task.RSOT, prompts.build_question(prompts.Task.RSOT, expression="the red car")
    images = frames(3)
    chat = prompts.messages(task, 3, question)
    pictures = iter(images)
    for part in chat[0]["content"]:
        if part["type"] == "image":
            part["image"] = next(pictures)
    by_chat = processor.apply_chat_template(
        chat, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    by_hand = processor(prompts.build_prompt(task, 3, question), images=images)
    assert torch.equal(by_chat["input_ids"], by_hand["input_ids"])
    assert torch.equal(by_chat["pixel_values"], by_hand["pixel_values"])


def test_bos_before_every_piece_after_an_image():
    """The released format, by a tokenizer that has a beginning token (facts, section 7)."""
    _, processor = tiny_model_and_processor()
    tokenizer = processor.tokenizer
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("</s> $A", special_tokens=[("</s>", 1)])
    try:
        processor.bos_per_piece = True
        ids = processor.encode_prompt("a <image> b <image>", num_image_tokens=2)
        mark = processor.image_token_id
        plain = [tokenizer(t, add_special_tokens=False).input_ids for t in ("a ", " b ")]
        assert ids == [1, *plain[0], mark, mark, 1, *plain[1], mark, mark]
    finally:
        tokenizer.backend_tokenizer.post_processor = None
        processor.bos_per_piece = False


def test_placeholders_lie_outside_the_vocabulary():
    model, processor = tiny_model_and_processor()
    vocabulary = model.get_input_embeddings().weight.shape[0]
    assert vocabulary == model.config.text_config.vocab_size == processor.image_token_id
    assert model(**processor("<image>", images=frames(1))).logits.shape[-1] == vocabulary


def test_selector_stays_in_float32_when_loaded_in_bfloat16(tmp_path):
    model, _ = tiny_model_and_processor("prompt")
    model.save_pretrained(tmp_path)
    loaded = ElysiumForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    kinds = {name.split(".")[0]: p.dtype for name, p in loaded.named_parameters()}
    assert kinds["selector"] == torch.float32 and kinds["language_model"] == torch.bfloat16
    processor = tiny_model_and_processor("prompt")[1]
    assert loaded(**requests(processor, True)([0, 1])).logits.dtype == torch.bfloat16


def test_precomputed_features_give_the_same_logits():
    model, processor = tiny_model_and_processor("prompt")
    batch = requests(processor, True)([0, 1])
    with torch.inference_mode():
        direct = model(**batch).logits
        batch["vision_features"] = model.encode_frames(batch.pop("pixel_values"))
        assert torch.equal(model(**batch).logits, direct)


def test_name_logits_compare_pooled_features_with_the_words_of_the_table():
    """A box over one whole cell of the grid: what is compared is that token, projected; the table learns nothing."""
    model, _ = tiny_model_and_processor("prompt")
    encoded = model.encode_frames(torch.randn(3, 3, model.config.image_size, model.config.image_size))
    side = model.vision.grid
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]) / side
    logits = model(vision_features=encoded, named_boxes=boxes, named_frames=torch.tensor([2, 0])).name_logits
    token = model.vision.assemble(encoded)[[2, 0], 0]
    table = model.get_input_embeddings().weight
    assert torch.allclose(logits, 0.2 * model.projector(token) @ table.T, atol=1e-5)
    model.zero_grad()
    logits.sum().backward()
    assert table.grad is None and model.projector[0].weight.grad.abs().sum() > 0


def test_preprocessing_is_the_published_one(shared_dir):
    """Squashed to 336 x 336 with Pillow's bilinear filter: pixel values of the published code (compat)."""
    import json

    from PIL import Image

    recorded = np.load(shared_dir / "compat" / "expected.npz")["pixel_values_f0"]
    record = json.loads((shared_dir / "compat" / "anno_8frames.jsonl").read_text().splitlines()[0])
    name = record["frames"][0].removeprefix("frames/")
    ours = ElysiumImageProcessor()([Image.open(shared_dir / "compat" / "frames" / name)])["pixel_values"][0].numpy()
    assert np.abs(recorded - ours).max() < 1e-5


def test_frames_that_are_no_frames_are_refused():
    with pytest.raises(InputError, match="shape"):
        ElysiumImageProcessor()([np.zeros((4, 4), np.uint8)])


def test_configuration_refuses_nonsense():
    with pytest.raises(ModelError, match="region_tokens is 3"):
        ElysiumConfig(region_tokens=3)
    with pytest.raises(ModelError, match="Unknown projector_type 'magic'"):
        ElysiumConfig(projector_type="magic")  # type: ignore[arg-type]
    assert ElysiumConfig.from_dict(tiny_config().to_dict()).to_dict() == tiny_config().to_dict()
