"""Which tokens a foreign model's head reads, and with which weight: found by autograd, not by asking."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""How far two directions may differ and still be the same, relative to the larger; 0.05 in other precisions."""
UNSUPPORTED_HEAD = (
    "the model's head reads its tokens in a way that is no fixed weighted sum of them (a maximum, or weights that "
    f"depend on the tokens), so no map can start from it; choose {ATTENTION_FREE_METHODS}"
)


def find_readout(logits: Tensor, streams: Sequence[Tensor], prefix: int, last: int = 0) -> Tensor:
    """The weight with which a model's head reads each token: (tokens), 0 or above, summing to 1.

    The rule: the gradient of a fixed mixture of the logits with respect to the last tokens, one row a token. Tokens
    whose row is 0 are not read. A head that reads one weighted sum of tokens (a class token, a mean) has rows that are
    multiples of one vector, and the multiples are the weights. Where rows point in several directions, the head reads
    several vectors (a class token beside the patches' mean, or beside a distillation token): each prefix token that is
    read counts as one, and the patches, which must be multiples of one vector, together as one.

    Args:
        logits: (1, classes), on the graph.
        streams: tensors (1, tokens, width) or (tokens, 1, width) in the order in which they were computed, all after
            the last attention; the last that the logits depend on counts.
        prefix: how many of the tokens are no patches.
        last: how many of these stand behind the patches in the streams; in the readout they come first.

    Each token of the stream must depend on its own token alone since the last attention; autograd is asked of one.

    Raises:
        InputError: the logits depend on no token, or read tokens in another way.
    """
    rows, stream = _gradient(logits, streams)
    _check_apart(stream, streams[0], int(rows.norm(dim=-1).argmax()))
    tolerance = TOLERANCE.get(rows.dtype, 0.05)
    rows = rows.double().roll(last, 0)
    if (weights := _multiples(rows, tolerance)) is not None:
        return _checked(weights) / weights.sum()
    shares = rows.norm(dim=-1).ne(0).double()
    patches = rows[prefix:]
    if patches.any():
        multiples = _multiples(patches, tolerance)
        if multiples is None:
            raise InputError(UNSUPPORTED_HEAD)
        shares[prefix:] = _checked(multiples) / multiples.sum()
    return shares / shares.sum()


def pooling_readout(pooling: Tensor, tokens: int, prefix: int, last: int) -> Tensor:
    """The readout (batch, tokens) of a head that pools by attention, from its weights (batch, keys).

    `last` tokens stand behind the patches in the model's own order; here they come first.

    Raises:
        InputError: it pools over something else than all tokens or all patches.
    """
    if pooling.shape[1] == tokens:
        return pooling.roll(last, 1)
    if pooling.shape[1] == tokens - prefix:
        return functional.pad(pooling, (prefix, 0))
    raise InputError(f"the model pools {pooling.shape[1]} tokens by attention, but has {tokens}: this isn't supported")


def _gradient(logits: Tensor, streams: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The gradient (tokens, width) of a mixture of the logits with respect to the last stream that they depend on."""
    if logits.requires_grad and streams:
        mixture = (logits * torch.arange(logits.shape[-1], device=logits.device).add(1).sin()).sum()
        found = torch.autograd.grad(mixture, list(streams), retain_graph=True, allow_unused=True)
        for gradient, stream in reversed(list(zip(found, streams, strict=True))):
            if gradient is not None and gradient.any():
                return _rows(gradient), stream
    raise InputError(
        "the model's answer doesn't depend on its tokens as far as autograd can see: its head is all zeros "
        "(untrained), or it detaches what it computes; train the head, or choose occlusion or rise"
    )


def _rows(stream: Tensor) -> Tensor:
    return stream.squeeze(0) if stream.shape[0] == 1 else stream.squeeze(1)


def _check_apart(stream: Tensor, before: Tensor, token: int) -> None:
    """Refuse a stream in which a token knows of others by something else than attention, as weights of a softmax do."""
    numbers = _rows(stream)[token]
    mixture = (numbers * torch.arange(len(numbers), device=numbers.device).add(1).sin()).sum()
    (gradient,) = torch.autograd.grad(mixture, before, retain_graph=True, allow_unused=True)
    if gradient is not None and _rows(gradient).any(-1).nonzero().flatten().tolist() not in ([], [token]):
        raise InputError(UNSUPPORTED_HEAD)


def _multiples(rows: Tensor, tolerance: float) -> Tensor | None:
    """The factors by which rows (tokens, width) are multiples of the longest of them; None if they aren't."""
    longest = rows[rows.norm(dim=-1).argmax()]
    factors = rows @ longest / longest.square().sum()
    rest = (rows - factors[:, None] * longest).norm(dim=-1)
    return factors if bool((rest <= tolerance * rows.norm(dim=-1)).all()) else None


def _checked(weights: Tensor) -> Tensor:
    """The weights, none of which may be below 0."""
    if weights.min() < 0:
        raise InputError("the model's head subtracts some of its tokens from others, so no map can start from it")
    return weights
