"""Read what earlier versions of Vitreous wrote: the words of config.json, and the names and shapes of weights.

Version 0.1 had names of its own; today they are timm's. Files are translated when they are read, and never rewritten.
The other files of a run folder have their translation in `vitreous.runs.migration`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vitreous.errors import InputError, unknown
from vitreous.model.config import ViTConfig
from vitreous.model.positions import resample_pos_embed

CONFIG_KEYS = {
    "image_size_hw": "image_size", "channels": "in_chans", "classes": "num_classes", "width": "embed_dim",
    "heads": "num_heads", "stem_convolutions": "stem_convs", "embedding_norm": "pre_norm", "pooling": "global_pool",
    "norm_after_pooling": "fc_norm", "positions": "pos_embed", "positions_antialias": "pos_embed_antialias",
    "registers": "reg_tokens", "norm": "norm_layer", "norm_epsilon": "norm_eps", "mlp": "mlp_layer",
    "layer_scale": "init_values", "stochastic_depth": "drop_path_rate", "patch_dropout": "patch_drop_rate",
}  # fmt: skip
"""Earlier keys of a model's configuration, and those of today."""
CONFIG_VALUES = {
    "stem": {"patch": "linear"},
    "global_pool": {
        "class": "token", "mean": "avg", "class-and-mean": "token-avg", "class-and-distillation": "token-dist",
    },
    "pos_embed": {"rotary": "rope"},
    "norm_layer": {"layer": "layernorm", "rms": "rmsnorm"},
}  # fmt: skip
"""Earlier values by the key of today."""
PREPROCESSING_KEYS = {
    "size_hw": "input_size", "resize": "resize_mode", "multiple": "patch_size", "central": "crop_pct",
}  # fmt: skip
PREPROCESSING_VALUES = {"resize_mode": {"stretch": "squash"}}

TENSOR_NAMES = {
    r"stem\.linear\.": "patch_embed.proj.",
    r"stem\.blocks\.": "patch_embed.convs.",
    r"positions\.table$": "pos_embed",
    r"embedding_norm\.": "norm_pre.",
    r"(blocks\.\d+)\.attention_norm\.": r"\1.norm1.",
    r"(blocks\.\d+)\.attention\.qkv\.": r"\1.attn.qkv.",
    r"(blocks\.\d+)\.attention\.projection\.": r"\1.attn.proj.",
    r"(blocks\.\d+)\.attention\.query_norm\.": r"\1.attn.q_norm.",
    r"(blocks\.\d+)\.attention\.key_norm\.": r"\1.attn.k_norm.",
    r"(blocks\.\d+)\.attention_branch\.factor$": r"\1.ls1.gamma",
    r"(blocks\.\d+)\.mlp_norm\.": r"\1.norm2.",
    r"(blocks\.\d+)\.mlp\.(?:expand|gate_and_value)\.": r"\1.mlp.fc1.",
    r"(blocks\.\d+)\.mlp\.contract\.": r"\1.mlp.fc2.",
    r"(blocks\.\d+)\.mlp_branch\.factor$": r"\1.ls2.gamma",
    r"pooling\.score\.": "attn_pool.score.",
    r"pooling\.query$": "attn_pool.latent",
    r"pooling\.query_map\.": "attn_pool.q.",
    r"pooling\.key_value_map\.": "attn_pool.kv.",
    r"pooling\.projection\.": "attn_pool.proj.",
    r"pooling\.norm\.": "attn_pool.norm.",
    r"pooling\.mlp\.expand\.": "attn_pool.mlp.fc1.",
    r"pooling\.mlp\.contract\.": "attn_pool.mlp.fc2.",
}
"""Beginnings of the earlier names of tensors, as regular expressions, and what they are today."""


def migrate_config(values: object, origin: str = "") -> object:
    """Translate the fields of a `ViTConfig`, as any version wrote them; anything else comes back as it is.

    Raises:
        InputError: a field is of no version; names the nearest, and `origin`, where the values come from.

    >>> migrate_config({"image_size_hw": [32, 32], "width": 192, "pooling": "mean"})
    {'image_size': [32, 32], 'embed_dim': 192, 'global_pool': 'avg'}
    """
    if not isinstance(values, Mapping):
        return values
    migrated = rename_keys(values, CONFIG_KEYS, CONFIG_VALUES)
    known = [field.name for field in fields(ViTConfig)]
    for name in migrated:
        if name not in known:
            raise InputError(f"{origin + ': ' if origin else ''}{unknown('field', name, known, 'ViTConfig')}")
    return migrated


def migrate_preprocessing(values: object) -> object:
    """Translate the fields of a `Preprocessing`, as any version wrote them; anything else comes back as it is.

    >>> migrate_preprocessing({"size_hw": [32, 32], "resize": "stretch", "multiple": 4})
    {'input_size': [32, 32], 'resize_mode': 'squash', 'patch_size': 4}
    """
    return rename_keys(values, PREPROCESSING_KEYS, PREPROCESSING_VALUES) if isinstance(values, Mapping) else values


def rename_keys(
    values: Mapping[str, object], keys: Mapping[str, str], new_values: Mapping[str, Mapping[str, str]]
) -> dict[str, object]:
    """Rename the keys of a record, and then its values, given by the new key; what isn't named stays as it is.

    >>> rename_keys({"pooling": "mean", "depth": 2}, {"pooling": "global_pool"}, {"global_pool": {"mean": "avg"}})
    {'global_pool': 'avg', 'depth': 2}
    """
    renamed = {keys.get(key, key): value for key, value in values.items()}
    return {
        key: new_values.get(key, {}).get(value, value) if isinstance(value, str) else value
        for key, value in renamed.items()
    }


@dataclass(frozen=True)
class StoredTensor:
    """Where an earlier version keeps a tensor of today."""

    name: str
    """The name there."""
    rows: slice
    """The rows of it that are this tensor."""
    shape: torch.Size
    """The shape of this tensor."""

    def take(self, stored: Tensor) -> Tensor:
        """Cut this tensor out of the one that is stored."""
        return stored[self.rows].reshape(self.shape) if stored.ndim else stored


def is_earlier(names: Iterable[str]) -> bool:
    """Whether weights, or a checkpoint with names such as "model/norm.weight", were written by an earlier version."""
    return any(re.fullmatch(r"(.*/)?stem\.linear\.weight(/.*)?", name) for name in names)


def stored_tensors(shapes: Mapping[str, torch.Size], config: ViTConfig) -> dict[str, StoredTensor]:
    """Find each tensor of today in the weights, or the checkpoint, of an earlier version.

    Args:
        shapes: of what is stored, by its names: those of weights ("norm.weight"), or of a checkpoint, where a folder
            comes before them ("model/norm.weight", "optimizer/adamw/norm.weight/exp_avg").
        config: the model's configuration.

    Returns:
        By the names of today. Tensors of no earlier version are found under their own names.
    """
    found: dict[str, StoredTensor] = {}
    for stored, shape in shapes.items():
        match = re.fullmatch(r"(model/|average/|optimizer/(?:adamw|muon)/)?([^/]+)(/\w+)?", stored)
        folder, name, suffix = match.groups("") if match else ("", stored, "")
        for new, rows, new_shape in _split(name, shape, config):
            found[f"{folder}{new}{suffix}"] = StoredTensor(stored, rows, new_shape if len(shape) else shape)
    return found


def _split(name: str, shape: torch.Size, config: ViTConfig) -> list[tuple[str, slice, torch.Size]]:
    """The tensors of today that a tensor of an earlier version became: names, rows and shapes."""
    everything = slice(None)
    if name == "prefix":
        count, dim = int(config.has_class_token), config.embed_dim
        tokens = [("cls_token", slice(0, count), torch.Size((1, count, dim)))] * count
        registers = [("reg_token", slice(count, None), torch.Size((1, config.reg_tokens, dim)))]
        return tokens + registers * bool(config.reg_tokens)
    if name.startswith("norm.") and config.fc_norm:
        return [(f"fc_{name}", everything, shape)]
    new = next((re.sub(f"^{old}", into, name) for old, into in TENSOR_NAMES.items() if re.match(old, name)), name)
    if new == "patch_embed.proj.weight" and config.stem == "linear":
        shape = torch.Size((config.embed_dim, config.in_chans, config.patch_size, config.patch_size))
    elif new == "pos_embed" and len(shape) == 3:
        shape = torch.Size((1, shape[0] * shape[1], shape[2]))
    elif new == "attn_pool.latent":
        shape = torch.Size((1, 1, config.embed_dim))
    return [(new, everything, shape)]


def migrate_tensors(tensors: Mapping[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Translate the weights that an earlier version saved to the names and shapes of today; others stay as they are."""
    if not is_earlier(tensors):
        return dict(tensors)
    sources = stored_tensors({name: tensor.shape for name, tensor in tensors.items()}, config)
    migrated = {name: source.take(tensors[source.name]) for name, source in sources.items()}
    table = tensors.get("positions.table")
    if table is not None and table.ndim == 3:  # its grid is known here, and not later
        grid_size = (table.shape[0], table.shape[1])
        antialias = config.pos_embed_antialias
        migrated["pos_embed"] = resample_pos_embed(
            migrated["pos_embed"], grid_size, config.grid_size, antialias=antialias
        )
    return migrated
