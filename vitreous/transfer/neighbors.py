"""The nearest images by the cosine similarity of their features: for classification and for search."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

NEIGHBOR_COUNTS = (1, 3, 5, 10, 20, 50, 100)
"""The numbers of neighbors, k, among which the validation images choose."""
TEMPERATURE = 0.07
"""A neighbor's vote weighs exp(similarity / temperature), as in DINO (Caron et al. 2021, Wu et al. 2018)."""
MAX_SIMILARITIES = 2**24
"""In memory at a time: 64 MB."""


@torch.no_grad()
def nearest(queries: Tensor, bank: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the `count` nearest images of a bank for each query.

    Args:
        queries: features (queries, width).
        bank: features (images, width).
        count: at most the number of images.

    Returns:
        Cosine similarities (queries, count), highest first, and the indexes of the images.
    """
    bank, queries = functional.normalize(bank.float(), dim=-1), functional.normalize(queries.float(), dim=-1)
    rows = max(1, MAX_SIMILARITIES // len(bank))
    similarities = bank.new_empty(min(rows, len(queries)), len(bank))  # new ones for each chunk would fragment memory
    found = [
        torch.matmul(chunk, bank.T, out=similarities[: len(chunk)]).topk(count, dim=1) for chunk in queries.split(rows)
    ]
    return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])


def neighbor_votes(
    queries: Tensor, bank: Tensor, labels: Tensor, classes: int, counts: Sequence[int]
) -> Iterator[Tensor]:
    """Compute the votes of the k nearest images for each class, float32 (queries, classes), for each k of `counts`."""
    similarities, indexes = nearest(queries, bank, max(counts))
    weights, voted = (similarities / TEMPERATURE).exp(), labels[indexes]
    for count in counts:
        votes = torch.zeros(len(queries), classes)
        yield votes.scatter_add_(1, voted[:, :count], weights[:, :count])
