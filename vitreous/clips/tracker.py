"""A place in a clip carried along with what lies there, by the likeness of patches."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from vitreous.clips.maps import Place
from vitreous.errors import InputError
from vitreous.explanation.explain import group_by_shape, patch_at
from vitreous.explanation.methods.features import apply_final_norm
from vitreous.imaging.geometry import Geometry
from vitreous.model.classifier import ImageClassifier
from vitreous.model.trace import Trace
from vitreous.render.temporal.scenes import SceneWatch
from vitreous.video.info import Frame

REACH = 6
"""The patch is looked for within a sixth of the grid, at least two patches, of where it last was."""
KEPT = 0.5
"""Weight of the patch of the first frame against that of the last one: the one keeps it from drifting off, the other
lets it change."""
LOST = 0.3
"""Of the way from the likeness of the frame's usual patch (the median) to that of the very same: below it, what is
followed is not there."""


class Tracker:
    """Follows what lies at a place of the first frame: in each next one the most similar patch not far from the last.

    Patches are compared by the cosine of their tokens out of the last block, after the model's last normalization. The
    reference is a mean of the patch in the first and in the last frame. While no patch there is like the first one,
    there is no place; it goes on where it comes back. A cut ends it. `lost_seconds` and `ended_seconds` say when it was
    first lost, and when it ended.
    """

    def __init__(self, classifier: ImageClassifier, place: tuple[float, float]) -> None:
        self._classifier, self._place = classifier, place
        self._watch = SceneWatch()
        self._first: torch.Tensor | None = None
        self._last = torch.zeros(0)
        self._at = (0, 0)
        self.lost_seconds: float | None = None
        self.ended_seconds: float | None = None

    def follow(self, frames: Sequence[Frame]) -> list[Place]:
        """The place in each of the next frames, in pixels of the frame, at its patch's center; None after a cut."""
        places: list[Place] = []
        images = [frame.image_u8 for frame in frames]
        tokens, geometries = patch_tokens(self._classifier, images)
        for frame, patches, geometry in zip(frames, tokens, geometries, strict=True):
            if self._watch.update(frame.image_u8).cut and self.ended_seconds is None:
                self.ended_seconds = float(frame.time_seconds)
            if self.ended_seconds is not None or not self._step(patches, geometry):
                places.append(None)
                self.lost_seconds = float(frame.time_seconds) if self.lost_seconds is None else self.lost_seconds
                continue
            places.append(center_of(self._at, patches.shape[:2], geometry))
        return places

    def _step(self, patches: torch.Tensor, geometry: Geometry) -> bool:
        """Go to the patch (rows, columns, width; of length 1) that is most like the one that is followed, if it is."""
        if self._first is None:
            self._at = patch_at(self._classifier, self._place, geometry)
            self._first = self._last = patches[self._at]
            return True
        likeness = patches @ (KEPT * self._first + (1 - KEPT) * self._last)
        near = within_reach(self._at, (patches.shape[0], patches.shape[1])).to(likeness.device)
        best = int(likeness.masked_fill(~near, -torch.inf).argmax())
        at = best // patches.shape[1], best % patches.shape[1]
        like_first = patches @ self._first
        usual = float(like_first.median())
        if float(like_first[at]) < usual + LOST * (1 - usual):
            return False
        self._at, self._last = at, patches[at]
        return True


def within_reach(at: tuple[int, int], grid_hw: tuple[int, int]) -> torch.Tensor:
    """Which patches of the grid are near enough to one: bool (rows, columns)."""
    near = []
    for place, side in zip(at, grid_hw, strict=True):
        near.append((torch.arange(side) - place).abs() <= max(2, side // REACH))
    return near[0][:, None] & near[1][None, :]


def center_of(at: tuple[int, int], grid_hw: Sequence[int], geometry: Geometry) -> tuple[float, float]:
    """The middle of a patch in pixels of the frame, down and across."""
    top, left, bottom, right = geometry.box
    y = top + (at[0] + 0.5) / grid_hw[0] * (bottom - top)
    x = left + (at[1] + 0.5) / grid_hw[1] * (right - left)
    return y, x


@torch.no_grad()
def patch_tokens(
    classifier: ImageClassifier, images: Sequence[np.ndarray]
) -> tuple[list[torch.Tensor], list[Geometry]]:
    """The patches' last tokens, of length 1, a frame: (rows, columns, width); and what of the frame they lie on.

    Raises:
        InputError: the model's tokens can't be seen.
    """
    prepared = [classifier.preprocess(image) for image in images]
    tokens: list[torch.Tensor] = []
    for chosen in group_by_shape([0] * len(prepared), [inputs.shape[1] * inputs.shape[2] for inputs, _ in prepared]):
        trace = Trace()
        classifier.model(torch.stack([prepared[i][0] for i in chosen]), trace)
        layout = trace.layout
        if not trace.tokens or layout is None:
            raise InputError("a patch is tracked by the model's last tokens, which can't be seen here: leave out track")
        level = functional.normalize(apply_final_norm(classifier.model, trace.tokens[-1]), dim=-1)
        tokens += level[:, layout.num_prefix_tokens :].unflatten(1, (layout.grid_height, layout.grid_width))
    return tokens, [geometry for _, geometry in prepared]
