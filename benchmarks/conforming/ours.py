"""Vitreous as a subject: its methods on its own model, and `observe` on other libraries' models."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from conforming.known_models import Known
from conforming.subject import Seen, Subject, Tool
from vitreous.explanation.methods.attention import joined
from vitreous.explanation.methods.rollout import roll
from vitreous.explanation.observation.observe import observe
from vitreous.explanation.options import Settings
from vitreous.explanation.registry import METHODS
from vitreous.explanation.streaming.attention_products import row_times_attention
from vitreous.explanation.streaming.light_trace import LeanTrace
from vitreous.explanation.streaming.tokens import on_grid
from vitreous.explanation.targets import Predicted
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
                grids = METHODS[name].explain(model, images, Predicted(), Settings()).grids
                model(images, trace := LeanTrace())
            return _seen(trace, (name,), {name: grids})

        return Tool(look)

    return open_tool


def observed(model: nn.Module, known: Known) -> Tool:
    """`observe`: attention and rollout from one pass of anyone's model."""

    def look(images: Tensor) -> Seen:
        with torch.no_grad(), observe(model, trace := LeanTrace()):
            model(images)
        seen = _seen(trace, ("attention", "rollout"), {})
        return Seen(seen.rows, {kind: on_grid(row, trace) for kind, row in seen.rows.items()}, seen.layers)

    return Tool(look)


def _seen(trace: LeanTrace, kinds: tuple[str, ...], grids: dict[str, Tensor]) -> Seen:
    """Weights over all tokens, prefix included, beside the grids."""
    assert trace.readout is not None
    layers = [joined(row_times_attention(trace.readout, layer), Settings()) for layer in trace.layers]
    rows = {kind: layers[-1] if kind == "attention" else roll(trace.layers, trace.readout) for kind in kinds}
    return Seen(rows, grids, layers if "attention" in kinds else ())


OURS = (
    Subject("Vitreous `attention`", '`METHODS["attention"].explain(vit, ...)`', build_ours, method("attention")),
    Subject("Vitreous `rollout`", '`METHODS["rollout"].explain(vit, ...)`', build_ours, method("rollout")),
)
"""Our methods on our model: what the tests run."""
