"""Mask patches of a model's input: what it predicts where it doesn't see them."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from vitreous.arguments import show
from vitreous.diagnostics.faithfulness.imputation import Fill, blur_fill, imputation_fill, mean_color_fill
from vitreous.errors import InputError, unknown
from vitreous.explanation.observation.observe import find_input
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT

MaskFill = Literal["mean", "blur", "neighbors"]
FILLS: dict[MaskFill, Callable[[Tensor, int], Fill]] = {
    "mean": lambda inputs, patch_size: mean_color_fill(inputs),
    "blur": blur_fill,
    "neighbors": lambda inputs, patch_size: imputation_fill(inputs, torch.zeros_like(inputs)),
}
"""From prepared images and the side of a patch to the fill: those of `faithfulness`, of which the last has no noise."""


@contextmanager
def mask_patches(model: ImageClassifier | ViT, mask: np.ndarray, *, fill: MaskFill = "mean") -> Generator[None]:
    """Mask patches of the input in every call of a model inside the context.

    The pixels of masked patches are replaced; all others stay the same to the bit, and the number of tokens too.
    `predict`, `explain`, `attribute` and calls of `model.model` get the changed input; so does `embed`, but for a
    wrapped model with classes. Copies that a method makes of the image, such as those of occlusion, are masked too.
    Gradients treat the new pixels as constants. Calls of other threads are not affected.

    Args:
        model: what `load` or `wrap` returns, or a `ViT`.
        mask: bool (rows, columns) of the model's patches; True where a patch is masked.
        fill: what masked pixels become. "mean": zero, which after normalization is the mean color of the training
            images. "blur": the image, blurred by a Gaussian whose standard deviation is the side of a patch.
            "neighbors": the weighted mean of their neighbors, so that the hole has no border (Rong et al. 2022).

    Raises:
        InputError: there is no such fill, the mask is no such array, or every patch is masked where neighbors are
            needed. When the model is called: its images have another grid of patches.

    Example:
        >>> from vitreous.model.config import ViTConfig
        >>> vit = ViT(ViTConfig(image_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3)).eval()
        >>> mask = np.zeros((4, 4), bool)
        >>> mask[:2] = True
        >>> with mask_patches(vit, mask, fill="blur"):
        ...     vit(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 3])
    """
    module = model.model if isinstance(model, ImageClassifier) else model
    if not isinstance(model, ImageClassifier | ViT):
        raise InputError(f"{show(model)} is not a model: give what vitreous.load or vitreous.wrap returns, or a ViT")
    _check_mask(mask, fill)
    patch_size = model.preprocessing.patch_size if isinstance(model, ImageClassifier) else model.config.patch_size
    # All ways into a ViT lead through its patch embedding.
    entrance = module.patch_embed if isinstance(module, ViT) else module
    hook = _masking_hook(mask.copy(), patch_size, fill)
    handle = entrance.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _check_mask(mask: object, fill: str) -> None:
    """Refuse a fill or a mask.

    Raises:
        InputError: it is none.
    """
    if fill not in FILLS:
        raise unknown("fill", fill, tuple(FILLS))
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != np.bool_:
        raise InputError(f"mask={show(mask)} is not a mask: give a NumPy array of bool (rows, columns) of patches")
    if fill == "neighbors" and mask.all():
        raise InputError("every patch is masked, so none has neighbors: leave one, or choose the fill 'mean'")


Arguments = tuple[tuple[object, ...], dict[str, object]]


def _masking_hook(
    mask: np.ndarray, patch_size: int, fill: MaskFill
) -> Callable[[nn.Module, Sequence[object], Mapping[str, object]], Arguments | None]:
    """Return a hook that replaces the images among the arguments of a module."""
    thread = get_ident()

    def change(module: nn.Module, args: Sequence[object], kwargs: Mapping[str, object]) -> Arguments | None:
        if get_ident() != thread:
            return None
        images = find_input(args, kwargs)
        changed = mask_images(images, mask, patch_size, fill)

        def swapped(one: object) -> object:
            return changed if one is images else one

        return tuple(map(swapped, args)), {name: swapped(one) for name, one in kwargs.items()}

    return change


def mask_images(images: Tensor, mask: np.ndarray, patch_size: int, fill: MaskFill) -> Tensor:
    """Replace the masked patches of prepared images (batch, channels, height, width), as `mask_patches` does.

    Raises:
        InputError: the mask has another grid than the images.
    """
    height, width = images.shape[2:]
    grid = -(-height // patch_size), -(-width // patch_size)
    if mask.shape != grid:
        raise InputError(
            f"the mask has {mask.shape[0]} x {mask.shape[1]} patches, the model's input {grid[0]} x {grid[1]}: give a "
            "mask (rows, columns) of that size"
        )
    kept = torch.from_numpy(~mask.repeat(patch_size, 0).repeat(patch_size, 1)[:height, :width]).to(images.device)
    kept, inputs = kept.expand(len(images), -1, -1), images.detach()
    filled = FILLS[fill](inputs, patch_size)(torch.arange(len(images), device=images.device), kept)
    return torch.where(kept[:, None], images, filled)
