"""Find with autograd which tokens a model's head reads, and with which weight."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.observation.layer_order import UNREAD_TOKENS, DependencyGraph
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Relative difference up to which two directions are the same; 0.05 in other precisions."""
PATH_TOLERANCE = 1e-3
"""Relative difference up to which all that the logits depend on passes through the tokens of the last layer."""
UNSUPPORTED_HEAD = (
    "the model's head reads its tokens in a way that is not a fixed weighted sum of them (a maximum, or weights that "
    f"depend on the tokens), so no map can start from it; choose {ATTENTION_FREE_METHODS}"
)


@dataclass(frozen=True)
class LastTokens:
    """The tokens that a model's head reads, and the gradient of its logits there."""

    stream: Tensor
    """(1, tokens, width) or (tokens, 1, width)."""
    rows: Tensor
    """(tokens, width): the gradient of a fixed mixture of the logits."""

    @property
    def axis(self) -> int:
        """The axis of the tokens."""
        return 1 if self.stream.shape[0] == 1 else 0


def find_last_tokens(logits: Tensor, streams: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[LastTokens]:
    """Find the tensors of tokens through which all passes that the logits read, the last one first.

    Args:
        logits: (1, classes), on the autograd graph.
        streams: tensors (1, tokens, width) or (tokens, 1, width) in the order in which they were computed, all after
            the last attention.
        leaves: the outputs of the attentions, cut off the graph, and the image.

    Raises:
        InputError: the logits depend on no tokens, or also on something that isn't in the last tokens.
    """
    mixture, graph, missed = _mixture(logits), DependencyGraph(leaves), 0.0
    passing: list[LastTokens] = []
    found = torch.autograd.grad(mixture, list(streams), retain_graph=True, allow_unused=True) if streams else ()
    for gradient, stream in reversed(list(zip(found, streams, strict=True))):
        if gradient is not None and gradient.any():
            passes = graph.passes_through(logits, [stream])
            missed = 0.0 if passes else 1.0 if passing else _share_elsewhere(mixture, [stream], leaves)
            if missed <= PATH_TOLERANCE:
                rows = gradient.squeeze(0) if gradient.shape[0] == 1 else gradient.squeeze(1)
                passing.append(LastTokens(stream, rows))
            elif passing:
                break
    if passing:
        return passing
    raise InputError(_reads_elsewhere(missed) if missed else UNREAD_TOKENS)


def check_pooling(logits: Tensor, pooled: Sequence[Tensor], leaves: Sequence[Tensor]) -> None:
    """Check that a head reads nothing else than what its attention pools, given all that the pooling is computed from.

    Raises:
        InputError: it does.
    """
    inputs = [one for one in pooled if one.requires_grad]
    if not DependencyGraph(leaves).passes_through(logits, inputs):
        missed = _share_elsewhere(_mixture(logits), inputs, leaves)
        if missed > PATH_TOLERANCE:
            raise InputError(_reads_elsewhere(missed))


def _mixture(logits: Tensor) -> Tensor:
    return (logits * torch.arange(logits.shape[-1], device=logits.device).add(1).sin()).sum()


def _share_elsewhere(mixture: Tensor, tensors: Sequence[Tensor], leaves: Sequence[Tensor]) -> float:
    """Return the largest part of a leaf's gradient that doesn't pass through these tensors, relative to all of it."""
    found = torch.autograd.grad(mixture, [*tensors, *leaves], retain_graph=True, allow_unused=True)
    known = [(one, gradient) for one, gradient in zip(tensors, found, strict=False) if gradient is not None]
    totals = found[len(tensors) :]
    through: Sequence[Tensor | None] = [None] * len(leaves)
    if known:
        gates, gradients = zip(*known, strict=True)
        through = torch.autograd.grad(gates, leaves, gradients, retain_graph=True, allow_unused=True)
    shares = [0.0]
    for total, part in zip(totals, through, strict=True):
        if total is not None and total.any():
            rest = total.double() if part is None else total.double() - part
            shares.append(float(rest.norm() / total.double().norm()))
    return max(shares)


def _reads_elsewhere(share: float) -> str:
    return (
        "the model's head doesn't read the tokens of the last layer alone, but also those of earlier layers or the "
        f"image itself ({min(share, 1):.0%} of the gradient there), which no map from the last layer shows; choose "
        f"{ATTENTION_FREE_METHODS}"
    )


def find_readout(passing: Sequence[LastTokens], prefix: int, trailing: int = 0) -> Tensor:
    """Find the weight with which a model's head reads each token: (tokens), 0 or more, summing to 1.

    The last tokens may be multiplied by a mask or by weights of the head already. So earlier ones are read too, as long
    as the head reads a weighted sum of these; where that gives other weights, they are the readout.

    Args:
        passing: the tensors of tokens that the logits read, the last one first.
        prefix: number of tokens that aren't patches.
        trailing: number of these that come behind the patches in the tokens; in the readout they come first.

    Raises:
        InputError: the logits read tokens in another way.
    """
    readout, is_one_vector = _read_weights(passing[0], prefix, trailing)
    for earlier in passing[1:]:
        try:
            weights, is_one = _read_weights(earlier, prefix, trailing)
        except InputError:
            break
        if is_one != is_one_vector:
            break
        readout = readout if torch.allclose(weights, readout, rtol=0.01, atol=1e-4) else weights
    return readout


def _read_weights(last: LastTokens, prefix: int, trailing: int) -> tuple[Tensor, bool]:
    """Find the weight with which a model's head reads each token of one tensor, and whether it reads one vector only.

    The gradient of a fixed mixture of the logits with respect to the last tokens has one row per token. Tokens whose
    row is 0 are not read. If the head reads one weighted sum of tokens (a class token, a mean), the rows are multiples
    of one vector, and the factors are the weights. If rows have several directions, the head reads several vectors (a
    class token and the patches' mean, or a class token and a distillation token): each prefix token that is read counts
    as one, and the patches, whose rows must be multiples of one vector, together count as one.
    """
    tolerance = TOLERANCE.get(last.rows.dtype, 0.05)
    rows = last.rows.double().roll(trailing, 0)
    if (weights := _factors(rows, tolerance)) is not None:
        return _check_positive(weights) / weights.sum(), True
    weights_per_vector = rows.norm(dim=-1).ne(0).double()
    patches = rows[prefix:]
    if patches.any():
        factors = _factors(patches, tolerance)
        if factors is None:
            raise InputError(UNSUPPORTED_HEAD)
        weights_per_vector[prefix:] = _check_positive(factors) / factors.sum()
    return weights_per_vector / weights_per_vector.sum(), False


def pooling_readout(pooling: Tensor, tokens: int, prefix: int, trailing: int) -> Tensor:
    """Return the readout (batch, tokens) of a head that pools by attention, from its weights (batch, keys).

    `trailing` tokens come behind the patches in the model's own order; here they come first.

    Raises:
        InputError: it pools something else than all tokens or all patches.
    """
    if pooling.shape[1] == tokens:
        return pooling.roll(trailing, 1)
    if pooling.shape[1] == tokens - prefix:
        return functional.pad(pooling, (prefix, 0))
    raise InputError(f"the model pools {pooling.shape[1]} tokens by attention, but has {tokens}: this isn't supported")


def _factors(rows: Tensor, tolerance: float) -> Tensor | None:
    """Return the factors by which rows (tokens, width) are multiples of the longest row; None if they aren't."""
    longest = rows[rows.norm(dim=-1).argmax()]
    factors = rows @ longest / longest.square().sum()
    rest = (rows - factors[:, None] * longest).norm(dim=-1)
    return factors if bool((rest <= tolerance * rows.norm(dim=-1)).all()) else None


def _check_positive(weights: Tensor) -> Tensor:
    """Check that no weight is below 0."""
    if weights.min() < 0:
        raise InputError("the model's head subtracts some of its tokens from others, so no map can start from it")
    return weights
