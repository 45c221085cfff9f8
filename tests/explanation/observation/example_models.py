"""Small Vision Transformers as other people write them, for the tests of `observe`."""

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, PATCH, CLASSES = 16, 2, 4, 5


class Tutorial(nn.Module):
    """A ViT of the options' kind: how attention is written, where the class token stands, what the head reads."""

    def __init__(self, attention: str = "matmul", *, prefix: int = 1, pooling: str = "first", trailing: bool = False):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.prefix = nn.Parameter(torch.randn(1, prefix, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, 64, WIDTH))
        self.blocks = nn.ModuleList(PostNormBlock(attention) for _ in range(3))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)
        self.pooling, self.trailing = pooling, trailing

    def forward(self, images: Tensor) -> Tensor:
        patches = self.stem(images).flatten(2).transpose(1, 2)
        prefix = self.prefix.expand(len(patches), -1, -1)
        tokens = torch.cat([patches, prefix] if self.trailing else [prefix, patches], 1)
        tokens = tokens + self.positions[:, : tokens.shape[1]]
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.read(self.norm(tokens)))

    def read(self, tokens: Tensor) -> Tensor:
        count = self.prefix.shape[1]
        return {
            "first": lambda: tokens[:, 0],
            "last": lambda: tokens[:, -1],
            "patches": lambda: tokens[:, count:].mean(1),
            "all": lambda: tokens.mean(1),
            "two": lambda: tokens[:, 0] * 2 + tokens[:, 1],
            "max": lambda: tokens.amax(1),
            "difference": lambda: tokens[:, 0] - tokens[:, 1],
        }[self.pooling]()


class PostNormBlock(nn.Module):
    """Attention and MLP, normalized after they are added (Vaswani et al. 2017)."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.join = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.attention = ATTENTIONS[attention]

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.query(tokens), self.key(tokens), self.value(tokens)
        gathered = self.attention(query, key, value, self.dropout)
        tokens = self.norms[0](tokens + self.join(gathered))
        return self.norms[1](tokens + self.mlp(tokens))


def apart(tensor: Tensor) -> Tensor:
    """(batch, tokens, width) to (batch, heads, tokens, head width)."""
    return tensor.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def together(tensor: Tensor) -> Tensor:
    """Back again."""
    return tensor.transpose(1, 2).flatten(2)


def by_matmul(query, key, value, dropout):
    scores = torch.matmul(apart(query), apart(key).transpose(-1, -2)) / (WIDTH // HEADS) ** 0.5
    return together(dropout(functional.softmax(scores, dim=-1)) @ apart(value))


def by_einsum(query, key, value, dropout):
    query, key, value = (one.unflatten(-1, (HEADS, -1)) for one in (query, key, value))
    scores = torch.einsum("b i h d, b j h d -> b h i j", query, key) * (WIDTH // HEADS) ** -0.5
    return torch.einsum("...ij,...jd->...id", scores.softmax(-1), value.transpose(1, 2)).transpose(1, 2).flatten(2)


def by_einsum_heads_last(query, key, value, dropout):
    query, key, value = (one.unflatten(-1, (HEADS, -1)) for one in (query, key, value))
    scores = torch.einsum("bihd,bjhd->bijh", query * (WIDTH // HEADS) ** -0.5, key)
    return torch.einsum("bijh,bjhd->bihd", scores.softmax(2), value).flatten(2)


def by_bmm(query, key, value, dropout):
    query, key, value = (apart(one).reshape(-1, one.shape[1], WIDTH // HEADS) for one in (query, key, value))
    scores = torch.bmm(query * (WIDTH // HEADS) ** -0.5, key.transpose(1, 2))
    gathered = torch.bmm(dropout(torch.softmax(scores, -1)), value)
    return together(gathered.unflatten(0, (-1, HEADS)))


def by_bmm_heads_first(query, key, value, dropout):
    batch = len(query)
    query, key, value = (apart(one).transpose(0, 1).flatten(0, 1) for one in (query, key, value))
    scores = torch.baddbmm(query.new_zeros(()), query, key.transpose(1, 2), beta=0, alpha=(WIDTH // HEADS) ** -0.5)
    gathered = torch.bmm(torch.softmax(scores, -1), value)
    return together(gathered.unflatten(0, (HEADS, batch)).transpose(0, 1))


def by_einsum_heads_first(query, key, value, dropout):
    query, key, value = (one.unflatten(-1, (HEADS, -1)) for one in (query, key, value))
    scores = torch.einsum("bihd,bjhd->hbij", query, key) * (WIDTH // HEADS) ** -0.5
    return torch.einsum("hbij,bjhd->bihd", scores.softmax(-1), value).flatten(2)


def by_shared_keys(query, key, value, dropout):
    key, value = apart(key)[:, :1], apart(value)[:, :1]
    return together(functional.scaled_dot_product_attention(apart(query), key, value))


def by_one_head(query, key, value, dropout):
    scores = query @ key.transpose(1, 2) * WIDTH**-0.5
    return nn.Softmax(dim=-1)(scores) @ value


def by_mask(query, key, value, dropout):
    """Every token looks at those that aren't trailing it: another number of tokens has another mask."""
    scores = apart(query) @ apart(key).transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
    hidden = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
    return together(scores.masked_fill(hidden, -torch.inf).softmax(-1) @ apart(value))


def by_kernel(query, key, value, dropout):
    return together(functional.scaled_dot_product_attention(apart(query), apart(key), apart(value), scale=0.3))


def by_masked_kernel(query, key, value, dropout):
    mask = torch.linspace(-1, 1, query.shape[1], dtype=query.dtype).expand(query.shape[1], -1)
    return together(functional.scaled_dot_product_attention(apart(query), apart(key), apart(value), attn_mask=mask))


def by_causal_kernel(query, key, value, dropout):
    return together(functional.scaled_dot_product_attention(apart(query), apart(key), apart(value), is_causal=True))


def by_talking_heads(query, key, value, dropout):
    weights = torch.softmax(apart(query) @ apart(key).transpose(-1, -2), -1)
    return together(weights.mean(1, keepdim=True) * weights @ apart(value))


def by_changed_weights(query, key, value, dropout):
    weights = torch.softmax(apart(query) @ apart(key).transpose(-1, -2), -1)
    weights[..., 0] = 0
    return together(weights @ apart(value))


def by_dropped_weights(query, key, value, dropout):
    weights = functional.dropout(torch.softmax(apart(query) @ apart(key).transpose(-1, -2), -1), 0.5)
    return together(weights @ apart(value))


def by_nothing(query, key, value, dropout):
    return value.mean(1, keepdim=True).expand_as(value)


def by_windows(query, key, value, dropout):
    query, key, value = (one.unflatten(1, (-1, 4)).flatten(0, 1) for one in (query, key, value))
    gathered = functional.scaled_dot_product_attention(apart(query), apart(key), apart(value))
    return together(gathered).flatten(0, 1).view(-1, 24, WIDTH)


def by_cross_attention(query, key, value, dropout):
    gathered = functional.scaled_dot_product_attention(apart(query), apart(key[:, 1:]), apart(value[:, 1:]))
    return together(gathered)


ATTENTIONS = {
    name.removeprefix("by_").replace("_", "-"): it for name, it in list(globals().items()) if name[:3] == "by_"
}


class FromEncoder(nn.Module):
    """A ViT around torch's own nn.TransformerEncoder."""

    def __init__(self, *, norm_first: bool, batch_first: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=batch_first, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, CLASSES)
        self.batch_first = batch_first

    def forward(self, images: Tensor) -> Tensor:
        patches = self.stem(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(patches), -1, -1), patches], 1)
        if not self.batch_first:
            return self.head(self.encoder(tokens.transpose(0, 1))[0])
        return self.head(self.encoder(tokens)[:, 0])


def weights_of(model: nn.Module, forward, images: Tensor) -> list[Tensor]:
    """The attention of a Tutorial's layers by the definition, in the precision of the model."""
    found = []
    hooks = [
        block.register_forward_hook(lambda block, given, out: found.append((block, *given))) for block in model.blocks
    ]
    forward(images)
    for hook in hooks:
        hook.remove()
    return [torch.softmax(scores_of(block, tokens), -1) for block, tokens in found]


def scores_of(block: PostNormBlock, tokens: Tensor) -> Tensor:
    query, key = apart(block.query(tokens)), apart(block.key(tokens))
    return torch.einsum("bhid,bhjd->bhij", query, key) / (WIDTH // HEADS) ** 0.5
