"""Linear maps and attention by the fastest products are what PyTorch's own are."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from vitreous.model import kernels
from vitreous.model import linear as linear_module
from vitreous.model.kernels import chunked_attention, dot_product_attention, eager_attention
from vitreous.model.linear import Linear, is_supported, linear, onednn_linear

needs_product = pytest.mark.skipif(
    not is_supported(torch.ones(9, 9), torch.ones(9, 9)),
    reason="no AVX-512 or no oneDNN: PyTorch's own product is used",
)


def random(*shape, dtype=torch.float32, grad=False):
    return torch.randn(*shape, dtype=dtype, requires_grad=grad)


@pytest.mark.parametrize("shape", [(5,), (1, 5), (40, 5), (3, 17, 5), (2, 3, 9, 5), (0, 5)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_linear_and_its_gradients_are_torchs(shape, has_bias):
    torch.manual_seed(0)
    ours = [random(*shape, grad=True), random(7, 5, grad=True), random(7, grad=True) if has_bias else None]
    theirs = [None if one is None else one.detach().clone().requires_grad_() for one in ours]
    for function, (tokens, weight, bias) in ((linear, ours), (functional.linear, theirs)):
        function(tokens, weight, bias).square().sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert mine is None or torch.allclose(mine.grad, other.grad, atol=1e-3, rtol=1e-4)
    assert torch.allclose(linear(*ours), functional.linear(*ours), atol=1e-5)


@needs_product
def test_the_fast_product_is_taken_and_double_precision_agrees():
    torch.manual_seed(0)
    tokens, weight, bias = random(3, 50, 64, grad=True), random(96, 64, grad=True), random(96, grad=True)
    out = linear(tokens, weight, bias)
    assert type(out.grad_fn).__name__ == "_LinearBackward"
    exact = functional.linear(tokens.double(), weight.double(), bias.double())
    assert (out - exact).abs().max() < 5e-5


@needs_product
def test_gradients_of_gradients():
    torch.manual_seed(0)
    tokens, weight = random(12, 6, grad=True), random(4, 6, grad=True)

    def second(function):
        (first,) = torch.autograd.grad(function(tokens, weight, None).pow(3).sum(), tokens, create_graph=True)
        return torch.autograd.grad(first.square().sum(), (tokens, weight))

    for ours, theirs in zip(second(linear), second(functional.linear), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-2)


@needs_product
def test_views_of_a_joint_tensor_are_multiplied_right():
    joint = random(2, 11, 3, 2, 8).permute(2, 0, 3, 1, 4)
    query, key = joint[0, 1, 1], joint[1, 1, 1]
    assert not query.is_contiguous()
    assert torch.allclose(onednn_linear(query, key), query @ key.t(), atol=1e-5)
    assert torch.allclose(onednn_linear(query.t(), key.t()), query.t() @ key, atol=1e-5)


def test_whoever_counts_operators_sees_the_usual_ones():
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Linear(8, 4)(random(10, 8))
    assert counter.get_total_flops() == 2 * 10 * 8 * 4


def test_other_precisions_and_autocast_are_left_to_torch():
    ones = torch.ones(9, 9)
    assert not is_supported(ones.double(), ones.double())
    assert not is_supported(ones.bfloat16(), ones.bfloat16())
    assert not is_supported(ones, ones.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_supported(ones, ones)
        assert Linear(9, 9)(ones).dtype == torch.bfloat16


def test_linear_without_the_product_is_nn_linear(monkeypatch):
    tokens, module = random(20, 5), Linear(5, 3)
    before = module(tokens)
    monkeypatch.setattr(linear_module, "_has_wide_products", lambda: False)
    assert torch.allclose(module(tokens), before, atol=1e-6)
    assert torch.equal(module(tokens), nn.Linear.forward(module, tokens))


@needs_product
@pytest.mark.parametrize("kernel", [eager_attention, chunked_attention])
@pytest.mark.parametrize("block", [1, 100, 2**20])
def test_attention_of_each_kernel_is_the_definition(kernel, block, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(kernels, "CHUNK_ELEMENTS", block)
    monkeypatch.setattr(kernels, "MIN_CHUNK_ROWS", 1)
    query, key, value = random(2, 37, 3, 3, 8).mul(4).permute(2, 0, 3, 1, 4)
    scores = query.double() @ key.double().transpose(-2, -1) * 8**-0.5
    attended = kernel(query, key, value)
    assert torch.allclose(attended.output.double(), torch.softmax(scores, -1) @ value.double(), atol=2e-4)
    if attended.weights is not None:
        assert torch.allclose(attended.weights.double(), torch.softmax(scores, -1), atol=1e-5)
    if attended.log_sums is not None:
        assert torch.allclose(attended.log_sums.double(), scores.logsumexp(-1), atol=5e-5)


@needs_product
def test_scores_that_would_overflow_stay_finite():
    query = random(1, 1, 300, 16).mul(60)
    output, _, log_sums = chunked_attention(query, query, query)
    assert torch.isfinite(output).all()
    assert torch.isfinite(log_sums).all()


@needs_product
@pytest.mark.parametrize(("tokens", "by_product"), [(200, "weights"), (300, "log_sums")])
def test_what_runs_off_the_graph_leaves_its_by_product(tokens, by_product):
    query = random(1, 2, tokens, 16)
    assert getattr(dot_product_attention(query, query, query), by_product) is not None
    query.requires_grad_()
    assert dot_product_attention(query, query, query).output.requires_grad


@pytest.mark.parametrize("numbers", [10**9, 3 * 37 * 37, 37 * 10, 1], ids=["all", "an image", "rows", "a row"])
def test_attention_in_bfloat16_is_the_definition(numbers, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(kernels, "BF16_CHUNK_ELEMENTS", numbers)
    monkeypatch.setattr(kernels, "MIN_CHUNK_ROWS", 1)
    query, key, value = torch.randn(3, 37, 3, 3, 8).bfloat16().permute(2, 0, 3, 1, 4)
    scores = query.double() @ key.double().transpose(-2, -1) * 8**-0.5
    output = dot_product_attention(query, key, value).output
    assert output.dtype == torch.bfloat16
    assert torch.allclose(output.double(), torch.softmax(scores, -1) @ value.double(), atol=0.02)


def test_attention_in_bfloat16_can_be_batched_by_torch():
    query = torch.randn(4, 1, 2, 300, 8).bfloat16()
    with torch.no_grad():
        mapped = torch.func.vmap(lambda one: dot_product_attention(one, one, one).output)(query)
    assert torch.allclose(mapped[3].float(), dot_product_attention(*[query[3]] * 3).output.float(), atol=0.02)


def transforms():
    """What torch can do with a function of one tensor, besides calling it."""
    tokens, way = torch.randn(12, 6), torch.randn(12, 6)

    def forward_mode(function):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(tokens, way)
            return torch.autograd.forward_ad.unpack_dual(function(dual)).tangent

    def batched_gradients(function):
        start = tokens.clone().requires_grad_()
        result = function(start)
        given = torch.stack([torch.ones_like(result), torch.zeros_like(result)])
        return torch.autograd.grad(result, start, given, is_grads_batched=True)[0]

    return {
        "jvp": lambda function: torch.func.jvp(function, (tokens,), (way,))[1],
        "grad": lambda function: torch.func.grad(lambda x: function(x).sum())(tokens),
        "vmap": lambda function: torch.func.vmap(function)(torch.stack([tokens, way])),
        "forward mode": forward_mode,
        "batched gradients": batched_gradients,
        "trace": lambda function: torch.jit.trace(function, tokens)(way),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", transforms())
@pytest.mark.parametrize("grad", [True, False])
def test_torchs_transforms_see_the_usual_operators(name, grad):
    torch.manual_seed(0)
    weight = torch.randn(9, 6)
    with torch.set_grad_enabled(grad or name == "batched gradients"):
        ours = transforms()[name](lambda tokens: linear(tokens, weight, None))
        torch.manual_seed(0)
        torch.randn(9, 6)
        theirs = transforms()[name](lambda tokens: functional.linear(tokens, weight))
    assert ours is not None
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("tokens", [200, 400])
@pytest.mark.parametrize("learning", [0, 1, 2])
def test_any_of_the_three_may_learn_alone(tokens, learning):
    parts = [random(1, 2, tokens, 8) for _ in range(3)]
    parts[learning].requires_grad_()
    dot_product_attention(*parts).output.sum().backward()
    assert parts[learning].grad is not None
