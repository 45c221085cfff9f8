"""The table of checks: each takes a subject, and says how far its maps are from what is known."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from conformance_suite.definition import Reference, expected_output, reference
from conformance_suite.known_models import CHAIN, LARGE, MEAN, OBLONG, PLAIN, REGISTERS, SQUARE, KnownModel
from conformance_suite.memory_meter import MemoryMeter, fused_images_of
from conformance_suite.model_state import model_state, raising_in_forward
from conformance_suite.subject import NoMap, NotApplicable, OtherModelError, Subject, ToolOutput
from vitreous.explanation.observation.model_output import extract_logits

EXACT, HALF = 1e-5, 1e-2
"""Largest difference of a float32 map from the definition in float64; largest error of a bfloat16 map's row sum."""


@dataclass(frozen=True)
class Outcome:
    """One cell of the table."""

    mark: Literal["pass", "FAIL", "n/a", "no map"]
    number: str = ""
    """What was measured, where it is a number."""
    note: str = ""
    """What came back, or why the check has no meaning here."""


def outcome_of(good: bool, number: str, note: str = "") -> Outcome:
    """Pass or FAIL by what was measured."""
    return Outcome("pass" if good else "FAIL", number, "" if good else note)


def run_tool(subject: Subject, known: KnownModel) -> ToolOutput:
    """What a tool newly opened on the model sees."""
    tool = subject.open(build_checked(subject, known), known)
    try:
        return tool.explain(known.images)
    finally:
        tool.close()


def build_checked(subject: Subject, known: KnownModel) -> nn.Module:
    """The library's model, which must answer as the definition does, or the subject would be wronged.

    Raises:
        OtherModelError: it doesn't.
    """
    model = subject.build(known)
    with torch.no_grad():
        answers = extract_logits(model(known.images)).double()
    if not torch.allclose(answers, expected_output(known), atol=1e-3):
        raise OtherModelError(f"{subject.name}: not the model that is known")
    return model


def patches_of(grid: Tensor, known: KnownModel) -> Tensor:
    """A map (batch, rows, columns), of patches or of the image's pixels, as one number a patch.

    Raises:
        ValueError: it is neither.
    """
    rows, columns = known.config.grid_size
    if grid.shape[1:] == known.config.image_size:
        grid = grid.unflatten(1, (rows, -1)).unflatten(3, (columns, -1)).mean((2, 4))
    if grid.shape[1:] != (rows, columns):
        raise ValueError(f"a map of {grid.shape[1]} × {grid.shape[2]} for {rows} × {columns} patches")
    return grid


def definition(subject: Subject) -> Outcome:
    """The attention rows agree with the definition in float64."""
    seen = run_tool(subject, PLAIN)
    return _agreement(seen, PLAIN)


def _agreement(seen: ToolOutput, known: KnownModel) -> Outcome:
    """Rows, and grids that hold the same weights, against the definition."""
    exact = reference(known, known.images)
    prefix, grid_hw = known.config.num_prefix_tokens, known.config.grid_size
    pairs = [(kind, row, exact.row(kind)) for kind, row in seen.rows.items()]
    for kind, grid in seen.grids.items():
        if grid.shape[1:] != known.config.image_size:
            pairs.append((f"the grid of {kind}", grid, exact.row(kind)[:, prefix:].unflatten(1, grid_hw)))
    for kind, found, expected in pairs:
        if found.shape != expected.shape:
            return Outcome("FAIL", "", f"{kind} is of shape {tuple(found.shape)}, not {tuple(expected.shape)}")
    errors = {kind: (found.double() - expected).abs().max().item() for kind, found, expected in pairs}
    kind, worst = max(errors.items(), key=lambda item: item[1])
    return outcome_of(worst <= EXACT, f"{worst:.0e}", f"{kind} differs from the definition by up to {worst:.2g}")


def row_sums(subject: Subject) -> Outcome:
    """The weights over all tokens sum to 1."""
    seen = run_tool(subject, PLAIN)
    sums = torch.cat([row.double().sum(-1) for row in seen.rows.values()])
    worst = (sums - 1).abs().max().item()
    return outcome_of(worst <= EXACT, f"{worst:.0e}", f"rows sum to {sums.min():.3f} to {sums.max():.3f}")


def layer_order(subject: Subject) -> Outcome:
    """The layers are in the order in which autograd shows that they move tokens."""
    seen = run_tool(subject, CHAIN)
    for layer, row in enumerate(seen.layers):
        found, moved = int(row[0, 1:].argmax()) + 1, strongest_mover(layer)
        if found != moved:
            return Outcome("FAIL", "", f"layer {layer}: token {moved} moves the class token, the map peaks at {found}")
    if "rollout" not in seen.rows:
        return Outcome("pass")
    misses, reaches = sorted((CHAIN.token("near"), CHAIN.token("late")), key=reach)
    row = seen.rows["rollout"][0]
    return outcome_of(
        bool(row[reaches] > 10 * row[misses]),
        "",
        f"a patch that reaches the class token by autograd has {row[reaches]:.2g} of the rollout, one that does not "
        f"{row[misses]:.2g}",
    )


def chain() -> tuple[Tensor, Reference]:
    """The chain's definition on images, on the autograd graph."""
    images = CHAIN.images.double().requires_grad_()
    return images, reference(CHAIN, images)


def strongest_mover(layer: int) -> int:
    """The token that moves the class token the most in a layer, by autograd."""
    _, exact = chain()
    after, before = exact.tokens[layer + 1][0, 0], exact.tokens[layer]
    (gradient,) = torch.autograd.grad((after * torch.arange(len(after)).sin()).sum(), before)
    return int(gradient[0, 1:].norm(dim=-1).argmax()) + 1


def reach(token: int) -> float:
    """How much the class token out of the last block depends on a patch's token into the first, by autograd."""
    _, exact = chain()
    last = exact.tokens[-1][0, 0]
    (gradient,) = torch.autograd.grad((last * torch.arange(len(last)).sin()).sum(), exact.tokens[0])
    return gradient[0, token].norm().item()


def orientation(subject: Subject) -> Outcome:
    """The map peaks on the patch that all tokens attend to, not on its mirror image across the diagonal."""
    return _peak(subject, SQUARE)


def oblong(subject: Subject) -> Outcome:
    """The same for an image of 16 × 24 pixels, whose weights also agree with the definition."""
    seen = run_tool(subject, OBLONG)
    weights = _agreement(seen, OBLONG)
    return _peak_of(seen, OBLONG, subject) if weights.mark == "pass" and seen.grids else weights


def _peak(subject: Subject, known: KnownModel) -> Outcome:
    seen = run_tool(subject, known)
    return _peak_of(seen, known, subject)


def _peak_of(seen: ToolOutput, known: KnownModel, subject: Subject) -> Outcome:
    if not seen.grids:
        raise NotApplicable(subject.no_grid)
    for kind, grid in seen.grids.items():
        found = divmod(int(patches_of(grid, known)[0].argmax()), known.config.grid_size[1])
        if found != known.peak:
            return Outcome(
                "FAIL", "", f"the {kind} map peaks at (row, column) {found}; the attended patch is {known.peak}"
            )
    return Outcome("pass")


def registers(subject: Subject) -> Outcome:
    """The class token and four registers, which attract attention, are not part of the grid and don't shift it."""
    seen = run_tool(subject, REGISTERS)
    place = _peak_of(seen, REGISTERS, subject)
    return _agreement(seen, REGISTERS) if place.mark == "pass" else place


def mean_pooled(subject: Subject) -> Outcome:
    """Rows and peak are correct for a model that averages its patches and has no class token."""
    seen = run_tool(subject, MEAN)
    rows = _agreement(seen, MEAN)
    return _peak_of(seen, MEAN, subject) if rows.mark == "pass" and seen.grids else rows


def second_call(subject: Subject) -> Outcome:
    """The same images give the same map after the tool has explained others."""
    tool = subject.open(build_checked(subject, PLAIN), PLAIN)
    try:
        first = {kind: row.clone() for kind, row in tool.explain(PLAIN.images).rows.items()}
        tool.explain(-PLAIN.images)
        again = tool.explain(PLAIN.images).rows
    finally:
        tool.close()
    worst = max((again[kind] - row).abs().max().item() for kind, row in first.items())
    return outcome_of(worst == 0, f"{worst:.0e}", f"the same images give another map, by up to {worst:.2g}")


def clean_up(subject: Subject) -> Outcome:
    """A model, half of it frozen, is left unchanged by an explanation, a pass that raises, and one in training mode.

    In training mode a tool may refuse to explain the model: only what it leaves behind counts.
    """
    for when in ("an explanation", "a pass that raises", "an explanation in training mode"):
        model = build_checked(subject, PLAIN).train(when == "an explanation in training mode")
        for parameter in list(model.parameters())[::2]:
            parameter.requires_grad_(False)
        before = model_state(model)
        with suppress(*([] if when == "an explanation" else [Exception])):
            _look_and_close(subject, model, raising=when == "a pass that raises")
        left = [f"{name}: {was} before, {now} after" for name, was, now in before.differences(model_state(model))]
        if left:
            return Outcome("FAIL", "", f"after {when}: {'; '.join(left)}")
    return Outcome("pass")


def _look_and_close(subject: Subject, model: nn.Module, *, raising: bool) -> None:
    tool = subject.open(model, PLAIN)
    try:
        with raising_in_forward(model, stop=raising):
            tool.explain(PLAIN.images)
    finally:
        tool.close()


def half(subject: Subject) -> Outcome:
    """With weights and images in bfloat16, the maps are finite and their rows sum to 1 within a hundredth."""
    model = build_checked(subject, PLAIN).to(torch.bfloat16)
    tool = subject.open(model, PLAIN)
    try:
        rows = tool.explain(PLAIN.images.to(torch.bfloat16)).rows
    finally:
        tool.close()
    if not all(row.isfinite().all() for row in rows.values()):
        return Outcome("FAIL", "", "numbers that are not finite")
    worst = max((row.double().sum(-1) - 1).abs().max().item() for row in rows.values())
    return outcome_of(worst <= HALF, f"{worst:.0e}", f"rows sum to 1 within {worst:.2g} only")


def fused(subject: Subject) -> Outcome:
    """If the model uses the fused attention kernel, it still does while it is explained, and there is a map."""
    model = build_checked(subject, LARGE)
    plain = fused_images_of(lambda: model(LARGE.images))
    if not plain:
        raise NotApplicable("this model doesn't use a fused kernel, so there is none to keep")
    tool = subject.open(model, LARGE)
    try:
        looked_at = fused_images_of(lambda: tool.explain(LARGE.images))
    finally:
        tool.close()
    return outcome_of(
        looked_at >= plain, "", f"images × layers through the fused kernel: {plain} before, {looked_at} now"
    )


def memory(subject: Subject) -> Outcome:
    """The peak memory at 1,090 tokens (model, tool and recipe) over that of all attention matrices is below 1."""
    model, images = build_checked(subject, LARGE), LARGE.images
    with MemoryMeter() as meter:
        tool = subject.open(model, LARGE)
        tool.explain(images)
        tool.close()
    config, count = LARGE.config, LARGE.config.num_prefix_tokens + LARGE.config.grid_size[0] * LARGE.config.grid_size[1]
    share = meter.peak_bytes / (len(images) * config.depth * config.num_heads * count**2 * 4)
    note = f"the peak is {share:.2f} times images × layers × heads × tokens² × 4 bytes"
    return outcome_of(share < 1, f"{share:.2f}", note)


CHECKS: dict[str, Callable[[Subject], Outcome]] = {
    "fused kernel on": fused,
    "definition": definition,
    "row sums": row_sums,
    "layer order": layer_order,
    "grid orientation": orientation,
    "height ≠ width": oblong,
    "registers": registers,
    "mean pooling": mean_pooled,
    "second call": second_call,
    "clean-up": clean_up,
    "half precision": half,
    "memory": memory,
}
"""Every check by the name of its column."""


def run(subject: Subject, name: str) -> Outcome:
    """One check on one subject; whatever the subject raises is what came back."""
    try:
        outcome = CHECKS[name](subject)
    except NotApplicable as reason:
        return Outcome("n/a", "", str(reason))
    except OtherModelError:
        raise
    except Exception as error:  # noqa: BLE001  (a tool may fail in any way; the table says how)
        outcome = Outcome("FAIL", "", describe_error(error))
    remark = subject.remarks.get(name) if outcome.mark == "FAIL" else None
    return replace(outcome, note=f"{outcome.note} ({remark})") if remark else outcome


def run_all(subject: Subject) -> dict[str, Outcome]:
    """Every check on one subject; where it gives no map of the plainest model, only whether that is the kernel's doing.

    So a tool isn't blamed twelve times for one thing.
    """
    try:
        run_tool(subject, PLAIN)
    except OtherModelError:
        raise
    except Exception as error:  # noqa: BLE001  (as above)
        return dict.fromkeys(CHECKS, Outcome("no map", "", describe_error(error))) | _blame(subject, error)
    return {name: run(subject, name) for name in CHECKS}


def _blame(subject: Subject, error: Exception) -> dict[str, Outcome]:
    """The first check fails if the model runs the fused kernel."""
    model = subject.build(LARGE)
    if not fused_images_of(lambda: model(LARGE.images)):
        return {}
    return {"fused kernel on": Outcome("FAIL", "", describe_error(error))}


def describe_error(error: Exception) -> str:
    """What came back instead of a map, in words."""
    if isinstance(error, NoMap):
        return f"returns {error}"
    return f"raises {type(error).__name__}: {str(error).splitlines()[0][:160]}"
