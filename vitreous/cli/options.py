"""Options that several verbs share, in the groups in which the help shows them.

A verb takes a whole group as one parameter, `explain: Annotated[ExplainOptions, WHAT] = ExplainOptions()`; cyclopts
turns each field into a flag and the text under the field into its help.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from vitreous.explanation.options import MethodOptions

MODEL_GROUP = Group("Model", sort_key=1)
EXPLAIN_GROUP = Group("What to explain", sort_key=2)
METHOD_GROUP = Group("Settings of the method", sort_key=3)
DRAW_GROUP = Group("How it is drawn", sort_key=4)
FRAME_GROUP = Group("Which frames", sort_key=5)
SPEED_GROUP = Group("Speed", sort_key=6)
OUTPUT_GROUP = Group("Output", sort_key=7)

Flag = Annotated[bool, Parameter(negative="")]
"""A switch without a --no- form."""


@Parameter(name="*", group=EXPLAIN_GROUP)
@dataclass(frozen=True)
class ExplainOptions:
    """What the maps explain."""

    method: str = "attention"
    """Explanation method; `vitreous methods` lists them. A comma separates several methods, which are shown side by
    side."""
    target: str | None = None
    """What the maps explain: a class; "cat - dog" for what favors one class over the other; "text:a photo of a cat"
    for an image-text model; "region:X0,Y0,X1,Y1" for a box of the image in pixels. The predicted class by default."""
    query: str | None = None
    """Explain the patch at pixel X,Y, or the patches in the box X0,Y0,X1,Y1, instead of the model's output."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The names in `method`."""
        return tuple(name.strip() for name in self.method.split(","))

    @property
    def query_region(self) -> "tuple[float, float] | tuple[float, float, float, float] | None":
        """The query as a point (x, y) or a box (x0, y0, x1, y1) in pixels.

        Raises:
            InputError: the text is neither.
        """
        from vitreous.explanation.coordinates import parse_region_yx, swapped

        query = parse_region_yx(self.query)
        return query and swapped(query)


@Parameter(name="*", group=METHOD_GROUP)
@dataclass(frozen=True)
class MethodFlags:
    """Settings of single methods; each help text names the methods that use the setting."""

    layer: int | None = None
    """Layer to explain, counted from 0; -1 is the last. Used by attention, attention-gradient, grad-cam, hires-cam,
    value-norm and features."""
    head: int | None = None
    """Attention head, counted from 0; all heads by default. Used by attention, attention-gradient and value-norm."""
    head_fusion: Literal["mean", "max", "min"] = "mean"
    """How the heads are combined. Used by attention and rollout."""
    discard_ratio: float = 0.0
    """Fraction of each row's weights, the smallest, that are set to zero. Used by rollout."""
    view: Literal["colors", "similarity", "norms"] = "colors"
    """PCA of the patch tokens as colors, similarity to --query, or token norms. Used by features."""
    n_steps: int | None = None
    """Steps along the integration path. Used by integrated-gradients."""
    n_samples: int | None = None
    """Number of random samples. Used by smoothgrad and rise."""
    noise_level: float | None = None
    """Standard deviation of the noise as a fraction of the input's range. Used by smoothgrad."""
    patch_window: int | None = None
    """Side of the hidden window in patches. Used by occlusion."""
    seed: int = 0
    """Seed of the random samples. Used by smoothgrad and rise."""

    def method_options(self) -> "MethodOptions":
        """The same as the record that methods take."""
        from vitreous.explanation.options import MethodOptions

        return MethodOptions(
            layer=self.layer,
            head=self.head,
            head_fusion=self.head_fusion,
            discard_ratio=self.discard_ratio,
            view=self.view,
            n_steps=self.n_steps,
            n_samples=self.n_samples,
            noise_level=self.noise_level,
            patch_window=self.patch_window,
            seed=self.seed,
        )


@Parameter(name="*", group=MODEL_GROUP)
@dataclass(frozen=True)
class InputOptions:
    """How images are brought to the size that the model takes."""

    input_size: int | None = None
    """Side in pixels of the model's input; the model's own by default. A larger input gives finer maps."""
    resize_mode: Literal["squash", "crop", "aspect", "letterbox"] | None = None
    """How an image is resized to the input: squash its shape, crop its center, keep its aspect ratio, or pad it with
    bars; the model's own way by default."""
