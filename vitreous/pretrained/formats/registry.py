"""All formats by name, and the one that some weights are in."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.checkpoint_keys import strip_wrappers
from vitreous.pretrained.formats.clip import CLIP, OPEN_CLIP
from vitreous.pretrained.formats.dino import DINO, DINOV2_META, DINOV3_META
from vitreous.pretrained.formats.huggingface import DEIT, VIT
from vitreous.pretrained.formats.huggingface_dino import DINOV2, DINOV2_REGISTERS, DINOV3
from vitreous.pretrained.formats.npz import BIG_VISION, NPZ
from vitreous.pretrained.formats.siglip import SIGLIP
from vitreous.pretrained.formats.state_dict_format import StateDictFormat, quote_names
from vitreous.pretrained.formats.timm import TIMM
from vitreous.pretrained.formats.torchvision import TORCHVISION

FORMATS: dict[str, StateDictFormat] = {
    one.name: one
    for one in (
        VIT,
        DEIT,
        DINOV2,
        DINOV2_REGISTERS,
        DINOV3,
        DINOV2_META,
        DINOV3_META,
        TIMM,
        DINO,
        TORCHVISION,
        NPZ,
        BIG_VISION,
        CLIP,
        OPEN_CLIP,
        SIGLIP,
    )
}
"""Every format that we read and write."""

FULL_CONFIGS = [
    ViTConfig(init_values=1.0, qk_norm=True, reg_tokens=1, depth=1, mlp_layer=mlp) for mlp in ("gelu", "swiglu")
]
"""Models with all parts, for the keys that a format may have."""
MIN_SIGNATURE_FRACTION = 0.5
"""The fraction of a format's signature that must be found behind a prefix to name it: one "norm.weight" is too
little."""


def detect_format(keys_and_shapes: Mapping[str, Sequence[int]]) -> StateDictFormat:
    """Recognize the format of weights with these keys and shapes.

    Of several whose signature is complete, it is the one with the longest.

    Raises:
        InputError: none fits; names the nearest, what is missing and what it doesn't know.
    """
    fitting = [one for one in FORMATS.values() if _fits(one, keys_and_shapes)]
    if fitting:
        return max(fitting, key=lambda one: len(one.signature))
    raise _no_format_error(list(strip_wrappers(keys_and_shapes)))


def unknown_prefix(keys: Iterable[str]) -> str:
    """Find the prefix of all keys that hides a format, such as "net.encoder." of a model around this one.

    It is empty where a format fits as it is, or none fits behind any common prefix.
    """
    keys = list(keys)
    if any(_fits(one, keys) for one in FORMATS.values()):
        return ""
    first, last = (key.split(".")[:-1] for key in (min(keys, default=""), max(keys, default="")))
    prefix = ""
    for word, other in zip(first, last, strict=False):
        if word != other:
            break
        prefix += f"{word}."
        behind = [key.removeprefix(prefix) for key in keys]
        if any(_fits(one, behind) for one in FORMATS.values()):
            return prefix
    return ""


def _fits(one: StateDictFormat, keys: Iterable[str]) -> bool:
    bare = one.bare_keys(keys)
    return all(key in bare for key in one.signature) and not any(key in bare for key in one.excludes)


@dataclass(frozen=True)
class _Difference:
    """In what weights differ from a format, behind a prefix of their keys."""

    format: StateDictFormat
    prefix: str
    is_near: bool
    missing: list[str]
    unexpected: list[str]
    outside: list[str]
    """Keys without the prefix."""

    @property
    def size(self) -> int:
        """The number of wrong keys."""
        return len(self.missing) + len(self.unexpected) + len(self.outside)

    def __str__(self) -> str:
        where = f", behind '{self.prefix}'" if self.prefix else ""
        complaints = [
            f"it has {quote_names(self.missing)}, which are missing here" if self.missing else "",
            f"it has no {quote_names(self.unexpected)}" if self.unexpected else "",
            f"leave out {quote_names(self.outside)}, which are not part of it" if self.outside else "",
        ]
        return f"{self.format.name}{where}: {'; '.join(filter(None, complaints))}"


def _no_format_error(keys: Sequence[str]) -> InputError:
    """Say what is wrong with weights of these bare keys: the format that they differ least from, and in what."""
    prefixes = ["", *sorted(_prefixes(keys))]
    found = [_difference(one, keys, prefix) for one in FORMATS.values() for prefix in prefixes]
    near = [difference for difference in found if difference.is_near]
    if not near:
        return InputError(f"these weights are in no known format ({', '.join(FORMATS)}): they have {quote_names(keys)}")
    nearest = min(near, key=lambda difference: difference.size)
    return InputError(f"these weights are in no known format; the nearest is {nearest}")


def _difference(one: StateDictFormat, keys: Sequence[str], prefix: str) -> _Difference:
    bare = one.bare_keys(key.removeprefix(prefix) for key in keys if key.startswith(prefix))
    missing, known = [key for key in one.signature if key not in bare], _known_keys(one.name)
    unexpected = [
        key for key in bare if key in one.excludes or not (_in_first_block(key) in known or one.is_ignored(key))
    ]
    fraction = 1 - len(missing) / len(one.signature)
    is_near = fraction >= MIN_SIGNATURE_FRACTION if prefix else fraction > 0
    outside = [key for key in keys if not key.startswith(prefix)]
    return _Difference(one, prefix, is_near, missing, unexpected, outside)


def _in_first_block(key: str) -> str:
    """Rewrite a key as it would be in the first block."""
    return re.sub(r"\.\d+\.", ".0.", key, count=1)


def _prefixes(keys: Iterable[str]) -> set[str]:
    """Collect what stands before the keys of a signature."""
    ends = tuple(f".{key}" for one in FORMATS.values() for key in one.signature)
    signed = [key for key in keys if key.endswith(ends)]
    return {key.removesuffix(end) + "." for key in signed for end in ends if key.endswith(end)}


@cache
def _known_keys(name: str) -> set[str]:
    """The keys that a format may have, in the first block."""
    rules = [block for config in FULL_CONFIGS for rule in FORMATS[name].rules(config) for block in rule.for_blocks(1)]
    return {key for rule in rules for key in rule.external_keys}
