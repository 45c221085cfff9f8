"""From what was measured inside a model to what is wrong with it, in words.

Every threshold is a named constant. "Measured" means on models that are well: a ViT of 4 layers trained on `shapes`,
one of 6 on CIFAR-10, one of 4 on MNIST, and DINOv2 ViT-S/14 (LOG.md).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from vitreous.data.folder import SUFFIXES
from vitreous.data.masks import load_masked
from vitreous.data.sources import load_images
from vitreous.diagnostics.doctor.checks_heads import (
    blind_heads,
    dead_heads,
    distance_of_heads,
    prefix_heads,
    redundant_heads,
    uniform_heads,
)
from vitreous.diagnostics.doctor.checks_maps import rollout_collapse, rollout_spots
from vitreous.diagnostics.doctor.checks_tokens import idle_blocks, outliers, token_collapse, weak_layer_scale
from vitreous.diagnostics.doctor.finding import Finding
from vitreous.diagnostics.doctor.measure import dissect
from vitreous.diagnostics.doctor.statistics import Anatomy
from vitreous.diagnostics.test_set import reading_of, training_recipe, training_source
from vitreous.errors import InputError
from vitreous.files import write_text
from vitreous.imaging.geometry import Geometry
from vitreous.imaging.reading import as_image_u8, open_image
from vitreous.model.classifier import ImageClassifier, ImageInput
from vitreous.pretrained.load import load

CHECKS = (
    outliers,
    rollout_collapse,
    rollout_spots,
    token_collapse,
    dead_heads,
    uniform_heads,
    prefix_heads,
    blind_heads,
    redundant_heads,
    idle_blocks,
    weak_layer_scale,
    distance_of_heads,
)
"""Every check: an anatomy to what it found, one finding each."""


USUAL_COUNT = 16


def diagnose(anatomy: Anatomy) -> tuple[Finding, ...]:
    """What each check found, faults first."""
    order = ("fault", "note", "well", "unknown")
    return tuple(sorted((check(anatomy) for check in CHECKS), key=lambda one: order.index(one.level)))


@dataclass(frozen=True)
class Examination:
    """What the doctor found, and what it found it on."""

    model: str
    findings: tuple[Finding, ...]
    """Faults first."""
    anatomy: Anatomy = field(repr=False)
    images_u8: tuple[np.ndarray, ...] = field(repr=False)
    """The images that the model was looked at on, uint8 (height, width, 3)."""
    geometries: tuple[Geometry, ...] = field(repr=False)
    """What the model saw of each."""

    @property
    def faults(self) -> int:
        """How many checks found a fault."""
        return sum(one.level == "fault" for one in self.findings)


def doctor(
    model: str | Path | ImageClassifier,
    images: Sequence[ImageInput] = (),
    *,
    data: str | None = None,
    count: int = USUAL_COUNT,
    on_progress: Callable[[int, int], None] | None = None,
) -> Examination:
    """Look inside a model for outlier tokens, heads and blocks that do nothing, and maps that say nothing.

    Args:
        model: a run folder, a weights file, or a loaded model.
        images: the images to look at; by default the first of `data`.
        data: a source, of which the test images are taken, a folder of images, or "masks:DIR"; by default the
            source that the run was trained on.
        count: how many images of the source.
        on_progress: told images done and images in all.

    Raises:
        InputError: no such model, image or source; or neither images nor data for a model that names none.
    """
    if images and data:
        raise InputError("both images and --data were given: leave one out")
    if count < 1:
        raise InputError(f"--count {count} looks at nothing: give 1 or more")
    classifier = load(model)
    images_u8 = [as_image_u8(image) for image in images] or source_images(model, classifier, data, count)
    anatomy = dissect(classifier, images_u8, on_progress)
    geometries = tuple(classifier.preprocess(image_u8)[1] for image_u8 in images_u8)
    name = "the model" if isinstance(model, ImageClassifier) else str(model)
    return Examination(name, diagnose(anatomy), anatomy, tuple(images_u8), geometries)


def source_images(
    model: str | Path | ImageClassifier, classifier: ImageClassifier, data: str | None, count: int
) -> list[np.ndarray]:
    """Images of a source, by default the one that the run was trained on.

    The first of a folder that holds images, frames evenly over all of "masks:DIR", the first test images of others.
    """
    if data is None and training_recipe(model) is None:
        raise InputError("this model doesn't say what it was trained on: name images after it, or a source with --data")
    source = data or training_source(model)
    files = image_files(source)
    if files:
        return [open_image(path) for path in files[:count]]
    if source.startswith("masks:"):
        frames = load_masked(source, classifier.preprocessing.input_size, count).images
        return [frame.read()[0] for frame in frames]
    images = load_images(source, "test", classifier.preprocessing.input_size, options=reading_of(classifier, source))
    chosen = images.images_u8[:count].expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
    return list(chosen)


def image_files(source: str) -> list[Path]:
    """The images directly in a folder, sorted by name: of "DIR" or "folder:DIR", none of anything else."""
    folder = Path(source.removeprefix("folder:")).expanduser()
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []


def write_doctor(examination: Examination, folder: Path) -> Path:
    """Write doctor.json: the findings, and the numbers behind them by layer and head."""
    path = folder / "doctor.json"
    write_text(path, json.dumps(as_json(examination), indent=2) + "\n")
    return path


def as_json(examination: Examination) -> dict:
    """What was found as plain dictionaries."""
    anatomy = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in vars(examination.anatomy).items()
        if name != "images"
    }
    return {
        "model": examination.model,
        "images": len(examination.images_u8),
        "faults": examination.faults,
        "findings": [asdict(one) for one in examination.findings],
        "anatomy": anatomy,
    }
