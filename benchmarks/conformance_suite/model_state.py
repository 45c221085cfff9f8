"""What stands on a model and in the process: what a tool must leave as it found it."""

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class ModelState:
    """Counts and switches, each by a name that a reader understands."""

    facts: dict[str, Any]

    def differences(self, other: "ModelState") -> Iterator[tuple[str, Any, Any]]:
        """Name, then and now, of each that isn't as it was."""
        for name, was in self.facts.items():
            if other.facts[name] != was:
                yield name, was, other.facts[name]


@torch.no_grad()
def model_state(model: nn.Module) -> ModelState:
    """Hooks, modes, gradients, weights and the process's switches."""
    modules, parameters = list(model.modules()), list(model.parameters())
    kernels = torch.backends.cuda
    timm_layers = sys.modules.get("timm.layers")
    return ModelState(
        {
            "hooks on the model": sum(len(getattr(module, name)) for module in modules for name in HOOKS),
            "modules with a forward of their own put in": sum("forward" in vars(module) for module in modules),
            "modules in training mode": sum(module.training for module in modules),
            "attention implementation": getattr(getattr(model, "config", None), "_attn_implementation", None),
            "parameters that ask for gradients": sum(parameter.requires_grad for parameter in parameters),
            "parameters with gradients": sum(parameter.grad is not None for parameter in parameters),
            "sum of the weights": sum(parameter.double().sum().item() for parameter in parameters),
            "modules with fused attention": sum(bool(getattr(module, "fused_attn", False)) for module in modules),
            "timm's switch for fused attention": timm_layers.use_fused_attn() if timm_layers else None,
            "torch's switches for fused attention": (
                kernels.flash_sdp_enabled(), kernels.mem_efficient_sdp_enabled(), kernels.math_sdp_enabled(),
            ),
            "gradients on": torch.is_grad_enabled(),
        }
    )  # fmt: skip


@contextmanager
def raising_in_forward(model: nn.Module, *, stop: bool) -> Generator[None]:
    """With `stop`, the model's pass raises before its last attention layer."""

    def raise_stop(*_: object) -> None:
        raise RuntimeError("stopped in the middle of the pass")

    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    hook = norms[-3].register_forward_hook(raise_stop) if stop else None
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()
