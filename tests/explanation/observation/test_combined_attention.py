"""Attentions that are subtracted or added, and sums of layers, are refused; models that only look so are not."""

import pytest
import torch
from attention_forms import HEAD, HEADS, WIDTH, Attention, Block, softmax
from model_forms import Model, changed, of
from torch import Tensor, nn
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.observation.observe import observe
from vitreous.model.trace import Trace

SEEDS = range(5)
SCALES = {"default": 1.0, "large": 3.0, "small": 0.05}


def make(build, seed: int = 0, scale: str = "default") -> nn.Module:
    torch.manual_seed(seed)
    model = build().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(SCALES[scale] if "norm" not in name and parameter.ndim > 1 else 1.0)
    return model


def traced(model: nn.Module, side: int = 32) -> Trace:
    with torch.no_grad(), observe(model) as trace:
        model(torch.randn(1, 3, side, side))
    return trace


class Differential(Attention):
    """The half of the channels gives one attention, the other half the one that is subtracted (Differential ViT)."""

    def __init__(self) -> None:
        super().__init__()
        self.by_head, self.by_channel = torch.rand(HEADS, 1, 1) + 0.1, torch.rand(HEAD) + 0.1
        self.of_tokens, self.normalized = nn.Linear(WIDTH, HEADS), nn.RMSNorm(HEAD)

    def forward(self, tokens: Tensor) -> Tensor:
        self.tokens = tokens
        return super().forward(tokens)

    def gather(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        halves = zip(query.chunk(2, -1), key.chunk(2, -1), strict=True)
        one, other = (softmax(*half) @ value for half in halves)
        return self.combine(one, other)


DIFFERENCES = {
    "one weight": lambda self, one, other: one - 0.8 * other,
    "a weight for each head": lambda self, one, other: one - self.by_head * other,
    "a weight for each channel": lambda self, one, other: one - self.by_channel * other,
    "a weight for each token": lambda self, one, other: one - self.of_tokens(self.tokens).mT[..., None].exp() * other,
    "a small weight": lambda self, one, other: one - 0.02 * other,
    "normalized after": lambda self, one, other: self.normalized(one - self.by_head * other),
}  # fmt: skip


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", DIFFERENCES)
def test_differential_attention_raises(name, scale):
    kind = type("Kind", (Differential,), {"combine": DIFFERENCES[name]})
    for seed in SEEDS:
        with pytest.raises(InputError, match="subtracts one attention from another"):
            traced(make(of(kind), seed, scale))


@pytest.mark.parametrize("scale", SCALES)
def test_attentions_that_are_added_with_weights_raise(scale):
    kind = type("Kind", (Differential,), {"combine": lambda self, one, other: one + self.by_head * other})
    for seed in SEEDS:
        with pytest.raises(InputError, match="adds attentions with different weights"):
            traced(make(of(kind), seed, scale))


class ZeroTokens(Model):
    """Class token and positions begin as zeros, so that the class token's gradient exceeds all others'."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.token)
        nn.init.zeros_(self.positions)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("build", [Model, ZeroTokens])
def test_plain_attention_is_no_difference(build, scale):
    for seed in SEEDS:
        assert len(traced(make(build, seed, scale)).records) == 3


@pytest.mark.parametrize("name", ["Beit", "Data2VecVision", "ViTMSN", "ViT", "DeiT"])
@pytest.mark.parametrize(("side", "patch", "heads", "width"), [(32, 16, 2, 32), (64, 16, 4, 64), (8, 4, 2, 32)])
def test_untrained_models_of_transformers_are_observed(name, side, patch, heads, width):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(
        hidden_size=width, num_hidden_layers=3, num_attention_heads=heads, intermediate_size=64,
        image_size=side, patch_size=patch,
    )  # fmt: skip
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = getattr(transformers, f"{name}ForImageClassification")(config).eval()
        assert len(traced(model, side).records) == 3


def reading_sum(*weights: float) -> type[Model]:
    """A model whose head reads a weighted sum of the embedding and of the tokens after each layer."""

    def forward(self: Model, images: Tensor) -> Tensor:
        states = [self.embed(images)]
        for block in self.blocks:
            states.append(block(states[-1]))
        return self.read(sum(weight * one for weight, one in zip(weights, states, strict=True) if weight))

    return changed(forward=forward)


def reading_all_side_by_side(self: Model, images: Tensor) -> Tensor:
    states = [self.embed(images)]
    for block in self.blocks:
        states.append(block(states[-1]))
    return self.read(torch.cat(states[1:], -1) @ torch.linspace(-1, 1, 3 * WIDTH * WIDTH).view(-1, WIDTH))


def reading_last_two(combine, blocks: int):
    """A model whose head reads the tokens after its last two layers, combined in some way."""

    def forward(self: Model, images: Tensor) -> Tensor:
        tokens = self.embed(images)
        for block in self.blocks:
            before = tokens
            tokens = block(tokens)
        return self.head(combine(self, tokens, before))

    return changed(lambda: Model([Block] * blocks), forward=forward)


SIDE_BY_SIDE = torch.linspace(-1, 1, 2 * WIDTH * WIDTH).view(-1, WIDTH)
LAST_TWO = {
    "normalized, side by side": lambda self, x, y: (torch.cat([self.norm(x), self.norm(y)], -1) @ SIDE_BY_SIDE)[:, 0],
    "side by side": lambda self, x, y: (torch.cat([x, y], -1) @ SIDE_BY_SIDE)[:, 0],
    "means of patches": lambda self, x, y: (torch.cat([self.norm(x), self.norm(y)], -1)[:, 1:] @ SIDE_BY_SIDE).mean(1),
    "normalized, added": lambda self, x, y: (self.norm(x) + 30 * self.norm(y))[:, 0],
    "added": lambda self, x, y: self.norm(x + 3 * y)[:, 0],
    "stacked": lambda self, x, y: torch.stack([self.norm(x), self.norm(y)]).mean(0)[:, 0],
}


@pytest.mark.parametrize("blocks", [2, 3])
@pytest.mark.parametrize("name", LAST_TWO)
def test_a_head_that_reads_the_last_two_layers_raises(name, blocks):
    with pytest.raises(InputError, match="reads the tokens after several layers"):
        traced(make(reading_last_two(LAST_TWO[name], blocks=blocks)))


def test_a_last_layer_without_residual_connection_gets_none_from_the_head():
    bare = [lambda: Block(residual=False)] * 2

    def forward(self: Model, images: Tensor) -> Tensor:
        before = self.blocks[1](self.blocks[0](self.embed(images)))
        return self.read(self.blocks[2](before) + 3 * before)

    with pytest.raises(InputError, match="reads the tokens after several layers"):
        traced(make(changed(lambda: Model([Block, *bare]), forward=forward)))


def test_a_sum_after_normalized_layers_raises():
    def forward(self: Model, images: Tensor) -> Tensor:
        tokens = self.embed(images)
        for block in self.blocks:
            before = tokens
            tokens = block.norms[0](tokens + block.attention(tokens))
            tokens = block.norms[1](tokens + block.mlp(tokens))
        return self.read(tokens + 3 * before)

    with pytest.raises(InputError, match="reads the tokens after several layers"):
        traced(make(changed(forward=forward)))


SUMS = {
    "the last two layers": reading_sum(0.0, 0.0, 0.5, 0.5),
    "mean of the layers": reading_sum(0.0, 1 / 3, 1 / 3, 1 / 3),
    "the first and the last layer": reading_sum(0.0, 0.5, 0.0, 0.5),
    "the embedding and the last layer": reading_sum(0.5, 0.0, 0.0, 0.5),
    "layers side by side": changed(forward=reading_all_side_by_side),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_of_layers_raises(name):
    with pytest.raises(InputError, match="reads the tokens after several layers"):
        traced(make(SUMS[name]))


def by_scaled_residuals(self: Model, tokens: Tensor) -> Tensor:
    for block in self.blocks:
        tokens = 0.7 * tokens + block.attention(block.norms[0](tokens))
        tokens = 0.7 * tokens + block.mlp(block.norms[1](tokens))
    return tokens


def by_deepnorm(self: Model, tokens: Tensor) -> Tensor:
    for block in self.blocks:
        tokens = block.norms[0](2.0 * tokens + block.attention(tokens))
        tokens = block.norms[1](2.0 * tokens + block.mlp(tokens))
    return tokens


def by_rezero(self: Model, tokens: Tensor) -> Tensor:
    scale = nn.Parameter(torch.zeros(1))
    for block in self.blocks:
        tokens = tokens + scale * block.attention(tokens)
        tokens = tokens + scale * block.mlp(tokens)
    return tokens


def with_long_skips(self: Model, tokens: Tensor) -> Tensor:
    """U-ViT and models that give the embedding to each block again."""
    first = self.blocks[0](tokens)
    return self.blocks[2](self.blocks[1](first + 0.2 * tokens) + first)


def in_two_streams(self: Model, tokens: Tensor) -> Tensor:
    """The class token and the patches are kept apart."""
    token, patches = tokens[:, :1], tokens[:, 1:]
    for block in self.blocks:
        norm, other = block.norms
        gathered = block.attention(torch.cat([norm(token), norm(patches)], 1))
        token, patches = token + gathered[:, :1], patches + gathered[:, 1:]
        token, patches = token + block.mlp(other(token)), patches + block.mlp(other(patches))
    return torch.cat([token, patches], 1)


def reversible(self: Model, tokens: Tensor) -> Tensor:
    one = other = tokens
    for block in self.blocks:
        one = one + block.attention(block.norms[0](other))
        other = other + block.mlp(block.norms[1](one))
    return (one + other) / 2


def with_first_values(self: Model, tokens: Tensor) -> Tensor:
    """Values are mixed with those of the first layer (ResFormer)."""
    first = None
    for block in self.blocks:
        parts = block.attention.qkv(block.norms[0](tokens)).unflatten(-1, (3, HEADS, HEAD)).permute(2, 0, 3, 1, 4)
        first = parts[2] if first is None else first
        gathered = functional.scaled_dot_product_attention(parts[0], parts[1], (parts[2] + first) / 2)
        tokens = tokens + block.attention.join(gathered.transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.norms[1](tokens))
    return tokens


RESIDUALS = {
    "scaled": changed(run=by_scaled_residuals),
    "DeepNorm": changed(run=by_deepnorm),
    "ReZero": changed(run=by_rezero),
    "long skips": changed(run=with_long_skips),
    "two streams": changed(run=in_two_streams),
    "reversible": changed(run=reversible),
    "first values": changed(run=with_first_values),
    "LayerScale": of(scale=0.1),
    "attention and MLP in parallel": lambda: Model(lambda: Block(parallel=True)),
}


@pytest.mark.parametrize("name", RESIDUALS)
def test_residual_connections_are_no_sum_of_layers(name):
    trace = traced(make(RESIDUALS[name]))
    assert len(trace.records) == 3 and trace.readout[0].tolist() == [1.0] + [0.0] * 16
