"""What a checkpoint costs: one whole tensor at a time, whoever writes or reads it."""

import os
import weakref
from dataclasses import replace
from pathlib import Path

import torch
from runs import tiny_recipe

from vitreous.model.vit import ViT
from vitreous.training import checkpoint as states
from vitreous.training.checkpoint import initial_state, make_checkpoint, restore, write_checkpoint
from vitreous.training.distributed import DistributedContext


def a_state(seed=0):
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


def test_who_keeps_nothing_holds_one_whole_tensor_at_a_time(monkeypatch):
    held = []

    def gathered(tensor):
        assert all(other() is None for other in held)
        numbers = tensor.detach().numpy().copy()  # which live as long as any tensor that shows them
        held.append(weakref.ref(numbers))
        return torch.from_numpy(numbers)

    monkeypatch.setattr(states, "full_tensor", gathered)
    state = a_state()
    assert make_checkpoint(state, kept=False).tensors == {} and len(held) > 50


class Careful(DistributedContext):
    """A process that notes how many numbers are told to the others at once."""

    most, told = 0, 0

    def broadcast_from_rank0(self, action):
        result = action()
        if isinstance(result, torch.Tensor):
            assert result.untyped_storage().nbytes() == result.nbytes, "the rest of the file would be sent with it"
            type(self).most, type(self).told = max(self.most, result.numel()), self.told + 1
        return result


def test_a_checkpoint_is_told_a_tensor_at_a_time(tmp_path):
    first, second = a_state(0), a_state(1)
    write_checkpoint(make_checkpoint(first), tmp_path / "state.safetensors")
    restore(second, tmp_path / "state.safetensors", Careful())
    one, other = make_checkpoint(first).tensors, make_checkpoint(second).tensors
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert Careful.told == len(one) and Careful.most == max(tensor.numel() for tensor in one.values())


def test_the_file_of_a_checkpoint_is_let_go_of_once_it_is_read(tmp_path):
    """Else a checkpoint that was replaced keeps its room on the disk to the run's end."""
    path = tmp_path / "state.safetensors"
    write_checkpoint(make_checkpoint(a_state(0)), path)
    state = a_state(1)
    restore(state, path, DistributedContext())
    assert state.step == 1 and str(path) not in Path("/proc/self/maps").read_text()
    assert not [one for one in Path("/proc/self/fd").iterdir() if os.path.realpath(one) == str(path)]
