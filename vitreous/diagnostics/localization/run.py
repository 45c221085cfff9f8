"""Does the map fall on the object: every method against masks, beside a random map and a centerd blob."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from vitreous.data.masks import MaskedImage, load_masked
from vitreous.diagnostics.localization.measures import SHOWN, Localization, localization_scores, localize, widened
from vitreous.errors import InputError
from vitreous.evaluation.intervals import Estimate
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.patch_maps import BASELINES, baseline_map
from vitreous.explanation.registry import METHODS, find_method
from vitreous.files import write_text
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load

MANY_PASSES = ("integrated-gradients", "smoothgrad", "occlusion", "rise")
"""Methods that ask the model many times for each image: measured only where they are named."""
USUAL_METHODS = tuple(name for name in METHODS if name not in (*MANY_PASSES, "features"))
"""Measured where none is named; `features` shows what patches hold, and no place that counts."""
AT_ONCE = 8


@dataclass(frozen=True)
class MapScores:
    """How well one kind of map falls on the objects."""

    name: str
    scores: dict[str, Estimate]
    """Mean and interval of each measure in `SHOWN`."""
    best_threshold: float
    """Mean over the images of the threshold that overlaps best, over the map's maximum."""
    images: tuple[Localization, ...] = field(repr=False)
    """Each image's own, in the order of `LocalisationResult.names`."""

    @property
    def baseline(self) -> bool:
        """Whether it knows nothing of the image."""
        return self.name in BASELINES


@dataclass(frozen=True)
class LocalisationResult:
    """All methods on the same images."""

    data: str
    names: tuple[str, ...]
    """The images that were measured."""
    empty: int
    """Images left out because their mask is empty."""
    unmarked: int
    """Frames left out because they have no mask."""
    object_share: float
    """Mean share of the image's area that is object."""
    maps: tuple[MapScores, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    """Usual methods that can't explain this model, with the reason."""

    def ordered(self) -> list[int]:
        """The images' places from the best to the worst: by average precision, mean over the methods."""
        rows = [[one.precision for one in maps.images] for maps in self.maps if not maps.baseline]
        return np.argsort(-np.mean(rows, 0), kind="stable").tolist()


Progress = Callable[[int, int, float], None]
"""Told images done, images in all, and seconds left."""


def localization(
    model: str | Path | ImageClassifier,
    data: str = "shapes",
    methods: Sequence[str] | None = None,
    *,
    settings: MethodOptions | None = None,
    count: int | None = None,
    on_progress: Progress | None = None,
) -> LocalisationResult:
    """Measure how well the maps of each method fall on objects whose masks are known.

    Args:
        model: a run folder, a weights file, or a loaded model.
        data: "shapes", or "masks:DIR" with DIR/NAME/frames and DIR/NAME/masks.
        methods: names in METHODS; by default those of one pass or two that can explain this model.
        settings: what the methods are told that have a use for it.
        count: how many images; 500 shapes or all frames by default.
        on_progress: told after each batch.

    Raises:
        InputError: no such model, source or method, a mask of another size than its image, or only empty masks.
    """
    names = USUAL_METHODS if methods is None else check_methods(methods)
    classifier = load(model)
    asked = {name: settings_of(name, settings) for name in names}
    source = load_masked(data, classifier.preprocessing.input_size, count)
    skipped = {} if methods is not None else cannot(classifier, source.images[0].read()[0], asked)
    asked = {name: one for name, one in asked.items() if name not in skipped}
    measured: dict[str, list[Localization]] = {name: [] for name in [*asked, *BASELINES]}
    kept, shares, started = [], [], time.monotonic()
    for start in range(0, len(source.images), AT_ONCE):
        batch = [one for one in _read(source.images, start) if one.mask.any()]
        for name, ones in _measure(classifier, batch, asked).items():
            measured[name] += ones
        kept += [one.name for one in batch]
        shares += [float(one.mask.mean()) for one in batch]
        if on_progress is not None:
            done = min(start + AT_ONCE, len(source.images))
            left = (time.monotonic() - started) / done * (len(source.images) - done)
            on_progress(done, len(source.images), left)
    if not kept:
        raise InputError(f"all {len(source.images)} masks of '{data}' are empty: there is no object to fall on")
    maps = tuple(_summed(name, ones) for name, ones in measured.items())
    empty, share = len(source.images) - len(kept), float(np.mean(shares))
    return LocalisationResult(data, tuple(kept), empty, source.frames_without_mask, share, maps, skipped)


def check_methods(methods: Sequence[str]) -> tuple[str, ...]:
    """The methods, each once, in the order given.

    Raises:
        InputError: there is no such method, or none at all, or it shows no place that counts.
    """
    names = tuple(dict.fromkeys(methods))
    if not names:
        raise InputError(f"no method is named: choose from {', '.join(METHODS)}")
    for name in names:
        find_method(name, MethodOptions())
    if "features" in names:
        raise InputError("features shows what patches hold, and no place that counts: leave it out of --methods")
    return names


def settings_of(method: str, settings: MethodOptions | None) -> MethodOptions:
    """Of the settings those that the method has a use for, so that --layer 5 may stand beside rollout."""
    given, usual = vars(settings or MethodOptions()), vars(MethodOptions())
    used = METHODS[method].options
    return MethodOptions(**{name: value if name in used else usual[name] for name, value in given.items()})


def cannot(classifier: ImageClassifier, image_u8: np.ndarray, asked: dict[str, MethodOptions]) -> dict[str, str]:
    """The methods that can't explain this model, with the reason, tried on one image."""
    reasons = {}
    for name, settings in asked.items():
        try:
            explain_batch(classifier, [image_u8], name, settings)
        except InputError as error:
            if settings != MethodOptions():  # it may be the user's layer that is wrong, and not the method
                raise
            reasons[name] = str(error)
    return reasons


@dataclass(frozen=True)
class _Read:
    """One image in memory, and its place in the source."""

    number: int
    name: str
    image_u8: np.ndarray
    mask: np.ndarray


def _read(images: Sequence[MaskedImage], start: int) -> Iterator[_Read]:
    for number, one in enumerate(images[start : start + AT_ONCE], start):
        yield _Read(number, one.name, *one.read())


def _measure(
    classifier: ImageClassifier, batch: Sequence[_Read], asked: dict[str, MethodOptions]
) -> dict[str, list[Localization]]:
    """The measures of every kind of map on some images."""
    if not batch:
        return {}
    near = [widened(one.mask) for one in batch]
    heats = maps_of(classifier, [(one.number, one.image_u8) for one in batch], asked)
    masks = [one.mask for one in batch]
    return {kind: [localize(*one) for one in zip(several, masks, near, strict=True)] for kind, several in heats.items()}


def maps_of(
    classifier: ImageClassifier, numbered: Sequence[tuple[int, np.ndarray]], asked: dict[str, MethodOptions]
) -> dict[str, list[np.ndarray]]:
    """The maps of the methods and of the baselines over each image, given by number: float32 (height, width)."""
    images = [image for _, image in numbered]
    heats = {
        method: [one.heatmap for one in explain_batch(classifier, images, method, settings)]
        for method, settings in asked.items()
    }
    return heats | {name: [baseline_heat(name, classifier, image, i) for i, image in numbered] for name in BASELINES}


def baseline_heat(name: str, classifier: ImageClassifier, image_u8: np.ndarray, number: int) -> np.ndarray:
    """One of BASELINES for the image of that number, on the model's own grid and laid back as any map is."""
    geometry, patch = classifier.preprocess(image_u8)[1], classifier.preprocessing.patch_size
    grid_hw = geometry.input_size[0] // patch, geometry.input_size[1] // patch
    return geometry.to_image(baseline_map(name, grid_hw, 0, number).reshape(grid_hw))


def _summed(name: str, measured: list[Localization]) -> MapScores:
    threshold = float(np.mean([one.best_threshold for one in measured]))
    return MapScores(name, localization_scores(measured), threshold, tuple(measured))


def write_localization(result: LocalisationResult, folder: Path) -> Path:
    """Write localization.json: the scores, and every image's own values."""
    path = folder / "localization.json"
    write_text(path, json.dumps(as_json(result), indent=2) + "\n")
    return path


def as_json(result: LocalisationResult) -> dict:
    """The result as plain dictionaries."""
    return {
        "data": result.data,
        "images": len(result.names),
        "left_out": {"empty masks": result.empty, "frames without a mask": result.unmarked},
        "object_share": result.object_share,
        "skipped": result.skipped,
        "measures": SHOWN,
        "methods": {
            maps.name: {
                "baseline": maps.baseline,
                "best_threshold": maps.best_threshold,
                "scores": {name: asdict(score) for name, score in maps.scores.items()},
                "images": dict(zip(result.names, map(asdict, maps.images), strict=True)),
            }
            for maps in result.maps
        },
    }
