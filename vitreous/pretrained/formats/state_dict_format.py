"""Where another library keeps the weights of a Vision Transformer: rules that run both ways, and strictly."""

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

ANY = object()
"""In `Layout.holds`: every value of this option."""
GIVEN = object()
"""In `Layout.holds`: every value but none and zero."""
MISFITS = (RuntimeError, ValueError, IndexError, TypeError, ZeroDivisionError)
"""What tensors of strange shapes, and strange words in a config.json, make Python and torch raise."""

FREE = {
    "image_size_hw", "patch_size", "channels", "classes", "width", "depth", "heads", "mlp_ratio", "norm_epsilon",
    "positions_antialias", "stochastic_depth", "patch_dropout",
}  # fmt: skip
"""Options of a ViT that any layout can hold, or that count only in training; see also `Layout.assumes`."""


class TensorRule(Protocol):
    """How some of our tensors go over into some of theirs, and back: see entries.py."""

    def for_blocks(self, depth: int) -> Sequence["TensorRule"]:
        """The rule itself, or one for each block if its names have a "{}" for the block's number."""
        ...

    @property
    def ours_names(self) -> tuple[str, ...]:
        """Our tensors that it fills."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Their tensors that it reads."""
        ...

    @property
    def needed(self) -> tuple[str, ...]:
        """Those of their tensors that must be there."""
        ...

    def to_ours(self, tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
        """Our tensors by name, from theirs; `shapes` are those that our model has."""
        ...

    def to_theirs(self, tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
        """Their tensors by name, from ours."""
        ...


def no_config(config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
    """The config.json of a layout that has none."""
    return {}


@dataclass(frozen=True)
class StateDictFormat:
    """One way of naming a ViT's weights, and of saying how they are used."""

    name: str
    signature: tuple[str, ...]
    """Names that weights in this layout always have (without `prefix`). They recognize it."""
    infer_config: Callable[[Mapping[str, Tensor], Mapping[str, Any]], ViTConfig]
    """From tensors, by bare names, and their config.json (empty if there is none) to our configuration."""
    rules: Callable[[ViTConfig], Sequence[TensorRule]]
    """How each tensor goes over, for a model of this configuration."""
    describe_config: Callable[[ViTConfig, Sequence[str]], dict[str, Any]] = no_config
    """From our configuration and the names of the classes to their config.json."""
    supports: Mapping[str, Any] = field(default_factory=dict)
    """Options beside `FREE` and their values that this layout can hold (a tuple, ANY or GIVEN); else the default."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What the other library takes for granted, beside what its config.json says: {"norm_epsilon": 1e-6}."""
    excludes: tuple[str, ...] = ()
    """Names whose presence says that it is another layout."""
    ignored: tuple[str, ...] = ()
    """Regular expressions, for whole names, of what the image tower doesn't need: text towers, mask tokens."""
    prefix: str = ""
    """Stands before all names but those in `outside`: left out in reading, added in writing."""
    prefix_needs_head: bool = False
    """Write `prefix` only for a model with a head: transformers' models without one have none."""
    unprefixed: tuple[str, ...] = ()
    """Beginnings of the names that `prefix` never stands before, such as "classifier."."""
    normalize_key: Callable[[str], str] = str
    """Brings a variant of a name to the usual one."""

    def bare_keys(self, names: Iterable[str]) -> dict[str, str]:
        """From bare names, as `marks` and `rules` write them, to those given; what wraps them is taken off."""
        bare = strip_wrappers(names)
        return {self.normalize_key(name.removeprefix(self.prefix)): given for name, given in bare.items()}

    def read_config(self, tensors: Mapping[str, Tensor], their_config: Mapping[str, Any]) -> ViTConfig:
        """The configuration of the model that these weights belong to.

        Raises:
            InputError: a tensor that it is read from is missing or of a strange shape, config.json says another depth,
                or the model has a part that ours can't express.
        """
        named = {name: tensors[given] for name, given in self.bare_keys(tensors).items()}
        self._require(named, self.signature)
        try:
            config = self.infer_config(named, their_config)
        except InputError:
            raise
        except KeyError as error:
            raise InputError(
                f"these weights or their config.json lack '{error.args[0]}' of {self.name} models"
            ) from error
        except MISFITS as error:
            raise InputError(
                f"these shapes, or the numbers in config.json, make no {self.name} model: {_shaped(self.signature, named)}"
            ) from error
        self._check_depth(config, named, their_config)
        return config

    def _check_depth(self, config: ViTConfig, names: Iterable[str], their_config: Mapping[str, Any]) -> None:
        """Refuse weights that lack their last blocks, or have more than config.json says."""
        said = stated_depth(their_config)
        if said is None or said == config.depth:
            return
        if said < config.depth:
            raise InputError(
                f"these weights have {config.depth} blocks, their config.json says {said}: fetch both again"
            )
        rules = [rule for pattern in self.rules(config) for rule in pattern.for_blocks(said)]
        lacking = [name for rule in rules for name in rule.needed if name not in names]
        raise InputError(f"these weights lack {quote_names(lacking)}: their config.json says {said} blocks")

    def from_external(self, tensors: Mapping[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
        """Their tensors under our names, each of the shape that `ViT(config)` has, in float32 or finer.

        Raises:
            InputError: a tensor is missing, of another shape, or known to neither side.
        """
        theirs = {
            name: _wide(tensors[given]) for name, given in self.bare_keys(tensors).items() if not self.is_ignored(name)
        }
        shapes = state_shapes(config)
        rules = [rule for pattern in self.rules(config) for rule in pattern.for_blocks(config.depth)]
        self._require(theirs, [name for rule in rules for name in rule.needed])
        ours: dict[str, Tensor] = {}
        for rule in rules:
            ours |= self._read(rule, theirs, shapes)
        unknown = theirs.keys() - {name for rule in rules for name in rule.names}
        if unknown:
            raise InputError(
                f"these weights have {quote_names(sorted(unknown))}, no part of a {self.name} model of this configuration"
            )
        _check_shapes(ours, shapes)
        return ours

    def _read(
        self, rule: TensorRule, theirs: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]
    ) -> dict[str, Tensor]:
        """What a rule makes of their tensors, each of the shape that ours has."""
        try:
            ours = rule.to_ours(theirs, shapes)
        except InputError:
            raise
        except MISFITS:
            ours = {}
        expected = {name: shapes[name] for name in rule.ours_names if name in shapes}
        if {name: tensor.shape for name, tensor in ours.items() if name in shapes} == expected:
            return ours
        wanted = " and ".join(str(tuple(shape)) for shape in expected.values())
        raise InputError(
            f"{_shaped(rule.names, theirs)} can't become the {wanted} that a {self.name} model of these widths has"
        )

    def to_external(self, tensors: Mapping[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
        """Our tensors (the state of `ViT(config)`) under their names.

        Raises:
            InputError: the model has an option or a weight that this layout can't hold.
        """
        refusal = self.unsupported_reason(config)
        if refusal:
            raise InputError(refusal)
        shapes = state_shapes(config)
        _check_shapes(tensors, shapes)
        theirs: dict[str, Tensor] = {}
        held: set[str] = set()
        for pattern in self.rules(config):
            for rule in pattern.for_blocks(config.depth):
                theirs |= rule.to_theirs(tensors, shapes)
                held |= set(rule.ours_names)
        if tensors.keys() - held:
            raise InputError(
                f"{self.name} can't hold {quote_names(sorted(tensors.keys() - held))}: choose another layout"
            )
        prefix = self.prefix if config.num_classes or not self.prefix_needs_head else ""
        return {name if name.startswith(self.unprefixed or "\0") else prefix + name: t for name, t in theirs.items()}

    def external_config(self, config: ViTConfig, class_names: Sequence[str]) -> dict[str, Any]:
        """The config.json that the other library reads beside the weights; empty if it reads none."""
        return self.describe_config(config, class_names)

    def unsupported_reason(self, config: ViTConfig) -> str | None:
        """Why this layout can't hold a model of this configuration, or None if it can."""
        for option in fields(config):
            value, allowed = getattr(config, option.name), self.supports.get(option.name, (option.default,))
            if option.name in FREE or allowed is ANY or (value if allowed is GIVEN else value in allowed):
                continue
            choices = "others" if allowed is GIVEN else " or ".join(str(choice) for choice in allowed)
            return f"{self.name} can't hold a model with {option.name}={value}, only {choices}"
        return None

    def caveats(self, config: ViTConfig) -> list[str]:
        """In what the other library will use the written weights otherwise than we: a sentence each."""
        differing = {name: value for name, value in self.defaults.items() if getattr(config, name) != value}
        if config.pos_embed != "learned":
            differing.pop("positions_antialias", None)
        return [
            f"{self.name} computes with {name}={value}, this model with {getattr(config, name)}"
            for name, value in differing.items()
        ]

    def _require(self, tensors: Mapping[str, Tensor], names: Iterable[str]) -> None:
        missing = [name for name in names if name not in tensors]
        if missing:
            raise InputError(f"these weights lack {quote_names(missing)}, which {self.name} models have")

    def is_ignored(self, name: str) -> bool:
        """Whether a bare name is of something that the image tower doesn't need."""
        return any(re.fullmatch(pattern, name) for pattern in self.ignored)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32)) if tensor.is_floating_point() else tensor


def _shaped(names: Iterable[str], tensors: Mapping[str, Tensor]) -> str:
    """Tensors with their shapes: "'cls_token' (1, 1, 384), ..."."""
    return ", ".join(f"'{name}' {tuple(tensors[name].shape)}" for name in names if name in tensors)


def state_shapes(config: ViTConfig) -> dict[str, torch.Size]:
    """The shape of each tensor in the state of `ViT(config)`, found without memory for them."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in ViT(config).state_dict().items()}


def quote_names(names: Iterable[str], most: int = 4) -> str:
    """Some names in quotes and how many more there are: "'a', 'b' and 7 more"."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more


def _check_shapes(tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> None:
    missing = [name for name in shapes if name not in tensors]
    if missing:
        raise InputError(f"nothing fills {quote_names(missing)}: the configuration doesn't fit the weights")
    for name, tensor in tensors.items():
        if name in shapes and tensor.shape != shapes[name]:
            found, expected = tuple(tensor.shape), tuple(shapes[name])
            raise InputError(f"'{name}' is {found}, but the configuration makes it {expected}")
