"""Find with autograd whether tokens are mixed, or moved, by anything else than the attentions that are recorded.

The outputs of all attentions are cut off the graph (see `layer_order`). What is left between two attentions must keep
each token for itself: an MLP, a normalization, a residual connection. If it does, the gradient at a token scales with
the factor that the gradients of that token alone are scaled with, to the bit for powers of 2. A few backward passes
with different factors check this for all pairs of tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

DIGITS = {torch.float16: 4}
"""Number of different factors in one pass, 2 to the power of 0, 1, 2 ...; 16 in other precisions."""
TOLERANCE = 1e-3
"""Relative error of a gradient from which on another token has a part in it."""

ROUNDING = 1e-6
"""The same relative to the largest gradient of any token, whose rounding may reach the others."""

Mixing = Literal["none", "local", "global", "moved"]
"""local: with few other tokens (a convolution); global: with most of them; moved: a token took another's place."""


@dataclass(frozen=True)
class TokenTensor:
    """A tensor with an axis of tokens, all of them or those from number `first` on."""

    tensor: Tensor
    axis: int
    first: int = 0
    rows: Callable[[Tensor], Tensor] | None = None
    """Brings a gradient to (tokens, ...), where tokens have no axis of their own."""

    def spread(self, factors: Tensor) -> Tensor:
        """Return fixed irregular numbers of the tensor's shape, times the factor (tokens) of each token."""
        size = self.tensor.shape[self.axis]
        shape = [size if axis == self.axis % self.tensor.ndim else 1 for axis in range(self.tensor.ndim)]
        # Squares, so that the numbers of different tokens have different directions: sin(n) has but two of them.
        numbers = torch.arange(self.tensor.numel(), device=self.tensor.device).add(1).double().square().sin()
        chosen = factors[self.first : self.first + size].to(self.tensor.device)
        return numbers.view(self.tensor.shape).to(self.tensor.dtype) * chosen.view(shape).to(self.tensor.dtype)

    def by_token(self, gradient: Tensor) -> Tensor:
        """Bring a gradient with respect to the tensor to (tokens, numbers)."""
        moved = gradient.movedim(self.axis, 0) if self.rows is None else self.rows(gradient)
        return moved.flatten(1).double()


def gradients_of(sinks: Sequence[TokenTensor], leaves: Sequence[Tensor], factors: Tensor) -> list[Tensor | None]:
    """Return the gradients of a mixture of the sinks, with a factor for each token, with respect to the leaves."""
    known = [sink for sink in sinks if sink.tensor.requires_grad]
    if not known or not leaves:
        return [None] * len(leaves)
    return list(
        torch.autograd.grad(
            [sink.tensor for sink in known], list(leaves), [sink.spread(factors) for sink in known],
            retain_graph=True, allow_unused=True,
        )
    )  # fmt: skip


def find_mixed_tokens(
    sinks: Sequence[TokenTensor], leaves: Sequence[TokenTensor], weights: Tensor
) -> tuple[list[int], list[Tensor | None]]:
    """Find the tokens of the leaves that other tokens of the sinks depend on.

    Args:
        sinks: what comes later.
        leaves: what comes earlier.
        weights: (tokens): 0 leaves a token of the sinks out.

    Returns:
        The numbers of these tokens, and the gradient of a mixture of the sinks with respect to each of the leaves.
    """
    tensors, found = [leaf.tensor for leaf in leaves], set()
    base = gradients_of(sinks, tensors, weights)
    for factors in _codes(len(weights), {sink.tensor.dtype for sink in sinks}):
        scaled = gradients_of(sinks, tensors, weights * factors)
        for leaf, one, other in zip(leaves, base, scaled, strict=True):
            if one is not None and other is not None:
                found.update(_deviations(leaf, one, other, factors))
    return sorted(found), base


def _deviations(leaf: TokenTensor, base: Tensor, scaled: Tensor, factors: Tensor) -> list[int]:
    rows, others = leaf.by_token(base), leaf.by_token(scaled)
    own = factors[leaf.first : leaf.first + len(rows)].to(rows)[:, None]
    errors, sizes = (others - own * rows).abs().amax(1), (own * rows).abs().amax(1)
    tolerances = TOLERANCE * sizes + ROUNDING * sizes.max()
    return [leaf.first + i for i in (errors > tolerances).nonzero().flatten().tolist()]


def _codes(tokens: int, dtypes: set[torch.dtype]) -> Iterator[Tensor]:
    """Yield factors for each token, of which two tokens have different ones at least once."""
    base = min(DIGITS.get(dtype, 16) for dtype in dtypes)
    numbers, scale = torch.arange(tokens), 1
    while scale < tokens:
        yield 2.0 ** ((numbers // scale) % base).double()
        scale *= base


def classify_mixing(sinks: Sequence[TokenTensor], leaves: Sequence[TokenTensor], weights: Tensor) -> Mixing:
    """Return how tokens of the leaves reach other tokens of the sinks; `weights` (tokens): 0 leaves one out."""
    mixed, _ = find_mixed_tokens(sinks, leaves, weights)
    if not mixed:
        return "none"
    known = {leaf.first + i for leaf in leaves for i in range(leaf.by_token(leaf.tensor.detach()).shape[0])}
    read = weights.nonzero().flatten().tolist()
    probed = [token for token in mixed if weights[token]] or read
    counts = []
    for token in dict.fromkeys([probed[0], probed[len(probed) // 2], probed[-1], read[0], read[-1]]):
        norms = _reached(sinks, leaves, token, len(weights))
        if token in known and norms[token] == 0 and norms.any():
            return "moved"
        counts.append(int(norms.count_nonzero()))
    return "global" if min(counts[:3]) >= len(weights) / 2 or max(counts) >= 0.9 * len(weights) else "local"


def _reached(sinks: Sequence[TokenTensor], leaves: Sequence[TokenTensor], token: int, tokens: int) -> Tensor:
    """Return the size of the gradient of one token of the sinks at each token of the leaves: (tokens)."""
    only, norms = torch.zeros(tokens).double(), torch.zeros(tokens).double()
    only[token] = 1
    for leaf, gradient in zip(leaves, gradients_of(sinks, [leaf.tensor for leaf in leaves], only), strict=True):
        if gradient is not None:
            rows = leaf.by_token(gradient).norm(dim=1).to(norms)
            norms[leaf.first : leaf.first + len(rows)] += rows
    return norms
