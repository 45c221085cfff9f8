"""The maps of two models over one image, a model before tuning and the tuned one, and how they are drawn."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from vitreous.arguments import check_arguments
from vitreous.explanation.figures import (
    map_legend,
    query_mask,
    target_caption,
    target_in_caption,
)
from vitreous.explanation.registry import METHODS
from vitreous.explanation.result import Explanation
from vitreous.imaging.writing import save_image
from vitreous.render.before_after_sheet import BeforeAfterTexts, before_after_sheet, fit_row
from vitreous.render.color import Scale
from vitreous.render.sheet import Tile
from vitreous.render.text import CORRECT_MARK, WRONG_MARK
from vitreous.render.theme import CORRECT, INK, WRONG

SAME_SCALE = "one color scale for both maps of an image · 1 × uniform: what each patch gets if all get the same"
OWN_SCALES = "each map has its own color scale: compare where the maps are high, not how high they are"
OWN_COLORS = "patches of similar color have similar features within a map; the colors of two maps can't be compared"


@dataclass(frozen=True, repr=False)
class ExplanationPair:
    """The maps of two models over one image, by one method. A notebook shows them as a figure.

    Maps of attention (scale kind "proportion") share one color scale, because their values mean the same in both
    models. All other maps have each their own, because their units are those of a model.

    Attributes:
        before: Of the earlier model, such as the one that a run started from.
        after: Of the later model, such as the tuned one.
        names: What the two models are called in figures.
        target_given: Whether the target was named.
        is_target_shared: Whether both maps explain the same: the target that was named, or the class that the later
            model predicts. If not, each explains its own model's prediction, or its features.

    >>> pair = vitreous.explain_before_after("runs/photos", "rose.jpg")      # doctest: +SKIP
    >>> pair.before.prediction.label, pair.after.prediction.label            # doctest: +SKIP
    ('bird', 'rose')
    >>> pair.save("rose-before-after.png")                                   # doctest: +SKIP
    """

    before: Explanation
    after: Explanation
    names: tuple[str, str]
    target_given: bool = False
    is_target_shared: bool = True

    @property
    def scale(self) -> Scale | None:
        """The color scale of both maps, which holds the robust scale of each; None if each has its own."""
        if self.after.scale_kind != "proportion":
            return None
        scales = [Scale.robust(one.heatmap) for one in (self.before, self.after)]
        return Scale(min(one.low for one in scales), max(one.high for one in scales))

    def figure(self, truth: str | None = None) -> Image.Image:
        """Draw the image and both maps side by side, with the prediction of each model.

        Args:
            truth: the true label, if it is known; it is compared with the prediction of a model that has this class.
        """
        return draw_pairs([pair_tiles(self, truth)], [self])

    @check_arguments
    def save(self, path: str | Path, truth: str | None = None) -> None:
        """Write the figure as an image, whole or not at all.

        Args:
            path: a file name with a suffix of an image format.
            truth: as in `figure`.

        Raises:
            InputError: the suffix is of no image format, or the file can't be written.
        """
        save_image(self.figure(truth), path)

    def __repr__(self) -> str:
        return f"ExplanationPair(before={self.before!r}, after={self.after!r})"

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.figure().save(stream, "png")
        return stream.getvalue()


def pair_tiles(pair: ExplanationPair, truth: str | None, name: str = "", *, alone: bool = True) -> list[Tile]:
    """Return the row of a pair in a sheet: image, map before, map after, at the size that they have there.

    Args:
        pair: with the image.
        truth: the true label, if it is known.
        name: that of the image's file.
        alone: whether the sheet has no other row.
    """
    scale = pair.scale
    lines = [name, f"true label: {truth}" if truth else ""]
    if scale is not None and not alone:
        lines.append(f"colors: {scale.low:.2g} to {scale.high:.2g} × uniform")
    image = Tile(pair.after.image_u8, tuple(filter(None, lines)), outlined=query_mask(pair.after))
    maps = [
        Tile(
            one.prediction.draw(one.render(scale)), _lines_of(pair, one, truth), _color_of(one, truth), query_mask(one)
        )
        for one in (pair.before, pair.after)
    ]
    return fit_row([image, *maps], alone=alone)


def draw_pairs(rows: Sequence[Sequence[Tile]], pairs: Sequence[ExplanationPair]) -> Image.Image:
    """Draw the rows of `pair_tiles` as one sheet; the pairs need no pixels."""
    first = pairs[0]
    scale, legend = first.scale, map_legend(first.after)
    if scale is not None and len(pairs) == 1:
        legend = replace(legend, end_values=(f"{scale.low:.2g} × uniform", f"{scale.high:.2g} × uniform"))
    colors = OWN_COLORS if legend.end_labels is None else OWN_SCALES if scale is None else SAME_SCALE
    captions = [_caption(one) for one in (first.before, first.after)]
    parts = ["Before and after", captions[1] if captions[0] == captions[1] else first.after.method]
    parts += ["from the outlined patches"] if first.after.options.query is not None else []
    target = _describe_targets(pairs)
    texts = BeforeAfterTexts(" · ".join(parts), (target,) if target else (), _describe_models(pairs), colors)
    return before_after_sheet(rows, texts, legend)


def _describe_models(pairs: Sequence[ExplanationPair]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the name of each model, and what differs between them: the layer, the size of the input."""
    first = pairs[0]
    lines = [[name] for name in first.names]
    captions = [_caption(one).removeprefix(f"{one.method} · ") for one in (first.before, first.after)]
    sizes = {(pair.before.geometry.input_size, pair.after.geometry.input_size) for pair in pairs}
    inputs = [f"input {height} × {width}" for height, width in sizes.pop()] if len(sizes) == 1 else ["", ""]
    for texts in (captions, inputs):
        if texts[0] != texts[1]:
            lines = [[*line, text] for line, text in zip(lines, texts, strict=True)]
    return tuple(lines[0]), tuple(lines[1])


def _caption(one: Explanation) -> str:
    """Return the caption without the patch of a query, whose number differs with the image's shape and the model."""
    return replace(one, options=replace(one.options, query=None)).caption()


def _describe_targets(pairs: Sequence[ExplanationPair]) -> str:
    """Say what the maps explain; nothing if they depend on no target."""
    first = pairs[0]
    if not METHODS[first.after.method].is_class_specific:
        return ""
    if first.target_given:
        return f"target: {first.after.target}"
    has_classes = [bool(one.prediction.scores) for one in (first.before, first.after)]
    if not any(has_classes):
        return "each map explains the image's own features in its model"
    if not all(has_classes):
        return "each map explains its model's own prediction, or the image's features where the model has no classes"
    shared = {pair.is_target_shared for pair in pairs}
    if shared == {True}:
        return "both maps explain the class that the later model predicts"
    if shared == {False}:
        return "each map explains its model's own prediction: the earlier model doesn't have the later one's class"
    return "both maps explain the class that the later model predicts, or each its own where the earlier lacks that one"


def _lines_of(pair: ExplanationPair, one: Explanation, truth: str | None) -> tuple[str, ...]:
    """Return the prediction, with a mark where the true label is known, and the target of a map that depends on it."""
    correct = _is_correct(one, truth)
    mark = "" if correct is None else f"{CORRECT_MARK if correct else WRONG_MARK} "
    lines = [mark + (one.prediction.caption() or "no classes, only features")]
    if target_in_caption(one):
        is_own = not pair.is_target_shared and bool(one.prediction.scores)
        lines.append("target: its own prediction" if is_own else target_caption(one))
    return tuple(lines)


def _color_of(one: Explanation, truth: str | None) -> str:
    correct = _is_correct(one, truth)
    return INK if correct is None else CORRECT if correct else WRONG


def _is_correct(one: Explanation, truth: str | None) -> bool | None:
    """Return whether the prediction is the true label; None if that isn't known, or no class of the model."""
    return one.prediction.is_correct(truth) if truth in dict(one.prediction.scores) else None
