"""Many ways to write a Vision Transformer: maps are the model's own in float64, or an error says why there is none."""

import copy

import pytest
import torch
from attention_forms import by_images, written
from model_forms import MAPS, NO_ROLLOUT, PARTLY_READ, REFUSED, changed, of
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.explanation.observation.observe import observe
from vitreous.explanation.observation.wrapped_model import WrappedModel
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import METHODS
from vitreous.explanation.streaming.attention_products import reference_attention
from vitreous.model.trace import TokenLayout
from vitreous.tasks.classification.targets import ClassTarget

TARGET = ClassTarget(1, "class 1")


def make(build) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(2.0 if "norm" not in name and parameter.ndim > 1 else 1.0)
    return model, torch.randn(2, 3, 32, 32)


def twin(model: nn.Module) -> nn.Module:
    """The model in float64."""
    return copy.deepcopy(model).double()


def compute(model: nn.Module, method: str, images: Tensor) -> Tensor:
    found = METHODS[method].attribute(WrappedModel(model).eval(), images, TARGET, MethodOptions())
    return found.values.detach().flatten(1)


def true_rollout(layers: list[Tensor], row: Tensor) -> Tensor:
    for weights in reversed(layers):
        row = (
            row.expand(len(weights), -1) + torch.einsum("bi,bij->bj", row.expand(len(weights), -1), weights.mean(1))
        ) / 2
    return row


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.double().flatten(), other.double().flatten()]))[0, 1])


@pytest.mark.parametrize("name", MAPS)
def test_layers_heads_and_rollout_are_the_models_own(name):
    model, images = make(MAPS[name])
    exact = twin(model)
    exact(images.double())
    layers, row, prefix = exact.layers(), exact.row(), exact.prefix
    with torch.no_grad(), observe(model) as trace:
        model(images)
    assert trace.layout == TokenLayout(prefix, 4, 4)
    assert len(trace.records) == len(layers)
    assert torch.allclose(trace.readout.double(), row.expand(2, -1), atol=1e-4)
    for record, weights in zip(trace.records, layers, strict=True):
        assert torch.allclose(reference_attention(record).double(), weights, atol=1e-4)
    found, expected = compute(model, "rollout", images), true_rollout(layers, row)[:, prefix:]
    assert torch.allclose(found.double(), expected, atol=1e-4) and correlation(found, expected) > 0.999
    last = torch.einsum("bi,bij->bj", row.expand(2, -1), layers[-1].mean(1))
    expected = row if trace.has_attention_pooling else last
    assert torch.allclose(compute(model, "attention", images).double(), expected[:, prefix:], atol=1e-4)


@pytest.mark.parametrize("name", PARTLY_READ)
def test_layers_that_are_not_read_are_left_out(name):
    forward, read = PARTLY_READ[name]
    model, images = make(changed(forward=forward))
    exact = twin(model)
    exact(images.double())
    layers = [exact.layers()[index] for index in read]
    found = compute(model, "rollout", images)
    assert torch.allclose(found.double(), true_rollout(layers, exact.row())[:, 1:], atol=1e-4)
    assert compute(model, "attention-gradient", images).any() and compute(model, "gradient-rollout", images).any()


@pytest.mark.parametrize("name", REFUSED)
def test_forms_without_a_true_map_raise(name):
    build, message = REFUSED[name]
    model, images = make(build)
    alone = model(images)
    with pytest.raises(InputError, match=message), observe(model):
        model(images)
    for method in ("attention", "rollout"):
        with pytest.raises(InputError, match=message):
            compute(model, method, images)
    assert torch.equal(model(images), alone)


@pytest.mark.parametrize("name", NO_ROLLOUT)
def test_rollout_raises_where_other_things_mix_tokens(name):
    build, message = NO_ROLLOUT[name]
    model, images = make(build)
    exact = twin(model)
    exact(images.double())
    expected = exact.layers()[-1].mean(1)[:, 0, 1:]
    assert torch.allclose(compute(model, "attention", images).double(), expected, atol=1e-4)
    for method in ("rollout", "gradient-rollout"):
        with pytest.raises(InputError, match=message):
            compute(model, method, images)


@pytest.mark.parametrize("name", ["heads one by one", "ModuleList of heads", "heads in chunks"])
@pytest.mark.parametrize("method", ["attention-gradient", "gradient-rollout", "value-norm"])
def test_heads_one_by_one_are_explained_as_heads_together(name, method):
    """The same weights, run head by head and by one kernel, give the same maps."""
    model, images = make(MAPS[name])
    together, _ = make(MAPS["kernel"])
    for block, other in zip(model.blocks, together.blocks, strict=True):
        block.load_state_dict({**other.state_dict(), **block.state_dict()}, strict=False)
        other.load_state_dict({k: v for k, v in block.state_dict().items() if ".heads." not in k}, strict=False)
        if hasattr(block.attention, "heads"):
            parts = [[getattr(head, it).weight for head in block.attention.heads] for it in ("query", "key", "value")]
            other.attention.qkv.weight.data = torch.cat([weight for three in parts for weight in three])
            other.attention.qkv.bias.data.zero_()
    others = {k: v for k, v in model.state_dict().items() if not k.startswith("blocks")}
    together.load_state_dict(others, strict=False)
    assert torch.allclose(model(images), together(images), atol=1e-4)
    found, expected = compute(model, method, images), compute(together, method, images)
    assert expected.any() and torch.allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_attention_of_each_image_on_its_own_takes_one_image():
    model, images = make(of(written(by_images)))
    exact = twin(model)
    exact(images[:1].double())
    found, expected = compute(model, "rollout", images[:1]), true_rollout(exact.layers(), exact.row())[:, 1:]
    assert torch.allclose(found.double(), expected, atol=1e-4)
    with pytest.raises(InputError, match="give one image at a time, not 2"):
        compute(model, "rollout", images)
