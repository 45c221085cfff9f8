"""The published conformance test (benchmarks/conformance.py) on our methods, and on tools that are wrong on purpose."""

import pytest
import torch
from broken_tools import RIGHT, WRONG
from conformance_suite.checks import CHAIN, CHECKS, Outcome, patches_of, reach, run, run_all, strongest_mover
from conformance_suite.definition import expected_output, reference
from conformance_suite.known_models import MEAN, OBLONG, PLAIN, REGISTERS, SQUARE, KnownModel
from conformance_suite.memory_meter import MemoryMeter
from conformance_suite.model_state import model_state, raising_in_forward
from conformance_suite.report import page, plain
from conformance_suite.subject import NoMap, OtherModelError, Subject, Tool, ToolOutput
from conformance_suite.vitreous_tool import VITREOUS_TOOLS, build_vitreous, observed
from torch import nn

OBSERVED = Subject("`observe` on our own", "observe(model)", build_vitreous, observed)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("subject", [*VITREOUS_TOOLS, OBSERVED], ids=lambda subject: subject.name)
def test_ours_conform(subject, name):
    outcome = run(subject, name)
    assert outcome.mark == "pass", outcome


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_caught_by_the_check_that_is_there_for_it_and_by_no_unrelated_one(name):
    subject, catching, also = WRONG[name]
    slow = {"fused kernel on", "memory"} - {catching}
    outcomes = {check: run(subject, check) for check in CHECKS if check not in slow}
    assert {check for check, one in outcomes.items() if one.mark == "FAIL"} == ({catching} | also) - slow, outcomes
    assert all(one.note for one in outcomes.values() if one.mark == "FAIL")


def test_every_check_can_fail():
    assert {catching for _, catching, _ in WRONG.values()} == set(CHECKS)


@pytest.mark.parametrize("known", [SQUARE, OBLONG, MEAN, REGISTERS], ids=["square", "oblong", "mean", "registers"])
def test_attention_falls_where_the_models_are_wired_to(known):
    exact = reference(known, known.images)
    for kind in ("attention", "rollout"):
        grid = exact.row(kind)[:, known.config.num_prefix_tokens :].unflatten(1, known.config.grid_size)
        for one in grid:
            assert divmod(int(one.argmax()), known.config.grid_size[1]) == known.peak
            assert one.max() > 3 * one.flatten().sort().values[-2]
    if known is REGISTERS:
        assert exact.row("rollout")[:, 1:5].sum(1).min() > 0.2


def test_autograd_sees_the_chain_of_two_layers():
    assert [strongest_mover(0), strongest_mover(1)] == [CHAIN.token("early"), CHAIN.token("relay")]
    assert reach(CHAIN.token("near")) > 100 * reach(CHAIN.token("late"))


@pytest.mark.parametrize("known", [PLAIN, OBLONG, MEAN, REGISTERS], ids=["plain", "oblong", "mean", "registers"])
def test_the_definition_is_that_of_our_model(known):
    model = build_vitreous(known).double()
    assert torch.allclose(model(known.images.double()), expected_output(known), atol=1e-10)


def test_another_model_under_the_same_name_is_no_failure_of_the_tool():
    other = Subject("other", "", lambda known: build_vitreous(KnownModel(known.config, scaled(known))), RIGHT.open)
    with pytest.raises(OtherModelError):
        run(other, "definition")
    with pytest.raises(OtherModelError):
        run_all(other)


def scaled(known: KnownModel) -> dict[str, torch.Tensor]:
    return {name: tensor * 1.1 for name, tensor in known.state.items()}


@pytest.mark.parametrize("side", [6, 24])
def test_a_map_in_pixels_is_read_like_one_of_patches(side):
    grid = torch.zeros(1, side, side)
    grid[0, side // 6, side * 4 // 6] = 1
    assert divmod(int(patches_of(grid, SQUARE)[0].argmax()), 6) == (1, 4)
    with pytest.raises(ValueError, match="5 × 5 for 6 × 6"):
        patches_of(torch.zeros(1, 5, 5), SQUARE)


def test_a_tool_without_a_map_is_blamed_once():
    def open_tool(model: nn.Module, known: KnownModel) -> Tool:
        def explain(images: torch.Tensor) -> ToolOutput:
            raise NoMap("nothing")

        return Tool(explain)

    outcomes = run_all(Subject("empty", "", build_vitreous, open_tool))
    assert outcomes["fused kernel on"] == Outcome("FAIL", "", "returns nothing")
    assert {one.mark for name, one in outcomes.items() if name != "fused kernel on"} == {"no map"}


def test_the_page_numbers_its_notes_and_says_what_was_called():
    bad = Outcome("FAIL", "2e-01", "rows sum to 1.2")
    results = [(RIGHT, dict.fromkeys(CHECKS, Outcome("pass", "1e-07")) | {"row sums": bad, "memory": bad})]
    text = page(results, "Made today.", {"other": "it isn't there"})
    assert text.count("**FAIL** 2e-1 [1]") == 2 and "1. Rows sum to 1.2.\n" in text
    assert RIGHT.called in text and "- other: It isn't there." in text
    assert all(f"**{name}**: " in text for name in CHECKS)
    assert "rows sum to 1.2" in plain(results)


def test_the_meter_counts_what_is_alive_and_forgets_what_is_not():
    with MemoryMeter() as meter:
        kept = torch.zeros(1000)
        for _ in range(5):
            torch.zeros(500)
        view = kept.view(10, 100)
        view.add_(1)
    assert meter.peak_bytes == 6000


def test_what_stands_tells_each_thing_left():
    model = build_vitreous(PLAIN)
    before = model_state(model)
    model.norm.train()
    model.head.weight.grad = torch.zeros_like(model.head.weight)
    model.blocks[0].forward = model.blocks[0].forward
    with raising_in_forward(model, stop=True):
        left = {name for name, _, _ in before.differences(model_state(model))}
    assert left == {
        "hooks on the model",
        "modules with a forward of their own put in",
        "modules in training mode",
        "parameters with gradients",
    }
