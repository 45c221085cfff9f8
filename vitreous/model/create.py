"""Models by the names of their sizes."""

from typing import Unpack

from vitreous.model.config import SIZES, ViTConfig, ViTFields, named_config
from vitreous.model.vit import ViT


def sizes() -> dict[str, ViTConfig]:
    """Give the usual sizes by name: "Ti/16" to "H/8" for images of 224 pixels, small ones for 28 and 32 pixels.

    >>> sizes()["Ti/16"].embed_dim
    192
    """
    return dict(SIZES)


def create_model(name: str, **fields: Unpack[ViTFields]) -> ViT:
    """Create a ViT of a named size, with random weights and some fields of its configuration changed.

    Args:
        name: one of `sizes()`, or timm's name of a plain ViT, such as "vit_small_patch16_224".
        fields: fields of `ViTConfig` with other values.

    Raises:
        InputError: there is no such size, or the fields don't fit each other.

    >>> create_model("nano/4-32", num_classes=7).head.out_features
    7
    """
    return ViT(named_config(name, **fields))
