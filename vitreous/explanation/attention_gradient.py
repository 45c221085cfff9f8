"""Attention of one layer, weighted by its gradient: where looking raises the score."""

from torch import Tensor

from vitreous.explanation.gradient_rows import row_times_positive
from vitreous.explanation.gradients import gradients, scored
from vitreous.explanation.method import Maps, Model
from vitreous.explanation.settings import Settings, index
from vitreous.explanation.targets import Target
from vitreous.explanation.tokens import on_grid, starting_row


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
