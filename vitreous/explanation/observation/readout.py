"""Find with autograd which tokens a model's head reads, and with which weight."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Relative difference up to which two directions are the same; 0.05 in other precisions."""
UNSUPPORTED_HEAD = (
    "the model's head reads its tokens in a way that is not a fixed weighted sum of them (a maximum, or weights that "
    f"depend on the tokens), so no map can start from it; choose {ATTENTION_FREE_METHODS}"
)


def find_readout(logits: Tensor, streams: Sequence[Tensor], prefix: int, trailing: int = 0) -> Tensor:
    """Find the weight with which a model's head reads each token: (tokens), 0 or more, summing to 1.

    The gradient of a fixed mixture of the logits with respect to the last tokens has one row per token. Tokens whose
    row is 0 are not read. If the head reads one weighted sum of tokens (a class token, a mean), the rows are multiples
    of one vector, and the factors are the weights. If rows have several directions, the head reads several vectors (a
    class token and the patches' mean, or a class token and a distillation token): each prefix token that is read counts
    as one, and the patches, whose rows must be multiples of one vector, together count as one. Each token of the stream
    must depend on its own token alone since the last attention; autograd checks this for one token.

    Args:
        logits: (1, classes), on the autograd graph.
        streams: tensors (1, tokens, width) or (tokens, 1, width) in the order in which they were computed, all after
            the last attention. The last one on which the logits depend is used.
        prefix: number of tokens that aren't patches.
        trailing: number of these that come behind the patches in the streams; in the readout they come first.

    Raises:
        InputError: the logits depend on no token, or read tokens in another way.
    """
    rows, stream = _gradient(logits, streams)
    _check_independent(stream, streams[0], int(rows.norm(dim=-1).argmax()))
    tolerance = TOLERANCE.get(rows.dtype, 0.05)
    rows = rows.double().roll(trailing, 0)
    if (weights := _factors(rows, tolerance)) is not None:
        return _check_positive(weights) / weights.sum()
    weights_per_vector = rows.norm(dim=-1).ne(0).double()
    patches = rows[prefix:]
    if patches.any():
        factors = _factors(patches, tolerance)
        if factors is None:
            raise InputError(UNSUPPORTED_HEAD)
        weights_per_vector[prefix:] = _check_positive(factors) / factors.sum()
    return weights_per_vector / weights_per_vector.sum()


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


def _gradient(logits: Tensor, streams: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the gradient (tokens, width) of a mixture of the logits with respect to the last stream they depend on."""
    if logits.requires_grad and streams:
        mixture = (logits * torch.arange(logits.shape[-1], device=logits.device).add(1).sin()).sum()
        found = torch.autograd.grad(mixture, list(streams), retain_graph=True, allow_unused=True)
        for gradient, stream in reversed(list(zip(found, streams, strict=True))):
            if gradient is not None and gradient.any():
                return _rows(gradient), stream
    raise InputError(
        "the model's output doesn't depend on its tokens as far as autograd can tell: its head is all zeros "
        "(untrained), or it detaches its activations; train the head, or choose occlusion or rise"
    )


def _rows(stream: Tensor) -> Tensor:
    return stream.squeeze(0) if stream.shape[0] == 1 else stream.squeeze(1)


def _check_independent(stream: Tensor, before: Tensor, token: int) -> None:
    """Check that a token doesn't depend on other tokens after the last attention, as the weights of a softmax do."""
    numbers = _rows(stream)[token]
    mixture = (numbers * torch.arange(len(numbers), device=numbers.device).add(1).sin()).sum()
    (gradient,) = torch.autograd.grad(mixture, before, retain_graph=True, allow_unused=True)
    if gradient is not None and _rows(gradient).any(-1).nonzero().flatten().tolist() not in ([], [token]):
        raise InputError(UNSUPPORTED_HEAD)


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
