"""facebookresearch/dinov2's own names (Oquab et al. 2024), also cut into chunks of blocks as its trainer saves them."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.infer_config import blocks_in, heads_of, mlp_ratio_of, patch_of, size_of
from vitreous.pretrained.formats.rules import Entry, Tokens, linear_entries, mask_token, patch_entry
from vitreous.pretrained.formats.state_dict_format import ANY, GIVEN, Layout, Rule


def _config(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> ViTConfig:
    gated = "blocks.0.mlp.w12.weight" in tensors
    first = tensors["blocks.0.mlp.w12.weight" if gated else "blocks.0.mlp.fc1.weight"]
    kernel = tensors["patch_embed.proj.weight"]
    width, patch_size = kernel.shape[0], patch_of(kernel)
    registers = tensors["register_tokens"].shape[1] if "register_tokens" in tensors else 0
    return ViTConfig(
        size_of(tensors["pos_embed"].shape[1] - 1, patch_size, theirs), patch_size, kernel.shape[1], classes=0,
        width=width, depth=blocks_in(tensors, "blocks.{}.norm1.weight"), heads=heads_of(width, theirs, "num_heads"),
        mlp="swiglu" if gated else "gelu", registers=registers, layer_scale=1.0,
        mlp_ratio=mlp_ratio_of(len(first) // 2 if gated else len(first), width, gated=gated),
        positions_antialias=bool(registers), norm_epsilon=1e-6,
    )  # fmt: skip


def _rules(config: ViTConfig) -> list[Rule]:
    mlp = ("gate_and_value", "w12", "w3") if config.mlp == "swiglu" else ("expand", "fc1", "fc2")
    return [
        Tokens(("cls_token",) + ("register_tokens",) * bool(config.registers), "pos_embed", config),
        mask_token("mask_token", 1, config.width),
        *patch_entry("patch_embed.proj", config),
        *linear_entries("blocks.{}.attention_norm", "blocks.{}.norm1"),
        *linear_entries("blocks.{}.attention.qkv", "blocks.{}.attn.qkv"),
        *linear_entries("blocks.{}.attention.projection", "blocks.{}.attn.proj"),
        Entry("blocks.{}.attention_branch.factor", "blocks.{}.ls1.gamma"),
        *linear_entries("blocks.{}.mlp_norm", "blocks.{}.norm2"),
        *linear_entries(f"blocks.{{}}.mlp.{mlp[0]}", f"blocks.{{}}.mlp.{mlp[1]}"),
        *linear_entries("blocks.{}.mlp.contract", f"blocks.{{}}.mlp.{mlp[2]}"),
        Entry("blocks.{}.mlp_branch.factor", "blocks.{}.ls2.gamma"),
        *linear_entries("norm", "norm"),
    ]


DINOV2_META = Layout(
    "dinov2",
    ("cls_token", "mask_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight",
     "blocks.0.ls1.gamma"),
    _config, _rules,
    holds={"mlp": ("gelu", "swiglu"), "layer_scale": GIVEN, "registers": ANY},
    assumes={"norm_epsilon": 1e-6},
    rename=lambda name: re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", name),
)  # fmt: skip
"""The backbones of torch.hub's facebookresearch/dinov2, which have no head.

Without registers, Meta's code resamples positions by the factor (places + 0.1) / (learned places), with them by the
size, antialiased. We go by the size in both, as transformers does. So without registers we sample at points that differ
by up to a tenth of a new place: of ViT-S/14 at 224 pixels the last tokens, which reach 10, differ by 0.02 in the mean.
"""
