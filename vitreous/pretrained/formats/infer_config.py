"""Parts of a configuration that have to be inferred from shapes and from another library's config.json."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from torch import Tensor

from vitreous.errors import InputError, unknown

WIDE_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}
"""Heads, by width, of the published models whose heads aren't 64 wide: so400m, H, g, G (Zhai et al. 2022, table 2)."""

Activation = Literal["gelu", "gelu-tanh", "quick-gelu"]
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu", "gelu_new": "gelu-tanh", "gelu_fast": "gelu-tanh", "gelu_pytorch_tanh": "gelu-tanh",
    "quick_gelu": "quick-gelu",
}  # fmt: skip
"""The activations of transformers' config.json and ours."""
ACTIVATIONS_BACK = {"gelu": "gelu", "gelu-tanh": "gelu_pytorch_tanh", "quick-gelu": "quick_gelu"}
"""Ours, as transformers' config.json has them."""


def usual_num_heads(embed_dim: int, key: str = "num_heads") -> int:
    """Look up the number of heads that published models of this width have.

    Args:
        embed_dim: the width of a token.
        key: where a config.json would state the number.

    Raises:
        InputError: there is no usual number; it must be stated.

    >>> usual_num_heads(384), usual_num_heads(1280)
    (6, 16)
    """
    if embed_dim in WIDE_HEADS:
        return WIDE_HEADS[embed_dim]
    if embed_dim % 64:
        raise InputError(
            f"weights of width {embed_dim} don't determine the number of heads: give a config.json with {key}"
        )
    return embed_dim // 64


def infer_depth(keys: Iterable[str], pattern: str) -> int:
    """Count the blocks, by the numbers at the "{}" of `pattern`: "blocks.{}.norm1.weight".

    Raises:
        InputError: a block below the highest number has no such key.
    """
    keys, (start, _, end) = set(keys), pattern.partition("{}")
    expression = rf"{re.escape(start)}(\d+){re.escape(end[0])}"
    numbers = {int(match[1]) for match in (re.match(expression, key) for key in keys) if match}
    depth = max(numbers, default=0) + 1
    missing = next((block for block in range(depth) if pattern.format(block) not in keys), None)
    if missing is not None:
        raise InputError(f"these weights lack '{pattern.format(missing)}': a block, or a part of it, is missing")
    return depth


def stated_depth(external_config: Mapping[str, Any]) -> int | None:
    """Read the number of blocks from config.json, if it states one."""
    tower = external_config.get("vision_config") or external_config.get("model_args") or external_config
    stated = tower.get("num_hidden_layers", tower.get("depth"))
    return stated if isinstance(stated, int) else None


def infer_num_heads(embed_dim: int, external_config: Mapping[str, Any], key: str = "num_attention_heads") -> int:
    """Take the number of heads that config.json states, or else that of published models of this width.

    Raises:
        InputError: neither is known.
    """
    return int(external_config[key]) if key in external_config else usual_num_heads(embed_dim, key)


def parse_size(value: Any) -> tuple[int, int]:
    """Turn a size that config.json gives as one number or two into (height, width)."""
    if isinstance(value, int | float):
        return int(value), int(value)
    height, width = value
    return int(height), int(width)


def infer_patch_size(kernel: Tensor) -> int:
    """Read the patch size in pixels from the kernel of a patch embedding (width, channels, patch, patch).

    Raises:
        InputError: the patches aren't square.
    """
    if kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3]:
        raise InputError(f"a patch embedding of shape {tuple(kernel.shape)}: only square patches can be converted")
    return kernel.shape[2]


def infer_image_size(
    patches: int, patch_size: int, external_config: Mapping[str, Any], key: str = "image_size"
) -> tuple[int, int]:
    """Infer the (height, width) in pixels of the images that positions of so many patches were learned for.

    Pixels that make no whole patch are cut off. Without a size in config.json the grid must be square.

    Raises:
        InputError: config.json states another size, or none and the patches make no square.
    """
    stated = external_config.get(key)
    side = math.isqrt(patches)
    rows, columns = (pixels // patch_size for pixels in parse_size(stated)) if stated is not None else (side, side)
    if rows * columns == patches:
        return rows * patch_size, columns * patch_size
    if stated is not None:
        raise InputError(
            f"{patches} learned positions don't fit {key} {stated} of config.json, in patches of {patch_size}"
        )
    raise InputError(f"{patches} learned positions make no square grid: give a config.json with {key}")


def infer_mlp_ratio(hidden: int, embed_dim: int, *, gated: bool = False) -> float:
    """Infer the `mlp_ratio` that makes an MLP of this hidden width; for SwiGLU, of one of its two halves.

    Raises:
        InputError: the hidden width of a gated MLP is not a multiple of 8.
    """
    if gated and hidden % 8:
        raise InputError(f"a gated MLP of hidden width {hidden}: only multiples of 8 can be converted")
    wanted = hidden * 3 / 2 if gated else hidden
    ratio = wanted / embed_dim
    while int(ratio * embed_dim) < int(wanted):
        ratio = math.nextafter(ratio, math.inf)
    return ratio


def infer_activation(external_config: Mapping[str, Any], key: str = "hidden_act") -> Activation:
    """Read the activation of the MLP from config.json; GELU if it states none.

    Raises:
        InputError: it is one that our MLP hasn't.
    """
    name = external_config.get(key, "gelu")
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]
