"""Weights of timm's VisionTransformer (Wightman 2019): augreg, DeiT, CLIP, SigLIP, DINOv2 and others."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from vitreous.errors import InputError, unknown
from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.infer_config import (
    Activation,
    infer_depth,
    infer_image_size,
    infer_mlp_ratio,
    infer_patch_size,
    to_pair,
    usual_num_heads,
)
from vitreous.pretrained.formats.rules import (
    ConcatHeads,
    Rename,
    Shapes,
    SplitTokens,
    SplitTokensFoldBias,
    linear_entries,
    patch_entry,
)
from vitreous.pretrained.formats.state_dict_format import ANY, StateDictFormat, TensorRule
from vitreous.pretrained.formats.timm_config import (
    ACTIVATIONS,
    TANH_GELU,
    check_known,
    stated_num_heads,
    stated_size,
    timm_config,
)

Pooling = Literal["class", "mean", "map", "class-and-distillation"]
POOLINGS: dict[str, Pooling] = {"token": "class", "avg": "mean", "map": "map"}


@dataclass(frozen=True)
class TimmSplitTokens:
    """Tokens before the patches, and positions: a table with rows for those tokens, or with rows for patches only."""

    config: ViTConfig
    names: tuple[str, ...] = ("cls_token", "dist_token", "reg_token", "pos_embed")
    """Their tensors that it reads."""
    needed: tuple[str, ...] = ("pos_embed",)

    def for_blocks(self, depth: int) -> list["TimmSplitTokens"]:
        """This rule alone: it is no block's."""
        return [self]

    @property
    def ours_names(self) -> tuple[str, ...]:
        """Our tensors that it fills."""
        return self._tokens(self.names[:1] if self.config.num_prefix_tokens else (), 0).ours_names

    def to_ours(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Our tensors by name, from theirs."""
        there = tuple(name for name in self.names[:-1] if name in tensors)
        rows = tensors["pos_embed"].shape[1] - self.config.grid_size[0] * self.config.grid_size[1]
        return self._tokens(there, self.config.num_prefix_tokens if rows else 0).to_ours(tensors, shapes)

    def to_theirs(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Their tensors by name, from ours; beside registers the table has rows for patches only."""
        if self.config.global_pool == "class-and-distillation":
            if self.config.reg_tokens > 1:
                raise InputError("timm can't hold a model with a distillation token and other registers")
            return self._tokens(("cls_token", "dist_token"), 2).to_theirs(tensors, shapes)
        class_token, registers = self.config.global_pool == "class", self.config.reg_tokens > 0
        names = ("cls_token",) * class_token + ("reg_token",) * registers
        return self._tokens(names, int(class_token and not registers)).to_theirs(tensors, shapes)

    def _tokens(self, prefix: tuple[str, ...], rows: int) -> SplitTokens:
        return (SplitTokensFoldBias if self.config.pre_norm else SplitTokens)(prefix, "pos_embed", self.config, rows)


def configure(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> ViTConfig:
    """The configuration that timm's names, shapes and config.json speak of."""
    check_known(theirs)
    kernel, hidden = tensors["patch_embed.proj.weight"], len(tensors["blocks.0.mlp.fc1.weight"])
    given = tensors["blocks.0.mlp.fc2.weight"].shape[1]
    width, patch_size, gated, normed = (
        len(kernel),
        infer_patch_size(kernel),
        hidden == 2 * given,
        "norm_pre.weight" in tensors,
    )
    prefix = sum(tensors[name].shape[1] for name in ("cls_token", "dist_token", "reg_token") if name in tensors)
    pooling = _pooling(tensors, theirs)
    return ViTConfig(
        _size(tensors, theirs, prefix, patch_size), patch_size, kernel.shape[1],
        num_classes=len(tensors["head.weight"]) if "head.weight" in tensors else 0,
        embed_dim=width, depth=infer_depth(tensors, "blocks.{}.norm1.weight"), num_heads=_heads(tensors, theirs),
        mlp_ratio=infer_mlp_ratio(given, width, gated=gated), mlp_layer="swiglu" if gated else _activation(tensors, theirs),
        pre_norm=normed, norm_eps=1e-5 if normed else 1e-6,
        global_pool=pooling, fc_norm="fc_norm.weight" in tensors,
        pos_embed_antialias=True, reg_tokens=prefix - pooling.startswith("class"),
        init_values=1e-5 if "blocks.0.ls1.gamma" in tensors else None,
        qk_norm="blocks.0.attn.q_norm.weight" in tensors,
    )  # fmt: skip


def _size(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any], prefix: int, patch_size: int) -> tuple[int, int]:
    """Height and width in pixels; the table has rows for all tokens before the patches, or for none of them.

    Where the size isn't said, the number that makes a square grid is taken; beside registers, no rows are likelier.
    """
    said, rows = stated_size(theirs), tensors["pos_embed"].shape[1]
    places = [rows, rows - prefix] if "reg_token" in tensors else [rows - prefix, rows]
    if said:
        height, width = to_pair(said["image_size"])
        fits = [count for count in places if count == (height // patch_size) * (width // patch_size)]
    else:
        fits = [count for count in places if math.isqrt(max(0, count)) ** 2 == count]
    return infer_image_size((fits or places)[0], patch_size, said)


def _pooling(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> Pooling:
    if "dist_token" in tensors:
        if "head_dist.weight" not in tensors:
            raise InputError("a distilled DeiT without its two heads averages two tokens, which our ViT doesn't")
        return "class-and-distillation"
    if "attn_pool.latent" in tensors:
        return "map"
    said = (theirs.get("model_args") or {}).get("global_pool") or theirs.get("global_pool")
    if said is None:
        return "class" if "cls_token" in tensors and "fc_norm.weight" not in tensors else "mean"
    if said not in POOLINGS:
        raise unknown("global_pool", said, POOLINGS)
    return POOLINGS[said]


def _heads(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> int:
    width = len(tensors["patch_embed.proj.weight"])
    if "blocks.0.attn.q_norm.weight" in tensors:
        return width // len(tensors["blocks.0.attn.q_norm.weight"])
    return stated_num_heads(theirs) or usual_num_heads(width)


def _activation(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> Activation:
    said, architecture = (theirs.get("model_args") or {}).get("act_layer"), theirs.get("architecture")
    if said is not None:
        if said not in ACTIVATIONS:
            raise unknown("act_layer", said, ACTIVATIONS)
        return ACTIVATIONS[said]
    if architecture is None and ("norm_pre.weight" in tensors or "attn_pool.latent" in tensors):
        raise InputError("these image-text weights don't say which GELU they use: put timm's config.json beside them")
    if "quickgelu" in (architecture or ""):
        return "quick-gelu"
    return "gelu-tanh" if (architecture or "").startswith(TANH_GELU) else "gelu"


def trunk_rules(config: ViTConfig) -> list[TensorRule]:
    """How the tokens, the patch embedding and the blocks go over."""
    mlp = "gate_and_value" if config.mlp_layer == "swiglu" else "expand"
    rules: list[TensorRule] = [
        TimmSplitTokens(config),
        *patch_entry("patch_embed.proj", config)[: 1 if config.pre_norm else 2],
        *linear_entries("blocks.{}.attention_norm", "blocks.{}.norm1"),
        Rename("blocks.{}.attention.qkv.weight", "blocks.{}.attn.qkv.weight"),
        Rename("blocks.{}.attention.qkv.bias", "blocks.{}.attn.qkv.bias", may_lack=True),
        *linear_entries("blocks.{}.attention.projection", "blocks.{}.attn.proj"),
        *linear_entries("blocks.{}.mlp_norm", "blocks.{}.norm2"),
        *linear_entries(f"blocks.{{}}.mlp.{mlp}", "blocks.{}.mlp.fc1"),
        *linear_entries("blocks.{}.mlp.contract", "blocks.{}.mlp.fc2"),
    ]
    if config.init_values is not None:
        rules.append(Rename("blocks.{}.attention_branch.factor", "blocks.{}.ls1.gamma"))
        rules.append(Rename("blocks.{}.mlp_branch.factor", "blocks.{}.ls2.gamma"))
    if config.qk_norm:
        rules += linear_entries("blocks.{}.attention.query_norm", "blocks.{}.attn.q_norm")
        rules += linear_entries("blocks.{}.attention.key_norm", "blocks.{}.attn.k_norm")
    return rules


def _rules(config: ViTConfig) -> list[TensorRule]:
    rules = trunk_rules(config)
    if config.pre_norm:
        rules += linear_entries("embedding_norm", "norm_pre")
    rules += linear_entries("norm", "fc_norm" if config.fc_norm else "norm")
    if config.global_pool == "map":
        rules += _map_rules()
    if config.global_pool == "class-and-distillation":
        return [*rules, ConcatHeads("head", "head_dist")]
    return [*rules, *(linear_entries("head", "head") if config.num_classes else ())]


def _map_rules() -> list[TensorRule]:
    return [
        Rename("pooling.query", "attn_pool.latent", into=lambda t: t.flatten(), back=lambda t: t[None, None]),
        *linear_entries("pooling.query_map", "attn_pool.q"),
        *linear_entries("pooling.key_value_map", "attn_pool.kv"),
        *linear_entries("pooling.projection", "attn_pool.proj"),
        *linear_entries("pooling.norm", "attn_pool.norm"),
        *linear_entries("pooling.mlp.expand", "attn_pool.mlp.fc1"),
        *linear_entries("pooling.mlp.contract", "attn_pool.mlp.fc2"),
    ]


MARKS = (
    "patch_embed.proj.weight", "pos_embed", "blocks.0.norm1.weight", "blocks.0.attn.qkv.weight",
    "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight",
)  # fmt: skip

TIMM = StateDictFormat(
    "timm", MARKS, configure, _rules, timm_config,
    supports={
        "pooling": ("class", "mean", "map", "class-and-distillation"), "norm_after_pooling": ANY, "registers": ANY,
        "embedding_norm": ANY, "layer_scale": ANY, "qk_norm": ANY, "mlp": ANY,
    },
    defaults={"positions_antialias": True}, excludes=("mask_token",),
)  # fmt: skip
"""VisionTransformer and VisionTransformerDistilled of timm."""
