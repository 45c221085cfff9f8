"""SmoothGrad (Smilkov et al. 2017): input times gradient, with the gradient averaged over noisy copies."""

import math

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.gradients import weighted_gradient
from vitreous.explanation.method import Maps, Model
from vitreous.explanation.rows import exact
from vitreous.explanation.settings import Settings
from vitreous.explanation.targets import Target
from vitreous.runtime import seed_for

SAMPLES, NOISE = 32, 0.15


def smoothgrad(model: Model, images: Tensor, target: Target, settings: Settings) -> Maps:
    """Σ over channels of x · mean of ∂s/∂x over copies x + noise (section 3), a signed number a pixel.

    The noise is normal, with a standard deviation of `noise` times the range of the image's values. All images
    get the same draws, so what one gets doesn't depend on those beside it.
    """
    samples = SAMPLES if settings.samples is None else settings.samples
    noise = NOISE if settings.noise is None else settings.noise
    _check(samples, noise)
    logits = model(images)
    spread = noise * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))

    def copy(sample: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed_for(settings.seed, "smoothgrad", sample))
        return images + spread * torch.randn(images.shape[1:], generator=generator).to(images)

    gradient = weighted_gradient(
        model, target.fixed(logits), copy, torch.full((samples,), 1 / samples, dtype=torch.float64)
    )
    return Maps((exact(images) * gradient).sum(1), logits)


def _check(samples: int, noise: float) -> None:
    if samples < 1:
        raise InputError(f"a mean over {samples} samples can't be taken: give 1 or more")
    if not 0 <= noise < math.inf:
        raise InputError(f"noise {noise} is no standard deviation: give 0 or more, such as 0.15")
