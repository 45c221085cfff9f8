"""Meta's own names of backbones without a head: DINO (Caron et al. 2021), DINOv2 (Oquab et al. 2024), DINOv3 (Siméoni
et al. 2025); and MAE, iBOT and MoCo v3 as published, which are named as DINO."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.infer_config import (
    infer_depth,
    infer_image_size,
    infer_mlp_ratio,
    infer_num_heads,
    infer_patch_size,
)
from vitreous.pretrained.formats.rules import Constant, Rename, SplitTokens, linear_rules, mask_token, stacked_rules
from vitreous.pretrained.formats.state_dict_format import ANY, GIVEN, StateDictFormat, TensorRule
from vitreous.pretrained.formats.timm import SIGNATURE, infer_timm_config, trunk_rules

DINOV3_HEADS = {1280: 20, 4096: 32}
"""Widths at which DINOv3 has other numbers of heads (table 2) than other models."""


def _infer_dino(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> ViTConfig:
    """timm's own files, which have a config.json, resample positions antialiased; the original code doesn't."""
    config = infer_timm_config(tensors, external_config)
    return replace(config, pos_embed_antialias="architecture" in external_config)


DINO = StateDictFormat(
    "dino", (*SIGNATURE, "cls_token", "norm.weight"), _infer_dino, trunk_rules,
    defaults={"pos_embed_antialias": False, "norm_eps": 1e-6},
    excludes=(
        "head.weight", "attn_pool.latent", "norm_pre.weight", "reg_token", "dist_token", "blocks.0.ls1.gamma",
        "blocks.0.attn.q_norm.weight",
    ),
    ignored=("mask_token", r"decoder_.*"),
)  # fmt: skip
"""facebookresearch/dino's VisionTransformer of any patch size, alone or as teacher in a checkpoint.

A timm model without head has the very same names: it is read here too, and a config.json of timm's is respected. DINO's
code resamples positions by a scale factor of (patches + 0.1) / learned patches; we go by the size, which moves the
sampling points by less than 0.1 patch.
"""


def _infer_dinov2(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> ViTConfig:
    gated = "blocks.0.mlp.w12.weight" in tensors
    first = tensors["blocks.0.mlp.w12.weight" if gated else "blocks.0.mlp.fc1.weight"]
    kernel = tensors["patch_embed.proj.weight"]
    dim, patch_size = kernel.shape[0], infer_patch_size(kernel)
    registers = tensors["register_tokens"].shape[1] if "register_tokens" in tensors else 0
    return ViTConfig(
        infer_image_size(tensors["pos_embed"].shape[1] - 1, patch_size, external_config), patch_size, kernel.shape[1],
        num_classes=0, embed_dim=dim, depth=infer_depth(tensors, "blocks.{}.norm1.weight"),
        num_heads=infer_num_heads(dim, external_config, "num_heads"),
        mlp_layer="swiglu" if gated else "gelu", reg_tokens=registers, init_values=1.0,
        mlp_ratio=infer_mlp_ratio(len(first) // 2 if gated else len(first), dim, gated=gated),
        pos_embed_antialias=bool(registers), norm_eps=1e-6,
    )  # fmt: skip


def _same_rules(config: ViTConfig) -> list[TensorRule]:
    """What DINOv2 and DINOv3 name as we do: all but tokens, positions, the bias of queries and keys, and the MLP."""
    linear = ("patch_embed.proj", "norm", "blocks.{}.norm1", "blocks.{}.attn.proj", "blocks.{}.norm2")
    single = ("blocks.{}.attn.qkv.weight", "blocks.{}.ls1.gamma", "blocks.{}.ls2.gamma")
    return [
        mask_token("mask_token", 1, config.embed_dim),
        *(rule for name in linear for rule in linear_rules(name, name)),
        *(Rename(name, name) for name in single),
    ]


def _dinov2_rules(config: ViTConfig) -> list[TensorRule]:
    first, second = ("w12", "w3") if config.mlp_layer == "swiglu" else ("fc1", "fc2")
    return [
        SplitTokens(("cls_token",) + ("register_tokens",) * bool(config.reg_tokens), "pos_embed", config),
        *_same_rules(config),
        Rename("blocks.{}.attn.qkv.bias", "blocks.{}.attn.qkv.bias"),
        *linear_rules("blocks.{}.mlp.fc1", f"blocks.{{}}.mlp.{first}"),
        *linear_rules("blocks.{}.mlp.fc2", f"blocks.{{}}.mlp.{second}"),
    ]


DINOV2_META = StateDictFormat(
    "dinov2",
    ("cls_token", "mask_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight",
     "blocks.0.ls1.gamma"),
    _infer_dinov2, _dinov2_rules,
    supports={"mlp_layer": ("gelu", "swiglu"), "init_values": GIVEN, "reg_tokens": ANY},
    defaults={"norm_eps": 1e-6},
    normalize_key=lambda name: re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", name),
)  # fmt: skip
"""The backbones of torch.hub's facebookresearch/dinov2, also in chunks of blocks, as its trainer saves them.

Without registers, Meta's code resamples positions by the factor (patches + 0.1) / (learned patches), with them by the
size, antialiased. We go by the size in both, as transformers does. So without registers we sample at points that differ
by up to a tenth of a new patch: of ViT-S/14 at 224 pixels the last tokens, which reach 10, differ by 0.02 in the mean.
"""


def dinov3_num_heads(embed_dim: int, external_config: Mapping[str, Any], key: str) -> int:
    """Take the number of heads that config.json states, or else that of the published DINOv3 of this width."""
    usual = {key: DINOV3_HEADS[embed_dim]} if embed_dim in DINOV3_HEADS else {}
    return infer_num_heads(embed_dim, usual | dict(external_config), key)


def _infer_dinov3(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> ViTConfig:
    kernel, gated = tensors["patch_embed.proj.weight"], "blocks.0.mlp.w1.weight" in tensors
    dim, patch_size = kernel.shape[0], infer_patch_size(kernel)
    first = tensors["blocks.0.mlp.w1.weight" if gated else "blocks.0.mlp.fc1.weight"]
    # Rotary positions fit every size: 14 × 14 patches are the most frequent in training.
    return ViTConfig(
        (14 * patch_size, 14 * patch_size), patch_size, kernel.shape[1], num_classes=0, embed_dim=dim,
        depth=infer_depth(tensors, "blocks.{}.norm1.weight"),
        num_heads=dinov3_num_heads(dim, external_config, "num_heads"),
        mlp_layer="swiglu" if gated else "gelu", mlp_ratio=infer_mlp_ratio(len(first), dim, gated=gated),
        pos_embed="rope", reg_tokens=tensors["storage_tokens"].shape[1], init_values=1e-5, norm_eps=1e-5,
    )  # fmt: skip


def _dinov3_rules(config: ViTConfig) -> list[TensorRule]:
    gated = config.mlp_layer == "swiglu"
    first = ("blocks.{}.mlp.w1", "blocks.{}.mlp.w2") if gated else ("blocks.{}.mlp.fc1",)
    qkv_bias = "blocks.{}.attn.qkv.bias"
    return [
        SplitTokens(("cls_token", "storage_tokens"), None, config),
        *_same_rules(config),
        Constant("rope_embed.periods", lambda: _periods(config), checked=True),
        Rename(qkv_bias, qkv_bias, _mask_key_bias, _refuse_key_bias, optional=True),
        Constant(f"{qkv_bias}_mask", lambda: _mask_key_bias(torch.ones(3 * config.embed_dim)), checked=True),
        *stacked_rules("blocks.{}.mlp.fc1", first),
        *linear_rules("blocks.{}.mlp.fc2", f"blocks.{{}}.mlp.{'w3' if gated else 'fc2'}"),
    ]


def _periods(config: ViTConfig) -> Tensor:
    quarter = config.head_dim // 4
    return 100.0 ** (torch.arange(quarter) / quarter)


def _mask_key_bias(bias: Tensor) -> Tensor:
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
    _infer_dinov3, _dinov3_rules,
    supports={"mlp_layer": ("gelu", "swiglu"), "init_values": GIVEN, "reg_tokens": ANY, "pos_embed": ("rope",)},
    defaults={"norm_eps": 1e-5}, ignored=(r"local_cls_norm\..*",),
)  # fmt: skip
"""The backbones of torch.hub's facebookresearch/dinov3, which have no head; local_cls_norm is for training alone."""
