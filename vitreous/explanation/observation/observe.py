"""`observe`: look into any Vision Transformer while it runs, without changing it."""

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.explanation.observation.attention import AttentionRecorder
from vitreous.explanation.observation.structure import ModelStructure, inspect_model, require_observable
from vitreous.model.trace import Trace


@contextmanager
def observe(model: nn.Module, trace: Trace | None = None) -> Generator[Trace]:
    """Fill a trace from one pass of a model that is no ViT of ours.

        with observe(model) as trace:
            logits = model(images)

    Records hold the very tensors that flow on, so that gradients through them work; the logits are the same to the bit
    as without observing (where a `nn.TransformerEncoderLayer` would take its fused path, as on the usual one).
    Prefix tokens, grid and readout are found from a pass of its own over the first image. Nothing of PyTorch is
    patched; other threads see nothing; two hooks on the model are gone when the context ends, also by an error.

    Args:
        model: a module in evaluation mode, called once inside the context with images (batch, channels, height,
            width) as its first argument or any named one.
        trace: what is filled; a new one by default.

    Raises:
        InputError: the model isn't called just once, or its attention can't be seen or laid on the image; says why.
    """
    require_observable(model)
    one_pass = _Pass(model, Trace() if trace is None else trace)
    hooks = (
        model.register_forward_pre_hook(one_pass.before, with_kwargs=True),
        model.register_forward_hook(one_pass.after, with_kwargs=True),
    )
    try:
        yield one_pass.trace
    finally:
        one_pass.leave()
        for hook in hooks:
            hook.remove()
    if not one_pass.done:
        raise InputError("the model wasn't called while it was observed: call it inside `with observe(model)`")


class _Pass:
    """One call of the model by this thread."""

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        self.model, self.trace = model, trace
        self.thread = threading.get_ident()
        self.structure: ModelStructure | None = None
        self.watch: AttentionRecorder | None = None
        self.busy = self.done = False

    def before(self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Called with the model's arguments: study the model, then watch."""
        if self.busy or threading.get_ident() != self.thread:
            return
        if self.done:
            raise InputError("the model was called twice while it was observed: observe each call on its own")
        images = find_input(args, kwargs)
        self.busy = True
        self.structure = inspect_model(lambda one: model(*_with(args, images, one), **_named(kwargs, images, one)), images)
        self.trace.layout = self.structure.layout
        self.watch = self.structure.watch(len(images), self.trace.on_attention)
        self.watch.__enter__()

    def after(self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], outputs: Any) -> None:
        """Called with the model's answer."""
        if self.watch is None or threading.get_ident() != self.thread:
            return
        watch = self.watch
        self.leave()
        assert self.structure is not None
        self.structure.fill(self.trace, watch)
        self.done = True

    def leave(self) -> None:
        """Stop watching."""
        watch, self.watch, self.busy = self.watch, None, False
        if watch is not None:
            watch.__exit__(None, None, None)


def find_input(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """The images among a model's arguments.

    Raises:
        InputError: none or several of them are (batch, channels, height, width).
    """
    found = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor) and one.ndim == 4]
    if len(found) != 1 or not len(found[0]):
        shapes = [tuple(one.shape) for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
        raise InputError(f"expected images (batch, channels, height, width) as one argument, got {shapes}")
    return found[0]


def _with(args: Sequence[Any], images: Tensor, others: Tensor) -> list[Any]:
    """The arguments, with other images."""
    return [others if one is images else one for one in args]


def _named(kwargs: Mapping[str, Any], images: Tensor, others: Tensor) -> dict[str, Any]:
    """The named arguments, with other images."""
    return {name: others if one is images else one for name, one in kwargs.items()}
