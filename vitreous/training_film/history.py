"""What a film and a filmstrip show: the maps of one method, the predictions and the scores of a run, step by step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitreous.errors import InputError, unknown
from vitreous.files import read_json
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.prediction import Prediction
from vitreous.model.serialization import CONFIG
from vitreous.records import from_json
from vitreous.render.color import Scale
from vitreous.runs.run_folder import RunFolder, read_metadata, read_metrics
from vitreous.tasks.registry import find_task
from vitreous.tasks.task import TaskMetric
from vitreous.training_film.kept_maps import FixedImages, KeptStep, read_kept_maps

HIGH_PERCENT = 99.0
"""Of all values of all maps: the upper end of the scale, so that one outlying patch doesn't set it."""


@dataclass(frozen=True)
class MapHistory:
    """The maps of one method, the predictions and the scores of a run, in the order of the kept steps.

    Attributes:
        name: of the recipe.
        data: the source of the images.
        parameters: number of the model's weights.
        method: of the maps.
        images: the fixed images.
        steps: the steps after which maps were kept.
        epochs: the same in epochs.
        maps: float32 (steps, images, rows, columns), where 1 is a uniform map.
        predictions: of each image, after each step; None where the run didn't keep the model's outputs.
        metric: of the task, that is drawn beside the loss.
        metrics: the lines of metrics.jsonl.
        saves_best: whether the run saves the weights of its best validation, which needn't be those of its last step.
    """

    name: str
    data: str
    parameters: int
    method: str
    images: FixedImages
    steps: tuple[int, ...]
    epochs: tuple[float, ...]
    maps: np.ndarray
    predictions: tuple[tuple[Prediction | None, ...], ...]
    metric: TaskMetric
    metrics: Sequence[Mapping[str, Any]]
    saves_best: bool = False

    @cached_property
    def scale(self) -> Scale:
        """The one color scale of all images and steps: from 0, so that a uniform map is as bright everywhere.

        A step is as bright as its values, beside every other one: a map that sharpens is seen to sharpen.
        """
        return Scale(0.0, float(np.percentile(self.maps, HIGH_PERCENT)))

    def truth(self, image: int) -> str | None:
        """Return the label of an image, if that is what the model learns."""
        return None if self.images.truths is None else self.images.truths[image]

    def is_correct(self, at: int, image: int) -> bool | None:
        """Whether a prediction is the image's label; None if that can't be said."""
        prediction = self.predictions[at][image]
        return None if prediction is None else prediction.is_correct(self.truth(image))

    def truth_probability(self, at: int, image: int) -> float | None:
        """Return the probability that the model gives an image's label; None if there is no such thing."""
        prediction, truth = self.predictions[at][image], self.truth(image)
        return None if prediction is None or truth is None else dict(prediction.probabilities).get(truth)

    def select(self, images: Sequence[int]) -> "MapHistory":
        """Return the same for some of the images, in this order, by their numbers from 0.

        Raises:
            InputError: there is no such image, or none is named.
        """
        count, chosen = len(self.images.indexes), list(images)
        if not chosen or any(not 0 <= one < count for one in chosen):
            named = ", ".join(map(str, chosen)) or "none"
            raise InputError(f"images {named}: the run kept {count}; name some of 0 to {count - 1}")
        own = self.images
        truths = None if own.truths is None else tuple(own.truths[one] for one in chosen)
        kept = replace(
            own, images_u8=own.images_u8[chosen], indexes=tuple(own.indexes[one] for one in chosen), truths=truths
        )
        predictions = tuple(tuple(row[one] for one in chosen) for row in self.predictions)
        return replace(self, images=kept, maps=self.maps[:, chosen], predictions=predictions)


def read_map_history(run: str | Path, method: str = "attention") -> MapHistory:
    """Read what a run has kept so far.

    Args:
        run: the run folder.
        method: "attention" or "rollout".

    Raises:
        InputError: it is no run, it kept no maps, none of this method, or a file is damaged.
    """
    histories = read_map_histories(run)
    if method not in histories:
        raise unknown("kept method", method, list(histories))
    return histories[method]


def read_map_histories(run: str | Path) -> dict[str, MapHistory]:
    """Read what a run has kept so far, by each method that it kept.

    Raises:
        InputError: it is no run, it kept no maps, or a file is damaged.
    """
    folder = RunFolder(Path(run))
    metadata = read_metadata(folder)
    kept = read_kept_maps(folder)
    methods = list(kept.steps[0].maps)
    classifier = read_untrained(folder)
    recipe = metadata["recipe"]
    first = MapHistory(
        from_json(str, recipe.get("name"), f"{folder.recipe}: name"),
        from_json(str, recipe.get("data"), f"{folder.recipe}: data"),
        sum(weight.numel() for weight in classifier.vit.parameters()),
        methods[0],
        kept.images,
        tuple(step.step for step in kept.steps),
        tuple(step.epoch for step in kept.steps),
        np.stack([step.maps[methods[0]] for step in kept.steps]),
        tuple(_predictions(classifier, step, len(kept.images.indexes)) for step in kept.steps),
        find_task(classifier.task).metric,
        read_metrics(folder),
        bool(recipe.get("early_stopping_epochs")),
    )
    others = {one: replace(first, method=one, maps=np.stack([step.maps[one] for step in kept.steps]))
              for one in methods[1:]}  # fmt: skip
    return {methods[0]: first, **others}


def read_untrained(folder: RunFolder) -> ImageClassifier:
    """Build the classifier of a run without its weights, which a run that has only begun lacks.

    Raises:
        InputError: config.json is missing or damaged.
    """
    origin = str(folder.path / CONFIG)
    content = read_json(folder.path / CONFIG)
    task = find_task(from_json(str, content.get("task", ImageClassifier.task), f"{origin}: task"))
    config = from_json(ViTConfig, content.get("model"), origin)
    preprocessing = from_json(Preprocessing, content.get("preprocessing"), origin)
    names = from_json(tuple[str, ...], content.get("class_names"), f"{origin}: class_names")
    with torch.device("meta"):
        vit = task.model_type.make_model(config)
    return task.model_type(vit, preprocessing, names, content.get("problem_type"), content.get("function_to_apply"))


def _predictions(classifier: ImageClassifier, kept: KeptStep, count: int) -> tuple[Prediction | None, ...]:
    if kept.outputs is None:
        return (None,) * count
    return tuple(classifier.postprocess(torch.from_numpy(kept.outputs)))
