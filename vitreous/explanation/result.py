"""An explanation: the map over one image, what it belongs to, and how it is drawn and saved."""

import io
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.arguments import check_arguments
from vitreous.explanation.figures import ExplanationLayout, draw_explanation
from vitreous.explanation.method import ScaleKind
from vitreous.explanation.options import MethodOptions, describe_query
from vitreous.explanation.registry import METHODS
from vitreous.files import atomic_write
from vitreous.imaging.geometry import Geometry
from vitreous.imaging.writing import save_image
from vitreous.model.prediction import Prediction
from vitreous.render.color import Scale
from vitreous.render.overlay import colorize, overlay
from vitreous.tasks.targets import RegionTarget


@dataclass(frozen=True, repr=False)
class Explanation:
    """The map of one method over one image. A notebook shows it as a figure.

    Attributes:
        patch_map: float32 (rows, columns) over what the model received, one value per patch or per pixel. For the
            scale kind "proportion" it is the proportion of attention on each patch, which sums to 1 together with the
            prefix tokens'.
        geometry: Which part of the image the map covers.
        image_u8: The image itself, uint8 (height, width, 3).
        scale_kind: proportion: sums to 1; positive: 0 or above; signed: above 0 for the target, below 0 against it.
        layer: Counted from 0; None where a method uses all layers.
        head: Counted from 0; None for all heads together.
        target: The name of what the map explains, such as a class. Of a method whose map doesn't depend on the target
            it is the target that was given, if one was and it isn't a region; else None.
        score: The target's score, if a target was given: the probability of a class (0 to 1), or a difference of
            logits.
        convergence_delta: The target's gain minus the sum of the map, in units of the score; None for a method
            without completeness.
        patch_colors: float32 (rows, columns, 3) in [0, 1], where the map has its own colors.
        region: The patches of a target that is a region, or else those of the query; None without either. A method
            that isn't class-specific (`Method.is_class_specific`) doesn't use a target: its map explains the whole
            image, or starts from `options.query`.

    >>> explanation = vitreous.explain(model, "cat.jpg")             # doctest: +SKIP
    >>> explanation.heatmap.shape, explanation.prediction.label      # doctest: +SKIP
    ((480, 640), 'cat')
    >>> explanation.save("cat-attention.png")                        # doctest: +SKIP
    """

    patch_map: np.ndarray
    geometry: Geometry
    image_u8: np.ndarray
    method: str
    scale_kind: ScaleKind
    prediction: Prediction
    options: MethodOptions = field(default_factory=MethodOptions)
    layer: int | None = None
    head: int | None = None
    target: str | None = None
    score: float | None = None
    convergence_delta: float | None = None
    patch_colors: np.ndarray | None = None
    region: RegionTarget | None = None

    @cached_property
    def heatmap(self) -> np.ndarray:
        """The map in the image's own pixels, float32 (height, width); computed on first use.

        For the scale kind "proportion" 1 means uniform attention. Other maps have the units of their method.
        """
        return self.geometry.to_image(self.patch_heatmap)

    @property
    def patch_heatmap(self) -> np.ndarray:
        """The values of `heatmap` on the patch grid, float32 (rows, columns)."""
        return self.patch_map * np.float32(self.patch_map.size) if self.scale_kind == "proportion" else self.patch_map

    def with_patch_heatmap(self, patch_heatmap: np.ndarray) -> "Explanation":
        """Return this explanation with other values of `patch_heatmap`, (rows, columns), such as smoothed ones."""
        divisor = np.float32(self.patch_map.size if self.scale_kind == "proportion" else 1)
        return replace(self, patch_map=(patch_heatmap / divisor).astype(np.float32))

    @cached_property
    def colors(self) -> np.ndarray | None:
        """The map's own colors, drawn instead of the heatmap: float32 (height, width, 3) in [0, 1], or None."""
        if self.patch_colors is None:
            return None
        return np.stack([self.geometry.to_image(plane) for plane in self.patch_colors.transpose(2, 0, 1)], -1)

    def overlay(self, scale: Scale | None = None) -> Image.Image:
        """Draw the map over the image, at the image's own size."""
        return Image.fromarray(self.render(scale))

    def render(self, scale: Scale | None = None) -> np.ndarray:
        """Draw the map over the image: uint8 (height, width, 3)."""
        if self.colors is not None:
            return colorize(self.image_u8, self.colors)
        return overlay(self.image_u8, self.heatmap, scale, signed=self.scale_kind == "signed")

    def figure(self, truth: str | None = None, layout: ExplanationLayout = "single") -> Image.Image:
        """Draw image and overlay side by side with the prediction, the caption and a color bar, or another layout.

        Args:
            truth: the true label, if it is known; it is compared with the prediction.
            layout: single, or as `explain_video` draws a frame: overlay, contour, spotlight (darkens what the map
                leaves out) or side-by-side.

        Raises:
            InputError: there is no such layout.
        """
        return draw_explanation(self, truth, layout)

    @check_arguments
    def save(self, path: str | Path, truth: str | None = None, layout: ExplanationLayout = "single") -> None:
        """Write the figure as an image, or the arrays as a .npz file, whole or not at all.

        A .npz file holds `heatmap`, `patch_map`, `image`, `box` (top, left, bottom, right of the map in the image's
        pixels), `method`, `target`, `labels` and `scores`, and `patch_colors` where there are any.

        Args:
            path: a file name with a suffix of an image format, or .npz.
            truth: the true label, if it is known; for the figure.
            layout: of the figure, as in `figure`.

        Raises:
            InputError: the suffix or the layout is unknown, or the file can't be written.
        """
        if Path(path).suffix.lower() == ".npz":
            with atomic_write(path) as temporary:
                np.savez_compressed(temporary, allow_pickle=False, **self._arrays())
        else:
            save_image(self.figure(truth, layout), path)

    def caption(self) -> str:
        """Describe the method and what it shows of the model: "attention · layer 5 · mean over heads"."""
        used, options = METHODS[self.method].options, self.options
        parts = [self.method]
        if "layer" in used and self.layer is None and self.scale_kind == "proportion":
            return f"{self.method} · the pooling's own weights"
        if self.layer is not None or self.scale_kind == "proportion":
            parts.append("all layers" if self.layer is None else f"layer {self.layer}")
        if "view" in used:
            parts.append(options.view)
        if "head_fusion" in used or "head" in used:
            parts.append(f"{options.head_fusion} over heads" if self.head is None else f"head {self.head}")
        if options.query is not None:
            parts.append(f"from the {describe_query(options.query)}")
        return " · ".join(parts)

    def __repr__(self) -> str:
        height, width = self.image_u8.shape[:2]
        parts = [self.caption(), f"heatmap {height} × {width}"]
        parts += [f"target {self.target}"] if self.target is not None else []
        parts += [f"score {self.score:.3g}"] if self.score is not None else []
        parts += [repr(self.prediction)] if self.prediction.scores else []
        return f"Explanation({', '.join(parts)})"

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.figure().save(stream, "png")
        return stream.getvalue()

    def _arrays(self) -> dict[str, np.ndarray]:
        labels, scores = [label for label, _ in self.prediction.scores], [score for _, score in self.prediction.scores]
        arrays = {
            "heatmap": self.heatmap, "patch_map": self.patch_map, "image": self.image_u8,
            "box": np.array(self.geometry.box), "method": np.array(self.method), "target": np.array(self.target or ""),
            "labels": np.array(labels, dtype=np.str_), "scores": np.array(scores, dtype=np.float64),
        }  # fmt: skip
        return arrays if self.patch_colors is None else {**arrays, "patch_colors": self.patch_colors}
