"""Black-box access to a model, for methods that change the images and read the output again."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel
from vitreous.model.trace import AttentionRecord, Trace
from vitreous.tasks.targets import Target

CELLS_PER_SIDE = 14
"""Cells along the shorter side of an image, for a model that has no patches."""

ATTENTION_FREE_METHODS = "input-x-gradient, integrated-gradients, smoothgrad, occlusion or rise"
"""Methods for a model whose attention can't be observed, as errors name them."""

MAX_PIXELS_PER_PASS = {"cpu": 32 * 224**2, "cuda": 512 * 224**2}
"""Pixels of perturbed images in one forward pass; half as many where the device runs out of memory."""


class ProbeTrace(Trace):
    """A trace that keeps the layout and the last layer's tokens, and nothing that grows with the number of layers."""

    def on_attention(self, record: AttentionRecord) -> None:
        """Keep nothing."""

    def on_tokens(self, tokens: Tensor) -> None:
        """Keep the newest tokens alone."""
        self.tokens[:] = [tokens]


@dataclass(frozen=True)
class UnperturbedPass:
    """A model, its unchanged images, and what one forward pass gave."""

    model: ExplainableModel
    images: Tensor
    """(batch, channels, height, width)."""
    logits: Tensor
    """(batch, classes)."""
    trace: Trace
    """Layout and last tokens; empty for a model that takes no trace."""


@torch.no_grad()
def forward_unperturbed(model: ExplainableModel, images: Tensor) -> UnperturbedPass:
    """Run the model on unchanged images (batch, channels, height, width).

    A model that takes no trace, or can't fill it because its attention can't be observed, is run without one.
    """
    call = model.forward if isinstance(model, nn.Module) else model
    if "trace" in inspect.signature(call).parameters:
        trace = ProbeTrace()
        try:
            return UnperturbedPass(model, images, model(images, trace), trace)
        except InputError:
            pass  # if the images are at fault, the call without a trace raises the same error
    return UnperturbedPass(model, images, model(images), Trace())


def cell_borders(unperturbed: UnperturbedPass) -> tuple[Tensor, Tensor]:
    """Return where the cells of a grid begin and end, in pixels: (rows + 1) down and (columns + 1) across.

    Cells are the model's patches where they are known, else squares of about 1/14 of the shorter side.
    """
    height, width = unperturbed.images.shape[-2:]
    layout = unperturbed.trace.layout
    if layout is None:
        side = max(1.0, min(height, width) / CELLS_PER_SIDE)
        rows, columns = max(1, round(height / side)), max(1, round(width / side))
    else:
        rows, columns = layout.grid_height, layout.grid_width
    return torch.linspace(0, height, rows + 1).round().long(), torch.linspace(0, width, columns + 1).round().long()


@torch.no_grad()
def perturbed_scores(
    unperturbed: UnperturbedPass, target: Target, count: int, perturb: Callable[[int, int], Tensor]
) -> Iterator[tuple[int, int, Tensor]]:
    """Compute the scores of `count` perturbed copies of a batch, as many at once as the device holds.

    Args:
        unperturbed: the model and the unchanged images.
        target: a detached target, so that it reads every copy alike.
        count: the number of copies of each image.
        perturb: maps `start` and `stop` to those copies (stop - start, batch, channels, height, width).

    Yields:
        `start`, `stop` and the scores (stop - start, batch), in order.
    """
    images = unperturbed.images
    pixels = MAX_PIXELS_PER_PASS.get(images.device.type, MAX_PIXELS_PER_PASS["cpu"])
    step, start = max(1, min(count, pixels // images[:, 0].numel())), 0
    while start < count:
        stop = min(count, start + step)
        try:
            scores = _score_copies(unperturbed, target, perturb(start, stop))
        except torch.OutOfMemoryError:
            if step == 1:
                raise
            step //= 2
            continue
        yield start, stop, scores
        start = stop


def _score_copies(unperturbed: UnperturbedPass, target: Target, copies: Tensor) -> Tensor:
    """Compute the scores (copies, batch) of copies (copies, batch, ...): the target reads one copy after the other."""
    flat, trace, scores = copies.flatten(0, 1), ProbeTrace(layout=unperturbed.trace.layout), []
    logits = unperturbed.model(flat, trace) if unperturbed.trace.tokens else unperturbed.model(flat)
    for start in range(0, len(flat), copies.shape[1]):
        one = slice(start, start + copies.shape[1])
        scores.append(target(logits[one], Trace(layout=trace.layout, tokens=[tokens[one] for tokens in trace.tokens])))
    return torch.stack(scores)
