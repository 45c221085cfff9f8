"""The result of a probe: scores with intervals, and the model that it made."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vitreous.arguments import check_arguments
from vitreous.errors import InputError, unknown
from vitreous.evaluation.intervals import Estimate
from vitreous.files import atomic_folder, require_new_folder, write_text
from vitreous.model.classifier import ImageClassifier
from vitreous.render.plots.probe import ProbeCurve, probe_figure

SETTING_NAMES = {"knn": "k", "logistic": "C"}
"""What validation chooses for each method."""


@dataclass(frozen=True)
class ProbeScore:
    """The accuracy of one method on the test images.

    Attributes:
        method: "knn" or "logistic".
        shots: training images of each class; None for all.
        accuracy: top-1; of several draws, their mean.
        validation_accuracy: with the chosen setting; of several draws, their mean.
        settings: the k, or the C, that validation chose; one for each draw.
        class_mean: the mean of the classes' accuracies; None for few shots.
        classes: the accuracy of each class; empty for few shots.
    """

    method: str
    shots: int | None
    accuracy: Estimate
    validation_accuracy: float
    settings: tuple[float, ...]
    class_mean: Estimate | None = None
    classes: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class ProbeResult:
    """The scores of a probe.

    Attributes:
        model: where the model was loaded from.
        fingerprint: of its weights and preprocessing.
        data: the source of the images.
        class_names: in the order of the labels.
        counts: training, validation and test images.
        width: numbers in a feature vector.
        draws: how often few shots were drawn.
        scores: of each method, few shots first.
        classifier: the model with the linear head of logistic regression; None without one, or for a wrapped module.
    """

    model: str
    fingerprint: str
    data: str
    class_names: tuple[str, ...]
    counts: tuple[int, int, int]
    width: int
    draws: int
    scores: tuple[ProbeScore, ...]
    classifier: ImageClassifier | None = field(default=None, repr=False)

    def score(self, method: str, shots: int | None = None) -> ProbeScore:
        """Return the score of a method, for so many shots or for all training images.

        Raises:
            InputError: it was not measured.
        """
        found = [one for one in self.scores if (one.method, one.shots) == (method, shots)]
        if not found:
            if method not in (methods := {one.method for one in self.scores}):
                raise unknown("method", method, sorted(methods))
            raise InputError(f"{shots} shots of {method} were not measured: give them to probe")
        return found[0]

    @property
    def best(self) -> ProbeScore:
        """The score, with all training images, of the method that is best on the validation images."""
        return max((one for one in self.scores if one.shots is None), key=lambda one: one.validation_accuracy)

    def to_json(self) -> dict[str, object]:
        """Return the scores as plain dictionaries, without the model."""
        content = {name: value for name, value in vars(self).items() if name not in ("classifier", "scores", "counts")}
        images = dict(zip(("training", "validation", "test"), self.counts, strict=True))
        return {**content, "images": images, "scores": [asdict(one) for one in self.scores]}

    @check_arguments
    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write a new folder, whole or not at all, and return the paths of its files.

        It holds probe.json, figures/probe.png and the model, if there is one.

        Raises:
            InputError: the folder holds something, or can't be written.
        """
        path = Path(folder)
        require_new_folder(path)
        with atomic_folder(path) as temporary:
            if self.classifier is not None:
                self.classifier.save(temporary)
            write_text(temporary / "probe.json", json.dumps(self.to_json(), indent=2) + "\n")
            probe_figure(self._curves(), self.best.classes, self._caption(), temporary / "figures" / "probe.png")
        model = (path / "model.safetensors",) if self.classifier is not None else ()
        return (path / "probe.json", path / "figures" / "probe.png", *model)

    def _curves(self) -> list[ProbeCurve]:
        methods = dict.fromkeys(one.method for one in self.scores)
        per_class = (self.counts[0] + self.counts[1]) / len(self.class_names)
        return [
            ProbeCurve(
                method, tuple((one.shots or per_class, one.accuracy) for one in self.scores if one.method == method)
            )
            for method in methods
        ]

    def _caption(self) -> str:
        training, validation, test = self.counts
        return (
            f"{Path(self.model).name}, {self.width} features · {self.data} · {training + validation:,} images to learn "
            f"from ({validation:,} to choose k and C), {test:,} to test on"
        )
