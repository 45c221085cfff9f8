"""Multinomial logistic regression on frozen features, with its penalty chosen on validation images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

INVERSE_PENALTIES = tuple(float(value) for value in np.logspace(-6, 2, 17))
"""The grid of C, scikit-learn's inverse of the penalty, from strong to weak: half a decade apart."""
MAX_STEPS = 500
"""Of L-BFGS for one penalty; each starts from the solution for the one before."""
EXACT, ROUGH = 1e-7, 1e-5
"""The largest component of the gradient at which L-BFGS stops. The rough one takes half the steps and predicts the same
for all but one image in a thousand: enough to choose a penalty."""
LEAST_DEVIATION = 1e-6
"""Features that vary less, relative to the largest, are constant: they are not scaled up."""


@dataclass(frozen=True)
class LinearClassifier:
    """Weights and bias that map features (images, width), as they are, to logits.

    Attributes:
        weight: float64 (classes, width).
        bias: float64 (classes).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, vectors: Tensor) -> Tensor:
        """Map features (images, width) to logits (images, classes)."""
        return vectors.to(self.weight) @ self.weight.T + self.bias


@dataclass(frozen=True)
class Standardization:
    """The mean and standard deviation of each feature, float64 (width)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> "Standardization":
        """Compute both from features (images, width); of one that is constant the deviation is 1."""
        std, mean = torch.std_mean(vectors.double(), 0, correction=0)
        return cls(mean, torch.where(std > LEAST_DEVIATION * std.max(), std, 1.0))

    def __call__(self, vectors: Tensor) -> Tensor:
        """Map features to ones of mean 0 and deviation 1, float64."""
        return (vectors.double() - self.mean) / self.std

    def fold_into(self, weight: Tensor, bias: Tensor) -> LinearClassifier:
        """Return what a classifier of standardized features is on features as they are."""
        scaled = weight / self.std
        return LinearClassifier(scaled, bias - scaled @ self.mean)


def fit_logistic_path(
    vectors: Tensor,
    labels: Tensor,
    classes: int,
    inverse_penalties: Sequence[float] = INVERSE_PENALTIES,
    tolerance: float = EXACT,
) -> Iterator[LinearClassifier]:
    """Fit a multinomial logistic regression for each C, from strong to weak penalties.

    The features are standardized. Minimized is C Σ cross-entropy + ½ ‖weights‖², as scikit-learn does, by L-BFGS with a
    strong Wolfe line search (Nocedal and Wright 2006, algorithms 7.5 and 3.5) in float64.

    Args:
        vectors: features (images, width).
        labels: int64 (images), of which each is below `classes`.
        classes: their number.
        inverse_penalties: C, ascending.
        tolerance: EXACT or ROUGH.
    """
    standardization = Standardization.of(vectors)
    inputs, count = standardization(vectors), len(labels)
    parameters = torch.zeros(classes, inputs.shape[1] + 1, dtype=torch.float64)
    for inverse_penalty in inverse_penalties:
        parameters = _minimize(parameters, inputs, labels, 1 / (inverse_penalty * count), tolerance)
        yield standardization.fold_into(parameters[:, :-1], parameters[:, -1])


@torch.enable_grad()
def _minimize(start: Tensor, inputs: Tensor, labels: Tensor, penalty: float, tolerance: float) -> Tensor:
    """Minimize mean cross-entropy + ½ penalty ‖weights‖² from `start`, (classes, width + 1) with the bias last."""
    parameters = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [parameters], lr=1, max_iter=MAX_STEPS, tolerance_grad=tolerance, tolerance_change=1e-12,
        history_size=20, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = torch.addmm(parameters[:, -1], inputs, parameters[:, :-1].T)
        value = functional.cross_entropy(logits, labels) + 0.5 * penalty * parameters[:, :-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return parameters.detach()
