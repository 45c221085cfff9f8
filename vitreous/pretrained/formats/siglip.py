"""transformers' image towers of SigLIP (Zhai et al. 2023) and of SigLIP 2's models for one size of image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.clip import LAYER, labels, tower_description, tower_rules
from vitreous.pretrained.formats.infer_config import (
    infer_activation,
    infer_depth,
    infer_image_size,
    infer_mlp_ratio,
    infer_num_heads,
    infer_patch_size,
)
from vitreous.pretrained.formats.rules import Rename, Shapes, SplitTokens, linear_entries, patch_entry
from vitreous.pretrained.formats.state_dict_format import StateDictFormat, TensorRule

TABLE = "embeddings.position_embedding.weight"


@dataclass(frozen=True)
class Ignored:
    """Tensors of theirs that a model of this configuration makes no use of, and that needn't be there."""

    names: tuple[str, ...]
    """Their tensors."""
    ours_names: tuple[str, ...] = ()
    """Our tensors that it fills: none."""
    needed: tuple[str, ...] = ()
    """Those of their tensors that must be there: none."""

    def for_blocks(self, depth: int) -> list["Ignored"]:
        """This rule alone: it is no block's."""
        return [self]

    def to_ours(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def to_theirs(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Nothing."""
        return {}


def _configure(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> ViTConfig:
    theirs = theirs.get("vision_config", theirs)
    kernel, hidden = tensors["embeddings.patch_embedding.weight"], len(tensors[f"{LAYER}.mlp.fc1.weight".format(0)])
    width, patch_size = len(kernel), infer_patch_size(kernel)
    classifier = tensors.get("classifier.weight")
    if classifier is None and "head.probe" not in tensors:
        raise InputError("a SigLIP tower without pooling head and classifier gives no one answer: use one with a head")
    return ViTConfig(
        infer_image_size(len(tensors[TABLE]), patch_size, theirs), patch_size, kernel.shape[1],
        num_classes=0 if classifier is None else len(classifier), global_pool="map" if classifier is None else "mean",
        embed_dim=width, depth=infer_depth(tensors, f"{LAYER}.layer_norm1.weight"),
        num_heads=infer_num_heads(width, theirs),
        mlp_layer=infer_activation({"hidden_act": "gelu_pytorch_tanh"} | dict(theirs)), mlp_ratio=infer_mlp_ratio(hidden, width),
        norm_eps=theirs.get("layer_norm_eps", 1e-6),
    )  # fmt: skip


def _rules(config: ViTConfig) -> list[TensorRule]:
    pooling = [rule for entry in _pooling_rules() for rule in entry]
    if config.global_pool == "mean":
        unread = Ignored(tuple(name for rule in pooling for name in rule.names))
        end: list[TensorRule] = [unread, *(linear_entries("head", "classifier") if config.num_classes else ())]
    else:
        end = [*pooling]
    return [
        SplitTokens((), TABLE, config, rows=0, flat=True),
        *patch_entry("embeddings.patch_embedding", config),
        *tower_rules(LAYER),
        *linear_entries("norm", "post_layernorm"),
        *end,
    ]


def _pooling_rules() -> list[tuple[Rename, ...]]:
    """The pooling head: torch's attention keeps query, key and value in one."""
    ours = "pooling.query_map", "pooling.key_value_map"
    theirs = "head.attention.in_proj_"
    return [
        (Rename("pooling.query", "head.probe", into=lambda t: t.flatten(), back=lambda t: t[None, None]),),
        (Rename(tuple(f"{name}.weight" for name in ours), f"{theirs}weight"),),
        (Rename(tuple(f"{name}.bias" for name in ours), f"{theirs}bias"),),
        linear_entries("pooling.projection", "head.attention.out_proj"),
        linear_entries("pooling.norm", "head.layernorm"),
        linear_entries("pooling.mlp.expand", "head.mlp.fc1"),
        linear_entries("pooling.mlp.contract", "head.mlp.fc2"),
    ]


def _describe(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    if config.global_pool == "mean" and not config.num_classes:
        raise InputError("siglip can't hold a model that answers with the patches' mean: it needs a head")
    tower = tower_description(config) | {
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
    } | labels(class_names)


SIGLIP = StateDictFormat(
    "siglip",
    ("embeddings.patch_embedding.bias", TABLE, "post_layernorm.weight", f"{LAYER}.self_attn.q_proj.weight".format(0)),
    _configure, _rules, _describe,
    supports={"mlp": ("gelu", "gelu-tanh", "quick-gelu"), "pooling": ("map", "mean")},
    defaults={"positions_antialias": False}, excludes=("pre_layrnorm.weight", "embeddings.class_embedding"),
    ignored=(r"text_model\..*", "logit_scale", "logit_bias", r"embeddings\.position_ids"),
    prefix="vision_model.", prefix_needs_head=True, unprefixed=("classifier.",),
)  # fmt: skip
"""SiglipModel and SiglipVisionModel, whose answer is the pooled vector, and SiglipForImageClassification."""
