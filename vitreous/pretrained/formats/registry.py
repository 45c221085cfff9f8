"""All layouts by name, and the one that some weights are in."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.pretrained.formats.checkpoint_keys import strip_wrappers
from vitreous.pretrained.formats.clip import CLIP, OPEN_CLIP
from vitreous.pretrained.formats.dino import DINO
from vitreous.pretrained.formats.dinov2 import DINOV2_META
from vitreous.pretrained.formats.dinov3 import DINOV3_META
from vitreous.pretrained.formats.huggingface import DEIT, VIT
from vitreous.pretrained.formats.huggingface_dino import DINOV2, DINOV2_REGISTERS, DINOV3
from vitreous.pretrained.formats.npz import BIG_VISION, NPZ
from vitreous.pretrained.formats.siglip import SIGLIP
from vitreous.pretrained.formats.state_dict_format import StateDictFormat, quote_names
from vitreous.pretrained.formats.timm import TIMM
from vitreous.pretrained.formats.torchvision import TORCHVISION

FORMATS: dict[str, StateDictFormat] = {
    layout.name: layout
    for layout in (
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
"""Every layout that we read and write."""

EVERYTHING = [
    ViTConfig(init_values=1.0, qk_norm=True, reg_tokens=1, depth=1, mlp_layer=mlp) for mlp in ("gelu", "swiglu")
]
"""Models with all parts, for the names that a layout may have."""
FEWEST_MARKS = 0.5
"""Share of a layout's marks behind a beginning with which it is worth naming: one "norm.weight" is none."""


def find_format(keys_and_shapes: Mapping[str, Sequence[int]]) -> StateDictFormat:
    """The layout of weights with these names and shapes.

    Of several whose marks are all there, it is the one with the most marks.

    Raises:
        InputError: none fits; says which is nearest, what is missing and what it doesn't know.
    """
    fitting = [layout for layout in FORMATS.values() if _fits(layout, keys_and_shapes)]
    if fitting:
        return max(fitting, key=lambda layout: len(layout.signature))
    raise _no_layout(list(strip_wrappers(keys_and_shapes)))


def unknown_prefix(names: Iterable[str]) -> str:
    """What stands before all names, in the words of a model around this one, and hides a layout: "net.encoder.".

    Nothing where a layout fits as it is, or none fits behind any such beginning.
    """
    names = list(names)
    if any(_fits(layout, names) for layout in FORMATS.values()):
        return ""
    first, last = (name.split(".")[:-1] for name in (min(names, default=""), max(names, default="")))
    beginning = ""
    for word, other in zip(first, last, strict=False):
        if word != other:
            break
        beginning += f"{word}."
        behind = [name.removeprefix(beginning) for name in names]
        if any(_fits(layout, behind) for layout in FORMATS.values()):
            return beginning
    return ""


def _fits(layout: StateDictFormat, names: Iterable[str]) -> bool:
    bare = layout.bare_keys(names)
    return all(mark in bare for mark in layout.signature) and not any(name in bare for name in layout.excludes)


@dataclass(frozen=True)
class _Difference:
    """In what weights differ from a layout, behind a beginning of their names."""

    layout: StateDictFormat
    beginning: str
    has_marks: bool
    missing: list[str]
    unexpected: list[str]
    beside: list[str]
    """Names without the beginning."""

    @property
    def size(self) -> int:
        """Names that are wrong."""
        return len(self.missing) + len(self.unexpected) + len(self.beside)

    def __str__(self) -> str:
        where = f", behind '{self.beginning}'" if self.beginning else ""
        complaints = [
            f"it has {quote_names(self.missing)}, which are missing here" if self.missing else "",
            f"it has no {quote_names(self.unexpected)}" if self.unexpected else "",
            f"leave out {quote_names(self.beside)}, which stand beside it" if self.beside else "",
        ]
        return f"{self.layout.name}{where}: {'; '.join(filter(None, complaints))}"


def _no_layout(names: Sequence[str]) -> InputError:
    """What is wrong with weights of these bare names: the layout that they differ least from, and in what."""
    beginnings = ["", *sorted(_beginnings(names))]
    found = [_difference(layout, names, one) for layout in FORMATS.values() for one in beginnings]
    near = [one for one in found if one.has_marks]
    if not near:
        return InputError(
            f"these weights are in no known layout ({', '.join(FORMATS)}): they have {quote_names(names)}"
        )
    return InputError(f"these weights are in no known layout; the nearest is {min(near, key=lambda one: one.size)}")


def _difference(layout: StateDictFormat, names: Sequence[str], beginning: str) -> _Difference:
    bare = layout.bare_keys(name.removeprefix(beginning) for name in names if name.startswith(beginning))
    missing, known = [mark for mark in layout.signature if mark not in bare], _known(layout.name)
    unexpected = [
        name for name in bare if name in layout.excludes or not (_first(name) in known or layout.is_ignored(name))
    ]
    share = 1 - len(missing) / len(layout.signature)
    has_marks = share >= FEWEST_MARKS if beginning else share > 0
    beside = [name for name in names if not name.startswith(beginning)]
    return _Difference(layout, beginning, has_marks, missing, unexpected, beside)


def _first(name: str) -> str:
    """A name as it would be in the first block."""
    return re.sub(r"\.\d+\.", ".0.", name, count=1)


def _beginnings(names: Iterable[str]) -> set[str]:
    """What stands before the marks of layouts."""
    ends = tuple(f".{mark}" for layout in FORMATS.values() for mark in layout.signature)
    marked = [name for name in names if name.endswith(ends)]
    return {name.removesuffix(end) + "." for name in marked for end in ends if name.endswith(end)}


@cache
def _known(layout: str) -> set[str]:
    """The names that a layout may have, in the first block."""
    rules = [block for config in EVERYTHING for rule in FORMATS[layout].rules(config) for block in rule.for_blocks(1)]
    return {name for rule in rules for name in rule.names}


def formats_for(config: ViTConfig) -> list[str]:
    """The names of the layouts that can hold a model of this configuration."""
    return [name for name, layout in FORMATS.items() if layout.unsupported_reason(config) is None]
