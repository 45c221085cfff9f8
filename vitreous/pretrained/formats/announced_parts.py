"""Refuse models whose config.json announces parts that our ViT doesn't have, or that no tensor would show."""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig

PLAIN_TIMM = re.compile(r"(vit|deit3?|flexivit|eva_large|test_vit\d*)(_\w+)?(\..*)?")
"""timm's names of what its VisionTransformer and VisionTransformerDistilled build (timm 1.0.29)."""
OTHER_TIMM = re.compile(
    r"_pe_|(?<![a-z])rope(?![a-z])|dinov3|relpos|_r\d+_|resnet|_mci_|_xp_|_d?pwee_|_dwee_|_dlittle_|_\d+x[2-9]_|^test_vit4|_7b_"
)
"""Parts of names of timm's models with other blocks, or with positions that leave no trace among the weights."""
PLAIN_ARGS = (
    "img_size", "patch_size", "in_chans", "num_classes", "global_pool", "embed_dim", "depth", "num_heads", "mlp_ratio",
    "qkv_bias", "proj_bias", "qk_norm", "init_values", "class_token", "no_embed_class", "reg_tokens", "pre_norm",
    "final_norm", "fc_norm", "dynamic_img_size", "act_layer", "weight_init", "fix_init", "pool_include_prefix",
    "strict_img_size", "drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate",
    "drop_path_rate",
)  # fmt: skip
"""timm's model_args that are read, that the weights show, or that have no effect on predictions."""
PLAIN_VALUES = {
    "pos_embed": ("learn",), "norm_layer": ("layernorm",), "mlp_layer": ("mlp",), "attn_layer": ("attn",),
    "pool_type": ("tok",),
}  # fmt: skip
"""Values of other settings that are those of a plain ViT."""
OPEN_CLIP_TOWER = (
    "image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "patch_dropout", "output_tokens",
    "embed_dim", "ls_init_value",
)  # fmt: skip
"""open_clip's settings of an image tower that are read, that the weights show, or that have no effect."""
MODEL_TYPES = {
    "hf-vit": ("vit", "vit_mae", "vit_msn"),
    "hf-deit": ("deit",),
    "hf-dinov2": ("dinov2",),
    "hf-dinov2-registers": ("dinov2_with_registers",),
    "hf-dinov3": ("dinov3_vit",),
    "clip": tuple(
        f"{name}{part}" for name in ("clip", "metaclip_2", "chinese_clip", "altclip") for part in ("", "_vision_model")
    ),
    "siglip": ("siglip", "siglip_vision_model"),
}
"""transformers' model types that compute what each format reads."""
TELLING_KEYS = {
    "rotary positions": r"(?<![a-z])(rope|rotary|rot_pos)(?![a-z])",
    "relative positions": r"(?<![a-z])rel(ative)?_?pos(ition(s|al)?)?(?![a-z])",
    "windows": r"(?<![a-z])(window_(size|attention|block)|sliding_window)",
    "experts": r"(?<![a-z])(num_(local_)?experts|moe_)",
    "normalization after the branches": r"(?<![a-z])(post_norm|norm_after|sandwich)",
    "parallel blocks": r"(?<![a-z])parallel_(block|attn|attention)",
    "differential attention": r"(?<![a-z])diff(erential)?_(attn|attention)",
}
"""Parts that our ViT doesn't have, by keys of a config.json that announce them with a value other than 0 or false."""
OTHER_RECORDS = ("id2label", "label2id", "label_descriptions", "text_config", "text_cfg")
"""Records of a config.json that don't describe the image tower."""
SIZE_KEYS = ("image_size", "img_size", "patch_size", "input_size")
COUNT_KEYS = (
    "num_attention_heads", "num_heads", "head_width", "num_hidden_layers", "depth", "layers", "hidden_size",
    "embed_dim", "width", "intermediate_size", "num_channels", "in_chans",
)  # fmt: skip
"""Keys of a config.json that count something of which a ViT has at least one."""
MAX_COUNT = 10**6
RECORD_KEYS = ("vision_config", "vision_cfg", "model_cfg", "model_args", "pretrained_cfg", "id2label")
ADVICE = "build it with its own library and explain it as it is, with vitreous.wrap or factory:MODULE:FUNCTION"


def check_values(external_config: Mapping[str, Any]) -> None:
    """Check the numbers and records of a config.json from which a model is read, before they are used.

    Raises:
        InputError: a size or count is no whole number above 0, a number isn't finite, or a record isn't one.
    """
    for key, value in _items(external_config):
        sides = value if key in SIZE_KEYS and isinstance(value, list) and value else [value]
        is_count = key in COUNT_KEYS + SIZE_KEYS and value is not None
        for side in sides:
            is_number = isinstance(side, int | float) and not isinstance(side, bool)
            if is_number and not math.isfinite(side):
                raise InputError(f"config.json has {key}={side}: a finite number is needed")
            if is_count and (not is_number or side != int(side) or not 0 < side <= MAX_COUNT):
                raise InputError(f"config.json has {key}={value!r}: give a whole number from 1 to {MAX_COUNT}")
        if key in RECORD_KEYS and value is not None and not isinstance(value, Mapping):
            raise InputError(f"config.json has {key}={value!r}: a record of settings is needed")


def check_announced(external_config: Mapping[str, Any], config: ViTConfig, format_name: str) -> None:
    """Check that a config.json announces nothing that the model read from the weights leaves out.

    Raises:
        InputError: it does; the message names the key and the part.
    """
    _check_timm(external_config)
    allowed, stated = MODEL_TYPES.get(format_name), external_config.get("model_type")
    if allowed and stated is not None and stated not in allowed:
        raise InputError(f"config.json says model_type '{stated}', which is another model than {allowed[0]}: {ADVICE}")
    if format_name == "open-clip":
        _require_plain(_open_clip_tower(external_config), OPEN_CLIP_TOWER, "vision_cfg")
    for key, value in _items(external_config):
        part = next((part for part, pattern in TELLING_KEYS.items() if re.search(pattern, key)), None)
        is_ours = part == "rotary positions" and config.pos_embed == "rope"
        if part is not None and value and not is_ours:
            raise InputError(f"config.json announces {part} ({key}: {value!r}), which our ViT hasn't: {ADVICE}")


def _check_timm(external_config: Mapping[str, Any]) -> None:
    """Check the architecture and the arguments that timm's config.json names."""
    cfg = _mapping(external_config.get("pretrained_cfg"))
    tower = _open_clip_tower(external_config)
    for name in (external_config.get("architecture"), cfg.get("architecture"), tower.get("timm_model_name")):
        if name is not None and (not PLAIN_TIMM.fullmatch(str(name)) or OTHER_TIMM.search(str(name))):
            raise InputError(f"config.json says architecture '{name}', which is no plain ViT of timm: {ADVICE}")
    _require_plain(_mapping(external_config.get("model_args")), PLAIN_ARGS, "model_args")


def _open_clip_tower(external_config: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(_mapping(external_config.get("model_cfg", external_config)).get("vision_cfg"))


def _require_plain(arguments: Mapping[str, Any], known: Collection[str], name: str) -> None:
    """Refuse arguments that are not known and have a value other than 0, false or none."""
    for key, value in arguments.items():
        if key not in known and value and str(value).lower() not in PLAIN_VALUES.get(key, ()):
            raise InputError(f"config.json's {name} have {key}={value!r}, which our ViT hasn't: {ADVICE}")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _items(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield all keys and values, those of inner records of the image tower too; not those of class names."""
    for key, value in config.items():
        if isinstance(value, Mapping) and key not in OTHER_RECORDS:
            yield from _items(value)
        yield str(key), value
