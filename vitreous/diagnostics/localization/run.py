"""Measure how well the maps of each method localize objects with known masks, against two baselines."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, Progress
from vitreous.data.masks import MaskedImage, MaskedImageSet, load_masked
from vitreous.diagnostics.localization.metrics import (
    METRICS,
    LocalizationScores,
    average_scores,
    dilate_mask,
    measure_localization,
)
from vitreous.errors import InputError
from vitreous.evaluation.intervals import Estimate
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.patch_maps import BASELINES, baseline_map
from vitreous.explanation.registry import METHODS, find_method
from vitreous.files import write_text
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load

SLOW_METHODS = ("integrated-gradients", "smoothgrad", "occlusion", "rise")
"""Methods with many forward passes per image, which are measured only if named."""
DEFAULT_METHODS = tuple(name for name in METHODS if name not in (*SLOW_METHODS, "features"))
BATCH_SIZE = 8
NO_LOCATION = "features colors patches by their content and points to no location: leave it out of --methods"


@dataclass(frozen=True)
class MethodLocalization:
    """How well the maps of one method, or of a baseline, localize the objects.

    Attributes:
        scores: Mean over the images of each of `METRICS`, with its interval.
        max_iou_threshold: Mean over the images.
        images: The scores of each image, in the order of `LocalizationResult.names`.
    """

    name: str
    scores: dict[str, Estimate]
    max_iou_threshold: float
    images: tuple[LocalizationScores, ...] = field(repr=False)

    @property
    def is_baseline(self) -> bool:
        """Whether the maps are those of a baseline, which doesn't depend on the image."""
        return self.name in BASELINES


@dataclass(frozen=True, repr=False)
class LocalizationResult:
    """The localization of all methods on the same images.

    Attributes:
        names: The images that were measured.
        num_empty_masks: Images skipped because their mask is empty.
        num_full_masks: Images skipped because every pixel of their mask is on the object: any map would score 100 %.
        num_without_mask: Frames skipped because they have no mask.
        object_fraction: Mean fraction of the image that the object covers.
        methods: Baselines last.
        skipped: Default methods that can't explain this model, with the reason.
        options: The options of each method.
    """

    data: str
    names: tuple[str, ...]
    num_empty_masks: int
    num_full_masks: int
    num_without_mask: int
    object_fraction: float
    methods: tuple[MethodLocalization, ...]
    skipped: dict[str, str]
    options: dict[str, MethodOptions]
    source: MaskedImageSet

    def ranking(self) -> list[int]:
        """Return the indexes of the images from best to worst, by average precision, mean over the methods."""
        rows = [[one.average_precision for one in method.images] for method in self.methods if not method.is_baseline]
        return np.argsort(-np.mean(rows, 0), kind="stable").tolist()

    def to_json(self) -> dict[str, object]:
        """Return the mean scores, and those of every image, as plain dictionaries."""
        return {
            "data": self.data,
            "images": len(self.names),
            "skipped_images": {
                "empty_mask": self.num_empty_masks,
                "full_mask": self.num_full_masks,
                "no_mask": self.num_without_mask,
            },
            "object_fraction": self.object_fraction,
            "skipped": self.skipped,
            "metrics": METRICS,
            "methods": {
                method.name: {
                    "baseline": method.is_baseline,
                    "max_iou_threshold": method.max_iou_threshold,
                    "scores": {name: asdict(score) for name, score in method.scores.items()},
                    "images": dict(zip(self.names, map(asdict, method.images), strict=True)),
                }
                for method in self.methods
            },
        }

    @check_arguments
    def save(self, folder: str | Path, model: str | Path | ImageClassifier | None = None) -> tuple[Path, ...]:
        """Write localization.json and localization.png into a folder, and return the paths.

        Args:
            folder: is created if it doesn't exist.
            model: the model that was measured, to write localization-maps.png too: its best and its worst maps.
        """
        from vitreous.diagnostics.localization.figure import draw_localization  # which imports this module

        path = Path(folder) / "localization.json"
        write_text(path, json.dumps(self.to_json(), indent=2) + "\n")
        return path, *draw_localization(self, Path(folder), model)

    def __repr__(self) -> str:
        """Format a table of the mean scores."""
        width = max(len(method.name) for method in self.methods)
        lines = [f"{len(self.names):,} images of {self.data}; higher is better"]
        for method in self.methods:
            scores = "  ".join(f"{name} {score.value:.3f}" for name, score in method.scores.items())
            lines.append(f"{method.name:<{width}}  {scores}")
        return "\n".join(lines)


@check_arguments
def localization(
    model: str | Path | ImageClassifier,
    data: str = "shapes",
    *,
    methods: str | Sequence[str] | None = None,
    options: MethodOptions | None = None,
    count: int | None = None,
    device: str = "auto",
    callback: Callback | None = None,
) -> LocalizationResult:
    """Measure how well the maps of each method localize objects whose masks are known.

    Args:
        model: a run folder, a weights file, or a loaded model.
        data: "shapes", or "masks:DIR" with DIR/NAME/frames and DIR/NAME/masks.
        methods: one or more names of methods; by default those that need few forward passes and can explain this model.
        options: options of the methods; each method takes those that apply to it.
        count: number of images; by default 500 shapes or all frames.
        device: "auto", "cpu" or "cuda".
        callback: receives the progress, and may stop the measurement after any batch of images.

    Raises:
        InputError: the model, source or a method doesn't exist, a mask has another size than its image, or in all
            masks no pixel is on an object, or every pixel is.
    """
    names = DEFAULT_METHODS if methods is None else check_methods(methods)
    classifier, callback = load(model, device), callback or Callback()
    chosen = {name: applicable_options(name, options) for name in names}
    source = load_masked(data, classifier.preprocessing.input_size, count)
    skipped = {} if methods is not None else unsupported_methods(classifier, source.images[0].read()[0], chosen)
    chosen = {name: one for name, one in chosen.items() if name not in skipped}
    scores: dict[str, list[LocalizationScores]] = {name: [] for name in [*chosen, *BASELINES]}
    measured, fractions, empty, full, total = [], [], 0, 0, len(source.images)
    for start in range(0, total, BATCH_SIZE):
        loaded = list(_read_batch(source.images, start))
        empty += sum(not one.mask.any() for one in loaded)
        full += sum(bool(one.mask.all()) for one in loaded)
        batch = [one for one in loaded if one.mask.any() and not one.mask.all()]
        for name, found in _measure_batch(classifier, batch, chosen).items():
            scores[name] += found
        measured += [one.name for one in batch]
        fractions += [float(one.mask.mean()) for one in batch]
        done = start + len(loaded)
        callback.on_progress(Progress(done, total, f"image {done} of {total}"))
        if measured and callback.should_stop():
            break
    if not measured:
        raise _no_object(data, source, empty, full)
    return LocalizationResult(
        data,
        tuple(measured),
        empty,
        full,
        source.frames_without_mask,
        float(np.mean(fractions)),
        tuple(_summarize(name, found) for name, found in scores.items()),
        skipped,
        chosen,
        source,
    )


def _no_object(data: str, source: MaskedImageSet, empty: int, full: int) -> InputError:
    """Say in one line why no mask of a source can be used."""
    if empty:
        all_masks = f"{empty} masks of '{data}' are empty" + (f", the other {full} full" if full else "")
        return InputError(f"all {all_masks}: give images with objects")
    values = ", ".join(map(str, source.images[0].mask_values()))
    return InputError(
        f"in all {full} masks of '{data}' every pixel is the object; the values in the first are {values}: "
        "write 0 for the background, which is code 2 in the trimaps of Oxford-IIIT Pet"
    )


def check_methods(methods: str | Sequence[str]) -> tuple[str, ...]:
    """Return the methods without repetitions, in the given order.

    Raises:
        InputError: a method doesn't exist or points to no location, or none is named.
    """
    names = tuple(dict.fromkeys([methods] if isinstance(methods, str) else methods))
    if not names:
        raise InputError(f"no method is named: choose from {', '.join(METHODS)}")
    for name in names:
        find_method(name, MethodOptions())
    if "features" in names:
        raise InputError(NO_LOCATION)
    return names


def applicable_options(method: str, options: MethodOptions | None) -> MethodOptions:
    """Return the options that apply to a method, so that, for example, --layer 5 can be combined with rollout."""
    given, defaults = vars(options or MethodOptions()), vars(MethodOptions())
    applicable = METHODS[method].options
    return MethodOptions(**{name: value if name in applicable else defaults[name] for name, value in given.items()})


def unsupported_methods(
    classifier: ImageClassifier, image_u8: np.ndarray, methods: dict[str, MethodOptions]
) -> dict[str, str]:
    """Try each method on one image; return those that can't explain the model, with the reason."""
    reasons = {}
    for name, options in methods.items():
        try:
            explain_batch(classifier, [image_u8], name, options)
        except InputError as error:
            if options != MethodOptions():  # the options may be wrong, not the method
                raise
            reasons[name] = str(error)
    return reasons


@dataclass(frozen=True)
class _LoadedImage:
    """One image in memory, and its index in the source."""

    index: int
    name: str
    image_u8: np.ndarray
    mask: np.ndarray


def _read_batch(images: Sequence[MaskedImage], start: int) -> Iterator[_LoadedImage]:
    for index, one in enumerate(images[start : start + BATCH_SIZE], start):
        yield _LoadedImage(index, one.name, *one.read())


def _measure_batch(
    classifier: ImageClassifier, batch: Sequence[_LoadedImage], methods: dict[str, MethodOptions]
) -> dict[str, list[LocalizationScores]]:
    """Measure the maps of every method and baseline on some images."""
    if not batch:
        return {}
    heatmaps = compute_heatmaps(classifier, [(one.index, one.image_u8) for one in batch], methods)
    masks = [(one.mask, dilate_mask(one.mask)) for one in batch]
    return {
        name: [measure_localization(heatmap, *pair) for heatmap, pair in zip(found, masks, strict=True)]
        for name, found in heatmaps.items()
    }


def compute_heatmaps(
    classifier: ImageClassifier, indexed_images: Sequence[tuple[int, np.ndarray]], methods: dict[str, MethodOptions]
) -> dict[str, list[np.ndarray]]:
    """Compute the heatmaps of methods and baselines, float32 (height, width), for images with their indexes."""
    images = [image for _, image in indexed_images]
    heatmaps = {
        method: [one.heatmap for one in explain_batch(classifier, images, method, options)]
        for method, options in methods.items()
    }
    baselines = {
        name: [baseline_heatmap(name, classifier, image, index) for index, image in indexed_images]
        for name in BASELINES
    }
    return heatmaps | baselines


def baseline_heatmap(name: str, classifier: ImageClassifier, image_u8: np.ndarray, index: int) -> np.ndarray:
    """Compute one of BASELINES on the model's patch grid and upsample it to the image like any other map."""
    geometry, patch_size = classifier.preprocess(image_u8)[1], classifier.preprocessing.patch_size
    grid_size = geometry.input_size[0] // patch_size, geometry.input_size[1] // patch_size
    return geometry.to_image(baseline_map(name, grid_size, 0, index).reshape(grid_size))


def _summarize(name: str, scores: list[LocalizationScores]) -> MethodLocalization:
    threshold = float(np.mean([one.max_iou_threshold for one in scores]))
    return MethodLocalization(name, average_scores(scores), threshold, tuple(scores))
