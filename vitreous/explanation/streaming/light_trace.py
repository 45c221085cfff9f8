"""A trace that keeps no more of a pass than it takes to multiply rows by each layer's attention."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from vitreous.explanation.streaming.attention_products import is_full_precision
from vitreous.model.trace import AttentionRecord, Trace

MIN_TOKENS_TO_RECOMPUTE = 4096
"""From so many tokens on, queries and keys are computed again from the layer's input instead of being kept: half the
memory, for 1 to 6 % of a pass, less the more tokens there are (LOG.md 2026-11-21)."""


@dataclass(frozen=True)
class LightRecord:
    """One layer's attention: as AttentionRecord, without values and output."""

    query_and_key: Callable[[], tuple[Tensor, Tensor]]
    scale: float
    weights: Tensor | None
    log_sums: Tensor | None


@dataclass
class LightTrace(Trace):
    """Fills `layers` instead of `records`, and keeps no residual stream."""

    only: int | None = None
    """The one layer to keep, counted from 0, negative ones from the end; None for all."""
    layers: list[LightRecord] = field(default_factory=list)
    depth: int = 0
    """Layers seen."""

    def on_attention(self, record: AttentionRecord) -> None:
        """Called by each attention layer, the first layer first."""
        self.depth += 1
        if self.only is not None and self.only >= 0 and self.only != self.depth - 1:
            return
        if self.only is not None and self.only < 0 and len(self.layers) == -self.only:
            del self.layers[0]
        weights = record.weights if _is_small(record) else None
        self.layers.append(LightRecord(_queries_and_keys(record), record.scale, weights, record.log_sums))

    def on_tokens(self, tokens: Tensor) -> None:
        """Called with the residual stream, which is not needed."""


def _is_small(record: AttentionRecord) -> bool:
    """Whether the whole matrix, where the kernel wrote it out, takes little more memory than queries and keys."""
    weights = record.weights
    return (
        weights is not None and is_full_precision(weights) and weights.numel() <= 2 * (record.query.numel() + record.key.numel())
    )


def _queries_and_keys(record: AttentionRecord) -> Callable[[], tuple[Tensor, Tensor]]:
    """A way to the layer's queries and keys that holds on to as little as pays."""
    # Of a pass in half precision queries and keys are small, and what is computed again would be others.
    if record.recompute_query_key is not None and record.query.shape[2] >= MIN_TOKENS_TO_RECOMPUTE and is_full_precision(record.query):
        return record.recompute_query_key
    if record.recompute_query_key is not None and _is_small(record):
        return record.recompute_query_key  # never called: the weights are at hand
    # Copies of their own, because views of a joint tensor would hold on to the values beside them.
    query, key = record.query.contiguous(), record.key.contiguous()
    return lambda: (query, key)
