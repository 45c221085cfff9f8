"""The logits or features in a model's output, whatever record they come in."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitreous.errors import InputError

OUTPUT_NAMES = ("logits", "image_embeds", "pooler_output", "last_hidden_state")
"""The fields of a record of outputs that are read, the first one that is there."""


class UnpooledOutputError(InputError):
    """The model's output holds one row per token, and none of its tokens stands for the image."""

    def __init__(self) -> None:
        super().__init__(
            "the model has no class token and doesn't pool its tokens, so its output would be that of one patch, the "
            "upper left one: wrap it in a module that returns one row per image, such as "
            "model(images).last_hidden_state.mean(1)"
        )


def extract_logits(outputs: Any) -> Tensor:
    """Return the logits (batch, classes), or the feature vector of a model without classes, from a model's output.

    A tensor is itself; of a tuple or list it is the first entry; of a record (such as transformers' outputs) `logits`,
    else `image_embeds`, else `pooler_output`, else token 0 of `last_hidden_state`.

    Raises:
        InputError: there is none of these, or it isn't one row per image.
    """
    logits = outputs
    if (name := _output_name(outputs)) is not None:
        logits = _get(outputs, name)[:, 0] if is_first_token(outputs) else _get(outputs, name)
    elif isinstance(outputs, (tuple, list)) and outputs:
        logits = outputs[0]
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"the model's output is {shape}, not one row of numbers per image (batch, classes): wrap it in a module "
            "with such an output"
        )
    return logits


def is_first_token(outputs: Any) -> bool:
    """Return whether `extract_logits` takes token 0 of `last_hidden_state`."""
    return _output_name(outputs) == "last_hidden_state"


def is_feature_output(outputs: Any) -> bool:
    """Return whether the names of the outputs show that they are features, not logits of classes."""
    named = {name for name in OUTPUT_NAMES if _get(outputs, name) is not None}
    return bool(named) and "logits" not in named


def _get(outputs: Any, name: str) -> Any:
    return outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)


def _output_name(outputs: Any) -> str | None:
    return next((name for name in OUTPUT_NAMES if _get(outputs, name) is not None), None)
