"""Say in words what is wrong inside a model: on screen, as doctor.json, and as one page."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from vitreous.data.folder import SUFFIXES
from vitreous.data.images import as_image_u8, open_image
from vitreous.data.masks import load_masked
from vitreous.data.preprocessing import Geometry
from vitreous.data.sources import load_images
from vitreous.errors import InputError
from vitreous.evaluation.anatomy import Anatomy
from vitreous.evaluation.diagnosis import diagnose
from vitreous.evaluation.finding import Finding
from vitreous.explanation.anatomy import dissect
from vitreous.files import write_text
from vitreous.tasks.classification import Classifier, ImageInput
from vitreous.workflows.evaluate import reading_of, training_recipe, training_source
from vitreous.workflows.load import load

USUAL_COUNT = 16


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
    model: str | Path | Classifier,
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
    geometries = tuple(classifier.prepare(image_u8)[1] for image_u8 in images_u8)
    name = "the model" if isinstance(model, Classifier) else str(model)
    return Examination(name, diagnose(anatomy), anatomy, tuple(images_u8), geometries)


def source_images(
    model: str | Path | Classifier, classifier: Classifier, data: str | None, count: int
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
        frames = load_masked(source, classifier.preprocessing.size_hw, count).images
        return [frame.read()[0] for frame in frames]
    images = load_images(source, "test", classifier.preprocessing.size_hw, reading=reading_of(classifier, source))
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
