"""transformers' DINOv2 (Oquab et al. 2024), with registers (Darcet et al. 2024), and DINOv3 (Siméoni et al. 2025)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.dino import dinov3_num_heads
from vitreous.pretrained.formats.huggingface import (
    EMBEDDINGS,
    LAYER,
    PATCHES,
    TABLE,
    hf_trunk_rules,
    trunk_config,
    trunk_external_config,
)
from vitreous.pretrained.formats.infer_config import (
    infer_activation,
    infer_depth,
    infer_mlp_ratio,
    infer_patch_size,
    parse_size,
)
from vitreous.pretrained.formats.rules import (
    Rename,
    SplitTokens,
    linear_rules,
    mask_token,
    stacked_rules,
)
from vitreous.pretrained.formats.state_dict_format import ANY, GIVEN, StateDictFormat, TensorRule

REGISTERS = f"{EMBEDDINGS}.register_tokens"


def _scaled(layer: str) -> list[TensorRule]:
    """Convert norms and layer scales, which DINOv2 and DINOv3 name alike."""
    return [
        *linear_rules("blocks.{}.norm1", f"{layer}.norm1"),
        *linear_rules("blocks.{}.norm2", f"{layer}.norm2"),
        Rename("blocks.{}.ls1.gamma", f"{layer}.layer_scale1.lambda1"),
        Rename("blocks.{}.ls2.gamma", f"{layer}.layer_scale2.lambda1"),
    ]


def _dinov2_config(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> ViTConfig:
    mlp = f"{LAYER}.mlp.".format(0)
    gated = f"{mlp}weights_in.weight" in tensors
    first = tensors[f"{mlp}weights_in.weight" if gated else f"{mlp}fc1.weight"]
    config = trunk_config(tensors, {"layer_norm_eps": 1e-6} | dict(external_config), rows=1)
    registers = tensors[REGISTERS].shape[1] if REGISTERS in tensors else 0
    return replace(
        config,
        mlp_layer="swiglu" if gated else infer_activation(external_config),
        mlp_ratio=infer_mlp_ratio(len(first) // 2 if gated else len(first), config.embed_dim, gated=gated),
        global_pool="token-avg" if config.num_classes else "token",
        init_values=external_config.get("layerscale_value", 1.0),
        reg_tokens=registers,
        pos_embed_antialias=REGISTERS in tensors,
    )


def _dinov2_rules(config: ViTConfig) -> list[TensorRule]:
    tokens = (f"{EMBEDDINGS}.cls_token",) + (REGISTERS,) * bool(config.reg_tokens)
    first, second = ("weights_in", "weights_out") if config.mlp_layer == "swiglu" else ("fc1", "fc2")
    return [
        SplitTokens(tokens, TABLE, config),
        mask_token(f"{EMBEDDINGS}.mask_token", 1, config.embed_dim),
        *hf_trunk_rules(config),
        *_scaled(LAYER),
        *linear_rules("blocks.{}.mlp.fc1", f"{LAYER}.mlp.{first}"),
        *linear_rules("blocks.{}.mlp.fc2", f"{LAYER}.mlp.{second}"),
        *(_head(config) if config.num_classes else ()),
    ]


def _head(config: ViTConfig) -> list[TensorRule]:
    """Their head reads the class token and the patches' average; ours may read the class token alone: zeros are
    added."""
    weight, bias = linear_rules("head", "classifier")
    if config.global_pool == "token":
        weight = replace(weight, back=lambda tensor: torch.cat([tensor, torch.zeros_like(tensor)], 1))
    return [weight, bias]


def _dinov2_external_config(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    family = "Dinov2WithRegisters" if config.reg_tokens else "Dinov2"
    description = {
        "architectures": [f"{family}{'ForImageClassification' if config.num_classes else 'Model'}"],
        "model_type": "dinov2_with_registers" if config.reg_tokens else "dinov2",
        "mlp_ratio": _whole_ratio(config),
        "use_swiglu_ffn": config.mlp_layer == "swiglu",
        "layerscale_value": config.init_values,
    } | trunk_external_config(config, class_names)
    return description | ({"num_register_tokens": config.reg_tokens} if config.reg_tokens else {})


def _whole_ratio(config: ViTConfig) -> int:
    """Find the MLP's ratio as transformers' DINOv2 states it: a whole number that makes the same hidden width."""
    whole = replace(config, mlp_ratio=max(1, int(config.mlp_ratio)))
    gated = config.mlp_layer == "swiglu"
    if (whole.gated_dim != config.gated_dim) if gated else (whole.mlp_ratio != config.mlp_ratio):
        raise InputError(f"hf-dinov2 can't hold a model with mlp_ratio={config.mlp_ratio}, only whole numbers")
    return int(whole.mlp_ratio)


def _dinov3_config(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> ViTConfig:
    _check_rope(external_config)
    gated = "layer.0.mlp.gate_proj.weight" in tensors
    if gated and external_config.get("hidden_act", "silu") != "silu":
        raise InputError(f"a gated MLP with {external_config['hidden_act']}: only silu can be converted")
    kernel = tensors[f"{EMBEDDINGS}.patch_embeddings.weight"]
    width, patch_size = kernel.shape[0], infer_patch_size(kernel)
    return ViTConfig(
        parse_size(external_config.get("image_size", 14 * patch_size)), patch_size, kernel.shape[1],
        num_classes=0, embed_dim=width, depth=infer_depth(tensors, "layer.{}.norm1.weight"),
        num_heads=dinov3_num_heads(width, external_config, "num_attention_heads"),
        mlp_layer="swiglu" if gated else infer_activation(external_config),
        mlp_ratio=infer_mlp_ratio(len(tensors["layer.0.mlp.up_proj.weight"]), width, gated=gated),
        pos_embed="rope", reg_tokens=tensors[REGISTERS].shape[1],
        init_values=external_config.get("layerscale_value", 1.0), norm_eps=external_config.get("layer_norm_eps", 1e-5),
    )  # fmt: skip


def _check_rope(external_config: Mapping[str, Any]) -> None:
    base = (external_config.get("rope_parameters") or external_config).get("rope_theta", 100.0)
    if base != 100.0:
        raise InputError(f"rotary positions with a base of {base}: only 100 can be converted")


def _dinov3_rules(config: ViTConfig) -> list[TensorRule]:
    attention = "layer.{}.attention"
    query, key, value = (f"{attention}.{part}_proj" for part in ("q", "k", "v"))
    gated = config.mlp_layer == "swiglu"
    mlp = ("layer.{}.mlp.gate_proj", "layer.{}.mlp.up_proj") if gated else ("layer.{}.mlp.up_proj",)
    return [
        SplitTokens((f"{EMBEDDINGS}.cls_token", REGISTERS), None, config),
        mask_token(f"{EMBEDDINGS}.mask_token", 1, 1, config.embed_dim),
        *linear_rules("patch_embed.proj", f"{EMBEDDINGS}.patch_embeddings"),
        Rename("blocks.{}.attn.qkv.weight", (f"{query}.weight", f"{key}.weight", f"{value}.weight")),
        Rename("blocks.{}.attn.qkv.bias", (f"{query}.bias", None, f"{value}.bias"), optional=True),
        *linear_rules("blocks.{}.attn.proj", f"{attention}.o_proj"),
        *_scaled("layer.{}"),
        *stacked_rules("blocks.{}.mlp.fc1", mlp),
        *linear_rules("blocks.{}.mlp.fc2", "layer.{}.mlp.down_proj"),
        *linear_rules("norm", "norm"),
    ]


def _dinov3_external_config(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    gated = config.mlp_layer == "swiglu"
    description = trunk_external_config(config, class_names) | {
        "architectures": ["DINOv3ViTModel"],
        "model_type": "dinov3_vit",
        "intermediate_size": config.gated_dim if gated else int(config.mlp_ratio * config.embed_dim),
        "use_gated_mlp": gated,
        "num_register_tokens": config.reg_tokens,
        "layerscale_value": config.init_values,
        "rope_theta": 100.0,
        "query_bias": True,
        "key_bias": False,
        "value_bias": True,
    }
    del description["qkv_bias"]
    return description | ({"hidden_act": "silu"} if gated else {})


_DINOV2_SIGNATURE = (
    f"{EMBEDDINGS}.cls_token", TABLE, f"{PATCHES}.weight",
    f"{LAYER}.attention.attention.query.weight".format(0), f"{LAYER}.layer_scale1.lambda1".format(0),
)  # fmt: skip
_MLPS = ("gelu", "gelu-tanh", "quick-gelu", "swiglu")

DINOV2 = StateDictFormat(
    "hf-dinov2", _DINOV2_SIGNATURE, _dinov2_config, _dinov2_rules, _dinov2_external_config,
    num_heads_key="num_attention_heads",
    supports={"mlp_layer": _MLPS, "init_values": GIVEN, "global_pool": ("token", "token-avg")},
    defaults={"pos_embed_antialias": False}, excludes=(REGISTERS,),
    prefix="dinov2.", prefix_needs_head=True, unprefixed=("classifier.",),
)  # fmt: skip
"""Dinov2Model, and Dinov2ForImageClassification, whose head reads the class token and the patches' mean."""

DINOV2_REGISTERS = StateDictFormat(
    "hf-dinov2-registers", (*_DINOV2_SIGNATURE, REGISTERS), _dinov2_config, _dinov2_rules, _dinov2_external_config,
    num_heads_key="num_attention_heads",
    supports={"mlp_layer": _MLPS, "init_values": GIVEN, "reg_tokens": GIVEN, "global_pool": ("token", "token-avg")},
    defaults={"pos_embed_antialias": True},
    prefix="dinov2_with_registers.", prefix_needs_head=True, unprefixed=("classifier.",),
)  # fmt: skip
"""Dinov2WithRegistersModel and Dinov2WithRegistersForImageClassification."""

DINOV3 = StateDictFormat(
    "hf-dinov3",
    (f"{EMBEDDINGS}.cls_token", REGISTERS, f"{EMBEDDINGS}.patch_embeddings.weight", "layer.0.attention.q_proj.weight"),
    _dinov3_config, _dinov3_rules, _dinov3_external_config, num_heads_key="num_attention_heads",
    supports={"mlp_layer": _MLPS, "init_values": GIVEN, "reg_tokens": ANY, "pos_embed": ("rope",)},
    normalize_key=lambda name: name.removeprefix("model."),
)  # fmt: skip
"""DINOv3ViTModel."""
