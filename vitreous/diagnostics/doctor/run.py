"""Diagnose a model: measure its statistics on images, run every check, and write the result.

Every threshold is a named constant in checks_tokens.py, checks_heads.py or checks_maps.py. "Measured" there means on
healthy models: a ViT of 4 layers trained on `shapes`, one of 6 on CIFAR-10, one of 4 on MNIST, and DINOv2 ViT-S/14
(LOG.md).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback
from vitreous.data.folder import IMAGE_EXTENSIONS
from vitreous.data.masks import load_masked
from vitreous.data.sources import absolute_source, evaluation_split, load_images
from vitreous.diagnostics.doctor.checks_heads import (
    check_attention_sinks,
    check_dead_heads,
    check_query_independent_heads,
    check_redundant_heads,
    check_uniform_heads,
    describe_attention_distance,
)
from vitreous.diagnostics.doctor.checks_maps import check_artifact_patches, check_rollout_collapse
from vitreous.diagnostics.doctor.checks_tokens import (
    check_idle_blocks,
    check_layer_scale,
    check_outlier_tokens,
    check_token_collapse,
)
from vitreous.diagnostics.doctor.findings import Finding, pluralize
from vitreous.diagnostics.doctor.measure import collect_statistics
from vitreous.diagnostics.doctor.statistics import ModelStatistics
from vitreous.diagnostics.evaluation_set import TrainingRun, read_options_of, training_run, training_source
from vitreous.errors import InputError
from vitreous.files import write_text
from vitreous.imaging.reading import as_image_u8, open_image
from vitreous.model.classifier import ImageClassifier, ImageInput
from vitreous.model.vit import ViT
from vitreous.pretrained.fingerprint import weights_fingerprint
from vitreous.pretrained.load import load

CHECKS = (
    check_outlier_tokens,
    check_rollout_collapse,
    check_artifact_patches,
    check_token_collapse,
    check_dead_heads,
    check_uniform_heads,
    check_attention_sinks,
    check_query_independent_heads,
    check_redundant_heads,
    check_idle_blocks,
    check_layer_scale,
    describe_attention_distance,
)
"""Every check maps the statistics of a model to one finding."""
Check = Callable[[ModelStatistics], Finding]
TOKEN_CHECKS: dict[Check, str] = {
    check_outlier_tokens: "outlier tokens",
    check_token_collapse: "token collapse",
    check_idle_blocks: "idle blocks",
    check_layer_scale: "LayerScale",
}
"""Checks that need the tokens between the blocks, or the blocks themselves, and their topics."""
ROLLOUT_CHECKS: dict[Check, str] = {
    check_rollout_collapse: "rollout collapse",
    check_artifact_patches: "artifact patches in rollout",
}
"""Checks that need rollout, and their topics."""
LEVELS = ("fault", "note", "ok", "unknown")
DEFAULT_COUNT = 16


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """The findings of the doctor, and the statistics and images that they are based on.

    Attributes:
        findings: Faults first.
        images_u8: The images that the model was measured on, each uint8 (height, width, 3).
        weights: Fingerprint of the weights and the preprocessing.
        data: Source of the images; empty for images that were given.
        split: Of the source; empty if it has none.
    """

    model: str
    findings: tuple[Finding, ...]
    statistics: ModelStatistics
    images_u8: tuple[np.ndarray, ...]
    weights: str = ""
    data: str = ""
    split: str = ""

    @property
    def faults(self) -> int:
        """Number of checks that found a fault."""
        return sum(one.level == "fault" for one in self.findings)

    @property
    def summary(self) -> str:
        """The size of the model, the number of images and the number of faults, in one line."""
        heads = pluralize(self.statistics.num_heads, "head")
        images = pluralize(len(self.images_u8), "image")
        faults = pluralize(self.faults, "fault") if self.faults else "no faults"
        return f"{self.model}: {self.statistics.depth} layers of {heads}, {images} · {faults}"

    def to_json(self) -> dict[str, object]:
        """Return the diagnosis as plain dictionaries, without the statistics of single images."""
        statistics = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self.statistics).items()
            if name != "images"
        }
        return {
            "model": self.model,
            "weights": self.weights,
            "data": self.data,
            "split": self.split,
            "images": len(self.images_u8),
            "faults": self.faults,
            "findings": [asdict(one) for one in self.findings],
            "statistics": statistics,
        }

    @check_arguments
    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write doctor.json and the page doctor.html into a folder, and return both paths."""
        from vitreous.diagnostics.doctor.page import write_doctor_page  # which imports this module

        path = Path(folder) / "doctor.json"
        write_text(path, json.dumps(self.to_json(), indent=2) + "\n")
        return path, write_doctor_page(self, Path(folder))

    def __repr__(self) -> str:
        return "\n".join([self.summary, *(f"  {finding}" for finding in self.findings)])


@check_arguments
def doctor(
    model: str | Path | ImageClassifier | ViT,
    images: ImageInput | Sequence[ImageInput] = (),
    *,
    data: str | None = None,
    count: int = DEFAULT_COUNT,
    device: str = "auto",
    callback: Callback | None = None,
) -> Diagnosis:
    """Check a model for outlier tokens, dead heads, idle blocks and uninformative maps.

    Args:
        model: anything that `load` takes. Of a wrapped model, which doesn't expose its tokens, only the attention is
            checked.
        images: the image or images to measure on; by default the first of `data`.
        data: a source, of which the test images are taken, a folder of images, or "masks:DIR"; by default the data that
            the model was trained on.
        count: number of images of the source.
        device: "auto", "cpu" or "cuda".
        callback: receives the progress, and may stop the measurement after any image.

    Raises:
        InputError: the model, an image or the source doesn't exist, or the model's training data is unknown.
    """
    if isinstance(images, str) or not isinstance(images, Sequence):
        images = [images]
    if images and data:
        raise InputError("both images and data were given: leave one out")
    if count < 1:
        raise InputError(f"a count of {count} is too small: give at least 1 image")
    classifier = load(model, device)
    run = training_run(classifier)
    images_u8, source, split = [as_image_u8(image) for image in images], "", ""
    if not images_u8:
        images_u8, source, split = load_sample(classifier, run, data, count)
    statistics = collect_statistics(classifier, images_u8, callback)
    name = str(model) if isinstance(model, str | Path) else "the model"
    shown = tuple(images_u8[: len(statistics.images)])
    return Diagnosis(name, diagnose(statistics), statistics, shown, weights_fingerprint(classifier), source, split)


def diagnose(statistics: ModelStatistics) -> tuple[Finding, ...]:
    """Run every check and return the findings, faults first."""
    return tuple(sorted((_run(check, statistics) for check in CHECKS), key=lambda one: LEVELS.index(one.level)))


def _run(check: Check, statistics: ModelStatistics) -> Finding:
    """Run a check, if what it needs could be measured on this model."""
    if check in TOKEN_CHECKS and not statistics.has_tokens:
        message = "A wrapped model doesn't expose its tokens and blocks: this can't be measured."
        return Finding(TOKEN_CHECKS[check], "unknown", message)
    if check in ROLLOUT_CHECKS and not statistics.has_rollout:
        message = "Attention can't be multiplied through the layers of this model: it has no rollout."
        return Finding(ROLLOUT_CHECKS[check], "unknown", message)
    return check(statistics)


def load_sample(
    classifier: ImageClassifier, run: TrainingRun | None, data: str | None, count: int
) -> tuple[list[np.ndarray], str, str]:
    """Load images of a source, by default of the data that the model was trained on.

    Takes the first images of a plain folder, frames spaced evenly over "masks:DIR", the first test images of others.

    Returns:
        The images, the source, and the split they are from, empty if the source has none.
    """
    remedy = "name images after the model, or a source with --data"
    source = data or training_source(run, classifier, remedy)
    if files := list_folder(source):
        return [open_image(path) for path in files[:count]], source, ""
    input_size = classifier.preprocessing.input_size
    if source.startswith("masks:"):
        return [frame.read()[0] for frame in load_masked(source, input_size, count).images], source, ""
    options = read_options_of(classifier, run, source)
    split = evaluation_split(source, "test", options.on_note)
    images = load_images(source, split, input_size, options=options)
    pixels = images.images_u8[:count].expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
    return list(pixels), absolute_source(source), split


def list_folder(source: str) -> list[Path]:
    """List the images directly in "DIR" or "folder:DIR", sorted by name; empty for any other source."""
    folder = Path(source.removeprefix("folder:")).expanduser()
    return (
        sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_EXTENSIONS) if folder.is_dir() else []
    )
