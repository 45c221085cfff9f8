"""Tags that follow a model's tensors from attention scores through a softmax to weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from vitreous.errors import InputError
from vitreous.explanation.observation.einsum import EinsumSpec
from vitreous.explanation.observation.sdpa import dropout_error

SOFTMAX = frozenset({"softmax", "_softmax", "special_softmax"})
DROPOUT = frozenset({"dropout", "dropout_", "alpha_dropout", "feature_dropout"})
UNCHANGED = frozenset(["to", "type", "type_as", "float", "double", "half", "bfloat16", "contiguous", "clone"])
"""Functions that keep values and axes, except for precision."""
RESHAPES = frozenset(["view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "view_as"])
TRANSPOSITIONS = frozenset({"transpose", "swapaxes", "swapdims", "permute"})
SCALES = {"mul": 1, "multiply": 1, "div": -1, "true_divide": -1, "divide": -1}
"""Functions that scale scores by a number: 1 multiplies, -1 divides."""


@dataclass(frozen=True)
class AttentionScores:
    """The tag of scale · query keyᵀ (..., tokens, tokens): query and key are (..., tokens, head width)."""

    query: Tensor
    key: Tensor
    scale: float = 1.0


@dataclass(frozen=True)
class SoftmaxOutput:
    """The tag of attention weights: a softmax along `axis`, of `scores` where they are known."""

    axis: int
    scores: AttentionScores | None
    number: int


class TensorTags:
    """Tags of tensors, valid as long as a tensor exists and isn't changed in place."""

    def __init__(self) -> None:
        self._tags = WeakTensorKeyDictionary()
        self._softmaxes = 0
        self.unresolved: dict[int, Tensor | None] = {}
        """The results of softmaxes over square matrices that no product with values has followed yet; None for those
        that no gradient reaches."""

    def set(self, tensor: Tensor, tag: AttentionScores | SoftmaxOutput) -> None:
        """Tag a tensor."""
        self._tags[tensor] = (tag, tensor._version)

    def get(self, tensor: Any) -> AttentionScores | SoftmaxOutput | None:
        """Return the tag of a tensor, if it has one.

        Raises:
            InputError: the tensor is attention weights that were changed in place.
        """
        tag, version = self._tags.get(tensor, (None, 0)) if isinstance(tensor, Tensor) else (None, 0)
        if tag is None or tensor._version == version:
            return tag
        if isinstance(tag, SoftmaxOutput):
            raise InputError("attention is changed in place after its softmax, so that its rows may no longer sum to 1")
        return None

    def tag_softmax(self, scores: Tensor, axis: int, result: Tensor) -> None:
        """Tag `result` as the softmax of `scores` along an axis, counted from 0."""
        known = self.get(scores) if axis == scores.ndim - 1 else None
        self._softmaxes += 1
        self.set(result, SoftmaxOutput(axis, known if isinstance(known, AttentionScores) else None, self._softmaxes))
        adjacent = [size for i, size in enumerate(scores.shape) if abs(i - axis) == 1 and i > 0]
        if scores.ndim > 2 and scores.shape[axis] in adjacent and scores.shape[axis] > 1:
            self.unresolved[self._softmaxes] = result if result.requires_grad else None

    def resolve(self, tag: SoftmaxOutput) -> None:
        """Record that weights were multiplied with values."""
        self.unresolved.pop(tag.number, None)

    def tag_product(self, product: EinsumSpec, result: Tensor) -> None:
        """Tag the result of a product as scores, if it multiplies each row of one tensor with each row of the other."""
        if not product.is_matrix_product or result.ndim < 3 or result.shape[-1] != result.shape[-2]:
            return
        product = product if product.result_axes[-2] in product.left_axes else product.swapped
        shared, rows, columns = product.shared, product.result_axes[-2], product.result_axes[-1]
        if product.result_axes != shared + rows + columns:
            return
        query = product.left.permute([product.left_axes.index(axis) for axis in shared + rows + product.summed])
        key = product.right.permute([product.right_axes.index(axis) for axis in shared + columns + product.summed])
        self.set(result, AttentionScores(query, key))


def propagate_tags(tags: TensorTags, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
    """Carry a tag from the input of a torch function to its output, where it certainly holds of the output."""
    source = args[0] if args else kwargs.get("input")
    if not isinstance(result, Tensor) or not isinstance(source, Tensor):
        return
    if name in SOFTMAX and source.ndim > 2:
        tags.tag_softmax(source, _argument(args, kwargs, "dim", -1) % source.ndim, result)
    elif (
        name in UNCHANGED
        or name == "nan_to_num"
        or name in DROPOUT
        or name in RESHAPES
        or name in TRANSPOSITIONS
        or name in SCALES
    ):
        tag = tags.get(source) or (tags.get(args[1]) if name in ("mul", "multiply") and len(args) > 1 else None)
        carried = None if tag is None else _carry(tag, name, args, kwargs, source, result)
        if carried is not None:
            tags.set(result, carried)


def _carry(
    tag: AttentionScores | SoftmaxOutput,
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    source: Tensor,
    result: Tensor,
) -> AttentionScores | SoftmaxOutput | None:
    """Return the tag of the result; None where it is uncertain."""
    if name == "nan_to_num":  # it changes the scores of a mask, but not weights
        return replace(tag, scores=None) if isinstance(tag, SoftmaxOutput) else None
    if name in DROPOUT and _drops(args, kwargs):
        raise dropout_error(float(_argument(args, kwargs, "p", 0.5)))
    if name in UNCHANGED or name in DROPOUT:
        return tag
    if isinstance(tag, AttentionScores):
        factor = _number(args, kwargs) if name in SCALES else None
        return None if factor is None else replace(tag, scale=tag.scale * factor ** SCALES[name])
    if name in TRANSPOSITIONS:
        return replace(tag, axis=_transposed_axis(name, args, kwargs, tag.axis, source.ndim), scores=None)
    is_kept = tag.axis == source.ndim - 1 and source.shape[-2:] == result.shape[-2:] and result.ndim > 1
    return replace(tag, axis=result.ndim - 1, scores=None) if name in RESHAPES and is_kept else None


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return the argument that is second or has this name."""
    value = args[1] if len(args) > 1 else kwargs.get(name)
    return default if value is None else value


def _drops(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    training = args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", True))
    return bool(training) and _argument(args, kwargs, "p", 0.5) > 0


def _number(args: Sequence[Any], kwargs: Mapping[str, Any]) -> float | None:
    """Return the number by which all scores are scaled; None if it differs between scores."""
    if kwargs.get("rounding_mode") is not None:
        return None
    numbers = [one for one in (*args, kwargs.get("other")) if isinstance(one, (int, float))]
    numbers += [one.item() for one in (*args, kwargs.get("other")) if isinstance(one, Tensor) and one.numel() == 1]
    return float(numbers[0]) if len(numbers) == 1 and numbers[0] else None


def _transposed_axis(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], axis: int, axes: int) -> int:
    """Return the position of an axis after a transposition."""
    if name == "permute":
        dims = kwargs.get("dims", args[1:])
        dims = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
        return [dim % axes for dim in dims].index(axis)
    named = [kwargs[key] for key in ("dim0", "dim1", "axis0", "axis1") if key in kwargs]
    first, second = (dim % axes for dim in [*args[1:], *named])
    return {first: second, second: first}.get(axis, axis)
