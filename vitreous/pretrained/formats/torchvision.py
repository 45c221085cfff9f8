"""Weights of torchvision's VisionTransformer: vit_b_16, vit_b_32, vit_l_16, vit_l_32 and vit_h_14."""

import re
from collections.abc import Mapping
from typing import Any

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
from vitreous.pretrained.formats.rules import Rename, SplitTokens, linear_rules
from vitreous.pretrained.formats.state_dict_format import StateDictFormat, TensorRule

LAYER = "encoder.layers.encoder_layer_{}"
OLDER = {"mlp.linear_1": "mlp.0", "mlp.linear_2": "mlp.3"}
"""Names of the MLP in files from before torchvision 0.14."""


def _newer(name: str) -> str:
    return re.sub(r"mlp\.linear_[12]", lambda found: OLDER[found[0]], name)


def _infer_config(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> ViTConfig:
    if "heads.pre_logits.weight" in tensors:
        raise InputError("these weights have a tanh layer before the head (heads.pre_logits), which our ViT has not")
    kernel, hidden = tensors["conv_proj.weight"], len(tensors[LAYER.format(0) + ".mlp.0.weight"])
    width, patch_size = len(kernel), infer_patch_size(kernel)
    return ViTConfig(
        infer_image_size(tensors["encoder.pos_embedding"].shape[1] - 1, patch_size, external_config), patch_size,
        kernel.shape[1],
        num_classes=len(tensors["heads.head.weight"]) if "heads.head.weight" in tensors else 0,
        embed_dim=width, depth=infer_depth(tensors, f"{LAYER}.ln_1.weight"),
        num_heads=infer_num_heads(width, external_config, "num_heads"), mlp_ratio=infer_mlp_ratio(hidden, width),
        norm_eps=1e-6,
    )  # fmt: skip


def _rules(config: ViTConfig) -> list[TensorRule]:
    attention = f"{LAYER}.self_attention"
    return [
        SplitTokens(("class_token",), "encoder.pos_embedding", config),
        *linear_rules("patch_embed.proj", "conv_proj"),
        *linear_rules("blocks.{}.norm1", f"{LAYER}.ln_1"),
        Rename("blocks.{}.attn.qkv.weight", f"{attention}.in_proj_weight"),
        Rename("blocks.{}.attn.qkv.bias", f"{attention}.in_proj_bias"),
        *linear_rules("blocks.{}.attn.proj", f"{attention}.out_proj"),
        *linear_rules("blocks.{}.norm2", f"{LAYER}.ln_2"),
        *linear_rules("blocks.{}.mlp.fc1", f"{LAYER}.mlp.0"),
        *linear_rules("blocks.{}.mlp.fc2", f"{LAYER}.mlp.3"),
        *linear_rules("norm", "encoder.ln"),
        *(linear_rules("head", "heads.head") if config.num_classes else ()),
    ]


TORCHVISION = StateDictFormat(
    "torchvision",
    ("conv_proj.weight", "class_token", "encoder.pos_embedding", LAYER.format(0) + ".self_attention.in_proj_weight"),
    _infer_config, _rules,
    defaults={"norm_eps": 1e-6}, normalize_key=_newer,
)  # fmt: skip
"""torchvision.models.VisionTransformer; it takes square images of one size only, so it resamples nothing.

There is no config.json; one written by hand may have "num_heads" and "image_size".
"""
