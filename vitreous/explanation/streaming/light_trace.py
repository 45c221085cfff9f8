"""A trace that keeps only what it takes to multiply rows by each layer's attention."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from vitreous.explanation.streaming.attention_products import is_full_precision
from vitreous.model.trace import AttentionRecord, Trace

MIN_TOKENS_TO_RECOMPUTE = 4096
"""From this number of tokens on, queries and keys are recomputed from the layer's input instead of being kept: half the
memory, for 1 to 6 % of the time of a forward pass, less with more tokens (LOG.md 2026-11-21)."""


@dataclass(frozen=True)
class LightRecord:
    """The attention of one layer: an AttentionRecord without values and output."""

    query_and_key: Callable[[], tuple[Tensor, Tensor]]
    scale: float
    weights: Tensor | None
    log_sums: Tensor | None


@dataclass
class LightTrace(Trace):
    """A trace that fills `layers` instead of `records`, and keeps no tokens."""

    only: int | None = None
    """The one layer to keep, counted from 0, negative ones from the end; None for all."""
    layers: list[LightRecord] = field(default_factory=list)
    depth: int = 0
    """The number of layers so far."""

    def on_attention(self, record: AttentionRecord) -> None:
        """Keep the attention of a layer; called by each attention layer, the first layer first."""
        self.depth += 1
        if self.only is not None and self.only >= 0 and self.only != self.depth - 1:
            return
        if self.only is not None and self.only < 0 and len(self.layers) == -self.only:
            del self.layers[0]
        weights = record.weights if _is_small(record) else None
        self.layers.append(LightRecord(_queries_and_keys(record), record.scale, weights, record.log_sums))

    def on_tokens(self, tokens: Tensor) -> None:
        """Keep nothing of the residual stream."""


def _is_small(record: AttentionRecord) -> bool:
    """Return whether the attention matrix is known and takes little more memory than queries and keys."""
    weights = record.weights
    return (
        weights is not None
        and is_full_precision(weights)
        and weights.numel() <= 2 * (record.query.numel() + record.key.numel())
    )


def _queries_and_keys(record: AttentionRecord) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return a function that gives the layer's queries and keys and keeps as little memory as pays off."""
    again = record.recompute_query_key
    # In half precision queries and keys are small, and recomputed ones would differ.
    if again is not None and record.query.shape[2] >= MIN_TOKENS_TO_RECOMPUTE and is_full_precision(record.query):
        return again
    if again is not None and _is_small(record):
        return again  # never called: the weights are at hand
    # Copies, because views of a joint tensor would also keep the values beside them.
    query, key = record.query.contiguous(), record.key.contiguous()
    return lambda: (query, key)
