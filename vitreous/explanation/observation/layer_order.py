"""Find with autograd which attentions of a model follow each other, and which of them together make a layer.

In the pass that is inspected, the output of each attention is cut off the graph: a leaf of the same values takes its
place. What depends on a leaf then depends on that attention directly, through no other attention.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.explanation.perturbation import ATTENTION_FREE_METHODS
from vitreous.model.trace import AttentionRecord

UNREAD_TOKENS = (
    "the model's output doesn't depend on its tokens as far as autograd can tell: its head is all zeros (untrained), "
    "or it detaches its activations; train the head, or choose occlusion or rise"
)
NO_RESIDUAL = (
    "an attention of this model has no residual connection, which rollout assumes around each layer: choose attention "
    "or attention-gradient"
)
COLLINEAR = 0.999
"""Correlation from which on the gradients of two heads are multiples of each other: they are added or subtracted."""
MIN_SHARE = 0.9
"""The part of the tokens or channels above which this holds where two heads are added or subtracted."""
MIN_NUMBERS = 4
"""With fewer tokens or channels, gradients of unrelated heads may be nearly multiples of each other."""
MIN_RANK = 1.02
"""Effective rank of a head's gradient (tokens, channels) from which on its tokens have more than one direction."""


@dataclass(frozen=True)
class AttentionCall:
    """An attention of the inspected pass."""

    record: AttentionRecord
    """Its output is the leaf that takes the output's place."""
    sources: tuple[Tensor, ...]
    """What its weights are computed from, without its values."""


@dataclass(frozen=True)
class LayerOrder:
    """The attentions that the model's output depends on, in layers."""

    layers: tuple[tuple[int, ...], ...]
    """The numbers of the attentions of each layer."""
    has_residuals: bool
    """Whether tokens also pass by each layer."""


class DependencyGraph:
    """Tells which of some tensors others depend on, by the structure of the autograd graph."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._leaves = {id(one): 1 << bit for bit, one in enumerate(tensors) if one.grad_fn is None}
        self._found: dict[Any, int] = {}
        self._nodes: dict[Any, int] = {one.grad_fn: 1 << bit for bit, one in enumerate(tensors) if one.grad_fn}

    def dependencies(self, *tensors: Tensor) -> int:
        """Return a number whose bit i says whether any of these tensors depends on tensor i."""
        bits = 0
        for tensor in tensors:
            bits |= self._visit(tensor.grad_fn) if tensor.grad_fn is not None else self._leaves.get(id(tensor), 0)
        return bits

    def passes_through(self, result: Tensor, tensors: Sequence[Tensor]) -> bool:
        """Return whether a tensor depends on the tensors of this graph by way of `tensors` alone."""
        gates = {(one.grad_fn, one.output_nr) for one in tensors}
        return self._ends_in([result], lambda place: place in gates)

    def passes_between(self, results: Sequence[Tensor], earlier: int, later: Sequence[Tensor]) -> bool:
        """Return whether `results` depend on the tensors of this graph by way of what lies between two places alone.

        What lies between depends on a tensor of this graph whose bit is set in `earlier`, and `later` depend on it.
        """
        self.dependencies(*results)
        needed, stack = set(), [one.grad_fn for one in later]
        while stack:
            node = stack.pop()
            if node is not None and node not in needed:
                needed.add(node)
                stack.extend(following for following, _ in node.next_functions)
        return self._ends_in(results, lambda place: place[0] in needed and bool(self._found[place[0]] & earlier))

    def joins(self, results: Sequence[Tensor], own: int, earlier: int) -> Counter[str]:
        """Count the operations on the way to `results` where what depends on `own` meets what doesn't.

        The latter depends on a tensor of this graph whose bit is set in `earlier`.

        Returns:
            How often each operation of this kind occurs, by the name of its node.
        """
        self.dependencies(*results)
        found: Counter[str] = Counter()
        stack, seen = [one.grad_fn for one in results], set()
        while stack:
            node = stack.pop()
            if node is None or node in seen or not self._found[node] & own:
                continue
            seen.add(node)
            inputs = [one for one, _ in node.next_functions if one is not None]
            if any(self._found[one] & earlier and not self._found[one] & own for one in inputs):
                found[node.name()] += 1
            stack.extend(inputs)
        return found

    def _ends_in(self, results: Sequence[Tensor], is_gate: Callable[[tuple[Any, int]], bool]) -> bool:
        """Return whether every way back from some tensors to those of this graph meets a gate."""
        stack, seen = [(one.grad_fn, one.output_nr) for one in results], set()
        while stack:
            place = stack.pop()
            if place[0] is None or is_gate(place) or place[0] in seen:
                continue
            seen.add(place[0])
            if self._own_bits(place[0]):
                return False
            stack.extend(place[0].next_functions)
        return True

    def _own_bits(self, node: Any) -> int:
        variable = getattr(node, "variable", None)
        return self._nodes.get(node, 0) | (0 if variable is None else self._leaves.get(id(variable), 0))

    def _visit(self, root: Any) -> int:
        stack = [root]
        while stack:
            node = stack[-1]
            if node in self._found:
                stack.pop()
                continue
            inputs = [one for one, _ in node.next_functions if one is not None]
            if missing := [one for one in inputs if one not in self._found]:
                stack.extend(missing)
                continue
            bits = self._own_bits(node)
            for one in inputs:
                bits |= self._found[one]
            self._found[node] = bits
            stack.pop()
        return self._found[root]


def find_layers(calls: Sequence[AttentionCall], ends: Sequence[Tensor], image: Tensor) -> LayerOrder:
    """Arrange attentions in layers: those that don't depend on each other are one layer, as heads of it.

    Attentions on which `ends` (the logits, or the last tokens) don't depend are left out.

    Raises:
        InputError: they depend on none, or the attentions form more than one sequence of layers.
    """
    graph = DependencyGraph([*(call.record.output for call in calls), image])
    needs = [graph.dependencies(*call.sources, call.record.value) for call in calls]
    read, bits = [], graph.dependencies(*ends)
    for number in reversed(range(len(calls))):
        if bits >> number & 1:
            read.insert(0, number)
            bits |= needs[number]
    if not read:
        raise InputError(UNREAD_TOKENS)
    levels: dict[int, int] = {}
    for number in read:
        levels[number] = max((levels[other] + 1 for other in levels if needs[number] >> other & 1), default=0)
    layers = tuple(tuple(i for i in read if levels[i] == level) for level in range(max(levels.values()) + 1))
    for before, after in pairwise(layers):
        if any(not needs[number] >> other & 1 for number in after for other in before):
            raise InputError(
                "this model runs attentions side by side that meet only later (two towers, several models, or one "
                "model called several times, as for mirrored images), so they form no single sequence of layers: give "
                f"one plain tower, or choose {ATTENTION_FREE_METHODS}"
            )
    passes_by = [graph.dependencies(calls[number].record.value) >> len(calls) & 1 for number in read]
    for number, is_residual in zip(read, passes_by, strict=True):
        weights_need = graph.dependencies(*calls[number].sources)
        if levels[number] and not is_residual and not any(weights_need >> i & 1 for i in layers[levels[number] - 1]):
            raise InputError(
                "this model applies attention weights to the output of another attention, with nothing between them, "
                f"which is not a layer of its own: choose {ATTENTION_FREE_METHODS}"
            )
    return LayerOrder(layers, all(passes_by) and bool(graph.dependencies(*ends) >> len(calls) & 1))


def check_residuals(
    calls: Sequence[AttentionCall], layers: Sequence[Sequence[int]], ends: Sequence[Tensor], image: Tensor
) -> None:
    """Check that earlier tokens reach what is read after the last layer by way of its residual connection alone.

    A sum of the tokens after several layers looks like a residual connection, but its earlier terms pass by the tokens
    that the last layer was given. The term of the last layer but one doesn't: there the earlier tokens join those of
    the last layer once more than they join those of the layer before it.

    Args:
        calls: the attentions of the pass.
        layers: the numbers of those of each layer.
        ends: what is read after the last layer.
        image: the input.

    Raises:
        InputError: earlier tokens were added to what is read, or put beside it.
    """
    if len(layers) < 2:
        return
    graph = DependencyGraph([*(call.record.output for call in calls), image])
    every = (2 << len(calls)) - 1
    last, before = (sum(1 << number for number in layer) for layer in (layers[-1], layers[-2]))
    later = [one for number in layers[-1] for one in (*calls[number].sources, calls[number].record.value)]
    usual = graph.joins(later, before, every & ~last & ~before)
    if graph.joins(ends, last, every & ~last) <= usual:
        others = [number for number in range(len(calls)) if number not in layers[-1]]
        graph = DependencyGraph([*(calls[number].record.output for number in others), image])
        if graph.passes_between(ends, sum(1 << others.index(number) for number in layers[-2]), later):
            return
    raise InputError(
        "the model's head reads the tokens after several layers, added up or side by side, not those of the last layer "
        f"alone, which no map from the last layer shows; choose {ATTENTION_FREE_METHODS}"
    )


def check_combination(records: Sequence[AttentionRecord], gradients: Sequence[Tensor | None]) -> None:
    """Check that the heads of one layer are not added to or subtracted from each other with different weights.

    Args:
        records: the attentions of the layer.
        gradients: that of a random mixture of what follows, with respect to the output of each.

    Raises:
        InputError: one is subtracted from another (differential attention), or they are added with different weights.
    """
    if len({record.output.shape[-1] for record in records}) > 1 or any(one is None for one in gradients):
        return
    heads = torch.cat([one.detach().double().squeeze(0) for one in gradients if one is not None])
    # Each token counts the same: a class token that begins as zeros has a gradient that exceeds all others.
    heads = heads / heads.square().sum((0, 2), keepdim=True).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    # Where all tokens of a head have gradients of one direction, channels are multiples of each other in any model.
    squares = (heads.mT @ heads).square().sum((1, 2))
    heads = heads[heads.square().sum((1, 2)).square() > MIN_RANK * squares]
    ratios = torch.cat([_ratios_of_multiples(heads), _ratios_of_multiples(heads.mT)])
    if bool((ratios < 0).any()):
        raise InputError(
            "this model subtracts one attention from another (differential attention), so its weights are no share of "
            f"attention: choose {ATTENTION_FREE_METHODS}"
        )
    if bool(((ratios - 1).abs() > 0.01).any()):
        raise InputError(
            "this model adds attentions with different weights, which their mean over heads doesn't show: choose "
            f"{ATTENTION_FREE_METHODS}"
        )


def _ratios_of_multiples(heads: Tensor) -> Tensor:
    """Return the ratios of heads (heads, rows, numbers) to others of which they are multiples, row by row.

    Rows are tokens, whose ratio may be a weight that depends on the token, or channels, with a learned weight each.
    """
    if heads.shape[2] < MIN_NUMBERS:
        return heads.new_empty(0)
    squares = heads.square().sum(-1)
    products = torch.einsum("htd,gtd->hgt", heads, heads)
    sizes = squares[:, None] * squares[None]
    collinear = (products.square() > COLLINEAR**2 * sizes) & (sizes > 0)
    multiples = collinear.sum(-1) > MIN_SHARE * (sizes > 0).sum(-1)
    multiples.fill_diagonal_(fill_value=False)
    return (products / squares[:, None].clamp_min(torch.finfo(torch.float64).tiny))[multiples[..., None] & collinear]
