"""What a user wants of an explained video, as one record that is checked when it is made."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from vitreous.clips.options import (
    DrawOptions,
    FrameOptions,
    Layout,
    OutputOptions,
    SpeedOptions,
    VideoPrecision,
    video_options,
)
from vitreous.errors import InputError
from vitreous.explanation.explain import ExplainTask, resolve_task
from vitreous.explanation.options import MethodKeywords, MethodOptions, merge_options, refuse_patch_query
from vitreous.explanation.regions import PixelRegion, Region, parse_region, validate_region
from vitreous.explanation.registry import METHODS, options_by_method
from vitreous.model.classifier import ImageClassifier
from vitreous.model.quantization import check_quantizable
from vitreous.tasks.classification.targets import ClassPerImageTarget
from vitreous.tasks.targets import Target
from vitreous.video.options import VideoOptions

ATTENTION_LAYOUTS = ("heads", "layers")
"""Layouts whose panels all come from one forward pass and the method "attention"."""


@dataclass(frozen=True)
class VideoRequest:
    """How a video is explained, drawn and written.

    Raises:
        InputError: an unknown name, or options that don't go together.
    """

    methods: tuple[str, ...] = ("attention",)
    """Names in the table of methods; several names for the layout "methods"."""
    options: MethodOptions = field(default_factory=MethodOptions)
    """Options of the methods, without `query`; of several methods each gets those that it uses."""
    target: str | int | Target | PixelRegion | None = None
    """What the maps explain, as in `explain`; each frame's predicted class by default."""
    query: Region | None = None
    """A point (x, y) or a box (x0, y0, x1, y1) in the video's pixels: the patches there are explained instead of the
    model's output."""
    track: bool = False
    """Whether the query follows the patch at its point in the first frame."""
    draw: DrawOptions = field(default_factory=DrawOptions)
    frames: FrameOptions = field(default_factory=FrameOptions)
    speed: SpeedOptions = field(default_factory=SpeedOptions)
    output: OutputOptions = field(default_factory=OutputOptions)

    def __post_init__(self) -> None:
        refuse_patch_query(self.options)
        if self.query is not None:
            object.__setattr__(self, "query", validate_region(self.query))
        if self.track and self.query is None:
            raise InputError("there is nothing to track: give a point of the first frame as query, such as 320,180")
        if self.track and self.query is not None and len(self.query) == 4:
            raise InputError("only a point can be tracked, not a box: give a query such as 320,180")
        if isinstance(self.target, str) and self.target.startswith("region:"):
            object.__setattr__(self, "target", parse_region(self.target))
        _ = self.video_options
        self._check_methods()
        with_gradients = [method for method in self.methods if METHODS[method].uses_gradients]
        if self.speed.precision == "int8" and with_gradients:
            raise InputError(f"int8 has no gradients, which {with_gradients[0]} needs: choose fp32 or bf16")

    @property
    def layout(self) -> Layout:
        """The layout: the one that was chosen, else "methods" for several methods and "overlay" for one."""
        return self.draw.layout or ("methods" if len(self.methods) > 1 else "overlay")

    @property
    def video_options(self) -> VideoOptions:
        """Which part of the video is written, how large, and in which format."""
        return video_options(self.frames, self.output)

    def options_for(self, method: str) -> MethodOptions:
        """Return the options for one of the methods: of several methods, only those that it uses."""
        return options_by_method(self.methods, self.options)[method]

    def resolve(self, classifier: ImageClassifier) -> tuple[ExplainTask, ...]:
        """Look up the methods and the target for a model, and check that it supports the request.

        Raises:
            InputError: names what the model does not support.
        """
        if self.speed.precision == "int8":
            check_quantizable(classifier.model)
        if self.draw.class_strip and not classifier.class_names:
            raise InputError("the class strip shows classes over time, and this model has no classes: leave it out")
        first = resolve_task(classifier, self.methods[0], self.options_for(self.methods[0]), self.target)
        if isinstance(first.target, ClassPerImageTarget):
            raise InputError("a video takes one target for all of its frames, not one per image: name one class")
        others = [
            replace(first, method_name=name, method=METHODS[name], options=self.options_for(name))
            for name in self.methods[1:]
        ]
        return (first, *others)

    def _check_methods(self) -> None:
        """Check that the methods exist, use the options, and fit the layout."""
        if not self.methods:
            raise InputError("method is an empty list: name a method, such as attention")
        options_by_method(self.methods, self.options)
        if len(self.methods) > 1 and self.layout != "methods":
            raise InputError(f"layout '{self.layout}' takes one method, not {len(self.methods)}: choose 'methods'")
        if self.layout in ATTENTION_LAYOUTS and self.methods != ("attention",):
            raise InputError(f"layout '{self.layout}' shows the method 'attention', not '{self.methods[0]}'")
        if self.layout == "heads" and self.options.head is not None:
            raise InputError("layout 'heads' shows every head: leave out the option head")
        if self.layout == "layers" and self.options.layer is not None:
            raise InputError("layout 'layers' shows every layer: leave out the option layer")


class VideoKeywords(MethodKeywords, total=False):
    """The keywords of `explain_video` that say what is explained, drawn and written; each is described there."""

    method: str | Sequence[str]
    target: str | int | Target | PixelRegion | None
    query: Region | PixelRegion | None
    track: bool
    options: MethodOptions | None
    layout: Layout | None
    smooth: float
    opacity: float
    edge_aware: bool
    legend: bool
    class_strip: bool
    start: float
    end: float | None
    every: int
    height: int | None
    quality: int | None
    format: str | None
    timeline: str | Path | None
    save_maps: str | Path | None
    batch_size: int
    precision: VideoPrecision


Options = TypeVar("Options", DrawOptions, FrameOptions, SpeedOptions, OutputOptions)


def make_request(keywords: VideoKeywords) -> VideoRequest:
    """Make the request that keywords describe, with the default for each that is missing.

    Raises:
        InputError: an unknown name, or options that don't go together.
    """
    given: dict[str, Any] = dict(keywords)
    for name in ("timeline", "save_maps"):
        given[name] = None if given.get(name) is None else Path(given[name])

    def take(kind: type[Options]) -> Options:
        return kind(**{one.name: given.pop(one.name) for one in fields(kind) if one.name in given})

    groups = {"draw": take(DrawOptions), "frames": take(FrameOptions), "speed": take(SpeedOptions)}
    what = {name: given.pop(name) for name in ("target", "query", "track") if name in given}
    methods, output = method_names(given.pop("method", "attention")), take(OutputOptions)
    options = merge_options(given.pop("options", None), given)
    return VideoRequest(methods, options, output=output, **what, **groups)


def method_names(method: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of one method, or of several."""
    return (method,) if isinstance(method, str) else tuple(method)
