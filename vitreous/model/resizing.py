"""Make a pretrained model one for images of another size, so that its outputs for them stay what they were."""

from dataclasses import replace

from torch import nn

from vitreous.imaging.geometry import grid_for
from vitreous.model.config import ViTConfig
from vitreous.model.positions import sincos_pos_embed
from vitreous.model.vit import ViT


def resized_config(config: ViTConfig, image_size: tuple[int, int]) -> ViTConfig:
    """Return the configuration for images of another size.

    Sine-cosine positions are finer or coarser for another size, and a model that was trained with them doesn't know
    those. So they become learned ones, which start from what the model computes between its own.
    """
    is_resampled = config.pos_embed == "sincos" and grid_for(image_size, config.patch_size) != config.grid_size
    return replace(config, image_size=image_size, pos_embed="learned" if is_resampled else config.pos_embed)


def resize_input(model: ViT, image_size: tuple[int, int]) -> None:
    """Change a model to `resized_config` in place.

    >>> model = ViT(ViTConfig(image_size=16, patch_size=4, embed_dim=8, num_heads=2, depth=1, pos_embed="sincos"))
    >>> resize_input(model, (16, 24))
    >>> model.pos_embed.shape
    torch.Size([1, 24, 8])
    """
    own, config = model.config, resized_config(model.config, image_size)
    if config.pos_embed == own.pos_embed:
        model.set_input_size(image_size)
        return
    weight = next(model.parameters())
    table = sincos_pos_embed(config.grid_size, own.embed_dim, own.grid_size, weight.device)
    model.pos_embed = nn.Parameter(table.to(weight.dtype))
    model.config = config
