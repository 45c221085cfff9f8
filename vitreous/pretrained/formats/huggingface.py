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
from vitreous.pretrained.formats.rules import ConcatHeads, SplitTokens, joined_entries, linear_entries, patch_entry
from vitreous.pretrained.formats.state_dict_format import StateDictFormat, TensorRule

EMBEDDINGS = "embeddings"
PATCHES = f"{EMBEDDINGS}.patch_embeddings.projection"
TABLE = f"{EMBEDDINGS}.position_embeddings"
LAYER = "encoder.layer.{}"


def trunk_config(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any], rows: int) -> ViTConfig:
    """What all families have alike: `rows` of the position table belong to prefix tokens."""
    kernel, places = tensors[f"{PATCHES}.weight"], tensors[TABLE].shape[1] - rows
    width, patch_size = kernel.shape[0], infer_patch_size(kernel)
    return ViTConfig(
        infer_image_size(places, patch_size, theirs), patch_size, kernel.shape[1],
        num_classes=len(tensors["classifier.weight"]) if "classifier.weight" in tensors else 0,
        embed_dim=width, depth=infer_depth(tensors, f"{LAYER}.attention.attention.query.weight"),
        num_heads=infer_num_heads(width, theirs), norm_eps=theirs.get("layer_norm_eps", 1e-12),
    )  # fmt: skip


def trunk_rules(config: ViTConfig) -> list[TensorRule]:
    """Patches, attention and the last normalization, which all families name alike."""
    attention = f"{LAYER}.attention.attention"
    query_key_value = (f"{attention}.query", f"{attention}.key", f"{attention}.value")
    return [
        *patch_entry(PATCHES, config),
        *joined_entries("blocks.{}.attention.qkv", query_key_value, may_lack_bias=True),
        *linear_entries("blocks.{}.attention.projection", f"{LAYER}.attention.output.dense"),
        *linear_entries("norm", "layernorm"),
    ]


def trunk_description(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    """What all families have alike in their config.json."""
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


def _vit_config(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> ViTConfig:
    hidden, width = tensors[LAYER.format(0) + ".intermediate.dense.weight"].shape
    config = trunk_config(tensors, theirs, rows=1)
    return replace(config, mlp_layer=infer_activation(theirs), mlp_ratio=infer_mlp_ratio(hidden, width))


def _deit_config(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> ViTConfig:
    hidden, width = tensors[LAYER.format(0) + ".intermediate.dense.weight"].shape
    config = trunk_config(tensors, theirs, rows=2)
    config = replace(config, mlp_layer=infer_activation(theirs), mlp_ratio=infer_mlp_ratio(hidden, width), reg_tokens=1)
    if "distillation_classifier.weight" not in tensors:
        return config
    if "cls_classifier.weight" not in tensors:
        raise InputError("these weights have a distillation_classifier, but no cls_classifier to average it with")
    return replace(config, num_classes=len(tensors["cls_classifier.weight"]), global_pool="class-and-distillation")


def _layer_rules(config: ViTConfig) -> list[TensorRule]:
    return [
        *trunk_rules(config),
        *linear_entries("blocks.{}.attention_norm", f"{LAYER}.layernorm_before"),
        *linear_entries("blocks.{}.mlp_norm", f"{LAYER}.layernorm_after"),
        *linear_entries("blocks.{}.mlp.expand", f"{LAYER}.intermediate.dense"),
        *linear_entries("blocks.{}.mlp.contract", f"{LAYER}.output.dense"),
    ]


def _vit_rules(config: ViTConfig) -> list[TensorRule]:
    tokens = SplitTokens((f"{EMBEDDINGS}.cls_token",), TABLE, config)
    return [tokens, *_layer_rules(config), *(linear_entries("head", "classifier") if config.num_classes else ())]


def _deit_rules(config: ViTConfig) -> list[TensorRule]:
    tokens = SplitTokens((f"{EMBEDDINGS}.cls_token", f"{EMBEDDINGS}.distillation_token"), TABLE, config, rows=2)
    rules = [tokens, *_layer_rules(config)]
    if not config.num_classes:
        return rules
    if config.global_pool == "class-and-distillation":
        return [*rules, ConcatHeads("cls_classifier", "distillation_classifier")]
    return [*rules, *linear_entries("head", "classifier")]


def _vit_description(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    return {
        "architectures": ["ViTForImageClassification" if config.num_classes else "ViTModel"],
        "model_type": "vit",
        "intermediate_size": int(config.mlp_ratio * config.embed_dim),
    } | trunk_description(config, class_names)


def _deit_description(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    teacher = "WithTeacher" if config.global_pool == "class-and-distillation" else ""
    return {
        "architectures": [f"DeiTForImageClassification{teacher}" if config.num_classes else "DeiTModel"],
        "model_type": "deit",
        "intermediate_size": int(config.mlp_ratio * config.embed_dim),
    } | trunk_description(config, class_names)


MLPS = ("gelu", "gelu-tanh", "quick-gelu")
MARKS = (
    f"{EMBEDDINGS}.cls_token",
    TABLE,
    f"{PATCHES}.weight",
    f"{LAYER}.attention.attention.query.weight".format(0),
    f"{LAYER}.intermediate.dense.weight".format(0),
)
# A pooler is trained for other ends than the class token's answer, and a decoder only for pre-training.
UNUSED = (r"pooler\..*", r"decoder\..*", rf"{EMBEDDINGS}\.mask_token")
HEADS = ("classifier.", "cls_classifier.", "distillation_classifier.")

VIT = StateDictFormat(
    "hf-vit", MARKS, _vit_config, _vit_rules, _vit_description,
    supports={"mlp": MLPS}, defaults={"positions_antialias": False},
    excludes=(f"{EMBEDDINGS}.distillation_token",), ignored=UNUSED,
    prefix="vit.", prefix_needs_head=True, unprefixed=HEADS,
)  # fmt: skip
"""ViTModel, ViTForImageClassification, and the encoder of ViTMAEForPreTraining."""

DEIT = StateDictFormat(
    "hf-deit", (*MARKS, f"{EMBEDDINGS}.distillation_token"), _deit_config, _deit_rules, _deit_description,
    supports={"mlp": MLPS, "registers": (1,), "pooling": ("class", "class-and-distillation")},
    defaults={"positions_antialias": False}, ignored=UNUSED,
    prefix="deit.", prefix_needs_head=True, unprefixed=HEADS,
)  # fmt: skip
"""DeiTModel, DeiTForImageClassification and DeiTForImageClassificationWithTeacher, whose two answers are averaged."""
