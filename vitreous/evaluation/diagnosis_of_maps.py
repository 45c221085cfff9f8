"""What is wrong with a model's maps: a rollout that is even, the same for every picture, or made of spots."""

import numpy as np

from vitreous.evaluation.anatomy import Anatomy, agreement, evenness, isolated_spots
from vitreous.evaluation.finding import Finding, heads_in_words, places_where

EVEN_ROLLOUT = 0.99
"""A rollout whose entropy is above this share of the greatest is even; measured: 0.97 at most."""
SAME_ROLLOUT = 0.9
"""Rollouts of different pictures that correlate more say nothing of the picture; measured: 0.5 at most."""
SPOT_RATIO, SPOT_ALONE = 5.0, 3.0
"""A spot is a patch with this many times the map's median and so many times the most of its eight neighbours."""
SPOT_SHARE, SPOT_PICTURES = 0.05, 0.5
"""Spots are a fault where they hold this share of the map in so many of the pictures; measured: on DINOv2 ViT-S/14 one
to three patches hold 9 to 13 % of every rollout; on `shapes` one picture in eight has any, on CIFAR-10 none."""
ONE_PATCH = 0.3
"""A head whose patches all together give one patch this share of their attention makes a spot; measured: 57 % in
layer 0, head 5 of that DINOv2, 7 % at most in its other heads."""


def rollout_collapse(anatomy: Anatomy) -> Finding:
    """Whether rollout says anything: not when it is even, or the same for every picture."""
    maps = [one.rollout for one in anatomy.pictures]
    even, same = float(np.mean([evenness(one) for one in maps])), agreement(maps)
    numbers = {"evenness": even, "correlation between pictures": same}
    topic = "rollout"
    if even > EVEN_ROLLOUT:
        words = f"Rollout is nearly even: its entropy is {even:.1%} of the greatest."
        return Finding(topic, "fault", words, "It says nothing about where; use another method.", numbers=numbers)
    if same is None:
        words = (
            f"Rollout isn't even (entropy {even:.0%} of the greatest); whether it differs between pictures can't be "
        )
        return Finding(topic, "unknown", words + "told from one picture of each size: give more.", numbers=numbers)
    words = f"Rollouts of different pictures correlate {same:.2f}, their entropy is {even:.0%} of the greatest."
    if same > SAME_ROLLOUT:
        meaning = "It is nearly the same map for every picture and says nothing of any; use another method."
        return Finding(topic, "fault", words, meaning, numbers=numbers)
    return Finding(topic, "well", words, numbers=numbers)


def rollout_spots(anatomy: Anatomy) -> Finding:
    """Single patches that hold much of the rollout, though nothing around them does, and which heads make them."""
    topic = "spots in rollout"
    found = [isolated_spots(one.rollout.reshape(one.grid_hw), SPOT_RATIO, SPOT_ALONE) for one in anatomy.pictures]
    shares = [
        one.rollout[marks.ravel()].sum() / one.rollout.sum() for one, marks in zip(anatomy.pictures, found, strict=True)
    ]
    spotted = [i for i, share in enumerate(shares) if share > SPOT_SHARE]
    numbers = {"share of the map, by picture": [float(share) for share in shares]}
    if len(spotted) < max(1, SPOT_PICTURES * len(found)):
        words = f"Rollout isn't made of spots: {len(spotted)} of {len(found)} pictures have some."
        return Finding(topic, "well", words, numbers=numbers)
    count, share = (float(np.mean([values[i] for i in spotted])) for values in ([m.sum() for m in found], shares))
    words = f"In {len(spotted)} of {len(found)} pictures {count:.1f} patches (mean), each with nothing like it around, "
    words += f"hold {share:.0%} of the rollout."
    makers = places_where(anatomy.one_patch > ONE_PATCH)
    meaning = "They draw the eye and hide the rest; attention of the last layer, or a map with gradients, shows more. "
    if makers:
        meaning += f"They come from heads that look at one patch from everywhere: {heads_in_words(makers)}."
    return Finding(topic, "fault", words, meaning, makers, numbers)
