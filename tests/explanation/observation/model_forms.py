"""Whole Vision Transformers in many forms, and what is right for each: its maps, or an error."""

from collections.abc import Callable

import torch
from attention_forms import (
    HEAD,
    HEADS,
    TOKENS,
    WIDTH,
    Attention,
    Block,
    Call,
    ConvolvedValues,
    CosineAttention,
    Grid,
    HeadList,
    HybridHeads,
    LocallyEnhanced,
    Multihead,
    OneHead,
    RepeatedKeys,
    SideBySide,
    Squeeze,
    Stem,
    TokenMixer,
    applied_twice,
    by_bmm,
    by_difference,
    by_difference_of_heads,
    by_grouped_queries,
    by_latents,
    by_linear_attention,
    by_logsumexp,
    by_sigmoid,
    by_softmax_plus_one,
    by_talking_heads,
    by_weighted_sum,
    by_windows,
    one_by_one,
    one_by_one_chunked,
    one_by_one_einsum,
    one_by_one_kernel,
    softmax,
    written,
)
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Model(nn.Module):
    """The whole model; subclasses change a part."""

    prefix = 1

    def __init__(self, blocks: Callable[[], nn.Module] | list[Callable[[], nn.Module]] = Block) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 8, 8)
        self.token = nn.Parameter(torch.randn(1, self.prefix, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, 16 + self.prefix, WIDTH))
        makers = blocks if isinstance(blocks, list) else [blocks] * 3
        self.blocks, self.norm = nn.ModuleList(make() for make in makers), nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 5)

    def embed(self, images: Tensor) -> Tensor:
        patches = self.stem(images).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(patches), -1, -1), patches], 1) + self.positions

    def run(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def read(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(tokens)[:, 0])

    def forward(self, images: Tensor) -> Tensor:
        return self.read(self.run(self.embed(images)))

    def layers(self) -> list[Tensor]:
        """The attention of each layer of the last pass."""
        return [block.kept if isinstance(block, SideBySide) else block.attention.kept for block in self.blocks]

    def row(self) -> Tensor:
        """The weight with which the head reads each token."""
        return functional.one_hot(torch.tensor([0]), 16 + self.prefix).double()


def changed(make: Callable[[], nn.Module] = Model, **methods: Callable[..., Tensor]) -> Callable[[], nn.Module]:
    """A model of which some methods are others."""

    def build() -> nn.Module:
        model = make()
        model.__class__ = type("Changed", (type(model),), methods)
        return model

    return build


def of(attention: Callable[[], nn.Module] = Attention, **options: object) -> Callable[[], nn.Module]:
    """A model of three blocks with this attention."""
    return lambda: Model(lambda: Block(attention, **options))


def mixed(*attentions: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A model whose blocks have different attentions."""
    return lambda: Model([lambda one=one: Block(one) for one in attentions])


def seeing(change: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    """A model that changes its image first."""
    return changed(forward=lambda self, images: Model.forward(self, change(images)))


def several(combine: Callable[[nn.Module, Tensor], Tensor]) -> Callable[[], nn.Module]:
    """A model around another one, which it calls in its own way."""

    def build() -> nn.Module:
        outer = nn.Module()
        outer.inner, outer.other = Model(), Model()
        outer.__class__ = type("Outer", (nn.Module,), {"forward": combine})
        return outer

    return build


class Registers(Model):
    prefix = 5


class Distilled(Model):
    prefix = 2

    def read(self, tokens: Tensor) -> Tensor:
        return (self.head(self.norm(tokens)[:, 0]) + self.head(self.norm(tokens)[:, 1])) / 2

    def row(self) -> Tensor:
        return torch.tensor([[0.5, 0.5] + [0.0] * 16]).double()


class NoClassToken(Model):
    """Token 0, which is read, is the first patch."""

    prefix = 0


class MeanOfPatches(Model):
    prefix = 0

    def read(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(tokens).mean(1))

    def row(self) -> Tensor:
        return torch.full((1, 16), 1 / 16).double()


class WeightsOfTokens(MeanOfPatches):
    """A mask hides some tokens, others are weighted, before they are added."""

    weights = torch.tensor([0.0, 2.0, 1.0, 1.0] * 4)

    def read(self, tokens: Tensor) -> Tensor:
        return self.head((self.norm(tokens) * self.weights[:, None]).sum(1))

    def row(self) -> Tensor:
        return (self.weights / 16).double()[None]


class PoolingByAttention(Model):
    """A learned query attends to all tokens (SigLIP)."""

    prefix = 0

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.query = nn.Parameter(torch.randn(1, 1, WIDTH))

    def read(self, tokens: Tensor) -> Tensor:
        tokens = self.norm(tokens)
        pooled, weights = self.pool(self.query.expand(len(tokens), -1, -1), tokens, tokens)
        self.pooled_row = weights[:, 0].detach().double()
        return self.head((pooled + functional.gelu(pooled))[:, 0])

    def row(self) -> Tensor:
        return self.pooled_row


def with_stem() -> nn.Module:
    model = Model()
    model.stem = Stem()
    return model


def early_exits(self: Model, images: Tensor) -> Tensor:
    tokens, found = self.embed(images), []
    for block in self.blocks:
        tokens = block(tokens)
        found.append(self.read(tokens))
    return torch.stack(found).mean(0)


def last_blocks(self: Model, images: Tensor) -> Tensor:
    """DINOv2's linear heads read the class tokens of several blocks."""
    tokens, found = self.embed(images), []
    for block in self.blocks:
        tokens = block(tokens)
        found.append(self.norm(tokens)[:, 0])
    found.append(self.norm(tokens)[:, 1:].mean(1))
    return self.head(torch.stack(found).mul(torch.arange(1.0, 5.0, dtype=tokens.dtype)[:, None, None]).sum(0))


def last_unread(self: Model, images: Tensor) -> Tensor:
    """A backbone of which an earlier stage is read."""
    tokens = self.embed(images)
    for index, block in enumerate(self.blocks):
        tokens = block(tokens)
        if index == 1:
            read = tokens
    return self.read(read)


def auxiliary(self: Model, images: Tensor) -> Tensor:
    """The second block is a side branch that the answer doesn't read."""
    tokens = self.blocks[0](self.embed(images))
    self.aside = self.blocks[1](tokens)
    return self.read(self.blocks[2](tokens))


def shared_weights(self: Model, images: Tensor) -> Tensor:
    """The second and third layer use the weights of the first (Lazy attention)."""
    tokens, weights = self.embed(images), None
    for block in self.blocks:
        given, attention = block.norms[0](tokens), block.attention
        query, key, value = attention.qkv(given).unflatten(-1, (3, HEADS, HEAD)).permute(2, 0, 3, 1, 4)
        if weights is None:
            weights = softmax(query, key)
        attention.keep(query, key)
        attention.kept = self.blocks[0].attention.kept
        tokens = tokens + attention.join((weights @ value).transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.norms[1](tokens))
    return self.read(tokens)


def sorted_between(self: Model, tokens: Tensor) -> Tensor:
    tokens = self.blocks[0](tokens)
    order = tokens[0, 1:].norm(dim=-1).argsort()
    tokens = torch.cat([tokens[:, :1], tokens[:, 1:][:, order]], 1)
    return self.blocks[2](self.blocks[1](tokens))


def merged_between(self: Model, tokens: Tensor) -> Tensor:
    tokens = self.blocks[0](tokens)
    tokens = torch.cat([tokens[:, :-2], tokens[:, -2:].mean(1, keepdim=True)], 1)
    return self.blocks[2](self.blocks[1](tokens))


class PooledAndRead(PoolingByAttention):
    def read(self, tokens: Tensor) -> Tensor:
        return super().read(tokens) + Model.read(self, tokens)


def checkpointed(*, reentrant: bool) -> Callable[[], nn.Module]:
    def run(self: Model, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = checkpoint(block, tokens, use_reentrant=reentrant)
        return tokens

    return changed(run=run)


def in_one_batch(self: nn.Module, images: Tensor) -> Tensor:
    return self.inner(torch.cat([images, images.flip(-1)])).unflatten(0, (2, -1)).mean(0)


def one_head_in_one_batch(self: nn.Module, images: Tensor) -> Tensor:
    """The same with a single head, whose axis could be taken for that of the images."""
    for block in self.inner.blocks:
        block.attention.__class__ = OneHead
    return in_one_batch(self, images)


def zero_weighted(self: Model, images: Tensor) -> Tensor:
    """An auxiliary answer of another block that counts for nothing."""
    tokens = self.blocks[1](self.blocks[0](self.embed(images)))
    aside = self.blocks[2](tokens)
    return self.read(tokens) + 0.0 * aside.mean((1, 2))[:, None]


def crops(self: nn.Module, images: Tensor) -> Tensor:
    return sum(self.inner(images.roll(shift, -1)) for shift in (0, 8, 16))


def with_side_path(self: Model, images: Tensor) -> Tensor:
    return Model.forward(self, images) + self.head(self.stem(images).mean((2, 3)))


MAPS: dict[str, Callable[[], nn.Module]] = {
    "kernel": of(),
    "softmax and matmul": of(written(lambda query, key, value: softmax(query, key) @ value)),
    "bmm": of(written(by_bmm)),
    "heads one by one": of(written(one_by_one)),
    "heads one by one, kernel": of(written(one_by_one_kernel)),
    "heads one by one, einsum": of(written(one_by_one_einsum)),
    "heads in chunks": of(written(one_by_one_chunked)),
    "ModuleList of heads": of(HeadList),
    "ModuleList of heads, added": of(lambda: HeadList(added=True)),
    "MultiheadAttention with weights": of(Multihead),
    "cosine attention": of(CosineAttention),
    "repeated keys": of(RepeatedKeys),
    "two attentions side by side": lambda: Model(SideBySide),
    "attention and MLP in parallel": of(parallel=True),
    "LayerScale near zero": of(scale=1e-5),
    "layers scaled by zero": of(scale=0.0),
    "different forms of heads": mixed(written(one_by_one), Attention, written(one_by_one_kernel)),
    "registers": Registers,
    "distillation token": Distilled,
    "token 0 is a patch": NoClassToken,
    "mean of patches": MeanOfPatches,
    "pooling by attention": PoolingByAttention,
    "overlapping stem": with_stem,
    "checkpoints": checkpointed(reentrant=False),
    "shared weights": changed(forward=shared_weights),
    "image normalized inside": seeing(lambda x: (x - x.mean((1, 2, 3), keepdim=True)) / x.std()),
    "image enlarged inside": seeing(lambda x: functional.interpolate(x[..., ::2, ::2], (32, 32), mode="bilinear")),
    "weights of tokens": WeightsOfTokens,
    "pixels clamped inside": seeing(lambda x: x.clamp(-1, 1)),
    "channels swapped inside": seeing(lambda x: x.flip(1)),
    "ends in softmax": changed(read=lambda self, tokens: Model.read(self, tokens).softmax(-1)),
}
"""Forms whose layers, heads, grid and readout are found."""

PARTLY_READ = {
    "a last layer that isn't read": (last_unread, [0, 1]),
    "an attention aside": (auxiliary, [0, 2]),
    "an answer times zero": (zero_weighted, [0, 1]),
}
"""Forms of which some layers are left out, and the layers that are read."""

REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "first linear attention": (mixed(written(by_linear_attention), Attention), "before the first observed attention"),
    "first sigmoid": (mixed(written(by_sigmoid), Attention), "before the first observed attention"),
    "first logsumexp": (mixed(written(by_logsumexp), Attention), "before the first observed attention"),
    "logsumexp between": (mixed(Attention, written(by_logsumexp), Attention), "attentions 1 and 2"),
    "softmax plus one between": (mixed(Attention, written(by_softmax_plus_one), Attention), "attentions 1 and 2"),
    "sigmoid last": (mixed(Attention, written(by_sigmoid)), "after its last observed attention"),
    "logsumexp everywhere": (of(written(by_logsumexp)), "no attention was observed"),
    "difference": (of(written(by_difference)), "subtracts one attention from another"),
    "difference of heads": (of(written(by_difference_of_heads)), "subtracts one attention from another"),
    "weighted sum": (of(written(by_weighted_sum)), "with different weights"),
    "applied twice": (of(written(applied_twice)), "to the output of another attention"),
    "first layer of hybrid heads": (mixed(HybridHeads, Attention), "mixes its tokens between"),
    "hybrid heads": (of(HybridHeads), "mixes its tokens between"),
    "one layer of hybrid heads": (mixed(HybridHeads), "after its last observed attention"),
    "squeeze and excitation": (of(after=lambda: Grid(Squeeze())), "mixes its tokens between"),
    "normalization over tokens": (of(after=lambda: nn.LayerNorm([TOKENS, WIDTH])), "mixes its tokens"),
    "MLP over tokens": (of(after=TokenMixer), "mixes its tokens"),
    "tokens rolled between": (of(after=lambda: Call(lambda tokens: tokens.roll(1, 1))), "in another order between"),
    "tokens sorted between": (changed(run=sorted_between), "in another order between"),
    "early exits": (changed(forward=early_exits), "earlier layers"),
    "class tokens of several blocks": (changed(forward=last_blocks), "earlier layers"),
    "a path beside the layers": (changed(forward=with_side_path), "the image itself"),
    "mirrored images averaged": (several(lambda self, x: self.inner(x) + self.inner(x.flip(-1))), "side by side"),
    "mirrored images in one batch": (several(in_one_batch), "windows"),
    "mirrored images in one batch, one head": (several(one_head_in_one_batch), "it repeats each image"),
    "heads mixed after softmax": (of(written(by_talking_heads)), "no product of it with values"),
    "grouped queries": (of(written(by_grouped_queries)), "grouped queries"),
    "windows": (of(written(by_windows)), "fewer tokens than cells|windows"),
    "merged tokens": (changed(run=merged_between), "over 17 and over 16 tokens"),
    "latent queries": (of(written(by_latents)), "queries over"),
    "pooling beside the class token": (PooledAndRead, "the image itself"),
    "crops": (several(crops), "side by side"),
    "ensemble": (several(lambda self, x: self.inner(x) + self.other(x)), "side by side"),
    "checkpoints, reentrant": (checkpointed(reentrant=True), "no_grad"),
    "image transposed": (seeing(lambda x: x.transpose(2, 3)), "moves the image"),
    "image mirrored": (seeing(lambda x: x.flip(-1)), "moves the image"),
    "image turned": (seeing(lambda x: x.rot90(1, (2, 3))), "moves the image"),
    "image rolled": (seeing(lambda x: x.roll(8, 3)), "moves the image"),
    "image zoomed": (seeing(lambda x: functional.interpolate(x[..., 2:30, 2:30], (32, 32), mode="bilinear")), "moves"),
    "image cropped": (seeing(lambda x: functional.interpolate(x[..., 8:24, 8:24], (32, 32))), "moves the image"),
    "image padded": (seeing(lambda x: functional.pad(x[..., 8:, 8:], (8, 0, 8, 0))), "moves the image"),
    "overlapping stem, image mirrored": (
        changed(with_stem, forward=lambda self, images: Model.forward(self, images.flip(-1))), "moves the image",
    ),
    "channels attend": (of(written(lambda q, k, v: (softmax(q.mT, k.mT) @ v.mT).mT)), "fewer tokens than cells"),
}  # fmt: skip
"""Forms that are refused, and what the error says."""


NO_ROLLOUT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "locally enhanced": (of(LocallyEnhanced), "mixes neighboring tokens"),
    "convolved values": (of(ConvolvedValues), "mixes neighboring tokens"),
    "convolution between": (
        of(after=lambda: Grid(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH))), "mixes neighboring tokens",
    ),
    "no residual connection": (of(residual=False), "no residual connection"),
}  # fmt: skip
"""Forms whose layers are found, but whose attention can't be multiplied through them, and what the error says."""
