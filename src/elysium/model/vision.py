"""From pixels to a grid of visual tokens, for any vision tower of transformers.

Knows: how to read the hidden states of a transformer or convolutional tower and lay them out as one grid.
Does not know: which of the tokens matter (selector) or what they are compared with.

The work is split in two so that a frozen tower can be run once and its output kept: ``encode`` runs the tower
and returns one flat vector a frame, ``assemble`` (cheap, nothing learned) makes tokens of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel

from elysium.errors import ModelError
from elysium.model.configuration import ElysiumConfig
from elysium.model.folding import Folded

_CHUNK = 4  # frames at once on a CPU: measured with nano, more are slower, and what lies between layers takes memory


class _Enough(Exception):
    """Everything that is needed of a forward has been seen."""


class VisionEncoder(nn.Module):
    """A vision tower and the layout of its features.

    ``forward`` maps ``pixel_values`` (F, 3, S, S) to tokens (F, N, C) with N = ``grid`` squared.
    """

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__()
        self.tower = AutoModel.from_config(config.vision_config)
        self.layers = list(config.vision_feature_layers)
        self.drop_cls = config.vision_drop_cls
        self.map_shapes, self._givers = self._probe(config.image_size)
        self._folded = Folded(self._givers)
        self.grid = config.vision_grid or self.map_shapes[0][1]
        self.channels = [self._folded_channels(c, side) for c, side in self.map_shapes]
        self.num_channels = sum(self.channels)
        self.norm = config.vision_feature_norm

    def train(self, mode: bool = True) -> VisionEncoder:
        """A tower that does not learn stays as it is in use: batch normalisation would drift, without any gradient."""
        self._folded.forget()  # before and after training; optimisers leave no trace of what they write
        learns = any(parameter.requires_grad for parameter in self.tower.parameters())
        self.training = mode
        if learns or self.tower.training:  # the Trainer asks at every step, and a tower has hundreds of modules
            self.tower.train(mode and learns)
        return self

    @property
    def num_tokens(self) -> int:
        """N, the tokens of one frame before selection."""
        return self.grid * self.grid

    @property
    def num_features(self) -> int:
        """D, the numbers of one frame that :meth:`encode` gives."""
        return sum(channels * side * side for channels, side in self.map_shapes)

    def _probe(self, image_size: int) -> tuple[list[tuple[int, int]], list[str]]:
        """(channels, side) of each feature layer, and the name of the module that gives it, empty where none does;
        found by running the tower's structure on the meta device."""
        with torch.device("meta"):
            probe = AutoModel.from_config(self.tower.config).eval()
            given: dict[str, Tensor] = {}
            handles = [module.register_forward_hook(_keep(given, name)) for name, module in probe.named_modules()]
            hidden = probe(torch.zeros(1, 3, image_size, image_size), output_hidden_states=True).hidden_states
        for handle in handles:
            handle.remove()
        wanted = [hidden[i] for i in self.layers]
        givers = [next((name for name, h in given.items() if h is state), "") for state in wanted]
        return [(h.shape[1], h.shape[2]) for h in map(self._as_map, wanted)], givers

    def _folded_channels(self, channels: int, side: int) -> int:
        if side > self.grid and side % self.grid:
            raise ModelError(
                f"A feature map of side {side} does not fold into a grid of {self.grid}",
                "Choose vision_grid so that it divides the finer maps",
            )
        return channels * (side // self.grid) ** 2 if side > self.grid else channels

    def _hidden(self, pixel_values: Tensor, tower: nn.Module | None) -> list[Tensor]:
        """Feature maps (F, C, side, side) of the chosen layers, transformer tokens folded to their grid; read from
        ``tower`` as it runs, or where that is None from the whole tower."""
        if tower is None:
            hidden = self.tower(pixel_values, output_hidden_states=True).hidden_states
            return [self._as_map(hidden[i]) for i in self.layers]
        given = self._run_until_given(pixel_values, tower)
        return [self._as_map(given[name]) for name in self._givers]

    def _quick_tower(self) -> nn.Module | None:
        """What runs in place of the tower where nothing is learned; None where the whole tower has to."""
        # Sharded training wraps modules in its own hooks, which a forward that is broken off would skip.
        if not torch.is_inference_mode_enabled() or not all(self._givers):
            return None
        return self._folded.of(self.tower)

    def _run_until_given(self, pixel_values: Tensor, tower: nn.Module) -> dict[str, Tensor]:
        """The hidden states by the modules that give them; what comes behind the last of these does not run."""
        given: dict[str, Tensor] = {}
        modules = {name: tower.get_submodule(name) for name in self._givers}
        handles = [
            module.register_forward_hook(_keep(given, name, until=len(modules))) for name, module in modules.items()
        ]
        try:
            tower(pixel_values)
        except _Enough:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return given

    def _as_map(self, hidden: Tensor) -> Tensor:
        if hidden.dim() == 4:
            return hidden
        tokens = hidden[:, 1:] if self.drop_cls else hidden
        side = math.isqrt(tokens.shape[1])
        if side * side != tokens.shape[1]:
            raise ModelError(f"{tokens.shape[1]} visual tokens are no square grid", "Check vision_drop_cls")
        return tokens.transpose(1, 2).unflatten(2, (side, side))

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Run the tower: (F, 3, S, S) -> (F, D), the chosen feature maps flattened one after the other."""
        # Channels last makes convolutions on a CPU about 1.6 times faster and changes nothing else.
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        step = len(pixel_values) if torch.is_grad_enabled() or pixel_values.is_cuda else _CHUNK
        tower = self._quick_tower()
        parts = [self._hidden(part, tower) for part in pixel_values.split(max(step, 1))]
        return torch.cat([torch.cat([m.flatten(1) for m in hidden], dim=1) for hidden in parts])

    def assemble(self, features: Tensor) -> Tensor:
        """(F, D) from :meth:`encode` -> visual tokens (F, N, C) in raster order."""
        sizes = [channels * side * side for channels, side in self.map_shapes]
        tokens = []
        for i, part in enumerate(features.split(sizes, dim=1)):
            folded = self._to_grid(part.unflatten(1, (self.map_shapes[i][0], self.map_shapes[i][1], -1)))
            flat = folded.flatten(2).transpose(1, 2)
            tokens.append(F.layer_norm(flat, flat.shape[-1:]) if self.norm else flat)
        return torch.cat(tokens, dim=-1)

    def _to_grid(self, feature_map: Tensor) -> Tensor:
        side = feature_map.shape[-1]
        if side > self.grid:
            return F.pixel_unshuffle(feature_map, side // self.grid)
        if side < self.grid:
            return F.interpolate(feature_map, size=(self.grid, self.grid), mode="bilinear", align_corners=False)
        return feature_map

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.assemble(self.encode(pixel_values))


def _keep(given: dict[str, Tensor], name: str, until: int | None = None) -> Callable[[nn.Module, Any, Any], None]:
    """A hook that keeps what a module gives, and ends the forward once there are ``until``."""

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor):
            given[name] = first
        if len(given) == until:
            raise _Enough

    return keep
