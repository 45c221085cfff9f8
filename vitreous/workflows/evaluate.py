"""Evaluate a model on images that it was not trained on."""

from dataclasses import replace
from pathlib import Path

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback
from vitreous.data.image_set import ImageSet
from vitreous.data.sources import load_images
from vitreous.diagnostics.evaluation_set import EvaluationSet, open_evaluation_set, read_options_of
from vitreous.diagnostics.predictions import ImageCounter, compute_outputs
from vitreous.errors import InputError
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.fingerprint import weights_fingerprint
from vitreous.runs.run_folder import RunFolder
from vitreous.tasks.evaluation import Evaluation
from vitreous.tasks.registry import find_task
from vitreous.tasks.task import Outputs


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
    task = find_task(test.classifier.task)
    if temperature and not task.can_calibrate:
        raise InputError(f"a temperature can't be fitted for the task {task.name}: leave out --temperature")
    images = [_validation_images(test), test.images] if temperature else [test.images]
    counter = ImageCounter(sum(map(len, images)), callback or Callback())
    *validation, outputs = [compute_outputs(test.classifier, one, counter=counter) for one in images]
    found = task.evaluate(test.classifier, outputs, validation[0] if validation else None)
    weights = weights_fingerprint(test.classifier)
    result = replace(found, data=test.source, split=test.split, weights=weights, status=test.status)
    return result if test.results is None else _save(result, test.classifier, outputs, test.results)


def _save(result: Evaluation, classifier: ImageClassifier, outputs: Outputs, folder: RunFolder) -> Evaluation:
    """Write the files and return the result with their paths, or with the error."""
    files: tuple[Path, ...] = ()
    draw = find_task(classifier.task).draw_figures
    try:
        files = result.save(folder.path)
        return replace(result, files=(*files, *draw(classifier, result, outputs, folder.figures)))
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
    return load_images(source, "validation", input_size, recipe.hold_out, options)
