"""Vitreous as a subject: its methods on its own model, and `observe` on other libraries' models."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from conformance_suite.known_models import KnownModel
from conformance_suite.subject import Subject, Tool, ToolOutput
from vitreous.explanation.methods.attention import fuse_heads
from vitreous.explanation.methods.rollout import propagate
from vitreous.explanation.observation.observe import observe
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import METHODS
from vitreous.explanation.streaming.attention_products import row_times_attention
from vitreous.explanation.streaming.light_trace import LightTrace
from vitreous.explanation.streaming.tokens import to_grid
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import PredictedClassTarget


def build_vitreous(known: KnownModel) -> ViT:
    """Our ViT."""
    vit = ViT(known.config)
    vit.load_state_dict(dict(known.state))
    return vit.eval()


def method(name: str) -> Callable[[nn.Module, KnownModel], Tool]:
    """A method of the table METHODS, in its usual settings."""

    def open_tool(model: nn.Module, known: KnownModel) -> Tool:
        def explain(images: Tensor) -> ToolOutput:
            with torch.no_grad():
                grids = METHODS[name].attribute(model, images, PredictedClassTarget(), MethodOptions()).values
                model(images, trace := LightTrace())
            return _output_of(trace, (name,), {name: grids})

        return Tool(explain)

    return open_tool


def observed(model: nn.Module, known: KnownModel) -> Tool:
    """`observe`: attention and rollout from one pass of anyone's model."""

    def explain(images: Tensor) -> ToolOutput:
        with torch.no_grad(), observe(model, trace := LightTrace()):
            model(images)
        seen = _output_of(trace, ("attention", "rollout"), {})
        return ToolOutput(seen.rows, {kind: to_grid(row, trace) for kind, row in seen.rows.items()}, seen.layers)

    return Tool(explain)


def _output_of(trace: LightTrace, kinds: tuple[str, ...], grids: dict[str, Tensor]) -> ToolOutput:
    """Weights over all tokens, prefix included, beside the grids."""
    assert trace.readout is not None
    layers = [fuse_heads(row_times_attention(trace.readout, layer), MethodOptions()) for layer in trace.layers]
    rows = {kind: layers[-1] if kind == "attention" else propagate(trace.layers, trace.readout) for kind in kinds}
    return ToolOutput(rows, grids, layers if "attention" in kinds else ())


VITREOUS_TOOLS = (
    Subject("Vitreous `attention`", '`METHODS["attention"].attribute(vit, ...)`', build_vitreous, method("attention")),
    Subject("Vitreous `rollout`", '`METHODS["rollout"].attribute(vit, ...)`', build_vitreous, method("rollout")),
)
"""Our methods on our model: what the tests run."""
