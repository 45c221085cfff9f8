"""What surrounds a model's weights in a checkpoint: the trainer's wrappers, teacher and student, inner records."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vitreous.errors import InputError

AVERAGES = re.compile(r"(^|_)(ema|teacher|swa|averaged?|shadow)(_|$)")
"""Names of records that hold the average of the weights over training, which is the better model."""
KNOWN = ("state_dict", "model_state_dict", "model", "model_state", "module", "target_encoder", "student")
"""Usual names of a model's own weights; a record of another name is taken if there is no such one."""
OTHER_RECORDS = re.compile(
    r"(?<![a-z])(optim|optimizer[a-z]*|(lr)?schedulers?|sched|schedules?|(grad|amp)?scalers?|loss(es)?|criterions?|criteria"
    r"|metrics?|rngs?|random|args?|arguments?|configs?|param_groups|centers?|hyper([a-z]*params?|parameters?)?|callbacks?"
    r"|queues?)(?![a-z])|^state$"
)
"""Words in names of records that hold something else than a model's weights, such as an optimizer's state."""
MAX_DEPTH = 4
"""Records inside of records that are searched for weights."""
CHOSEN_PREFIXES = ("teacher.", "ema_model.", "student.", "backbone.")
"""Where a key begins with one of these, all others are a training head, or the worse of two networks."""
WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes of all keys that DDP, torch.compile and trainers add."""
WRAPPED_PARTS = re.compile(r"_orig_mod\.|_fsdp_wrapped_module\.|_checkpoint_wrapped_module\.")
"""What torch.compile, FSDP and activation checkpointing insert into the keys of a part of a model."""
TRAINING_KEYS = re.compile(
    r"n_averaged|num_updates|initted|step|decay|epoch"
    r"|(criterion|loss|loss_fn|loss_fun|metrics?|(train|val|valid|test)_[a-z0-9_]*|\w+_(loss|metrics?|acc|accuracy))\..*"
)
"""Keys beside a model's own that training needs: counters of averages, weights of a loss, states of metrics."""


@dataclass(frozen=True)
class CheckpointRecord:
    """A record of a checkpoint that may hold the weights."""

    path: tuple[str, ...]
    """The names that lead to it; empty for the checkpoint itself."""
    tensors: dict[str, Tensor]

    @property
    def name(self) -> str:
        """What messages call it."""
        return ".".join(self.path)

    @property
    def rank(self) -> list[tuple[int, int]]:
        """The better record has the lower rank: averages, usual names, the checkpoint itself, the one with the most
        weights."""
        size = sum(tensor.numel() for tensor in self.tensors.values())
        return [_rank(name, size) for name in self.path] + [(2, 0)]

    @property
    def is_known(self) -> bool:
        """Whether all of its names are usual ones for weights."""
        return all(_rank(name, 0)[0] < 2 for name in self.path)


def _rank(name: str, size: int) -> tuple[int, int]:
    if AVERAGES.search(name):
        return 0, int(name != "teacher")
    return (1, KNOWN.index(name)) if name in KNOWN else (3, -size)


def find_weights(checkpoint: Mapping[Any, Any]) -> tuple[CheckpointRecord, list[str]]:
    """Find the record of a checkpoint that holds the model.

    Returns:
        The record, and the names of the others that may hold weights of a model.

    Raises:
        InputError: there is no tensor in it.
    """
    records = sorted(_records(checkpoint, (), set()), key=lambda one: one.rank)
    if not records:
        held = f", only {', '.join(map(str, list(checkpoint)[:8]))}" if checkpoint else ": it is empty"
        raise InputError(f"there are no weights in this checkpoint{held}")
    return records[0], [one.name for one in records[1:] if one.path and one.is_known]


def _records(record: Mapping[Any, Any], path: tuple[str, ...], seen: set[int]) -> Iterator[CheckpointRecord]:
    """Yield the record and those in it that hold tensors, not only counters."""
    if id(record) in seen or len(path) > MAX_DEPTH:
        return
    seen.add(id(record))
    tensors = {name: value for name, value in record.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if any(tensor.ndim for tensor in tensors.values()):
        yield CheckpointRecord(path, tensors)
    for name, value in record.items():
        if isinstance(name, str) and isinstance(value, Mapping) and not _is_other(name):
            yield from _records(value, (*path, name), seen)


def _is_other(name: str) -> bool:
    """Whether the name of a record says that it holds no weights; camel case is read as words too."""
    return name not in KNOWN and bool(OTHER_RECORDS.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))


def strip_wrappers(keys: Iterable[str]) -> dict[str, str]:
    """Map keys without what trainers put around a model to the keys given; what isn't the model is left out."""
    bare = {key: key for key in keys if not TRAINING_KEYS.fullmatch(key)}
    while True:
        wrapper = next((b for b in WRAPPER_PREFIXES if bare and all(key.startswith(b) for key in bare)), None)
        chosen = next((b for b in CHOSEN_PREFIXES if any(key.startswith(b) for key in bare)), None)
        prefix = wrapper or chosen
        if prefix is None:
            return {WRAPPED_PARTS.sub("", key): given for key, given in bare.items()}
        bare = {key.removeprefix(prefix): given for key, given in bare.items() if key.startswith(prefix)}
        bare = {key: given for key, given in bare.items() if not TRAINING_KEYS.fullmatch(key)}
