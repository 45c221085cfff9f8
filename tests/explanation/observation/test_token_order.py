"""Prefix tokens before and behind the patches, attention that is only kept to look at, and true reasons of refusals."""

import pytest
import torch
from attention_forms import WIDTH, Attention, softmax
from model_forms import Model, changed, of
from torch import Tensor, nn
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.observation.observe import observe
from vitreous.model.trace import TokenLayout, Trace


def make(build) -> nn.Module:
    torch.manual_seed(0)
    return build().eval()


def traced(model: nn.Module) -> Trace:
    with torch.no_grad(), observe(model) as trace:
        model(torch.randn(2, 3, 32, 32))
    return trace


class Appended(Model):
    """A class token before the patches, and other tokens behind them (DeiT in vit-pytorch, registers)."""

    behind, read_tokens = 1, (0,)

    def __init__(self) -> None:
        super().__init__()
        self.others = nn.Parameter(torch.randn(1, self.behind, WIDTH))

    def embed(self, images: Tensor) -> Tensor:
        return torch.cat([super().embed(images), self.others.expand(len(images), -1, -1)], 1)

    def read(self, tokens: Tensor) -> Tensor:
        tokens = self.norm(tokens)
        return sum(self.head(tokens[:, index]) for index in self.read_tokens)


@pytest.mark.parametrize(("behind", "read"), [(1, (0,)), (1, (0, -1)), (4, (0,))])
def test_tokens_may_stand_before_and_behind_the_patches(behind, read):
    model = make(type("Kind", (Appended,), {"behind": behind, "read_tokens": read}))
    trace = traced(model)
    assert trace.layout == TokenLayout(1 + behind, 4, 4)
    expected = torch.zeros(17 + behind)
    expected[list(read)] = 1 / len(read)
    assert torch.allclose(trace.readout[0], expected.roll(behind), atol=1e-5)
    kept = [one.roll((behind, behind), (2, 3)) for one in model.layers()]
    for record, weights in zip(trace.records, kept, strict=True):
        assert torch.allclose(softmax(record.query, record.key).double(), weights, atol=1e-5)


class Changed(Attention):
    """Attention whose weights are changed before they meet the values."""

    def gather(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self.keep(query, key)
        return self.change(softmax(query, key)) @ value


class KeptToLookAt(Attention):
    """Weights are computed once more beside the kernel, to look at them."""

    needs_gradient = False

    def gather(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self.keep(query, key)
        with torch.set_grad_enabled(self.needs_gradient and torch.is_grad_enabled()):
            self.seen = softmax(query, key)
        return functional.scaled_dot_product_attention(query, key, value)


@pytest.mark.parametrize("needs_gradient", [False, True])
def test_weights_that_are_kept_to_look_at_are_no_obstacle(needs_gradient):
    model = make(of(type("Kind", (KeptToLookAt,), {"needs_gradient": needs_gradient})))
    assert len(traced(model).records) == 3


def test_weights_without_nan_are_the_same():
    model = make(of(type("Kind", (Changed,), {"change": lambda self, weights: weights.nan_to_num()})))
    for record, weights in zip(traced(model).records, model.layers(), strict=True):
        assert torch.allclose(record.weights.double(), weights, atol=1e-5)


class InPlace(Changed):
    def change(self, weights: Tensor) -> Tensor:
        weights.data.mul_(torch.linspace(0.1, 2, weights.shape[-1]))
        return weights


class Shared(Attention):
    """Heads share keys and values by broadcasting."""

    def gather(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self.keep(query, key[:, :1])
        return softmax(query, key[:, :1]) @ value[:, :1]


class Convolved(Attention):
    """Queries, keys and values are computed from convolved tokens (CvT)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        patches = self.mix(tokens[:, 1:].mT.unflatten(2, (4, 4))).flatten(2).mT
        return super().forward(torch.cat([tokens[:, :1], patches], 1))


def detached(self: Model, tokens: Tensor) -> Tensor:
    return self.blocks[2](self.blocks[1](self.blocks[0](tokens)).detach())


def frozen(self: Model, images: Tensor) -> Tensor:
    with torch.no_grad():
        return Model.embed(self, images)


REASONS = {
    "written to data": (of(InPlace), "no longer sum to 1"),
    "shared values": (of(Shared), "share values by broadcasting"),
    "convolved tokens": (of(Convolved), "depends on several patches before the first attention"),
    "detached between": (changed(run=detached), "detaches its activations"),
    "frozen stem": (changed(embed=frozen), "under its own no_grad"),
}


@pytest.mark.parametrize("name", REASONS)
def test_refusals_name_the_true_reason(name):
    build, message = REASONS[name]
    with pytest.raises(InputError, match=message):
        traced(make(build))


def test_values_of_shifted_tokens_are_in_another_order():
    def gather(self, query, key, value):
        self.keep(query, key)
        return softmax(query, key) @ torch.cat([value[:, :, :1], value[:, :, :-1]], 2)

    with pytest.raises(InputError, match="in another order"):
        traced(make(of(type("Kind", (Attention,), {"gather": gather}))))
