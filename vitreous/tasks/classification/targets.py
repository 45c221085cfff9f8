"""Targets of classification: the logit of a class, of one class per image, a difference, the predicted class."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.trace import Trace
from vitreous.tasks.targets import DirectionTarget, Target


@dataclass(frozen=True)
class ClassTarget:
    """The logit of one class.

    >>> import torch
    >>> ClassTarget(1, "dog")(torch.tensor([[0.5, 2.0]]))
    tensor([2.])
    """

    index: int
    name: str
    is_class: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.index < 0:
            raise InputError(f"there is no class {self.index}: classes are counted from 0")

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Map logits (batch, classes) to scores (batch).

        Raises:
            InputError: the model has no such class.
        """
        if self.index >= logits.shape[-1]:
            raise InputError(f"there is no class {self.index}: the model has {logits.shape[-1]}, counted from 0")
        return logits[:, self.index]

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Return itself."""
        return self


@dataclass(frozen=True)
class ClassPerImageTarget:
    """The logit of one class per image.

    Attributes:
        indices: int64 (batch).
        class_names: The names of all classes of the model, if it has any.

    >>> import torch
    >>> ClassPerImageTarget(torch.tensor([1, 0]))(torch.tensor([[0.5, 2.0], [3.0, 1.0]]))
    tensor([2., 3.])
    """

    indices: Tensor
    name: str = "one class per image"
    class_names: tuple[str, ...] = ()
    is_class: ClassVar[bool] = True

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Map logits (batch, classes) to scores (batch).

        Raises:
            InputError: there are more or fewer classes than images, or the model has no such class.
        """
        if self.indices.shape != logits.shape[:1]:
            raise InputError(f"{self.indices.numel()} classes are given for {len(logits)} images: give one per image")
        if self.indices.numel() and not 0 <= int(self.indices.min()) <= int(self.indices.max()) < logits.shape[1]:
            raise InputError(f"there is no such class: the model has {logits.shape[1]}, counted from 0")
        return logits.gather(-1, self.indices.to(logits.device)[:, None]).squeeze(-1)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Return itself."""
        return self

    def select(self, indices: Sequence[int], count: int) -> Target:
        """Return the target of the images at `indices`, of `count` in all.

        Raises:
            InputError: there are classes for another number of images.
        """
        if len(self.indices) != count:
            raise InputError(f"{len(self.indices)} classes are given for {count} images: give one per image")
        return replace(self, indices=self.indices[list(indices)])

    def name_of(self, index: int) -> str:
        """Return the name of the class of one image."""
        found = int(self.indices[index])
        return self.class_names[found] if self.class_names else f"class {found}"


def parse_class_target(target: object) -> ClassTarget | ClassPerImageTarget | None:
    """Return the target of a class index, or of one class index per image; None for any other object.

    An index is an integer of Python, NumPy or PyTorch; several are a list, a tuple, an array or a tensor.

    >>> parse_class_target(2)
    ClassTarget(index=2, name='class 2')
    """
    if isinstance(target, Integral) and not isinstance(target, bool):
        return ClassTarget(int(target), f"class {int(target)}")
    if isinstance(target, list | tuple | np.ndarray):
        try:
            target = torch.as_tensor(np.array(target))  # a copy: torch warns of arrays that can't be written
        except (TypeError, ValueError, RuntimeError):
            return None
    if not isinstance(target, Tensor) or target.ndim > 1:
        return None
    if target.dtype == torch.bool or target.is_floating_point() or target.is_complex():
        return None
    return parse_class_target(int(target)) if target.ndim == 0 else ClassPerImageTarget(target.to(torch.int64))


@dataclass(frozen=True)
class ClassDifferenceTarget:
    """The logit of one class minus the logit of another."""

    first: ClassTarget
    second: ClassTarget

    def __post_init__(self) -> None:
        if self.first.index == self.second.index:
            raise InputError(f"'{self.first.name}' minus itself is always 0: name two different classes")

    @property
    def name(self) -> str:
        """The name of the target in captions."""
        return f"{self.first.name} rather than {self.second.name}"

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Map logits (batch, classes) to scores (batch)."""
        return self.first(logits) - self.second(logits)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Return itself."""
        return self


@dataclass(frozen=True)
class PredictedClassTarget:
    """The logit of each image's predicted class; of several equal logits, the first."""

    name: str = "predicted class"

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Map logits (batch, classes) to scores (batch)."""
        return logits.gather(-1, _argmax(logits)).squeeze(-1)

    def detached(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Return the target of the class that is predicted now."""
        chosen = _argmax(logits)
        one_hot = logits.detach().new_zeros(logits.shape).scatter_(-1, chosen, 1)
        return DirectionTarget(one_hot, self.name, is_class=True)


def _argmax(logits: Tensor) -> Tensor:
    """Return the index (batch, 1) of the largest logit, the first of several equal ones."""
    return logits.detach().argmax(-1, keepdim=True)
