"""The names under which another library keeps a ViT's weights: rules that run both ways, and strictly."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.checkpoint_keys import strip_wrappers
from vitreous.pretrained.formats.infer_config import stated_depth
from vitreous.pretrained.formats.rules import Shapes
from vitreous.pretrained.formats.stored_tensors import check_stored

ANY = object()
"""In `StateDictFormat.supports`: every value of this option."""
GIVEN = object()
"""In `StateDictFormat.supports`: every value but none and zero."""
SHAPE_ERRORS = (RuntimeError, ValueError, IndexError, TypeError, ZeroDivisionError)
"""What tensors of unexpected shapes, and odd values in a config.json, make Python and torch raise."""

FREE = {
    "image_size", "patch_size", "in_chans", "num_classes", "embed_dim", "depth", "num_heads", "mlp_ratio", "norm_eps",
    "pos_embed_antialias", "drop_path_rate", "patch_drop_rate",
}  # fmt: skip
"""Options of a ViT that any format can express, or that count only in training; see `StateDictFormat.defaults`."""

State = Mapping[str, Tensor]


class TensorRule(Protocol):
    """How some of our tensors become some of another library's, and back: see rules.py."""

    def for_blocks(self, depth: int) -> Sequence["TensorRule"]:
        """Give the rule itself, or one for each block if its names have a "{}" for the block's number."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """Our tensors that it fills."""
        ...

    @property
    def external_keys(self) -> tuple[str, ...]:
        """The other library's tensors that it reads."""
        ...

    @property
    def required_keys(self) -> tuple[str, ...]:
        """Those of the other library's tensors that must be there."""
        ...

    def from_external(self, tensors: State, shapes: Shapes) -> dict[str, Tensor]:
        """Make our tensors by name, from the other library's; `shapes` are those that our model has."""
        ...

    def to_external(self, tensors: State, shapes: Shapes) -> dict[str, Tensor]:
        """Make the other library's tensors by name, from ours."""
        ...


def no_config(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    """Describe a model for a library that reads no config.json."""
    return {}


@dataclass(frozen=True)
class StateDictFormat:
    """One library's way of naming a ViT's weights, and of saying how they are used."""

    name: str
    signature: tuple[str, ...]
    """Keys that weights in this format always have (without `prefix`): the format is recognized by them."""
    infer_config: Callable[[State, Mapping[str, Any]], ViTConfig]
    """From tensors, by bare keys, and the config.json beside them (empty if there is none) to our configuration."""
    rules: Callable[[ViTConfig], Sequence[TensorRule]]
    """How each tensor is converted, for a model of this configuration."""
    describe_config: Callable[[ViTConfig, Sequence[str]], dict[str, Any]] = no_config
    """From our configuration and the names of the classes to the library's config.json."""
    supports: Mapping[str, Any] = field(default_factory=dict)
    """Options beside `FREE` and their values that this format can express (a tuple, ANY or GIVEN); else the default."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What the library takes for granted, beside what its config.json says: {"norm_eps": 1e-6}."""
    excludes: tuple[str, ...] = ()
    """Keys whose presence says that it is another format."""
    ignored: tuple[str, ...] = ()
    """Regular expressions, for whole keys, of what the image tower doesn't need: text towers, mask tokens."""
    prefix: str = ""
    """Stands before all keys but those in `unprefixed`: removed in reading, added in writing."""
    prefix_needs_head: bool = False
    """Write `prefix` only for a model with a head: transformers' models without one have none."""
    unprefixed: tuple[str, ...] = ()
    """Beginnings of the keys that `prefix` never stands before, such as "classifier."."""
    num_heads_key: str = "num_heads"
    """Where config.json states the number of heads (or "head_width"); empty if the shapes of the weights do."""
    normalize_key: Callable[[str], str] = str
    """Turns a variant of a key into the usual one."""

    def bare_keys(self, keys: Iterable[str]) -> dict[str, str]:
        """Map bare keys, as `signature` and `rules` write them, to those given: wrappers and prefixes are removed."""
        bare = strip_wrappers(keys)
        return {self.normalize_key(key.removeprefix(self.prefix)): given for key, given in bare.items()}

    def read_config(self, tensors: State, external_config: Mapping[str, Any]) -> ViTConfig:
        """Infer the configuration of the model that these weights belong to.

        Raises:
            InputError: a tensor that it is read from is missing or of an unexpected shape, config.json states another
                depth, or the model has a part that ours can't express.
        """
        named = {key: tensors[given] for key, given in self.bare_keys(tensors).items()}
        self._require(named, self.signature)
        check_stored({key: one for key, one in named.items() if one.is_floating_point() and not self.is_ignored(key)})
        try:
            config = self.infer_config(named, external_config)
        except InputError:
            raise
        except KeyError as error:
            raise InputError(
                f"these weights or their config.json lack '{error.args[0]}' of {self.name} models"
            ) from error
        except SHAPE_ERRORS as error:
            raise InputError(
                f"these shapes, or the numbers in config.json, make no {self.name} model: "
                f"{_with_shapes(self.signature, named)}"
            ) from error
        self._check_depth(config, named, external_config)
        return config

    def _check_depth(self, config: ViTConfig, keys: Iterable[str], external_config: Mapping[str, Any]) -> None:
        """Refuse weights that lack their last blocks, or have more than config.json states."""
        stated = stated_depth(external_config)
        if stated is None or stated == config.depth:
            return
        if stated < config.depth:
            raise InputError(
                f"these weights have {config.depth} blocks, their config.json says {stated}: fetch both again"
            )
        rules = [rule for pattern in self.rules(config) for rule in pattern.for_blocks(config.depth + 1)]
        missing = [key for rule in rules for key in rule.required_keys if key not in keys]
        raise InputError(f"these weights lack {quote_names(missing)}: their config.json says {stated} blocks")

    def from_external(self, tensors: State, config: ViTConfig) -> dict[str, Tensor]:
        """Convert the library's tensors to ours, each of the shape that `ViT(config)` has, in float32 or finer.

        Raises:
            InputError: a tensor is missing, of another shape, or known to neither side.
        """
        named = {key: tensors[given] for key, given in self.bare_keys(tensors).items() if not self.is_ignored(key)}
        shapes = state_shapes(config)
        rules = [rule for pattern in self.rules(config) for rule in pattern.for_blocks(config.depth)]
        self._require(named, [key for rule in rules for key in rule.required_keys])
        known = {key for rule in rules for key in rule.external_keys}
        read = {key: tensor for key, tensor in named.items() if key in known}
        check_stored(read)
        external = {key: _at_least_float32(tensor) for key, tensor in read.items()}
        converted: dict[str, Tensor] = {}
        for rule in rules:
            converted |= self._apply(rule, external, shapes)
        unknown = named.keys() - known
        if unknown:
            raise InputError(
                f"these weights have {quote_names(sorted(unknown))}, no part of a {self.name} model of this "
                "configuration"
            )
        _check_shapes(converted, shapes)
        return converted

    def _apply(self, rule: TensorRule, external: State, shapes: Shapes) -> dict[str, Tensor]:
        """Apply a rule to the library's tensors, and check the shapes of the result."""
        try:
            converted = rule.from_external(external, shapes)
        except InputError:
            raise
        except SHAPE_ERRORS:
            converted = {}
        expected = {key: shapes[key] for key in rule.keys if key in shapes}
        if {key: tensor.shape for key, tensor in converted.items() if key in shapes} == expected:
            return converted
        wanted = " and ".join(str(tuple(shape)) for shape in expected.values())
        raise InputError(
            f"{_with_shapes(rule.external_keys, external)} can't become the {wanted} that a {self.name} model of these "
            "widths has"
        )

    def to_external(self, tensors: State, config: ViTConfig) -> dict[str, Tensor]:
        """Convert our tensors (the state of `ViT(config)`) to the library's.

        Raises:
            InputError: the model has an option or a weight that this format can't express.
        """
        reason = self.unsupported_reason(config)
        if reason:
            raise InputError(reason)
        shapes = state_shapes(config)
        _check_shapes(tensors, shapes)
        external: dict[str, Tensor] = {}
        written: set[str] = set()
        for pattern in self.rules(config):
            for rule in pattern.for_blocks(config.depth):
                external |= rule.to_external(tensors, shapes)
                written |= set(rule.keys)
        if tensors.keys() - written:
            left = quote_names(sorted(tensors.keys() - written))
            raise InputError(f"{self.name} can't hold {left}: choose another format")
        prefix = self.prefix if config.num_classes or not self.prefix_needs_head else ""
        return {key if key.startswith(self.unprefixed or "\0") else prefix + key: t for key, t in external.items()}

    def external_config(self, config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
        """Describe a model in the config.json that the library reads beside the weights; empty if it reads none."""
        return self.describe_config(config, class_names)

    def unsupported_reason(self, config: ViTConfig) -> str | None:
        """Say why this format can't hold a model of this configuration; None if it can."""
        for option in fields(config):
            value, allowed = getattr(config, option.name), self.supports.get(option.name, (option.default,))
            if option.name in FREE or allowed is ANY or (value if allowed is GIVEN else value in allowed):
                continue
            if option.name == "stem_convs" and config.stem != "conv":
                continue  # has no effect
            choices = "others" if allowed is GIVEN else " or ".join(str(choice) for choice in allowed)
            return f"{self.name} can't hold a model with {option.name}={value}, only {choices}"
        return None

    def caveats(self, config: ViTConfig) -> list[str]:
        """List in what the library will use the written weights differently: a sentence for each."""
        differing = {name: value for name, value in self.defaults.items() if getattr(config, name) != value}
        if config.pos_embed != "learned":
            differing.pop("pos_embed_antialias", None)
        return [
            f"{self.name} always computes with {name}={value}, but this model has {name}={getattr(config, name)}: "
            "its outputs will differ there"
            for name, value in differing.items()
        ]

    def _require(self, tensors: State, keys: Iterable[str]) -> None:
        missing = [key for key in keys if key not in tensors]
        if missing:
            raise InputError(f"these weights lack {quote_names(missing)}, which {self.name} models have")

    def is_ignored(self, key: str) -> bool:
        """Whether a bare key is of something that the image tower doesn't need."""
        return any(re.fullmatch(pattern, key) for pattern in self.ignored)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32)) if tensor.is_floating_point() else tensor


def _with_shapes(keys: Iterable[str], tensors: State) -> str:
    """Name tensors with their shapes: "'cls_token' (1, 1, 384), ..."."""
    return ", ".join(f"'{key}' {tuple(tensors[key].shape)}" for key in keys if key in tensors)


def state_shapes(config: ViTConfig) -> dict[str, torch.Size]:
    """Find the shape of each tensor in the state of `ViT(config)`, without memory for them."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in ViT(config).state_dict().items()}


def quote_names(names: Iterable[str], most: int = 4) -> str:
    """Quote some names and count the others: "'a', 'b' and 7 more"."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more


def _check_shapes(tensors: State, shapes: Shapes) -> None:
    missing = [name for name in shapes if name not in tensors]
    if missing:
        raise InputError(f"nothing fills {quote_names(missing)}: the configuration doesn't fit the weights")
    for name, tensor in tensors.items():
        if name in shapes and tensor.shape != shapes[name]:
            found, expected = tuple(tensor.shape), tuple(shapes[name])
            raise InputError(f"'{name}' is {found}, but the configuration makes it {expected}")
