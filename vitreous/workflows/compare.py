"""Compare two models on the same images: which one is better, and whether the difference is significant."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback
from vitreous.diagnostics.evaluation_set import EvaluationSet, open_evaluation_set
from vitreous.diagnostics.predictions import ImageCounter, check_classifier, predict_all
from vitreous.errors import InputError
from vitreous.evaluation.comparison import Comparison, compare_predictions, summarize_comparison
from vitreous.files import check_writable
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.render.plots.comparison import AccuracyHistory, ClassDifference, comparison_figure
from vitreous.runs.run_folder import RunFolder, read_metrics
from vitreous.tasks.classification.evaluation import class_difference


@dataclass(frozen=True, repr=False)
class ComparisonResult:
    """Two models compared on the same images.

    Attributes:
        first: Name of the first model: the shortest end of its path that distinguishes the two, or "first model".
        unfinished: A line on each run whose training isn't finished.
        folders: The folders that the models come from; None for a model without one.
    """

    first: str
    second: str
    data: str
    split: str
    comparison: Comparison
    unfinished: tuple[str, ...]
    folders: tuple[Path | None, Path | None]

    @property
    def summary(self) -> str:
        """The result in one sentence."""
        return summarize_comparison(self.comparison, self.first, self.second)

    def to_json(self) -> dict[str, object]:
        """Return the comparison as JSON values."""
        values = asdict(self)
        del values["folders"]
        return {**values, "summary": self.summary}

    @check_arguments
    def save(self, path: str | Path) -> None:
        """Write a PNG: validation accuracy of both runs during training, and the difference of each class."""
        check_png(path)
        histories = [
            _history(name, folder) for name, folder in zip((self.first, self.second), self.folders, strict=True)
        ]
        classes = [
            ClassDifference(one.name, one.value, *one.interval, one.is_significant) for one in self.comparison.recall
        ]
        comparison_figure(histories, classes, self.summary, path)

    def __repr__(self) -> str:
        return f"ComparisonResult({self.summary})"


@check_arguments
def compare(
    first: str | Path | ImageClassifier,
    second: str | Path | ImageClassifier,
    data: str | None = None,
    *,
    split: str = "test",
    device: str = "auto",
    callback: Callback | None = None,
) -> ComparisonResult:
    """Compare two models on the same images; both predict them anew, in float32.

    Args:
        first: a run folder, a weights file, or a loaded model.
        second: another one, with the same classes. Differences are its value minus the first one's.
        data: a source such as "cifar10"; by default the one that both were trained on.
        split: "test", or "validation" while settings are still being chosen.
        device: "auto", "cpu" or "cuda".
        callback: receives the progress after each batch, and the notes on the models, which are written to the log by
            default. It can't stop the comparison.

    Raises:
        InputError: the models have different classes or different data, or are the same model.
    """
    check_different(first, second)
    classifiers = [load(model, device, callback=callback) for model in (first, second)]
    for classifier in classifiers:
        check_classifier(classifier)
    folders = _origin(classifiers[0]), _origin(classifiers[1])
    names = distinct_names(*folders)
    classes = [classifier.class_names for classifier in classifiers]
    if classes[0] != classes[1]:
        difference = class_difference(classes[0], classes[1], names)
        raise InputError(f"the models have different classes ({difference}): they can't be compared")
    sets = [open_evaluation_set(classifier, data, split, device) for classifier in classifiers]
    check_same_images(sets[0], sets[1])
    counter = ImageCounter(sum(len(one.images) for one in sets), callback or Callback())
    predictions = [predict_all(one.classifier, one.images, counter=counter) for one in sets]
    unfinished = tuple(
        f"{name} is {one.status.message}"
        for name, one in zip(names, sets, strict=True)
        if one.status and one.status.message
    )
    comparison = compare_predictions(predictions[0], predictions[1], classes[0])
    return ComparisonResult(*names, sets[0].source, sets[0].split, comparison, unfinished, folders)


def check_png(path: str | Path) -> None:
    """Refuse a name for the figure that doesn't end in .png, or can't be written.

    Raises:
        InputError: it ends otherwise, or no file can be created there.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path} is not a PNG file: choose a name that ends in .png")
    check_writable(path)


def check_different(first: str | Path | ImageClassifier, second: str | Path | ImageClassifier) -> None:
    """Refuse to compare a model with itself. Two loaded models may come from one folder: one may be quantized.

    Raises:
        InputError: both are the same object or the same path.
    """
    if first is second and isinstance(first, ImageClassifier):
        raise InputError("both models are the same object: give two different ones")
    if (
        isinstance(first, str | Path)
        and isinstance(second, str | Path)
        and Path(first).resolve() == Path(second).resolve()
    ):
        raise InputError(f"{first} and {second} are the same model: give two different ones")


def check_same_images(first: EvaluationSet, second: EvaluationSet) -> None:
    """Refuse to compare models on different images.

    Raises:
        InputError: the sources or the labels differ.
    """
    if first.source != second.source:
        raise InputError(
            f"the models were trained on different images, '{first.source}' and '{second.source}': "
            "name the images to compare them on with --data"
        )
    if not first.images.labels.equal(second.images.labels):
        counts = " and ".join(f"{len(one.images):,}" for one in (first, second))
        raise InputError(f"the runs hold out different {first.split} images ({counts}): compare them on the test split")


def distinct_names(first: Path | None, second: Path | None) -> tuple[str, str]:
    """Return the shortest ends of two paths that distinguish them; numbers for the same or unknown paths.

    >>> distinct_names(Path("/runs/a/x"), Path("/runs/b/x")), distinct_names(Path("/runs/a/x"), None)
    (('a/x', 'b/x'), ('first model', 'second model'))
    """
    if first is None or second is None or first.resolve() == second.resolve():
        return "first model", "second model"
    parts = first.resolve().parts, second.resolve().parts
    length = next(n for n in range(1, 1 + max(map(len, parts))) if parts[0][-n:] != parts[1][-n:])
    one, other = ("/".join(path[-length:]) for path in parts)
    return one, other


def _origin(classifier: ImageClassifier) -> Path | None:
    return None if classifier.origin is None else Path(classifier.origin)


def _history(name: str, folder: Path | None) -> AccuracyHistory:
    """Read the validation accuracy of a run; empty for a model that comes from no run."""
    metrics = [] if folder is None else read_metrics(RunFolder(folder))
    lines = [line for line in metrics if line["split"] == "validation"]
    table = np.array([(line["epoch"], line["top1"]) for line in lines], np.float64).reshape(-1, 2)
    return AccuracyHistory(name, *table.T)
