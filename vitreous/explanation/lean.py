"""A trace that keeps no more of a pass than it takes to multiply rows by each layer's attention."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from vitreous.explanation.rows import is_exact
from vitreous.model.trace import AttentionRecord, Trace

RECOMPUTED_TOKENS = 4096
"""From so many tokens on, queries and keys are computed again from the layer's input instead of being kept: half the
memory, for 1 to 6 % of a pass, less the more tokens there are (LOG.md 2026-11-21)."""


@dataclass(frozen=True)
class LeanRecord:
    """One layer's attention: as AttentionRecord, without values and output."""

    query_and_key: Callable[[], tuple[Tensor, Tensor]]
    scale: float
    weights: Tensor | None
    log_sums: Tensor | None


@dataclass
class LeanTrace(Trace):
    """Fills `layers` instead of `records`, and keeps no residual stream."""

    layers: list[LeanRecord] = field(default_factory=list)

    def attended(self, record: AttentionRecord) -> None:
        """Called by each attention layer, the first layer first."""
        self.layers.append(LeanRecord(_queries_and_keys(record), record.scale, record.weights, record.log_sums))

    def passed(self, tokens: Tensor) -> None:
        """Called with the residual stream, which is not needed."""


def _queries_and_keys(record: AttentionRecord) -> Callable[[], tuple[Tensor, Tensor]]:
    """A way to the layer's queries and keys that holds on to as little as pays."""
    if record.again is not None and record.query.shape[2] >= RECOMPUTED_TOKENS:
        return record.again
    if record.again is not None and record.weights is not None and is_exact(record.weights):
        return record.again  # never called: the weights are at hand
    query, key = record.query, record.key
    return lambda: (query, key)
