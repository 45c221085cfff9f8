"""HiResCAM (Draelos and Carin 2020) on tokens: patches that raise the score by what they hold."""

from torch import Tensor

from vitreous.explanation.activations import Activations, activations
from vitreous.explanation.method import Maps, Model
from vitreous.explanation.settings import Settings
from vitreous.explanation.targets import Target


def hires_cam(model: Model, images: Tensor, target: Target, settings: Settings) -> Maps:
    """(Σ_c g_c t_c)⁺ of each patch's token t into one layer, g the score's gradient there.

    Grad-CAM without the mean over places, with a layer's tokens (the last layer by default) in place of a convolution's
    activations.

    Raises:
        InputError: there is no such layer, or the model's tokens between its blocks are not seen.
    """

    def weighed(found: Activations) -> Tensor:
        return (found.tokens * found.gradient).sum(-1)

    return activations(model, images, target, settings, behind_norm=True).maps(weighed)
