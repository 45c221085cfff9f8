"""The contract that every method in the table meets, for any image, model and pooling."""

import numpy as np
import pytest
import torch

from vitreous.errors import InputError
from vitreous.explanation.explain import all_heads, explain_batch
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.registry import METHODS
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT


def classifier(resize="squash", **options) -> ImageClassifier:
    torch.manual_seed(0)
    chosen = {"embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 3, "reg_tokens": 2, **options}
    vit = ViT(ViTConfig((16, 24), 4, **chosen))
    with torch.no_grad():
        for weight in vit.parameters():
            weight.normal_(std=0.3)
    return ImageClassifier(vit, Preprocessing((16, 24), resize, (0.5,) * 3, (0.25,) * 3, 4), ["cat", "dog", "eel"])


def make_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pooling", ["token", "avg", "attention"])
@pytest.mark.parametrize("resize", ["squash", "crop", "aspect"])
def test_every_method_gives_a_finite_map_in_pixels_of_the_image(method, pooling, resize):
    model = classifier(resize, global_pool=pooling)
    images = [make_image(30, 50), make_image(50, 30), make_image(1, 1), make_image(16, 24)]
    explained = explain_batch(model, images, method)
    for image, one in zip(images, explained, strict=True):
        assert one.heatmap.shape == image.shape[:2] and one.heatmap.dtype == np.float32
        assert np.isfinite(one.heatmap).all()
        assert (one.heatmap >= 0).all() or one.scale_kind == "signed"
        assert 0 < one.patch_map.sum() <= 1 + 1e-5 or one.scale_kind != "proportion"
        assert one.overlay().size == (image.shape[1], image.shape[0])
    # The positive part of a class activation map may rightly be empty, for a model of random weights.
    assert max(np.abs(one.heatmap).max() for one in explained) > 0 or method.endswith("-cam")


@pytest.mark.parametrize("method", METHODS)
def test_models_are_unchanged(method):
    model, image = classifier(drop_path_rate=0.5), make_image(20, 30)
    model.model.train()
    model.model.eval()
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    first = explain_batch(model, [image], method)[0]
    second = explain_batch(model, [image], method)[0]
    assert np.array_equal(first.heatmap, second.heatmap)
    assert not model.model.training and torch.is_grad_enabled()
    assert all(torch.equal(before[name], value) for name, value in model.model.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in model.model.parameters())
    assert not any(module._forward_hooks for module in model.model.modules())


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_equals_single_images(method):
    model, images = classifier(), [make_image(20, 30, seed) for seed in range(3)]
    together = explain_batch(model, images, method)
    for image, one in zip(images, together, strict=True):
        alone = explain_batch(model, [image], method)[0]
        assert np.abs(one.heatmap - alone.heatmap).max() <= 1e-4 * np.abs(one.heatmap).max()
        assert one.prediction.label == alone.prediction.label == model.predict(image).label


def test_attention_falls_on_the_matching_key():
    """Known map: all keys but one patch's are orthogonal to every query, so that patch gets the attention."""
    model = classifier(depth=1, num_heads=1, reg_tokens=0, pos_embed="sincos")
    with torch.no_grad():
        for weight in model.model.parameters():
            weight.zero_()
        model.model.blocks[0].norm1.weight.fill_(1)
        model.model.patch_embed.proj.weight[0].fill_(1)
        model.model.cls_token[..., 1] = 8
        qkv = model.model.blocks[0].attn.qkv.weight
        qkv[0, 1], qkv[24, 0] = 30, 30
    image = np.zeros((16, 24, 3), np.uint8)
    image[4:8, 16:20] = 255
    grid = explain_batch(model, [image], "attention")[0].patch_map
    assert np.unravel_index(grid.argmax(), grid.shape) == (1, 4)
    assert grid[1, 4] > 2 * np.sort(grid.ravel())[-2]


def test_all_heads_equal_the_attention_method_for_each_head():
    model, image = classifier(), make_image(20, 30)
    maps = all_heads(model, image).heatmaps
    assert len(maps) == 3 and len(maps[0]) == 2
    one = explain_batch(model, [image], "attention", MethodOptions(1, 1))[0]
    assert np.allclose(maps[1][1], one.heatmap, atol=1e-6)
    assert (one.layer, one.head) == (1, 1) and one.caption() == "attention · layer 1 · head 1"


@pytest.mark.parametrize("pooling", ["attention", "map"])
@pytest.mark.parametrize("fusion", ["max", "min"])
def test_head_fusion_is_used_for_models_with_attention_pooling(pooling, fusion):
    model, image = classifier(global_pool=pooling), make_image(20, 30)
    plain, joined, last = (
        explain_batch(model, [image], "attention", chosen)[0]
        for chosen in (MethodOptions(), MethodOptions(head_fusion=fusion), MethodOptions(-1, head_fusion=fusion))
    )
    assert plain.caption() == "attention · the pooling's own weights"
    assert joined.caption() == last.caption() == f"attention · layer 2 · {fusion} over heads"
    assert np.array_equal(joined.patch_map, last.patch_map) and not np.allclose(joined.patch_map, plain.patch_map)


def test_uniform_attention_is_one_everywhere():
    model = classifier(global_pool="avg", reg_tokens=0)
    with torch.no_grad():
        for block in model.model.blocks:
            block.attn.qkv.weight.zero_()
    for method in [name for name, one in METHODS.items() if one.scale_kind == "proportion"]:
        assert np.allclose(explain_batch(model, [make_image(40, 20)], method)[0].heatmap, 1, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rolout", None), "did you mean 'rollout'"),
        (("attention", MethodOptions(3)), r"no layer 3: this model has layers 0 to 2"),
        (("attention", MethodOptions(-4)), "no layer -4"),
        (("attention", MethodOptions(0, 2)), "no head 2: this model has heads 0 to 1"),
        (("rollout", MethodOptions(0)), "doesn't use the option layer"),
        (("rollout", None, "dgo"), "did you mean 'dog'"),
    ],
)
def test_invalid_arguments_raise(arguments, words):
    with pytest.raises(InputError, match=words):
        explain_batch(classifier(), [make_image(8, 8)], *arguments)


def test_a_target_has_its_probability_as_score():
    model, image = classifier(), make_image(20, 30)
    one = explain_batch(model, [image], "rollout", None, "eel")[0]
    assert one.target == "eel" and one.score == dict(one.prediction.scores)["eel"]


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_the_same_in_inference_mode(method):
    model, image = classifier(), make_image(16, 24)
    usual = explain_batch(model, [image], method)[0]
    with torch.inference_mode():
        found = explain_batch(model, [image], method)[0]
    assert np.allclose(found.heatmap, usual.heatmap, atol=1e-5)


@pytest.mark.parametrize(("dtype", "least"), [(torch.float64, 0.999), (torch.bfloat16, 0.6)])
@pytest.mark.parametrize("method", METHODS)
def test_models_get_images_in_their_own_precision(method, dtype, least):
    model, image = classifier(), make_image(16, 24)
    exact = explain_batch(model, [image], method, target="cat")[0]
    model.model.to(dtype)
    assert model.preprocess(image)[0].dtype == dtype
    found = explain_batch(model, [image], method, target="cat")[0]
    assert np.corrcoef(found.heatmap.ravel(), exact.heatmap.ravel())[0, 1] > least


@pytest.mark.parametrize("method", ["rollout", "occlusion"])
def test_a_model_in_training_mode_raises(method):
    model = classifier()
    model.model.blocks[1].train()
    with pytest.raises(InputError, match="training mode"):
        explain_batch(model, [make_image(16, 24)], method)


def test_an_output_of_nan_raises():
    model = classifier()
    with torch.no_grad():
        model.model.head.bias[1] = float("nan")
    with pytest.raises(InputError, match="NaN or infinite"):
        explain_batch(model, [make_image(16, 24)], "rollout")
