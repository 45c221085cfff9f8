"""What a map shall explain: a number read from the model's answer, with a name."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from vitreous.model.trace import Trace


class Target(Protocol):
    """A score for each picture, differentiable, and what it is called."""

    @property
    def name(self) -> str:
        """In words, as a caption says it."""
        ...

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Logits (batch, classes), and the trace where there is one, to scores (batch)."""
        ...

    def fixed(self, logits: Tensor, trace: Trace | None = None) -> "Target":
        """The same target where the pictures are about to be changed: what it reads of their answer is held fixed."""
        ...


@dataclass(frozen=True)
class ClassTarget:
    """The logit of one class."""

    index: int
    name: str

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Logits (batch, classes) to scores (batch)."""
        return logits[:, self.index]

    def fixed(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Itself: it reads nothing of the answer."""
        return self


@dataclass(frozen=True)
class Margin:
    """By how much one class's logit is above another's."""

    first: ClassTarget
    second: ClassTarget

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.first.name} rather than {self.second.name}"

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Logits (batch, classes) to scores (batch)."""
        return self.first(logits) - self.second(logits)

    def fixed(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Itself: it reads nothing of the answer."""
        return self


@dataclass(frozen=True)
class Along:
    """The answer along a direction of its own for each picture: (batch, classes), one at a class for its logit."""

    directions: Tensor
    name: str

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Logits (batch, classes), or that of several copies of the batch in turn, to scores (batch)."""
        return (logits * self.directions.to(logits.dtype)).sum(-1)

    def fixed(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """Itself: it reads nothing of the answer."""
        return self


@dataclass(frozen=True)
class Predicted:
    """The logit of each picture's most probable class."""

    name: str = "predicted class"

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Logits (batch, classes) to scores (batch)."""
        return logits.amax(-1)

    def fixed(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """The logit of the class that is the most probable one now."""
        chosen = logits.detach().argmax(-1, keepdim=True)
        return Along(logits.detach().new_zeros(logits.shape).scatter_(-1, chosen, 1), self.name)


@dataclass(frozen=True)
class Feature:
    """How far the model's vector reaches in the direction that it has now: the score of a model without classes."""

    name: str = "the picture's own features"

    def __call__(self, logits: Tensor, trace: Trace | None = None) -> Tensor:
        """Pooled vectors (batch, width) to scores (batch)."""
        return self.fixed(logits)(logits)

    def fixed(self, logits: Tensor, trace: Trace | None = None) -> Target:
        """The vector's present direction, of length 1."""
        fixed = logits.detach()
        return Along(fixed / fixed.norm(dim=-1, keepdim=True).clamp_min(1e-12), self.name)
