"""Weights of timm's VisionTransformer (Wightman 2019): augreg, DeiT, CLIP, SigLIP, DINOv2 and others.

Our names are timm's, so nearly every rule is the identity.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vitreous.errors import InputError, unknown
from vitreous.model.config import GlobalPool, ViTConfig
from vitreous.pretrained.formats.infer_config import (
    Activation,
    infer_depth,
    infer_image_size,
    infer_mlp_ratio,
    infer_patch_size,
    parse_size,
    usual_num_heads,
)
from vitreous.pretrained.formats.rules import ConcatHeads, Rename, Shapes, SplitTokens, SplitTokensFoldBias
from vitreous.pretrained.formats.state_dict_format import ANY, StateDictFormat, TensorRule, state_shapes
from vitreous.pretrained.formats.timm_config import (
    ACTIVATIONS,
    TANH_GELU,
    check_known,
    stated_num_heads,
    stated_size,
    timm_config,
)

POOLINGS: dict[str, GlobalPool] = {"token": "token", "avg": "avg", "map": "map"}
TOKENS = ("cls_token", "dist_token", "reg_token")


@dataclass(frozen=True)
class TimmSplitTokens:
    """Tokens before the patches, and positions: a table with rows for those tokens, or with rows for patches only."""

    config: ViTConfig
    external_keys: tuple[str, ...] = (*TOKENS, "pos_embed")
    """timm's tensors that it reads."""
    required_keys: tuple[str, ...] = ("pos_embed",)

    def for_blocks(self, depth: int) -> list["TimmSplitTokens"]:
        """Give this rule alone: it is not a block's."""
        return [self]

    @property
    def keys(self) -> tuple[str, ...]:
        """Our tensors that it fills."""
        return self._rule(TOKENS[:1], 0).keys

    def from_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make our tensors by name, from timm's."""
        present = tuple(name for name in TOKENS if name in tensors)
        rows = tensors["pos_embed"].shape[1] - self.config.grid_size[0] * self.config.grid_size[1]
        return self._rule(present, self.config.num_prefix_tokens if rows else 0).from_external(tensors, shapes)

    def to_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make timm's tensors by name, from ours; the table has rows for patches only, but beside a dist_token."""
        if self.config.global_pool == "token-dist":
            if self.config.reg_tokens > 1:
                raise InputError("timm can't hold a model with a distillation token and other registers")
            return self._rule(("cls_token", "dist_token"), 2).to_external(tensors, shapes)
        tokens = ("cls_token",) * self.config.has_class_token + ("reg_token",) * (self.config.reg_tokens > 0)
        return self._rule(tokens, 0).to_external(tensors, shapes)

    def _rule(self, tokens: tuple[str, ...], rows: int) -> SplitTokens:
        return (SplitTokensFoldBias if self.config.pre_norm else SplitTokens)(tokens, "pos_embed", self.config, rows)


def infer_timm_config(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> ViTConfig:
    """Infer the configuration from timm's names, shapes and config.json."""
    check_known(external_config)
    kernel, hidden = tensors["patch_embed.proj.weight"], len(tensors["blocks.0.mlp.fc1.weight"])
    activated = tensors["blocks.0.mlp.fc2.weight"].shape[1]
    dim, patch_size, gated, pre_norm = (
        len(kernel), infer_patch_size(kernel), hidden == 2 * activated, "norm_pre.weight" in tensors,
    )  # fmt: skip
    prefix = sum(tensors[name].shape[1] for name in TOKENS if name in tensors)
    global_pool = _infer_pooling(tensors, external_config)
    return ViTConfig(
        _infer_size(tensors, external_config, prefix, patch_size), patch_size, kernel.shape[1],
        num_classes=len(tensors["head.weight"]) if "head.weight" in tensors else 0,
        embed_dim=dim, depth=infer_depth(tensors, "blocks.{}.norm1.weight"),
        num_heads=_infer_heads(tensors, external_config),
        mlp_ratio=infer_mlp_ratio(activated, dim, gated=gated),
        mlp_layer="swiglu" if gated else _infer_activation(tensors, external_config),
        pre_norm=pre_norm, norm_eps=1e-5 if pre_norm else 1e-6,
        global_pool=global_pool, fc_norm="fc_norm.weight" in tensors,
        pos_embed_antialias=True, reg_tokens=prefix - global_pool.startswith("token"),
        init_values=1e-5 if "blocks.0.ls1.gamma" in tensors else None,
        qk_norm="blocks.0.attn.q_norm.weight" in tensors,
    )  # fmt: skip


def _infer_size(
    tensors: Mapping[str, Tensor], external_config: Mapping[str, Any], prefix: int, patch_size: int
) -> tuple[int, int]:
    """Height and width in pixels; the table has rows for all tokens before the patches, or for none of them.

    Where the size isn't stated, the number that makes a square grid is taken; beside registers, no rows are likelier.
    """
    stated, rows = stated_size(external_config), tensors["pos_embed"].shape[1]
    counts = [rows, rows - prefix] if "reg_token" in tensors else [rows - prefix, rows]
    if stated:
        height, width = parse_size(stated["image_size"])
        fits = [count for count in counts if count == (height // patch_size) * (width // patch_size)]
    else:
        fits = [count for count in counts if math.isqrt(max(0, count)) ** 2 == count]
    return infer_image_size((fits or counts)[0], patch_size, stated)


def _infer_pooling(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> GlobalPool:
    if "dist_token" in tensors:
        if "head_dist.weight" not in tensors:
            raise InputError("a distilled DeiT without its two heads averages two tokens, which our ViT doesn't")
        return "token-dist"
    if "attn_pool.latent" in tensors:
        return "map"
    stated = (external_config.get("model_args") or {}).get("global_pool") or external_config.get("global_pool")
    if stated is None:
        return "token" if "cls_token" in tensors and "fc_norm.weight" not in tensors else "avg"
    if stated not in POOLINGS:
        raise unknown("global_pool", stated, POOLINGS)
    return POOLINGS[stated]


def _infer_heads(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> int:
    dim = len(tensors["patch_embed.proj.weight"])
    if "blocks.0.attn.q_norm.weight" in tensors:
        return dim // len(tensors["blocks.0.attn.q_norm.weight"])
    return stated_num_heads(external_config) or usual_num_heads(dim)


def _infer_activation(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> Activation:
    stated = (external_config.get("model_args") or {}).get("act_layer")
    architecture = external_config.get("architecture")
    if stated is not None:
        if stated not in ACTIVATIONS:
            raise unknown("act_layer", stated, ACTIVATIONS)
        return ACTIVATIONS[stated]
    if architecture is None and ("norm_pre.weight" in tensors or "attn_pool.latent" in tensors):
        raise InputError("these image-text weights don't say which GELU they use: put timm's config.json beside them")
    if "quickgelu" in (architecture or ""):
        return "quick-gelu"
    return "gelu-tanh" if (architecture or "").startswith(TANH_GELU) else "gelu"


def trunk_rules(config: ViTConfig) -> list[TensorRule]:
    """Convert everything but the head: the tokens and positions, and all other tensors as they are."""
    folded = ("patch_embed.proj.bias",) * config.pre_norm
    apart = ("cls_token", "reg_token", "pos_embed", "head.weight", "head.bias", *folded)
    names = [name for name in state_shapes(config) if name not in apart]
    renames = [Rename(name, name, optional=name.endswith("attn.qkv.bias")) for name in names]
    return [TimmSplitTokens(config), *renames]


def _rules(config: ViTConfig) -> list[TensorRule]:
    if config.global_pool == "token-dist":
        return [*trunk_rules(config), ConcatHeads("head", "head_dist")]
    heads = ("head.weight", "head.bias") if config.num_classes else ()
    return [*trunk_rules(config), *(Rename(name, name) for name in heads)]


SIGNATURE = (
    "patch_embed.proj.weight", "pos_embed", "blocks.0.norm1.weight", "blocks.0.attn.qkv.weight",
    "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight",
)  # fmt: skip

TIMM = StateDictFormat(
    "timm", SIGNATURE, infer_timm_config, _rules, timm_config,
    supports={
        "global_pool": ("token", "avg", "map", "token-dist"), "fc_norm": ANY, "reg_tokens": ANY, "pre_norm": ANY,
        "init_values": ANY, "qk_norm": ANY, "mlp_layer": ANY,
    },
    defaults={"pos_embed_antialias": True}, excludes=("mask_token",),
)  # fmt: skip
"""VisionTransformer and VisionTransformerDistilled of timm."""
