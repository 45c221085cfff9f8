"""How many heads a model has, where its weights and its config.json don't tell."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from torch import Tensor

from vitreous.errors import InputError, unknown

WIDE = {1152: 16, 1280: 16, 1408: 16, 1664: 16}
"""Width and heads of the published models whose heads aren't 64 wide: so400m, H, g, G (Zhai et al. 2022, table 2)."""


Activation = Literal["gelu", "gelu-tanh", "quick-gelu"]
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu", "gelu_new": "gelu-tanh", "gelu_fast": "gelu-tanh", "gelu_pytorch_tanh": "gelu-tanh",
    "quick_gelu": "quick-gelu",
}  # fmt: skip
"""The activations of transformers' config.json and ours."""
ACTIVATIONS_BACK = {"gelu": "gelu", "gelu-tanh": "gelu_pytorch_tanh", "quick-gelu": "quick_gelu"}
"""Ours, as transformers' config.json has them."""


def usual_num_heads(width: int, key: str = "num_heads") -> int:
    """The heads that published models of this width have; `key` is where a config.json would say them.

    Raises:
        InputError: there is no usual number; it must be said.

    >>> usual_heads(384), usual_heads(1280)
    (6, 16)
    """
    if width in WIDE:
        return WIDE[width]
    if width % 64:
        raise InputError(f"weights of width {width} don't tell the number of heads: give a config.json with {key}")
    return width // 64


def infer_depth(names: Iterable[str], name: str) -> int:
    """How many blocks there are, by the numbers at the "{}" of `name`: "blocks.{}.norm1.weight".

    Raises:
        InputError: a block up to the highest of which there is anything has none of that name.
    """
    names, (start, _, end) = set(names), name.partition("{}")
    pattern = rf"{re.escape(start)}(\d+){re.escape(end[0])}"
    numbers = {int(match[1]) for match in (re.match(pattern, other) for other in names) if match}
    depth = max(numbers, default=0) + 1
    missing = next((block for block in range(depth) if name.format(block) not in names), None)
    if missing is not None:
        raise InputError(f"these weights lack '{name.format(missing)}': a block, or a part of it, is missing")
    return depth


def stated_depth(theirs: Mapping[str, Any]) -> int | None:
    """The number of blocks that config.json names, if it names one."""
    tower = theirs.get("vision_config") or theirs.get("model_args") or theirs
    said = tower.get("num_hidden_layers", tower.get("depth"))
    return said if isinstance(said, int) else None


def infer_num_heads(width: int, theirs: Mapping[str, Any], key: str = "num_attention_heads") -> int:
    """The number of heads that config.json names, or else that published models of this width have.

    Raises:
        InputError: neither tells.
    """
    return int(theirs[key]) if key in theirs else usual_num_heads(width, key)


def to_pair(value: Any) -> tuple[int, int]:
    """A size (height, width) that config.json gives as one number or two."""
    if isinstance(value, int | float):
        return int(value), int(value)
    height, width = value
    return int(height), int(width)


def infer_patch_size(kernel: Tensor) -> int:
    """The patch size in pixels of a patch embedding (width, channels, patch, patch).

    Raises:
        InputError: the patches aren't square.
    """
    if kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3]:
        raise InputError(f"a patch embedding of shape {tuple(kernel.shape)}: only square patches can be converted")
    return kernel.shape[2]


def infer_image_size(
    places: int, patch_size: int, theirs: Mapping[str, Any], key: str = "image_size"
) -> tuple[int, int]:
    """Height and width in pixels of the images that a table of so many `places` was learned on.

    Pixels that make no whole patch are cut off. Without a size in config.json the grid must be square.

    Raises:
        InputError: config.json names another size, or none and the places make no square.
    """
    said = theirs.get(key)
    side = math.isqrt(places)
    down, across = (pixels // patch_size for pixels in to_pair(said)) if said is not None else (side, side)
    if down * across == places:
        return down * patch_size, across * patch_size
    if said is not None:
        raise InputError(
            f"positions for {places} places don't fit {key} {said} of config.json, in patches of {patch_size}"
        )
    raise InputError(f"positions for {places} places make no square grid: give a config.json with {key}")


def infer_mlp_ratio(hidden: int, width: int, *, gated: bool = False) -> float:
    """The `mlp_ratio` that makes an MLP of so many `hidden` numbers; for SwiGLU, of one of its two halves.

    Raises:
        InputError: a gated MLP whose hidden width is no multiple of 8.
    """
    if gated and hidden % 8:
        raise InputError(f"a gated MLP of {hidden} numbers: only multiples of 8 can be converted")
    wanted = hidden * 3 / 2 if gated else hidden
    ratio = wanted / width
    while int(ratio * width) < int(wanted):
        ratio = math.nextafter(ratio, math.inf)
    return ratio


def infer_activation(theirs: Mapping[str, Any], key: str = "hidden_act") -> Activation:
    """The activation of the MLP that config.json names; GELU if it names none.

    Raises:
        InputError: it is one that our MLP hasn't.
    """
    name = theirs.get(key, "gelu")
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]
