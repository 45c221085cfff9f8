"""Grad-CAM (Selvaraju et al. 2017) on tokens: patches that hold what the score rises with."""

from torch import Tensor

from vitreous.explanation.activations import Activations, activations
from vitreous.explanation.method import Maps, Model
from vitreous.explanation.settings import Settings
from vitreous.explanation.targets import Target


def grad_cam(model: Model, images: Tensor, target: Target, settings: Settings) -> Maps:
    """(Σ_c w_c t_c)⁺ of each patch's token t into one layer, w the mean over patches of its gradient.

    Equations 1 and 2 of the paper, with a layer's tokens (the last layer by default) in place of a convolution's
    activations. One weight a channel says little where patches matter in different ways, as they do to
    a class token: `hires-cam` weighs each patch by its own gradient.

    Raises:
        InputError: there is no such layer, or the model's tokens between its blocks are not seen.
    """

    def weighed(found: Activations) -> Tensor:
        return (found.tokens * found.gradient.mean(1, keepdim=True)).sum(-1)

    return activations(model, images, target, settings).maps(weighed)
