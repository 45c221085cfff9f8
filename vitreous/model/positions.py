"""Where a patch lies: learned tables, sine-cosine and rotary positions, each defined on any grid."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitreous.model.config import ViTConfig


class LearnedPositions(nn.Module):
    """A learned vector a place of the grid, resampled for other grids; starts from sine-cosine positions."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(*config.grid_hw, config.width))
        self.antialias = config.positions_antialias
        self.register_load_state_dict_pre_hook(resample_on_load)

    def forward(self, patches: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """Add positions to patches (batch, grid height × grid width, width)."""
        return patches + resample(self.table, grid_hw, antialias=self.antialias).flatten(0, 1).to(patches.dtype)


class SinCosPositions(nn.Module):
    """Fixed sines and cosines of a patch's row and column."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.grid_hw, self.width = config.grid_hw, config.width

    def forward(self, patches: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """Add positions to patches (batch, grid height × grid width, width)."""
        table = sincos_table(grid_hw, self.width, self.grid_hw, patches.device)
        return patches + table.flatten(0, 1).to(patches.dtype)


def build_positions(config: ViTConfig) -> nn.Module | None:
    """What is added to the patches for their place; nothing where queries and keys are turned instead."""
    if config.positions == "rotary":
        return None
    return LearnedPositions(config) if config.positions == "learned" else SinCosPositions(config)


def resample(table: Tensor, grid_hw: tuple[int, int], *, antialias: bool = False) -> Tensor:
    """A table (grid height, grid width, width) on another grid, by bicubic interpolation of the places' centers.

    This is what transformers' ViT does, so converted weights agree on every image size.
    """
    if tuple(table.shape[:2]) == tuple(grid_hw):
        return table
    planes = table.permute(2, 0, 1).unsqueeze(0)
    resampled = functional.interpolate(planes, grid_hw, mode="bicubic", align_corners=False, antialias=antialias)
    return resampled.squeeze(0).permute(1, 2, 0)


def resample_on_load(module: "LearnedPositions", state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    """Have learned positions take a table that was learned on another grid."""
    own, loaded = module.table, state_dict.get(prefix + "table")
    if loaded is not None and loaded.ndim == 3 and loaded.shape[2] == own.shape[2]:
        state_dict[prefix + "table"] = resample(loaded, (own.shape[0], own.shape[1]), antialias=module.antialias)


def sincos_table(
    grid_hw: tuple[int, int], width: int, trained_grid_hw: tuple[int, int], device: torch.device | str = "cpu"
) -> Tensor:
    """Sine-cosine positions (grid height, grid width, width): half for the row, half for the column.

    Frequencies 10000^(−4i/width) as in Vaswani et al. 2017 (section 3.5), an axis at a time as in MAE (He et al.
    2022). On another grid the same image is covered by more or fewer places: coordinates are those of their
    centers on the trained grid, so nothing is interpolated.
    """
    axes = []
    for places, trained in zip(grid_hw, trained_grid_hw, strict=True):
        centers = (torch.arange(places, device=device) + 0.5) * (trained / places) - 0.5
        frequencies = 10000.0 ** (-torch.arange(width // 4, device=device) / (width // 4))
        angles = centers[:, None] * frequencies
        axes.append(torch.cat([angles.sin(), angles.cos()], -1))
    rows = axes[0][:, None].expand(-1, grid_hw[1], -1)
    columns = axes[1][None].expand(grid_hw[0], -1, -1)
    return torch.cat([rows, columns], -1)


def rotation_table(
    grid_hw: tuple[int, int], head_width: int, prefix: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Rotary angles (tokens, head width / 2): a quarter of the head turns with the row, a quarter with the column.

    Rotary positions are Su et al. 2021 (section 3.2); centers in −1 … 1 and periods 100^(4i/head width) follow
    DINOv3 (Siméoni et al. 2025), so that any grid covers the same range. Prefix tokens aren't turned.
    """
    axes = []
    for places in grid_hw:
        centers = 2 * (torch.arange(places, device=device) + 0.5) / places - 1
        periods = 100.0 ** (torch.arange(head_width // 4, device=device) / (head_width // 4))
        axes.append(2 * math.pi * centers[:, None] / periods)
    rows = axes[0][:, None].expand(-1, grid_hw[1], -1)
    columns = axes[1][None].expand(grid_hw[0], -1, -1)
    patches = torch.cat([rows, columns], -1).flatten(0, 1)
    return torch.cat([patches.new_zeros(prefix, head_width // 2), patches])


def rotate(heads: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair (i, i + d/2) of (batch, heads, tokens, d) by its angle (Su et al. 2021, equation 34).

    `angles` is (tokens, d / 2), or (batch, 1, tokens, d / 2) where each image keeps other patches.
    """
    sine, cosine = angles.sin(), angles.cos()
    first, second = heads.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)
