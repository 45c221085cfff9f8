"""Targets: the score that a map explains, read from the model's output. Those here fit any task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeGuard, runtime_checkable

from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.model.trace import Trace


class Target(Protocol):
    """A differentiable score for each image, with a name."""

    @property
    def name(self) -> str:
        """The name of the target in captions."""
        ...

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Map logits (batch, classes), and the trace where there is one, to scores (batch)."""
        ...

    def detached(self, logits: Tensor, trace: Trace | None = None) -> "Target":
        """Return this target with all that it selects by the output held constant, for changed copies of the images."""
        ...


def is_target(target: object) -> TypeGuard[Target]:
    """Return whether an object is a Target.

    >>> is_target(FeatureNormTarget()), is_target(True)
    (True, False)
    """
    return callable(target) and hasattr(target, "detached")


@runtime_checkable
class PerImageTarget(Protocol):
    """A target with a part of its own for each of several images."""

    def select(self, indices: Sequence[int], count: int) -> Target:
        """Return the target of the images at `indices`, of `count` in all.

        Raises:
            InputError: the target is one for another number of images.
        """
        ...

    def name_of(self, index: int) -> str:
        """Return the name of the part of one image."""
        ...


@dataclass(frozen=True)
class DirectionTarget:
    """The output's component along a direction: (1 or batch, classes), which is one-hot for the logit of a class.

    Attributes:
        is_class: Whether each direction is that of one class.
    """

    directions: Tensor
    name: str
    is_class: bool = False

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Map logits (batch, classes) to scores (batch)."""
        if len(self.directions) not in (1, len(logits)):
            raise InputError(f"the target '{self.name}' has {len(self.directions)} directions for {len(logits)} images")
        return (logits * self.directions.to(logits.dtype)).sum(-1)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Return itself."""
        return self

    def select(self, indices: Sequence[int], count: int) -> Target:
        """Return the target of the images at `indices`, of `count` in all; one direction is that of all images.

        Raises:
            InputError: there are directions for another number of images.
        """
        if len(self.directions) == 1:
            return self
        if len(self.directions) != count:
            raise InputError(f"the target '{self.name}' has {len(self.directions)} directions for {count} images")
        return replace(self, directions=self.directions[list(indices)])

    def name_of(self, index: int) -> str:
        """Return the name, which is that of all images."""
        return self.name


@dataclass(frozen=True)
class FeatureNormTarget:
    """The norm of the output vector, for a model without classes: its component along the direction that it has now."""

    name: str = "the image's own features"

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Map pooled vectors (batch, width) to scores (batch)."""
        return self.detached(logits)(logits)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Return the target of the direction that the vector has now."""
        vector = logits.detach()
        return DirectionTarget(vector / vector.norm(dim=-1, keepdim=True).clamp_min(1e-12), self.name)


@dataclass(frozen=True)
class SimilarityTarget:
    """The cosine similarity of the model's output, a vector of features, and another vector, such as another image's.

    Attributes:
        embedding: The other vector (width).
    """

    embedding: Tensor
    name: str
    remedy: ClassVar[str] = "compute both vectors with one model, which has no classes"

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Map the outputs (batch, width) to scores (batch), −1 to 1.

        Raises:
            InputError: the two vectors differ in width.
        """
        if logits.shape[-1] != len(self.embedding):
            raise InputError(
                f"'{self.name}' is a vector of {len(self.embedding)} numbers, and this model's output has "
                f"{logits.shape[-1]}: {self.remedy}"
            )
        return functional.cosine_similarity(logits, self.embedding.to(logits), -1)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Return itself."""
        return self


@dataclass(frozen=True)
class TextTarget(SimilarityTarget):
    """The cosine similarity of the image's embedding and a text's, for an image-text model (CLIP, SigLIP).

    Attributes:
        embedding: The text's embedding (width), from the text tower that belongs to the model.
    """

    remedy: ClassVar[str] = "use the text tower that belongs to the model"


@dataclass(frozen=True)
class RegionTarget:
    """The norms of the last block's tokens of some patches, summed; their directions are held constant.

    Attributes:
        patches: (row, column) of each patch on the model's grid.
        grid_size: (rows, columns) of that grid.
    """

    patches: tuple[tuple[int, int], ...]
    grid_size: tuple[int, int]
    name: str = "region"

    @classmethod
    def from_patch_box(
        cls, box: tuple[int, int, int, int], grid_size: tuple[int, int], name: str = "region"
    ) -> "RegionTarget":
        """Select the patches from (top, left) to before (bottom, right) of a grid (rows, columns).

        >>> RegionTarget.from_patch_box((0, 1, 1, 3), (14, 14)).patches
        ((0, 1), (0, 2))

        Raises:
            InputError: the box holds no patch, or leaves the grid.
        """
        top, left, bottom, right = box
        if not (0 <= top < bottom <= grid_size[0] and 0 <= left < right <= grid_size[1]):
            raise InputError(
                f"a region from row {top}, column {left} to row {bottom}, column {right} is not a part of the model's "
                f"grid of {grid_size[0]} × {grid_size[1]} patches: give a region that holds at least one patch"
            )
        return cls(tuple((i, j) for i in range(top, bottom) for j in range(left, right)), grid_size, name)

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Map the trace's last tokens to scores (batch)."""
        return self.detached(logits, trace)(logits, trace)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Return the target of the directions that the tokens of each image have now.

        Raises:
            InputError: the tokens can't be observed, or lie on another grid.
        """
        return _DetachedRegionTarget(functional.normalize(self.tokens(trace).detach(), dim=-1), self)

    def tokens(self, trace: Trace | None) -> Tensor:
        """Return the last block's tokens of the patches: (batch, patches, width)."""
        if trace is None or not trace.tokens or trace.layout is None:
            raise InputError(
                f"the target '{self.name}' is read from the model's last tokens, which this method can't observe: "
                "choose grad-cam or occlusion, and a model that Vitreous loads as its own ViT"
            )
        layout = trace.layout
        if self.grid_size != (layout.grid_height, layout.grid_width):
            raise InputError(
                f"the target '{self.name}' is on a grid of {self.grid_size[0]} × {self.grid_size[1]} patches, the "
                f"model's has {layout.grid_height} × {layout.grid_width}: give it on the model's own grid"
            )
        indices = [layout.num_prefix_tokens + row * layout.grid_width + column for row, column in self.patches]
        return trace.tokens[-1][:, indices]


@dataclass(frozen=True)
class _DetachedRegionTarget:
    """A region with constant directions."""

    directions: Tensor
    """(batch, patches, width), of length 1."""
    region: RegionTarget

    @property
    def name(self) -> str:
        """The name of the target in captions."""
        return self.region.name

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Map the trace's last tokens to scores (batch)."""
        return (self.region.tokens(trace) * self.directions).sum((1, 2))

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Return itself."""
        return self
