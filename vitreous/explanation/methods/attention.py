"""Attention of one layer: where the model's readout, or a chosen patch, looks there."""

from torch import Tensor

from vitreous.explanation.method import ExplainableModel, Maps
from vitreous.explanation.options import MethodOptions, resolve_index
from vitreous.explanation.streaming.attention_products import row_times_attention, row_times_positive
from vitreous.explanation.streaming.gradients import forward_scored, score_gradients
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.explanation.streaming.tokens import readout_row, to_grid
from vitreous.explanation.targets import Target


def attention(model: ExplainableModel, images: Tensor, target: Target, settings: MethodOptions) -> Maps:
    """One layer's attention, for one head or joined over heads; the same for every target.

    A model whose head weighs the patches itself (attention pooling) shows these weights where no layer, head, query or
    way to join heads but their mean is asked for.
    """
    trace = LightTrace(only=-1 if settings.layer is None else settings.layer)
    logits = model(images, trace)
    asked = settings.layer, settings.head, settings.query, settings.head_fusion
    if asked == (None, None, None, "mean") and has_learned_pooling(trace):
        assert trace.readout is not None
        return Maps(to_grid(trace.readout, trace), logits)
    layer = resolve_index("layer", -1 if settings.layer is None else settings.layer, trace.depth)
    heads = row_times_attention(readout_row(trace, settings), trace.layers[0])
    head = None if settings.head is None else resolve_index("head", settings.head, heads.shape[1])
    return Maps(to_grid(fuse_heads(heads, settings), trace), logits, layer, head)


def has_learned_pooling(trace: LightTrace) -> bool:
    """Whether the head reads the patches with weights of its own, which differ."""
    assert trace.readout is not None and trace.layout is not None
    patches = trace.readout[:, trace.layout.num_prefix_tokens :]
    return bool((patches != patches[:, :1]).any())


def fuse_heads(heads: Tensor, settings: MethodOptions) -> Tensor:
    """One head's weights, or those of all (batch, heads, tokens), joined: (batch, tokens)."""
    if settings.head is not None:
        return heads[:, resolve_index("head", settings.head, heads.shape[1])]
    if settings.head_fusion == "mean":
        return heads.mean(1)
    return heads.amax(1) if settings.head_fusion == "max" else heads.amin(1)


def attention_gradient(model: ExplainableModel, images: Tensor, target: Target, settings: MethodOptions) -> Maps:
    """The readout's row of the mean over heads of (∇A ∘ A)⁺ in one layer (Chefer et al. 2021, equation 5)."""
    run = forward_scored(model, images, target)
    records = run.trace.records
    layer = resolve_index("layer", -1 if settings.layer is None else settings.layer, len(records))
    (gradient,) = score_gradients(run.scores, [records[layer].output])
    heads = row_times_positive(readout_row(run.trace, settings, target), records[layer], gradient)
    if settings.head is None:
        return Maps(to_grid(heads.mean(1), run.trace), run.logits, layer)
    head = resolve_index("head", settings.head, heads.shape[1])
    return Maps(to_grid(heads[:, head], run.trace), run.logits, layer, head)
