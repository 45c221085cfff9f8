"""Google's original .npz files: those of vision_transformer (Dosovitskiy et al. 2021) and those of big_vision."""

import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.infer_config import infer_depth, infer_image_size, infer_mlp_ratio
from vitreous.pretrained.formats.rules import Rename, SplitTokens
from vitreous.pretrained.formats.state_dict_format import StateDictFormat, TensorRule

BLOCK = "Transformer/encoderblock_{}"


@dataclass(frozen=True)
class Names:
    """Where the two repositories differ: one counts all parts of a block, the other each kind by itself."""

    attention_norm: str
    attention: str
    mlp_norm: str
    mlp: str
    positions: str
    rows: int
    """Rows of the positions' table for the class token, if there is one."""


OLDER = Names(
    "LayerNorm_0", "MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3",
    "Transformer/posembed_input/pos_embedding", 1,
)  # fmt: skip
NEWER = Names("LayerNorm_0", "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0", "pos_embedding", 0)


def read_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of an .npz file as tensors, by name; bfloat16, which numpy lacks, is recognized by its two bytes.

    Raises:
        InputError: it is not such a file, is truncated, or holds objects (pickles), which aren't read.
        OSError: it can't be opened.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _check_entry(archive, entry)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: _tensor(arrays[name]) for name in arrays.files}
    except (
        zipfile.BadZipFile, zlib.error, ValueError, EOFError, AttributeError, TypeError, NotImplementedError,
        RuntimeError, SyntaxError, TokenError, MemoryError,
    ):  # fmt: skip
        raise InputError(f"{path} is damaged or holds more than plain arrays: download it again") from None


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Refuse an array whose header claims more numbers than its entry holds, before memory is asked for them.

    Raises:
        ValueError: it does.
    """
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        if math.prod(shape) * dtype.itemsize > entry.file_size:
            raise ValueError(f"{entry.filename} claims {shape}")


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype == np.dtype("V2"):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).float()
    return torch.from_numpy(array)


def _infer_config(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any], names: Names) -> ViTConfig:
    if "pre_logits/kernel" in tensors:
        raise InputError("these weights have a tanh layer before the head (pre_logits), which our ViT has not")
    patch_size, across, channels, width = tensors["embedding/kernel"].shape
    if across != patch_size:
        raise InputError(f"patches of {patch_size} × {across} pixels: only square patches can be converted")
    global_pool = "token" if "cls" in tensors else "map" if "MAPHead_0/probe" in tensors else "avg"
    patches = tensors[names.positions].shape[1] - (names.rows if global_pool == "token" else 0)
    hidden = tensors[f"{BLOCK.format(0)}/{names.mlp}/Dense_0/kernel"].shape[1]
    return ViTConfig(
        infer_image_size(patches, patch_size, external_config), patch_size, channels,
        num_classes=tensors["head/kernel"].shape[1] if "head/kernel" in tensors else 0, embed_dim=width,
        depth=infer_depth(tensors, f"{BLOCK}/{names.attention_norm}/scale"),
        num_heads=tensors[f"{BLOCK.format(0)}/{names.attention}/query/kernel"].shape[1],
        mlp_ratio=infer_mlp_ratio(hidden, width), mlp_layer="gelu-tanh", global_pool=global_pool, norm_eps=1e-6,
    )  # fmt: skip


def _rules(config: ViTConfig, names: Names) -> list[TensorRule]:
    has_class_token = config.has_class_token
    query_key_value = tuple(f"{BLOCK}/{names.attention}/{part}" for part in ("query", "key", "value"))
    return [
        SplitTokens(("cls",) * has_class_token, names.positions, config, rows=names.rows * has_class_token),
        Rename(
            "patch_embed.proj.weight", "embedding/kernel",
            lambda t: t.permute(3, 2, 0, 1), lambda t: t.permute(2, 3, 1, 0),
        ),
        Rename("patch_embed.proj.bias", "embedding/bias"),
        *_norm("blocks.{}.norm1", f"{BLOCK}/{names.attention_norm}"),
        *_to_heads("blocks.{}.attn.qkv", query_key_value, config),
        *_from_heads("blocks.{}.attn.proj", f"{BLOCK}/{names.attention}/out", config),
        *_norm("blocks.{}.norm2", f"{BLOCK}/{names.mlp_norm}"),
        *_mlp("blocks.{}.mlp", f"{BLOCK}/{names.mlp}"),
        *_norm("norm", "Transformer/encoder_norm"),
        *(_map_rules(config) if config.global_pool == "map" else ()),
        *(_dense("head", "head") if config.num_classes else ()),
    ]  # fmt: skip


def _map_rules(config: ViTConfig) -> list[TensorRule]:
    head, attention = "MAPHead_0", "MAPHead_0/MultiHeadDotProductAttention_0"
    return [
        Rename("attn_pool.latent", f"{head}/probe"),
        *_to_heads("attn_pool.q", (f"{attention}/query",), config),
        *_to_heads("attn_pool.kv", (f"{attention}/key", f"{attention}/value"), config),
        *_from_heads("attn_pool.proj", f"{attention}/out", config),
        *_norm("attn_pool.norm", f"{head}/LayerNorm_0"),
        *_mlp("attn_pool.mlp", f"{head}/MlpBlock_0"),
    ]


def _norm(key: str, external_key: str) -> list[TensorRule]:
    return [Rename(f"{key}.weight", f"{external_key}/scale"), Rename(f"{key}.bias", f"{external_key}/bias")]


def _dense(key: str, external_key: str) -> list[TensorRule]:
    """Convert a linear map, whose kernel is (inputs, outputs)."""
    weight = Rename(f"{key}.weight", f"{external_key}/kernel", torch.t, torch.t)
    return [weight, Rename(f"{key}.bias", f"{external_key}/bias")]


def _mlp(key: str, external_key: str) -> list[TensorRule]:
    return [*_dense(f"{key}.fc1", f"{external_key}/Dense_0"), *_dense(f"{key}.fc2", f"{external_key}/Dense_1")]


def _to_heads(key: str, external_keys: tuple[str, ...], config: ViTConfig) -> list[TensorRule]:
    """Stack maps into heads, whose kernels are (inputs, heads, head width), into one of ours."""
    shape = config.embed_dim, config.num_heads, config.head_dim
    kernels, biases = (tuple(f"{name}/{kind}" for name in external_keys) for kind in ("kernel", "bias"))
    return [
        Rename(f"{key}.weight", kernels, lambda t: t.flatten(1).t(), lambda t: t.t().reshape(shape)),
        Rename(f"{key}.bias", biases, lambda t: t.flatten(), lambda t: t.reshape(shape[1:])),
    ]


def _from_heads(key: str, external_key: str, config: ViTConfig) -> list[TensorRule]:
    """Convert a map out of heads, whose kernel is (heads, head width, outputs)."""
    shape = config.num_heads, config.head_dim, config.embed_dim
    return [
        Rename(
            f"{key}.weight", f"{external_key}/kernel",
            lambda t: t.flatten(0, 1).t(), lambda t: t.t().reshape(shape),
        ),
        Rename(f"{key}.bias", f"{external_key}/bias"),
    ]  # fmt: skip


NPZ = StateDictFormat(
    "npz",
    (OLDER.positions, "embedding/kernel", f"{BLOCK.format(0)}/{OLDER.attention}/query/kernel"),
    partial(_infer_config, names=OLDER), partial(_rules, names=OLDER), num_heads_key="",
    supports={"mlp_layer": ("gelu-tanh",), "global_pool": ("token", "avg")},
    defaults={"norm_eps": 1e-6}, normalize_key=lambda name: name.removeprefix("opt/target/"),
)  # fmt: skip
"""google-research/vision_transformer, whose GELU is the tanh form (as flax's is unless told otherwise).

Its own code resamples positions linearly; ours, like timm's and transformers' for the same weights, bicubically.
"""

BIG_VISION = StateDictFormat(
    "big-vision",
    (NEWER.positions, "embedding/kernel", f"{BLOCK.format(0)}/{NEWER.attention}/query/kernel"),
    partial(_infer_config, names=NEWER), partial(_rules, names=NEWER), num_heads_key="",
    supports={"mlp_layer": ("gelu-tanh",), "global_pool": ("token", "avg", "map")},
    defaults={"norm_eps": 1e-6}, ignored=(r"txt/.*", "t", "b"),
    prefix="params/", normalize_key=lambda name: name.removeprefix("img/"),
)  # fmt: skip
"""google-research/big_vision: class token, mean or attention pooling; of image-text models the image tower."""
