"""transformers' image towers of SigLIP (Zhai et al. 2023) and of SigLIP 2's models for one size of image."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.clip import LAYER, label_maps, tower_config, tower_rules
from vitreous.pretrained.formats.infer_config import (
    infer_activation,
    infer_depth,
    infer_image_size,
    infer_mlp_ratio,
    infer_num_heads,
    infer_patch_size,
)
from vitreous.pretrained.formats.rules import Ignored, Rename, SplitTokens, linear_rules
from vitreous.pretrained.formats.state_dict_format import StateDictFormat, TensorRule

TABLE = "embeddings.position_embedding.weight"


def _infer_config(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> ViTConfig:
    external_config = external_config.get("vision_config", external_config)
    kernel, hidden = tensors["embeddings.patch_embedding.weight"], len(tensors[f"{LAYER}.mlp.fc1.weight".format(0)])
    width, patch_size = len(kernel), infer_patch_size(kernel)
    classifier = tensors.get("classifier.weight")
    if classifier is None and "head.probe" not in tensors:
        raise InputError("a SigLIP tower without pooling head and classifier has no output vector: use one with a head")
    return ViTConfig(
        infer_image_size(len(tensors[TABLE]), patch_size, external_config), patch_size, kernel.shape[1],
        num_classes=0 if classifier is None else len(classifier), global_pool="map" if classifier is None else "avg",
        embed_dim=width, depth=infer_depth(tensors, f"{LAYER}.layer_norm1.weight"),
        num_heads=infer_num_heads(width, external_config),
        mlp_layer=infer_activation({"hidden_act": "gelu_pytorch_tanh"} | dict(external_config)),
        mlp_ratio=infer_mlp_ratio(hidden, width),
        norm_eps=external_config.get("layer_norm_eps", 1e-6),
    )  # fmt: skip


def _rules(config: ViTConfig) -> list[TensorRule]:
    pooling = _pooling_rules()
    end: list[TensorRule] = [*pooling]
    if config.global_pool == "avg":
        unused = Ignored(tuple(key for rule in pooling for key in rule.external_keys))
        end = [unused, *(linear_rules("head", "classifier") if config.num_classes else ())]
    return [
        SplitTokens((), TABLE, config, rows=0, flat=True),
        *linear_rules("patch_embed.proj", "embeddings.patch_embedding"),
        *tower_rules(LAYER),
        *linear_rules("norm", "post_layernorm"),
        *end,
    ]


def _pooling_rules() -> list[Rename]:
    """Convert the pooling head: torch's attention keeps query, key and value in one map."""
    return [
        Rename("attn_pool.latent", "head.probe"),
        Rename(("attn_pool.q.weight", "attn_pool.kv.weight"), "head.attention.in_proj_weight"),
        Rename(("attn_pool.q.bias", "attn_pool.kv.bias"), "head.attention.in_proj_bias"),
        *linear_rules("attn_pool.proj", "head.attention.out_proj"),
        *linear_rules("attn_pool.norm", "head.layernorm"),
        *linear_rules("attn_pool.mlp.fc1", "head.mlp.fc1"),
        *linear_rules("attn_pool.mlp.fc2", "head.mlp.fc2"),
    ]


def _external_config(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    if config.global_pool == "avg" and not config.num_classes:
        raise InputError("siglip can't hold a model whose output is the patches' average: it needs a head")
    tower = tower_config(config) | {
        "model_type": "siglip_vision_model",
        "vision_use_head": config.global_pool == "map",
    }
    if not config.num_classes:
        return tower | {"architectures": ["SiglipVisionModel"]}
    return {
        "architectures": ["SiglipForImageClassification"],
        "model_type": "siglip",
        "vision_config": tower,
        "dtype": "float32",
    } | label_maps(class_names)


SIGLIP = StateDictFormat(
    "siglip",
    ("embeddings.patch_embedding.bias", TABLE, "post_layernorm.weight", f"{LAYER}.self_attn.q_proj.weight".format(0)),
    _infer_config, _rules, _external_config, num_heads_key="num_attention_heads",
    supports={"mlp_layer": ("gelu", "gelu-tanh", "quick-gelu"), "global_pool": ("map", "avg")},
    defaults={"pos_embed_antialias": False}, excludes=("pre_layrnorm.weight", "embeddings.class_embedding"),
    ignored=(r"text_model\..*", "logit_scale", "logit_bias", r"embeddings\.position_ids"),
    prefix="vision_model.", prefix_needs_head=True, unprefixed=("classifier.",),
)  # fmt: skip
"""SiglipModel and SiglipVisionModel, whose output is the pooled vector, and SiglipForImageClassification."""
