"""transformers' ViT and DeiT, as they are saved; its MAE encoder is a ViT too (He et al. 2022, section 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.infer_config import (
    ACTIVATIONS_BACK,
    infer_activation,
    infer_depth,
    infer_image_size,
    infer_mlp_ratio,
    infer_num_heads,
    infer_patch_size,
)
from vitreous.pretrained.formats.rules import ConcatHeads, SplitTokens, linear_rules, stacked_rules
from vitreous.pretrained.formats.state_dict_format import StateDictFormat, TensorRule

EMBEDDINGS = "embeddings"
PATCHES = f"{EMBEDDINGS}.patch_embeddings.projection"
TABLE = f"{EMBEDDINGS}.position_embeddings"
LAYER = "encoder.layer.{}"


def trunk_config(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any], rows: int) -> ViTConfig:
    """Infer what all families have in common; `rows` of the position table belong to tokens before the patches."""
    kernel, patches = tensors[f"{PATCHES}.weight"], tensors[TABLE].shape[1] - rows
    width, patch_size = kernel.shape[0], infer_patch_size(kernel)
    return ViTConfig(
        infer_image_size(patches, patch_size, external_config), patch_size, kernel.shape[1],
        num_classes=len(tensors["classifier.weight"]) if "classifier.weight" in tensors else 0,
        embed_dim=width, depth=infer_depth(tensors, f"{LAYER}.attention.attention.query.weight"),
        num_heads=infer_num_heads(width, external_config), norm_eps=external_config.get("layer_norm_eps", 1e-12),
    )  # fmt: skip


def hf_trunk_rules(config: ViTConfig) -> list[TensorRule]:
    """Convert patches, attention and the last normalization, which all families name alike."""
    attention = f"{LAYER}.attention.attention"
    query_key_value = (f"{attention}.query", f"{attention}.key", f"{attention}.value")
    return [
        *linear_rules("patch_embed.proj", PATCHES),
        *stacked_rules("blocks.{}.attn.qkv", query_key_value, optional_bias=True),
        *linear_rules("blocks.{}.attn.proj", f"{LAYER}.attention.output.dense"),
        *linear_rules("norm", "layernorm"),
    ]


def trunk_external_config(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    """Write what all families have in common in their config.json."""
    height, width = config.image_size
    return {
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "hidden_act": ACTIVATIONS_BACK.get(config.mlp_layer, "gelu"),
        "layer_norm_eps": config.norm_eps,
        "image_size": height if height == width else [height, width],
        "patch_size": config.patch_size,
        "num_channels": config.in_chans,
        "qkv_bias": True,
        "id2label": {str(index): name for index, name in enumerate(class_names)},
        "label2id": {name: index for index, name in enumerate(class_names)},
        "dtype": "float32",
    }


def _vit_config(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> ViTConfig:
    hidden, width = tensors[LAYER.format(0) + ".intermediate.dense.weight"].shape
    config = trunk_config(tensors, external_config, rows=1)
    return replace(config, mlp_layer=infer_activation(external_config), mlp_ratio=infer_mlp_ratio(hidden, width))


def _deit_config(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> ViTConfig:
    hidden, width = tensors[LAYER.format(0) + ".intermediate.dense.weight"].shape
    config = trunk_config(tensors, external_config, rows=2)
    activation, mlp_ratio = infer_activation(external_config), infer_mlp_ratio(hidden, width)
    config = replace(config, mlp_layer=activation, mlp_ratio=mlp_ratio, reg_tokens=1)
    if "distillation_classifier.weight" not in tensors:
        return config
    if "cls_classifier.weight" not in tensors:
        raise InputError("these weights have a distillation_classifier, but no cls_classifier to average it with")
    return replace(config, num_classes=len(tensors["cls_classifier.weight"]), global_pool="token-dist")


def _layer_rules(config: ViTConfig) -> list[TensorRule]:
    return [
        *hf_trunk_rules(config),
        *linear_rules("blocks.{}.norm1", f"{LAYER}.layernorm_before"),
        *linear_rules("blocks.{}.norm2", f"{LAYER}.layernorm_after"),
        *linear_rules("blocks.{}.mlp.fc1", f"{LAYER}.intermediate.dense"),
        *linear_rules("blocks.{}.mlp.fc2", f"{LAYER}.output.dense"),
    ]


def _vit_rules(config: ViTConfig) -> list[TensorRule]:
    tokens = SplitTokens((f"{EMBEDDINGS}.cls_token",), TABLE, config)
    return [tokens, *_layer_rules(config), *(linear_rules("head", "classifier") if config.num_classes else ())]


def _deit_rules(config: ViTConfig) -> list[TensorRule]:
    tokens = SplitTokens((f"{EMBEDDINGS}.cls_token", f"{EMBEDDINGS}.distillation_token"), TABLE, config, rows=2)
    rules = [tokens, *_layer_rules(config)]
    if not config.num_classes:
        return rules
    if config.global_pool == "token-dist":
        return [*rules, ConcatHeads("cls_classifier", "distillation_classifier")]
    return [*rules, *linear_rules("head", "classifier")]


def _vit_external_config(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    return {
        "architectures": ["ViTForImageClassification" if config.num_classes else "ViTModel"],
        "model_type": "vit",
        "intermediate_size": int(config.mlp_ratio * config.embed_dim),
    } | trunk_external_config(config, class_names)


def _deit_external_config(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    teacher = "WithTeacher" if config.global_pool == "token-dist" else ""
    return {
        "architectures": [f"DeiTForImageClassification{teacher}" if config.num_classes else "DeiTModel"],
        "model_type": "deit",
        "intermediate_size": int(config.mlp_ratio * config.embed_dim),
    } | trunk_external_config(config, class_names)


MLPS = ("gelu", "gelu-tanh", "quick-gelu")
SIGNATURE = (
    f"{EMBEDDINGS}.cls_token",
    TABLE,
    f"{PATCHES}.weight",
    f"{LAYER}.attention.attention.query.weight".format(0),
    f"{LAYER}.intermediate.dense.weight".format(0),
)
# A pooler is trained for another purpose than the classifier, and a decoder only for pre-training.
UNUSED = (r"pooler\..*", r"decoder\..*", rf"{EMBEDDINGS}\.mask_token")
HEADS = ("classifier.", "cls_classifier.", "distillation_classifier.")

VIT = StateDictFormat(
    "hf-vit", SIGNATURE, _vit_config, _vit_rules, _vit_external_config, num_heads_key="num_attention_heads",
    supports={"mlp_layer": MLPS}, defaults={"pos_embed_antialias": False},
    excludes=(f"{EMBEDDINGS}.distillation_token",), ignored=UNUSED,
    prefix="vit.", prefix_needs_head=True, unprefixed=HEADS,
)  # fmt: skip
"""ViTModel, ViTForImageClassification, and the encoder of ViTMAEForPreTraining."""

DEIT = StateDictFormat(
    "hf-deit", (*SIGNATURE, f"{EMBEDDINGS}.distillation_token"), _deit_config, _deit_rules, _deit_external_config,
    num_heads_key="num_attention_heads",
    supports={"mlp_layer": MLPS, "reg_tokens": (1,), "global_pool": ("token", "token-dist")},
    defaults={"pos_embed_antialias": False}, ignored=UNUSED,
    prefix="deit.", prefix_needs_head=True, unprefixed=HEADS,
)  # fmt: skip
"""DeiTModel, DeiTForImageClassification and DeiTForImageClassificationWithTeacher, whose two outputs are averaged."""
