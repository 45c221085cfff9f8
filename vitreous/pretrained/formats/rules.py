"""The rules of a layout: which of our tensors are which of theirs, and how one becomes the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig

Shapes = Mapping[str, torch.Size]
Change = Callable[[Tensor], Tensor]


BIAS, TABLE = "stem.linear.bias", "positions.table"


def unchanged(tensor: Tensor) -> Tensor:
    """The tensor as it is."""
    return tensor


def _own(tensor: Tensor) -> Tensor:
    """A part of a tensor in memory of its own: files of weights take no two tensors that share theirs."""
    return tensor.clone(memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class Rename:
    """Some of our tensors, joined along dimension 0, are some of theirs, joined likewise.

    "{}" in a name stands for the number of a block.
    """

    ours: str | tuple[str, ...]
    """One name, or several that theirs are cut into, in the sizes that our model has."""
    theirs: str | tuple[str | None, ...]
    """One name, or several, all of one size; None for a part that this layout never has: zeros."""
    into: Change = unchanged
    """What one of their tensors becomes before they are joined."""
    back: Change = unchanged
    """The inverse of `into`."""
    may_lack: bool = False
    """They may have none of these tensors: read as zeros. They are always written."""

    def for_blocks(self, depth: int) -> list["Rename"]:
        """This rule for each block, or itself if it is no block's."""
        if not any("{}" in name for name in self.ours_names):
            return [self]
        return [
            replace(
                self,
                ours=tuple(name.format(block) for name in self.ours_names),
                theirs=tuple(name and name.format(block) for name in self._parts),
            )
            for block in range(depth)
        ]

    @property
    def ours_names(self) -> tuple[str, ...]:
        """Our tensors that it fills."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours

    @property
    def _parts(self) -> tuple[str | None, ...]:
        return (self.theirs,) if isinstance(self.theirs, str) else self.theirs

    @property
    def names(self) -> tuple[str, ...]:
        """Their tensors that it reads."""
        return tuple(name for name in self._parts if name is not None)

    @property
    def needed(self) -> tuple[str, ...]:
        """Those of their tensors that must be there."""
        return () if self.may_lack else self.names

    def to_ours(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Our tensors by name, from theirs."""
        expected = [shapes[name] for name in self.ours_names if name in shapes]
        if len(expected) < len(self.ours_names):
            raise InputError(f"a model of this configuration has no {' and '.join(self.ours_names)}")
        present = [tensors[name] for name in self.names if name in tensors]
        if not present:
            likeness = next(iter(tensors.values()))
            return {name: likeness.new_zeros(shape) for name, shape in zip(self.ours_names, expected, strict=True)}
        if len(present) < len(self.names):
            raise InputError(f"of {', '.join(self.names)} some are there and others missing: all or none are needed")
        zeros = torch.zeros_like(self.into(present[0]))
        parts = [zeros if name is None else self.into(tensors[name]) for name in self._parts]
        if len(parts) == len(self.ours_names) == 1:
            return {self.ours_names[0]: parts[0].contiguous()}
        joined, sizes = torch.cat(parts), [shape[0] for shape in expected]
        if len(joined) != sum(sizes):
            raise InputError(f"{', '.join(self.names)} make {len(joined)} rows, the configuration {sum(sizes)}")
        cut = [joined] if len(sizes) == 1 else map(_own, joined.split(sizes))
        return dict(zip(self.ours_names, cut, strict=True))

    def to_theirs(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Their tensors by name, from ours."""
        ours = [tensors[name] for name in self.ours_names]
        joined = ours[0] if len(ours) == 1 else torch.cat(ours)
        parts = [joined] if len(self._parts) == 1 else list(map(_own, joined.chunk(len(self._parts))))
        theirs = {}
        for name, part in zip(self._parts, parts, strict=True):
            if name is not None:
                theirs[name] = self.back(part).contiguous()
            elif part.any():
                raise InputError(f"the other layout has no place for a part of '{self.ours_names[0]}' that isn't zero")
        return theirs


@dataclass(frozen=True)
class SplitTokens:
    """Our prefix tokens and learned positions, which others keep as tokens and one table with rows for some of them.

    A prefix token's own row is added to it in reading and is zero in writing: the sum is all that a model sees.
    """

    prefix: tuple[str, ...]
    """Their prefix tokens in our order; each is one token, but the last takes all that are left (registers)."""
    table: str | None
    """Their learned positions; None if they have none."""
    config: ViTConfig
    rows: int = 1
    """Rows of the table that stand before the patches', for the first prefix tokens."""
    flat: bool = False
    """Tokens (width,) and table (places, width), as CLIP's; otherwise with dimensions of 1 before."""

    def for_blocks(self, depth: int) -> list["SplitTokens"]:
        """This rule alone: it is no block's."""
        return [self]

    @property
    def ours_names(self) -> tuple[str, ...]:
        """Our tensors that it fills."""
        return ("prefix",) * bool(self.prefix) + ("positions.table",) * (self.table is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """Their tensors that it reads."""
        return (*self.prefix, *((self.table,) if self.table else ()))

    needed = names

    def to_ours(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Our tensors by name, from theirs."""
        width, ours = self.config.embed_dim, {}
        if self.prefix:
            ours["prefix"] = torch.cat([tensors[name].reshape(-1, width) for name in self.prefix])
        if self.table is None:
            return ours
        table = tensors[self.table].reshape(-1, width)
        places = self.config.grid_size[0] * self.config.grid_size[1]
        if len(table) != places + self.rows:
            raise InputError(f"'{self.table}' has {len(table)} rows, the configuration {places + self.rows}")
        if self.rows:
            ours["prefix"][: self.rows] += table[: self.rows]
        return ours | {"positions.table": table[self.rows :].reshape(*self.config.grid_size, width)}

    def to_theirs(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Their tensors by name, from ours."""
        theirs: dict[str, Tensor] = {}
        if self.prefix:
            last = len(tensors["prefix"]) - (len(self.prefix) - 1)
            parts = tensors["prefix"].split([*[1] * (len(self.prefix) - 1), last])
            theirs = {name: part[0] if self.flat else part[None] for name, part in zip(self.prefix, parts, strict=True)}
        if self.table is not None:
            table = tensors["positions.table"].flatten(0, 1)
            table = torch.cat([table.new_zeros(self.rows, self.config.embed_dim), table])
            theirs[self.table] = table if self.flat else table[None]
        return {name: _own(tensor) for name, tensor in theirs.items()}


@dataclass(frozen=True)
class ConcatHeads:
    """Two linear heads, on the class and the distillation token, whose answers are averaged: one head on both joined.

    The mean of the two biases is all that a model sees: both are that mean in writing.
    """

    first: str
    second: str
    ours_names: tuple[str, ...] = ("head.weight", "head.bias")
    """Our tensors that it fills."""

    def for_blocks(self, depth: int) -> list["ConcatHeads"]:
        """This rule alone: it is no block's."""
        return [self]

    @property
    def names(self) -> tuple[str, ...]:
        """Their tensors that it reads."""
        return tuple(f"{head}.{kind}" for head in (self.first, self.second) for kind in ("weight", "bias"))

    needed = names

    def to_ours(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Our tensors by name, from theirs."""
        weights, biases = ([tensors[f"{h}.{kind}"] for h in (self.first, self.second)] for kind in ("weight", "bias"))
        return {"head.weight": torch.cat(weights, 1) / 2, "head.bias": (biases[0] + biases[1]) / 2}

    def to_theirs(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Their tensors by name, from ours."""
        theirs = {}
        for head, weight in zip((self.first, self.second), tensors["head.weight"].chunk(2, 1), strict=True):
            theirs |= {f"{head}.weight": _own(weight * 2), f"{head}.bias": tensors["head.bias"].clone()}
        return theirs


@dataclass(frozen=True)
class Constant:
    """A tensor that the other library wants to find, and that isn't our model's: always the same, or of no effect."""

    theirs: str
    value: Callable[[], Tensor]
    """What is written."""
    checked: bool = False
    """Whether one that is read must have this value; otherwise any will do, as for a mask token."""
    ours_names: tuple[str, ...] = ()
    """Our tensors that it fills: none."""
    needed: tuple[str, ...] = ()
    """Those of their tensors that must be there: none."""

    def for_blocks(self, depth: int) -> list["Constant"]:
        """This rule for each block, or itself if it is no block's."""
        if "{}" not in self.theirs:
            return [self]
        return [replace(self, theirs=self.theirs.format(block)) for block in range(depth)]

    @property
    def names(self) -> tuple[str, ...]:
        """Their tensors that it knows."""
        return (self.theirs,)

    def to_ours(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Nothing: it is left out."""
        value, found = self.value(), tensors.get(self.theirs)
        # Half precision keeps 8 bits: 1 in 256.
        if self.checked and found is not None and not torch.allclose(found.to(value), value, rtol=1 / 128):
            raise InputError(f"'{self.theirs}' isn't what our model computes with: it can't be converted")
        return {}

    def to_theirs(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Their tensor, in the precision of the others."""
        return {self.theirs: self.value().to(next(iter(tensors.values())))}


def mask_token(theirs: str, *shape: int) -> Constant:
    """A mask token, which only training needs: zeros are written."""
    return Constant(theirs, lambda: torch.zeros(shape))


def patch_entry(theirs: str, config: ViTConfig, *, bias: bool = True) -> tuple[Rename, Rename]:
    """The patch embedding, kept as a convolution `theirs` of (width, channels, patch, patch)."""
    kernel = (config.embed_dim, config.in_chans, config.patch_size, config.patch_size)
    weight = Rename(
        "stem.linear.weight", f"{theirs}.weight", into=lambda t: t.flatten(1), back=lambda t: t.reshape(kernel)
    )
    return weight, Rename("stem.linear.bias", f"{theirs}.bias" if bias else (None,))


def linear_entries(ours: str, theirs: str) -> tuple[Rename, Rename]:
    """Weight and bias of a linear map or a normalization that is alike on both sides."""
    return Rename(f"{ours}.weight", f"{theirs}.weight"), Rename(f"{ours}.bias", f"{theirs}.bias")


def joined_entries(ours: str, theirs: tuple[str, ...], *, may_lack_bias: bool = False) -> tuple[Rename, Rename]:
    """Weight and bias of one linear map of ours that they keep as several, such as query, key and value."""
    weights, biases = (tuple(f"{name}.{kind}" for name in theirs) for kind in ("weight", "bias"))
    return Rename(f"{ours}.weight", weights), Rename(f"{ours}.bias", biases, may_lack=may_lack_bias)


@dataclass(frozen=True)
class SplitTokensFoldBias(SplitTokens):
    """Prefix tokens and positions of a layout without a bias of the patch embedding.

    Read, the bias is zero; in writing it is added to the positions. Bicubic weights sum to one, so resampled
    positions carry it too.
    """

    @property
    def ours_names(self) -> tuple[str, ...]:
        """Our tensors that it fills."""
        return (*super().ours_names, BIAS)

    def to_ours(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Our tensors by name, from theirs."""
        ours = super().to_ours(tensors, shapes)
        return ours | {BIAS: ours[TABLE].new_zeros(shapes[BIAS])}

    def to_theirs(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Their tensors by name, from ours."""
        return super().to_theirs({**tensors, TABLE: tensors[TABLE] + tensors[BIAS]}, shapes)
