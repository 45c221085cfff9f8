"""facebookresearch/dinov2's own names (Oquab et al. 2024), also cut into chunks of blocks as its trainer saves them."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.infer_config import (
    infer_depth,
    infer_image_size,
    infer_mlp_ratio,
    infer_num_heads,
    infer_patch_size,
)
from vitreous.pretrained.formats.rules import Rename, SplitTokens, linear_entries, mask_token, patch_entry
from vitreous.pretrained.formats.state_dict_format import ANY, GIVEN, StateDictFormat, TensorRule


def _config(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> ViTConfig:
    gated = "blocks.0.mlp.w12.weight" in tensors
    first = tensors["blocks.0.mlp.w12.weight" if gated else "blocks.0.mlp.fc1.weight"]
    kernel = tensors["patch_embed.proj.weight"]
    width, patch_size = kernel.shape[0], infer_patch_size(kernel)
    registers = tensors["register_tokens"].shape[1] if "register_tokens" in tensors else 0
    return ViTConfig(
        infer_image_size(tensors["pos_embed"].shape[1] - 1, patch_size, theirs), patch_size, kernel.shape[1], num_classes=0,
        embed_dim=width, depth=infer_depth(tensors, "blocks.{}.norm1.weight"), num_heads=infer_num_heads(width, theirs, "num_heads"),
        mlp_layer="swiglu" if gated else "gelu", reg_tokens=registers, init_values=1.0,
        mlp_ratio=infer_mlp_ratio(len(first) // 2 if gated else len(first), width, gated=gated),
        pos_embed_antialias=bool(registers), norm_eps=1e-6,
    )  # fmt: skip


def _rules(config: ViTConfig) -> list[TensorRule]:
    mlp = ("gate_and_value", "w12", "w3") if config.mlp_layer == "swiglu" else ("expand", "fc1", "fc2")
    return [
        SplitTokens(("cls_token",) + ("register_tokens",) * bool(config.reg_tokens), "pos_embed", config),
        mask_token("mask_token", 1, config.embed_dim),
        *patch_entry("patch_embed.proj", config),
        *linear_entries("blocks.{}.attention_norm", "blocks.{}.norm1"),
        *linear_entries("blocks.{}.attention.qkv", "blocks.{}.attn.qkv"),
        *linear_entries("blocks.{}.attention.projection", "blocks.{}.attn.proj"),
        Rename("blocks.{}.attention_branch.factor", "blocks.{}.ls1.gamma"),
        *linear_entries("blocks.{}.mlp_norm", "blocks.{}.norm2"),
        *linear_entries(f"blocks.{{}}.mlp.{mlp[0]}", f"blocks.{{}}.mlp.{mlp[1]}"),
        *linear_entries("blocks.{}.mlp.contract", f"blocks.{{}}.mlp.{mlp[2]}"),
        Rename("blocks.{}.mlp_branch.factor", "blocks.{}.ls2.gamma"),
        *linear_entries("norm", "norm"),
    ]


DINOV2_META = StateDictFormat(
    "dinov2",
    ("cls_token", "mask_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight",
     "blocks.0.ls1.gamma"),
    _config, _rules,
    supports={"mlp": ("gelu", "swiglu"), "layer_scale": GIVEN, "registers": ANY},
    defaults={"norm_epsilon": 1e-6},
    normalize_key=lambda name: re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", name),
)  # fmt: skip
"""The backbones of torch.hub's facebookresearch/dinov2, which have no head.

Without registers, Meta's code resamples positions by the factor (places + 0.1) / (learned places), with them by the
size, antialiased. We go by the size in both, as transformers does. So without registers we sample at points that differ
by up to a tenth of a new place: of ViT-S/14 at 224 pixels the last tokens, which reach 10, differ by 0.02 in the mean.
"""
