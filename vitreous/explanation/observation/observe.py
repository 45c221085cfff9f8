"""`observe`: record the attention of any Vision Transformer while it runs, without changing it."""

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.explanation.observation.attention import AttentionRecorder
from vitreous.explanation.observation.inspection import inspect_model
from vitreous.explanation.observation.structure import ModelStructure, require_observable
from vitreous.model.trace import Trace


@contextmanager
def observe(model: nn.Module, trace: Trace | None = None) -> Generator[Trace]:
    """Fill a trace during one forward pass of any model.

    Records hold the tensors of the pass itself, so gradients with respect to them work. The logits are the same to the
    bit as without observing (those of a `nn.TransformerEncoderLayer` without its fused path). Layers, prefix tokens,
    grid and readout are found in one more forward pass and a few backward passes, over the first image. Heads that the
    model computes one by one are joined into one record; attention that the output doesn't depend on is left out.
    Nothing in PyTorch is patched, other threads are not affected, and the two hooks on the model are removed when the
    context ends, also after an error.

    Args:
        model: a module in evaluation mode. Call it once inside the context, with images (batch, channels, height,
            width) as one of its arguments.
        trace: the trace to fill; a new one by default.

    Yields:
        The trace, which is complete after the call.

    Raises:
        InputError: the model isn't called exactly once, or its attention can't be observed or mapped to the image; the
            message says why.

    Example:
        >>> with observe(model) as trace:              # doctest: +SKIP
        ...     logits = model(images)
        >>> trace.records[-1].query.shape              # doctest: +SKIP
        torch.Size([8, 12, 197, 64])
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
        one_pass.stop()
        for hook in hooks:
            hook.remove()
    if not one_pass.done:
        raise InputError("the model wasn't called inside `with observe(model)`: call it there once")


class _Pass:
    """One call of the model by this thread."""

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        self.model, self.trace = model, trace
        self.thread = threading.get_ident()
        self.structure: ModelStructure | None = None
        self.recorder: AttentionRecorder | None = None
        self.is_running = self.done = False

    def before(self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> None:
        """Inspect the model, then start recording; called with the model's arguments.

        A thread that has listed a module's hooks before they were removed calls them without keywords.
        """
        if kwargs is None or self.is_running or threading.get_ident() != self.thread:
            return
        if self.done:
            raise InputError("the model was called twice inside `with observe(model)`: observe each call on its own")
        images = find_input(args, kwargs)
        self.is_running = True  # so that the calls of the inspection aren't observed
        try:
            self.structure = inspect_model(
                lambda one: model(*_replace_args(args, images, one), **_replace_kwargs(kwargs, images, one)), images
            )
        except BaseException:
            self.is_running = False
            raise
        self.trace.layout = self.structure.layout
        self.recorder = self.structure.recorder(len(images), self.trace.on_attention)
        self.recorder.__enter__()

    def after(self, model: nn.Module, args: Sequence[Any], *outputs: Any) -> None:
        """Complete the trace; called with the keywords and the output, in other threads perhaps without keywords."""
        if self.recorder is None or threading.get_ident() != self.thread:
            return
        recorder = self.recorder
        self.stop()
        assert self.structure is not None
        self.structure.fill(self.trace, recorder)
        self.done = True

    def stop(self) -> None:
        """Stop recording."""
        recorder, self.recorder, self.is_running = self.recorder, None, False
        if recorder is not None:
            recorder.__exit__(None, None, None)


def find_input(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the images among a model's arguments.

    Raises:
        InputError: none or several of them are (batch, channels, height, width).
    """
    found = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor) and one.ndim == 4]
    if len(found) != 1 or not len(found[0]):
        shapes = [tuple(one.shape) for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
        raise InputError(f"expected images (batch, channels, height, width) as one argument, got {shapes}")
    return found[0]


def _replace_args(args: Sequence[Any], images: Tensor, others: Tensor) -> list[Any]:
    """Replace the images among the arguments."""
    return [others if one is images else one for one in args]


def _replace_kwargs(kwargs: Mapping[str, Any], images: Tensor, others: Tensor) -> dict[str, Any]:
    """Replace the images among the named arguments."""
    return {name: others if one is images else one for name, one in kwargs.items()}
