"""The definitions, in float64 and written out from the weights: a pre-norm ViT, its attention, rows and rollout.

Shares no line with the package: Dosovitskiy et al. 2021 (equations 1 to 4), Vaswani et al. 2017 (equation 1), Abnar and
Zuidema 2020 (section 3).
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from conformance_suite.known_models import KnownModel


@dataclass(frozen=True)
class Reference:
    """What the definitions say."""

    output: Tensor
    """(batch, classes), or (batch, width) of a model without classes."""
    attention: list[Tensor]
    """A of each layer: (batch, heads, tokens, tokens)."""
    tokens: list[Tensor]
    """Tokens into the first block, then out of each: (batch, tokens, width)."""
    readout: Tensor
    """(tokens): one at the class token, or one over their number at the patches."""

    def layer_row(self, layer: int) -> Tensor:
        """Where the readout looks in a layer, the mean over heads: (batch, tokens)."""
        return torch.einsum("n,bhnm->bm", self.readout, self.attention[layer]) / self.attention[layer].shape[1]

    def row(self, kind: str) -> Tensor:
        """The map called `kind`, over all tokens: (batch, tokens)."""
        if kind == "attention":
            return self.layer_row(-1)
        product = torch.eye(len(self.readout), dtype=torch.float64)
        for attention in self.attention:
            product = (0.5 * torch.eye(len(self.readout), dtype=torch.float64) + 0.5 * attention.mean(1)) @ product
        return self.readout @ product


def reference(known: KnownModel, images: Tensor) -> Reference:
    """Run the model by its definition on images (batch, 3, height, width)."""
    state = {name: tensor.double() for name, tensor in known.state.items()}
    config, images = known.config, images.double()
    patches = functional.unfold(images, config.patch_size, stride=config.patch_size).transpose(1, 2)
    kernel = state["patch_embed.proj.weight"].flatten(1)
    patches = patches @ kernel.T + state["patch_embed.proj.bias"] + state["pos_embed"]
    names = [name for name in ("cls_token", "reg_token") if name in state]
    prefix = [state[name].expand(len(images), -1, -1) for name in names]
    tokens, attention = [torch.cat([*prefix, patches], 1)], []
    for layer in range(config.depth):
        after, weights = _block(state, f"blocks.{layer}.", tokens[-1], config.num_heads)
        tokens.append(after)
        attention.append(weights)
    count = tokens[0].shape[1]
    readout = torch.zeros(count, dtype=torch.float64)
    if config.global_pool == "token":
        readout[0] = 1
    else:
        readout[config.num_prefix_tokens :] = 1 / (count - config.num_prefix_tokens)
    pooled = readout @ _norm(state, "norm", tokens[-1])
    answer = _linear(state, "head", pooled) if config.num_classes else pooled
    return Reference(answer, attention, tokens, readout)


@cache
def expected_output(known: KnownModel) -> Tensor:
    """What the model must answer to its own images: (batch, classes) or (batch, width)."""
    return reference(known, known.images).output


def _block(state: dict[str, Tensor], name: str, tokens: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """One block: what comes out, and A."""
    normed = _norm(state, name + "norm1", tokens)
    batch, count, width = tokens.shape
    query, key, value = (
        part.reshape(batch, count, heads, width // heads).transpose(1, 2)
        for part in _linear(state, name + "attn.qkv", normed).split(width, -1)
    )
    weights = torch.softmax(torch.einsum("bhid,bhjd->bhij", query, key) / (width // heads) ** 0.5, -1)
    gathered = torch.einsum("bhij,bhjd->bihd", weights, value).reshape(batch, count, width)
    tokens = tokens + _linear(state, name + "attn.proj", gathered)
    hidden = functional.gelu(_linear(state, name + "mlp.fc1", _norm(state, name + "norm2", tokens)))
    return tokens + _linear(state, name + "mlp.fc2", hidden), weights


def _linear(state: dict[str, Tensor], name: str, numbers: Tensor) -> Tensor:
    return numbers @ state[f"{name}.weight"].flatten(1).T + state[f"{name}.bias"]


def _norm(state: dict[str, Tensor], name: str, numbers: Tensor) -> Tensor:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return functional.layer_norm(numbers, numbers.shape[-1:], weight, bias, 1e-6)
