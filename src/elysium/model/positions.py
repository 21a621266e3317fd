"""Sine-cosine codes of positions: of tokens on the grid, of frames in a clip, of numbers in the answer.

Knows: one formula, used for tokens and for number embeddings alike, so that the language model can compare the
two linearly. The code of ``u`` in 0..1 is ``[sin(2 pi f u), cos(2 pi f u)]`` for frequencies f spaced
geometrically (Vaswani et al. 2017, with the range fitted to hundredths of a frame).
Does not know: anything learned.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOWEST_CYCLES = 0.25
HIGHEST_CYCLES = 25.0


def code_1d(values: Tensor, num_channels: int) -> Tensor:
    """Codes (..., num_channels) of values in 0..1; ``num_channels`` must be even."""
    count = num_channels // 2
    ratio = torch.linspace(0, 1, count, device=values.device, dtype=torch.float32)
    cycles = LOWEST_CYCLES * (HIGHEST_CYCLES / LOWEST_CYCLES) ** ratio
    angles = 2 * torch.pi * values.float().unsqueeze(-1) * cycles
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def grid_centres(grid: int, device: torch.device | None = None) -> Tensor:
    """(grid*grid, 2) x, y in 0..1 of the cell centres, raster order."""
    axis = (torch.arange(grid, device=device, dtype=torch.float32) + 0.5) / grid
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=-1)


def code_2d(grid: int, num_channels: int, device: torch.device | None = None) -> Tensor:
    """(grid*grid, num_channels) codes of the cell centres: x in the first half of the channels, y in the second."""
    half = num_channels // 4 * 2
    centres = grid_centres(grid, device)
    codes = torch.cat([code_1d(centres[:, 0], half), code_1d(centres[:, 1], half)], dim=-1)
    return torch.nn.functional.pad(codes, (0, num_channels - 2 * half))


def box_coverage(boxes_xyxyn: Tensor, grid: int) -> Tensor:
    """(R, grid*grid) share, 0..1, of every grid cell that lies in each box (R, 4) given in 0..1 of the frame."""
    edges = torch.arange(grid + 1, device=boxes_xyxyn.device, dtype=torch.float32) / grid
    low, high = boxes_xyxyn[:, :2].float().unsqueeze(-1), boxes_xyxyn[:, 2:].float().unsqueeze(-1)
    overlap = torch.minimum(high, edges[1:]) - torch.maximum(low, edges[:-1])  # (R, 2, grid)
    share = (overlap * grid).clamp(0, 1)
    return (share[:, 1].unsqueeze(-1) * share[:, 0].unsqueeze(-2)).flatten(1)
