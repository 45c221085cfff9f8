"""The rules of a format: which of our tensors are which of another library's, and how one becomes the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig

Shapes = Mapping[str, torch.Size]
Change = Callable[[Tensor], Tensor]


def unchanged(tensor: Tensor) -> Tensor:
    """Leave the tensor as it is."""
    return tensor


def _own_memory(tensor: Tensor) -> Tensor:
    """Copy a part of a tensor: files of weights take no two tensors that share memory."""
    return tensor.clone(memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class Rename:
    """Some of our tensors, concatenated along dimension 0, are some of theirs, concatenated likewise.

    "{}" in a name stands for the number of a block.
    """

    key: str | tuple[str, ...]
    """One of our names, or several that theirs are split into, in the sizes that our model has."""
    external_key: str | tuple[str | None, ...]
    """One of their names, or several, all of one size; None for a part that this format never has: zeros."""
    into: Change = unchanged
    """What one of their tensors becomes before they are concatenated."""
    back: Change = unchanged
    """The inverse of `into`."""
    optional: bool = False
    """They may have none of these tensors: read as zeros. They are always written."""

    def for_blocks(self, depth: int) -> list["Rename"]:
        """Give this rule for each block, or itself if it is not a block's."""
        if not any("{}" in name for name in self.keys):
            return [self]
        return [
            replace(
                self,
                key=tuple(name.format(block) for name in self.keys),
                external_key=tuple(name and name.format(block) for name in self._parts),
            )
            for block in range(depth)
        ]

    @property
    def keys(self) -> tuple[str, ...]:
        """Our tensors that it fills."""
        return (self.key,) if isinstance(self.key, str) else self.key

    @property
    def _parts(self) -> tuple[str | None, ...]:
        return (self.external_key,) if isinstance(self.external_key, str) else self.external_key

    @property
    def external_keys(self) -> tuple[str, ...]:
        """Their tensors that it reads."""
        return tuple(name for name in self._parts if name is not None)

    @property
    def required_keys(self) -> tuple[str, ...]:
        """Those of their tensors that must be there."""
        return () if self.optional else self.external_keys

    def from_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make our tensors by name, from theirs."""
        expected = [shapes[name] for name in self.keys if name in shapes]
        if len(expected) < len(self.keys):
            raise InputError(f"a model of this configuration has no {' and '.join(self.keys)}")
        present = [tensors[name] for name in self.external_keys if name in tensors]
        if not present:
            like = next(iter(tensors.values()))
            return {name: like.new_zeros(shape) for name, shape in zip(self.keys, expected, strict=True)}
        if len(present) < len(self.external_keys):
            raise InputError(
                f"of {', '.join(self.external_keys)} some are there and others missing: all or none are needed"
            )
        zeros = torch.zeros_like(self.into(present[0]))
        parts = [zeros if name is None else self.into(tensors[name]) for name in self._parts]
        if len(parts) == len(self.keys) == 1:
            return {self.keys[0]: parts[0].contiguous()}
        whole, sizes = torch.cat(parts), [shape[0] for shape in expected]
        if len(whole) != sum(sizes):
            raise InputError(f"{', '.join(self.external_keys)} make {len(whole)} rows, the configuration {sum(sizes)}")
        split = [whole] if len(sizes) == 1 else map(_own_memory, whole.split(sizes))
        return dict(zip(self.keys, split, strict=True))

    def to_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make their tensors by name, from ours."""
        own = [tensors[name] for name in self.keys]
        whole = own[0] if len(own) == 1 else torch.cat(own)
        parts = [whole] if len(self._parts) == 1 else list(map(_own_memory, whole.chunk(len(self._parts))))
        external = {}
        for name, part in zip(self._parts, parts, strict=True):
            if name is not None:
                external[name] = self.back(part).contiguous()
            elif part.any():
                raise InputError(f"the other library has nothing for a part of '{self.keys[0]}' that isn't zero")
        return external


@dataclass(frozen=True)
class SplitTokens:
    """Our class token, registers and learned positions, of which others keep one table with rows for some tokens too.

    The row of a token is added to it in reading and is zero in writing: the sum is all that a model computes with.
    """

    tokens: tuple[str, ...]
    """Their tokens in our order; each is one token, but the last takes all that are left (registers)."""
    table: str | None
    """Their learned positions; None if they have none."""
    config: ViTConfig
    rows: int = 1
    """Rows of the table that come before the patches', for the first tokens."""
    flat: bool = False
    """Tokens (width,) and table (rows, width), as CLIP's; otherwise with dimensions of 1 before."""

    def for_blocks(self, depth: int) -> list["SplitTokens"]:
        """Give this rule alone: it is not a block's."""
        return [self]

    @property
    def _token_keys(self) -> tuple[str, ...]:
        has = {"cls_token": self.config.has_class_token, "reg_token": self.config.reg_tokens > 0}
        return tuple(name for name, there in has.items() if there) if self.tokens else ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Our tensors that it fills."""
        return self._token_keys + ("pos_embed",) * (self.table is not None)

    @property
    def external_keys(self) -> tuple[str, ...]:
        """Their tensors that it reads."""
        return (*self.tokens, *((self.table,) if self.table else ()))

    required_keys = external_keys

    def from_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make our tensors by name, from theirs."""
        dim, own, first = self.config.embed_dim, {}, None
        if self.table is not None:
            table = tensors[self.table].reshape(-1, dim)
            patches = self.config.grid_size[0] * self.config.grid_size[1]
            if len(table) != patches + self.rows:
                raise InputError(f"'{self.table}' has {len(table)} rows, the configuration {patches + self.rows}")
            first, own["pos_embed"] = table[: self.rows], table[self.rows :][None]
        if self.tokens:
            tokens = torch.cat([tensors[name].reshape(-1, dim) for name in self.tokens])
            if first is not None:
                tokens[: self.rows] += first
            counts = [shapes[name][1] for name in self._token_keys]
            own |= {
                name: _own_memory(part)[None] for name, part in zip(self._token_keys, tokens.split(counts), strict=True)
            }
        return own

    def to_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make their tensors by name, from ours."""
        external: dict[str, Tensor] = {}
        if self.tokens:
            tokens = torch.cat([tensors[name][0] for name in self._token_keys])
            parts = tokens.split([*[1] * (len(self.tokens) - 1), len(tokens) - (len(self.tokens) - 1)])
            external = {
                name: part[0] if self.flat else part[None] for name, part in zip(self.tokens, parts, strict=True)
            }
        if self.table is not None:
            table = tensors["pos_embed"][0]
            table = torch.cat([table.new_zeros(self.rows, self.config.embed_dim), table])
            external[self.table] = table if self.flat else table[None]
        return {name: _own_memory(tensor) for name, tensor in external.items()}


@dataclass(frozen=True)
class SplitTokensFoldBias(SplitTokens):
    """Tokens and positions of a format whose patch embedding has no bias.

    In reading, the bias is zero; in writing it is added to the positions. Bicubic weights sum to one, so resampled
    positions carry it too.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        """Our tensors that it fills."""
        return (*super().keys, "patch_embed.proj.bias")

    def from_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make our tensors by name, from theirs."""
        own = super().from_external(tensors, shapes)
        return own | {"patch_embed.proj.bias": own["pos_embed"].new_zeros(shapes["patch_embed.proj.bias"])}

    def to_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make their tensors by name, from ours."""
        folded = tensors["pos_embed"] + tensors["patch_embed.proj.bias"]
        return super().to_external({**tensors, "pos_embed": folded}, shapes)


@dataclass(frozen=True)
class ConcatHeads:
    """Two linear heads, on the class and the distillation token, whose logits are averaged: one head on both.

    The mean of the two biases is all that a model computes with: in writing both are that mean.
    """

    first: str
    second: str
    keys: tuple[str, ...] = ("head.weight", "head.bias")
    """Our tensors that it fills."""

    def for_blocks(self, depth: int) -> list["ConcatHeads"]:
        """Give this rule alone: it is not a block's."""
        return [self]

    @property
    def external_keys(self) -> tuple[str, ...]:
        """Their tensors that it reads."""
        return tuple(f"{head}.{kind}" for head in (self.first, self.second) for kind in ("weight", "bias"))

    required_keys = external_keys

    def from_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make our tensors by name, from theirs."""
        weights, biases = ([tensors[f"{h}.{kind}"] for h in (self.first, self.second)] for kind in ("weight", "bias"))
        return {"head.weight": torch.cat(weights, 1) / 2, "head.bias": (biases[0] + biases[1]) / 2}

    def to_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make their tensors by name, from ours."""
        external = {}
        for head, weight in zip((self.first, self.second), tensors["head.weight"].chunk(2, 1), strict=True):
            external |= {f"{head}.weight": _own_memory(weight * 2), f"{head}.bias": tensors["head.bias"].clone()}
        return external


@dataclass(frozen=True)
class Constant:
    """A tensor that the other library wants to find, and that isn't our model's: always the same, or of no effect."""

    external_key: str
    value: Callable[[], Tensor]
    """What is written."""
    checked: bool = False
    """Whether one that is read must have this value; otherwise any will do, as for a mask token."""
    keys: tuple[str, ...] = ()
    """Our tensors that it fills: none."""
    required_keys: tuple[str, ...] = ()
    """Those of their tensors that must be there: none."""

    def for_blocks(self, depth: int) -> list["Constant"]:
        """Give this rule for each block, or itself if it is not a block's."""
        if "{}" not in self.external_key:
            return [self]
        return [replace(self, external_key=self.external_key.format(block)) for block in range(depth)]

    @property
    def external_keys(self) -> tuple[str, ...]:
        """Their tensors that it knows."""
        return (self.external_key,)

    def from_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make nothing: the tensor is left out."""
        value, found = self.value(), tensors.get(self.external_key)
        # Half precision keeps 8 bits: 1 in 256.
        if self.checked and found is not None and not torch.allclose(found.to(value), value, rtol=1 / 128):
            raise InputError(f"'{self.external_key}' isn't what our model computes with: it can't be converted")
        return {}

    def to_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make their tensor, in the precision of the others."""
        return {self.external_key: self.value().to(next(iter(tensors.values())))}


@dataclass(frozen=True)
class Ignored:
    """Tensors of theirs that a model of this configuration makes no use of, and that needn't be there."""

    external_keys: tuple[str, ...]
    """Their tensors."""
    keys: tuple[str, ...] = ()
    """Our tensors that it fills: none."""
    required_keys: tuple[str, ...] = ()
    """Those of their tensors that must be there: none."""

    def for_blocks(self, depth: int) -> list["Ignored"]:
        """Give this rule alone: it is not a block's."""
        return [self]

    def from_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make nothing."""
        return {}

    def to_external(self, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
        """Make nothing."""
        return {}


def mask_token(external_key: str, *shape: int) -> Constant:
    """Write zeros for a mask token, which only training needs."""
    return Constant(external_key, lambda: torch.zeros(shape))


def linear_rules(key: str, external_key: str) -> tuple[Rename, Rename]:
    """Rename the weight and bias of a linear map, convolution or normalization that is alike on both sides."""
    return Rename(f"{key}.weight", f"{external_key}.weight"), Rename(f"{key}.bias", f"{external_key}.bias")


def stacked_rules(key: str, external_keys: tuple[str, ...], *, optional_bias: bool = False) -> tuple[Rename, Rename]:
    """Stack the weights and biases of several linear maps of theirs, such as query, key and value, into one of ours."""
    weights, biases = (tuple(f"{name}.{kind}" for name in external_keys) for kind in ("weight", "bias"))
    return Rename(f"{key}.weight", weights), Rename(f"{key}.bias", biases, optional=optional_bias)
