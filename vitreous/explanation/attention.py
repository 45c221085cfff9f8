"""Attention of one layer: where the model's readout looks there, for one head or the mean over heads."""

from torch import Tensor

from vitreous.explanation.rows import row_times_attention
from vitreous.explanation.settings import Settings, index
from vitreous.model.trace import Trace


def attention(trace: Trace, settings: Settings) -> Tensor:
    """The readout's attention over all tokens (batch, tokens) in one layer; rows sum to 1.

    The readout is what the head reads: for a class token this is that token's row of softmax(q kᵀ / √d); for mean
    pooling, the mean of the patches' rows; for attention pooling, their mean with the pooling's own weights.
    """
    assert trace.readout is not None
    layer = index("layer", settings.layer, len(trace.records))
    heads = row_times_attention(trace.readout, trace.records[layer])
    if settings.head is None:
        return heads.mean(1)
    return heads[:, index("head", settings.head, heads.shape[1])]
