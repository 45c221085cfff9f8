"""What a forward pass records when it is observed."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class AttentionRecord:
    """What one attention layer computed: references to its own tensors, still on the autograd graph.

    The first four are (batch, heads, tokens, head width); the attention itself is A = softmax(scale · query keyᵀ), and
    `output` is A value, before the heads are merged (Vaswani et al. 2017, equation 1). Where only A is known of a
    wrapped model (a mask, a position bias), log A and the identity take the place of query and key, with scale 1. The
    others are by-products that save work where they are known, and None elsewhere.

    Attributes:
        weights: A itself (batch, heads, tokens, tokens), where the kernel computed it.
        log_sums: Logarithm of the sum of exp(scale · query keyᵀ) over the keys (batch, heads, tokens), from the fused
            kernel.
        projection: Weight of the output projection, which merges the heads: (width, heads × head width).
        inputs: The layer's input, normalized (batch, tokens, width).
        recompute_query_key: Computes query and key again from the layer's input, for a trace that keeps nothing but
            this.
        output_parts: Where a wrapped model computes the heads of a layer one by one, the tensors that `output` was
            joined from, in its order of heads: gradients reach these, not `output`.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    scale: float
    weights: Tensor | None = None
    log_sums: Tensor | None = None
    projection: Tensor | None = None
    inputs: Tensor | None = None
    recompute_query_key: Callable[[], tuple[Tensor, Tensor]] | None = None
    output_parts: tuple[Tensor, ...] = ()

    def query_and_key(self) -> tuple[Tensor, Tensor]:
        """Give the queries and keys that the weights are computed from."""
        return self.query, self.key


@dataclass(frozen=True)
class TokenLayout:
    """The order of the tokens: first those without a patch, then frames × rows × columns of patches, row by row."""

    num_prefix_tokens: int
    grid_height: int
    grid_width: int
    frames: int = 1

    @property
    def num_tokens(self) -> int:
        """The number of all tokens."""
        return self.num_prefix_tokens + self.frames * self.grid_height * self.grid_width


@dataclass
class Trace:
    """A recorder for one forward pass: pass it to the model, then read its fields. The one mutable record.

    This one keeps everything; a method that needs less brings its own, which takes less memory.

    Attributes:
        records: One for each layer, the first layer first.
        readout: (batch, tokens): the weight with which the model's head reads each token of the last layer: 1 at the
            class token, 1 / N at each patch for average pooling, or the weights of the attention pooling. Rows sum to
            1.
        tokens: The residual stream (batch, tokens, width): into the first block, then out of each block.
        has_attention_pooling: Whether `readout` holds the weights of an attention pooling, which differ by image.
        rollout_obstacle: Why attention can't be multiplied through the layers of this model; None if it can.
    """

    records: list[AttentionRecord] = field(default_factory=list)
    layout: TokenLayout | None = None
    readout: Tensor | None = None
    tokens: list[Tensor] = field(default_factory=list)
    has_attention_pooling: bool = False
    rollout_obstacle: str | None = None

    def on_attention(self, record: AttentionRecord) -> None:
        """Take the record of an attention layer; the layers call this in their order."""
        self.records.append(record)

    def on_tokens(self, tokens: Tensor) -> None:
        """Take the residual stream into the first block, and then out of each block."""
        self.tokens.append(tokens)
