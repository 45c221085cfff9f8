"""Attention of one layer: where the model's readout, or a chosen patch, looks there."""

from torch import Tensor

from vitreous.explanation.method import Maps, Model
from vitreous.explanation.options import Settings, index
from vitreous.explanation.streaming.attention_products import row_times_attention, row_times_positive
from vitreous.explanation.streaming.gradients import gradients, scored
from vitreous.explanation.streaming.light_trace import LeanTrace
from vitreous.explanation.streaming.tokens import on_grid, starting_row
from vitreous.explanation.targets import Target


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


def attention_gradient(model: Model, images: Tensor, target: Target, settings: Settings) -> Maps:
    """The readout's row of the mean over heads of (∇A ∘ A)⁺ in one layer (Chefer et al. 2021, equation 5)."""
    run = scored(model, images, target)
    records = run.trace.records
    layer = index("layer", -1 if settings.layer is None else settings.layer, len(records))
    (gradient,) = gradients(run.scores, [records[layer].output])
    heads = row_times_positive(starting_row(run.trace, settings, target), records[layer], gradient)
    if settings.head is None:
        return Maps(on_grid(heads.mean(1), run.trace), run.logits, layer)
    head = index("head", settings.head, heads.shape[1])
    return Maps(on_grid(heads[:, head], run.trace), run.logits, layer, head)
