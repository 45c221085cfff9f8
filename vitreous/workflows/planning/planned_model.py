"""What a plan has to know of a model: of a named size from its configuration alone, of any other from the model."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitreous.callbacks import Callback
from vitreous.errors import InputError
from vitreous.imaging.geometry import grid_for, to_pair
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import SIZES, ViTConfig, named_config
from vitreous.model.flops import count_macs
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load

USUAL_PATCH_SIZE = 16
"""Of a size that is named without one, such as "vit-l" (Dosovitskiy et al. 2021)."""


@dataclass(frozen=True)
class PlannedModel:
    """A model as a plan sees it.

    Attributes:
        name: of the size, or as it was given.
        preprocessing: what turns an image into its input.
        grid_size: rows and columns of patches.
        params, macs: parameters; multiply-adds of one forward pass.
        tokens: of one image.
        token_values: inputs and outputs of all linear layers, for one token.
        widest_layer: inputs and outputs of the largest of these layers, for one token.
        vector_width: numbers of a pooled vector.
        config: of a ViT; None for a wrapped model.
        module: the loaded model; None for a size.
    """

    name: str
    preprocessing: Preprocessing
    grid_size: tuple[int, int]
    params: int
    macs: int
    tokens: int
    token_values: int
    widest_layer: int
    vector_width: int
    config: ViTConfig | None
    module: nn.Module | None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        return (len(self.preprocessing.mean), *self.preprocessing.input_size)


def inspect_cost(
    model: str | Path | ImageClassifier | ViT,
    input_size: Sequence[int] | int | None,
    callback: Callback,
    *,
    embeds: bool,
) -> PlannedModel:
    """Describe a model; the weights of a named size aren't made, those of any other model are loaded.

    `embeds`: its vectors are wanted.

    Raises:
        InputError: there is no such model, the input size doesn't fit it, or it gives no vectors.
    """
    name = _size_name(model) if isinstance(model, str) and not Path(model).exists() else None
    if name is None and isinstance(model, str) and ":" not in model and not Path(model).exists():
        raise InputError(
            f"there is no model '{model}': give a size such as L/16 (the verb 'vitreous models' lists them), a run "
            "folder, a weights file, timm:NAME or hf:OWNER/NAME"
        )
    if name is not None:
        config = named_config(name)
        return _of_config(name, config if input_size is None else replace(config, image_size=to_pair(input_size)))
    classifier = load(model, "cpu", input_size=input_size, callback=callback)
    preprocessing = classifier.preprocessing
    if isinstance(classifier.model, ViT):
        config = replace(classifier.model.config, image_size=preprocessing.input_size)
        return replace(_of_config(str(classifier.origin), config), preprocessing=preprocessing, module=classifier.model)
    return _of_wrapped(classifier, embeds)


def _size_name(model: str) -> str | None:
    """Return the name of a size in a spelling that `named_config` takes, or None if the text names something else.

    >>> _size_name("vit-l"), _size_name("S/16"), _size_name("timm:vit_base_patch16_224")
    ('L/16', 'S/16', None)
    """
    short = re.fullmatch(r"(?:vit[-_])?(ti|s|b|l|h|tiny|small|base|large|huge)", model.lower())
    spelled = f"{short[1]}/{USUAL_PATCH_SIZE}" if short else model
    try:
        config = named_config(spelled)
    except InputError:
        return None
    return next((name for name, one in SIZES.items() if one == config), spelled)


def _of_config(name: str, config: ViTConfig) -> PlannedModel:
    with torch.device("meta"):
        vit = ViT(config)
    gray = (0.5,) * config.in_chans
    preprocessing = Preprocessing(config.image_size, "crop", gray, gray, config.patch_size)
    grid_size = config.grid_size
    return PlannedModel(
        name, preprocessing, grid_size, sum(weight.numel() for weight in vit.parameters()), count_macs(config),
        config.num_prefix_tokens + grid_size[0] * grid_size[1], *_layer_values(vit.blocks.parameters()),
        config.pooled_dim, config, None,
    )  # fmt: skip


def _of_wrapped(classifier: ImageClassifier, embeds: bool) -> PlannedModel:
    """Describe a model of another library: a forward pass counts its MACs, in matrix products and convolutions."""
    model, preprocessing = classifier.model, classifier.preprocessing
    images = torch.zeros(1, len(preprocessing.mean), *preprocessing.input_size, device=classifier.device)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = classifier.embed_inputs(images) if embeds else model(images)
    rows, columns = grid_for(preprocessing.input_size, preprocessing.patch_size)
    return PlannedModel(
        str(classifier.origin), preprocessing, (rows, columns), sum(weight.numel() for weight in model.parameters()),
        counter.get_total_flops() // 2, rows * columns + 1, *_layer_values(model.parameters()), output.shape[-1],
        None, model,
    )  # fmt: skip


def _layer_values(parameters: Iterable[nn.Parameter]) -> tuple[int, int]:
    """Return inputs and outputs of all linear layers together, and of the largest."""
    values = [sum(weight.shape) for weight in parameters if weight.ndim == 2]
    return sum(values), max(values, default=0)
