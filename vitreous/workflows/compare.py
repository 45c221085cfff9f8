"""Say which of two runs is better, and how sure that is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.diagnostics.predictions import predict_all
from vitreous.diagnostics.test_set import TestSet, class_difference, open_test_set
from vitreous.errors import InputError
from vitreous.evaluation.comparison import Comparison, compare_predictions
from vitreous.evaluation.comparison import summarize_comparison as sentence
from vitreous.pretrained.load import load
from vitreous.render.plots.comparison import DifferenceDot, History, comparison_figure
from vitreous.runs.run_folder import RunFolder, read_metrics


@dataclass(frozen=True)
class ComparisonResult:
    """Two models compared on the same images."""

    first: str
    """The first run's name: the shortest end of its path that tells the two apart."""
    second: str
    data: str
    split: str
    comparison: Comparison
    unfinished: tuple[str, ...] = ()
    """A line on each run whose training isn't done."""

    @property
    def words(self) -> str:
        """The result in one sentence."""
        return sentence(self.comparison, self.first, self.second)


def compare_runs(
    first: str | Path, second: str | Path, data: str | None = None, *, split: str = "test", device: str = "auto"
) -> ComparisonResult:
    """Compare two runs on the same images: both are asked anew, in float32.

    Args:
        first: a run folder; differences are the second's value minus this one's.
        second: another run folder, with the same classes and data.
        data: another source than the one that both were trained on.
        split: "test", or "validation" while settings are still being chosen.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: the runs have other classes or data than each other, or are the same one.
    """
    if Path(first).resolve() == Path(second).resolve():
        raise InputError(f"{first} and {second} are the same run: name two")
    classifiers, names = [load(model, device) for model in (first, second)], names_of(Path(first), Path(second))
    classes = [classifier.class_names for classifier in classifiers]
    if classes[0] != classes[1]:
        words = class_difference(classes[0], classes[1], names)
        raise InputError(f"the runs have different classes ({words}): they can't be compared")
    exams = [open_test_set(classifier, data, split, device) for classifier in classifiers]
    check_alike(exams[0], exams[1])
    answers = [predict_all(exam.classifier, exam.images) for exam in exams]
    unfinished = tuple(
        f"{name} is {exam.reached.words}"
        for name, exam in zip(names, exams, strict=True)
        if exam.reached and exam.reached.words
    )
    result = compare_predictions(answers[0], answers[1], classes[0])
    return ComparisonResult(*names, exams[0].source, split, result, unfinished)


def check_alike(first: TestSet, second: TestSet) -> None:
    """Refuse two examinations that aren't of the same images."""
    if first.source != second.source:
        raise InputError(
            f"the runs were trained on different images, '{first.source}' and '{second.source}': "
            "name with --data what to compare them on"
        )
    if not first.images.labels.equal(second.images.labels):
        counts = " and ".join(f"{len(exam.images):,}" for exam in (first, second))
        raise InputError(f"the runs hold out different {first.split} images ({counts}): compare them on the test split")


def names_of(first: Path, second: Path) -> tuple[str, str]:
    """The shortest ends of two different paths that tell them apart.

    >>> names_of(Path("/runs/a/x"), Path("/runs/b/x"))
    ('a/x', 'b/x')
    """
    parts = first.resolve().parts, second.resolve().parts
    length = next(n for n in range(1, 1 + max(map(len, parts))) if parts[0][-n:] != parts[1][-n:])
    one, other = ("/".join(some[-length:]) for some in parts)
    return one, other


def draw_comparison(result: ComparisonResult, first: str | Path, second: str | Path, path: Path) -> None:
    """Write a PNG: validation accuracy of both during training, and the difference of each class."""
    histories = [_history(name, model) for name, model in ((result.first, first), (result.second, second))]
    dots = [DifferenceDot(one.name, one.value, *one.interval, one.is_significant) for one in result.comparison.recall]
    comparison_figure(histories, dots, result.words, path)


def _history(name: str, model: str | Path) -> History:
    lines = [line for line in read_metrics(RunFolder(Path(model))) if line["split"] == "validation"]
    table = np.array([(line["epoch"], line["top1"]) for line in lines], np.float64).reshape(-1, 2)
    return History(name, *table.T)
