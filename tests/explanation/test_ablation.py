"""Ablated heads: zero columns of the output projection are the plain definition, for our own and for wrapped models."""

import copy
import sys
from pathlib import Path
from threading import Thread

import pytest
import torch
from torch import nn

import vitreous as vt
from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT

sys.path.append(str(Path(__file__).parent / "observation"))
from example_models import CLASSES, HEADS, Tutorial

IMAGES = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def random_vit(**options):
    torch.manual_seed(0)
    fields = {"image_size": (16, 24), "patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 4, "num_classes": 3}
    vit = ViT(ViTConfig(**(fields | options))).eval()
    for weight in vit.parameters():
        nn.init.normal_(weight, std=0.2)
    return vit


def without_columns(projection, num_heads, heads):
    """What removes heads by definition: the columns of the projection that read them become zero."""
    with torch.no_grad():
        projection.weight.unflatten(1, (num_heads, -1))[:, list(heads)] = 0


def test_the_logits_are_those_without_the_columns_of_the_projection():
    vit = random_vit(qk_norm=True, reg_tokens=2)
    plain = copy.deepcopy(vit)
    without_columns(plain.blocks[0].attn.proj, 4, [1, 3])
    without_columns(plain.blocks[2].attn.proj, 4, [0])
    before = vit(IMAGES)
    with vt.ablate_heads(vit, [(0, 3), (2, 0), (0, 1), (0, 1)]):
        found = vit(IMAGES)
    torch.testing.assert_close(found, plain(IMAGES), rtol=0, atol=1e-6)
    assert not torch.allclose(found, before, atol=1e-3) and torch.equal(vit(IMAGES), before)


@pytest.mark.parametrize("attention", ["matmul", "einsum", "bmm-heads-first", "kernel", "one-head"])
@pytest.mark.parametrize("trailing", [False, True])
def test_wrapped_models_lose_heads_by_the_same_definition(attention, trailing):
    torch.manual_seed(0)
    module = Tutorial(attention, trailing=trailing, pooling="last" if trailing else "first").eval()
    plain, heads = copy.deepcopy(module), 1 if attention == "one-head" else HEADS
    without_columns(plain.blocks[1].join, heads, [heads - 1])
    preprocessing = vt.Preprocessing((16, 24), "squash", (0.5,) * 3, (0.5,) * 3, 4)
    model = vt.wrap(module, preprocessing, list("abcde")).model
    before = model(IMAGES)
    with vt.ablate_heads(model, [(1, heads - 1)]):
        found, trace = model(IMAGES), Trace()
        observed = model(IMAGES, trace)
    torch.testing.assert_close(found, plain(IMAGES), rtol=0, atol=1e-6)
    assert torch.equal(found, observed) and len(trace.records) == 3 and found.shape == (2, CLASSES)
    assert torch.equal(model(IMAGES), before) and not torch.allclose(found, before, atol=1e-4)


def test_a_module_of_torch_loses_heads():
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2).eval()

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.encoder, self.head = nn.Conv2d(3, 16, 4, 4), encoder, nn.Linear(16, 5)
            self.positions = nn.Parameter(torch.randn(1, 24, 16))

        def forward(self, images):
            tokens = self.stem(images).flatten(2).transpose(1, 2) + self.positions
            return self.head(self.encoder(tokens).mean(1))

    module = Encoder().eval()
    plain = copy.deepcopy(module)
    without_columns(plain.encoder.layers[0].self_attn.out_proj, 4, [2])
    model = vt.wrap(module, vt.Preprocessing((16, 24), "squash", (0.5,) * 3, (0.5,) * 3, 4), list("abcde"))
    with vt.ablate_heads(model, [(0, 2)]):
        found = model.model(IMAGES)
    torch.testing.assert_close(found, plain(IMAGES), rtol=0, atol=1e-5)


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_the_gradient_does_not_reach_an_ablated_head(is_wrapped):
    vit = random_vit()
    torch.manual_seed(0)
    preprocessing = vt.Preprocessing((16, 24), "squash", (0.5,) * 3, (0.5,) * 3, 4)
    model = vt.wrap(Tutorial(), preprocessing, list("abcde")).model if is_wrapped else vit
    trace = Trace()
    with vt.ablate_heads(model, [(1, 1)]):
        logits = model(IMAGES, trace)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), trace.records[1].output)
    assert not gradient[:, 1].any() and gradient[:, 0].any()


def test_contexts_are_nested_and_other_threads_see_the_whole_model():
    vit, found = random_vit(), []
    before = vit(IMAGES)
    with vt.ablate_heads(vit, [(0, 0)]):
        one = vit(IMAGES)
        with vt.ablate_heads(vit, [(1, 2)]):
            both = vit(IMAGES)
            thread = Thread(target=lambda: found.append(vit(IMAGES)))
            thread.start()
            thread.join()
        assert torch.equal(vit(IMAGES), one)
    with vt.ablate_heads(vit, [(0, 0), (1, 2)]):
        assert torch.equal(vit(IMAGES), both)
    assert torch.equal(found[0], before) and not torch.equal(one, both)
    assert not any(part._forward_pre_hooks for part in vit.modules())


@pytest.mark.parametrize("heads", [[(3, 0)], [(0, 4)], [(-1, 0)], [(0,)], ["ab"], 3, [(0, True)], [(0.0, 1)]])
def test_heads_that_are_not_there_are_refused(heads):
    vit = random_vit()
    with pytest.raises(InputError, match=r"there is no head|give a list"), vt.ablate_heads(vit, heads):
        pass
    assert not any(part._forward_pre_hooks for part in vit.modules())


def test_models_that_do_not_allow_it_get_one_line():
    with pytest.raises(InputError, match=r"neither a ViT .* nor wrapped"), vt.ablate_heads(nn.Linear(2, 2), [(0, 0)]):
        pass
    torch.manual_seed(0)
    preprocessing = vt.Preprocessing((16, 24), "squash", (0.5,) * 3, (0.5,) * 3, 4)
    model = vt.wrap(Tutorial(), preprocessing, list("abcde"))
    with (
        vt.ablate_heads(model, [(1, 5)]),
        pytest.raises(InputError, match="no head 5 in layer 1: layer 1 has heads 0 to 1"),
    ):
        model.model(IMAGES)
    with vt.ablate_heads(model, [(7, 0)]), pytest.raises(InputError, match="the model has layers 0 to 2"):
        model.model(IMAGES)
    convolution = nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model = vt.wrap(convolution, preprocessing, list("abcde"))
    with vt.ablate_heads(model, [(0, 0)]), pytest.raises(InputError, match="no attention was observed"):
        model.model(IMAGES)
