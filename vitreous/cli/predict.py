"""vitreous predict"""

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli import EXIT_TRUNCATED, print_error
from vitreous.cli.console import print_line, progress
from vitreous.cli.flags import Flag, JsonFlag, ModelName
from vitreous.cli.options import MODEL_GROUP, OUTPUT_GROUP, InputOptions
from vitreous.errors import InputError

if TYPE_CHECKING:
    from vitreous.workflows.predict import PredictedFile


def predict(
    model: Annotated[ModelName, Parameter(group=MODEL_GROUP)],
    /,
    *images: Annotated[Path, Parameter(group=MODEL_GROUP)],
    inputs: InputOptions = InputOptions(),
    top_k: Annotated[int, Parameter(group=OUTPUT_GROUP)] = 5,
    json_: Annotated[JsonFlag, Parameter(group=OUTPUT_GROUP)] = False,
    csv_: Annotated[Flag, Parameter(name="--csv", group=OUTPUT_GROUP)] = False,
) -> int:
    """Predict the labels of images, with their scores.

    The exit code is 3 if one of several images can't be read; the others are predicted.

    Args:
        images: Image files, or folders of them.
        top_k: Number of labels per image.
        json_: Print all predictions as one JSON object.
        csv_: Print the predictions as CSV: image, rank, label, score.
    """
    from vitreous.workflows.predict import predict_files

    if not images:
        raise InputError("no image is named: name image files after the model, or a folder of them")
    if top_k < 1 or (json_ and csv_):
        raise InputError(f"--top-k is {top_k}: give 1 or more" if top_k < 1 else "--json and --csv: give one of them")
    classifier, predicted = inputs.load(model), []
    with progress("predicting") as callback:
        for one in predict_files(classifier, images, callback):
            predicted.append(one)
            if one.reason is not None:
                print_error(one.reason)
            elif not (json_ or csv_):
                print_line(f"{one.path}: {format_scores(one, top_k)}")
    if json_:
        print_line(json.dumps({"images": [prediction_values(one, top_k) for one in predicted]}))
    if csv_:
        print_csv(predicted, top_k)
    return EXIT_TRUNCATED if any(one.reason is not None for one in predicted) else 0


def format_scores(one: "PredictedFile", top_k: int) -> str:
    """Return the labels with their scores, highest first: "cat 93.0 %, dog 7.0 %"."""
    if one.prediction is None:
        return ""
    scores = one.prediction.top_k(top_k)
    return ", ".join(f"{label} {one.prediction.format_score(score)}" for label, score in scores)


def prediction_values(one: "PredictedFile", top_k: int) -> dict[str, object]:
    """Return a prediction, or the reason why there is none, as plain values."""
    if one.prediction is None:
        return {"image": str(one.path), "error": one.reason}
    scores = [{"label": label, "score": score} for label, score in one.prediction.top_k(top_k)]
    return {"image": str(one.path), "prediction": scores}


def print_csv(predicted: "list[PredictedFile]", top_k: int) -> None:
    """Print one row per image and label on standard output."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("image", "rank", "label", "score"))
    for one in predicted:
        scores = () if one.prediction is None else one.prediction.top_k(top_k)
        writer.writerows((one.path, rank, label, score) for rank, (label, score) in enumerate(scores, 1))
