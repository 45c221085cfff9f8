"""Checks of a model's maps: a rollout that is uniform, the same for every image, or dominated by artifact patches."""

import numpy as np

from vitreous.diagnostics.doctor.findings import Finding, format_heads, locations_where, pluralize
from vitreous.diagnostics.doctor.statistics import ModelStatistics, map_agreement, map_evenness
from vitreous.evaluation.artifacts import MAX_ARTIFACT_FRACTION, artifact_fraction, artifact_patches

MAX_EVENNESS = 0.99
"""A rollout with a higher entropy, relative to the maximum, is uniform. Measured: 0.97 at most."""
MAX_AGREEMENT = 0.9
"""Rollouts of different images with a higher correlation don't depend on the image. Measured: 0.5 at most."""
MIN_ARTIFACT_IMAGES = 0.5
"""Artifact patches are a fault if they distort at least this fraction of the rollouts."""
MAX_PATCH_ATTENTION = 0.3
"""A head in which one patch gets a larger fraction of all patches' attention causes artifact patches. Measured: 57 % in
layer 0, head 5 of DINOv2 ViT-S/14; 7 % at most in its other heads."""


def check_rollout_collapse(statistics: ModelStatistics) -> Finding:
    """Check whether rollout is uniform, or the same for every image."""
    maps = [one.rollout for one in statistics.images]
    evenness, agreement = float(np.mean([map_evenness(one) for one in maps])), map_agreement(maps)
    values = {"relative_entropy": evenness, "correlation_between_images": agreement}
    topic = "rollout collapse"
    if evenness > MAX_EVENNESS:
        message = f"Rollout is nearly uniform: its entropy is {evenness:.1%} of the maximum."
        return Finding(topic, "fault", message, "It localizes nothing; use another method.", values=values)
    if agreement is None:
        message = (
            f"Rollout is not uniform: its entropy is {evenness:.0%} of the maximum. Whether it differs between images "
            "can't be measured without two images of one size: give more."
        )
        return Finding(topic, "unknown", message, values=values)
    if agreement > MAX_AGREEMENT:
        message = f"Rollout is nearly the same for every image: maps of different images correlate {agreement:.2f}."
        return Finding(topic, "fault", message, "It doesn't depend on the image; use another method.", values=values)
    message = (
        f"Rollout differs between images (correlation {agreement:.2f}) and is not uniform (its entropy is "
        f"{evenness:.0%} of the maximum)."
    )
    return Finding(topic, "ok", message, values=values)


def check_artifact_patches(statistics: ModelStatistics) -> Finding:
    """Check whether single patches, far above all around them, hold much of the rollout, and which heads cause them."""
    topic = "artifact patches in rollout"
    maps = [one.rollout.reshape(one.grid_size) for one in statistics.images]
    fractions = [artifact_fraction(one) for one in maps]
    affected = [i for i, fraction in enumerate(fractions) if fraction > MAX_ARTIFACT_FRACTION]
    values = {"artifact_fraction_by_image": fractions}
    images = f"in {len(affected)} of {pluralize(len(maps), 'image')}"
    if len(affected) < max(1, MIN_ARTIFACT_IMAGES * len(maps)):
        message = (
            f"Rollout has no artifact patches: {images} single patches hold over {MAX_ARTIFACT_FRACTION:.0%} of it."
        )
        return Finding(topic, "ok", message, values=values)
    count = float(np.mean([artifact_patches(maps[i]).sum() for i in affected]))
    fraction = float(np.mean([fractions[i] for i in affected]))
    subject = f"{count:.1f} patches (mean), far above all around them, hold"
    subject = "a single patch, far above all around it, holds" if count == 1 else subject
    causes = locations_where(statistics.max_patch_attention > MAX_PATCH_ATTENTION)
    advice = "They dominate the map: use attention of the last layer, or a method that uses gradients."
    if causes:
        heads = "a head in which one patch gets" if len(causes) == 1 else "heads in which one patch gets up to"
        most = float(statistics.max_patch_attention.max())
        advice += f" They come from {heads} {most:.0%} of all patches' attention: {format_heads(causes)}."
    message = f"Rollout has artifact patches: {images} {subject} {fraction:.0%} of it."
    return Finding(topic, "fault", message, advice, causes, values)
