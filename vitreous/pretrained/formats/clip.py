"""Image towers of CLIP (Radford et al. 2021): transformers' names, and those of OpenAI and open_clip."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.infer_config import (
    ACTIVATIONS_BACK,
    Activation,
    infer_activation,
    infer_depth,
    infer_image_size,
    infer_mlp_ratio,
    infer_num_heads,
    infer_patch_size,
    usual_num_heads,
)
from vitreous.pretrained.formats.rules import (
    Change,
    Rename,
    SplitTokensFoldBias,
    linear_rules,
    stacked_rules,
    unchanged,
)
from vitreous.pretrained.formats.state_dict_format import StateDictFormat, TensorRule

LAYER, RESBLOCK = "encoder.layers.{}", "visual.transformer.resblocks.{}"


def _infer_config(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> ViTConfig:
    if not external_config:
        raise InputError("CLIP's weights don't say which GELU they use: put their config.json beside them")
    external_config = external_config.get("vision_config", external_config)
    kernel, hidden = tensors["embeddings.patch_embedding.weight"], len(tensors[f"{LAYER}.mlp.fc1.weight".format(0)])
    width, patch_size, projection = len(kernel), infer_patch_size(kernel), tensors.get("visual_projection.weight")
    patches = len(tensors["embeddings.position_embedding.weight"]) - 1
    return ViTConfig(
        infer_image_size(patches, patch_size, external_config), patch_size, kernel.shape[1],
        num_classes=0 if projection is None else len(projection), embed_dim=width,
        depth=infer_depth(tensors, f"{LAYER}.layer_norm1.weight"),
        num_heads=infer_num_heads(width, external_config),
        mlp_layer=infer_activation({"hidden_act": "quick_gelu"} | dict(external_config)),
        mlp_ratio=infer_mlp_ratio(hidden, width),
        pre_norm=True, norm_eps=external_config.get("layer_norm_eps", 1e-5),
    )  # fmt: skip


def tower_rules(layer: str) -> list[TensorRule]:
    """Convert the blocks, which CLIP and SigLIP name alike in transformers."""
    query_key_value = tuple(f"{layer}.self_attn.{part}_proj" for part in ("q", "k", "v"))
    return [
        *linear_rules("blocks.{}.norm1", f"{layer}.layer_norm1"),
        *stacked_rules("blocks.{}.attn.qkv", query_key_value),
        *linear_rules("blocks.{}.attn.proj", f"{layer}.self_attn.out_proj"),
        *linear_rules("blocks.{}.norm2", f"{layer}.layer_norm2"),
        *linear_rules("blocks.{}.mlp.fc1", f"{layer}.mlp.fc1"),
        *linear_rules("blocks.{}.mlp.fc2", f"{layer}.mlp.fc2"),
    ]


def _rules(config: ViTConfig) -> list[TensorRule]:
    return [
        SplitTokensFoldBias(("embeddings.class_embedding",), "embeddings.position_embedding.weight", config, flat=True),
        linear_rules("patch_embed.proj", "embeddings.patch_embedding")[0],
        *linear_rules("norm_pre", "pre_layrnorm"),
        *tower_rules(LAYER),
        *linear_rules("norm", "post_layernorm"),
        *(_projection_rules("visual_projection.weight") if config.num_classes else ()),
    ]


def _projection_rules(external_key: str, change: Change = unchanged) -> tuple[Rename, Rename]:
    """Convert the head that makes the embedding; it has no bias."""
    return Rename("head.weight", external_key, into=change, back=change), Rename("head.bias", (None,))


def tower_config(config: ViTConfig) -> dict[str, Any]:
    """Write what CLIP's and SigLIP's vision configurations have in common in transformers.

    Raises:
        InputError: the model is made for images that aren't square.
    """
    height, width = config.image_size
    if height != width:
        raise InputError(f"transformers' CLIP and SigLIP are made for square images, not for {height} × {width}")
    return {
        "hidden_size": config.embed_dim,
        "intermediate_size": int(config.mlp_ratio * config.embed_dim),
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "num_channels": config.in_chans,
        "image_size": height,
        "patch_size": config.patch_size,
        "hidden_act": ACTIVATIONS_BACK[config.mlp_layer],
        "layer_norm_eps": config.norm_eps,
        "dtype": "float32",
    }


def label_maps(class_names: Sequence[str]) -> dict[str, Any]:
    """Write the names of the classes as in transformers' config.json; nothing where there are none."""
    if not class_names:
        return {}
    return {
        "id2label": {str(index): name for index, name in enumerate(class_names)},
        "label2id": {name: index for index, name in enumerate(class_names)},
    }


def _external_config(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    projected = {"projection_dim": config.num_classes} if config.num_classes else {}
    return tower_config(config) | projected | {
        "architectures": ["CLIPVisionModelWithProjection" if config.num_classes else "CLIPVisionModel"],
        "model_type": "clip_vision_model",
    } | label_maps(class_names)  # fmt: skip


def _infer_config_open(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> ViTConfig:
    external_config = external_config.get("model_cfg", external_config)
    tower = {**external_config, **external_config.get("vision_cfg", {})}
    kernel, hidden = tensors["visual.conv1.weight"], len(tensors[f"{RESBLOCK}.mlp.c_fc.weight".format(0)])
    width, patch_size = len(kernel), infer_patch_size(kernel)
    patches = len(tensors["visual.positional_embedding"]) - 1
    return ViTConfig(
        infer_image_size(patches, patch_size, tower), patch_size, kernel.shape[1],
        num_classes=tensors["visual.proj"].shape[1] if "visual.proj" in tensors else 0, embed_dim=width,
        depth=infer_depth(tensors, f"{RESBLOCK}.ln_1.weight"),
        num_heads=width // tower["head_width"] if "head_width" in tower else usual_num_heads(width, "head_width"),
        mlp_layer=_open_activation(tensors, external_config), mlp_ratio=infer_mlp_ratio(hidden, width),
        pre_norm=True, norm_eps=1e-5, pos_embed_antialias=True,
    )  # fmt: skip


def _open_activation(tensors: Mapping[str, Tensor], external_config: Mapping[str, Any]) -> Activation:
    """OpenAI's own files, which store the input resolution among the weights, use the quick form."""
    if "input_resolution" in tensors:
        return "quick-gelu"
    if not external_config:
        raise InputError(
            "open_clip's weights don't say which GELU they use: give a config.json with quick_gelu (true or false)"
        )
    return "quick-gelu" if external_config.get("quick_gelu") else "gelu"


def _open_rules(config: ViTConfig) -> list[TensorRule]:
    return [
        SplitTokensFoldBias(("visual.class_embedding",), "visual.positional_embedding", config, flat=True),
        linear_rules("patch_embed.proj", "visual.conv1")[0],
        *linear_rules("norm_pre", "visual.ln_pre"),
        *linear_rules("blocks.{}.norm1", f"{RESBLOCK}.ln_1"),
        Rename("blocks.{}.attn.qkv.weight", f"{RESBLOCK}.attn.in_proj_weight"),
        Rename("blocks.{}.attn.qkv.bias", f"{RESBLOCK}.attn.in_proj_bias"),
        *linear_rules("blocks.{}.attn.proj", f"{RESBLOCK}.attn.out_proj"),
        *linear_rules("blocks.{}.norm2", f"{RESBLOCK}.ln_2"),
        *linear_rules("blocks.{}.mlp.fc1", f"{RESBLOCK}.mlp.c_fc"),
        *linear_rules("blocks.{}.mlp.fc2", f"{RESBLOCK}.mlp.c_proj"),
        *linear_rules("norm", "visual.ln_post"),
        *(_projection_rules("visual.proj", torch.t) if config.num_classes else ()),
    ]


def _external_config_open(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    tower = {
        "image_size": list(config.image_size), "layers": config.depth, "width": config.embed_dim,
        "head_width": config.head_dim, "mlp_ratio": config.mlp_ratio, "patch_size": config.patch_size,
    }  # fmt: skip
    return {
        "model_cfg": {
            "embed_dim": config.num_classes,
            "quick_gelu": config.mlp_layer == "quick-gelu",
            "vision_cfg": tower,
        }
    }


CLIP = StateDictFormat(
    "clip",
    ("embeddings.class_embedding", "embeddings.position_embedding.weight", "pre_layrnorm.weight",
     f"{LAYER}.self_attn.q_proj.weight".format(0)),
    _infer_config, _rules, _external_config, num_heads_key="num_attention_heads",
    supports={"mlp_layer": ("gelu", "gelu-tanh", "quick-gelu"), "pre_norm": (True,)},
    defaults={"pos_embed_antialias": False},
    ignored=(r"text_model\..*", r"text_projection\..*", "logit_scale", r"embeddings\.position_ids"),
    prefix="vision_model.", prefix_needs_head=True, unprefixed=("visual_projection.",),
)  # fmt: skip
"""transformers' CLIPModel, CLIPVisionModelWithProjection (num_classes: the width of the embedding), CLIPVisionModel
(none)."""

OPEN_CLIP = StateDictFormat(
    "open-clip",
    ("visual.class_embedding", "visual.positional_embedding", "visual.conv1.weight", "visual.ln_pre.weight",
     f"{RESBLOCK}.attn.in_proj_weight".format(0)),
    _infer_config_open, _open_rules, _external_config_open, num_heads_key="head_width",
    supports={"mlp_layer": ("gelu", "quick-gelu"), "pre_norm": (True,)},
    defaults={"pos_embed_antialias": True, "norm_eps": 1e-5},
    ignored=(
        r"transformer\..*", r"token_embedding\..*", r"ln_final\..*", r"text\..*", "positional_embedding", "attn_mask",
        "text_projection", "logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size",
    ),
)  # fmt: skip
"""OpenAI's CLIP and open_clip's. The text tower's keys are the same without "visual.", so `prefix` can't be used
here."""
