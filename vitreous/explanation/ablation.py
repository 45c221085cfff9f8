"""Zero ablation of attention heads (Michel et al. 2019, section 2): what a model predicts without some of them."""

from collections.abc import Callable, Generator, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from numbers import Integral
from threading import get_ident

import torch
from torch import Tensor, nn

from vitreous.arguments import show
from vitreous.errors import InputError
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import Attention, Block, ViT


@contextmanager
def ablate_heads(model: ImageClassifier | ViT, heads: Iterable[tuple[int, int]]) -> Generator[None]:
    """Set the outputs of attention heads to zero in every call of a model inside the context.

    A head's output is A value, before the output projection, whose bias stays. `predict`, `explain`, `attribute` and
    calls of `model.model` run without these heads; so does `embed`, but for a wrapped model with classes. The attention
    weights of the heads themselves are still computed, so that their maps can be drawn. Calls of other threads are not
    affected; contexts may be nested.

    Args:
        model: what `load` or `wrap` returns, or a `ViT`.
        heads: (layer, head) of each head, counted from 0.

    Raises:
        InputError: there is no such layer or head, or the model is of another kind. Of a wrapped model this is known
            when it is called; it also says then why its attention can't be observed.

    Example:
        >>> from vitreous.model.config import ViTConfig
        >>> vit = ViT(ViTConfig(image_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3)).eval()
        >>> with ablate_heads(vit, [(0, 1), (1, 0)]):
        ...     vit(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 3])
    """
    module, chosen = model.model if isinstance(model, ImageClassifier) else model, _check_heads(heads)
    with ExitStack() as stack:
        if isinstance(module, ViT):
            for attention, numbers in _by_block(module, chosen):
                handle = attention.proj.register_forward_pre_hook(_zeroing_hook(attention.num_heads, numbers))
                stack.callback(handle.remove)
        else:
            from vitreous.explanation.observation.wrapped_model import (
                WrappedModel,
            )  # our own models need no observation

            if not isinstance(module, WrappedModel):
                raise InputError(
                    f"{show(module)} is neither a ViT of Vitreous nor wrapped: give what vitreous.load or "
                    "vitreous.wrap returns"
                )
            stack.enter_context(module.without_heads(chosen))
        yield


def _check_heads(heads: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return pairs of Python's integers.

    Raises:
        InputError: they are something else.
    """
    pairs = list(heads) if isinstance(heads, Iterable) else [heads]
    for pair in pairs:
        is_pair = isinstance(pair, Sequence) and len(pair) == 2
        if not is_pair or not all(isinstance(one, Integral) and not isinstance(one, bool) for one in pair):
            raise InputError(f"heads has {show(pair)}: give a list of (layer, head), such as [(3, 0), (3, 5)]")
    return [(int(layer), int(head)) for layer, head in pairs]


def _by_block(vit: ViT, heads: Sequence[tuple[int, int]]) -> list[tuple[Attention, list[int]]]:
    """Return the attentions that lose heads, with the numbers of these.

    Raises:
        InputError: there is no such layer or head.
    """
    layers = [block.attn for block in vit.blocks if isinstance(block, Block)]
    counts, found = [one.num_heads for one in layers], [list[int]() for _ in layers]
    for layer, head in heads:
        if not (0 <= layer < len(layers) and 0 <= head < counts[layer]):
            raise unknown_head(layer, head, counts)
        found[layer].append(head)
    return [(attention, numbers) for attention, numbers in zip(layers, found, strict=True) if numbers]


def _zeroing_hook(num_heads: int, heads: Sequence[int]) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor] | None]:
    """Return a hook for the output projection, which reads the heads side by side: (batch, tokens, width)."""
    thread = get_ident()

    def zero(projection: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        if get_ident() != thread:
            return None
        merged = inputs[0].unflatten(-1, (num_heads, -1))
        is_ablated = torch.zeros(num_heads, 1, dtype=torch.bool, device=merged.device)
        is_ablated[list(heads)] = True
        return (merged.masked_fill(is_ablated, 0).flatten(-2),)

    return zero


class HeadAblation:
    """Sets the outputs of some heads to zero, attention by attention.

    Args:
        heads: (layer, head) of each.
        layers: for each layer, the numbers of its attentions in the order of the pass; their heads count on.
    """

    def __init__(self, heads: AbstractSet[tuple[int, int]], layers: Sequence[Sequence[int]]) -> None:
        self._missing = set(heads)
        self._layer_of = {number: layer for layer, numbers in enumerate(layers) for number in numbers}
        self._head_counts = [0] * len(layers)

    def apply(self, number: int, output: Tensor) -> Tensor:
        """Return the output (batch, heads, tokens, head width) of the attention of this number, without the heads."""
        layer = self._layer_of.get(number)
        if layer is None:
            return output
        first, count = self._head_counts[layer], output.shape[1]
        self._head_counts[layer] += count
        found = {(at, head) for at, head in self._missing if at == layer and first <= head < first + count}
        if not found:
            return output
        self._missing -= found
        is_ablated = torch.zeros(count, 1, 1, dtype=torch.bool, device=output.device)
        is_ablated[[head - first for _, head in found]] = True
        return output.masked_fill(is_ablated, 0)

    def finish(self) -> None:
        """Finish after the forward pass.

        Raises:
            InputError: the pass had no such layer or head.
        """
        if self._missing:
            layer, head = min(self._missing)
            raise unknown_head(layer, head, self._head_counts)


def unknown_head(layer: int, head: int, head_counts: Sequence[int]) -> InputError:
    """Return the error for a head that a model doesn't have, from the number of heads in each of its layers."""
    depth = len(head_counts)
    has = f"the model has layers 0 to {depth - 1}"
    if 0 <= layer < depth:
        has = f"layer {layer} has heads 0 to {head_counts[layer] - 1}"
    return InputError(f"there is no head {head} in layer {layer}: {has}")
