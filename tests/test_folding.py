"""The folded tower sees what the tower sees, and never what it saw with other weights."""

from __future__ import annotations

import pickle
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import MobileNetV2Config, MobileNetV2Model, RegNetConfig, RegNetModel, ResNetConfig, ResNetModel

from composition_kit import build_tower
from elysium.model import ElysiumForConditionalGeneration, folding
from elysium.model.folding import Folded
from tiny import tiny_model_and_processor


@pytest.fixture
def model() -> ElysiumForConditionalGeneration:
    model, _ = tiny_model_and_processor(gate="prompt")
    stir(model.vision.tower)
    return model


def stir(tower: nn.Module) -> None:
    """Have its batch normalisations do something."""
    torch.manual_seed(5)
    for module in tower.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2.0)


def seen(model: ElysiumForConditionalGeneration) -> tuple[torch.Tensor, torch.Tensor]:
    """(F, D) of the quick way and of the whole tower."""
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        quick = model.encode_frames(pixels)
    with torch.no_grad():
        return quick, model.encode_frames(pixels)


def test_it_sees_the_same(model: ElysiumForConditionalGeneration) -> None:
    quick, whole = seen(model)
    assert whole.std() > 0.1
    assert not torch.equal(quick, whole)  # another order of sums: it was folded
    torch.testing.assert_close(quick, whole, atol=2e-5, rtol=1e-4)


def test_it_follows_the_weights(model: ElysiumForConditionalGeneration) -> None:
    """Written to in place, loaded, replaced, or of a copy."""
    before, _ = seen(model)
    tower, other = model.vision.tower, deepcopy(model)
    convolution = tower.layer[0].conv_3x3.convolution
    with torch.no_grad():
        convolution.weight.mul_(1.5)
    scaled = seen(model)
    assert not torch.allclose(scaled[0], before, atol=1e-2)
    torch.testing.assert_close(*scaled, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(seen(other)[0], before, atol=0, rtol=0)
    tower.load_state_dict(other.vision.tower.state_dict())
    torch.testing.assert_close(seen(model)[0], before, atol=0, rtol=0)
    tower.layer[0].conv_3x3.convolution.weight = nn.Parameter(convolution.weight * 1.5)
    torch.testing.assert_close(seen(model)[0], scaled[0], atol=0, rtol=0)
    tower.layer[0].conv_3x3.normalization.running_mean.add_(1)
    torch.testing.assert_close(*seen(model), atol=2e-5, rtol=1e-4)


def test_it_forgets_what_it_saw_before_training(model: ElysiumForConditionalGeneration) -> None:
    """Neither a fused optimiser nor what is written through ``data`` counts as a change."""
    before, _ = seen(model)
    model.train()
    weights = [weight for weight in model.vision.tower.parameters() if weight.dim() == 4]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    torch.optim.AdamW(weights, lr=0.01, fused=True).step()
    quick, whole = seen(model.eval())
    assert not torch.allclose(quick, before, atol=1e-2)
    torch.testing.assert_close(quick, whole, atol=1e-4, rtol=1e-4)
    for weight in weights:
        weight.data.mul_(1.1)
    torch.testing.assert_close(*seen(model.eval()), atol=1e-4, rtol=1e-4)


def test_the_tower_keeps_its_weights_and_modules(model: ElysiumForConditionalGeneration) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen(model)
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_cannot_be_folded_stays_as_it_is() -> None:
    tower = build_tower("clip")
    assert Folded([]).of(tower) is tower
    mobile = build_tower("mobilenet")
    assert Folded([]).of(mobile.train()) is mobile  # its batch normalisations learn
    assert Folded([]).of(mobile.eval().half()) is mobile
    assert Folded([]).of(mobile.float()) is not mobile


SMALL: dict[str, Any] = {"depth_multiplier": 0.25, "image_size": 64}
DEEP: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2]}
TOWERS = {
    "mobilenet": lambda: MobileNetV2Model(MobileNetV2Config(**SMALL, tf_padding=False)),
    "its own padding": lambda: MobileNetV2Model(MobileNetV2Config(**SMALL, tf_padding=True)),
    "resnet": lambda: ResNetModel(ResNetConfig(**DEEP, layer_type="basic")),
    "regnet": lambda: RegNetModel(RegNetConfig(**DEEP, groups_width=4)),
    "gelu": lambda: ResNetModel(ResNetConfig(**DEEP, hidden_act="gelu")),  # which nothing joins
}


@pytest.mark.parametrize("joined", [True, False], ids=["joined", "without oneDNN"])
@pytest.mark.parametrize("kind", TOWERS)
def test_activations_join_convolutions(kind: str, joined: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a tower says, of batches of several sizes."""
    if not joined:
        monkeypatch.setattr(folding, "_has_onednn", lambda convolution: False)
    tower = TOWERS[kind]().eval()
    stir(tower)
    quick = Folded([]).of(tower)
    assert joined == any(type(module).__name__ == "_Convolution" for module in quick.modules())
    for frames in (1, 3):
        pixels = torch.randn(frames, 3, 64, 64, generator=torch.Generator().manual_seed(frames))
        with torch.inference_mode():
            said, expected = (each(pixels, output_hidden_states=True).hidden_states for each in (quick, tower))
        for one, other in zip(said, expected, strict=True):
            assert other.std() > 1e-3
            torch.testing.assert_close(one, other, atol=5e-5, rtol=1e-4)


def test_what_is_read_between_convolution_and_activation_stays() -> None:
    tower = TOWERS["mobilenet"]().eval()
    stir(tower)
    name = "layer.2.expand_1x1.normalization"
    quick, heard = Folded([name]).of(tower), []
    for each in (quick, tower):
        each.get_submodule(name).register_forward_hook(lambda module, given, output: heard.append(output.clone()))
        with torch.inference_mode():
            each(torch.ones(1, 3, 64, 64))
    assert heard[1].min() < -0.01  # no ReLU has been there
    torch.testing.assert_close(heard[0], heard[1], atol=5e-5, rtol=1e-4)


def test_a_folded_model_can_be_sent_to_another_process(model: ElysiumForConditionalGeneration) -> None:
    before, _ = seen(model)
    torch.testing.assert_close(seen(pickle.loads(pickle.dumps(model)))[0], before, atol=0, rtol=0)
