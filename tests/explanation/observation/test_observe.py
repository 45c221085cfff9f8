"""`observe` on models that people write: what it sees is what the definition says, and nothing changes by looking."""

import threading

import pytest
import torch
from example_models import FromEncoder, Tutorial, scores_of, weights_of
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from vitreous.errors import InputError
from vitreous.explanation.observation.observe import observe
from vitreous.explanation.streaming.attention_products import (
    reference_attention,
    reference_row_times_attention,
    row_times_attention,
)
from vitreous.model.trace import TokenLayout

EXPLICIT = ("matmul", "einsum", "einsum-heads-first", "einsum-heads-last", "bmm", "bmm-heads-first")


def make_images(batch: int = 2, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def seen(model: nn.Module, given: torch.Tensor):
    """Logits and trace; the logits must be those of an unobserved pass."""
    model.eval()
    alone = model(given)
    with observe(model) as trace:
        logits = model(given)
    assert torch.equal(alone, logits)
    assert trace.layout is not None and trace.readout is not None
    return logits, trace


@pytest.mark.parametrize("attention", EXPLICIT)
@pytest.mark.parametrize("gradients", [True, False])
def test_explicit_attention_equals_the_definition_in_float64(attention, gradients):
    torch.manual_seed(0)
    model, given = Tutorial(attention).double(), make_images().double()
    with torch.set_grad_enabled(gradients):
        _, trace = seen(model, given)
    assert trace.layout == TokenLayout(1, 4, 6)
    expected = weights_of(model, model, given)
    assert len(trace.records) == len(expected) == 3
    for record, weights in zip(trace.records, expected, strict=True):
        assert torch.allclose(reference_attention(record), weights, atol=1e-10)
        assert record.weights is not None and torch.allclose(record.weights, weights, atol=1e-12)
        assert torch.allclose(record.output, weights @ record.value, atol=1e-10)
        row = torch.rand(2, 25, dtype=torch.float64)
        assert torch.allclose(row_times_attention(row, record), reference_row_times_attention(row, record), atol=1e-10)


def test_query_and_key_are_recorded_where_the_scores_are_their_product():
    _, trace = seen(Tutorial("matmul"), make_images())
    assert trace.records[0].query.shape == (2, 2, 25, 8) and trace.records[0].scale == pytest.approx(8**-0.5)
    _, trace = seen(Tutorial("mask"), make_images())
    assert trace.records[0].query.shape == (2, 2, 25, 25), "log A stands for a query that can't be known"


def test_one_head_without_an_axis_of_its_own():
    model = Tutorial("one-head").double()
    _, trace = seen(model, make_images(3).double())
    block, tokens = model.blocks[0], trace.records[0]
    assert tokens.value.shape == (3, 1, 25, 16)
    assert torch.allclose(reference_attention(tokens) @ tokens.value, tokens.output, atol=1e-10)
    assert block is not None


@pytest.mark.parametrize("attention", ["mask", "masked-kernel", "causal-kernel"])
def test_masks_are_applied(attention):
    torch.manual_seed(0)
    model, given = Tutorial(attention).double(), make_images().double()
    _, trace = seen(model, given)
    inputs = []
    hooks = [block.register_forward_hook(lambda block, given, out: inputs.append(given[0])) for block in model.blocks]
    model(given)
    [hook.remove() for hook in hooks]
    for block, tokens, record in zip(model.blocks, inputs, trace.records, strict=True):
        scores = scores_of(block, tokens)
        if attention == "masked-kernel":
            scores = scores + torch.linspace(-1, 1, 25, dtype=torch.float64)
        else:
            scores = scores.masked_fill(torch.ones(25, 25, dtype=torch.bool).triu(1), -torch.inf)
        expected = torch.softmax(scores, -1)
        assert torch.allclose(reference_attention(record), expected, atol=1e-10)
        assert torch.allclose(record.output, expected @ record.value, atol=1e-10)


def test_the_scale_of_the_kernel_is_recorded():
    model = Tutorial("kernel").double()
    _, trace = seen(model, make_images().double())
    assert all(record.scale == 0.3 and record.weights is None for record in trace.records)
    assert all(torch.allclose(reference_attention(r) @ r.value, r.output, atol=1e-10) for r in trace.records)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_the_fused_path_of_the_encoder_is_not_taken(norm_first, batch_first):
    torch.manual_seed(0)
    model, given = FromEncoder(norm_first=norm_first, batch_first=batch_first).eval(), make_images()
    slow = model(given)
    with torch.no_grad():
        fused = model(given)
        with observe(model) as trace:
            logits = model(given)
    assert torch.equal(logits, slow.detach()), "bits of the usual path"
    assert torch.allclose(logits, fused, atol=1e-5)
    assert trace.layout == TokenLayout(1, 4, 6) and len(trace.records) == 3
    for record, block in zip(trace.records, model.encoder.layers, strict=True):
        assert record.projection is block.self_attn.out_proj.weight
    inputs = []
    hook = model.encoder.layers[0].register_forward_hook(lambda module, given, out: inputs.append(given[0]))
    model(given)
    hook.remove()
    layer, tokens = model.encoder.layers[0], inputs[0] if batch_first else inputs[0].transpose(0, 1)
    tokens = layer.norm1(tokens) if norm_first else tokens
    _, weights = nn.MultiheadAttention.forward(
        layer.self_attn, *(swap_batch(tokens, batch_first),) * 3, average_attn_weights=False
    )
    assert torch.allclose(reference_attention(trace.records[0]), weights, atol=1e-5)


def swap_batch(tokens, batch_first):
    return tokens if batch_first else tokens.transpose(0, 1)


def test_multihead_attention_with_weights_is_recorded():
    torch.manual_seed(0)
    told = []

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, tokens):
            gathered, weights = self.attention(tokens, tokens, tokens, need_weights=True, average_attn_weights=False)
            told.append(weights)
            return tokens + gathered

    model = Tutorial()
    model.blocks = nn.ModuleList(Block() for _ in range(2))
    _, trace = seen(model, make_images(3))
    for record, weights in zip(trace.records, told[-2:], strict=True):
        assert torch.allclose(reference_attention(record), weights, atol=1e-6) and record.output.shape == (3, 2, 25, 8)


@pytest.mark.parametrize("attention", [*EXPLICIT, "kernel", "masked-kernel"])
@pytest.mark.parametrize("trailing", [False, True])
def test_gradients_flow_through_the_records(attention, trailing):
    """The logits depend on a record's output, value and (where written out) weights as autograd says they do."""
    torch.manual_seed(0)
    model, given = (
        Tutorial(attention, trailing=trailing, pooling="last" if trailing else "first").double(),
        make_images().double(),
    )
    logits, trace = seen(model, given)
    record = trace.records[1]
    output, value = torch.autograd.grad(logits[:, 1].sum(), (record.output, record.value), retain_graph=True)
    weights = reference_attention(record)
    assert torch.allclose(weights.transpose(-1, -2) @ output, value, atol=1e-10)
    if record.weights is not None and attention != "masked-kernel":
        (slope,) = torch.autograd.grad(logits[:, 1].sum(), record.weights)
        assert torch.allclose(slope, output @ record.value.transpose(-1, -2), atol=1e-10)


def test_a_trailing_class_token_is_moved_to_the_front():
    torch.manual_seed(0)
    model, given = Tutorial("matmul", trailing=True, pooling="last").double(), make_images().double()
    _, trace = seen(model, given)
    assert trace.layout == TokenLayout(1, 4, 6)
    assert torch.equal(trace.readout, torch.eye(25, dtype=torch.float64)[:1].expand(2, -1))
    order = [24, *range(24)]
    for record, weights in zip(trace.records, weights_of(model, model, given), strict=True):
        assert torch.allclose(reference_attention(record), weights[:, :, order][..., order], atol=1e-10)
        assert torch.allclose(record.weights, weights[:, :, order][..., order], atol=1e-10)


@pytest.mark.parametrize("trailing", [False, True])
@pytest.mark.parametrize("attention", [*EXPLICIT, "kernel", "mask"])
def test_the_output_projection_is_recorded(attention, trailing):
    model = Tutorial(attention, trailing=trailing, pooling="last" if trailing else "first")
    _, trace = seen(model, make_images())
    for record, block in zip(trace.records, model.blocks, strict=True):
        assert record.projection is block.join.weight


def test_a_linear_layer_on_other_inputs_is_no_projection():
    model = Tutorial("kernel")
    for block in model.blocks:
        block.join = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16))
    _, trace = seen(model, make_images())
    assert [record.projection for record in trace.records] == [None, None, None]


def test_two_threads_observe_their_own_models():
    torch.manual_seed(0)
    models = [Tutorial("matmul").eval(), FromEncoder(norm_first=True).eval()]
    given, traces, barrier = make_images(), [[], []], threading.Barrier(2)

    def look(index):
        with torch.no_grad():
            for _ in range(5):
                barrier.wait()
                with observe(models[index]) as trace:
                    models[index](given)
                traces[index].append(trace)

    threads = [threading.Thread(target=look, args=(index,)) for index in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for model, found in zip(models, traces, strict=True):
        _, alone = seen(model, given)
        assert len(found) == 5
        for trace in found:
            assert len(trace.records) == 3
            for record, expected in zip(trace.records, alone.records, strict=True):
                assert torch.equal(record.value, expected.value) and (record.weights is None) == (
                    expected.weights is None
                )


def test_a_shared_model_is_observed_by_one_thread():
    model, given = Tutorial("matmul").eval(), make_images()
    with torch.no_grad(), observe(model) as trace:
        thread = threading.Thread(target=lambda: [model(given[:1]) for _ in range(3)])
        thread.start()
        thread.join()
        assert trace.records == []
        model(given)
    assert len(trace.records) == 3 and trace.readout.shape == (2, 25)


def test_the_end_of_observing_does_not_break_a_pass_of_another_thread():
    """A pass lists the hooks before they are removed, and then calls them without keywords."""
    model, given = Tutorial("kernel").eval(), make_images()
    started, ended, found, main = threading.Event(), threading.Event(), [], threading.get_ident()

    def wait(*_):
        if threading.get_ident() != main:
            started.set()
            assert ended.wait(60)

    for register in (model.register_forward_pre_hook, model.register_forward_hook):
        hook = register(wait)
        thread = threading.Thread(target=lambda: found.append(model(given)))
        with observe(model):
            thread.start()
            assert started.wait(60)
            logits = model(given)
        ended.set()
        thread.join()
        hook.remove()
        started.clear()
        ended.clear()
        assert torch.equal(found.pop(), logits)


def test_hooks_are_removed_after_an_error():
    model, given = Tutorial("kernel").eval(), make_images()
    before = dict(vars(model))
    with pytest.raises(ZeroDivisionError), observe(model):
        model(given)
        raise ZeroDivisionError
    model.head.forward = lambda tokens: 1 / 0
    with pytest.raises(ZeroDivisionError), observe(model) as trace:
        model(given)
    del model.head.forward
    assert _get_current_function_mode_stack() == []
    assert not model._forward_hooks and not model._forward_pre_hooks and vars(model).keys() == before.keys()
    count = len(trace.records)
    model(given)
    assert len(trace.records) == count and all(one.grad is None for one in model.parameters())


def test_gradients_with_respect_to_the_images():
    model, given = Tutorial("matmul").eval(), make_images().requires_grad_()
    with observe(model) as trace:
        logits = model(given)
    (expected,) = torch.autograd.grad(model(given)[:, 0].sum(), given)
    (found,) = torch.autograd.grad(logits[:, 0].sum(), given)
    assert torch.equal(found, expected) and given.grad is None and len(trace.records) == 3


def test_no_graph_is_kept_without_gradients():
    model, given = Tutorial("matmul").eval(), make_images()
    with torch.no_grad(), observe(model) as trace:
        logits = model(given)
        assert not torch.is_grad_enabled()
    assert not logits.requires_grad and not trace.records[0].output.requires_grad and not trace.readout.requires_grad


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ("nothing", "no attention was observed"),
        ("talking-heads", "no product of it with values"),
        ("changed-weights", "changed in place"),
        ("dropped-weights", r"dropped at random \(probability 0.5\)"),
        ("shared-keys", "shares keys among heads"),
        ("windows", "works in windows"),
        ("cross-attention", "attention of 24 queries over 23 keys"),
    ],
)
def test_untraceable_attention_raises(attention, message):
    model = Tutorial(attention, prefix=0).eval()
    with pytest.raises(InputError, match=message), observe(model):
        model(make_images())
    assert _get_current_function_mode_stack() == [] and not model._forward_hooks


def test_layers_with_different_tokens_raise():
    model = Tutorial("matmul").eval()
    model.blocks[2].forward = lambda tokens, block=model.blocks[0]: block(tokens[:, ::2])
    with pytest.raises(InputError, match="over 25 and over 13 tokens"), observe(model):
        model(make_images())


def test_the_context_needs_one_call_in_evaluation_mode():
    model, given = Tutorial(), make_images()
    with pytest.raises(InputError, match=r"call model.eval"), observe(model):
        model(given)
    model.eval()
    with pytest.raises(InputError, match="wasn't called"), observe(model):
        pass
    with pytest.raises(InputError, match="called twice"), observe(model):
        model(given)
        model(given)
    with pytest.raises(InputError, match=r"expected images .* got \[\(2, 3\)\]"), observe(model):
        model(torch.zeros(2, 3))
    with pytest.raises(InputError, match=r"use torch.no_grad\(\)"), torch.inference_mode(), observe(model):
        model(given)


@pytest.mark.filterwarnings("ignore")
def test_scripted_and_compiled_models_raise():
    model = Tutorial("kernel").eval()
    with pytest.raises(InputError, match="compiled or scripted"), observe(torch.jit.trace(model, make_images())):
        pass
    holder = nn.Module()
    holder.add_module("_orig_mod", model)  # as torch.compile holds it, without its four seconds of import
    with pytest.raises(InputError, match="compiled or scripted"), observe(holder):
        pass
    model._compiled_call_impl = lambda *_: None  # as nn.Module.compile() leaves it
    with pytest.raises(InputError, match="compiled or scripted"), observe(model):
        pass
