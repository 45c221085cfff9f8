"""What a forward pass leaves behind when it is observed."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class AttentionRecord:
    """What one attention layer computed: references to its own tensors, still on the autograd graph.

    All four are (batch, heads, tokens, head width); the attention itself is softmax(scale · query keyᵀ) and
    `output` is that times `value`, before the heads are joined (Vaswani et al. 2017, equation 1).
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    scale: float


@dataclass(frozen=True)
class TokenLayout:
    """Where a token stands: `prefix` tokens first, then frames × grid height × grid width patches, row by row."""

    prefix: int
    grid_height: int
    grid_width: int
    frames: int = 1

    @property
    def tokens(self) -> int:
        """Tokens in all."""
        return self.prefix + self.frames * self.grid_height * self.grid_width


@dataclass
class Trace:
    """The one mutable record: pass it to a forward pass, then read from it.

    `readout` (batch, tokens) is the weight with which the model's head reads each token of the last layer: one at the
    class token, one over N at the patches for mean pooling, or the weights of the pooling attention. Rows sum to 1.
    """

    records: list[AttentionRecord] = field(default_factory=list)
    layout: TokenLayout | None = None
    readout: Tensor | None = None
