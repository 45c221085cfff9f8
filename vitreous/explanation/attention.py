"""Attention of one layer: where the model's readout, or a chosen patch, looks there."""

from torch import Tensor

from vitreous.explanation.lean import LeanTrace
from vitreous.explanation.method import Maps, Model
from vitreous.explanation.rows import row_times_attention
from vitreous.explanation.settings import Settings, index
from vitreous.explanation.targets import Target
from vitreous.explanation.tokens import on_grid, starting_row


def attention(model: Model, images: Tensor, target: Target, settings: Settings) -> Maps:
    """One layer's attention, for one head or joined over heads; the same for every target.

    A model whose head weighs the patches itself (attention pooling) shows these weights where no layer, head, query or
    way to join heads but their mean is asked for.
    """
    trace = LeanTrace(only=-1 if settings.layer is None else settings.layer)
    logits = model(images, trace)
    asked = settings.layer, settings.head, settings.query, settings.fusion
    if asked == (None, None, None, "mean") and is_learned(trace):
        assert trace.readout is not None
        return Maps(on_grid(trace.readout, trace), logits)
    layer = index("layer", -1 if settings.layer is None else settings.layer, trace.depth)
    heads = row_times_attention(starting_row(trace, settings), trace.layers[0])
    head = None if settings.head is None else index("head", settings.head, heads.shape[1])
    return Maps(on_grid(joined(heads, settings), trace), logits, layer, head)


def is_learned(trace: LeanTrace) -> bool:
    """Whether the head reads the patches with weights of its own, which differ."""
    assert trace.readout is not None and trace.layout is not None
    patches = trace.readout[:, trace.layout.prefix :]
    return bool((patches != patches[:, :1]).any())


def joined(heads: Tensor, settings: Settings) -> Tensor:
    """One head's weights, or those of all (batch, heads, tokens), joined: (batch, tokens)."""
    if settings.head is not None:
        return heads[:, index("head", settings.head, heads.shape[1])]
    if settings.fusion == "mean":
        return heads.mean(1)
    return heads.amax(1) if settings.fusion == "max" else heads.amin(1)
