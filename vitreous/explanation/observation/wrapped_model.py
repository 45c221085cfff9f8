"""Any module in the form that methods call: it maps images to logits and fills a trace."""

import itertools
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from threading import get_ident

from torch import Tensor, nn

from vitreous.explanation.observation.inspection import inspect_model
from vitreous.explanation.observation.model_output import extract_logits
from vitreous.explanation.observation.structure import ModelStructure, require_observable
from vitreous.explanation.perturbation import ProbeTrace
from vitreous.model.trace import Trace


class WrappedModel(nn.Module):
    """Any module that takes images (batch, channels, height, width), unchanged.

    Methods that need only the records, layout and readout of a trace work on it. It has no `logit_lens`, and its traces
    hold no tokens between blocks: methods that need these raise an InputError.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = module.training
        self._structures: dict[object, tuple[object, ModelStructure]] = {}
        self._ablations: list[tuple[int, frozenset[tuple[int, int]]]] = []
        """The thread and the (layer, head) of each context that is open."""

    def forward(self, images: Tensor, trace: Trace | None = None) -> Tensor:
        """Map normalized images (batch, channels, height, width) to logits (batch, classes).

        The first trace for images of a size costs one more forward pass, over one image.

        Raises:
            InputError: the output isn't one row per image, or (with a trace, or with ablated heads) attention can't be
                observed, or there is no such head.
        """
        ablated = self._ablated_heads()
        if trace is None and not ablated:
            return extract_logits(self.module(images))
        require_observable(self.module)
        structure, trace = self.structure(images), ProbeTrace() if trace is None else trace
        trace.layout = structure.layout
        recorder = structure.recorder(len(images), trace.on_attention, ablated)
        with recorder:
            outputs = self.module(images)
        structure.fill(trace, recorder)
        return extract_logits(outputs)

    def _ablated_heads(self) -> frozenset[tuple[int, int]]:
        """Return the heads (layer, head) that this thread has ablated."""
        thread = get_ident()
        return frozenset(one for owner, heads in self._ablations if owner == thread for one in heads)

    @contextmanager
    def without_heads(self, heads: Iterable[tuple[int, int]]) -> Generator[None]:
        """Set the outputs of heads (layer, head) to zero in the calls of this thread inside the context."""
        entry = get_ident(), frozenset(heads)
        self._ablations.append(entry)
        try:
            yield
        finally:
            self._ablations.remove(entry)

    def structure(self, images: Tensor) -> ModelStructure:
        """Inspect the module for images of this size; the result is cached until a weight changes.

        Raises:
            InputError: its attention can't be observed or mapped to the image.
        """
        size = (tuple(images.shape[1:]), images.dtype, images.device)
        weights = _weights_version(self.module)
        cached_for, structure = self._structures.get(size, (None, None))
        if structure is None or cached_for != weights:
            structure = inspect_model(self.module, images)
            self._structures[size] = (weights, structure)
        return structure


def _weights_version(module: nn.Module) -> tuple[tuple[int, int], ...]:
    """Return what changes as soon as a weight or buffer is written or replaced: its address, and autograd's count."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return tuple((one.data_ptr(), 0 if one.is_inference() else one._version) for one in tensors)
