"""Maps of pixels and of tokens from gradients: axioms, models with a known map, and errors."""

import copy
import re

import pytest
import torch
from torch import nn

from vitreous.errors import InputError
from vitreous.explanation.methods.grad_cam import grad_cam, hires_cam
from vitreous.explanation.methods.input_gradients import input_x_gradient, integrated_gradients, quadrature, smoothgrad
from vitreous.explanation.methods.legrad import legrad
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import METHODS
from vitreous.explanation.streaming import gradients
from vitreous.model.config import ViTConfig
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import ClassDifferenceTarget, ClassTarget, PredictedClassTarget
from vitreous.tasks.targets import FeatureNormTarget

EEL, CAT = ClassTarget(1, "eel"), ClassTarget(0, "cat")
GRADIENT_METHODS = [
    "attention-gradient", "grad-cam", "gradient-rollout", "hires-cam", "input-x-gradient", "integrated-gradients",
    "legrad", "smoothgrad",
]  # fmt: skip
FEW = {"integrated-gradients": MethodOptions(n_steps=3), "smoothgrad": MethodOptions(n_samples=3, noise_level=0.05)}
ON_PIXELS = ["input-x-gradient", "integrated-gradients", "smoothgrad"]


@pytest.fixture(autouse=True)
def without_autograd():
    with torch.no_grad():
        yield


def vit(dtype=torch.float64, **options) -> ViT:
    torch.manual_seed(0)
    chosen = {"embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 3, "reg_tokens": 2, **options}
    model = ViT(ViTConfig((16, 24), 4, **chosen)).to(dtype).eval()
    for weight in model.parameters():
        weight.normal_(std=0.3)
    return model


def make_images(dtype=torch.float64, count=2) -> torch.Tensor:
    return torch.randn(count, 3, 16, 24, dtype=dtype, generator=torch.Generator().manual_seed(1))


class Linear(nn.Module):
    """Not a ViT at all: a model that is linear in its images, and takes no trace."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, 16, 24, dtype=torch.float64))

    def forward(self, images, trace=None):
        return torch.einsum("bchw,kchw->bk", images, self.weight) + 0.7


def test_pixel_methods_are_exact_for_a_linear_model():
    torch.manual_seed(0)
    model, images = Linear(), make_images()
    expected = (images * model.weight[1]).sum(1)
    for method, settings in (
        (input_x_gradient, MethodOptions()),
        (integrated_gradients, MethodOptions(n_steps=1)),
        (smoothgrad, MethodOptions(n_samples=3)),
    ):
        maps = method(model, images, EEL, settings)
        assert torch.allclose(maps.values, expected, atol=1e-10), method
        assert torch.equal(maps.logits, model(images))
    assert integrated_gradients(model, images, EEL, MethodOptions(n_steps=1)).convergence_delta.abs().max() < 1e-10


@pytest.mark.parametrize("pooling", ["token", "avg", "attention", "map"])
def test_integrated_gradients_sum_to_the_score(pooling):
    """Completeness (Sundararajan et al. 2017, proposition 1); the convergence delta is the true one."""
    model, images = vit(global_pool=pooling), make_images()
    gain = (model(images) - model(torch.zeros_like(images)))[:, 1]
    deltas = []
    for steps in (2, 8, 64):
        maps = integrated_gradients(model, images, EEL, MethodOptions(n_steps=steps))
        assert torch.allclose(maps.values.sum((1, 2)) + maps.convergence_delta, gain, atol=1e-6)
        deltas.append(maps.convergence_delta.abs().max().item())
    assert deltas[2] < deltas[1] < deltas[0] and deltas[2] < 1e-3 * gain.abs().max()


def test_quadrature_is_exact_for_polynomials():
    for steps in (1, 2, 5):
        points, weights = quadrature(steps)
        for power in range(2 * steps):
            assert abs((weights * points**power).sum().item() - 1 / (power + 1)) < 1e-12


def test_input_x_gradient_equals_finite_differences():
    model, images = vit(), make_images()
    grids = input_x_gradient(model, images, ClassDifferenceTarget(EEL, CAT), MethodOptions()).values
    for row, column in ((0, 0), (7, 20)):
        nudge = torch.zeros_like(images)
        nudge[:, :, row, column] = 1e-5 * images[:, :, row, column]
        change = model(images + nudge) - model(images - nudge)
        assert torch.allclose((change[:, 1] - change[:, 0]) / 2e-5, grids[:, row, column], rtol=1e-5)


def test_grad_cam_equals_its_definition():
    model, images, trace = vit(), make_images(), Trace()
    with torch.enable_grad():
        model(images, trace)
        block, tokens = model.blocks[1], trace.tokens[1].detach()
        normed = block.norm1(tokens).detach().requires_grad_()
        tokens = tokens + block.ls1(block.attn(normed))
        tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
        (gradient,) = torch.autograd.grad(model.logit_lens(model.blocks[2](tokens))[:, 1].sum(), normed)
    patches, gradient = normed[:, 3:], gradient[:, 3:]
    for method, weights in ((grad_cam, gradient.mean(1, keepdim=True)), (hires_cam, gradient)):
        expected = torch.relu((patches * weights).sum(-1)).unflatten(1, (4, 6))
        maps = method(model, images, EEL, MethodOptions(layer=1))
        assert torch.allclose(maps.values, expected) and maps.layer == 1 and maps.values.max() > 0
        assert method(model, images, EEL, MethodOptions()).layer == 2


def test_gradients_before_the_norm_are_orthogonal_to_tokens():
    """The class token doesn't see the length of a patch before the norm: gradient and token are orthogonal there."""
    model, images, trace = vit(global_pool="token", depth=2), make_images(), Trace()
    with torch.enable_grad():
        score = model(images, trace)[:, 1].sum()
        gradient, behind = torch.autograd.grad(score, [trace.tokens[-2], trace.records[-1].inputs])
    prefix = trace.layout.num_prefix_tokens
    before = (gradient * trace.tokens[-2])[:, prefix:].sum(-1).abs().max()
    assert before < 1e-3 * (behind * trace.records[-1].inputs)[:, prefix:].sum(-1).abs().max()


def test_the_deciding_patch_is_found():
    """Known map: each class reads its own channel, and channels are the content of one patch each."""
    model = vit(torch.float32, depth=1, num_heads=1, reg_tokens=0, global_pool="avg")
    for weight in model.parameters():
        weight.zero_()
    model.norm.weight.fill_(1)
    model.patch_embed.proj.bias[20] = 3  # else the norm hides the contrast from the score, and x · gradient is 0
    for color in range(3):
        model.patch_embed.proj.weight.view(24, 3, 16)[5 + color, color] = 0.2 / 16
    model.head.weight[0, 5] = model.head.weight[1, 6] = 1
    image = torch.zeros(1, 3, 16, 24)
    image[0, 2] = 5
    image[0, 0, 4:8, 16:20] = 5
    image[0, 1, 8:12, 4:8] = 5
    for name in (*ON_PIXELS, "grad-cam"):
        for target, patch in ((CAT, (1, 4)), (EEL, (2, 1))):
            grid = METHODS[name].attribute(model, image, target, FEW.get(name, MethodOptions())).values[0]
            if name in ON_PIXELS:
                assert grid.shape == (16, 24)
                grid = grid.unflatten(1, (6, 4)).unflatten(0, (4, 4)).sum((1, 3))
            assert grid.argmax() == patch[0] * 6 + patch[1], (name, target.name)


@pytest.mark.parametrize("name", GRADIENT_METHODS)
@pytest.mark.parametrize(
    "target",
    [EEL, ClassDifferenceTarget(EEL, CAT), PredictedClassTarget(), FeatureNormTarget()],
    ids=lambda target: target.name,
)
def test_weights_are_unchanged_frozen_or_not(name, target):
    model, images = vit(), make_images()
    frozen = copy.deepcopy(model).requires_grad_(False)
    free = METHODS[name].attribute(model, images, target, FEW.get(name, MethodOptions()))
    bound = METHODS[name].attribute(frozen, images, target, FEW.get(name, MethodOptions()))
    assert torch.equal(free.values, bound.values) and free.values.abs().max() > 0
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    assert all(weight.grad is None and not weight.requires_grad for weight in frozen.parameters())
    assert not free.values.requires_grad and not free.logits.requires_grad and not images.requires_grad
    assert torch.equal(free.logits, model(images))


@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_a_batch_equals_single_images(name):
    model, images, few = vit(), make_images(count=3), FEW.get(name, MethodOptions())
    together = METHODS[name].attribute(model, images, PredictedClassTarget(), few).values
    for i in range(3):
        alone = METHODS[name].attribute(model, images[i : i + 1], PredictedClassTarget(), few).values[0]
        assert (together[i] - alone).abs().max() < 1e-10 * together[i].abs().max()


@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_half_precision(name):
    model, images = vit(torch.float32), make_images(torch.float32)
    exact = METHODS[name].attribute(model, images, EEL, FEW.get(name, MethodOptions())).values.flatten(1)
    maps = METHODS[name].attribute(model.bfloat16(), images.bfloat16(), EEL, FEW.get(name, MethodOptions()))
    assert maps.values.dtype == torch.float32 and maps.values.isfinite().all()
    similarity = torch.cosine_similarity(exact, maps.values.flatten(1)).min()
    assert similarity > 0.9, similarity


@pytest.mark.parametrize("name", ["integrated-gradients", "smoothgrad"])
def test_chunk_size_does_not_change_maps(name, monkeypatch):
    model, images, settings = vit(), make_images(), MethodOptions(n_steps=5, n_samples=5)
    monkeypatch.setattr(gradients, "GRADIENT_CHUNK_ELEMENTS", 3 * images.numel())
    several = METHODS[name].attribute(model, images, PredictedClassTarget(), settings)
    monkeypatch.setattr(gradients, "GRADIENT_CHUNK_ELEMENTS", 1)
    single = METHODS[name].attribute(model, images, PredictedClassTarget(), settings)
    assert (several.values - single.values).abs().max() < 1e-12


def test_smoothgrad_is_reproducible_from_its_seed():
    model, images = vit(), make_images()
    first = smoothgrad(model, images, EEL, MethodOptions(n_samples=4)).values
    assert torch.equal(first, smoothgrad(model, images, EEL, MethodOptions(n_samples=4)).values)
    assert not torch.allclose(first, smoothgrad(model, images, EEL, MethodOptions(n_samples=4, seed=1)).values)
    plain = input_x_gradient(model, images, EEL, MethodOptions()).values
    assert not torch.allclose(first, plain)
    assert torch.allclose(smoothgrad(model, images, EEL, MethodOptions(n_samples=4, noise_level=0.0)).values, plain)


def test_smoothgrad_noise_scales_with_the_range_of_the_image():
    """A brighter copy of an image gets the same map times its brightness, for a model with the same output."""
    model = vit()

    class Scaled(nn.Module):
        def forward(self, inputs, trace=None):
            return model(inputs / 7)

    images = make_images()
    usual = smoothgrad(model, images, EEL, MethodOptions(n_samples=3)).values
    assert torch.allclose(smoothgrad(Scaled(), images * 7, EEL, MethodOptions(n_samples=3)).values, usual)


class NoGradientModel(nn.Module):
    """A model without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = vit()

    def forward(self, inputs, trace=None):
        with torch.no_grad():
            return self.inner(inputs, trace)

    def logit_lens(self, tokens):
        return self.inner.logit_lens(tokens)


@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_a_model_without_gradient_is_refused(name):
    with pytest.raises(InputError, match="gives no gradient") as caught:
        METHODS[name].attribute(NoGradientModel(), make_images(), EEL, MethodOptions())
    named = {name for name in METHODS if re.search(rf" {name}\b", gradients.GRADIENT_FREE_METHODS)}
    assert named == {"attention", "rollout", "rise"} and gradients.GRADIENT_FREE_METHODS.startswith(
        "occlusion or rise, "
    )
    assert str(caught.value).endswith(f"that needs no gradient: {gradients.GRADIENT_FREE_METHODS}")


def test_invalid_options_and_models_raise():
    model = vit()

    class Bare:
        def __call__(self, inputs, trace=None):
            logits = model(inputs, trace)
            trace.tokens.clear()
            return logits

    with pytest.raises(
        InputError, match=r"legrad needs a model that can classify the tokens of each layer.*gradient-rollout"
    ):
        legrad(Bare(), make_images(), EEL, MethodOptions())
    with pytest.raises(InputError, match=r"needs the tokens between.*gradient-rollout"):
        grad_cam(Bare(), make_images(), EEL, MethodOptions())
    with pytest.raises(InputError, match="no layer 3: this model has layers 0 to 2"):
        grad_cam(vit(), make_images(), EEL, MethodOptions(layer=3))
    with pytest.raises(InputError, match="n_steps is 0: give 1 or more"):
        integrated_gradients(vit(), make_images(), EEL, MethodOptions(n_steps=0))
    with pytest.raises(InputError, match="n_samples is 0: give 1 or more"):
        smoothgrad(vit(), make_images(), EEL, MethodOptions(n_samples=0))
    with pytest.raises(InputError, match=r"noise_level is -0\.1: give a standard deviation"):
        smoothgrad(vit(), make_images(), EEL, MethodOptions(noise_level=-0.1))
