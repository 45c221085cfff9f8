"""Backbones with timm's names but no head: DINO (Caron et al. 2021), and MAE, iBOT and MoCo v3 as published."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.rules import linear_entries
from vitreous.pretrained.formats.state_dict_format import StateDictFormat, TensorRule
from vitreous.pretrained.formats.timm import MARKS, configure, trunk_rules


def _configure(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> ViTConfig:
    """timm's own files, which a config.json gives away, resample positions antialiased; the original code doesn't."""
    return replace(configure(tensors, theirs), pos_embed_antialias="architecture" in theirs)


def _rules(config: ViTConfig) -> list[TensorRule]:
    return [*trunk_rules(config), *linear_entries("norm", "norm")]


DINO = StateDictFormat(
    "dino", (*MARKS, "cls_token", "norm.weight"), _configure, _rules,
    defaults={"positions_antialias": False, "norm_epsilon": 1e-6},
    excludes=(
        "head.weight", "attn_pool.latent", "norm_pre.weight", "reg_token", "dist_token", "blocks.0.ls1.gamma",
        "blocks.0.attn.q_norm.weight",
    ),
    ignored=("mask_token", r"decoder_.*"),
)  # fmt: skip
"""facebookresearch/dino's VisionTransformer of any patch size, alone or as teacher in a checkpoint.

A timm model without head has the very same names: it is read here too, and a config.json of timm's is heeded. DINO's
code resamples positions by a scale factor of (places + 0.1) / learned places; we go by the size, which moves the
sampling points by less than 0.1 place.
"""
