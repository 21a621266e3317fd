"""The folded tower sees what the tower sees, and never what it saw with other weights."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from composition_kit import build_tower
from elysium.model import ElysiumForConditionalGeneration
from elysium.model.folding import Folded
from tiny import tiny_model_and_processor


@pytest.fixture
def model() -> ElysiumForConditionalGeneration:
    """A tower whose batch normalisations do something."""
    model, _ = tiny_model_and_processor(gate="prompt")
    torch.manual_seed(5)
    for module in model.vision.tower.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2.0)
    return model


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
