"""The options of explanation methods."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, TypedDict

from vitreous.errors import InputError, unknown

PatchQuery = tuple[int, int] | tuple[int, int, int, int]
"""A patch (row, column) of the model's grid, or a box (top, left, bottom, right) of patches without its last row and
column."""


@dataclass(frozen=True)
class MethodOptions:
    """Options of explanation methods. A method refuses an option that it doesn't use.

    Attributes:
        layer: Layer to explain, counted from 0; -1 is the last. Used by attention, attention-gradient, grad-cam,
            hires-cam, value-norm and features.
        head: Attention head, counted from 0; all heads by default. Used by attention, attention-gradient and
            value-norm.
        head_fusion: How the heads of a layer are combined. Used by attention and rollout.
        discard_ratio: Fraction of the smallest weights of each row of attention that is set to zero. Used by rollout.
        query: Patch or box of patches on the model's grid whose attention or similarity is shown instead of the
            readout's; set from the argument `query` of `explain`, which is in pixels. Used by attention, rollout,
            value-norm and features.
        n_steps: Number of steps along the path of the integral; 50 by default. Used by integrated-gradients.
        n_samples: Number of random samples; 32 for smoothgrad and 1000 for rise by default. Used by smoothgrad and
            rise.
        noise_level: Standard deviation of the noise as a fraction of the input's range; 0.15 by default. Used by
            smoothgrad.
        patch_window: Side in patches of the hidden window; 2 by default. Used by occlusion.
        view: PCA of the patch tokens as colors, similarity to the query, or norms of the tokens. Used by features.
        seed: Seed of the random samples. Used by smoothgrad and rise.

    >>> MethodOptions(layer=-1, head=0)
    MethodOptions(layer=-1, head=0)
    """

    layer: int | None = None
    head: int | None = None
    head_fusion: Literal["mean", "max", "min"] = "mean"
    discard_ratio: float = 0.0
    query: PatchQuery | None = None
    n_steps: int | None = None
    n_samples: int | None = None
    noise_level: float | None = None
    patch_window: int | None = None
    view: Literal["colors", "similarity", "norms"] = "colors"
    seed: int = 0

    def __repr__(self) -> str:
        changed = ", ".join(f"{name}={value!r}" for name, value in self.changed().items())
        return f"{type(self).__name__}({changed})"

    def changed(self) -> dict[str, object]:
        """The options that differ from their defaults, by name.

        >>> MethodOptions(head=3).changed()
        {'head': 3}
        """
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}


class MethodKeywords(TypedDict, total=False):
    """The fields of MethodOptions as keywords, but for `query`; None leaves an option as it is in the record."""

    layer: int | None
    """Layer to explain, counted from 0; -1 is the last."""
    head: int | None
    """Attention head, counted from 0."""
    head_fusion: Literal["mean", "max", "min"] | None
    """How the heads of a layer are combined."""
    discard_ratio: float | None
    """Fraction of the smallest weights of each row of attention that is set to zero."""
    n_steps: int | None
    """Number of steps along the path of the integral."""
    n_samples: int | None
    """Number of random samples."""
    noise_level: float | None
    """Standard deviation of the noise as a fraction of the input's range."""
    patch_window: int | None
    """Side in patches of the hidden window."""
    view: Literal["colors", "similarity", "norms"] | None
    """What the method `features` shows of the patch tokens."""
    seed: int | None
    """Seed of the random samples."""


def merge_options(options: MethodOptions | None, given: Mapping[str, object]) -> MethodOptions:
    """Return `options`, or the defaults, with those of the `given` options that aren't None.

    Raises:
        InputError: there is no option of this name, the value of one has the wrong type, or `options` has a query.
    """
    from vitreous.records import from_dict  # not above: it takes longer to import than all the rest of a command line

    options = options or MethodOptions()
    refuse_patch_query(options)
    values = {one.name: getattr(options, one.name) for one in fields(MethodOptions) if one.name != "query"}
    if wrong := next((name for name in given if name not in values), None):
        raise unknown("option", wrong, tuple(values))
    values |= {name: value for name, value in given.items() if value is not None}
    return from_dict(MethodOptions, values, "options")


def refuse_patch_query(options: MethodOptions) -> None:
    """Refuse a query in patches where the user gives queries in pixels.

    Raises:
        InputError: the options have a query.
    """
    if options.query is not None:
        raise InputError(
            f"MethodOptions(query={options.query}) counts patches of the model's grid: give query=(x, y) in pixels, "
            "next to the options"
        )


def patches_in_query(query: PatchQuery) -> tuple[tuple[int, int], ...]:
    """List the patches (row, column) that a query names.

    >>> patches_in_query((0, 1, 2, 3))
    ((0, 1), (0, 2), (1, 1), (1, 2))
    """
    if len(query) == 2:
        return (query,)
    top, left, bottom, right = query
    return tuple((row, column) for row in range(top, bottom) for column in range(left, right))


def describe_query(query: PatchQuery) -> str:
    """Describe the patch or box of patches in words.

    >>> describe_query((0, 1, 2, 3))
    'patches in rows 0 to 1, columns 1 to 2'
    """
    if len(query) == 2:
        return f"patch in row {query[0]}, column {query[1]}"
    top, left, bottom, right = query
    return f"patches in rows {top} to {bottom - 1}, columns {left} to {right - 1}"


def resolve_index(kind: str, number: int, count: int) -> int:
    """Return `number` as an index from 0; negative numbers count from the end.

    >>> resolve_index("layer", -1, 12)
    11

    Raises:
        InputError: there is no such layer or head; the message names the valid ones.
    """
    if not -count <= number < count:
        raise InputError(f"there is no {kind} {number}: this model has {kind}s 0 to {count - 1} (or -1 for the last)")
    return number % count
