"""Where a patch is: learned, sine-cosine and rotary positions, each defined on any grid of patches."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from vitreous.model.vit import ViT


def resample_pos_embed(
    pos_embed: Tensor, grid_size: tuple[int, int], new_grid_size: tuple[int, int], *, antialias: bool = False
) -> Tensor:
    """Resample learned positions for another grid, by bicubic interpolation between the patches' centers.

    This is what transformers' ViT does, so converted weights agree on every image size.

    Args:
        pos_embed: (1, rows × columns, width), for patches only.
        grid_size: the (rows, columns) that they were learned for.
        new_grid_size: the (rows, columns) wanted.
        antialias: filter where the new grid is coarser, as timm does.

    Returns:
        (1, new rows × new columns, width).
    """
    if tuple(grid_size) == tuple(new_grid_size):
        return pos_embed
    planes = pos_embed.squeeze(0).unflatten(0, grid_size).permute(2, 0, 1).unsqueeze(0)
    resampled = functional.interpolate(planes, new_grid_size, mode="bicubic", align_corners=False, antialias=antialias)
    return resampled.squeeze(0).permute(1, 2, 0).flatten(0, 1).unsqueeze(0)


def resample_on_load(module: "ViT", state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
    """Let `load_state_dict` take learned positions of another number of patches, or timm's with prefix tokens.

    timm's default (`no_embed_class=False`) has positions for the prefix tokens too. They are constants, and are added
    to the class token and the registers. Positions of another grid are resampled. Their grid isn't stored: a square is
    taken where there is one, else the most similar rectangle. A number of rows that fits no such grid is left alone,
    which `load_state_dict` then reports.
    """
    own, loaded, config = module.pos_embed, state_dict.get(f"{prefix}pos_embed"), module.config
    if own is None or loaded is None or loaded.ndim != 3 or loaded.shape[2] != own.shape[2]:
        return
    prefix_tokens = config.num_prefix_tokens
    if prefix_tokens and _has_prefix_rows(loaded.shape[1], config.grid_size, prefix_tokens):
        start = 0
        for name in (f"{prefix}cls_token", f"{prefix}reg_token"):
            if (tokens := state_dict.get(name)) is not None:
                end = start + tokens.shape[1]
                state_dict[name], start = tokens + loaded[:, start:end].to(tokens.dtype), end
        loaded = loaded[:, prefix_tokens:]
    if loaded.shape[1] != own.shape[1]:
        grid_size = likely_grid(loaded.shape[1], config.grid_size)
        if not _are_similar(grid_size, config.grid_size):
            return
        loaded = resample_pos_embed(loaded, grid_size, config.grid_size, antialias=config.pos_embed_antialias)
    state_dict[f"{prefix}pos_embed"] = loaded


def _has_prefix_rows(rows: int, grid_size: tuple[int, int], prefix_tokens: int) -> bool:
    """Say whether a table of positions begins with rows for the prefix tokens."""
    if rows == grid_size[0] * grid_size[1] + prefix_tokens:
        return True
    patches = rows - prefix_tokens
    is_grid = _are_similar(likely_grid(rows, grid_size), grid_size)
    return not is_grid and patches > 0 and math.isqrt(patches) ** 2 == patches


def _are_similar(grid_size: tuple[int, int], like: tuple[int, int]) -> bool:
    """Say whether a grid is a square, or has at most twice the aspect ratio of another one, or half of it."""
    ratio = grid_size[0] * like[1] / (grid_size[1] * like[0])
    return grid_size[0] == grid_size[1] or 0.5 <= ratio <= 2


def likely_grid(patches: int, like: tuple[int, int]) -> tuple[int, int]:
    """Guess the (rows, columns) of so many patches: a square, or else the shape nearest to that of the grid `like`.

    >>> likely_grid(196, (16, 32)), likely_grid(24, (6, 10))
    ((14, 14), (4, 6))
    """
    side = math.isqrt(patches)
    if side * side == patches:
        return side, side
    shapes = [(rows, patches // rows) for rows in range(1, patches + 1) if patches % rows == 0]
    return min(shapes, key=lambda shape: abs(math.log(shape[0] * like[1] / (shape[1] * like[0]))))


def sincos_pos_embed(
    grid_size: tuple[int, int], dim: int, trained_grid_size: tuple[int, int], device: torch.device | str = "cpu"
) -> Tensor:
    """Compute sine-cosine positions (1, rows × columns, dim): half of the channels for the row, half for the column.

    Frequencies 10000^(−4i/dim) as in Vaswani et al. 2017 (section 3.5), for each axis as in MAE (He et al. 2022). On
    another grid the same image is covered by more or fewer patches: coordinates are those of their centers on the
    trained grid, so nothing is interpolated.
    """
    axes = []
    for patches, trained in zip(grid_size, trained_grid_size, strict=True):
        centers = (torch.arange(patches, device=device) + 0.5) * (trained / patches) - 0.5
        frequencies = 10000.0 ** (-torch.arange(dim // 4, device=device) / (dim // 4))
        angles = centers[:, None] * frequencies
        axes.append(torch.cat([angles.sin(), angles.cos()], -1))
    rows = axes[0][:, None].expand(-1, grid_size[1], -1)
    columns = axes[1][None].expand(grid_size[0], -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1).unsqueeze(0)


def rope_angles(
    grid_size: tuple[int, int], head_dim: int, num_prefix_tokens: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Compute rotary angles (tokens, head_dim / 2): a quarter of the head turns with the row, a quarter with the
    column.

    Rotary positions are Su et al. 2021 (section 3.2); centers in −1 … 1 and periods 100^(4i/head_dim) follow DINOv3
    (Siméoni et al. 2025), so that any grid covers the same range. Tokens before the patches aren't turned.
    """
    axes = []
    for patches in grid_size:
        centers = 2 * (torch.arange(patches, device=device) + 0.5) / patches - 1
        periods = 100.0 ** (torch.arange(head_dim // 4, device=device) / (head_dim // 4))
        axes.append(2 * math.pi * centers[:, None] / periods)
    rows = axes[0][:, None].expand(-1, grid_size[1], -1)
    columns = axes[1][None].expand(grid_size[0], -1, -1)
    angles = torch.cat([rows, columns], -1).flatten(0, 1)
    return torch.cat([angles.new_zeros(num_prefix_tokens, head_dim // 2), angles])


def apply_rope(heads: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair (i, i + d/2) of (batch, heads, tokens, d) by its angle (Su et al. 2021, equation 34).

    `angles` is (tokens, d / 2), or (batch, 1, tokens, d / 2) where each image keeps other patches.
    """
    sine, cosine = angles.sin(), angles.cos()
    first, second = heads.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)
