"""Explain images with several methods, and say why some of them can't."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from vitreous.callbacks import Callback, Progress
from vitreous.errors import InputError
from vitreous.explanation.explain import resolve_task, run_task
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.regions import PixelRegion, Region
from vitreous.explanation.registry import METHODS
from vitreous.explanation.result import Explanation
from vitreous.explanation.target_parsing import find_target
from vitreous.model.classifier import ImageClassifier
from vitreous.tasks.targets import Target


def explain_with_methods(
    classifier: ImageClassifier,
    images: Sequence[np.ndarray],
    options: Mapping[str, MethodOptions],
    callback: Callback,
    target: str | Target | PixelRegion | None = None,
    query: Region | None = None,
) -> tuple[dict[str, list[Explanation]], dict[str, str]]:
    """Explain images with several methods.

    Args:
        classifier: the model.
        images: uint8 (height, width, 3) each.
        options: the options of each method, by its name.
        callback: receives the number of methods done; it can stop the work.
        target: what the maps explain.
        query: as in `resolve_task`, for the methods that use one.

    Returns:
        For each method by name the explanations of all images, up to where the callback stopped; and the reason of each
        method that can't explain this model or target.

    Raises:
        InputError: no method can, or there is no such target.
    """
    columns, refused, found = {}, {}, None if target is None else find_target(classifier, target)
    for i, (name, chosen) in enumerate(options.items()):
        if callback.should_stop():
            break
        callback.on_progress(Progress(i, len(options), f"{name}, method {i + 1} of {len(options)}"))
        used_query = query if "query" in METHODS[name].options else None
        try:
            columns[name] = run_task(classifier, images, resolve_task(classifier, name, chosen, found, used_query))
        except InputError as error:
            refused[name] = str(error)
    else:
        callback.on_progress(Progress(len(options), len(options), f"{len(options)} methods"))
        if not columns:
            raise InputError("no method applies: " + "; ".join(dict.fromkeys(refused.values())))
    return columns, refused


def describe_refused(refused: Mapping[str, str]) -> str:
    """List the methods that are missing, grouped by reason, without the advice at the end of the reasons.

    >>> describe_refused({"legrad": "no norm: try rollout", "rise": "no norm: try rollout", "grad-cam": "no tokens"})
    '; without legrad, rise: no norm; without grad-cam: no tokens'
    """
    names: dict[str, list[str]] = {}
    for name, reason in refused.items():
        names.setdefault(re.split("[:;] ", reason)[0], []).append(name)
    return "".join(f"; without {', '.join(each)}: {reason}" for reason, each in names.items())
