"""A foreign model's answer to images, whatever it comes wrapped in."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitreous.errors import InputError

NAMES = ("logits", "image_embeds", "pooler_output", "last_hidden_state")
"""What counts as the answer in a record of several outputs, the first that is there."""


def extract_logits(outputs: Any) -> Tensor:
    """The logits, or the vector that a model without classes gives, (batch, classes), among a model's outputs.

    The rule: a tensor is itself; of a tuple or list the first entry counts; of a record (such as transformers' outputs)
    `logits`, else `image_embeds`, else `pooler_output`, else token 0 of `last_hidden_state`.

    Raises:
        InputError: there is none of these, or it isn't one row an image.
    """
    answer = outputs
    if any(_get(outputs, name) is not None for name in NAMES):
        answer = _named(outputs)
    elif isinstance(outputs, (tuple, list)) and outputs:
        answer = outputs[0]
    if not isinstance(answer, Tensor) or answer.ndim != 2:
        shape = f"a tensor of shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
        raise InputError(
            f"the model answers with {shape}, not with one row of numbers for each image (batch, classes): wrap it "
            "in a module that does"
        )
    return answer


def is_features(outputs: Any) -> bool:
    """Whether the outputs say by their names that the answer is a vector of features, and no number a class."""
    named = {name for name in NAMES if _get(outputs, name) is not None}
    return bool(named) and "logits" not in named


def _get(outputs: Any, name: str) -> Any:
    return outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)


def _named(outputs: Any) -> Any:
    for name in NAMES:
        found = _get(outputs, name)
        if found is not None:
            return found[:, 0] if name == "last_hidden_state" else found
    return outputs
