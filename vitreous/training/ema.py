"""EMA: an exponential moving average of the weights, which often classifies better than the weights themselves."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class ModelEma(AveragedModel):
    """The exponential moving average of a model's weights and buffers; `module` is the averaged model.

    Update n uses a decay of at most (1 + n) / (10 + n), so that the first weights are soon forgotten (the rule of
    TensorFlow's ExponentialMovingAverage with num_updates).

    >>> model = nn.Linear(1, 1, bias=False).requires_grad_(False)
    >>> ema = ModelEma(model.apply(lambda layer: nn.init.zeros_(layer.weight)), decay=0.999)
    >>> ema.update_parameters(model.apply(lambda layer: nn.init.ones_(layer.weight)))
    >>> round(ema.module.weight.item(), 4)  # the decay of the first update is 2 / 11
    0.8182
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=self._average, use_buffers=True)
        self.decay = decay
        self.set_step(0)
        self.eval().requires_grad_(requires_grad=False)

    def set_step(self, step: int) -> None:
        """Continue after `step` updates."""
        # torch copies the weights where its count is 0: the average starts from the initial weights, so count from 1.
        self.n_averaged.fill_(step + 1)

    @torch.no_grad()
    def _average(self, averages: Sequence[Tensor], values: Sequence[Tensor], _: Tensor | int) -> None:
        """Update tensors of one device and type in place."""
        count = int(self.n_averaged)  # on the CPU, wherever the model is: no wait for a GPU
        decay = min(self.decay, (1 + count) / (10 + count))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(list(averages), list(values), 1 - decay)
        else:
            torch._foreach_copy_(list(averages), list(values))
