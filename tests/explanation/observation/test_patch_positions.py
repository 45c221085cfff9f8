"""Where the patches of an observed model lie in its image: the patch size, images padded inside, what is drawn."""

import numpy as np
import pytest
import torch
from example_models import PATCH, Tutorial
from torch import nn
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.explain import all_heads, explain_batch
from vitreous.explanation.observation.observe import observe
from vitreous.explanation.observation.wrapped_model import WrappedModel
from vitreous.explanation.options import MethodOptions
from vitreous.imaging.geometry import Geometry
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.trace import TokenLayout
from vitreous.pretrained.wrap import wrap

HALF = (0.5,) * 3


class PaddingModel(Tutorial):
    """Pads its image at the bottom and right to whole patches, as timm's `dynamic_img_pad` does."""

    def forward(self, images):
        height, width = images.shape[2:]
        return super().forward(functional.pad(images, (0, -width % PATCH, 0, -height % PATCH)))


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(15, 22), (14, 24), (13, 13), (16, 24)])
def test_a_padding_model_has_its_own_patch_size(height, width):
    torch.manual_seed(0)
    model = PaddingModel()
    assert WrappedModel(model.eval()).structure(torch.randn(1, 3, height, width)).patch_hw == (PATCH, PATCH)
    model.pretrained_cfg = {"input_size": (3, height, width), "mean": HALF, "std": HALF, "crop_mode": "squash"}
    assert wrap(model).preprocessing.patch_size == PATCH
    with torch.no_grad(), observe(model) as trace:
        model(torch.randn(2, 3, height, width))
    assert trace.layout == TokenLayout(1, -(-height // PATCH), -(-width // PATCH))


def test_maps_of_a_padding_model_are_drawn_on_its_patches():
    torch.manual_seed(0)
    classifier = wrap(PaddingModel(), Preprocessing((14, 22), "squash", HALF, HALF, PATCH))
    image = photo(140, 220)
    (found,) = explain_batch(classifier, [image], "attention")
    assert found.patch_map.shape == (4, 6) and found.geometry.box == (0, 0, 160, 240)
    expected = Geometry((160, 240), (16, 24), (0, 0, 160, 240)).to_image(found.patch_heatmap)
    assert np.allclose(found.heatmap, expected[:140, :220])
    (pixels,) = explain_batch(classifier, [image], "input-x-gradient")
    assert pixels.patch_map.shape == (14, 22) and pixels.geometry.box == (0, 0, 140, 220)
    heads = np.mean(all_heads(classifier, image).heatmaps[-1], 0)
    assert np.allclose(heads, expected[:140, :220] * 24 / found.patch_map.size, atol=1e-5)
    (queried,) = explain_batch(classifier, [image], "attention", MethodOptions(), query=(219, 139))
    assert queried.region is not None and queried.region.patches == ((3, 5),)


def test_a_true_patch_size_is_accepted():
    classifier = wrap(PaddingModel(), Preprocessing((15, 22), "squash", HALF, HALF, PATCH))
    assert classifier.preprocessing.patch_size == PATCH
    with pytest.raises(InputError, match="patch_size=8, but the model's patches are 4 pixels"):
        wrap(PaddingModel(), Preprocessing((15, 22), "squash", HALF, HALF, 8))


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("trailing", [False, True])
def test_every_pixel_belongs_to_its_patch(prefix, trailing):
    """A changed pixel changes its own token of the first values, and no other."""
    torch.manual_seed(0)
    model = Tutorial("kernel", prefix=prefix, trailing=trailing).eval()
    images = torch.randn(1, 3, 16, 24)
    changed = images.clone()
    changed[:, :, 9, 13] += 1
    values = []
    for given in (images, changed):
        with torch.no_grad(), observe(model) as trace:
            model(given)
        values.append(trace.records[0].value)
    moved = (values[0] != values[1]).any(1).any(-1)[0].nonzero().flatten().tolist()
    assert moved == [prefix + 9 // PATCH * 6 + 13 // PATCH]


def test_token_0_of_a_model_without_class_token_is_no_pooling():
    torch.manual_seed(0)
    model = Tutorial("kernel", prefix=0, pooling="first").eval()
    classifier = wrap(model, Preprocessing((16, 24), "squash", HALF, HALF, PATCH))
    (found,) = explain_batch(classifier, [photo(16, 24)], "attention")
    assert found.layer == 2 and "pooling" not in found.caption()
    inputs, _ = classifier.preprocess(photo(16, 24))
    with torch.no_grad(), observe(model) as trace:
        model(inputs[None])
    record = trace.records[-1]
    expected = torch.softmax(record.scale * record.query[0, :, :1] @ record.key[0].transpose(1, 2), -1).mean(0)
    assert np.allclose(found.patch_map.ravel(), expected[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_wide_stems_keep_their_places(seed):
    """A stack of convolutions, of which each patch sees four cells, is neither cropped nor moved."""
    torch.manual_seed(seed)
    model, sizes = Tutorial("kernel"), [(3, 8, 2), (8, 8, 1), (8, 8, 1), (8, 16, 2), (16, 16, 1)]
    model.stem = nn.Sequential(
        *(nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.ReLU()) for a, b, stride in sizes)
    )
    trace_of = WrappedModel(model.eval()).structure
    assert trace_of(torch.randn(1, 3, 16, 24)).patch_hw == (PATCH, PATCH)
    own = model.forward
    model.forward = lambda images: own(images.flip(2))
    with pytest.raises(InputError, match="moves the image"):
        WrappedModel(model).structure(torch.randn(1, 3, 16, 24))


def test_an_image_normalized_or_colored_inside_keeps_its_places():
    torch.manual_seed(0)
    model = Tutorial("kernel")
    model.stem = nn.Sequential(nn.InstanceNorm2d(3), nn.Conv2d(3, 3, 1), model.stem)
    with torch.no_grad(), observe(model.eval()) as trace:
        model(torch.randn(2, 3, 16, 24))
    assert trace.layout == TokenLayout(1, 4, 6)


class PoolingTokenizer(nn.Module):
    """Convolutions and poolings make the tokens, which are pooled by learned weights (CCT, Hassani et al. 2021)."""

    def __init__(self, repeats=1, pooling=None, squeeze=False):
        super().__init__()
        pooling = pooling or nn.MaxPool2d(3, 2, 1)
        self.first, self.pooling, self.squeeze = nn.Conv2d(3, 16, 3, 1, 1, bias=False), pooling, squeeze
        self.others = nn.ModuleList([nn.Conv2d(16, 16, 3, 1, 1, bias=False) for _ in range(repeats - 1)])
        self.layers = nn.ModuleList([nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(2)])
        self.weights, self.head = nn.Linear(16, 1), nn.Linear(16, 3)

    def forward(self, images):
        cells = self.first(images).relu()
        if self.squeeze:
            cells = cells * functional.adaptive_avg_pool2d(cells, 1).sigmoid()
        cells = self.pooling(cells)
        for other in self.others:
            cells = self.pooling(other(cells).relu())
        tokens = cells.flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens)
        self.pooling_weights = self.weights(tokens).softmax(1)
        return self.head((self.pooling_weights.transpose(1, 2) @ tokens).squeeze(1))


@pytest.mark.parametrize(
    ("stem", "patch"),
    [
        ({}, 2),
        ({"repeats": 2}, 4),
        ({"pooling": nn.MaxPool2d(2)}, 2),
        ({"pooling": nn.AvgPool2d(3, 2, 1)}, 2),
        ({"squeeze": True}, 2),
    ],
    ids=str,
)
def test_a_tokenizer_may_end_in_pooling(stem, patch):
    torch.manual_seed(0)
    model = PoolingTokenizer(**stem)
    classifier = wrap(model, Preprocessing((32, 48), "squash", HALF, HALF, patch))
    (found,) = explain_batch(classifier, [photo(32, 48)], "attention")
    expected = model.pooling_weights.detach().view(32 // patch, 48 // patch).numpy()
    np.testing.assert_allclose(found.patch_map, expected, rtol=1e-4)
    assert explain_batch(classifier, [photo(32, 48)], "rollout")[0].patch_map.shape == expected.shape


BLUR = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
STEMS = {
    "overlapping patches": lambda: nn.Conv2d(3, 16, 6, 4, 1),
    "convolutions": lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.GELU(), nn.Conv2d(8, 16, 3, 2, 1)),
    "patches of a blurred image": lambda: nn.Sequential(BLUR, nn.Conv2d(3, 16, 4, 4)),
    "hybrid": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 16, 3, 1, 1)
    ),
}


def turned(angle: float):
    """Turn images by an angle, in degrees."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))

    def turn(images):
        grid = functional.affine_grid(images.new_tensor([[[cos, -sin, 0], [sin, cos, 0]]]), images.shape, False)
        return functional.grid_sample(images, grid, align_corners=False)

    return turn


def with_inner_patches_swapped(images):
    moved = images.clone()
    moved[:, :, 8:12, 8:12], moved[:, :, 16:20, 12:16] = images[:, :, 16:20, 12:16], images[:, :, 8:12, 8:12]
    return moved


MOVES = {
    "transposed": lambda images: images.mT,
    "turned by 90 degrees": lambda images: images.rot90(1, (2, 3)),
    "turned by 15 degrees": turned(15),
    "rolled by a patch": lambda images: images.roll(4, 3),
    "lower half mirrored": lambda images: torch.cat([images[:, :, :16], images[:, :, 16:].flip(-1)], 2),
    "inner patches swapped": with_inner_patches_swapped,
}


def seen_through(stem, change=lambda images: images, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = Tutorial("kernel")
    model.stem, model.positions = stem(), nn.Parameter(torch.randn(1, 256, 16))
    own = model.forward
    model.forward = lambda images: own(change(images))
    return model.eval()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stem", STEMS)
def test_patches_that_overlap_are_accepted(stem, seed):
    for height, width in ((32, 32), (16, 24), (48, 64)):
        model = seen_through(STEMS[stem], seed=seed)
        assert WrappedModel(model).structure(torch.randn(1, 3, height, width)).patch_hw == (PATCH, PATCH)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("stem", STEMS)
def test_a_moved_image_of_overlapping_patches_raises(stem, move):
    if (stem, move) == ("hybrid", "inner patches swapped"):
        pytest.skip("what its patches see is wider than two patches")
    with pytest.raises(InputError, match="moves the image"):
        WrappedModel(seen_through(STEMS[stem], MOVES[move])).structure(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("pixels", [31, 30, 29])
def test_an_image_cropped_at_the_end_and_stretched_raises(pixels):
    crop = lambda images: functional.interpolate(images[..., :pixels], (32, 32), mode="bilinear")  # noqa: E731
    for stem in (lambda: nn.Conv2d(3, 16, 4, 4), STEMS["convolutions"]):
        with pytest.raises(InputError, match=f"last {32 - pixels} columns of pixels reach no token"):
            WrappedModel(seen_through(stem, crop)).structure(torch.randn(1, 3, 32, 32))


def test_an_image_padded_at_the_end_and_shrunk_raises():
    pad = lambda images: functional.interpolate(functional.pad(images, (0, 2, 0, 2)), (32, 32), mode="bilinear")  # noqa: E731
    with pytest.raises(InputError, match="moves the image"):
        WrappedModel(seen_through(lambda: nn.Conv2d(3, 16, 4, 4), pad)).structure(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize(
    "change",
    [
        lambda images: functional.interpolate(images[..., :28], (32, 32)),
        lambda images: functional.pad(images[..., :30], (2, 0)),
        lambda images: images[..., :30, :30],
    ],
)
def test_an_image_whose_size_the_patch_divides_has_no_pixels_left_over(change):
    stem = lambda: nn.Conv2d(3, 16, 4, 4)  # noqa: E731
    with pytest.raises(InputError, match="the model crops the image"):
        WrappedModel(seen_through(stem, change)).structure(torch.randn(1, 3, 32, 32))
    with pytest.raises(InputError, match="left over: choose a size that the patch divides"):
        WrappedModel(seen_through(stem)).structure(torch.randn(1, 3, 30, 30))
