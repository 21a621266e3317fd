"""Many questions on one prefix: a packed batch has the losses and gradients of an unpacked one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from elysium.config import DataSection, LossSection, Phase
from elysium.errors import InputError
from elysium.model.presets import number_token_ids, train_nano_tokenizer
from elysium.training import recipe
from elysium.training.collate import IGNORED, Collator, block_mask, grouped
from elysium.training.loss import AnswerLoss, part_counts, total
from elysium.training.samples import SampleDataset
from elysium.training.sources import RecordClips
from elysium.training.trainer import answer_places
from tiny import tiny_model_and_processor
from training_kit import source, write_config, write_model, write_records


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packing")
    return RecordClips(write_records(folder), folder, size_px=56)


@pytest.fixture(scope="module", params=["numbers are tokens", "numbers are text"])
def model(request):
    """A tiny model without selector noise, its processor and the number tokens, if it has any."""
    net, processor = tiny_model_and_processor("mlp")
    numbers: list[int] = []
    if request.param == "numbers are tokens":
        processor.tokenizer = train_nano_tokenizer(["the red car is in the frame"] * 9, 500, phrases=("Frame ", ": ["))
        processor.image_token_id = processor.tokenizer.convert_tokens_to_ids("<image>")
        net.config.image_token_id = processor.image_token_id
        numbers = number_token_ids(processor.tokenizer)
    net.selector.config = replace(net.selector.config, noise=0.0)
    return net.train(), processor, numbers


def samples(clips, count=6, **asked):
    data = DataSection(tasks={"SOT": 0.4, "RSOT": 0.3, "VIDEO_REG": 0.3}, group_size=3, slip_share=0.0, **asked)
    dataset = SampleDataset(clips, count, count, (Phase(until=1.0, frames=3),), data, seed=4, region_mark=False)
    return [dataset[i] for i in range(count)]


def parts_of(net, batch, numbers):
    names = ("input_ids", "attention_mask", "position_ids", "pixel_values", "frame_ids", "frame_counts")
    places = answer_places(batch["labels"])
    output = net(**{name: batch[name] for name in names}, logits_to_keep=places - 1, use_cache=False)
    return AnswerLoss(numbers, 1.0)(output.logits, batch["labels"][:, places], batch["number_values"][:, places])


def test_samples_about_the_same_frames_are_grouped(clips):
    drawn = samples(clips)
    sizes = sorted(len(group) for group in grouped(drawn))
    assert sum(sizes) == 6 and max(sizes) >= 2
    for group in grouped(drawn):
        assert len({sample.frame_keys for sample in group}) == 1


def test_packed_losses_and_gradients_are_those_of_single_sequences(clips, model):
    net, processor, numbers = model
    drawn = samples(clips)
    results = []
    for packing in (False, True):
        batch = Collator(processor, numbers, net.vision.grid, packing=packing)(drawn)
        net.zero_grad()
        parts = parts_of(net, batch, numbers)
        total(parts, LossSection()).backward()
        gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        results.append((parts, gradient, part_counts(batch)[:3], batch))
    (single, single_grad, single_counts, plain), (packed, packed_grad, packed_counts, dense) = results
    assert ("numbers" in single) == bool(numbers)
    for name in single:
        assert packed[name].item() == pytest.approx(single[name].item(), rel=1e-5), name
    assert float((packed_grad - single_grad).norm() / single_grad.norm()) < 1e-4
    assert torch.equal(single_counts, packed_counts)
    assert len(dense["input_ids"]) < len(plain["input_ids"]) and dense["input_ids"].numel() < plain["input_ids"].numel()
    assert (dense["labels"] != IGNORED).sum() == (plain["labels"] != IGNORED).sum()


def test_the_mask_by_hand():
    mask = block_mask(torch.tensor([[-1, 0, 1, 1, 2]]))[0, 0]
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0],  # padding
        [0, 1, 0, 0, 0],  # the frames
        [0, 1, 1, 0, 0],  # the first question
        [0, 1, 1, 1, 0],
        [0, 1, 0, 0, 1],  # the second sees the frames and itself
    ]


def test_positions_start_again_behind_the_frames(clips, model):
    net, processor, _ = model
    batch = Collator(processor, [], net.vision.grid, packing=True)(samples(clips))
    for ids, positions in zip(batch["input_ids"], batch["position_ids"], strict=True):
        end = len(ids) - 1 - ids.flip(0).tolist().index(processor.image_token_id)
        behind = positions[end + 1 :].numpy()
        starts = np.flatnonzero(np.diff(behind) != 1) + 1
        assert behind[0] == positions[end] + 1 and (behind[starts] == positions[end] + 1).all()


def test_a_gate_that_looks_at_the_question_cannot_be_packed(tmp_path):
    folder = tmp_path / "data"
    path = write_config(
        tmp_path / "run.yaml", model={"path": write_model(tmp_path / "model", "prompt")},
        data={"sources": [source(write_records(folder))], "packing": True},
    )  # fmt: skip
    with pytest.raises(InputError, match=r"packing: the selector's gate .prompt. looks at the question"):
        recipe.run(path)
