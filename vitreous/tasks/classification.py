"""Classification: which of several classes an image shows."""

from torch import Tensor
from torch.nn import functional


def classification_loss(
    logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Compute the mean cross-entropy in nats, in float32.

    Args:
        logits: (batch, classes).
        labels: int64 (batch), or the probability of each class (batch, classes).
        label_smoothing: s makes the target 1 − s for the label plus s / classes for each class (Szegedy et al. 2016,
            section 7).
        weights: (classes): makes a weighted mean, divided by the sum of the labels' weights.
    """
    if labels.is_floating_point() and weights is not None:  # torch would divide by the number of images
        total = functional.cross_entropy(
            logits.float(), labels, weights, label_smoothing=label_smoothing, reduction="sum"
        )
        return total / label_weights(labels, weights).sum()
    return functional.cross_entropy(logits.float(), labels, weights, label_smoothing=label_smoothing)


def label_weights(labels: Tensor, weights: Tensor) -> Tensor:
    """Return the weight of each image (batch) in a weighted mean, from the weights of the classes (classes).

    Args:
        labels: int64 (batch), or the probability of each class (batch, classes).
        weights: (classes).
    """
    return labels @ weights if labels.is_floating_point() else weights[labels]
