"""From visual tokens to the language model's width.

Knows: the projector types of the configuration and the annotation embedding.
Does not know: how tokens were chosen.
"""

from __future__ import annotations

from torch import nn

from elysium.model.configuration import ProjectorType


def build_projector(kind: ProjectorType, num_channels: int, hidden_size: int) -> nn.Module:
    """``mlp2x_gelu``: Linear, GELU, Linear, with the indices 0 and 2 of the released weights; ``linear``: one layer."""
    if kind == "linear":
        return nn.Linear(num_channels, hidden_size)
    return nn.Sequential(nn.Linear(num_channels, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))
