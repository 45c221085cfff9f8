"""Tools that are wrong on purpose, each in one way: what the conformance test must catch."""

from collections.abc import Callable
from dataclasses import replace

import torch
from conforming.known_models import Known
from conforming.ours import OURS
from conforming.subject import Seen, Subject, Tool
from torch import Tensor, nn

from vitreous.explanation.streaming.attention_products import reference_attention
from vitreous.explanation.streaming.tokens import to_grid
from vitreous.model import kernels
from vitreous.model.trace import Trace

RIGHT = OURS[1]


def altered(change: Callable[[Seen, Known], Seen]) -> Subject:
    """Our rollout, what it saw being changed afterwards."""

    def open_tool(model: nn.Module, known: Known) -> Tool:
        tool = RIGHT.open(model, known)
        return Tool(lambda images: change(tool.look(images), known))

    return replace(RIGHT, open=open_tool)


def with_row(seen: Seen, row: Tensor, known: Known) -> Seen:
    """The same with other weights, cut and laid out as they should be."""
    return Seen(
        {"rollout": row}, {"rollout": row[:, known.config.num_prefix_tokens :].unflatten(1, known.config.grid_size)}
    )


def not_normalized(seen: Seen, known: Known) -> Seen:
    return with_row(seen, seen.rows["rollout"] * 1.1, known)


def transposed(seen: Seen, known: Known) -> Seen:
    grid = seen.grids["rollout"]
    return Seen(seen.rows, {"rollout": grid.transpose(1, 2).reshape(grid.shape)})


def prefix_included(seen: Seen, known: Known) -> Seen:
    patches = known.config.grid_size[0] * known.config.grid_size[1]
    return Seen(seen.rows, {"rollout": seen.rows["rollout"][:, :patches].unflatten(1, known.config.grid_size)})


def one_prefix_token(seen: Seen, known: Known) -> Seen:
    """Takes the class token for the only one that is no patch."""
    patches, first = known.config.grid_size[0] * known.config.grid_size[1], min(1, known.config.num_prefix_tokens)
    row = seen.rows["rollout"][:, first : first + patches]
    return Seen(seen.rows, {"rollout": row.unflatten(1, known.config.grid_size)})


def taken_for_square(seen: Seen, known: Known) -> Seen:
    side = int((known.config.grid_size[0] * known.config.grid_size[1]) ** 0.5)
    row = seen.rows["rollout"][:, known.config.num_prefix_tokens :][:, : side * side]
    return Seen(seen.rows, {"rollout": row.unflatten(1, (side, side))})


def from_matrices(join: Callable[[list[Tensor]], list[Tensor]], readout: Callable[[Trace], Tensor]) -> Subject:
    """Rollout from all matrices kept, as `join` arranges them and `readout` reads their product."""

    def open_tool(model: nn.Module, known: Known) -> Tool:
        def look(images: Tensor) -> Seen:
            with torch.no_grad():
                model(images, trace := Trace())
                row = readout(trace).float()[:, None]
                for matrix in reversed(join([reference_attention(record) for record in trace.records])):
                    row = (row + row @ matrix.mean(1)) / 2
            row = row.squeeze(1)
            return Seen({"rollout": row}, {"rollout": to_grid(row, trace)})

        return Tool(look)

    return replace(RIGHT, open=open_tool)


def their_readout(trace: Trace) -> Tensor:
    assert trace.readout is not None
    return trace.readout


def first_token(trace: Trace) -> Tensor:
    """Reads row 0, whether or not it is a class token's."""
    return torch.zeros_like(their_readout(trace)).index_fill(1, torch.tensor(0), 1.0)


def swapped(matrices: list[Tensor]) -> list[Tensor]:
    """Who is looked at takes the place of who looks."""
    return [matrix.transpose(2, 3) / matrix.sum(2)[..., None] for matrix in matrices]


def joined_by_maximum(matrices: list[Tensor]) -> list[Tensor]:
    largest = [matrix.amax(1, keepdim=True) for matrix in matrices]
    return [matrix / matrix.sum(-1, keepdim=True) for matrix in largest]


def by_layer(model: nn.Module, known: Known) -> Tool:
    """Our attention, its layers counted from the end."""
    tool = OURS[0].open(model, known)

    def look(images: Tensor) -> Seen:
        seen = tool.look(images)
        return Seen(seen.rows, seen.grids, seen.layers[::-1])

    return Tool(look)


def appending(model: nn.Module, known: Known) -> Tool:
    """Adds what it sees to what it saw."""
    tool, sums = RIGHT.open(model, known), []

    def look(images: Tensor) -> Seen:
        seen = tool.look(images)
        sums.append(seen.rows["rollout"])
        return with_row(seen, torch.stack(sums).mean(0), known)

    return Tool(look)


def leaving_a_hook(model: nn.Module, known: Known) -> Tool:
    model.register_forward_hook(lambda *_: None)
    return RIGHT.open(model, known)


def leaving_a_hook_after_an_error(model: nn.Module, known: Known) -> Tool:
    tool = RIGHT.open(model, known)

    def look(images: Tensor) -> Seen:
        hook = model.register_forward_hook(lambda *_: None)
        seen = tool.look(images)
        hook.remove()
        return seen

    return Tool(look)


def changing_the_mode(model: nn.Module, known: Known) -> Tool:
    return RIGHT.open(model.eval(), known)


def asking_for_gradients(model: nn.Module, known: Known) -> Tool:
    return RIGHT.open(model.requires_grad_(), known)


def rounding(model: nn.Module, known: Known) -> Tool:
    """Rounds its weights if the model is in bfloat16."""
    tool, half = RIGHT.open(model, known), next(model.parameters()).dtype == torch.bfloat16

    def look(images: Tensor) -> Seen:
        seen = tool.look(images)
        row = seen.rows["rollout"]
        return with_row(seen, (row * 64).round() / 64 if half else row, known)

    return Tool(look)


def written_out(model: nn.Module, known: Known) -> Tool:
    """Looks with the fused kernel off."""
    tool = RIGHT.open(model, known)

    def look(images: Tensor) -> Seen:
        usual = kernels.EAGER_MAX_TOKENS.copy()
        kernels.EAGER_MAX_TOKENS.update(dict.fromkeys(usual, 10**9))
        try:
            return tool.look(images)
        finally:
            kernels.EAGER_MAX_TOKENS.update(usual)

    return Tool(look)


ALL_ROWS = {"definition", "height ≠ width", "registers", "mean pooling"}
"""Checks that compare weights with the definition's."""

WRONG: dict[str, tuple[Subject, str, set[str]]] = {
    "rows not normalized": (altered(not_normalized), "row sums", ALL_ROWS | {"half precision"}),
    "layers reversed": (from_matrices(lambda them: them[::-1], their_readout), "layer order", ALL_ROWS | {"memory"}),
    "layers counted from the end": (replace(OURS[0], open=by_layer), "layer order", set()),
    "heads joined by the maximum": (from_matrices(joined_by_maximum, their_readout), "definition", {"memory"}),
    "queries and keys swapped": (
        from_matrices(swapped, their_readout),
        "definition",
        ALL_ROWS | {"layer order", "grid orientation", "memory"},
    ),
    "grid transposed": (altered(transposed), "grid orientation", ALL_ROWS),
    "prefix included": (altered(prefix_included), "registers", {"definition", "grid orientation", "height ≠ width"}),
    "registers included": (altered(one_prefix_token), "registers", set()),
    "taken for square": (altered(taken_for_square), "height ≠ width", set()),
    "row 0 read in any model": (from_matrices(list, first_token), "mean pooling", {"memory"}),
    "all matrices kept": (from_matrices(list, their_readout), "memory", set()),
    "appends to the first call": (replace(RIGHT, open=appending), "second call", set()),
    "leaves a hook": (replace(RIGHT, open=leaving_a_hook), "clean-up", set()),
    "leaves a hook after an error": (replace(RIGHT, open=leaving_a_hook_after_an_error), "clean-up", set()),
    "changes the mode": (replace(RIGHT, open=changing_the_mode), "clean-up", set()),
    "asks for gradients": (replace(RIGHT, open=asking_for_gradients), "clean-up", set()),
    "rounds in half precision": (replace(RIGHT, open=rounding), "half precision", set()),
    "fused kernel off": (replace(RIGHT, open=written_out), "fused kernel on", {"memory"}),
}
"""Name to the tool, the check that is there to catch it, and those that its fault shows in as well."""
