"""What a map shall explain: a number read from the model's answer, with a name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.model.trace import Trace


class Target(Protocol):
    """A score for each image, differentiable, and what it is called."""

    @property
    def name(self) -> str:
        """In words, as a caption says it."""
        ...

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Logits (batch, classes), and the trace where there is one, to scores (batch)."""
        ...

    def detached(self, logits: Tensor, trace: Trace | None = None) -> "Target":
        """The same target where the images are about to be changed: what it reads of their answer is held fixed."""
        ...


@dataclass(frozen=True)
class ClassTarget:
    """The logit of one class."""

    index: int
    name: str

    def __post_init__(self) -> None:
        if self.index < 0:
            raise InputError(f"there is no class {self.index}: classes are counted from 0")

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Logits (batch, classes) to scores (batch)."""
        return logits[:, self.index]

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Itself: it reads nothing of the answer."""
        return self


@dataclass(frozen=True)
class ClassDifferenceTarget:
    """By how much one class's logit is above another's."""

    first: ClassTarget
    second: ClassTarget

    def __post_init__(self) -> None:
        if self.first.index == self.second.index:
            raise InputError(
                f"'{self.first.name}' can't be set against itself, the margin is always 0: name two different classes"
            )

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.first.name} rather than {self.second.name}"

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Logits (batch, classes) to scores (batch)."""
        return self.first(logits) - self.second(logits)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Itself: it reads nothing of the answer."""
        return self


@dataclass(frozen=True)
class DirectionTarget:
    """The answer along a direction of its own for each image: (batch, classes), one at a class for its logit."""

    directions: Tensor
    name: str
    is_class: bool = False
    """Whether each direction is that of one class."""

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Logits (batch, classes), or that of several copies of the batch in turn, to scores (batch)."""
        if len(self.directions) not in (1, len(logits)):
            raise InputError(f"the target '{self.name}' has {len(self.directions)} directions for {len(logits)} images")
        return (logits * self.directions.to(logits.dtype)).sum(-1)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Itself: it reads nothing of the answer."""
        return self


@dataclass(frozen=True)
class PredictedClassTarget:
    """The logit of each image's most probable class, the first of those that are equally so."""

    name: str = "predicted class"

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Logits (batch, classes) to scores (batch)."""
        return logits.gather(-1, _argmax(logits)).squeeze(-1)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """The logit of the class that is the most probable one now."""
        chosen = _argmax(logits)
        return DirectionTarget(
            logits.detach().new_zeros(logits.shape).scatter_(-1, chosen, 1), self.name, is_class=True
        )


def _argmax(logits: Tensor) -> Tensor:
    """The index (batch, 1) of the greatest logit; argmax gives the first of several."""
    return logits.detach().argmax(-1, keepdim=True)


@dataclass(frozen=True)
class FeatureNormTarget:
    """How far the model's vector reaches in the direction that it has now: the score of a model without classes."""

    name: str = "the image's own features"

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Pooled vectors (batch, width) to scores (batch)."""
        return self.detached(logits)(logits)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """The vector's present direction, of length 1."""
        fixed = logits.detach()
        return DirectionTarget(fixed / fixed.norm(dim=-1, keepdim=True).clamp_min(1e-12), self.name)


@dataclass(frozen=True)
class TextTarget:
    """How well the image fits a text: the cosine between the model's vector and the text's."""

    embedding: Tensor
    """The text's vector (width), from the text tower that belongs to the model."""
    name: str

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Image vectors (batch, width) to scores (batch), −1 to 1.

        Raises:
            InputError: the model's vector is of another width than the text's.
        """
        if logits.shape[-1] != len(self.embedding):
            raise InputError(
                f"'{self.name}' is a vector of {len(self.embedding)} numbers, and this model answers with "
                f"{logits.shape[-1]}: take the text tower that belongs to the model"
            )
        return functional.cosine_similarity(logits, self.embedding.to(logits), -1)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Itself: it reads nothing of the answer."""
        return self


@dataclass(frozen=True)
class RegionTarget:
    """How strongly the tokens of some patches, out of the last block, hold the direction that they have now."""

    patches: tuple[tuple[int, int], ...]
    """(row, column) of each on the model's grid."""
    grid_size: tuple[int, int]
    """The grid that they are counted on."""
    name: str = "region"

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """The trace's last tokens to scores (batch): the sum of the patches' lengths, with gradients."""
        return self.detached(logits, trace)(logits, trace)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """The same with each image's present directions.

        Raises:
            InputError: the tokens aren't seen, or lie on another grid.
        """
        return _DetachedRegionTarget(functional.normalize(self.tokens(trace).detach(), dim=-1), self)

    def tokens(self, trace: Trace | None) -> Tensor:
        """The tokens of the patches, out of the last block: (batch, patches, width)."""
        if trace is None or not trace.tokens or trace.layout is None:
            raise InputError(
                f"the target '{self.name}' is read from the model's last tokens, which this method can't see: choose "
                "grad-cam or occlusion, and a model that is loaded as Vitreous's own"
            )
        layout = trace.layout
        if self.grid_size != (layout.grid_height, layout.grid_width):
            raise InputError(
                f"the target '{self.name}' is on a grid of {self.grid_size[0]} × {self.grid_size[1]} patches, the model's "
                f"has {layout.grid_height} × {layout.grid_width}: give it in the model's own"
            )
        places = [layout.num_prefix_tokens + row * layout.grid_width + column for row, column in self.patches]
        return trace.tokens[-1][:, places]


@dataclass(frozen=True)
class _DetachedRegionTarget:
    """A region whose directions were taken down."""

    directions: Tensor
    """(batch, patches, width), of length 1."""
    region: RegionTarget

    @property
    def name(self) -> str:
        """In words."""
        return self.region.name

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """The trace's last tokens to scores (batch)."""
        return (self.region.tokens(trace) * self.directions).sum((1, 2))

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Itself."""
        return self


def region_target_of_box(
    box: tuple[int, int, int, int], grid_hw: tuple[int, int], name: str = "region"
) -> RegionTarget:
    """The patches from (top, left) up to but without (bottom, right) of a grid.

    Raises:
        InputError: the box holds no patch, or leaves the grid.
    """
    top, left, bottom, right = box
    if not (0 <= top < bottom <= grid_hw[0] and 0 <= left < right <= grid_hw[1]):
        raise InputError(
            f"a region from row {top}, column {left} to row {bottom}, column {right} is no part of the model's grid of "
            f"{grid_hw[0]} × {grid_hw[1]} patches: give one that holds a patch at least"
        )
    return RegionTarget(tuple((i, j) for i in range(top, bottom) for j in range(left, right)), grid_hw, name)


def suggest_class_difference(text: str, class_names: Sequence[str]) -> str | None:
    """The margin that was meant by a text such as "cat-dog" with two classes' names: "cat - dog"; else None.

    >>> suggest_class_difference("cat-dog", ["cat", "dog"])
    'cat - dog'
    """
    for dash in re.finditer("[-–−]", text):
        names = text[: dash.start()].strip(), text[dash.end() :].strip()
        meant = " - ".join(names)
        if meant != text and all(name in class_names for name in names):
            return meant
    return None
