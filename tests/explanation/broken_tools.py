"""Tools that are wrong on purpose, each in one way: what the conformance test must catch."""

from collections.abc import Callable
from dataclasses import replace

import torch
from conformance_suite.known_models import KnownModel
from conformance_suite.subject import Subject, Tool, ToolOutput
from conformance_suite.vitreous_tool import VITREOUS_TOOLS
from torch import Tensor, nn

from vitreous.explanation.streaming.attention_products import reference_attention
from vitreous.explanation.streaming.tokens import to_grid
from vitreous.model import kernels
from vitreous.model.trace import Trace

RIGHT = VITREOUS_TOOLS[1]


def altered(change: Callable[[ToolOutput, KnownModel], ToolOutput]) -> Subject:
    """Our rollout, what it saw being changed afterwards."""

    def open_tool(model: nn.Module, known: KnownModel) -> Tool:
        tool = RIGHT.open(model, known)
        return Tool(lambda images: change(tool.explain(images), known))

    return replace(RIGHT, open=open_tool)


def with_row(seen: ToolOutput, row: Tensor, known: KnownModel) -> ToolOutput:
    """The same with other weights, cut and laid out as they should be."""
    return ToolOutput(
        {"rollout": row}, {"rollout": row[:, known.config.num_prefix_tokens :].unflatten(1, known.config.grid_size)}
    )


def not_normalized(seen: ToolOutput, known: KnownModel) -> ToolOutput:
    return with_row(seen, seen.rows["rollout"] * 1.1, known)


def transposed(seen: ToolOutput, known: KnownModel) -> ToolOutput:
    grid = seen.grids["rollout"]
    return ToolOutput(seen.rows, {"rollout": grid.transpose(1, 2).reshape(grid.shape)})


def prefix_included(seen: ToolOutput, known: KnownModel) -> ToolOutput:
    patches = known.config.grid_size[0] * known.config.grid_size[1]
    return ToolOutput(seen.rows, {"rollout": seen.rows["rollout"][:, :patches].unflatten(1, known.config.grid_size)})


def one_prefix_token(seen: ToolOutput, known: KnownModel) -> ToolOutput:
    """Takes the class token for the only one that is no patch."""
    patches, first = known.config.grid_size[0] * known.config.grid_size[1], min(1, known.config.num_prefix_tokens)
    row = seen.rows["rollout"][:, first : first + patches]
    return ToolOutput(seen.rows, {"rollout": row.unflatten(1, known.config.grid_size)})


def taken_for_square(seen: ToolOutput, known: KnownModel) -> ToolOutput:
    side = int((known.config.grid_size[0] * known.config.grid_size[1]) ** 0.5)
    row = seen.rows["rollout"][:, known.config.num_prefix_tokens :][:, : side * side]
    return ToolOutput(seen.rows, {"rollout": row.unflatten(1, (side, side))})


def from_matrices(join: Callable[[list[Tensor]], list[Tensor]], readout: Callable[[Trace], Tensor]) -> Subject:
    """Rollout from all matrices kept, as `join` arranges them and `readout` reads their product."""

    def open_tool(model: nn.Module, known: KnownModel) -> Tool:
        def explain(images: Tensor) -> ToolOutput:
            with torch.no_grad():
                model(images, trace := Trace())
                row = readout(trace).float()[:, None]
                for matrix in reversed(join([reference_attention(record) for record in trace.records])):
                    row = (row + row @ matrix.mean(1)) / 2
            row = row.squeeze(1)
            return ToolOutput({"rollout": row}, {"rollout": to_grid(row, trace)})

        return Tool(explain)

    return replace(RIGHT, open=open_tool)


def model_readout(trace: Trace) -> Tensor:
    assert trace.readout is not None
    return trace.readout


def first_token(trace: Trace) -> Tensor:
    """Reads row 0, whether or not it is a class token's."""
    return torch.zeros_like(model_readout(trace)).index_fill(1, torch.tensor(0), 1.0)


def swapped(matrices: list[Tensor]) -> list[Tensor]:
    """Who is looked at takes the place of who looks."""
    return [matrix.transpose(2, 3) / matrix.sum(2)[..., None] for matrix in matrices]


def fused_by_maximum(matrices: list[Tensor]) -> list[Tensor]:
    largest = [matrix.amax(1, keepdim=True) for matrix in matrices]
    return [matrix / matrix.sum(-1, keepdim=True) for matrix in largest]


def by_layer(model: nn.Module, known: KnownModel) -> Tool:
    """Our attention, its layers counted from the end."""
    tool = VITREOUS_TOOLS[0].open(model, known)

    def explain(images: Tensor) -> ToolOutput:
        seen = tool.explain(images)
        return ToolOutput(seen.rows, seen.grids, seen.layers[::-1])

    return Tool(explain)


def appending(model: nn.Module, known: KnownModel) -> Tool:
    """Adds what it sees to what it saw."""
    tool, sums = RIGHT.open(model, known), []

    def explain(images: Tensor) -> ToolOutput:
        seen = tool.explain(images)
        sums.append(seen.rows["rollout"])
        return with_row(seen, torch.stack(sums).mean(0), known)

    return Tool(explain)


def leaving_a_hook(model: nn.Module, known: KnownModel) -> Tool:
    model.register_forward_hook(lambda *_: None)
    return RIGHT.open(model, known)


def leaving_a_hook_after_an_error(model: nn.Module, known: KnownModel) -> Tool:
    tool = RIGHT.open(model, known)

    def explain(images: Tensor) -> ToolOutput:
        hook = model.register_forward_hook(lambda *_: None)
        seen = tool.explain(images)
        hook.remove()
        return seen

    return Tool(explain)


def changing_the_mode(model: nn.Module, known: KnownModel) -> Tool:
    return RIGHT.open(model.eval(), known)


def asking_for_gradients(model: nn.Module, known: KnownModel) -> Tool:
    return RIGHT.open(model.requires_grad_(), known)


def rounding(model: nn.Module, known: KnownModel) -> Tool:
    """Rounds its weights if the model is in bfloat16."""
    tool, half = RIGHT.open(model, known), next(model.parameters()).dtype == torch.bfloat16

    def explain(images: Tensor) -> ToolOutput:
        seen = tool.explain(images)
        row = seen.rows["rollout"]
        return with_row(seen, (row * 32).round() / 32 if half else row, known)

    return Tool(explain)


def without_fused_kernel(model: nn.Module, known: KnownModel) -> Tool:
    """Looks with the fused kernel off."""
    tool = RIGHT.open(model, known)

    def explain(images: Tensor) -> ToolOutput:
        usual = kernels.EAGER_MAX_TOKENS.copy()
        kernels.EAGER_MAX_TOKENS.update(dict.fromkeys(usual, 10**9))
        try:
            return tool.explain(images)
        finally:
            kernels.EAGER_MAX_TOKENS.update(usual)

    return Tool(explain)


ALL_ROWS = {"definition", "height ≠ width", "registers", "mean pooling"}
"""Checks that compare weights with the definition's."""

WRONG: dict[str, tuple[Subject, str, set[str]]] = {
    "rows not normalized": (altered(not_normalized), "row sums", ALL_ROWS | {"half precision"}),
    "layers reversed": (from_matrices(lambda them: them[::-1], model_readout), "layer order", ALL_ROWS | {"memory"}),
    "layers counted from the end": (replace(VITREOUS_TOOLS[0], open=by_layer), "layer order", set()),
    "heads joined by the maximum": (from_matrices(fused_by_maximum, model_readout), "definition", {"memory"}),
    "queries and keys swapped": (
        from_matrices(swapped, model_readout),
        "definition",
        ALL_ROWS | {"layer order", "grid orientation", "memory"},
    ),
    "grid transposed": (altered(transposed), "grid orientation", ALL_ROWS),
    "prefix included": (altered(prefix_included), "registers", {"definition", "grid orientation", "height ≠ width"}),
    "registers included": (altered(one_prefix_token), "registers", set()),
    "taken for square": (altered(taken_for_square), "height ≠ width", set()),
    "row 0 read in any model": (from_matrices(list, first_token), "mean pooling", {"memory"}),
    "all matrices kept": (from_matrices(list, model_readout), "memory", set()),
    "appends to the first call": (replace(RIGHT, open=appending), "second call", set()),
    "leaves a hook": (replace(RIGHT, open=leaving_a_hook), "clean-up", set()),
    "leaves a hook after an error": (replace(RIGHT, open=leaving_a_hook_after_an_error), "clean-up", set()),
    "changes the mode": (replace(RIGHT, open=changing_the_mode), "clean-up", set()),
    "asks for gradients": (replace(RIGHT, open=asking_for_gradients), "clean-up", set()),
    "rounds in half precision": (replace(RIGHT, open=rounding), "half precision", set()),
    "fused kernel off": (replace(RIGHT, open=without_fused_kernel), "fused kernel on", {"memory"}),
}
"""Name to the tool, the check that is there to catch it, and those that its fault shows in as well."""
