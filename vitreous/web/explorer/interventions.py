"""Interventions: patches that a model doesn't see, heads that are switched off, and the measured change."""

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitreous.diagnostics.patch_masking import MaskFill, mask_images, mask_patches
from vitreous.errors import InputError, unknown
from vitreous.explanation.ablation import ablate_heads
from vitreous.explanation.regions import PixelRegion
from vitreous.explanation.target_parsing import find_target
from vitreous.imaging.geometry import MAX_PATCHES
from vitreous.model.classifier import ImageClassifier
from vitreous.records import from_json
from vitreous.tasks.classification.targets import ClassTarget
from vitreous.tasks.registry import find_task
from vitreous.tasks.targets import RegionTarget, Target
from vitreous.web.explorer.attention_export import describe_prediction, export_attention
from vitreous.web.jobs.queue import JobResult

MAX_HEADS = 4096


@dataclass(frozen=True)
class Intervention:
    """What a person changes of the input and of the model.

    Attributes:
        masked: numbers of the masked patches, row by row from 0.
        fill: what masked pixels become, as `mask_patches` takes it.
        heads: (layer, head) of the heads that are switched off, as `ablate_heads` takes them.
        target: whose score is compared, as `explain` takes it as text; None for the class that is predicted before, or
            for the similarity of the features to those before.
    """

    masked: tuple[int, ...] = ()
    fill: MaskFill = "mean"
    heads: tuple[tuple[int, int], ...] = ()
    target: str | None = None


def read_intervention(values: object) -> Intervention | None:
    """Check what a request says; nothing is nothing to change.

    Raises:
        InputError: a value has a wrong type or is out of range, or there are too many.
    """
    if values is None:
        return None
    found = from_json(Intervention, values, "intervention")
    names = [field.name for field in fields(Intervention)]
    if isinstance(values, Mapping) and (other := next((name for name in values if name not in names), None)):
        raise unknown("field of intervention", other, names)
    for name, count, limit in (("masked", len(found.masked), MAX_PATCHES), ("heads", len(found.heads), MAX_HEADS)):
        if count > limit:
            raise InputError(f"intervention: {name} has {count} entries, the limit is {limit}: give fewer")
    numbers = [*found.masked, *(number for pair in found.heads for number in pair)]
    if not all(0 <= number < MAX_PATCHES for number in numbers):
        raise InputError(f"intervention: numbers of patches, layers and heads are counted from 0, below {MAX_PATCHES}")
    if not numbers:
        raise InputError("intervention: nothing is changed: name masked patches or heads, or leave it out")
    return found


@contextmanager
def applied(classifier: ImageClassifier, image_u8: np.ndarray, intervention: Intervention | None) -> Generator[None]:
    """Run the model on a changed input, without the heads that are switched off, inside the context.

    Raises:
        InputError: there is no such patch, layer or head.
    """
    with ExitStack() as stack:
        if intervention is not None and intervention.masked:
            mask = intervention_mask(classifier, classifier.preprocess(image_u8)[0], intervention)
            stack.enter_context(mask_patches(classifier, mask, fill=intervention.fill))
        if intervention is not None and intervention.heads:
            stack.enter_context(ablate_heads(classifier, intervention.heads))
        yield


def intervention_mask(classifier: ImageClassifier, pixels: Tensor, intervention: Intervention) -> np.ndarray:
    """Return the mask of the patches of an input (channels, height, width): bool (rows, columns).

    Raises:
        InputError: there is no such patch.
    """
    rows, columns = (-(-side // classifier.preprocessing.patch_size) for side in pixels.shape[1:])
    mask = np.zeros((rows, columns), bool)
    if (largest := max(intervention.masked, default=0)) >= mask.size:
        raise InputError(f"there is no patch {largest}: the input has {rows} x {columns} patches, counted from 0")
    mask.flat[list(intervention.masked)] = True
    return mask


def export_changed_attention(
    classifier: ImageClassifier, image_u8: np.ndarray, intervention: Intervention
) -> JobResult:
    """Return the attention for the changed input, as `export_attention`, and how the prediction has changed.

    After the matrices the data hold the input that the model got, uint8 (height, width, 3).
    """
    measured = MeasuredChange(classifier, image_u8, intervention)
    with applied(classifier, image_u8, intervention):
        exported = export_attention(classifier, image_u8, measured.describe)
    changed = measured.changed_input()
    size = {"input_height": changed.shape[0], "input_width": changed.shape[1]}
    return JobResult(exported.description | size, exported.data + changed.tobytes())


class MeasuredChange:
    """Runs a model on the unchanged image, and then compares its outputs for the changed one.

    Raises:
        InputError: there is no such target, or it is a region, whose score is not read from the outputs.
    """

    @torch.no_grad()
    def __init__(self, classifier: ImageClassifier, image_u8: np.ndarray, intervention: Intervention) -> None:
        self.classifier, self.intervention = classifier, intervention
        self.pixels = classifier.preprocess(image_u8)[0]
        self.before = classifier.model(self.pixels[None])
        found = None if intervention.target is None else find_target(classifier, intervention.target)
        if isinstance(found, RegionTarget | PixelRegion):
            raise InputError("the score of a region can't be compared: choose a class, or leave the target out")
        self.target: Target | None = found

    def describe(self, after: Tensor) -> dict[str, object]:
        """Describe for JSON how the outputs (1, classes) have changed, with the prediction before."""
        classifier, outputs, target = self.classifier, (self.before, after), self.target
        predictions = [classifier.postprocess(one)[0] for one in outputs]
        if target is None and classifier.class_names:
            target = ClassTarget(classifier.class_index(predictions[0].label), predictions[0].label)
        if target is None:
            name, unit = "the image's own features", "cosine similarity"
            scores = [float(functional.cosine_similarity(one, self.before)[0]) for one in outputs]
        else:
            name, unit, score = target.name, self._unit(target), find_task(classifier.task).score_target
            pairs = zip(outputs, predictions, strict=True)
            scores = [score(classifier, target, one, [prediction])[0] for one, prediction in pairs]
        before, after_score = scores
        prediction = describe_prediction(predictions[0])
        return {
            "change": {"target": name, "unit": unit, "before": before, "after": after_score, "prediction": prediction}
        }

    def _unit(self, target: Target) -> str:
        """Name what the score of a target is."""
        is_score = isinstance(target, ClassTarget) and bool(self.classifier.class_names)
        if is_score:
            return "value" if self.classifier.problem_type == "regression" else "probability"
        return "score"

    def changed_input(self) -> np.ndarray:
        """Return what the model gets, without the normalization: uint8 (height, width, 3)."""
        mask = intervention_mask(self.classifier, self.pixels, self.intervention)
        preprocessing = self.classifier.preprocessing
        changed = (
            mask_images(self.pixels[None], mask, preprocessing.patch_size, self.intervention.fill)[0].float().cpu()
        )
        mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
        colors = (changed * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
        return colors.expand(-1, -1, 3).contiguous().numpy()
