"""timm's config.json: what it says of a model, and how to say a model of ours with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.infer_config import Activation, infer_mlp_ratio

ACTIVATIONS: dict[str, Activation] = {"gelu": "gelu", "gelu_tanh": "gelu-tanh", "quick_gelu": "quick-gelu"}
"""timm's names of the activations and ours."""
TANH_GELU = (
    "vit_base_patch32_siglip_", "vit_large_patch16_siglip_512", "vit_large_patch16_siglip_gap_512",
    "vit_so400m_patch16_siglip_", "vit_giantopt_patch16_siglip_",
)  # fmt: skip
"""Beginnings of the architectures with the tanh form of GELU: a config.json doesn't say it (timm 1.0.31)."""
HEADS = {"vit_giantopt_": 16, "vit_base_patch16_gap_224": 16, "test_vit": 2}
"""Heads by the beginnings of architectures, where the width doesn't tell them (timm 1.0.31)."""
EPSILONS = {1e-6: "vit_base_patch16_224", 1e-5: "vit_base_patch16_clip_224"}
"""The architecture to write for each epsilon of the normalizations, which model_args can't say."""
GATED = "vit_giant_patch14_dinov2"
"""The architecture to write for a gated MLP, which model_args can't say either; its epsilon is 1e-6."""
DISTILLED = "deit_base_distilled_patch16_224"
"""The architecture to write for a model with a distillation token."""


def check_known(theirs: Mapping[str, Any]) -> None:
    """Refuse what weights don't tell and we don't compute.

    Raises:
        InputError: the architecture normalizes after each branch, or pools the tokens before the patches too.
    """
    architecture = theirs.get("architecture", "")
    if "_rpn_" in architecture:
        raise InputError(f"{architecture} normalizes after each branch, which our blocks don't")
    if (theirs.get("model_args") or {}).get("pool_include_prefix") or architecture == "test_vit3":
        raise InputError(f"{architecture} pools class token and registers with the patches, which our ViT doesn't")


def stated_size(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The size of the images that timm's config.json names, as {"image_size": ...}; empty if it names none."""
    said = (theirs.get("model_args") or {}).get("img_size", theirs.get("image_size"))
    if said is None:
        said = (theirs.get("pretrained_cfg") or {}).get("input_size", (None,))[1:] or None
    return {} if said is None else {"image_size": said}


def stated_num_heads(theirs: Mapping[str, Any]) -> int | None:
    """The heads that timm's config.json names, or its architecture stands for; None where the width tells them."""
    said = (theirs.get("model_args") or {}).get("num_heads", theirs.get("num_heads"))
    architecture = theirs.get("architecture", "")
    return said or next((heads for name, heads in HEADS.items() if architecture.startswith(name)), None)


def timm_config(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    """The config.json with which `timm.create_model("local-dir:FOLDER")` builds this model.

    Raises:
        InputError: timm has no architecture that computes so.
    """
    architecture = _architecture(config)
    size_chw = [config.in_chans, *config.image_size]
    cfg = {
        "input_size": size_chw,
        "num_classes": config.num_classes,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }
    names = {"label_names": list(class_names)} if class_names else {}
    return {
        "architecture": architecture,
        "num_classes": config.num_classes,
        "num_features": config.embed_dim,
        "global_pool": _global_pool(config),
        "model_args": _arguments(config),
        "pretrained_cfg": cfg | names,
    }


def _architecture(config: ViTConfig) -> str:
    if config.global_pool == "class-and-distillation":
        name, epsilon = DISTILLED, 1e-6
    elif config.mlp_layer == "swiglu":
        name, epsilon = GATED, 1e-6
    else:
        epsilon = config.norm_eps
        name = EPSILONS.get(epsilon, "")
    if not name or epsilon != config.norm_eps:
        raise InputError(f"timm has no model like this with norm_epsilon={config.norm_eps}, only 1e-6 or 1e-5")
    return name


def _global_pool(config: ViTConfig) -> str:
    return {"mean": "avg", "map": "map"}.get(config.global_pool, "token")


def _arguments(config: ViTConfig) -> dict[str, Any]:
    gated, class_token = config.mlp_layer == "swiglu", config.global_pool.startswith("class")
    arguments = {
        "img_size": list(config.image_size),
        "patch_size": config.patch_size,
        "in_chans": config.in_chans,
        "embed_dim": config.embed_dim,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": infer_mlp_ratio(2 * config.gated_dim, config.embed_dim) if gated else config.mlp_ratio,
        "init_values": config.init_values,
        "qk_norm": config.qk_norm,
        "pre_norm": config.pre_norm,
        "global_pool": _global_pool(config),
        "fc_norm": config.fc_norm,
    }
    if config.global_pool != "class-and-distillation":
        registers = {"reg_tokens": config.reg_tokens, "no_embed_class": config.reg_tokens > 0}
        arguments |= {"class_token": class_token} | registers
    act_layer = [theirs for theirs, ours in ACTIVATIONS.items() if ours == config.mlp_layer]
    return arguments if gated else arguments | {"act_layer": act_layer[0]}
