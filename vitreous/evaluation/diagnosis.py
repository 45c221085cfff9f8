"""From what was measured inside a model to what is wrong with it, in words.

Every threshold is a named constant. "Measured" means on models that are well: a ViT of 4 layers trained on `shapes`,
one of 6 on CIFAR-10, one of 4 on MNIST, and DINOv2 ViT-S/14 (LOG.md).
"""

from vitreous.evaluation.anatomy import Anatomy
from vitreous.evaluation.diagnosis_of_heads import (
    blind_heads,
    dead_heads,
    distance_of_heads,
    prefix_heads,
    redundant_heads,
    uniform_heads,
)
from vitreous.evaluation.diagnosis_of_maps import rollout_collapse, rollout_spots
from vitreous.evaluation.diagnosis_of_tokens import idle_blocks, outliers, token_collapse, weak_layer_scale
from vitreous.evaluation.finding import Finding

CHECKS = (
    outliers,
    rollout_collapse,
    rollout_spots,
    token_collapse,
    dead_heads,
    uniform_heads,
    prefix_heads,
    blind_heads,
    redundant_heads,
    idle_blocks,
    weak_layer_scale,
    distance_of_heads,
)
"""Every check: an anatomy to what it found, one finding each."""


def diagnose(anatomy: Anatomy) -> tuple[Finding, ...]:
    """What each check found, faults first."""
    order = ("fault", "note", "well", "unknown")
    return tuple(sorted((check(anatomy) for check in CHECKS), key=lambda one: order.index(one.level)))
