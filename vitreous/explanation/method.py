"""The signature that every explanation method has, and the record that describes a method."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from vitreous.explanation.options import MethodOptions
from vitreous.model.trace import Trace
from vitreous.tasks.targets import Target

ScaleKind = Literal["proportion", "positive", "signed"]
"""proportion: attention weights, which sum to 1 together with those of the prefix tokens (unless heads are combined by
max or min); positive: 0 or more; signed: positive values favor the target, negative values count against it."""


class ExplainableModel(Protocol):
    """A model as methods call it: it maps images to logits and fills a trace where one is passed.

    Our `ViT` is one, and so is any other module inside a `WrappedModel`. LeGrad also needs `logit_lens`, which maps the
    tokens of any layer to logits.
    """

    def __call__(self, images: Tensor, trace: Trace | None = None) -> Tensor:
        """Map normalized images (batch, channels, height, width) to logits (batch, classes)."""
        ...


@dataclass(frozen=True)
class Maps:
    """The result of a method for a batch of images.

    Attributes:
        values: (batch, rows, columns): one value per patch or per pixel of the model's input.
        logits: (batch, classes): the model's output.
        layer: The layer explained, counted from 0; None for all layers.
        head: The head explained, counted from 0; None for all heads together.
        convergence_delta: (batch): the target's gain minus the sum of the map, in units of the target's score.
        colors: (batch, rows, columns, 3) in [0, 1], for a map that is drawn in its own colors.
    """

    values: Tensor
    logits: Tensor
    layer: int | None = None
    head: int | None = None
    convergence_delta: Tensor | None = None
    colors: Tensor | None = None


AttributeFunction = Callable[[ExplainableModel, Tensor, Target, MethodOptions], Maps]
"""Maps (model, images (batch, channels, height, width), target, options) to `Maps`."""


@dataclass(frozen=True)
class Method:
    """An explanation method and its properties.

    Attributes:
        attribute: Computes the maps.
        summary: What the map shows, in one line.
        scale_kind: What the values of the map mean.
        options: The names of the `MethodOptions` that the method uses.
        is_class_specific: Whether the map depends on the target.
        uses_gradients: Whether the method needs gradients of the model.
    """

    attribute: AttributeFunction
    summary: str
    scale_kind: ScaleKind
    options: frozenset[str] = frozenset()
    is_class_specific: bool = True
    uses_gradients: bool = False
