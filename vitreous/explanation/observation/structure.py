"""Inspect a model with one image: its grid of patches, prefix tokens, layers and readout."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.explanation.observation.attention import AttentionRecorder
from vitreous.explanation.observation.heads import AxisOrder
from vitreous.explanation.observation.model_output import extract_logits
from vitreous.explanation.observation.patches import PatchGrid, choose_grid, find_grid, find_layout
from vitreous.explanation.observation.readout import find_readout, pooling_readout
from vitreous.model.trace import AttentionRecord, TokenLayout, Trace

MAX_STREAMS = 64
"""Number of the last tensors of tokens that are kept to find the readout."""


@dataclass(frozen=True)
class ModelStructure:
    """The grid, prefix tokens, layers and readout of a model for images of one size."""

    layout: TokenLayout
    prefix_is_trailing: bool
    """Whether the prefix tokens come behind the patches in the model; in traces they come first."""
    readout: Tensor | None
    """(tokens): the weight with which the head reads each token; None for attention pooling, which differs by image."""
    layers: int
    axis_order: AxisOrder | None
    """What comes first where the sizes of the images' and heads' axes don't show it; None if images do."""

    def recorder(self, batch: int, report: Callable[[AttentionRecord], None]) -> AttentionRecorder:
        """Return the recorder for a pass over a batch of images."""
        trailing = self.layout.num_prefix_tokens if self.prefix_is_trailing else 0
        return AttentionRecorder(batch, report, self.axis_order, trailing)

    def fill(self, trace: Trace, recorder: AttentionRecorder) -> None:
        """Complete a trace whose records the recorder has reported.

        Raises:
            InputError: the pass differs from the one over a single image.
        """
        recorder.finish()
        if (recorder.layers, recorder.tokens) != (self.layers, self.layout.num_tokens):
            raise InputError(
                f"this pass had {recorder.layers} layers of attention over {recorder.tokens} tokens, that of a single "
                f"image {self.layers} over {self.layout.num_tokens}: the model must process all images alike"
            )
        trace.layout, tokens = self.layout, self.layout.num_tokens
        if recorder.pooling is not None:
            trace.readout = pooling_readout(recorder.pooling, tokens, self.layout.num_prefix_tokens, recorder.trailing)
        elif self.readout is not None:
            trace.readout = self.readout.expand(recorder.batch, -1).clone()


class _InspectionRecorder(AttentionRecorder):
    """A recorder that also keeps the grids over the image and the last tensors of tokens."""

    def __init__(self, batch: int, image_hw: tuple[int, int], axis_order: AxisOrder | None = None) -> None:
        self.records: list[AttentionRecord] = []
        super().__init__(batch, self.records.append, axis_order)
        self.image_hw = image_hw
        self.grids: list[PatchGrid] = []
        self.streams: deque[Tensor] = deque(maxlen=MAX_STREAMS)

    def _on_attention(self, record: AttentionRecord) -> None:
        super()._on_attention(record)
        self.streams.clear()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Record attention, the grids before the first attention, and the tokens after the last."""
        result = super().__torch_function__(func, types, args, kwargs)
        if not self.layers:
            grid = find_grid(func, args, result, self.image_hw)
            if grid is not None and grid.tensor.requires_grad:
                self.grids.append(grid)
        elif isinstance(result, Tensor) and result.ndim == 3 and result.requires_grad:
            rows = tuple(result.shape[:2])
            self.streams.extend([result] if rows in ((1, self.tokens), (self.tokens, 1)) else [])
        return result


def inspect_model(call: Callable[[Tensor], Any], images: Tensor) -> ModelStructure:
    """Inspect a model with one forward pass over the first of some images (batch, channels, height, width).

    `call` runs the model on images. The gradients of its parameters stay as they are.

    Raises:
        InputError: the model can't be observed; the message says why.
    """
    with torch.enable_grad():
        image = images[:1].detach().clone().requires_grad_()
        recorder = _InspectionRecorder(1, (image.shape[2], image.shape[3]))
        with recorder:
            logits = extract_logits(call(image))
        recorder.finish()
        first = recorder.records[0]
        grid = choose_grid(recorder.grids, first.value.shape[2], recorder.image_hw)
        if not first.value.requires_grad:
            raise InputError("the model runs under its own no_grad or detaches its activations: let it give gradients")
        layout, trailing = find_layout(grid, first.value)
        readout = None if recorder.pooling is not None else _readout(logits, recorder, layout, trailing=trailing)
        if recorder.has_shared_axis:
            axis_order: AxisOrder | None = _find_axis_order(call, image, recorder)
        else:
            axis_order = "heads" if recorder.heads_first else None
    return ModelStructure(layout, trailing, readout, recorder.layers, axis_order)


def _readout(logits: Tensor, recorder: _InspectionRecorder, layout: TokenLayout, *, trailing: bool) -> Tensor:
    """Return the readout in the trace's order of tokens."""
    readout = find_readout(
        logits, list(recorder.streams), layout.num_prefix_tokens, layout.num_prefix_tokens if trailing else 0
    )
    return readout.to(torch.promote_types(logits.dtype, torch.float32))


def _find_axis_order(call: Callable[[Tensor], Any], image: Tensor, alone: _InspectionRecorder) -> AxisOrder:
    """Find out whether images or heads come first on a shared axis: for two equal images, equal values are images.

    Raises:
        InputError: both orders are possible.
    """
    twice = _InspectionRecorder(2, alone.image_hw, "images")
    with torch.no_grad(), twice:
        call(torch.cat([image, image]).detach())
    values = twice.records[0].value
    swapped = values.flatten(0, 1).unflatten(0, (-1, 2)).transpose(0, 1)
    matches = {
        order: torch.allclose(pair[0], pair[1], rtol=1e-3, atol=1e-5)
        for order, pair in (("images", values), ("heads", swapped))
    }
    if matches["images"] == matches["heads"]:
        raise InputError("images and heads share an axis of the attention, and it isn't clear which comes first")
    return "images" if matches["images"] else "heads"


def is_compiled(part: nn.Module) -> bool:
    """Return whether a module is compiled by torch.compile or scripted by torch.jit."""
    in_place = getattr(part, "_compiled_call_impl", None) is not None  # nn.Module.compile()
    return in_place or isinstance(part, torch.jit.ScriptModule) or hasattr(part, "_orig_mod")


def require_observable(model: nn.Module) -> None:
    """Check that a model can be observed.

    Raises:
        InputError: it is compiled, scripted or in training mode, or inference mode is on.
    """
    if any(is_compiled(part) for part in model.modules()):
        raise InputError(
            "the model is compiled or scripted, so its torch functions can't be observed: give the plain module"
        )
    if model.training:
        raise InputError("the model is in training mode, in which its output is random: call model.eval() first")
    if torch.is_inference_mode_enabled():
        raise InputError("in inference mode nothing can be observed: use torch.no_grad() instead")
