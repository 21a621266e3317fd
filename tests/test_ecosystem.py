"""The tools that people use with models of transformers, each on a tiny model: what they make is what we make."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
    CompileConfig,
    Trainer,
    TrainingArguments,
    pipeline,
)

from elysium.errors import ModelError, SourceError
from elysium.inference.loading import bundled_folder, load_pretrained
from elysium.inference.pipelines import Elysium
from elysium.language import prompts
from elysium.model import ElysiumForConditionalGeneration, ElysiumImageProcessor, ElysiumProcessor
from elysium.model.quantization import quantization
from elysium.video_writer import VideoWriter
from test_model import frames, requests
from tiny import tiny_config, tiny_model_and_processor, tiny_tokenizer

ASSETS = Path(__file__).resolve().parent.parent / "src" / "elysium" / "assets"
GREEDY = {"max_new_tokens": 8, "do_sample": False}
QUESTION = "What color is the car?"


@pytest.fixture
def folder(tmp_path):
    """A saved tiny model with its processor."""
    model, processor = tiny_model_and_processor()
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def ask(*parts):
    return [{"role": "user", "content": [*parts, {"type": "text", "text": QUESTION}]}]


def picture(path, frame):
    Image.fromarray(frame).save(path)
    return str(path)


def logits(model, batch):
    with torch.inference_mode():
        return model(**batch).logits.float()


# Chats


def test_a_chat_about_a_picture_gives_the_trained_prompt(tmp_path):
    _, processor = tiny_model_and_processor()
    (frame,) = frames(1)
    expected = processor(prompts.build_prompt(prompts.Task.VIDEO_QA, 1, QUESTION), images=[frame], queries=[QUESTION])
    path = picture(tmp_path / "a.png", frame)
    for given in ({"image": frame}, {"image": Image.fromarray(frame)}, {"url": path}, {"path": path}):
        chat = ask({"type": "image", **given})
        batch = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
        assert batch.keys() == expected.keys()
        assert all(torch.equal(batch[key], expected[key]) for key in expected), given


def test_a_chat_about_a_video_numbers_its_frames(tmp_path):
    _, processor = tiny_model_and_processor()
    images = frames(3)
    expected = processor(prompts.build_prompt(prompts.Task.VIDEO_QA, 3, QUESTION), images=images, queries=[QUESTION])
    paths = [picture(tmp_path / f"{i}.png", frame) for i, frame in enumerate(images)]
    videos = (images, np.stack(images), [Image.fromarray(frame) for frame in images], paths, str(tmp_path))
    for video in videos:
        batch = processor.apply_chat_template(
            ask({"type": "video", "video": video}), add_generation_prompt=True, tokenize=True, return_dict=True
        )
        assert all(torch.equal(batch[key], expected[key]) for key in expected), type(video)


def test_frames_of_a_video_file_are_spread_over_it(tmp_path):
    _, processor = tiny_model_and_processor()
    with VideoWriter(tmp_path / "a.mp4", 10, (64, 48)) as writer:
        for number in range(40):
            writer.write(np.full((48, 64, 3), 6 * number, np.uint8))
    video = str(tmp_path / "a.mp4")
    shown = processor("<video>", videos=video, num_frames=4)["pixel_values"].mean(dim=(1, 2, 3))
    steps = shown.diff()
    assert len(shown) == 4 and (steps > 0).all() and (steps - steps.mean()).abs().max() < 0.1 * steps.mean()
    assert processor("<video>", videos=video)["frame_counts"].tolist() == [16]
    chat = ask({"type": "video", "path": video})
    options = {"num_frames": 3, "num_image_tokens": 2}
    for given in (options, {"processor_kwargs": options}):
        batch = processor.apply_chat_template([chat, chat], tokenize=True, return_dict=True, **given)
        assert batch["frame_counts"].tolist() == [3, 3]
        assert (batch["input_ids"] == processor.image_token_id).sum() == 2 * 3 * 2


def test_pictures_and_videos_of_a_batch_keep_their_order():
    _, processor = tiny_model_and_processor()
    a, b, c, d = frames(4)
    chats = [ask({"type": "image", "image": a}, {"type": "video", "video": [b, c]}), ask({"type": "image", "image": d})]
    batch = processor.apply_chat_template(chats, tokenize=True, return_dict=True)
    assert batch["frame_counts"].tolist() == [3, 1]
    assert torch.equal(batch["pixel_values"], processor.image_processor([a, b, c, d])["pixel_values"])


def test_the_words_behind_the_pictures_are_what_is_asked_about():
    _, processor = tiny_model_and_processor()
    task, words = prompts.Task.RSOT, prompts.build_question(prompts.Task.RSOT, expression="the red car")
    chat = prompts.messages(task, 2, words)
    for part, frame in zip([p for p in chat[0]["content"] if p["type"] == "image"], frames(2), strict=True):
        part["image"] = frame
    more = [*chat, {"role": "assistant", "content": "There."}, {"role": "user", "content": " And the dog? "}]
    for given, expected in ((chat, words), (more, "And the dog?")):
        batch = processor.apply_chat_template(given, tokenize=True, return_dict=True)
        assert torch.equal(batch["query_ids"], processor.query_tensors([expected])["query_ids"])


def test_marks_and_files_that_are_not_there_are_told(tmp_path):
    _, processor = tiny_model_and_processor()
    with pytest.raises(ModelError, match="have 1 <video> marks but 0 videos were given"):
        processor("<video>")
    with pytest.raises(ModelError, match="have 0 <video> marks but 1 videos were given"):
        processor("hello", videos=str(tmp_path / "a.mp4"))
    with pytest.raises(SourceError, match=r"There is no image '.*none.png'"):
        processor("<image>", images=str(tmp_path / "none.png"))
    with pytest.raises(SourceError, match=r"none.mp4"):
        processor("<video>", videos=str(tmp_path / "none.mp4"))
    with pytest.raises(ModelError, match="This processor has no truncation"):
        processor("hello", truncation=True, max_length=3)
    with pytest.raises(ModelError, match="2 prompts have 1 answers"):
        processor(["a", "b"], answers=["c"])


@pytest.mark.parametrize("side", ["left", "right"])
def test_answers_alone_carry_loss(side):
    _, processor = tiny_model_and_processor()
    asked, said = ["<image>\nthe car", "the red dog on the left"], ["red", "a big dog"]
    batch = processor(asked, images=frames(1), answers=said, padding_side=side)
    eos = processor.tokenizer.eos_token_id
    for row, text in enumerate(said):
        answer = [*processor.tokenizer(text, add_special_tokens=False).input_ids, eos]
        taught = batch["labels"][row] != -100
        assert batch["labels"][row][taught].tolist() == batch["input_ids"][row][taught].tolist() == answer
        end = int(batch["attention_mask"][row].nonzero()[-1])
        assert int(taught.nonzero()[-1]) == end
    model, _ = tiny_model_and_processor()
    assert model(**batch).loss.isfinite()


def test_nano_answers_a_chat_as_it_answers_elysium_ask():
    """Frames of the video, prompt and words for the selector are the same, and so is the answer."""
    folder = str(bundled_folder("nano"))
    processor, model = AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)
    assert processor.chat_template == prompts.CHAT_TEMPLATE
    question = "What color is the person on the left?"
    part = {"type": "video", "path": str(ASSETS / "pedestrians.mp4")}
    chat = [{"role": "user", "content": [part, {"type": "text", "text": question}]}]
    assert processor.video_frames == model.config.tracking["ask_frames"]
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "num_frames": 2}
    batch = processor.apply_chat_template(chat, **options)
    found = model.generate(**batch, max_new_tokens=32, do_sample=False)[:, batch["input_ids"].shape[1] :]
    answer = Elysium(model, processor).ask(part["path"], question, num_frames=2)
    assert processor.decode(found[0], skip_special_tokens=True) == answer != ""


# Loading and running


def test_a_pipeline_answers(folder, tmp_path):
    model, processor = load_pretrained(str(folder), torch.float32)
    (frame,) = frames(1)
    image = Image.fromarray(frame)
    prompt = prompts.build_prompt(prompts.Task.VIDEO_QA, 1, QUESTION)
    batch = processor(prompt, images=[frame])
    ids = model.generate(**batch, **GREEDY)[:, batch["input_ids"].shape[1] :]
    expected = processor.decode(ids[0], skip_special_tokens=True)
    path = picture(tmp_path / "a.png", frame)
    made = pipeline("image-text-to-text", model=model, processor=processor)
    for pipe in (made, pipeline("image-text-to-text", model=str(folder))):
        for chat in (ask({"type": "image", "image": image}), ask({"type": "image", "url": path})):
            (answer,) = pipe(text=chat, return_full_text=False, generate_kwargs=GREEDY)
            assert answer["generated_text"] == expected
        (answer,) = pipe(image, text=prompt, return_full_text=False, generate_kwargs=GREEDY)
        assert answer["generated_text"] == expected


def test_both_auto_classes_give_the_model(folder):
    expected = ElysiumForConditionalGeneration.from_pretrained(folder)
    batch = requests(AutoProcessor.from_pretrained(folder), False)([0, 1])
    for factory in (AutoModelForImageTextToText, AutoModelForCausalLM):
        assert torch.equal(logits(factory.from_pretrained(folder), batch), logits(expected, batch))


def test_the_kinds_of_attention_agree(folder):
    kinds = ("sdpa", "eager")
    models = {kind: AutoModelForCausalLM.from_pretrained(folder, attn_implementation=kind) for kind in kinds}
    batch = requests(AutoProcessor.from_pretrained(folder), False)([0, 1])
    for kind, model in models.items():
        assert model.language_model.config._attn_implementation == kind
        assert model.vision.tower.config._attn_implementation == kind
    real = batch["attention_mask"].bool()  # padding sees nothing, which each kind answers in its own way
    assert torch.allclose(logits(models["sdpa"], batch)[real], logits(models["eager"], batch)[real], atol=1e-5)


def test_bfloat16_answers_nearly_the_same(folder):
    whole, half = (AutoModelForCausalLM.from_pretrained(folder, dtype=kind) for kind in (torch.float32, torch.bfloat16))
    processor = AutoProcessor.from_pretrained(folder)
    batch = requests(processor, False)([0, 1])
    expected, found = logits(whole, batch), logits(half, batch)
    real = batch["attention_mask"].bool()
    assert (found - expected)[real].norm() < 0.02 * expected[real].norm()
    assert half.generate(**batch, **GREEDY).shape[1] <= batch["input_ids"].shape[1] + 8


def test_saved_in_shards_every_number_comes_back(folder, tmp_path):
    model, processor = load_pretrained(str(folder), torch.float32)
    model.save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    processor.save_pretrained(tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    again, _ = load_pretrained(str(tmp_path / "shards"), torch.float32)
    assert model.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_parts_may_lie_on_the_disk(folder, tmp_path):
    """What does not fit a device is fetched when it is needed (accelerate)."""
    batch = requests(AutoProcessor.from_pretrained(folder), False)([0, 1])
    expected = logits(AutoModelForCausalLM.from_pretrained(folder), batch)
    places = {"vision": "cpu", "selector": "cpu", "projector": "disk", "language_model": "disk"}
    model = AutoModelForCausalLM.from_pretrained(folder, device_map=places, offload_folder=tmp_path / "aside")
    assert model.language_model.lm_head.weight.is_meta
    assert torch.equal(logits(model, batch), expected)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder, device_map="auto"), batch), expected)


@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles for the CPU with g++")
def test_steps_of_decoding_can_be_compiled(folder):
    """In one graph, as transformers does it by itself on a GPU. One layer, for g++ takes long."""
    model, processor = load_pretrained(str(folder), torch.float32)
    del model.language_model.model.layers[1:]
    model.language_model.config.num_hidden_layers = 1
    batch = requests(processor, False)([0])
    expected = model.generate(**batch, **GREEDY, eos_token_id=-1)
    compiling = CompileConfig(fullgraph=True, mode="default")
    compiling._compile_all_devices = True
    torch._dynamo.reset()
    counted = torch._dynamo.utils.counters["stats"]
    before = counted["unique_graphs"]
    found = model.generate(
        **batch, **GREEDY, eos_token_id=-1, cache_implementation="static", compile_config=compiling
    )
    assert torch.equal(found, expected) and counted["unique_graphs"] == before + 1


def test_an_answer_may_hold_any_number_of_the_vocabulary(folder):
    """Where the vocabulary is padded, the number of the image mark is one that the model can write."""
    model, processor = load_pretrained(str(folder), torch.float32)
    batch = processor("hello", images=None)
    first = model(**batch, use_cache=True)
    step = torch.tensor([[model.config.image_token_id]])
    assert model(input_ids=step, past_key_values=first.past_key_values).logits.isfinite().all()


# Weights in few bits


@pytest.fixture
def wide(tmp_path):
    """A saved model whose widths are multiples of 64: bitsandbytes wants them on CPUs with AVX-512."""
    config, tokenizer = tiny_config(), tiny_tokenizer()
    for part in (config.vision_config, config.text_config):
        part.hidden_size, part.intermediate_size, part.head_dim = 64, 128, 16
    torch.manual_seed(0)
    ElysiumForConditionalGeneration(config).save_pretrained(tmp_path)
    ElysiumProcessor(
        ElysiumImageProcessor(config.image_size), tokenizer, num_image_tokens=5, bos_per_piece=False
    ).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("ours", [True, False])
def test_weights_in_few_bits(bits, ours, wide):
    """By our settings the language model's layers alone; by those of users the tower's and the projector too."""
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="weights in 8 and 4 bits need bitsandbytes")
    kind = {8: bitsandbytes.nn.Linear8bitLt, 4: bitsandbytes.nn.Linear4bit}[bits]
    plain = BitsAndBytesConfig(load_in_8bit=bits == 8, load_in_4bit=bits == 4)
    settings = quantization(bits, torch.float32) if ours else plain
    model = AutoModelForImageTextToText.from_pretrained(wide, quantization_config=settings, dtype=torch.float32)
    held = {name.split(".")[0] for name, module in model.named_modules() if isinstance(module, kind)}
    assert held == ({"language_model"} if ours else {"language_model", "vision", "projector"})
    assert not isinstance(model.language_model.lm_head, kind)
    processor = AutoProcessor.from_pretrained(wide)
    batch = requests(processor, False)([0, 1])
    whole = AutoModelForImageTextToText.from_pretrained(wide)
    expected, found = logits(whole, batch), logits(model, batch)
    real = batch["attention_mask"].bool()
    assert (found - expected)[real].norm() < (0.05 if bits == 8 else 0.3) * expected[real].norm()
    cached = model.generate(**batch, **GREEDY)
    assert cached.shape[1] <= batch["input_ids"].shape[1] + 8


@pytest.mark.parametrize("bits", [8, 4])
def test_elysium_answers_with_weights_in_few_bits(bits, wide):
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="weights in 8 and 4 bits need bitsandbytes")
    kind = {8: bitsandbytes.nn.Linear8bitLt, 4: bitsandbytes.nn.Linear4bit}[bits]
    loaded = Elysium.from_pretrained(wide, device="cpu", dtype=f"{bits}bit")
    assert isinstance(loaded.model.language_model.model.layers[0].mlp.up_proj, kind)
    assert loaded.model.projector[0].weight.dtype == torch.float32
    (frame,) = frames(1)
    box, score = loaded.ground(frame, "the red car")
    assert box.shape == (4,) and 0 <= score <= 1


# Training


def taught(processor, count: int = 2):
    """A batch of questions with answers."""
    colors = ["red", "blue", "green"]
    asked = [f"<image>\nthe {colors[i % 3]} car" for i in range(count)]
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 255, (40, 60, 3), dtype=np.uint8) for _ in range(count)]
    return processor(asked, images=images, answers=[colors[i % 3] for i in range(count)])


def gradients(model, batch):
    model.zero_grad()
    torch.manual_seed(0)  # of the noise on the selector's choice
    model(**batch).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_gradients_are_the_same_with_checkpointing():
    model, processor = tiny_model_and_processor()
    batch = taught(processor)
    model.train()
    expected = gradients(model, batch)
    model.gradient_checkpointing_enable()
    checkpointed = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
    found = gradients(model, batch)
    assert len(checkpointed) >= 2 + 3  # layers of the language model and of the tower
    assert found.keys() == expected.keys() and {"vision", "selector", "language_model"} <= {
        name.split(".")[0] for name in found
    }
    assert all(torch.allclose(found[name], grad, atol=1e-6) for name, grad in expected.items())


def test_adapters_of_peft(folder, tmp_path):
    peft = pytest.importorskip("peft", reason="adapters need peft")
    model, processor = load_pretrained(str(folder), torch.float32)
    batch = taught(processor)
    settings = peft.LoraConfig(
        r=4, target_modules=r"language_model\..*\.(q_proj|v_proj)", modules_to_save=["projector"], task_type="CAUSAL_LM"
    )
    adapted = peft.get_peft_model(model, settings)
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    before = adapted(**batch).loss.item()
    for _ in range(3):
        optimizer.zero_grad()
        adapted(**batch).loss.backward()
        optimizer.step()
    assert adapted(**batch).loss.item() < before
    expected = logits(adapted, batch)
    adapted.save_pretrained(tmp_path / "adapter")
    base, _ = load_pretrained(str(folder), torch.float32)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert torch.equal(logits(loaded, batch), expected)
    prompt = processor("<image>\nthe red car", images=frames(1))
    answer = loaded.generate(**prompt, **GREEDY)
    merged = loaded.merge_and_unload()
    assert isinstance(merged, ElysiumForConditionalGeneration)
    assert torch.allclose(logits(merged, batch), expected, atol=1e-5)
    assert torch.equal(merged.generate(**prompt, **GREEDY), answer)
    merged.save_pretrained(tmp_path / "merged")
    processor.save_pretrained(tmp_path / "merged")
    again, _ = load_pretrained(str(tmp_path / "merged"), torch.float32)
    assert torch.equal(logits(again, batch), logits(merged, batch))


def test_the_plain_trainer_of_transformers(folder, tmp_path):
    model, processor = load_pretrained(str(folder), torch.float32)
    words = ("red", "blue", "green", "red")
    rows = [
        {"prompt": f"<image>\nthe {word} car", "image": image, "answer": word}
        for word, image in zip(words, frames(4), strict=True)
    ]

    def collate(rows):
        prompts, images, answers = ([row[key] for row in rows] for key in ("prompt", "image", "answer"))
        return processor(prompts, images=images, answers=answers)

    arguments = TrainingArguments(
        tmp_path / "run", max_steps=12, per_device_train_batch_size=2, per_device_eval_batch_size=2, learning_rate=5e-3,
        logging_steps=1, report_to="none", remove_unused_columns=False, disable_tqdm=True, use_cpu=True, save_steps=12,
        prediction_loss_only=True,
    )  # fmt: skip
    trainer = Trainer(
        model=model, args=arguments, train_dataset=rows, eval_dataset=rows, data_collator=collate,
        processing_class=processor,
    )  # fmt: skip
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.9 * before
    loaded, _ = load_pretrained(str(tmp_path / "run" / "checkpoint-12"), torch.float32)  # with the processor
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
