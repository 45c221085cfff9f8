"""The model that another one is compared with: the one that its run started from, or any that is named."""

from dataclasses import replace
from pathlib import Path

from vitreous.callbacks import Callback
from vitreous.diagnostics.evaluation_set import training_run
from vitreous.errors import InputError
from vitreous.explanation.model_pair import ModelPair
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT
from vitreous.pretrained.fingerprint import parameters_fingerprint
from vitreous.pretrained.load import load, with_input_size
from vitreous.training.from_weights import read_init


def load_pair(after: ImageClassifier, before: str | Path | ImageClassifier | None, callback: Callback) -> ModelPair:
    """Load the model before, on the device of the model after, for the same part of an image at the same size.

    Its normalization stays its own. If its patches or positions don't fit that size, it keeps its own, and a note
    says so.

    Args:
        after: the tuned model.
        before: whatever `load` takes, or a loaded model; None for the model that the run of `after` started from.
        callback: receives notes.

    Raises:
        InputError: there is no such model, it has other weights now than when the run started, or it takes images of
            another number of channels.
    """
    found = _load_init(after, callback) if before is None else load(before, after.device, callback=callback)
    channels = len(found.preprocessing.mean), len(after.preprocessing.mean)
    if channels[0] != channels[1]:
        raise InputError(
            f"{_name(found)} takes images of {channels[0]} channel(s), {_name(after)} of {channels[1]}: their maps "
            "aren't of the same image; compare models with the same number"
        )
    return ModelPair(_with_input_of(found, after, callback), after)


def _load_init(after: ImageClassifier, callback: Callback) -> ImageClassifier:
    """Load the model that a run started from.

    Raises:
        InputError: it is unknown, can't be loaded, or has other weights now.
    """
    run = training_run(after)
    if run is None:
        raise InputError(
            f"{_name(after)} is no run folder, so the model that it started from is unknown: name it with --before"
        )
    name, known = run.recipe.init, read_init(run.metadata, run.folder)
    if not name or known is None:
        raise InputError(
            f"{run.folder.path} was trained from random weights, not from a model (--init): name a model to compare "
            "it with, by --before"
        )
    try:
        init = load(name, after.device, callback=callback)
    except InputError as error:
        raise InputError(f"the model that {run.folder.path} started from can't be loaded: {error}") from error
    found = parameters_fingerprint(init.model) if isinstance(init.model, ViT) else "of another kind"
    if found != known.fingerprint:
        raise InputError(
            f"'{name}', which {run.folder.path} started from, has other weights now (fingerprint {found}, then "
            f"{known.fingerprint}): restore them, or compare with --before '{name}' as it is"
        )
    return init


def _with_input_of(before: ImageClassifier, after: ImageClassifier, callback: Callback) -> ImageClassifier:
    """Return the model with the input size, resize mode and crop of another one, if it can take them."""
    own, other = before.preprocessing, after.preprocessing
    is_same = (own.input_size, own.resize_mode) == (other.input_size, other.resize_mode)
    try:
        resized = before if is_same else with_input_size(before, other.input_size, other.resize_mode, callback)
    except InputError as error:
        height, width = own.input_size
        reason = str(error).partition(": ")[0]
        callback.on_note(f"{_name(before)} gets images of its own input size, {height} × {width}: {reason}")
        return before
    return resized.replace(preprocessing=replace(resized.preprocessing, crop_pct=other.crop_pct))


def _name(classifier: ImageClassifier) -> str:
    return classifier.origin or "the model"
