"""facebookresearch/dinov3's own names (Siméoni et al. 2025)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.infer_config import infer_depth, infer_mlp_ratio, infer_num_heads, infer_patch_size
from vitreous.pretrained.formats.rules import (
    Constant,
    Rename,
    SplitTokens,
    joined_entries,
    linear_entries,
    mask_token,
    patch_entry,
)
from vitreous.pretrained.formats.state_dict_format import ANY, GIVEN, StateDictFormat, TensorRule

HEADS = {1280: 20, 4096: 32}
"""Where DINOv3's heads (table 2) aren't those of other models of the same width."""


def dinov3_heads(width: int, theirs: Mapping[str, Any], key: str) -> int:
    """The number of heads that config.json names, or else that the published DINOv3 of this width has."""
    return infer_num_heads(width, ({key: HEADS[width]} if width in HEADS else {}) | dict(theirs), key)


def _config(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> ViTConfig:
    kernel, gated = tensors["patch_embed.proj.weight"], "blocks.0.mlp.w1.weight" in tensors
    width, patch_size = kernel.shape[0], infer_patch_size(kernel)
    first = tensors["blocks.0.mlp.w1.weight" if gated else "blocks.0.mlp.fc1.weight"]
    # Rotary positions fit every size: 14 × 14 patches are what was seen most in training.
    return ViTConfig(
        (14 * patch_size, 14 * patch_size), patch_size, kernel.shape[1], num_classes=0, embed_dim=width,
        depth=infer_depth(tensors, "blocks.{}.norm1.weight"), num_heads=dinov3_heads(width, theirs, "num_heads"),
        mlp_layer="swiglu" if gated else "gelu", mlp_ratio=infer_mlp_ratio(len(first), width, gated=gated),
        pos_embed="rotary", reg_tokens=tensors["storage_tokens"].shape[1], init_values=1e-5, norm_eps=1e-5,
    )  # fmt: skip


def _rules(config: ViTConfig) -> list[TensorRule]:
    gated = config.mlp_layer == "swiglu"
    first = ("blocks.{}.mlp.w1", "blocks.{}.mlp.w2") if gated else ("blocks.{}.mlp.fc1",)
    return [
        SplitTokens(("cls_token", "storage_tokens"), None, config),
        mask_token("mask_token", 1, config.embed_dim),
        Constant("rope_embed.periods", lambda: _periods(config), checked=True),
        *patch_entry("patch_embed.proj", config),
        *linear_entries("blocks.{}.attention_norm", "blocks.{}.norm1"),
        Rename("blocks.{}.attention.qkv.weight", "blocks.{}.attn.qkv.weight"),
        Rename("blocks.{}.attention.qkv.bias", "blocks.{}.attn.qkv.bias", _masked, _refuse_key_bias, may_lack=True),
        Constant("blocks.{}.attn.qkv.bias_mask", lambda: _masked(torch.ones(3 * config.embed_dim)), checked=True),
        *linear_entries("blocks.{}.attention.projection", "blocks.{}.attn.proj"),
        Rename("blocks.{}.attention_branch.factor", "blocks.{}.ls1.gamma"),
        *linear_entries("blocks.{}.mlp_norm", "blocks.{}.norm2"),
        *joined_entries(f"blocks.{{}}.mlp.{'gate_and_value' if gated else 'expand'}", first),
        *linear_entries("blocks.{}.mlp.contract", f"blocks.{{}}.mlp.{'w3' if gated else 'fc2'}"),
        Rename("blocks.{}.mlp_branch.factor", "blocks.{}.ls2.gamma"),
        *linear_entries("norm", "norm"),
    ]


def _periods(config: ViTConfig) -> Tensor:
    quarter = config.head_dim // 4
    return 100.0 ** (torch.arange(quarter) / quarter)


def _masked(bias: Tensor) -> Tensor:
    """The keys' bias, the middle third, is multiplied by zero in their model, whatever the file says."""
    query, _, value = bias.chunk(3)
    return torch.cat([query, torch.zeros_like(query), value])


def _refuse_key_bias(bias: Tensor) -> Tensor:
    if bias.chunk(3)[1].any():
        raise InputError("dinov3 can't hold a model whose keys have a bias")
    return bias


DINOV3_META = StateDictFormat(
    "dinov3",
    ("cls_token", "storage_tokens", "mask_token", "rope_embed.periods", "patch_embed.proj.weight",
     "blocks.0.attn.qkv.weight", "blocks.0.ls1.gamma"),
    _config, _rules,
    supports={"mlp": ("gelu", "swiglu"), "layer_scale": GIVEN, "registers": ANY, "positions": ("rotary",)},
    defaults={"norm_epsilon": 1e-5}, ignored=(r"local_cls_norm\..*",),
)  # fmt: skip
"""The backbones of torch.hub's facebookresearch/dinov3, which have no head; local_cls_norm is for training alone."""
