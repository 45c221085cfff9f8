"""`observe` finds grid, prefix tokens and readout from the model alone, or says why it can't."""

import pytest
import torch
from example_models import CLASSES, PATCH, WIDTH, Tutorial
from torch import nn
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.observation.observe import observe
from vitreous.model.trace import TokenLayout, Trace


def traced(model: nn.Module, height: int = 16, width: int = 24, batch: int = 2) -> Trace:
    model.eval()
    with torch.no_grad(), observe(model) as trace:
        model(torch.randn(batch, 3, height, width))
    return trace


def readout_of(trace: Trace) -> list[float]:
    """The readout of the first image; all images of these models have the same."""
    assert trace.readout is not None and torch.equal(trace.readout[0], trace.readout[1])
    assert trace.readout.sum(-1).tolist() == pytest.approx([1, 1])
    return trace.readout[0].tolist()


@pytest.mark.parametrize("prefix", [0, 1, 3])
@pytest.mark.parametrize(("height", "width"), [(16, 24), (24, 16), (4, 16), (16, 4), (8, 8)])
def test_prefix_and_grid_come_from_the_model(prefix, height, width):
    trace = traced(Tutorial(prefix=prefix, pooling="all"), height, width)
    assert trace.layout == TokenLayout(prefix, height // PATCH, width // PATCH)


@pytest.mark.parametrize(
    ("pooling", "prefix", "expected"),
    [
        ("first", 1, [1] + [0] * 24),
        ("last", 0, [0] * 23 + [1]),
        ("patches", 3, [0] * 3 + [1 / 24] * 24),
        ("all", 1, [1 / 25] * 25),
        ("two", 2, [2 / 3, 1 / 3] + [0] * 24),
    ],
)
def test_the_readout_is_found(pooling, prefix, expected):
    assert readout_of(traced(Tutorial(prefix=prefix, pooling=pooling))) == pytest.approx(expected, abs=1e-5)


def test_two_vectors_have_half_the_weight_each():
    model = Tutorial(prefix=2)
    model.head = nn.Linear(2 * WIDTH, CLASSES)
    model.read = lambda tokens: torch.cat([tokens[:, 0], tokens[:, 2:].mean(1)], 1)
    assert readout_of(traced(model)) == pytest.approx([1 / 2, 0] + [1 / 48] * 24, abs=1e-5)


def test_a_norm_after_pooling_changes_nothing():
    model = Tutorial(prefix=1, pooling="patches")
    model.norm, model.head = nn.Identity(), nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES))
    assert readout_of(traced(model)) == pytest.approx([0] + [1 / 24] * 24, abs=1e-5)


def test_attention_pooling_has_its_own_weights():
    model = Tutorial(prefix=0)
    query = torch.randn(1, 1, WIDTH)
    model.read = lambda tokens: functional.scaled_dot_product_attention(
        query.expand(len(tokens), -1, -1), tokens, tokens
    )[:, 0]
    model.eval()
    given = torch.randn(2, 3, 16, 24)
    into = []
    hook = model.norm.register_forward_hook(lambda module, inputs, output: into.append(output))
    with torch.no_grad(), observe(model) as trace:
        model(given)
    hook.remove()
    expected = torch.softmax(query @ into[-1].transpose(1, 2) * WIDTH**-0.5, -1).squeeze(1)
    assert trace.layout == TokenLayout(0, 4, 6) and torch.allclose(trace.readout, expected, atol=1e-6)
    assert not torch.allclose(expected[0], expected[1], atol=1e-4)


@pytest.mark.parametrize(
    ("pooling", "message"), [("max", "is not a fixed weighted sum"), ("difference", "subtracts some")]
)
def test_other_heads_raise(pooling, message):
    with pytest.raises(InputError, match=message):
        traced(Tutorial(prefix=2, pooling=pooling))


def test_a_head_of_zeros_raises():
    model = Tutorial()
    nn.init.zeros_(model.head.weight)
    with pytest.raises(InputError, match="all zeros"):
        traced(model)


def test_pooling_with_weights_from_the_tokens_raises():
    model = Tutorial(prefix=0)
    score = nn.Linear(WIDTH, 1)
    model.read = lambda tokens: (score(tokens).softmax(1) * tokens).sum(1)
    with pytest.raises(InputError, match="is not a fixed weighted sum"):
        traced(model)


class PatchifyModel(nn.Module):
    """Patches by rearranging pixels, and a linear map."""

    def __init__(self, how: str, *, columns_first: bool = False) -> None:
        super().__init__()
        self.how, self.columns_first = how, columns_first
        self.project = nn.Linear(3 * PATCH * PATCH, WIDTH)

    def forward(self, images):
        batch, _, height, width = images.shape
        rows, columns = height // PATCH, width // PATCH
        if self.how == "reshape":
            cut = images.reshape(batch, 3, rows, PATCH, columns, PATCH).permute(0, 2, 4, 3, 5, 1)
        elif self.how == "channels-last":
            cut = images.permute(0, 2, 3, 1).reshape(batch, rows, PATCH, columns, PATCH, 3).transpose(2, 3)
        elif self.how == "two-unfolds":
            cut = images.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 4, 5, 1)
        elif self.how == "pixel-unshuffle":
            cut = functional.pixel_unshuffle(images, PATCH).permute(0, 2, 3, 1)
        else:
            cut = functional.unfold(images, PATCH, stride=PATCH).transpose(1, 2).unflatten(1, (rows, columns))
        if self.columns_first:
            cut = cut.transpose(1, 2)
        # As a convolution's result, which Tutorial flattens again.
        return self.project(cut.flatten(3).flatten(1, 2) if cut.ndim > 4 else cut.flatten(1, 2)).transpose(1, 2)[
            ..., None
        ]


@pytest.mark.parametrize("how", ["reshape", "channels-last", "two-unfolds", "unfold", "pixel-unshuffle"])
def test_patches_without_a_convolution(how):
    model = Tutorial(prefix=2)
    model.stem = PatchifyModel(how)
    trace = traced(model)
    assert trace.layout == TokenLayout(2, 4, 6) and readout_of(trace)[0] == 1


@pytest.mark.parametrize("how", ["reshape", "unfold", "pixel-unshuffle"])
def test_column_major_patches_raise(how):
    model = Tutorial(prefix=1)
    model.stem = PatchifyModel(how, columns_first=True)
    with pytest.raises(InputError, match="of the model's 25 tokens, 4 x 6 should be patches row by row"):
        traced(model)


def test_tokens_among_the_patches_raise():
    model = Tutorial(prefix=2)
    read = model.blocks[0].forward
    order = [0, *range(2, 9), 1, *range(9, 26)]
    model.blocks[0].forward = lambda tokens: read(tokens[:, order])
    with pytest.raises(InputError, match="before or behind them"):
        traced(model)


def test_a_convolutional_stem():
    model = Tutorial(prefix=1)
    model.stem = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, WIDTH, 3, 2, 1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 1)
    )
    assert traced(model).layout == TokenLayout(1, 4, 6)


def test_ambiguous_grids_raise():
    model = Tutorial(prefix=1)
    model.positions = nn.Parameter(torch.randn(1, 200, WIDTH))
    model.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, WIDTH, 2, 2))
    coarse = model.stem[1].forward

    def both(features):
        fine = functional.conv2d(features, torch.ones(WIDTH, 8, 1, 1))
        return torch.cat([coarse(features).flatten(2), fine.flatten(2)], 2)[..., None]

    model.stem[1].forward = both
    with pytest.raises(InputError, match=r"31 tokens .* 4 x 6 or 2 x 3 cells: it isn't clear"):
        traced(model)


def test_a_pooled_patch_embedding():
    model = Tutorial(prefix=0)
    model.stem = nn.Sequential(nn.Conv2d(3, WIDTH, PATCH, PATCH), nn.AvgPool2d(2))
    assert traced(model).layout == TokenLayout(0, 2, 3)


class EverySecond(nn.Module):
    """Every second row and column of the features."""

    def forward(self, features):
        return features[:, :, ::2, ::2]


def test_fewer_tokens_than_patches_raise():
    model = Tutorial(prefix=0)
    model.stem = nn.Sequential(nn.Conv2d(3, WIDTH, PATCH, PATCH), EverySecond())
    with pytest.raises(InputError, match=r"6 tokens .* cut into 4 x 6 cells: fewer tokens than cells"):
        traced(model)


def test_leftover_pixels_raise():
    with pytest.raises(
        InputError, match="18 x 24 pixels are cut into 4 x 6 patches, of which some pixels are left over"
    ):
        traced(Tutorial(), 18, 24)


def test_no_patch_embedding_raises():
    class Rows(nn.Module):
        def forward(self, images):
            return images.mean(1).flatten(1)[:, : 2 * WIDTH].view(len(images), WIDTH, 2, 1)

    model = Tutorial()
    model.stem = Rows()
    with pytest.raises(InputError, match="no patch embedding was observed"):
        traced(model)


def test_frozen_weights_and_odd_precisions():
    model = Tutorial(pooling="patches").requires_grad_(requires_grad=False).to(torch.bfloat16).eval()
    with torch.no_grad(), observe(model) as trace:
        model(torch.randn(2, 3, 16, 24, dtype=torch.bfloat16))
    assert trace.readout.dtype == torch.float32
    assert trace.readout[0].tolist() == pytest.approx([0] + [1 / 24] * 24, abs=1e-2)
