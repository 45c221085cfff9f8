"""A model of which nothing is used but its answers: for methods that change the image and ask again."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.explanation.method import ExplainableModel
from vitreous.explanation.targets import Target
from vitreous.model.trace import AttentionRecord, Trace

CELLS = 14
"""Cells along the shorter side of an image, for a model that has no patches."""

ATTENTION_FREE_METHODS = "input-x-gradient, integrated-gradients, smoothgrad, occlusion or rise"
"""Methods for a model in which no attention is seen, as errors name them."""

MAX_PIXELS_PER_PASS = {"cpu": 32 * 224**2, "cuda": 512 * 224**2}
"""How much of changed images goes through the model in one pass; on a device that can't hold it, half of it."""


class ProbeTrace(Trace):
    """A trace that keeps the layout and the last layer's tokens, and nothing that grows with the number of layers."""

    def on_attention(self, record: AttentionRecord) -> None:
        """Keeps nothing."""

    def on_tokens(self, tokens: Tensor) -> None:
        """Keeps the newest."""
        self.tokens[:] = [tokens]


@dataclass(frozen=True)
class UnperturbedPass:
    """A model, some images, what it answered, and what little was seen on the way."""

    model: ExplainableModel
    images: Tensor
    """(batch, channels, height, width)."""
    logits: Tensor
    """(batch, classes)."""
    trace: Trace
    """Layout and last tokens; nothing of a model that takes no trace."""


@torch.no_grad()
def forward_unperturbed(model: ExplainableModel, images: Tensor) -> UnperturbedPass:
    """What the model answers.

    One that takes no trace, or refuses to fill it (it has no attention that can be seen), is asked without: a black box
    has no more than an answer.
    """
    call = model.forward if isinstance(model, nn.Module) else model
    if "trace" in inspect.signature(call).parameters:
        trace = ProbeTrace()
        try:
            return UnperturbedPass(model, images, model(images, trace), trace)
        except InputError:
            pass  # a fault of the images' is said again by the call without a trace
    return UnperturbedPass(model, images, model(images), Trace())


def cell_borders(asked: UnperturbedPass) -> tuple[Tensor, Tensor]:
    """Where the cells of a grid begin and end, in pixels: (rows + 1) down and (columns + 1) across.

    Cells are the model's patches where it told of them, else squares of 1/14 of the shorter side, or nearly.
    """
    height, width = asked.images.shape[-2:]
    layout = asked.trace.layout
    if layout is None:
        side = max(1.0, min(height, width) / CELLS)
        rows, columns = max(1, round(height / side)), max(1, round(width / side))
    else:
        rows, columns = layout.grid_height, layout.grid_width
    return torch.linspace(0, height, rows + 1).round().long(), torch.linspace(0, width, columns + 1).round().long()


@torch.no_grad()
def perturbed_scores(
    asked: UnperturbedPass, target: Target, count: int, copies: Callable[[int, int], Tensor]
) -> Iterator[tuple[int, int, Tensor]]:
    """The scores of `count` changed copies of a batch of images, as many at once as the device holds.

    Args:
        asked: the model, and the images as they are.
        target: already fixed, so that it reads every copy alike.
        count: how many copies there are of each image.
        copies: from `start` and `stop` to those copies (stop - start, batch, channels, height, width).

    Yields:
        `start`, `stop` and the perturbed_scores (stop - start, batch), of all copies in turn.
    """
    images = asked.images
    held = MAX_PIXELS_PER_PASS.get(images.device.type, MAX_PIXELS_PER_PASS["cpu"])
    at_once, start = max(1, min(count, held // images[:, 0].numel())), 0
    while start < count:
        stop = min(count, start + at_once)
        try:
            found = _each_copy(asked, target, copies(start, stop))
        except torch.OutOfMemoryError:
            if at_once == 1:
                raise
            at_once //= 2
            continue
        yield start, stop, found
        start = stop


def _each_copy(asked: UnperturbedPass, target: Target, copies: Tensor) -> Tensor:
    """The perturbed_scores (copies, batch) of copies (copies, batch, ...) of a batch: the target is asked for each in turn."""
    flat, trace, found = copies.flatten(0, 1), ProbeTrace(layout=asked.trace.layout), []
    logits = asked.model(flat, trace) if asked.trace.tokens else asked.model(flat)
    for start in range(0, len(flat), copies.shape[1]):
        one = slice(start, start + copies.shape[1])
        found.append(target(logits[one], Trace(layout=trace.layout, tokens=[tokens[one] for tokens in trace.tokens])))
    return torch.stack(found)
