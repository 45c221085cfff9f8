"""Attention of one layer (Vaswani et al. 2017), and attention times its gradient (Chefer et al. 2021)."""

from torch import Tensor

from vitreous.explanation.method import ExplainableModel, Maps
from vitreous.explanation.options import MethodOptions, resolve_index
from vitreous.explanation.streaming.attention_products import row_times_attention, row_times_positive
from vitreous.explanation.streaming.gradients import forward_scored, output_gradients
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.explanation.streaming.tokens import readout_row, to_grid
from vitreous.tasks.targets import Target


def attention(model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions) -> Maps:
    """Show the attention of one layer, for one head or over all heads combined; the same for every target.

    A model whose head pools the patches by attention shows the weights of that pooling, unless a layer, a head, a query
    or another `head_fusion` than the mean is given.

    Args:
        model: any observable model.
        images: (batch, channels, height, width), normalized.
        target: not used.
        options: layer, head, head_fusion and query.

    Raises:
        InputError: there is no such layer, head or patch.
    """
    trace = LightTrace(only=-1 if options.layer is None else options.layer)
    logits = model(images, trace)
    given = options.layer, options.head, options.query, options.head_fusion
    if given == (None, None, None, "mean") and has_learned_pooling(trace):
        assert trace.readout is not None
        return Maps(to_grid(trace.readout, trace), logits)
    layer = resolve_index("layer", -1 if options.layer is None else options.layer, trace.depth)
    heads = row_times_attention(readout_row(trace, options), trace.layers[0])
    head = None if options.head is None else resolve_index("head", options.head, heads.shape[1])
    return Maps(to_grid(fuse_heads(heads, options), trace), logits, layer, head)


def has_learned_pooling(trace: LightTrace) -> bool:
    """Return whether the head pools the patches by attention, with weights that differ between them."""
    assert trace.readout is not None and trace.layout is not None
    if not trace.has_attention_pooling:
        return False
    patches = trace.readout[:, trace.layout.num_prefix_tokens :]
    return bool((patches != patches[:, :1]).any())


def fuse_heads(heads: Tensor, options: MethodOptions) -> Tensor:
    """Select one head, or combine all heads, of weights (batch, heads, tokens): (batch, tokens)."""
    if options.head is not None:
        return heads[:, resolve_index("head", options.head, heads.shape[1])]
    if options.head_fusion == "mean":
        return heads.mean(1)
    return heads.amax(1) if options.head_fusion == "max" else heads.amin(1)


def attention_gradient(model: ExplainableModel, images: Tensor, target: Target, options: MethodOptions) -> Maps:
    """Compute the readout's row of the mean over heads of (∇A ∘ A)⁺ in one layer (Chefer et al. 2021, equation 5).

    Args:
        model: any observable model that gives gradients.
        images: (batch, channels, height, width), normalized.
        target: the score whose gradient ∇A is taken.
        options: layer and head.

    Raises:
        InputError: there is no such layer or head, or the model gives no gradient.
    """
    forward = forward_scored(model, images, target)
    records = forward.trace.records
    layer = resolve_index("layer", -1 if options.layer is None else options.layer, len(records))
    (gradient,) = output_gradients(forward.scores, [records[layer]])
    heads = row_times_positive(readout_row(forward.trace, options, target), records[layer], gradient)
    if options.head is None:
        return Maps(to_grid(heads.mean(1), forward.trace), forward.logits, layer)
    head = resolve_index("head", options.head, heads.shape[1])
    return Maps(to_grid(heads[:, head], forward.trace), forward.logits, layer, head)
