"""What is wanted of an explained clip: the maps, how they are drawn, which part of the clip, what is written beside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from vitreous.errors import InputError, unknown
from vitreous.explanation.explain import Asked
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.regions import parse_region
from vitreous.explanation.registry import METHODS, find_method
from vitreous.explanation.targets import Target
from vitreous.records import from_dict
from vitreous.render.frame_layouts import LAYOUTS
from vitreous.render.frame_view import DrawStyle
from vitreous.render.temporal.smooth import HALF_LIFE_SECONDS
from vitreous.runtime import PRECISIONS
from vitreous.video.options import WHOLE, VideoOptions

VIDEO_PRECISIONS = (*PRECISIONS, "int8")
OF_ATTENTION = ("heads", "layers")
"""Layouts whose panels come from one pass of the model and one method."""


@dataclass(frozen=True)
class VideoRequest:
    """How a clip is explained.

    Raises:
        InputError: an unknown name, or parts that don't go together; says which.
    """

    methods: tuple[str, ...] = ("attention",)
    """Names in the table of methods; several for the layout "methods"."""
    settings: MethodOptions = field(default_factory=MethodOptions)
    """Without `query`; of several methods each gets those that it uses."""
    explained: str | Target | None = None
    """What the maps explain, as `target` of `explain`; each frame's predicted class by default."""
    query: Asked | None = None
    """(x, y) in the clip's pixels: the patch there is followed instead of what the model's head reads. Or a box
    (x0, y0, x1, y1), of whose patches the mean is."""
    track: bool = False
    """Whether the query goes with what lies there in the first frame."""
    layout: str = "overlay"
    """A name in LAYOUTS."""
    look: DrawStyle = field(default_factory=DrawStyle)
    options: VideoOptions = WHOLE
    smooth: float = HALF_LIFE_SECONDS
    """Half-life in seconds of the smoothing over time, which what moves is spared; 0 for none."""
    strip: bool = False
    """Whether the classes over time are drawn under the clip."""
    timeline: Path | None = None
    """A PNG file of classes, segments and the map's entropy over time."""
    data_out: Path | None = None
    """An NPZ file for the maps; predictions and statistics go to a CSV file beside it."""
    batch_size: int = 16
    """Frames that go through the model at a time."""
    precision: str = "fp32"
    """fp32, bf16, or auto for bf16 where the hardware has it; int8 for 8-bit products in the blocks and auto elsewhere.
    Sooner done, with maps that correlate with those in fp32 by about 0.99 or more (docs/video.md)."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise unknown("layout", self.layout, LAYOUTS)
        if self.precision not in VIDEO_PRECISIONS:
            raise unknown("precision", self.precision, VIDEO_PRECISIONS)
        if self.batch_size < 1:
            raise InputError(f"batch size {self.batch_size} is none: give 1 or more")
        if not 0 <= self.smooth < float("inf"):
            raise InputError(f"a smoothing of {self.smooth} seconds is none: give 0 for no smoothing, or more")
        if self.track and self.query is None:
            raise InputError("there is nothing to track: give its place in the first frame as query, such as 320,180")
        if self.track and self.query is not None and len(self.query) == 4:
            raise InputError("one patch is tracked, not a box: give its place in the first frame, such as 320,180")
        if isinstance(self.explained, str) and self.explained.startswith("region:"):
            parse_region(self.explained)
        self._check_methods()
        slow = [method for method in self.methods if METHODS[method].uses_gradients]
        if self.precision == "int8" and slow:
            raise InputError(f"8-bit products have no gradients, which {slow[0]} takes: choose fp32 or bf16")

    @property
    def float_precision(self) -> str:
        """The precision of what isn't multiplied in 8 bits, for `choose_precision`."""
        return "auto" if self.precision == "int8" else self.precision

    def settings_of(self, method: str) -> MethodOptions:
        """The settings for one of the methods: of several, those that it has a use for."""
        if len(self.methods) == 1:
            return self.settings
        usual = MethodOptions()
        used = {name: getattr(self.settings, name) for name in METHODS[method].options}
        return MethodOptions(**{**vars(usual), **used})

    def _check_methods(self) -> None:
        """One method for a layout of one map; attention for heads and layers; no setting that nothing has a use for."""
        for method in self.methods:
            find_method(method, self.settings if len(self.methods) == 1 else MethodOptions())
        usual = MethodOptions()
        for name, value in vars(self.settings).items():
            if value != getattr(usual, name) and not any(name in METHODS[method].options for method in self.methods):
                raise InputError(f"none of {', '.join(self.methods)} has a use for the setting {name}: leave it out")
        if not self.methods or (len(self.methods) > 1 and self.layout != "methods"):
            raise InputError(f"layout '{self.layout}' takes one method, not {len(self.methods)}: choose 'methods'")
        if self.layout in OF_ATTENTION and self.methods != ("attention",):
            raise InputError(f"layout '{self.layout}' shows the method 'attention', not '{self.methods[0]}'")
        if self.layout == "heads" and self.settings.head is not None:
            raise InputError("layout 'heads' shows every head: leave the setting head out")
        if self.layout == "layers" and self.settings.layer is not None:
            raise InputError("layout 'layers' shows every layer: leave the setting layer out")


def request_from(method: str | Sequence[str], given: Mapping[str, Any]) -> VideoRequest:
    """The request that a user spells out by name: fields of VideoRequest, Look, VideoOptions and Settings.

    The layout is by default "overlay", or "methods" for several methods.

    Raises:
        InputError: there is no such name, or its value doesn't fit.
    """
    own = {f.name for f in fields(VideoRequest)} - {"methods", "settings", "look", "options"}
    parts = {kind: {f.name for f in fields(kind)} for kind in (MethodOptions, DrawStyle, VideoOptions)}
    parts[MethodOptions] -= {"query"}
    names = [*sorted(own), *(name for kind in parts.values() for name in sorted(kind))]
    for name in given:
        if name not in names:
            raise unknown("setting", name, names)
    methods = (method,) if isinstance(method, str) else tuple(method)
    chosen = {name: value for name, value in given.items() if name in own}
    for name in ("timeline", "data_out"):
        if chosen.get(name) is not None:
            chosen[name] = Path(chosen[name])
    if chosen.get("layout") is None:
        chosen["layout"] = "methods" if len(methods) > 1 else "overlay"
    look, options = ({name: given[name] for name in parts[kind] if name in given} for kind in (DrawStyle, VideoOptions))
    settings = from_dict(
        MethodOptions, {name: given[name] for name in parts[MethodOptions] if name in given}, "settings"
    )
    return VideoRequest(methods, settings, look=DrawStyle(**look), options=VideoOptions(**options), **chosen)
