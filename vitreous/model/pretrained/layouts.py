"""All layouts by name, and the one that some weights are in."""

import re
from collections.abc import Mapping, Sequence

from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.pretrained.clip import CLIP, OPEN_CLIP
from vitreous.model.pretrained.dino import DINO
from vitreous.model.pretrained.dinov2 import DINOV2_META
from vitreous.model.pretrained.dinov3 import DINOV3_META
from vitreous.model.pretrained.huggingface import DEIT, VIT
from vitreous.model.pretrained.huggingface_dino import DINOV2, DINOV2_REGISTERS, DINOV3
from vitreous.model.pretrained.layout import Layout, listed
from vitreous.model.pretrained.npz import BIG_VISION, NPZ
from vitreous.model.pretrained.siglip import SIGLIP
from vitreous.model.pretrained.timm import TIMM
from vitreous.model.pretrained.torchvision import TORCHVISION

LAYOUTS: dict[str, Layout] = {
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

EVERYTHING = [ViTConfig(layer_scale=1.0, qk_norm=True, registers=1, depth=1, mlp=mlp) for mlp in ("gelu", "swiglu")]
"""Models with all parts, for the names that a layout may have."""


def recognise(keys_and_shapes: Mapping[str, Sequence[int]]) -> Layout:
    """The layout of weights with these names and shapes.

    Of several whose marks are all there, it is the one with the most marks.

    Raises:
        InputError: none fits; says which is nearest, what is missing and what it doesn't know.
    """
    fitting = [layout for layout in LAYOUTS.values() if _fits(layout, keys_and_shapes)]
    if fitting:
        return max(fitting, key=lambda layout: len(layout.marks))
    raise _no_layout(keys_and_shapes)


def _fits(layout: Layout, names: Mapping[str, Sequence[int]]) -> bool:
    bare = layout.bare(names)
    return all(mark in bare for mark in layout.marks) and not any(name in bare for name in layout.without)


def _no_layout(names: Mapping[str, Sequence[int]]) -> InputError:
    def share(layout: Layout) -> float:
        bare = layout.bare(names)
        return sum(mark in bare for mark in layout.marks) / len(layout.marks)

    nearest = max(LAYOUTS.values(), key=share)
    if share(nearest) == 0:
        return InputError(f"these weights are in no known layout ({', '.join(LAYOUTS)}): they have {listed(names)}")
    bare = nearest.bare(names)
    rules = [block for config in EVERYTHING for rule in nearest.rules(config) for block in rule.for_blocks(1)]
    known = {name for rule in rules for name in rule.names}
    unexpected = [name for name in bare if re.sub(r"\.\d+\.", ".0.", name, count=1) not in known]
    complaints = [f"these weights are in no known layout; the nearest is {nearest.name}"]
    missing = [mark for mark in nearest.marks if mark not in bare]
    if missing:
        complaints.append(f"it has {listed(missing)}, which are missing here")
    if unexpected:
        complaints.append(f"it has no {listed(unexpected)}")
    return InputError(": ".join([complaints[0], "; ".join(complaints[1:])]))


def holding(config: ViTConfig) -> list[str]:
    """The names of the layouts that can hold a model of this configuration."""
    return [name for name, layout in LAYOUTS.items() if layout.refusal(config) is None]
