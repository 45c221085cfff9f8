"""Which of some classes an image shows: loss, prediction, and a model that answers on real images."""

from torch import Tensor
from torch.nn import functional


def loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in nats of logits (batch, classes) and labels (batch), computed in float32.

    With smoothing s, the truth is 1 − s on the label plus s / classes on each (Szegedy et al. 2016, section 7).
    With weights (classes), the sum of the weighted terms is divided by the sum of the labels' weights.
    """
    return functional.cross_entropy(logits.float(), labels, weights, label_smoothing=label_smoothing)
