"""A model from wherever it lies, ready to answer on real pictures."""

from pathlib import Path

from vitreous.runtime import find_device
from vitreous.tasks.classification import Classifier
from vitreous.tasks.saved import load_classifier


def load(model: str | Path | Classifier, device: str = "auto") -> Classifier:
    """The model in a run folder or a model.safetensors file; one that is loaded already is returned as it is.

    Args:
        model: a run folder such as "runs/quick", or the path of a model.safetensors beside its config.json.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".

    Raises:
        InputError: there is no model, or its files are damaged.
    """
    return model if isinstance(model, Classifier) else load_classifier(model, find_device(device))
