"""What is known of a foreign model's tensors on their way from scores through a softmax to weights."""

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
SAME = frozenset(["to", "type", "type_as", "float", "double", "half", "bfloat16", "contiguous", "clone"])
"""Functions after which numbers are what they were, but for their precision."""
SHAPES = frozenset(["view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "view_as"])
TURNS = frozenset({"transpose", "swapaxes", "swapdims", "permute"})
SCALES = {"mul": 1, "multiply": 1, "div": -1, "true_divide": -1, "divide": -1}
"""Functions that scale scores by a number: 1 multiplies, -1 divides."""


@dataclass(frozen=True)
class Scores:
    """scale · query keyᵀ, for sure: query and key are (..., tokens, head width), the scores (..., tokens, tokens)."""

    query: Tensor
    key: Tensor
    scale: float = 1.0


@dataclass(frozen=True)
class SoftmaxOutput:
    """Weights: a softmax along `axis`, of `scores` where those are known."""

    axis: int
    scores: Scores | None
    number: int


class TensorTags:
    """A note to a tensor, as long as the tensor lives and isn't changed in place."""

    def __init__(self) -> None:
        self._kept = WeakTensorKeyDictionary()
        self._softmaxes = 0
        self.open: dict[int, tuple[int, ...]] = {}
        """Shapes of the softmaxes over a square that no product with values has followed yet."""

    def put(self, tensor: Tensor, note: Scores | SoftmaxOutput) -> None:
        """Keep a note to a tensor."""
        self._kept[tensor] = (note, tensor._version)

    def of(self, tensor: Any) -> Scores | SoftmaxOutput | None:
        """The note to a tensor, if there is one.

        Raises:
            InputError: it tells of weights, which were changed since.
        """
        note, version = self._kept.get(tensor, (None, 0)) if isinstance(tensor, Tensor) else (None, 0)
        if note is None or tensor._version == version:
            return note
        if isinstance(note, SoftmaxOutput):
            raise InputError("attention is changed in place after its softmax, so that its rows may no longer sum to 1")
        return None

    def softmax(self, scores: Tensor, axis: int, result: Tensor) -> None:
        """Note that `result` is the softmax of `scores` along an axis, counted from 0."""
        known = self.of(scores) if axis == scores.ndim - 1 else None
        self._softmaxes += 1
        self.put(result, SoftmaxOutput(axis, known if isinstance(known, Scores) else None, self._softmaxes))
        beside = [size for place, size in enumerate(scores.shape) if abs(place - axis) == 1 and place > 0]
        if scores.ndim > 2 and scores.shape[axis] in beside and scores.shape[axis] > 1:
            self.open[self._softmaxes] = tuple(scores.shape)

    def resolve(self, note: SoftmaxOutput) -> None:
        """Note that weights were multiplied with values."""
        self.open.pop(note.number, None)

    def product(self, made: EinsumSpec, result: Tensor) -> None:
        """Note that a product's result may be scores: each row of one tensor times each row of the other."""
        if not made.is_matrix_product or result.ndim < 3 or result.shape[-1] != result.shape[-2]:
            return
        made = made if made.result_axes[-2] in made.left_axes else made.turned
        shared, rows, columns = made.shared, made.result_axes[-2], made.result_axes[-1]
        if made.result_axes != shared + rows + columns:
            return
        query = made.left.permute([made.left_axes.index(axis) for axis in shared + rows + made.summed])
        key = made.right.permute([made.right_axes.index(axis) for axis in shared + columns + made.summed])
        self.put(result, Scores(query, key))


def propagate_tags(notes: TensorTags, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
    """Carry a note from what a torch function was given to what it gave back, where that is certain."""
    source = args[0] if args else kwargs.get("input")
    if not isinstance(result, Tensor) or not isinstance(source, Tensor):
        return
    if name in SOFTMAX and source.ndim > 2:
        notes.softmax(source, _argument(args, kwargs, "dim", -1) % source.ndim, result)
    elif name in SAME or name in DROPOUT or name in SHAPES or name in TURNS or name in SCALES:
        note = notes.of(source) or (notes.of(args[1]) if name in ("mul", "multiply") and len(args) > 1 else None)
        moved = None if note is None else _moved(note, name, args, kwargs, source, result)
        if moved is not None:
            notes.put(result, moved)


def _moved(
    note: Scores | SoftmaxOutput, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], source: Tensor, result: Tensor
) -> Scores | SoftmaxOutput | None:
    """The note as it holds of the result; None where nothing certain is known of that."""
    if name in DROPOUT and _drops(args, kwargs):
        raise dropout_error(float(_argument(args, kwargs, "p", 0.5)))
    if name in SAME or name in DROPOUT:
        return note
    if isinstance(note, Scores):
        factor = _number(args, kwargs) if name in SCALES else None
        return None if factor is None else replace(note, scale=note.scale * factor ** SCALES[name])
    if name in TURNS:
        return replace(note, axis=_turned(name, args, kwargs, note.axis, source.ndim), scores=None)
    kept = note.axis == source.ndim - 1 and source.shape[-2:] == result.shape[-2:] and result.ndim > 1
    return replace(note, axis=result.ndim - 1, scores=None) if name in SHAPES and kept else None


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], name: str, usual: Any) -> Any:
    """The argument that stands second or by name."""
    value = args[1] if len(args) > 1 else kwargs.get(name)
    return usual if value is None else value


def _drops(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    training = args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", True))
    return bool(training) and _argument(args, kwargs, "p", 0.5) > 0


def _number(args: Sequence[Any], kwargs: Mapping[str, Any]) -> float | None:
    """The one number by which scores are scaled; None where it is another for other scores."""
    if kwargs.get("rounding_mode") is not None:
        return None
    numbers = [one for one in (*args, kwargs.get("other")) if isinstance(one, (int, float))]
    numbers += [one.item() for one in (*args, kwargs.get("other")) if isinstance(one, Tensor) and one.numel() == 1]
    return float(numbers[0]) if len(numbers) == 1 and numbers[0] else None


def _turned(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], axis: int, axes: int) -> int:
    """Where an axis stands after a transposition."""
    if name == "permute":
        dims = kwargs.get("dims", args[1:])
        dims = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
        return [dim % axes for dim in dims].index(axis)
    named = [kwargs[key] for key in ("dim0", "dim1", "axis0", "axis1") if key in kwargs]
    first, second = (dim % axes for dim in [*args[1:], *named])
    return {first: second, second: first}.get(axis, axis)
