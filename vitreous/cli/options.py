"""Options that several verbs share, in the groups in which the help shows them.

A verb takes a whole group as one parameter, `explain: ExplainOptions = ExplainOptions()`; cyclopts turns each field
into a flag and the text under the field into its help.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from vitreous.cli.flags import DeviceName, parse_input_size
from vitreous.explanation.options import MethodOptions

if TYPE_CHECKING:
    from vitreous.explanation.regions import Region
    from vitreous.model.classifier import ImageClassifier

MODEL_GROUP = Group("Model", sort_key=1)
EXPLAIN_GROUP = Group("What to explain", sort_key=2)
METHOD_GROUP = Group("Method options", sort_key=3)
DRAW_GROUP = Group("How it is drawn", sort_key=4)
FRAME_GROUP = Group("Which frames", sort_key=5)
SPEED_GROUP = Group("Speed", sort_key=6)
OUTPUT_GROUP = Group("Output", sort_key=7)


@Parameter(name="*", group=EXPLAIN_GROUP)
@dataclass(frozen=True)
class ExplainOptions:
    """What the maps explain."""

    method: str = "attention"
    """Explanation method; `vitreous methods` lists them. A comma separates several methods, which are shown side by
    side."""
    target: str | None = None
    """What the maps explain: a class; "cat - dog" for what favors one class over the other; "text:a photo of a cat"
    for an image-text model; "region:X0,Y0,X1,Y1" for a box of the image in pixels. The predicted class by default. The
    maps of attention, rollout, value-norm and features don't depend on it."""
    query: str | None = None
    """Explain the patch at pixel X,Y, or the patches in the box X0,Y0,X1,Y1, instead of the model's output."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The names in `method`."""
        return tuple(name.strip() for name in self.method.split(","))

    @property
    def query_region(self) -> "Region | None":
        """The query as a point (x, y) or a box (x0, y0, x1, y1) in pixels.

        Raises:
            InputError: the text is neither.
        """
        from vitreous.explanation.regions import parse_query

        return None if self.query is None else parse_query(self.query)


@Parameter(name="*", group=METHOD_GROUP)
@dataclass(frozen=True)
class MethodFlags(MethodOptions):
    """The fields of MethodOptions as flags, but for `query`: on the command line it is in pixels."""

    query: Annotated[None, Parameter(parse=False)] = None

    def method_options(self) -> MethodOptions:
        """Return the record that methods take."""
        return MethodOptions(**vars(self))


@Parameter(name="*", group=MODEL_GROUP)
@dataclass(frozen=True)
class InputOptions:
    """How images are brought to the size that the model takes, and where it runs."""

    input_size: str | None = None
    """Side in pixels of the model's input, or height x width, such as 224x320; the model's own by default."""
    resize_mode: Literal["squash", "crop", "aspect", "letterbox"] | None = None
    """How an image is resized to the input: stretch it to the input's shape (squash), center-crop it (crop), keep its
    aspect ratio (aspect), or pad it with bars (letterbox); the model's own way by default."""
    device: DeviceName = "auto"

    @property
    def input_size_hw(self) -> tuple[int, int] | None:
        """The input size as (height, width).

        Raises:
            InputError: the text is no size.
        """
        return None if self.input_size is None else parse_input_size(self.input_size)

    def load(self, model: str) -> "ImageClassifier":
        """Load a model on the device, with this input size.

        Raises:
            InputError: it can't be loaded, or the size is invalid.
        """
        from vitreous.pretrained.load import load

        return load(model, self.device, input_size=self.input_size_hw, resize_mode=self.resize_mode)
