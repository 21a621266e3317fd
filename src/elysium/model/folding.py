"""A convolutional tower made ready for use alone: batch normalisation folded into the convolution before it.

In use a batch normalisation multiplies and adds constants, and so does a convolution: one can do both (Jacob et al.
2018, section 3.2). On a CPU oneDNN adds the bias and applies a ReLU while it writes a convolution's results, and has
the weights lie as it reads them. The results are the same but for rounding, in the sixth digit. With nano's tower on a
CPU the first leaves a little more than half of the time, the second takes a seventh of that.

Knows: layers of transformers' convolutional towers (MobileNet, ResNet, RegNet), which call their parts `convolution`,
`normalization` and `activation`. Does not know: which layers' outputs are read.
"""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Folded:
    """The folded copy of a tower, made when it is first asked for and again when the tower's weights have changed.

    Some changes cannot be seen from outside: what is written through ``parameter.data``, and what a fused optimiser
    writes. Whoever knows of such says :meth:`forget`.

    Args:
        kept: names of modules whose outputs are read: they are not written over.
    """

    def __init__(self, kept: Collection[str]) -> None:
        self._kept = frozenset(kept)
        self._copy: nn.Module | None = None
        self._state: tuple[Any, ...] = ()

    def of(self, tower: nn.Module) -> nn.Module:
        """The tower to run in place of ``tower``: a folded copy, or itself where there is nothing to fold, or where it
        computes in fewer digits than float32 (rounding folded weights to them would change answers)."""
        state = _state(tower)
        if state != self._state:
            self._state, self._copy = state, self._fold(tower)
        return tower if self._copy is None else self._copy

    def forget(self) -> None:
        """Let go of the copy, and make another when it is next asked for."""
        self._copy, self._state = None, ()

    def _fold(self, tower: nn.Module) -> nn.Module | None:
        names = [name for name, module in tower.named_modules() if _foldable(module)]
        if not names or tower.training:
            return None
        with torch.inference_mode(False), torch.no_grad():
            copy = deepcopy(tower)
            for name in names:
                layer: Any = copy.get_submodule(name)
                layer.convolution = fuse_conv_bn_eval(layer.convolution, layer.normalization)
                layer.normalization = nn.Identity()
            copy = copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            for name in names:
                if not self._kept & {f"{name}.convolution", f"{name}.normalization"}:
                    _join_activation(copy.get_submodule(name))
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        """A copied model, or one in another process, makes its own."""
        return Folded, (self._kept,)


class _Convolution(nn.Module):
    """A convolution on a CPU and what is applied to its results, written once.

    What is called here is what `torch.compile` calls, and no promise of PyTorch's: see `_has_onednn`.

    Args:
        convolution: with a bias and zeros around the edges.
        then: name, numbers and kind of what oneDNN applies.
    """

    def __init__(self, convolution: nn.Conv2d, then: tuple[str, list[float], str]) -> None:
        super().__init__()
        # Towers that pad by themselves ask for these.
        self.kernel_size, self.stride = convolution.kernel_size, convolution.stride
        self.dilation, self.groups = convolution.dilation, convolution.groups
        self.how = (convolution.padding, self.stride, self.dilation, self.groups)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(convolution.weight.detach(), *self.how)
        self.bias = None if convolution.bias is None else convolution.bias.detach()
        self.then = then

    def forward(self, features: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(features, self.weight, self.bias, *self.how, *self.then)


_THEN: dict[type, tuple[str, list[float], str]] = {nn.ReLU: ("relu", [], ""), nn.ReLU6: ("hardtanh", [0.0, 6.0], "")}


def _join_activation(layer: Any) -> None:
    """Have a layer's convolution apply its activation, or where that cannot be, the activation write over its input."""
    if _has_onednn(layer.convolution):
        then = _THEN.get(type(layer.activation))
        layer.convolution = _Convolution(layer.convolution, then or ("none", [], ""))
        layer.activation = layer.activation if then is None else nn.Identity()
    if hasattr(layer.activation, "inplace"):
        layer.activation.inplace = True


def _has_onednn(convolution: nn.Conv2d) -> bool:
    """Whether oneDNN can take a convolution over."""
    there = all(hasattr(torch.ops.mkldnn, name) for name in ("_convolution_pointwise", "_reorder_convolution_weight"))
    plain = convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    return there and torch.backends.mkldnn.is_available() and plain and convolution.weight.device.type == "cpu"


def _foldable(module: nn.Module) -> bool:
    convolution, norm = getattr(module, "convolution", None), getattr(module, "normalization", None)
    return (
        isinstance(convolution, nn.Conv2d)
        and isinstance(norm, nn.BatchNorm2d)
        and norm.track_running_stats
        and convolution.weight.dtype == torch.float32
        and hasattr(module, "activation")
    )


def _state(tower: nn.Module) -> tuple[Any, ...]:
    """What changes when a weight is replaced, moved, or written to.

    Asked for every clip, so it walks by itself: `parameters` and `buffers`, which look out for shared ones, take more
    than twice as long.
    """
    marks: list[tuple[int, int]] = []
    rest = [tower]
    while rest:
        module = rest.pop()
        marks.extend(_mark(tensor) for tensor in module._parameters.values() if tensor is not None)
        marks.extend(_mark(tensor) for tensor in module._buffers.values() if tensor is not None)
        rest.extend(child for child in module._modules.values() if child is not None)
    return tower.training, *marks


def _mark(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
