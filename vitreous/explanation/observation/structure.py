"""What must be known of a foreign model before its attention can be laid on an image; found from one image."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.explanation.observation.attention import AttentionRecorder
from vitreous.explanation.observation.heads import Fold
from vitreous.explanation.observation.model_output import extract_logits
from vitreous.explanation.observation.patches import PatchGrid, choose_grid, find_grid, find_layout
from vitreous.explanation.observation.readout import find_readout, pooling_readout
from vitreous.model.trace import AttentionRecord, TokenLayout, Trace

STREAMS = 64
"""How many of the last tensors of tokens are kept to find the readout."""


@dataclass(frozen=True)
class ModelStructure:
    """How a model takes images of one size apart."""

    layout: TokenLayout
    behind: bool
    """Whether the prefix tokens stand behind the patches in the model; traces have them in front."""
    readout: Tensor | None
    """(tokens): the weight with which the head reads each; None where attention pools, differently for each image."""
    layers: int
    fold: Fold | None
    """What comes first where the lengths of images' and heads' axes don't tell; None where images do."""

    def watch(self, batch: int, report: Callable[[AttentionRecord], None]) -> AttentionRecorder:
        """A mode for a pass over a batch of images."""
        return AttentionRecorder(batch, report, self.fold, self.layout.num_prefix_tokens if self.behind else 0)

    def fill(self, trace: Trace, watch: AttentionRecorder) -> None:
        """Complete a trace whose records the watch has reported.

        Raises:
            InputError: the pass wasn't like the one that this was found from.
        """
        watch.finish()
        if (watch.layers, watch.tokens) != (self.layers, self.layout.num_tokens):
            raise InputError(
                f"this pass had {watch.layers} layers of attention over {watch.tokens} tokens, one image alone "
                f"{self.layers} over {self.layout.num_tokens}: the model must treat every image alike"
            )
        trace.layout, tokens = self.layout, self.layout.num_tokens
        if watch.pooling is not None:
            trace.readout = pooling_readout(watch.pooling, tokens, self.layout.num_prefix_tokens, watch.last)
        elif self.readout is not None:
            trace.readout = self.readout.expand(watch.batch, -1).clone()


class _Study(AttentionRecorder):
    """A watch that also keeps the grids laid over the image and the last tensors of tokens."""

    def __init__(self, batch: int, image_hw: tuple[int, int], fold: Fold | None = None) -> None:
        self.records: list[AttentionRecord] = []
        super().__init__(batch, self.records.append, fold)
        self.image_hw = image_hw
        self.grids: list[PatchGrid] = []
        self.streams: deque[Tensor] = deque(maxlen=STREAMS)

    def _attended(self, record: AttentionRecord) -> None:
        super()._attended(record)
        self.streams.clear()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Watch, and look at what comes before the first attention and after the last."""
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
    """Find a model's structure from one pass over the first of some images (batch, channels, height, width).

    `call` runs the model on images; its parameters' gradients are left as they are.

    Raises:
        InputError: the model can't be observed; says why.
    """
    with torch.enable_grad():
        image = images[:1].detach().clone().requires_grad_()
        watch = _Study(1, (image.shape[2], image.shape[3]))
        with watch:
            logits = extract_logits(call(image))
        watch.finish()
        first = watch.records[0]
        grid = choose_grid(watch.grids, first.value.shape[2], watch.image_hw)
        if not first.value.requires_grad:
            raise InputError(
                "the model runs under no_grad of its own or detaches what it computes: let it give gradients"
            )
        layout, behind = find_layout(grid, first.value)
        readout = None if watch.pooling is not None else _readout(logits, watch, layout, behind=behind)
        fold = _fold(call, image, watch) if watch.folded else "heads" if watch.heads_first else None
    return ModelStructure(layout, behind, readout, watch.layers, fold)


def _readout(logits: Tensor, watch: _Study, layout: TokenLayout, *, behind: bool) -> Tensor:
    """The readout in the trace's order of tokens."""
    readout = find_readout(
        logits, list(watch.streams), layout.num_prefix_tokens, layout.num_prefix_tokens if behind else 0
    )
    return readout.to(torch.promote_types(logits.dtype, torch.float32))


def _fold(call: Callable[[Tensor], Any], image: Tensor, alone: _Study) -> Fold:
    """Whether images or heads come first where they share an axis: in two equal images, equal things are images.

    Raises:
        InputError: it can't be told.
    """
    twice = _Study(2, alone.image_hw, "images")
    with torch.no_grad(), twice:
        call(torch.cat([image, image]).detach())
    values = twice.records[0].value
    turned = values.flatten(0, 1).unflatten(0, (-1, 2)).transpose(0, 1)
    alike = {
        fold: torch.allclose(pair[0], pair[1], rtol=1e-3, atol=1e-5)
        for fold, pair in (("images", values), ("heads", turned))
    }
    if alike["images"] == alike["heads"]:
        raise InputError("images and heads share an axis of the attention, and it can't be told which comes first")
    return "images" if alike["images"] else "heads"


def is_compiled(part: nn.Module) -> bool:
    """Whether torch.compile or torch.jit made something of a module that runs in its place."""
    in_place = getattr(part, "_compiled_call_impl", None) is not None  # nn.Module.compile()
    return in_place or isinstance(part, torch.jit.ScriptModule) or hasattr(part, "_orig_mod")


def require_observable(model: nn.Module) -> None:
    """Refuse a model that can't be seen through as it is.

    Raises:
        InputError: it is compiled, scripted or training, or the pass would run in inference mode.
    """
    if any(is_compiled(part) for part in model.modules()):
        raise InputError(
            "the model is compiled or scripted, so its torch functions can't be seen: give the plain module"
        )
    if model.training:
        raise InputError("the model is in training mode, in which its answers are random: call model.eval() first")
    if torch.is_inference_mode_enabled():
        raise InputError("in inference mode nothing can be observed: use torch.no_grad() instead")
