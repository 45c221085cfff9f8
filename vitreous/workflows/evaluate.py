"""Evaluate a model on images that it was not trained on."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback
from vitreous.data.image_set import ImageSet
from vitreous.data.sources import load_images
from vitreous.diagnostics.evaluation_set import (
    EvaluationSet,
    TrainingStatus,
    open_evaluation_set,
    read_options_of,
    status_to_json,
)
from vitreous.diagnostics.predictions import ImageCounter, predict_all
from vitreous.errors import InputError
from vitreous.evaluation.report import (
    ClassificationReport,
    Predictions,
    evaluate_predictions,
    fit_temperature_scaling,
)
from vitreous.files import write_text
from vitreous.model.classifier import ImageClassifier
from vitreous.runs.run_folder import RunFolder
from vitreous.workflows.evaluate_figures import draw_evaluation


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation(ClassificationReport):
    """The metrics of a model, the data they were measured on, and the files that hold them.

    Attributes:
        files: The files written, evaluation.json first; none unless the images are the run's own test images.
        write_error: Why a file could not be written, as one line.
        status: How far the run was trained; None for a model that comes from no run.
    """

    data: str
    split: str
    files: tuple[Path, ...]
    write_error: str | None = None
    status: TrainingStatus | None = None

    def to_json(self) -> dict[str, object]:
        """Return the metrics as plain dictionaries, without the files; without top-5 for five classes or fewer."""
        content = {"data": self.data, "split": self.split, **status_to_json(self.status), **asdict(self)}
        omitted = {"files", "write_error", "status"} | ({"top5", "top5_interval"} if self.top5 is None else set())
        return {key: value for key, value in content.items() if key not in omitted}

    @check_arguments
    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write evaluation.json into a folder, and return its path."""
        path = Path(folder) / "evaluation.json"
        write_text(path, json.dumps(self.to_json(), indent=2) + "\n")
        return (path,)

    def __str__(self) -> str:
        return f"{self.split} split of {self.data}: {super().__str__()}"

    def __repr__(self) -> str:
        return str(self)


@check_arguments
def evaluate(
    model: str | Path | ImageClassifier,
    data: str | None = None,
    *,
    split: str = "test",
    temperature: bool = False,
    skip_unreadable: bool = False,
    device: str = "auto",
    callback: Callback | None = None,
) -> Evaluation:
    """Evaluate a model on a split of its own data, or of other data with the same classes, in float32.

    Each metric comes with its 95 % confidence interval. For a run folder and its own test images, which may have been
    moved, the metrics are also written to the run folder: evaluation.json and, in figures/, confusion.png,
    reliability.png, selective.png and mistakes.png. If that fails, `write_error` of the result says why.

    Args:
        model: a run folder, a model.safetensors file, or a loaded model.
        data: a source such as "cifar10"; by default the one that the model was trained on.
        split: "test", or "validation" while settings are still being chosen.
        temperature: also fit temperature scaling on the run's validation images and measure its effect.
        skip_unreadable: skip images that can't be read and list them. A run that was trained so does it anyway.
        device: "auto", "cpu" or "cuda".
        callback: receives the progress after each batch, and the notes on the model, which are written to the log by
            default. It can't stop the evaluation.

    Raises:
        InputError: the model or data doesn't exist, the classes differ, or there is nothing to fit a temperature on.
    """
    test = open_evaluation_set(model, data, split, device, skip_unreadable=skip_unreadable, callback=callback)
    images = [_validation_images(test), test.images] if temperature else [test.images]
    counter = ImageCounter(sum(map(len, images)), callback or Callback())
    *validation, predictions = [predict_all(test.classifier, one, counter=counter) for one in images]
    report = evaluate_predictions(predictions, test.classifier.class_names)
    if validation:
        report = replace(report, temperature=fit_temperature_scaling(validation[0], predictions))
    result = Evaluation(**vars(report), data=test.source, split=test.split, files=(), status=test.status)
    return result if test.results is None else _save(result, predictions, test.images, test.results)


def _save(result: Evaluation, predictions: Predictions, images: ImageSet, folder: RunFolder) -> Evaluation:
    """Write the files and return the result with their paths, or with the error."""
    files: tuple[Path, ...] = ()
    try:
        files = result.save(folder.path)
        return replace(result, files=(*files, *draw_evaluation(result, predictions, images, folder.figures)))
    except InputError as error:
        return replace(result, files=files, write_error=str(error))


def _validation_images(test: EvaluationSet) -> ImageSet:
    """Load the run's own validation images, on which the temperature is fitted."""
    if test.split != "test":
        raise InputError(
            f"the temperature is fitted on the validation split, so it can't be evaluated on {test.split}: "
            "leave out --split"
        )
    if test.run is None:
        raise InputError("temperature scaling needs the validation images of a run, and this model is not a run folder")
    recipe = test.run.recipe
    source = test.source if test.is_own else recipe.data
    options = read_options_of(test.classifier, test.run, recipe.data)
    input_size = test.classifier.preprocessing.input_size
    return load_images(source, "validation", input_size, recipe.validation_fraction, options)
