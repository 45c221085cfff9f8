"""Features: the components are the principal ones, stable, in colors; likeness and lengths as defined."""

import pytest
import torch
from sklearn.decomposition import PCA
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.methods.features import JointPCA, SharedPCA, apply_final_norm, features, patch_features
from vitreous.explanation.methods.patch_colors import PatchColors
from vitreous.explanation.options import MethodOptions
from vitreous.model.config import ViTConfig
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT
from vitreous.tasks.classification.targets import PredictedClassTarget


def small_vit(pooling="token", **options) -> ViT:
    torch.manual_seed(0)
    chosen = {
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 2,
        "num_classes": 3,
        "reg_tokens": 2,
        "global_pool": pooling,
        **options,
    }
    vit = ViT(ViTConfig((12, 20), 4, **chosen)).eval()
    with torch.no_grad():
        for weight in vit.parameters():
            weight.normal_(std=0.3)
    return vit


def feature_maps(vit, images, **chosen):
    with torch.no_grad():
        return features(vit, images, PredictedClassTarget(), MethodOptions(**chosen))


def components(patches, grid_hw):
    images = patches.view(1, *grid_hw, -1)
    return PatchColors.fit(images).project(patches)


def test_components_equal_scikit_learns_up_to_sign():
    patches = torch.randn(35, 12, dtype=torch.float64) * torch.linspace(1, 3, 12)
    found, theirs = components(patches, (5, 7)), torch.from_numpy(PCA(3).fit_transform(patches.numpy()))
    assert torch.allclose(found.abs(), theirs.abs(), atol=1e-9)
    assert torch.allclose(found.T @ found, torch.diag((found**2).sum(0)), atol=1e-8)


def test_signs_do_not_depend_on_the_order_of_patches():
    patches = torch.randn(35, 12, dtype=torch.float64) * torch.linspace(1, 3, 12)
    first = components(patches, (5, 7))
    assert torch.equal(components(patches, (5, 7)), first)
    nearly = components(patches + 1e-9 * torch.randn(35, 12), (5, 7))
    assert torch.allclose(nearly, first, atol=1e-6)
    inside = torch.zeros(5, 7, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    assert first[inside.flatten(), 0].mean() > 0 > first[~inside.flatten(), 0].mean()


def test_a_centered_object_is_above_the_mean():
    middle = torch.zeros(6, 9, 4, dtype=torch.float64)
    for sign in (1, -1):
        middle[2:4, 3:6, 1] = sign
        found = components(middle.flatten(0, 1), (6, 9)).view(6, 9, 3)[..., 0]
        assert found[2:4, 3:6].min() > 0 > found[0].max()


def test_colors_stretch_each_component_and_clip_outliers():
    patches = torch.rand(1, 10, 20, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 10, 100])
    for outlying in (0, 1e4):
        patches[0, 3, 4, 2] += outlying
        chosen = PatchColors.fit(patches)
        colors = chosen.to_rgb(chosen.project(patches)).flatten(0, 2)
        assert colors.min() == 0 and colors.max() == 1
        assert (colors.std(0) > 0.25).all()  # an even spread has 0.29; stretched to the outlier it would have 0.07


def test_shared_pca_keeps_colors_until_reset():
    vit, images = small_vit(), torch.randn(4, 3, 12, 20)
    kept = SharedPCA()

    def show_kept(some):
        with torch.no_grad():
            return kept(vit, some, PredictedClassTarget(), MethodOptions())

    first = show_kept(images[:2])
    later = show_kept(torch.cat([images[2:], images[:1]]))
    assert torch.allclose(later.colors[2], first.colors[0], atol=1e-5)
    assert torch.allclose(later.values[2], first.values[0], atol=1e-5)
    by_itself = feature_maps(vit, images[2:3])
    assert not torch.allclose(later.colors[0], by_itself.colors[0], atol=0.1)
    kept.reset()
    assert torch.allclose(show_kept(images[2:3]).colors, by_itself.colors, atol=1e-5)


def test_joint_components_are_those_of_both_images():
    vit, images, other = small_vit(), torch.randn(2, 3, 12, 20), torch.randn(1, 3, 16, 12)
    with torch.no_grad():
        maps = JointPCA(other)(vit, images, PredictedClassTarget(), MethodOptions(layer=0))
        reverse = JointPCA(images[:1])(vit, other, PredictedClassTarget(), MethodOptions(layer=0))
    tokens = [patch_features(vit, one, 0)[0] for one in (images[:1], images[1:], other)]
    assert tokens[2].shape[:2] == (4, 3), "the grids differ"
    for one, values, colors in zip(tokens, maps.values, maps.colors, strict=False):
        flat = torch.cat([one.flatten(0, 1), tokens[2].flatten(0, 1)]).double()
        _, _, directions = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
        wanted = ((one.double() - flat.mean(0)) @ directions[0]).float()
        assert torch.allclose(values.abs(), wanted.abs(), atol=1e-4)
        assert colors.min() >= 0 and colors.max() <= 1 and colors.std() > 0.1
    both = torch.cat([maps.values[0].flatten(), reverse.values.flatten()])
    assert abs(float(both.mean())) < 1e-5, "one mean and one sign for both"


def test_shared_pca_refits_when_it_explains_little():
    kept, rng = SharedPCA(), torch.Generator().manual_seed(0)
    black = torch.randn(1, 5, 7, 12, generator=rng) * torch.tensor([1.0] * 3 + [1e-3] * 9)
    usual = torch.randn(1, 5, 7, 12, generator=rng) * torch.tensor([1e-2] * 9 + [1.0] * 3)
    (first,) = kept._fit(black)
    assert kept._fit(black + 1)[0] is first
    (second,) = kept._fit(usual)
    assert second is not first and second.explained_variance_ratio(usual) > 0.9 > 0.1 > first.explained_variance_ratio(
        usual
    )


@pytest.mark.parametrize("pooling", ["token", "avg", "attention", "map"])
def test_maps_have_the_models_grid_for_every_pooling(pooling):
    vit, images = small_vit(pooling), torch.randn(3, 3, 12, 20)
    maps = feature_maps(vit, images)
    assert maps.values.shape == (3, 3, 5) and maps.colors.shape == (3, 3, 5, 3) and maps.layer == 1
    assert maps.colors.min() >= 0 and maps.colors.max() <= 1
    alone = feature_maps(vit, images[1:2])
    assert torch.allclose(alone.colors[0], maps.colors[1], atol=1e-3)
    assert torch.allclose(maps.values.mean((1, 2)), torch.zeros(3), atol=1e-4)


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_similarity_equals_the_cosine_of_normalized_tokens(layer):
    vit, images = small_vit(), torch.randn(2, 3, 12, 20)
    maps = feature_maps(vit, images, view="similarity", query=(1, 3), layer=layer)
    trace = Trace()
    with torch.no_grad():
        vit(images, trace)
        tokens = vit.norm(trace.tokens[1:][layer])[:, 3:]
    wanted = functional.cosine_similarity(tokens, tokens[:, 8:9], -1).view(2, 3, 5)
    assert torch.allclose(maps.values, wanted, atol=1e-6) and maps.colors is None
    assert torch.allclose(maps.values[:, 1, 3], torch.ones(2)) and maps.layer == layer % 2


@pytest.mark.parametrize("pooling", ["avg", "token"])
def test_with_fc_norm_tokens_are_normalized_by_its_layer(pooling):
    vit, images, trace = small_vit(pooling, fc_norm=True), torch.randn(2, 3, 12, 20), Trace()
    with torch.no_grad():
        vit(images, trace)
        tokens = vit.fc_norm(trace.tokens[-1])
        assert torch.equal(apply_final_norm(vit, trace.tokens[-1]), tokens)
        assert not torch.allclose(tokens, trace.tokens[-1], atol=0.1)
    patches = tokens[:, trace.layout.num_prefix_tokens :]
    wanted = functional.cosine_similarity(patches, patches[:, 8:9], -1).view(2, 3, 5)
    assert torch.allclose(feature_maps(vit, images, view="similarity", query=(1, 3)).values, wanted, atol=1e-6)
    components = [PatchColors.fit(one[None]).project(one) for one in patches.unflatten(1, (3, 5))]
    assert torch.allclose(feature_maps(vit, images).values, torch.stack(components)[..., 0].float(), atol=1e-5)


def test_norms_are_relative_to_the_median():
    vit, images = small_vit(), torch.randn(2, 3, 12, 20)
    grids, trace = feature_maps(vit, images, view="norms").values, Trace()
    with torch.no_grad():
        vit(images, trace)
    norms = trace.tokens[-1][:, 3:].norm(dim=-1)
    assert torch.allclose(grids.flatten(1), norms / norms.median(1, keepdim=True).values - 1, atol=1e-6)


def test_few_patches_and_flat_images_have_colors():
    vit = small_vit()
    for size in ((4, 4), (4, 8), (8, 8)):
        assert torch.isfinite(feature_maps(vit, torch.randn(1, 3, *size)).colors).all()
    assert torch.isfinite(feature_maps(vit, torch.zeros(1, 3, 12, 20)).colors).all()


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"view": "similarity"}, "give that patch as query"),
        ({"query": (0, 0)}, "doesn't use a query"),
        ({"view": "similarity", "query": (3, 0)}, "no patch at row 3"),
        ({"layer": 2}, "no layer 2"),
    ],
)
def test_invalid_options_raise(chosen, words):
    with pytest.raises(InputError, match=words):
        feature_maps(small_vit(), torch.randn(1, 3, 12, 20), **chosen)


def test_a_model_without_observable_tokens_raises():
    vit = small_vit()

    def hiding(images, trace=None):
        logits = vit(images, trace)
        trace.tokens.clear()
        return logits

    with pytest.raises(InputError, match="needs the tokens"):
        feature_maps(hiding, torch.randn(1, 3, 12, 20))
