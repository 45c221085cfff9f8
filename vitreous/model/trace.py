"""What a forward pass leaves behind when it is observed."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class AttentionRecord:
    """What one attention layer computed: references to its own tensors, still on the autograd graph.

    The first four are (batch, heads, tokens, head width); the attention itself is A = softmax(scale · query keyᵀ), and
    `output` is A value, before the heads are joined (Vaswani et al. 2017, equation 1). Where of another's model only A
    can be known (a mask, a bias of positions), log A and the identity stand for query and key, with scale 1. The others
    are by-products that spare work where they are known, and None elsewhere.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    scale: float
    weights: Tensor | None = None
    """A itself (batch, heads, tokens, tokens), where the kernel wrote it out."""
    log_sums: Tensor | None = None
    """Logarithm of the sum of exp(scale · query keyᵀ) over the keys (batch, heads, tokens): the fused kernel's."""
    projection: Tensor | None = None
    """Weight of the linear map that joins the heads: (width, heads × head width)."""
    inputs: Tensor | None = None
    """The layer's input, normalized (batch, tokens, width)."""
    recompute_query_key: Callable[[], tuple[Tensor, Tensor]] | None = None
    """Computes query and key once more from the layer's input, for those who keep nothing but this."""

    def query_and_key(self) -> tuple[Tensor, Tensor]:
        """What the weights are computed from."""
        return self.query, self.key


@dataclass(frozen=True)
class TokenLayout:
    """Where a token stands: `prefix` tokens first, then frames × grid height × grid width patches, row by row."""

    num_prefix_tokens: int
    grid_height: int
    grid_width: int
    frames: int = 1

    @property
    def num_tokens(self) -> int:
        """Tokens in all."""
        return self.num_prefix_tokens + self.frames * self.grid_height * self.grid_width


@dataclass
class Trace:
    """The one mutable record: pass it to a forward pass, then read from it.

    This one keeps all; an explanation that needs less has a trace of its own, which takes less.
    """

    records: list[AttentionRecord] = field(default_factory=list)
    """One a layer, the first layer first."""
    layout: TokenLayout | None = None
    readout: Tensor | None = None
    """(batch, tokens): the weight with which the model's head reads each token of the last layer: one at the class
    token, one over N at the patches for mean pooling, or the weights of the pooling attention. Rows sum to 1."""
    tokens: list[Tensor] = field(default_factory=list)
    """The residual stream (batch, tokens, width): into the first block, then out of each block."""

    def on_attention(self, record: AttentionRecord) -> None:
        """Called by each attention layer, the first layer first."""
        self.records.append(record)

    def on_tokens(self, tokens: Tensor) -> None:
        """Called with the residual stream into the first block, and out of each block."""
        self.tokens.append(tokens)
