"""timm's config.json: what it states about a model, and how to describe a model of ours with it."""

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
"""Beginnings of the architectures with the tanh form of GELU: a config.json doesn't state it (timm 1.0.31)."""
NUM_HEADS = {"vit_giantopt_": 16, "vit_base_patch16_gap_224": 16, "test_vit": 2}
"""Heads by the beginnings of architectures, where they don't follow from the width (timm 1.0.31)."""
EPS_ARCHITECTURES = {1e-6: "vit_base_patch16_224", 1e-5: "vit_base_patch16_clip_224"}
"""The architecture to write for each epsilon of the normalizations, which model_args can't state."""
GATED = "vit_giant_patch14_dinov2"
"""The architecture to write for a gated MLP, which model_args can't state either; its epsilon is 1e-6."""
DISTILLED = "deit_base_distilled_patch16_224"
"""The architecture to write for a model with a distillation token."""


def check_known(external_config: Mapping[str, Any]) -> None:
    """Refuse what the weights don't show and our ViT doesn't compute.

    Raises:
        InputError: the architecture normalizes after each branch, or pools the tokens before the patches too.
    """
    architecture = external_config.get("architecture", "")
    if "_rpn_" in architecture:
        raise InputError(f"{architecture} normalizes after each branch, which our blocks don't")
    if (external_config.get("model_args") or {}).get("pool_include_prefix") or architecture == "test_vit3":
        raise InputError(f"{architecture} pools class token and registers with the patches, which our ViT doesn't")


def stated_size(external_config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the size of the images from timm's config.json, as {"image_size": ...}; empty if it states none."""
    stated = (external_config.get("model_args") or {}).get("img_size", external_config.get("image_size"))
    if stated is None:
        stated = (external_config.get("pretrained_cfg") or {}).get("input_size", (None,))[1:] or None
    return {} if stated is None else {"image_size": stated}


def stated_num_heads(external_config: Mapping[str, Any]) -> int | None:
    """Read the number of heads from timm's config.json, or its architecture; None where the width decides it."""
    stated = (external_config.get("model_args") or {}).get("num_heads", external_config.get("num_heads"))
    architecture = external_config.get("architecture", "")
    return stated or next((heads for name, heads in NUM_HEADS.items() if architecture.startswith(name)), None)


def timm_config(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    """Write the config.json with which `timm.create_model("local-dir:FOLDER")` builds this model.

    Raises:
        InputError: timm has no architecture that computes the same.
    """
    architecture = _architecture(config)
    cfg = {
        "input_size": [config.in_chans, *config.image_size],
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
        "model_args": _model_args(config),
        "pretrained_cfg": cfg | names,
    }


def _architecture(config: ViTConfig) -> str:
    if config.global_pool == "token-dist":
        name, eps = DISTILLED, 1e-6
    elif config.mlp_layer == "swiglu":
        name, eps = GATED, 1e-6
    else:
        eps = config.norm_eps
        name = EPS_ARCHITECTURES.get(eps, "")
    if not name or eps != config.norm_eps:
        raise InputError(f"timm has no model like this with norm_eps={config.norm_eps}, only 1e-6 or 1e-5")
    return name


def _global_pool(config: ViTConfig) -> str:
    return "token" if config.global_pool == "token-dist" else config.global_pool


def _model_args(config: ViTConfig) -> dict[str, Any]:
    gated = config.mlp_layer == "swiglu"
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
    if config.global_pool != "token-dist":
        arguments |= {
            "class_token": config.has_class_token,
            "reg_tokens": config.reg_tokens,
            "no_embed_class": True,
        }
    act_layer = [external for external, own in ACTIVATIONS.items() if own == config.mlp_layer]
    return arguments if gated else arguments | {"act_layer": act_layer[0]}
