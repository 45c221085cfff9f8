"""Small Vision Transformers in many forms, as people write them, with the attention that each has by definition.

Each keeps what its attention is by the definition, in float64, in `kept`: for each layer (1, heads, tokens, tokens).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, HEAD, TOKENS = 16, 2, 8, 17


class Attention(nn.Module):
    """Attention with all projections in one layer; subclasses write the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.join = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.kept: Tensor | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).unflatten(-1, (3, HEADS, HEAD)).permute(2, 0, 3, 1, 4)
        self.keep(query, key)
        return self.join(self.gather(query, key, value).transpose(1, 2).flatten(2))

    def keep(self, query: Tensor, key: Tensor, scale: float | Tensor = HEAD**-0.5) -> None:
        scores = torch.einsum("bhid,bhjd->bhij", query.detach().double(), key.detach().double()) * scale
        shifted = (scores - scores.amax(-1, keepdim=True)).exp()
        self.kept = shifted / shifted.sum(-1, keepdim=True)

    def gather(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value)


def written(gather: Callable[[Tensor, Tensor, Tensor], Tensor]) -> type[Attention]:
    """An Attention that is written as a function of query, key and value (batch, heads, tokens, width)."""
    return type("Written", (Attention,), {"gather": lambda self, *given: gather(*given)})


def softmax(query: Tensor, key: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)


def one_by_one(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.stack([softmax(query[:, h], key[:, h]) @ value[:, h] for h in range(HEADS)], 1)


def one_by_one_kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    kernel = functional.scaled_dot_product_attention
    return torch.stack([kernel(query[:, h], key[:, h], value[:, h]) for h in range(HEADS)], 1)


def one_by_one_einsum(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    found = []
    for one, other, third in zip(query.unbind(1), key.unbind(1), value.unbind(1), strict=True):
        weights = torch.softmax(torch.einsum("bid,bjd->bij", one, other) / HEAD**0.5, dim=2)
        found.append(torch.einsum("bij,bjd->bid", weights, third))
    return torch.stack(found, 1)


def one_by_one_chunked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    parts = zip(*(one.chunk(HEADS, 1) for one in (query, key, value)), strict=True)
    return torch.cat([softmax(one, other) @ third for one, other, third in parts], 1)


def by_bmm(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    flat = [one.flatten(0, 1) for one in (query, key, value)]
    weights = torch.bmm(flat[0], flat[1].transpose(1, 2)).div(HEAD**0.5).softmax(-1)
    return torch.bmm(weights, flat[2]).unflatten(0, (-1, HEADS))


def by_logsumexp(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.transpose(-2, -1) * HEAD**-0.5
    return (scores - scores.logsumexp(-1, keepdim=True)).exp() @ value


def by_linear_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key = functional.elu(query) + 1, functional.elu(key) + 1
    return query @ (key.transpose(-2, -1) @ value) / (query @ key.sum(-2)[..., None])


def by_sigmoid(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.sigmoid(query @ key.transpose(-2, -1) - 2) @ value


def by_difference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    half = HEAD // 2
    first = softmax(query[..., :half], key[..., :half]) @ value
    return first - 0.8 * (softmax(query[..., half:], key[..., half:]) @ value)


def by_difference_of_heads(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Differential attention in one call: twice as many heads, of which the second half is subtracted."""
    twice = [one.unflatten(-1, (2, -1)).movedim(-2, 1).flatten(1, 2) for one in (query, key)]
    first, second = functional.scaled_dot_product_attention(*twice, torch.cat([value, value], 1)).chunk(2, 1)
    return first - 0.8 * second


def by_weighted_sum(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return softmax(query, key) @ value + 0.3 * (softmax(key, query) @ value)


def applied_twice(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weights = softmax(query, key)
    return weights @ (weights @ value)


def by_repeated_keys(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    key, value = (one[:, :1].repeat_interleave(HEADS, 1) for one in (key, value))
    return functional.scaled_dot_product_attention(query, key, value)


def by_softmax_plus_one(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.transpose(-2, -1) * HEAD**-0.5
    return functional.pad(scores, (0, 1)).softmax(-1)[..., :-1] @ value


def by_images(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.stack([softmax(*pair) @ third for *pair, third in zip(query, key, value, strict=True)])


def by_talking_heads(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weights = softmax(query, key)
    return (0.7 * weights + 0.3 * weights.flip(1)) @ value


def by_grouped_queries(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(query, key[:, :1], value[:, :1], enable_gqa=True)


def by_windows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Each quarter of the patches attends to itself; the class token keeps its value."""
    parts = [one[:, :, 1:].unflatten(2, (4, 4)).transpose(1, 2).flatten(0, 1) for one in (query, key, value)]
    patches = functional.scaled_dot_product_attention(*parts).unflatten(0, (-1, 4)).transpose(1, 2).flatten(2, 3)
    return torch.cat([value[:, :, :1], patches], 2)


def by_latents(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Four latents read all tokens, and all tokens read the latents (Perceiver, agent attention)."""
    latents = query[:, :, :4]
    return softmax(query, latents) @ (softmax(latents, key) @ value)


class ConvolvedValues(Attention):
    """Values from a convolution over the sequence of tokens, as in CvT."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)

    def gather(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        value = value + self.convolution(value.mT.flatten(1, 2)).unflatten(1, (HEADS, HEAD)).mT
        return super().gather(query, key, value)


class HybridHeads(Attention):
    """Half of the heads are attention, the others are linear attention, which isn't observed."""

    def gather(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = [one.chunk(2, 1) for one in (query, key, value)]
        first, second = zip(*parts, strict=True)
        return torch.cat([super().gather(*first), by_linear_attention(*second)], 1)


class LocallyEnhanced(Attention):
    """A convolution of the values is added to the attention's output (CSWin)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)

    def gather(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        local = self.convolution(value.mT.flatten(1, 2)).unflatten(1, (HEADS, HEAD)).mT
        return super().gather(query, key, value) + local * torch.tensor([0.0] + [1.0] * (TOKENS - 1))[:, None]


class OneHead(Attention):
    """A single head without an axis of its own."""

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).chunk(3, -1)
        return self.join(softmax(query, key) @ value)


class RepeatedKeys(Attention):
    def gather(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self.keep(query, key[:, :1].expand_as(key))
        return by_repeated_keys(query, key, value)


class HeadModule(nn.Module):
    """One head with its own projections, as in nanoGPT."""

    def __init__(self, out: int = 0) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, HEAD, bias=False) for _ in range(3))
        self.out = nn.Linear(HEAD, out) if out else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        weights = functional.softmax(self.query(tokens) @ self.key(tokens).transpose(-2, -1) * HEAD**-0.5, dim=-1)
        return self.out(nn.Dropout(0.1).eval()(weights) @ self.value(tokens))


class HeadList(nn.Module):
    """A ModuleList of heads: concatenated, or each with an output projection, which are added."""

    def __init__(self, *, added: bool = False) -> None:
        super().__init__()
        self.heads = nn.ModuleList(HeadModule(WIDTH if added else 0) for _ in range(HEADS))
        self.join, self.added = nn.Linear(WIDTH, WIDTH), added

    def forward(self, tokens: Tensor) -> Tensor:
        query, key = (torch.stack([getattr(one, it)(tokens) for one in self.heads], 1) for it in ("query", "key"))
        Attention.keep(self, query, key)
        found = [head(tokens) for head in self.heads]
        return sum(found) if self.added else self.join(torch.cat(found, -1))


class Multihead(nn.MultiheadAttention):
    """torch's own module, asked for its weights."""

    def __init__(self) -> None:
        super().__init__(WIDTH, HEADS, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, _ = functional.linear(tokens, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        Attention.keep(self, *(one.unflatten(-1, (HEADS, HEAD)).transpose(1, 2) for one in (query, key)))
        return super().forward(tokens, tokens, tokens, need_weights=True)[0]


class CosineAttention(Attention):
    """Scores of unit vectors with a learned temperature for each head (Swin V2), mixed between heads before softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor([3.0, 7.0])[:, None, None])

    def gather(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = functional.normalize(query, dim=-1), functional.normalize(key, dim=-1)
        self.keep(query, key, self.temperature.detach().double())
        return (query @ key.transpose(-2, -1) * self.temperature).softmax(-1) @ value


class Block(nn.Module):
    """A pre-norm block; `after` runs on the tokens that leave it."""

    def __init__(self, attention: Callable[[], nn.Module] = Attention, **options: object) -> None:
        super().__init__()
        self.attention, self.norms = attention(), nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH))
        self.scale, self.after = options.get("scale", 1.0), options.get("after", nn.Identity)()
        self.residual, self.is_parallel = options.get("residual", True), options.get("parallel", False)

    def forward(self, tokens: Tensor) -> Tensor:
        if self.is_parallel:  # ViT-22B
            given = self.norms[0](tokens)
            return tokens + self.attention(given) + self.mlp(given)
        attended = self.scale * self.attention(self.norms[0](tokens))
        tokens = tokens + attended if self.residual else attended
        return self.after(tokens + self.scale * self.mlp(self.norms[1](tokens)))


class SideBySide(nn.Module):
    """timm's ParallelThingsBlock: two attentions, then two MLPs."""

    def __init__(self) -> None:
        super().__init__()
        self.attentions, self.mlps = (nn.ModuleList(it() for _ in range(2)) for it in (Attention, self.mlp))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(4))

    @staticmethod
    def mlp() -> nn.Module:
        return nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + sum(one(norm(tokens)) for one, norm in zip(self.attentions, self.norms[:2], strict=True))
        return tokens + sum(one(norm(tokens)) for one, norm in zip(self.mlps, self.norms[2:], strict=True))

    @property
    def kept(self) -> Tensor:
        return torch.cat([one.kept for one in self.attentions], 1)


class Grid(nn.Module):
    """Runs a module on the patches as an image (batch, width, rows, columns), and adds the result."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens: Tensor) -> Tensor:
        patches = tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
        return torch.cat([tokens[:, :1], tokens[:, 1:] + self.inner(patches).flatten(2).transpose(1, 2)], 1)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, tokens: Tensor) -> Tensor:
        return self.function(tokens)


class TokenMixer(nn.Module):
    """A linear layer over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(TOKENS, TOKENS)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.mix(tokens.mT).mT


class Squeeze(nn.Module):
    """Squeeze and excitation: channels are scaled by a function of their mean over all places."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, WIDTH)

    def forward(self, patches: Tensor) -> Tensor:
        return patches * self.gate(patches.mean((2, 3))).sigmoid()[..., None, None]


class Stem(nn.Sequential):
    """Overlapping convolutions, with normalization over all places."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.GELU(), nn.Conv2d(8, 8, 3, 2, 1), nn.GELU(),
            nn.Conv2d(8, WIDTH, 2, 2),
        )  # fmt: skip
