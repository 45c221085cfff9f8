"""Tracking of one patch through a clip, by the similarity of patch tokens."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.explanation.explain import group_by_shape
from vitreous.explanation.methods.features import apply_final_norm
from vitreous.explanation.regions import Point, patch_at
from vitreous.imaging.geometry import Geometry
from vitreous.model.classifier import ImageClassifier
from vitreous.model.trace import Trace
from vitreous.render.temporal.scenes import SceneDetector
from vitreous.video.info import Frame

SEARCH_DIVISOR = 6
"""The search window reaches a sixth of the grid to each side, at least two patches."""
FIRST_WEIGHT = 0.5
"""Weight of the first frame's patch in the reference, against the last frame's. The first keeps the reference from
drifting; the last lets it change."""
LOST_THRESHOLD = 0.3
"""The patch counts as lost below this fraction of the way from the frame's median similarity to a similarity of 1."""


class PatchTracker:
    """Follows the patch at a point of the first frame; in each frame it moves to the most similar patch nearby.

    Patches are compared by the cosine of their tokens from the last block, after the model's final normalization. The
    reference is a mean of the patch in the first and in the last frame. While no patch nearby resembles the first one,
    the patch is lost; it is found again where it comes back. A cut ends the tracking. `lost_seconds` and
    `ended_seconds` hold when it was first lost, and when a cut ended it.
    """

    def __init__(self, classifier: ImageClassifier, point: Point) -> None:
        self._classifier, self._point = classifier, point
        self._scenes = SceneDetector()
        self._first: torch.Tensor | None = None
        self._last = torch.zeros(0)
        self._cell = (0, 0)
        self.lost_seconds: float | None = None
        self.ended_seconds: float | None = None

    def update(self, frames: Sequence[Frame]) -> list[Point | None]:
        """Track through the next frames.

        Returns: for each frame the center (x, y) of the patch in pixels of the frame; None where it is lost.
        """
        points: list[Point | None] = []
        tokens, geometries = patch_tokens(self._classifier, [frame.image_u8 for frame in frames])
        for frame, patches, geometry in zip(frames, tokens, geometries, strict=True):
            if self._scenes.update(frame.image_u8).cut and self.ended_seconds is None:
                self.ended_seconds = float(frame.time_seconds)
            if self.ended_seconds is not None or not self._move(patches, geometry):
                points.append(None)
                self.lost_seconds = float(frame.time_seconds) if self.lost_seconds is None else self.lost_seconds
                continue
            points.append(patch_center(self._cell, patches.shape[:2], geometry))
        return points

    def _move(self, patches: torch.Tensor, geometry: Geometry) -> bool:
        """Move to the most similar of the patches (rows, columns, embed_dim; of length 1); False if it is lost."""
        if self._first is None:
            self._cell = patch_at(self._point, geometry, self._classifier.preprocessing.patch_size)
            self._first = self._last = patches[self._cell]
            return True
        similarity = patches @ (FIRST_WEIGHT * self._first + (1 - FIRST_WEIGHT) * self._last)
        window = search_window(self._cell, (patches.shape[0], patches.shape[1])).to(similarity.device)
        best = int(similarity.masked_fill(~window, -torch.inf).argmax())
        cell = best // patches.shape[1], best % patches.shape[1]
        to_first = patches @ self._first
        median = float(to_first.median())
        if float(to_first[cell]) < median + LOST_THRESHOLD * (1 - median):
            return False
        self._cell, self._last = cell, patches[cell]
        return True


def search_window(cell: tuple[int, int], grid_hw: tuple[int, int]) -> torch.Tensor:
    """Return which patches of the grid are near a patch (row, column): bool (rows, columns)."""
    near = []
    for position, side in zip(cell, grid_hw, strict=True):
        near.append((torch.arange(side) - position).abs() <= max(2, side // SEARCH_DIVISOR))
    return near[0][:, None] & near[1][None, :]


def patch_center(cell: tuple[int, int], grid_hw: Sequence[int], geometry: Geometry) -> Point:
    """Return the center (x, y) of a patch (row, column) in pixels of the frame."""
    top, left, bottom, right = geometry.box
    y = top + (cell[0] + 0.5) / grid_hw[0] * (bottom - top)
    x = left + (cell[1] + 0.5) / grid_hw[1] * (right - left)
    return x, y


@torch.no_grad()
def patch_tokens(
    classifier: ImageClassifier, images: Sequence[np.ndarray]
) -> tuple[list[torch.Tensor], list[Geometry]]:
    """Return each frame's last patch tokens, scaled to length 1, and the geometry that places them on the frame.

    Args:
        classifier: the model.
        images: uint8 (height, width, 3).

    Returns: tokens (rows, columns, embed_dim) and a geometry per image.

    Raises:
        InputError: the model's tokens can't be observed.
    """
    prepared = [classifier.preprocess(image) for image in images]
    tokens: list[torch.Tensor] = []
    for chosen in group_by_shape([0] * len(prepared), [inputs.shape[1] * inputs.shape[2] for inputs, _ in prepared]):
        trace = Trace()
        classifier.model(torch.stack([prepared[i][0] for i in chosen]), trace)
        layout = trace.layout
        if not trace.tokens or layout is None:
            raise InputError("tracking compares the model's last tokens, which can't be observed here: leave out track")
        unit = functional.normalize(apply_final_norm(classifier.model, trace.tokens[-1]), dim=-1)
        tokens += unit[:, layout.num_prefix_tokens :].unflatten(1, (layout.grid_height, layout.grid_width))
    return tokens, [geometry for _, geometry in prepared]
