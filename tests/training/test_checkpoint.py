"""The memory that a checkpoint costs: one full tensor at a time, for whoever writes or reads it."""

import os
import weakref
from dataclasses import replace
from pathlib import Path

import torch
from tiny_run import tiny_recipe

from vitreous.model.vit import ViT
from vitreous.training import checkpoint
from vitreous.training.checkpoint import initial_state, make_checkpoint, restore, write_checkpoint
from vitreous.training.distributed import DistributedContext


def make_state(seed=0):
    recipe = tiny_recipe("")
    recipe = replace(recipe, model=replace(recipe.model, num_classes=3))
    torch.manual_seed(seed)
    state = initial_state(ViT(recipe.model), recipe)
    for weight in state.model.parameters():
        weight.grad = torch.randn_like(weight)
    for optimizer in state.optimizers.values():
        optimizer.step()
    state.step = 1
    return state


def test_a_rank_that_keeps_nothing_holds_one_full_tensor_at_a_time(monkeypatch):
    held = []

    def gather(tensor):
        assert all(other() is None for other in held)
        numbers = tensor.detach().numpy().copy()  # alive as long as any tensor that views it
        held.append(weakref.ref(numbers))
        return torch.from_numpy(numbers)

    monkeypatch.setattr(checkpoint, "full_tensor", gather)
    state = make_state()
    assert make_checkpoint(state, keep=False).tensors == {} and len(held) > 50


class MeteredContext(DistributedContext):
    """Counts the tensors that are broadcast, and the elements of the largest."""

    largest, tensors = 0, 0

    def broadcast_from_rank0(self, action):
        result = action()
        if isinstance(result, torch.Tensor):
            assert result.untyped_storage().nbytes() == result.nbytes, "the rest of the file would be sent with it"
            type(self).largest, type(self).tensors = max(self.largest, result.numel()), self.tensors + 1
        return result


def test_a_checkpoint_is_broadcast_one_tensor_at_a_time(tmp_path):
    first, second = make_state(0), make_state(1)
    write_checkpoint(make_checkpoint(first), tmp_path / "state.safetensors")
    restore(second, tmp_path / "state.safetensors", MeteredContext())
    one, other = make_checkpoint(first).tensors, make_checkpoint(second).tensors
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert MeteredContext.tensors == len(one) and MeteredContext.largest == max(
        tensor.numel() for tensor in one.values()
    )


def test_the_file_of_a_checkpoint_is_closed_once_it_is_read(tmp_path):
    """Otherwise a checkpoint that was replaced would take up disk space to the end of the run."""
    path = tmp_path / "state.safetensors"
    write_checkpoint(make_checkpoint(make_state(0)), path)
    state = make_state(1)
    restore(state, path, DistributedContext())
    assert state.step == 1 and str(path) not in Path("/proc/self/maps").read_text()
    assert not [one for one in Path("/proc/self/fd").iterdir() if os.path.realpath(one) == str(path)]
