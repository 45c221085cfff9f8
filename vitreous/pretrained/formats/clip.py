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
    joined_entries,
    linear_entries,
    patch_entry,
    unchanged,
)
from vitreous.pretrained.formats.state_dict_format import StateDictFormat, TensorRule

LAYER, RESBLOCK = "encoder.layers.{}", "visual.transformer.resblocks.{}"


def _configure(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> ViTConfig:
    if not theirs:
        raise InputError("CLIP's weights don't say which GELU they use: put their config.json beside them")
    theirs = theirs.get("vision_config", theirs)
    kernel, hidden = tensors["embeddings.patch_embedding.weight"], len(tensors[f"{LAYER}.mlp.fc1.weight".format(0)])
    width, patch_size, projection = len(kernel), infer_patch_size(kernel), tensors.get("visual_projection.weight")
    return ViTConfig(
        infer_image_size(len(tensors["embeddings.position_embedding.weight"]) - 1, patch_size, theirs), patch_size,
        kernel.shape[1], num_classes=0 if projection is None else len(projection), embed_dim=width,
        depth=infer_depth(tensors, f"{LAYER}.layer_norm1.weight"),
        num_heads=infer_num_heads(width, theirs),
        mlp_layer=infer_activation({"hidden_act": "quick_gelu"} | dict(theirs)), mlp_ratio=infer_mlp_ratio(hidden, width),
        pre_norm=True, norm_eps=theirs.get("layer_norm_eps", 1e-5),
    )  # fmt: skip


def tower_rules(layer: str) -> list[TensorRule]:
    """The blocks, which CLIP and SigLIP name alike in transformers."""
    query_key_value = tuple(f"{layer}.self_attn.{part}_proj" for part in ("q", "k", "v"))
    return [
        *linear_entries("blocks.{}.attention_norm", f"{layer}.layer_norm1"),
        *joined_entries("blocks.{}.attention.qkv", query_key_value),
        *linear_entries("blocks.{}.attention.projection", f"{layer}.self_attn.out_proj"),
        *linear_entries("blocks.{}.mlp_norm", f"{layer}.layer_norm2"),
        *linear_entries("blocks.{}.mlp.expand", f"{layer}.mlp.fc1"),
        *linear_entries("blocks.{}.mlp.contract", f"{layer}.mlp.fc2"),
    ]


def _rules(config: ViTConfig) -> list[TensorRule]:
    return [
        SplitTokensFoldBias(("embeddings.class_embedding",), "embeddings.position_embedding.weight", config, flat=True),
        patch_entry("embeddings.patch_embedding", config)[0],
        *linear_entries("embedding_norm", "pre_layrnorm"),
        *tower_rules(LAYER),
        *linear_entries("norm", "post_layernorm"),
        *(_projection("visual_projection.weight") if config.num_classes else ()),
    ]


def _projection(theirs: str, change: Change = unchanged) -> tuple[Rename, Rename]:
    """The head that makes the embedding; it has no bias."""
    return Rename("head.weight", theirs, into=change, back=change), Rename("head.bias", (None,))


def tower_description(config: ViTConfig) -> dict[str, Any]:
    """What CLIP's and SigLIP's vision configurations have alike in transformers.

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


def labels(class_names: Sequence[str]) -> dict[str, Any]:
    """How transformers' config.json names the classes; nothing where there are none."""
    if not class_names:
        return {}
    return {
        "id2label": {str(index): name for index, name in enumerate(class_names)},
        "label2id": {name: index for index, name in enumerate(class_names)},
    }


def _describe(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    projected = {"projection_dim": config.num_classes} if config.num_classes else {}
    return tower_description(config) | projected | {
        "architectures": ["CLIPVisionModelWithProjection" if config.num_classes else "CLIPVisionModel"],
        "model_type": "clip_vision_model",
    } | labels(class_names)  # fmt: skip


def _configure_open(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> ViTConfig:
    theirs = theirs.get("model_cfg", theirs)
    tower = {**theirs, **theirs.get("vision_cfg", {})}
    kernel, hidden = tensors["visual.conv1.weight"], len(tensors[f"{RESBLOCK}.mlp.c_fc.weight".format(0)])
    width, patch_size = len(kernel), infer_patch_size(kernel)
    return ViTConfig(
        infer_image_size(len(tensors["visual.positional_embedding"]) - 1, patch_size, tower), patch_size, kernel.shape[1],
        num_classes=tensors["visual.proj"].shape[1] if "visual.proj" in tensors else 0, embed_dim=width,
        depth=infer_depth(tensors, f"{RESBLOCK}.ln_1.weight"),
        num_heads=width // tower["head_width"] if "head_width" in tower else usual_num_heads(width, "head_width"),
        mlp_layer=_open_activation(tensors, theirs), mlp_ratio=infer_mlp_ratio(hidden, width),
        pre_norm=True, norm_eps=1e-5, pos_embed_antialias=True,
    )  # fmt: skip


def _open_activation(tensors: Mapping[str, Tensor], theirs: Mapping[str, Any]) -> Activation:
    """OpenAI's own files, which have their input's resolution among the weights, use the quick form."""
    if "input_resolution" in tensors:
        return "quick-gelu"
    if not theirs:
        raise InputError(
            "open_clip's weights don't say which GELU they use: give a config.json with quick_gelu (true or false)"
        )
    return "quick-gelu" if theirs.get("quick_gelu") else "gelu"


def _open_rules(config: ViTConfig) -> list[TensorRule]:
    return [
        SplitTokensFoldBias(("visual.class_embedding",), "visual.positional_embedding", config, flat=True),
        patch_entry("visual.conv1", config)[0],
        *linear_entries("embedding_norm", "visual.ln_pre"),
        *linear_entries("blocks.{}.attention_norm", f"{RESBLOCK}.ln_1"),
        Rename("blocks.{}.attention.qkv.weight", f"{RESBLOCK}.attn.in_proj_weight"),
        Rename("blocks.{}.attention.qkv.bias", f"{RESBLOCK}.attn.in_proj_bias"),
        *linear_entries("blocks.{}.attention.projection", f"{RESBLOCK}.attn.out_proj"),
        *linear_entries("blocks.{}.mlp_norm", f"{RESBLOCK}.ln_2"),
        *linear_entries("blocks.{}.mlp.expand", f"{RESBLOCK}.mlp.c_fc"),
        *linear_entries("blocks.{}.mlp.contract", f"{RESBLOCK}.mlp.c_proj"),
        *linear_entries("norm", "visual.ln_post"),
        *(_projection("visual.proj", torch.t) if config.num_classes else ()),
    ]


def _describe_open(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
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
    _configure, _rules, _describe,
    supports={"mlp": ("gelu", "gelu-tanh", "quick-gelu"), "embedding_norm": (True,)},
    defaults={"positions_antialias": False},
    ignored=(r"text_model\..*", r"text_projection\..*", "logit_scale", r"embeddings\.position_ids"),
    prefix="vision_model.", prefix_needs_head=True, unprefixed=("visual_projection.",),
)  # fmt: skip
"""transformers' CLIPModel, CLIPVisionModelWithProjection (classes: the embedding's numbers), CLIPVisionModel (none)."""

OPEN_CLIP = StateDictFormat(
    "open-clip",
    ("visual.class_embedding", "visual.positional_embedding", "visual.conv1.weight", "visual.ln_pre.weight",
     f"{RESBLOCK}.attn.in_proj_weight".format(0)),
    _configure_open, _open_rules, _describe_open,
    supports={"mlp": ("gelu", "quick-gelu"), "embedding_norm": (True,)},
    defaults={"positions_antialias": True, "norm_epsilon": 1e-5},
    ignored=(
        r"transformer\..*", r"token_embedding\..*", r"ln_final\..*", r"text\..*", "positional_embedding", "attn_mask",
        "text_projection", "logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size",
    ),
)  # fmt: skip
"""OpenAI's CLIP and open_clip's. The text tower's names are the same without "visual.", so that is no prefix here."""
