"""Compare two models on the same images: which one is better, and whether the difference is significant."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback
from vitreous.diagnostics.paired_models import check_different, open_pair
from vitreous.diagnostics.predictions import ImageCounter, check_classifier, predict_all
from vitreous.errors import InputError
from vitreous.evaluation.comparison import Comparison, compare_predictions, summarize_comparison
from vitreous.files import check_writable
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.render.plots.comparison import AccuracyHistory, ClassDifference, comparison_figure
from vitreous.runs.run_folder import RunFolder, read_metrics


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
    classifiers = load(first, device, callback=callback), load(second, device, callback=callback)
    for classifier in classifiers:
        check_classifier(classifier)
    pair = open_pair(classifiers, data, split, device, callback)
    counter = ImageCounter(sum(len(one.images) for one in pair.sets), callback or Callback())
    predictions = [predict_all(one.classifier, one.images, counter=counter) for one in pair.sets]
    comparison = compare_predictions(predictions[0], predictions[1], pair.sets[0].classifier.class_names)
    test = pair.sets[0]
    return ComparisonResult(*pair.names, test.source, test.split, comparison, pair.unfinished, pair.folders)


def check_png(path: str | Path) -> None:
    """Refuse a name for the figure that doesn't end in .png, or can't be written.

    Raises:
        InputError: it ends otherwise, or no file can be created there.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path} is not a PNG file: choose a name that ends in .png")
    check_writable(path)


def _history(name: str, folder: Path | None) -> AccuracyHistory:
    """Read the validation accuracy of a run; empty for a model that comes from no run."""
    metrics = [] if folder is None else read_metrics(RunFolder(folder))
    lines = [line for line in metrics if line["split"] == "validation"]
    table = np.array([(line["epoch"], line["top1"]) for line in lines], np.float64).reshape(-1, 2)
    return AccuracyHistory(name, *table.T)
