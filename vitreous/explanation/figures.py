"""Show what a model looks at on images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from vitreous.explanation.coordinates import patch_mask
from vitreous.explanation.method import Method
from vitreous.explanation.options import patches_in_query
from vitreous.explanation.registry import METHODS
from vitreous.explanation.result import Explanation
from vitreous.explanation.targets import RegionTarget
from vitreous.model.classifier import Prediction
from vitreous.render.color import Scale
from vitreous.render.sheet import GalleryItem, Legend, draw_explanation, gallery

ALIKE = "patches of like color hold like features"


def draw_explanation_figure(explanation: Explanation, truth: str | None = None) -> Image.Image:
    """An image to show to others: input and overlay side by side, with all that belongs to them in words."""
    right = None if truth is None else truth == explanation.prediction.label
    title, lines = prediction_caption(explanation.prediction) or "what the model looks at", caption_lines(explanation, truth)
    images = explanation.image_u8, explanation.render()
    shown = replace(map_legend(explanation), values=scale_labels(explanation))
    return draw_explanation(images, title, lines, shown, right=right, marked=query_mask(explanation))


def query_mask(explanation: Explanation) -> np.ndarray | None:
    """Which pixels the map starts from, or explains, bool (height, width); None for the whole image."""
    query, patches = explanation.options.query, explanation.region
    if ignored_region(explanation) is not None:
        rows, columns = explanation.patch_map.shape
        patches = None if query is None else RegionTarget(patches_in_query(query), (rows, columns), "query")
    return None if patches is None else patch_mask(patches, explanation.geometry)


def ignored_region(explanation: Explanation) -> RegionTarget | None:
    """The region that was asked for, where the method's map is the same for every target."""
    asked, method = explanation.region, METHODS[explanation.method]
    return None if asked is None or method.is_class_specific or asked.name == "query" else asked


def map_legend(explanation: Explanation) -> Legend:
    """What the map is called, and what its colors mean."""
    if explanation.patch_colors is not None:
        return Legend(explanation.method, None)
    if explanation.scale_kind == "signed":
        ends = ("against", "for") if explanation.target else ("less", "more")
        return Legend(explanation.method, ends, signed=True)
    return Legend(explanation.method, ("little", "much attention" if explanation.scale_kind == "proportion" else "much"))


def scale_labels(explanation: Explanation) -> tuple[str, str] | None:
    """The numbers at the ends of the map's colors; attention in multiples of what is even over the patches."""
    if explanation.patch_colors is not None:
        return None
    scale = Scale.for_map(explanation.heatmap, signed=explanation.scale_kind == "signed")
    low, high = (f"{value:.2g}".replace("-", "−") for value in (scale.low, scale.high))
    return (f"{low} × even", f"{high} × even") if explanation.scale_kind == "proportion" else (low, high)


def shared_legends(explanations: Sequence[Explanation]) -> list[Legend]:
    """What the colors mean on a sheet with maps of several methods, once for each way to color."""
    found = [map_legend(one) for one in explanations]
    legends = [Legend("", ("little", "much"))] if any(one.ends and not one.signed for one in found) else []
    signed = next((one for one in found if one.signed), None)
    legends += [signed] if signed else []
    return legends + [Legend(f"{one.name}: {ALIKE}", None) for one in found if one.ends is None]


def draw_gallery(explanations: Sequence[Explanation], truths: Sequence[str | None]) -> Image.Image:
    """Several explanations side by side with truth and prediction, right and wrong ones marked, and their target."""
    pairs = zip(explanations, truths, strict=True)
    first = explanations[0]
    parts = ["truth / "] if any(truths) else []
    parts += ["prediction / "] if first.prediction.scores else []
    if first.options.query is None:
        parts += [first.caption()]
    else:  # which patch it is differs with the image's shape
        parts += [replace(first, options=replace(first.options, query=None)).caption(), " · from what is outlined"]
    about = target_caption(replace(first, score=None), METHODS[first.method]) if target_in_caption(first) else ""
    parts += [f" · {about}"] if about else []
    items = [_item(explanation, truth) for explanation, truth in pairs]
    return gallery(items, "".join(parts), legends=shared_legends([first]))


def prediction_caption(prediction: Prediction) -> str:
    """A prediction in words: "cat 93 %"; nothing for a model without classes."""
    return f"{prediction.label} {100 * prediction.score:.0f} %" if prediction.scores else ""


def caption_lines(explanation: Explanation, truth: str | None) -> list[str]:
    """The lines under an image: truth if known; method, layer and head; what the map explains, and how well."""
    lines = [] if truth is None else [f"truth: {truth}"]
    lines.append(explanation.caption())
    if target_in_caption(explanation):
        lines.append(target_caption(explanation, METHODS[explanation.method]))
    if explanation.patch_colors is not None:
        lines.append(ALIKE)
    if explanation.convergence_delta is not None:
        lines.append(
            f"the map's sum misses the score's gain over the mean color by {explanation.convergence_delta:+.2g}"
        )
    return lines


def target_in_caption(explanation: Explanation) -> bool:
    """Whether there is a target to speak of: one that the map explains, or one that was asked for in vain."""
    explained = explanation.target is not None and METHODS[explanation.method].is_class_specific
    return explained or explanation.score is not None or ignored_region(explanation) is not None


def target_caption(explanation: Explanation, method: Method) -> str:
    """What the map explains, how much there is of it, and whether the map would be another one for another target."""
    score = "" if explanation.score is None else f" {explanation.score:.3g}"
    if explanation.score is not None and explanation.target in dict(explanation.prediction.scores):
        score = f" {100 * explanation.score:.1f} %"
    if not method.is_class_specific:
        region = ignored_region(explanation)
        name = explanation.target if region is None else region.name
        return f"{name}{score} · this method's map is the same for every target"
    return f"explains: {explanation.target}{score}"


def _item(explanation: Explanation, truth: str | None) -> GalleryItem:
    ranking = explanation.prediction.scores
    name, probability = ranking[0] if ranking else ("", 0.0)
    return GalleryItem(explanation.image_u8, explanation.render(), truth, name, probability, query_mask(explanation))
