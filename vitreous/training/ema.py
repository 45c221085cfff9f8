"""A moving average of the weights, which is often better than the weights themselves."""

import copy

import torch

from vitreous.model.vit import ViT


class ModelEma:
    """Exponential moving average of a model's weights and buffers, itself a model (`model`).

    The decay is at most (1 + n) / (10 + n) after n updates, so that the first weights are soon forgotten
    (the rule of TensorFlow's ExponentialMovingAverage with num_updates).
    """

    def __init__(self, model: ViT, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def update(self, model: ViT, step: int) -> None:
        """Take in the weights after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)
