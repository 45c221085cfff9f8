"""What surrounds a model's weights in a checkpoint: the trainer's wrappers, teacher and student, inner records."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from vitreous.errors import InputError

INNER = (
    "teacher",
    "model_ema",
    "ema",
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "target_encoder",
    "student",
)
"""Records of a checkpoint that may hold the weights, the better ones first: a teacher is its student's average."""
CHOSEN_PREFIXES = ("teacher.", "student.", "backbone.")
"""Where a key begins with one of these, all others are a training head, or the worse of two networks."""
WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes of all keys that DDP, torch.compile and trainers add."""


def flatten(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Find the record of a checkpoint that holds the model, and return its tensors by key.

    Raises:
        InputError: there is no tensor in it.
    """
    for name in INNER:
        inner = checkpoint.get(name)
        if isinstance(inner, Mapping) and inner:
            return flatten(inner)
    tensors = {name: tensor for name, tensor in checkpoint.items() if isinstance(tensor, Tensor)}
    if not tensors:
        held = f", only {', '.join(map(str, list(checkpoint)[:8]))}" if checkpoint else ": it is empty"
        raise InputError(f"there are no weights in this checkpoint{held}")
    return tensors


def strip_wrappers(keys: Iterable[str]) -> dict[str, str]:
    """Map keys without what trainers put around a model to the keys given; what isn't the model is left out."""
    bare = {key: key for key in keys}
    while True:
        wrapper = next((b for b in WRAPPER_PREFIXES if bare and all(key.startswith(b) for key in bare)), None)
        chosen = next((b for b in CHOSEN_PREFIXES if any(key.startswith(b) for key in bare)), None)
        prefix = wrapper or chosen
        if prefix is None:
            return {key.replace("_orig_mod.", ""): given for key, given in bare.items()}
        bare = {key.removeprefix(prefix): given for key, given in bare.items() if key.startswith(prefix)}
