"""Describe a model as version 0.1.0 did: the inverse of `vitreous.model.migration`.

That version hashed these texts, names and tensors into fingerprints, with which its files are recognized.
"""

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.config import ViTConfig
from vitreous.model.migration import CONFIG_KEYS, CONFIG_VALUES, PREPROCESSING_KEYS, PREPROCESSING_VALUES, TENSOR_NAMES
from vitreous.model.vit import ViT

CONFIG_FIELDS = (
    "image_size_hw", "patch_size", "channels", "classes", "width", "depth", "heads", "mlp_ratio", "stem",
    "stem_convolutions", "embedding_norm", "pooling", "norm_after_pooling", "positions", "positions_antialias",
    "registers", "norm", "norm_epsilon", "mlp", "layer_scale", "qk_norm", "stochastic_depth", "patch_dropout",
)  # fmt: skip
"""Fields of a model's configuration in the order of version 0.1.0; PREPROCESSING_FIELDS are those of Preprocessing."""
PREPROCESSING_FIELDS = ("size_hw", "resize", "mean", "std", "multiple", "central", "interpolation")
TENSOR_ORDER = (
    r"prefix$", r"stem\.blocks", r"stem\.linear", r"positions", r"embedding_norm", r"blocks", r"norm",
    r"pooling\.query$", r"pooling\.score", r"pooling\.query_map", r"pooling\.key_value_map", r"pooling\.projection",
    r"pooling\.norm", r"pooling\.mlp\.expand", r"pooling\.mlp\.contract", r"head",
)  # fmt: skip
"""The order of the weights of a model of version 0.1.0; BLOCK_ORDER is the order within a block."""
BLOCK_ORDER = (
    "attention_norm", "attention.qkv", "attention.projection", "attention.query_norm", "attention.key_norm",
    "attention_branch", "mlp_norm", "mlp.expand", "mlp.gate_and_value", "mlp.contract", "mlp_branch",
)  # fmt: skip


def earlier_config(config: ViTConfig) -> str:
    """Return a model's configuration as version 0.1.0 printed it."""
    values = []
    for name in CONFIG_FIELDS:
        key = CONFIG_KEYS.get(name, name)
        values.append(f"{name}={_earlier_value(getattr(config, key), CONFIG_VALUES.get(key, {}))!r}")
    return f"ViTConfig({', '.join(values)})"


def earlier_preprocessing(preprocessing: Preprocessing) -> str:
    """Return a preprocessing as version 0.1.0 printed it."""
    values = []
    for name in PREPROCESSING_FIELDS:
        key = PREPROCESSING_KEYS.get(name, name)
        values.append(f"{name}={_earlier_value(getattr(preprocessing, key), PREPROCESSING_VALUES.get(key, {}))!r}")
    return f"Preprocessing({', '.join(values)})"


def earlier_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights under the names, in the shapes and in the order of version 0.1.0.

    The weights of a wrapped model keep the names that its library gave them.
    """
    if not isinstance(model, ViT):
        yield from model.state_dict().items()
        return
    found, config, prefix = {}, model.config, []
    for name, weight in model.state_dict().items():
        if name in ("cls_token", "reg_token"):
            prefix.append((name, weight[0]))
            continue
        earlier = _earlier_name(name, config)
        if earlier == "stem.linear.weight":
            weight = weight.flatten(1)
        elif earlier == "positions.table":
            weight = weight.reshape(*config.grid_size, -1)
        elif earlier == "pooling.query":
            weight = weight.flatten()
        found[earlier] = weight
    if prefix:
        found["prefix"] = torch.cat([weight for _, weight in sorted(prefix)])
    for name in sorted(found, key=_order_key):
        yield name, found[name]


def _earlier_value(value: object, today: dict[str, str]) -> object:
    """Return the earlier form of a value, from a table of earlier values and those of today."""
    return {new: old for old, new in today.items()}.get(value, value) if isinstance(value, str) else value


def _earlier_name(name: str, config: ViTConfig) -> str:
    """Return the earlier name of a tensor, by reading the table of names backward."""
    if name.startswith("fc_norm.") and config.fc_norm:
        return name.removeprefix("fc_")
    expand = "gate_and_value" if config.mlp_layer == "swiglu" else "expand"
    for old, new in TENSOR_NAMES.items():
        pattern = new.replace(".", r"\.").replace(r"\1", r"(blocks\.\d+)")
        template = old.replace(r"(blocks\.\d+)", r"\1").replace("(?:expand|gate_and_value)", expand).rstrip("$")
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", template.replace(r"\.", "."), name)
    return name


def _order_key(name: str) -> tuple[int, int, int]:
    """Return a key that sorts names as a model of version 0.1.0 had them; weights stay before biases."""
    position = next((i for i, pattern in enumerate(TENSOR_ORDER) if re.match(pattern, name)), len(TENSOR_ORDER))
    block = re.match(r"blocks\.(\d+)\.(.+)", name)
    if block is None:
        return position, 0, 0
    return (
        position,
        int(block[1]),
        next((i for i, part in enumerate(BLOCK_ORDER) if block[2].startswith(part + ".")), 99),
    )
