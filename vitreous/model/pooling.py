"""Tokens to one vector per image, and with which weight each token was read: what explanations start from."""

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.layers import Mlp, build_norm
from vitreous.model.linear import Linear, linear


def pool_tokens(tokens: Tensor, global_pool: str, num_prefix_tokens: int) -> tuple[Tensor, Tensor]:
    """Pool tokens without learned weights.

    Args:
        tokens: (batch, tokens, width): the class token, if there is one, then registers, then patches.
        global_pool: "token" takes the class token (Dosovitskiy et al. 2021, equation 4), "avg" the mean over the
            patches; "token-avg" and "token-dist" concatenate the class token with that mean, or with the first
            register.
        num_prefix_tokens: tokens before the patches.

    Returns:
        Vectors (batch, width), or (batch, 2 × width) of two concatenated, and the weight with which each token was
        read, (batch, tokens), in float32 at least. Weights sum to 1; of two vectors each counts half.
    """
    if global_pool == "token":
        return _take_token(tokens, 0)
    if global_pool == "avg":
        return _average_patches(tokens, num_prefix_tokens)
    if global_pool not in ("token-avg", "token-dist"):
        raise InputError(f"global_pool '{global_pool}' has weights of its own: it isn't a plain pooling")
    first, weights = _take_token(tokens, 0)
    second, others = (
        _take_token(tokens, 1) if global_pool == "token-dist" else _average_patches(tokens, num_prefix_tokens)
    )
    return torch.cat([first, second], -1), (weights + others) / 2


def _take_token(tokens: Tensor, index: int) -> tuple[Tensor, Tensor]:
    weights = _zeros(tokens)
    weights[:, index] = 1
    return tokens[:, index], weights


def _average_patches(tokens: Tensor, num_prefix_tokens: int) -> tuple[Tensor, Tensor]:
    weights = _zeros(tokens)
    weights[:, num_prefix_tokens:] = 1 / (tokens.shape[1] - num_prefix_tokens)
    return tokens[:, num_prefix_tokens:].mean(1), weights


def _zeros(tokens: Tensor) -> Tensor:
    """A zero for each token (batch, tokens), in float32 at least: in bfloat16 1 / N times N isn't 1."""
    return tokens.new_zeros(tokens.shape[:2], dtype=torch.promote_types(tokens.dtype, torch.float32))


class SequencePool(nn.Module):
    """A learned weighting of the patches: softmax over a linear score (Hassani et al. 2021, section 3.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = Linear(dim, 1)

    def forward(self, tokens: Tensor, num_prefix_tokens: int) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens, width) to vectors (batch, width) and the weight of each token (batch, tokens)."""
        patches = tokens[:, num_prefix_tokens:]
        weights = torch.softmax(self.score(patches).squeeze(-1).float(), -1)
        pooled = (weights.to(patches.dtype).unsqueeze(1) @ patches).squeeze(1)
        return pooled, _weights_of_all_tokens(weights, num_prefix_tokens)


class AttentionPool(nn.Module):
    """Multi-head attention of one learned query to the patches, then an MLP (Zhai et al. 2022, section 3).

    Its normalization and MLP are a block's, for one token.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.latent = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        self.q = Linear(config.embed_dim, config.embed_dim)
        self.kv = Linear(config.embed_dim, 2 * config.embed_dim)
        self.proj = Linear(config.embed_dim, config.embed_dim)
        self.norm = build_norm(config)
        self.mlp = Mlp(config)

    def forward(self, tokens: Tensor, num_prefix_tokens: int) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens, width) to vectors (batch, width) and the heads' mean weights (batch, tokens)."""
        # One vector, not a batch of one: the product of a matrix and a vector has other last bits.
        query = linear(self.latent.flatten().to(tokens.dtype), self.q.weight, self.q.bias)
        query = query.unflatten(-1, (self.num_heads, 1, self.head_dim))
        both = self.kv(tokens[:, num_prefix_tokens:]).unflatten(-1, (2, self.num_heads, self.head_dim))
        key, value = both.permute(2, 0, 3, 1, 4)
        weights = torch.softmax((query * self.head_dim**-0.5 @ key.transpose(-2, -1)).float(), -1)
        pooled = self.proj((weights.to(value.dtype) @ value).flatten(1))
        pooled = pooled + self.mlp(self.norm(pooled))
        return pooled, _weights_of_all_tokens(weights.mean(1).squeeze(1), num_prefix_tokens)


def _weights_of_all_tokens(patch_weights: Tensor, num_prefix_tokens: int) -> Tensor:
    """Put zeros for the tokens before the patches in front of the patches' weights: (batch, patches) to (batch,
    tokens)."""
    return torch.cat([patch_weights.new_zeros(len(patch_weights), num_prefix_tokens), patch_weights], 1)


def build_attn_pool(config: ViTConfig) -> AttentionPool | SequencePool | None:
    """Build the pooling that has weights of its own, if the configuration names one."""
    if config.global_pool == "map":
        return AttentionPool(config)
    return SequencePool(config.embed_dim) if config.global_pool == "attention" else None
