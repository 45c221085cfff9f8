"""Normalization of the numbers in a token, or in a head."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitreous.model.config import ViTConfig


class RMSNorm(nn.Module):
    """Divide by the root mean square (Zhang and Sennrich 2019, equation 4), times a learned factor.

    torch's own module warns, and takes a slow way, where it meets bfloat16 numbers and float32 factors.
    """

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, numbers: Tensor) -> Tensor:
        """(..., width) to the same shape and precision."""
        return functional.rms_norm(numbers, self.weight.shape, self.weight.to(numbers.dtype), self.epsilon)


def build_norm(config: ViTConfig) -> nn.Module:
    """The normalization that the configuration names, over the channels of a token."""
    norm = nn.LayerNorm if config.norm == "layer" else RMSNorm
    return norm(config.width, config.norm_epsilon)
