"""Vitreous as a subject: its methods on its own model, and `observe` on other libraries' models."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from conforming.known_models import Known
from conforming.subject import Seen, Subject, Tool
from vitreous.explanation.methods.attention import fuse_heads
from vitreous.explanation.methods.rollout import propagate
from vitreous.explanation.observation.observe import observe
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import METHODS
from vitreous.explanation.streaming.attention_products import row_times_attention
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.explanation.streaming.tokens import to_grid
from vitreous.explanation.targets import PredictedClassTarget
from vitreous.model.vit import ViT


def build_ours(known: Known) -> ViT:
    """Our ViT."""
    vit = ViT(known.config)
    vit.load_state_dict(dict(known.state))
    return vit.eval()


def method(name: str) -> Callable[[nn.Module, Known], Tool]:
    """A method of the table METHODS, in its usual settings."""

    def open_tool(model: nn.Module, known: Known) -> Tool:
        def look(images: Tensor) -> Seen:
            with torch.no_grad():
                grids = METHODS[name].attribute(model, images, PredictedClassTarget(), MethodOptions()).values
                model(images, trace := LightTrace())
            return _seen(trace, (name,), {name: grids})

        return Tool(look)

    return open_tool


def observed(model: nn.Module, known: Known) -> Tool:
    """`observe`: attention and rollout from one pass of anyone's model."""

    def look(images: Tensor) -> Seen:
        with torch.no_grad(), observe(model, trace := LightTrace()):
            model(images)
        seen = _seen(trace, ("attention", "rollout"), {})
        return Seen(seen.rows, {kind: to_grid(row, trace) for kind, row in seen.rows.items()}, seen.layers)

    return Tool(look)


def _seen(trace: LightTrace, kinds: tuple[str, ...], grids: dict[str, Tensor]) -> Seen:
    """Weights over all tokens, prefix included, beside the grids."""
    assert trace.readout is not None
    layers = [fuse_heads(row_times_attention(trace.readout, layer), MethodOptions()) for layer in trace.layers]
    rows = {kind: layers[-1] if kind == "attention" else propagate(trace.layers, trace.readout) for kind in kinds}
    return Seen(rows, grids, layers if "attention" in kinds else ())


OURS = (
    Subject("Vitreous `attention`", '`METHODS["attention"].explain(vit, ...)`', build_ours, method("attention")),
    Subject("Vitreous `rollout`", '`METHODS["rollout"].explain(vit, ...)`', build_ours, method("rollout")),
)
"""Our methods on our model: what the tests run."""
