"""What `explain` is asked for, what fits together, the files to write, and the record of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitreous.data.image_files import distinct_file_names
from vitreous.errors import InputError
from vitreous.explanation.figures import ExplanationLayout
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.regions import PixelRegion, Region, parse_region
from vitreous.explanation.registry import METHODS, options_by_method
from vitreous.explanation.result import Explanation

if TYPE_CHECKING:
    from vitreous.explanation.model_pair import ModelPair

DEFAULT_COUNT = 16
MAX_GRID = 64
"""More images than this get a figure each, unless a grid is asked for."""
FigureLayout = Literal[ExplanationLayout, "sheet", "grid", "methods", "before-after"]


@dataclass(frozen=True)
class ExplainRequest:
    """What is explained, and how it is drawn.

    Raises:
        InputError: the request can't be met by any model: there is no such method, it doesn't use one of the options,
            or a region is malformed.
    """

    methods: tuple[str, ...] = ("attention",)
    """Names in the table of methods; several names for the layout "methods"."""
    options: MethodOptions = field(default_factory=MethodOptions)
    """Options of the methods; of several methods each gets those that it uses."""
    target: str | PixelRegion | None = None
    """As for `explain`; the text of a region is parsed at once."""
    query: Region | None = None
    """A point (x, y) or a box (x0, y0, x1, y1) in pixels of the image."""
    truth: str | None = None
    """The true label of the images; None for the name of an image's folder, if it is a class."""
    layout: FigureLayout | None = None
    """single: a figure per image; sheet: every layer and head; grid: all images; methods: every method, or several;
    contour, overlay, side-by-side and spotlight: an image each, drawn as a frame of a video; before-after: the maps of
    two models. None for single with one image, and with many; grid with several; methods with several methods;
    before-after with `before`."""
    data: str | None = None
    """Source of test images, used where no files are named; None for the run's own data."""
    count: int | None = None
    """Number of test images; None for DEFAULT_COUNT."""
    before: str | None = None
    """The earlier model for the layout before-after, as `load` takes it; None for the one that the run started from."""

    def __post_init__(self) -> None:
        options_by_method(self._shown, self.options if self.query is None else replace(self.options, query=(0, 0)))
        if isinstance(self.target, str) and self.target.startswith("region:"):
            object.__setattr__(self, "target", parse_region(self.target))
        if self.count is not None and self.count < 1:
            raise InputError(f"--count is {self.count}: give 1 or more")

    def options_by_method(self) -> dict[str, MethodOptions]:
        """The options of each method that is shown, by its name."""
        return options_by_method(self._shown, self.options)

    @property
    def _shown(self) -> tuple[str, ...]:
        """The methods that are shown: all of them for the layout "methods", if none is named."""
        default = self.layout == "methods" and self.methods == ("attention",)
        return tuple(METHODS) if default else self.methods

    def changed(self) -> set[str]:
        """The names of the fields that differ from their defaults."""
        default = ExplainRequest()
        return {name for name, value in vars(self).items() if value != getattr(default, name)}


@dataclass(frozen=True)
class ExplainedImage:
    """An image in a figure, with its true label if it is known, and its explanation without the pixels."""

    path: Path | None
    """None for a test image."""
    truth: str | None
    explanation: Explanation
    stage: Literal["before", "after"] | None = None
    """Which of the two models of the layout before-after explains the image; None in other layouts."""
    model: str | None = None
    """That model."""
    test_image: tuple[str, str, int] | None = None
    """Data, split and index there of a test image; None for a file."""

    def to_json(self) -> dict[str, object]:
        """Return image, prediction, method, target and map as plain values; in before-after also stage and model.

        A test image has no path, but data, split and index, among the images that can be read.
        """
        one = self.explanation
        place = {} if self.test_image is None else dict(zip(("data", "split", "index"), self.test_image, strict=True))
        return {
            "image": None if self.path is None else str(self.path), **place, "truth": self.truth,
            **({} if self.stage is None else {"stage": self.stage, "model": self.model}),
            "prediction": [{"label": label, "score": score} for label, score in one.prediction.top_k()],
            "method": one.method, "layer": one.layer, "head": one.head, "target": one.target,
            "target_score": one.score, "scale_kind": one.scale_kind, "box": list(one.geometry.box),
            "patch_map": one.patch_map.astype(float).tolist(),
        }  # fmt: skip


@dataclass(frozen=True)
class WrittenFigure:
    """A file that was written, a short summary of what it shows, and the explanations in it."""

    path: Path
    summary: str
    images: tuple[ExplainedImage, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the record as plain values."""
        return {"figure": str(self.path), "summary": self.summary, "images": [one.to_json() for one in self.images]}


@dataclass(frozen=True)
class FailedImage:
    """One of several images that couldn't be explained, and why."""

    path: Path
    reason: str

    @property
    def message(self) -> str:
        """The reason, with the name of the image."""
        return self.reason if str(self.path) in self.reason else f"{self.path}: {self.reason}"

    def to_json(self) -> dict[str, object]:
        """Return the record as plain values."""
        return {"image": str(self.path), "error": self.reason}


ExplainedFile = WrittenFigure | FailedImage


def without_pixels(explanation: Explanation) -> Explanation:
    """Return an explanation without its image, to keep what it says of the map."""
    return replace(explanation, image_u8=explanation.image_u8[:1, :1].copy())


def pair_records(
    before: ExplainedImage, after: ExplainedImage, models: "ModelPair"
) -> tuple[ExplainedImage, ExplainedImage]:
    """Return the records of an image that two models explained, with which is which."""
    return (
        replace(before, stage="before", model=models.before.origin),
        replace(after, stage="after", model=models.after.origin),
    )


def summarize_pairs(records: Sequence[tuple[ExplainedImage, ExplainedImage]]) -> str:
    """Return what both models predict, or of several images how many are correct."""
    if len(records) == 1:
        return ", ".join(f"{one.stage}: {one.explanation.prediction.caption() or 'no classes'}" for one in records[0])
    parts = [f"{len(records)} images"]
    for column in zip(*records, strict=True):
        known = [one for one in column if one.truth in dict(one.explanation.prediction.scores)]
        correct = sum(bool(one.explanation.prediction.is_correct(one.truth)) for one in known)
        parts += [f"{column[0].stage}: {correct} of {len(known)} correct"] if known else []
    return ", ".join(parts)


def choose_layout(request: ExplainRequest, count: int, output: Path | None) -> FigureLayout:
    """Return the layout that was asked for, or a grid for several images in one file, else a figure per image."""
    if len(request.methods) > 1:
        return "methods"
    if request.before is not None:
        return "before-after"
    return request.layout or ("grid" if count != 1 and _fit_one_file(count, output) else "single")


def _fit_one_file(count: int, output: Path | None) -> bool:
    """Return whether so many images go into one figure, where the layout doesn't say."""
    return count <= MAX_GRID if output is None else bool(output.suffix)


def check_request(paths: Sequence[Path], request: ExplainRequest) -> None:
    """Refuse options that the layout or the images don't use.

    Raises:
        InputError: the message says what doesn't fit.
    """
    if request.layout == "sheet" and request.changed() != {"layout"}:
        raise InputError("--layout sheet shows the attention of every layer and head: it accepts no other options")
    if len(request.methods) > 1 and request.layout not in (None, "methods"):
        count = len(request.methods)
        raise InputError(f"--layout {request.layout} shows one method, not {count}: leave it out, or name one method")
    if request.truth is not None and (request.layout == "methods" or len(request.methods) > 1):
        raise InputError("a sheet of methods doesn't show true labels: leave out --label")
    if request.before is not None and (len(request.methods) > 1 or request.layout not in (None, "before-after")):
        raise InputError(
            "--before is for --layout before-after, with one method: leave out the other layout or methods"
        )
    if paths and (request.data is not None or request.count is not None):
        flag = "--count" if request.data is None else "--data"
        raise InputError(f"{flag} is for test images, and {paths[0]} is named: leave out one of them")
    if not paths and request.layout not in (None, "grid", "before-after"):
        raise InputError(f"--layout {request.layout} needs an image: name one after the model")
    if not paths and len(request.methods) > 1:
        raise InputError(f"{', '.join(request.methods)} are shown side by side of an image: name one after the model")
    if not paths and (request.truth or request.target or request.query):
        raise InputError("--label, --target and --query are for images of your own: name them after the model")


def output_paths(
    images: Sequence[Path], layout: FigureLayout, request: ExplainRequest, output: Path | None
) -> list[Path]:
    """Return the file for each image's figure, or the one file for all: `output`, or a name in a folder.

    Raises:
        InputError: several images don't fit into one file, or an image would be overwritten.
    """
    is_one_sheet = layout == "before-after" and len(images) != 1 and _fit_one_file(len(images), output)
    if layout in ("grid", "methods") or is_one_sheet:
        names = {"grid": request.methods[0], "methods": "methods"}
        paths = [output or Path(f"explanations-{names.get(layout, f'{request.methods[0]}-{layout}')}.png")]
    elif output is not None and output.suffix:
        if len(images) > 1:
            raise InputError(f"{len(images)} images don't fit into {output}: name a folder, or use --layout grid")
        paths = [output]
    else:
        kind = {"single": request.methods[0], "sheet": "layers"}.get(layout, f"{request.methods[0]}-{layout}")
        folder = output or Path(f"explanations-{kind}" if len(images) > MAX_GRID else "")
        paths = [folder / f"{name}-{kind}.png" for name in distinct_file_names(images)]
    inputs = {image.resolve() for image in images}
    over = next((path for path in paths if path.resolve() in inputs), None)
    if over is not None:
        raise InputError(f"{over} is one of the images themselves: choose another --output")
    return paths
