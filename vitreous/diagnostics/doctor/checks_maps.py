"""What is wrong with a model's maps: a rollout that is even, the same for every image, or made of spots."""

import numpy as np

from vitreous.diagnostics.doctor.finding import Finding, counted, heads_in_words, places_where
from vitreous.diagnostics.doctor.statistics import Anatomy, agreement, evenness, isolated_spots

EVEN_ROLLOUT = 0.99
"""A rollout whose entropy is above this share of the greatest is even; measured: 0.97 at most."""
SAME_ROLLOUT = 0.9
"""Rollouts of different images that correlate more say nothing of the image; measured: 0.5 at most."""
SPOT_RATIO, SPOT_ALONE = 5.0, 3.0
"""A spot is a patch with this many times the map's median and so many times the most of its eight neighbors."""
SPOT_SHARE, SPOT_IMAGES = 0.05, 0.5
"""Spots are a fault where they hold this share of the map in so many of the images; measured: on DINOv2 ViT-S/14 one
to three patches hold 9 to 13 % of every rollout; on `shapes` one image in eight has any, on CIFAR-10 none."""
ONE_PATCH = 0.3
"""A head in which one patch gets this share of all patches' attention makes a spot; measured: 57 % in layer 0, head 5
of that DINOv2, 7 % at most in its other heads."""


def rollout_collapse(anatomy: Anatomy) -> Finding:
    """Whether rollout says anything: not when it is even, or the same for every image."""
    maps = [one.rollout for one in anatomy.images]
    even, same = float(np.mean([evenness(one) for one in maps])), agreement(maps)
    numbers = {"evenness": even, "correlation between images": same}
    topic = "collapse of rollout"
    if even > EVEN_ROLLOUT:
        words = f"Rollout is nearly even: its entropy is {even:.1%} of the greatest."
        return Finding(topic, "fault", words, "It says nothing about where; use another method.", numbers=numbers)
    if same is None:
        words = f"Rollout isn't even: its entropy is {even:.0%} of the greatest. Whether it differs between images "
        return Finding(topic, "unknown", words + "needs two of one size to tell: give more.", numbers=numbers)
    if same > SAME_ROLLOUT:
        words = f"Rollout is nearly the same map for every image: those of different ones correlate {same:.2f}."
        return Finding(topic, "fault", words, "It says nothing of any image; use another method.", numbers=numbers)
    words = f"Rollout differs from image to image (correlation {same:.2f}) and isn't even "
    return Finding(topic, "well", f"{words}(its entropy is {even:.0%} of the greatest).", numbers=numbers)


def spots(heat: np.ndarray) -> np.ndarray:
    """Which patches of a map, float (rows, columns), are spots: bool (rows, columns)."""
    return isolated_spots(heat, SPOT_RATIO, SPOT_ALONE)


def share_of_spots(heat: np.ndarray) -> float:
    """The share of a map, float (rows, columns) without signs, in its spots; above `SPOT_SHARE` they spoil it."""
    total = float(heat.sum())
    return float(heat[spots(heat)].sum()) / total if total > 0 else 0.0


def rollout_spots(anatomy: Anatomy) -> Finding:
    """Single patches that hold much of the rollout, though nothing around them does, and which heads make them."""
    topic = "spots in rollout"
    maps = [one.rollout.reshape(one.grid_hw) for one in anatomy.images]
    shares = [share_of_spots(one) for one in maps]
    spotted = [i for i, share in enumerate(shares) if share > SPOT_SHARE]
    numbers = {"share of the map, by image": shares}
    places = f"in {len(spotted)} of {counted(len(maps), 'image')}"
    if len(spotted) < max(1, SPOT_IMAGES * len(maps)):
        words = f"Rollout has no spots that spoil it: {places} single patches hold over {SPOT_SHARE:.0%} of it."
        return Finding(topic, "well", words, numbers=numbers)
    count = float(np.mean([spots(maps[i]).sum() for i in spotted]))
    share = float(np.mean([shares[i] for i in spotted]))
    which = f"{count:.1f} patches (mean), far above all around them, hold"
    which = "a single patch, far above all around it, holds" if count == 1 else which
    makers = places_where(anatomy.one_patch > ONE_PATCH)
    meaning = "They draw the eye and hide the rest: use attention of the last layer, or a map with gradients."
    if makers:
        heads = "a head in which one patch gets" if len(makers) == 1 else "heads in which one patch gets up to"
        most = float(anatomy.one_patch.max())
        meaning += f" They come from {heads} {most:.0%} of all patches' attention: {heads_in_words(makers)}."
    return Finding(topic, "fault", f"Rollout has spots: {places} {which} {share:.0%} of it.", meaning, makers, numbers)
