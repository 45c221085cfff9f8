"""Input times gradient (Shrikumar et al. 2016): each pixel's part in the score, to first order."""

from torch import Tensor

from vitreous.explanation.gradients import input_gradient
from vitreous.explanation.method import Maps, Model
from vitreous.explanation.rows import exact
from vitreous.explanation.settings import Settings
from vitreous.explanation.targets import Target


def input_x_gradient(model: Model, images: Tensor, target: Target, settings: Settings) -> Maps:
    """Σ over channels of x · ∂s/∂x, a signed number a pixel.

    x is the normalized image, so a pixel of the training data's mean color counts for nothing.
    """
    logits, gradient = input_gradient(model, images[None], target)
    return Maps((exact(images) * gradient[0]).sum(1), logits[0])
