"""Masked patches: what the model gets, against the definition of each fill, and what stays as it was."""

import sys
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from torch import nn

import vitreous as vt
from vitreous.diagnostics.faithfulness.imputation import impute
from vitreous.diagnostics.patch_masking import FILLS
from vitreous.errors import InputError

sys.path.append(str(Path(__file__).parents[1] / "explanation" / "observation"))
from example_models import Tutorial

MASK = np.zeros((3, 4), bool)
MASK[0, 1] = MASK[2, 2] = MASK[2, 3] = True
PIXELS = torch.from_numpy(MASK.repeat(8, 0).repeat(8, 1))


@pytest.fixture(scope="module")
def classifier(small_classifier):
    """The small classifier with random weights everywhere, so that every patch matters."""
    torch.manual_seed(1)
    for weight in small_classifier.model.parameters():
        nn.init.normal_(weight, std=0.3)
    return small_classifier


@pytest.fixture
def received(classifier):
    """The images that the patch embedding gets, newest last."""
    images = []
    hook = classifier.model.patch_embed.register_forward_hook(lambda _, inputs, __: images.append(inputs[0]))
    yield images
    hook.remove()


@pytest.mark.parametrize("fill", sorted(FILLS))
def test_masked_pixels_are_filled_and_the_others_stay(fill, classifier, noise_image, received):
    pixels = classifier.preprocess(noise_image)[0]
    before = classifier.predict(noise_image)
    with vt.mask_patches(classifier, MASK, fill=fill):
        classifier.predict(noise_image)
    (found,) = received[-1]
    assert torch.equal(found[:, ~PIXELS], pixels[:, ~PIXELS])
    if fill == "mean":
        assert not found[:, PIXELS].any()
    elif fill == "neighbors":
        torch.testing.assert_close(found, impute(pixels[None], ~PIXELS[None])[0])
    else:
        weights = [np.exp(-(np.subtract.outer(np.arange(n), np.arange(n)) ** 2) / 128) for n in (24, 32)]
        down, across = (one / one.sum(1, keepdims=True) for one in weights)
        expected = down @ pixels.double().numpy() @ across.T
        np.testing.assert_allclose(found[:, PIXELS].numpy(), expected[:, PIXELS.numpy()], atol=1e-5)
    assert classifier.predict(noise_image) == before


def test_explanations_and_embeddings_are_those_of_the_changed_input(classifier, noise_image):
    pixels, _ = classifier.preprocess(noise_image)
    changed = (pixels * ~PIXELS)[None]
    with vt.mask_patches(classifier, MASK):
        maps = {name: vt.explain(classifier, noise_image, method=name) for name in ("rollout", "gradient-rollout")}
        vector = classifier.embed(noise_image)
    for name, found in maps.items():
        expected = vt.attribute(classifier, changed, method=name)[0]
        np.testing.assert_allclose(found.patch_map, expected.numpy(), atol=1e-6)
    torch.testing.assert_close(vector, classifier.embed_inputs(changed)[0].detach())


def test_copies_that_a_method_changes_are_masked_too(classifier, noise_image):
    with vt.mask_patches(classifier, np.ones((3, 4), bool)):
        found = vt.explain(classifier, noise_image, method="occlusion")
    assert np.abs(found.patch_map).max() < 1e-6


def test_gradients_treat_new_pixels_as_constants(classifier, noise_image):
    pixels = classifier.preprocess(noise_image)[0][None].requires_grad_()
    with vt.mask_patches(classifier, MASK, fill="blur"):
        (gradient,) = torch.autograd.grad(classifier.model(pixels)[0, 0], pixels)
    assert not gradient[..., PIXELS].any() and gradient[..., ~PIXELS].any()


def test_a_wrapped_model_is_masked_and_loses_heads_together(noise_image):
    torch.manual_seed(0)
    preprocessing = vt.Preprocessing((24, 32), "squash", (0.5,) * 3, (0.5,) * 3, 4)
    model = vt.wrap(Tutorial(), preprocessing, list("abcde"))
    mask = np.zeros((6, 8), bool)
    mask[:3] = True
    pixels = model.preprocess(noise_image)[0][None]
    changed = pixels.clone()
    changed[:, :, :12] = 0
    with vt.mask_patches(model, mask):
        assert torch.equal(model.model(pixels), model.model.module(changed))
        assert torch.equal(model.model(images=pixels), model.model.module(changed))
        masked = vt.explain(model, noise_image, method="attention").patch_map
    np.testing.assert_allclose(masked, vt.attribute(model, changed)[0].numpy(), atol=1e-6)
    with vt.ablate_heads(model, [(0, 1)]):
        expected = model.model(changed)
    with vt.mask_patches(model, mask), vt.ablate_heads(model, [(0, 1)]):
        assert torch.equal(model.model(pixels), expected)


def test_other_threads_see_the_whole_image(classifier, noise_image):
    before, found = classifier.predict(noise_image), []
    with vt.mask_patches(classifier, MASK):
        thread = Thread(target=lambda: found.append(classifier.predict(noise_image)))
        thread.start()
        thread.join()
    assert found == [before] and not classifier.model.patch_embed._forward_pre_hooks


@pytest.mark.parametrize(
    ("mask", "fill", "message"),
    [
        (MASK.astype(int), "mean", "NumPy array of bool"),
        ([[True]], "mean", "NumPy array of bool"),
        (MASK[0], "mean", "NumPy array of bool"),
        (MASK, "median", "no fill 'median'"),
        (np.ones((3, 4), bool), "neighbors", "every patch is masked"),
    ],
)
def test_what_is_no_mask_is_refused(mask, fill, message, classifier):
    with pytest.raises(InputError, match=message), vt.mask_patches(classifier, mask, fill=fill):
        pass
    assert not classifier.model.patch_embed._forward_pre_hooks


def test_a_mask_of_another_grid_is_refused_at_the_call(classifier, noise_image):
    with (
        vt.mask_patches(classifier, MASK.T),
        pytest.raises(InputError, match="4 x 3 patches, the model's input 3"),
    ):
        classifier.predict(noise_image)
    with pytest.raises(InputError, match="is not a model"), vt.mask_patches(nn.Identity(), MASK):
        pass
