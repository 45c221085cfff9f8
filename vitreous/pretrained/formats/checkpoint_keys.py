"""What stands around a model's weights in a checkpoint: the trainer's wrappers, teacher and student, inner records."""

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
"""Records of a checkpoint in which the weights may lie, the better ones first: a teacher is its student's average."""
CHOSEN = ("teacher.", "student.", "backbone.")
"""Where a name begins with one of these, what begins otherwise is a training head, or the worse of two networks."""
AROUND = ("module.", "_orig_mod.", "model.")
"""Beginnings of all names that several processes, torch.compile and trainers add."""


def flatten(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by the names that they have in the record that holds the model.

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


def strip_wrappers(names: Iterable[str]) -> dict[str, str]:
    """From names without what trainers put around a model to the names given; what isn't the model is left out."""
    bare = {name: name for name in names}
    while True:
        around = next((b for b in AROUND if bare and all(name.startswith(b) for name in bare)), None)
        chosen = next((b for b in CHOSEN if any(name.startswith(b) for name in bare)), None)
        beginning = around or chosen
        if beginning is None:
            return {name.replace("_orig_mod.", ""): given for name, given in bare.items()}
        bare = {name.removeprefix(beginning): given for name, given in bare.items() if name.startswith(beginning)}
