"""Classification: which of several classes an image shows."""

from torch import Tensor
from torch.nn import functional


def classification_loss(
    logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Compute the mean cross-entropy in nats, in float32.

    Args:
        logits: (batch, classes).
        labels: int64 (batch).
        label_smoothing: s makes the target 1 − s for the label plus s / classes for each class (Szegedy et al. 2016,
            section 7).
        weights: (classes): makes a weighted mean, divided by the sum of the labels' weights.
    """
    return functional.cross_entropy(logits.float(), labels, weights, label_smoothing=label_smoothing)
