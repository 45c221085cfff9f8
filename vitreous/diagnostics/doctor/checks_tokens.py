"""Checks of a model's tokens and blocks: outlier tokens, token collapse, idle blocks and weak LayerScale."""

import numpy as np

from vitreous.diagnostics.doctor.findings import Finding, format_layers, pluralize
from vitreous.diagnostics.doctor.statistics import ModelStatistics, outlier_tokens

OUTLIER_RATIO, OUTLIER_DEVIATIONS = 3.0, 6.0
"""An outlier token exceeds the median norm by this factor, and by this many standard deviations. Those of Darcet et al.
(2024, section 2.1) have about 10 times the median norm. Measured: 1.6 times at most on DINOv2 ViT-S/14, which has
none."""
OUTLIER_GROWTH = 2.0
"""Its norm over the median must also have grown by this factor since the embedding. On MNIST, strokes have larger norms
than blank paper from the start, later up to 3.9 times the median; that is the image, not an artifact of the model."""
MIN_OUTLIER_IMAGES = 0.25
"""Fraction of the images that must have outliers in a layer."""
MAX_ATTENTION_RATIO = 3.0
"""Outliers distort a layer's map if they attract more attention than this many times their fraction of the patches."""
MAX_TOKEN_SIMILARITY = 0.95
"""Above this mean cosine, the patches of an image are all the same (Dong et al. 2021). Measured: 0.67."""
MIN_RELATIVE_CHANGE = 0.01
"""A block that adds a smaller fraction of a token's norm is idle. Measured: 0.2 at least."""
MIN_LAYER_SCALE = 1e-3
"""LayerScale starts between 1e-6 and 0.1 (Touvron et al. 2021, section 2); a smaller mean has hardly grown. Measured:
0.14 at least."""


def check_outlier_tokens(statistics: ModelStatistics) -> Finding:
    """Check for patch tokens of large norm, in which the model stores global information."""
    outliers = [outliers_by_layer(one.norms) for one in statistics.images]
    present = np.array([[layer.any() for layer in one] for one in outliers]).mean(0)
    layers = [int(layer) for layer in np.flatnonzero(present >= MIN_OUTLIER_IMAGES)]
    ratios = np.array([norms_over_median(one.norms)[1:].max(1) for one in statistics.images])
    values = {
        "max_norm_over_median": float(ratios.max()),
        "layers": layers,
        "image_fraction_by_layer": present.tolist(),
    }
    if not layers:
        start = f"Outlier tokens in only {present.max():.0%} of the images" if present.any() else "No outlier tokens"
        message = f"{start}: in no layer does the largest patch token exceed {ratios.mean(0).max():.1f} times the "
        message += "median norm (mean over the images)."
        return Finding("outlier tokens", "ok", message, values=values)
    worst = max(layers, key=lambda layer: ratios[:, layer].mean())
    attention_ratio = attention_to_outliers(statistics, outliers)
    distorted = [int(layer) for layer in np.flatnonzero(attention_ratio > MAX_ATTENTION_RATIO) if layer >= layers[0]]
    count, fraction = (float(np.mean([mean(one[worst]) for one in outliers])) for mean in (np.sum, np.mean))
    values |= {
        "worst_layer": worst,
        "patches_per_image": count,
        "patch_fraction": fraction,
        "attention_over_fraction_by_layer": attention_ratio.tolist(),
    }
    message = (
        f"{_format_count(count)} of {_format_patches(statistics)} patches ({fraction:.1%}) have up to "
        f"{ratios[:, worst].mean():.1f} times the median norm in layer {worst}, in {present[worst]:.0%} of the images: "
        f"outlier tokens, {describe_positions(outliers, worst, statistics)}. They occur in {format_layers(layers)}."
    )
    advice = "The readout's attention is not attracted to them. "
    if distorted:
        times = f"{attention_ratio[distorted].max():.0f} times their fraction of the readout's attention"
        advice = f"Attention maps of {format_layers(distorted)} show artifacts there: they attract up to {times}. "
    advice += "A model trained with registers has none (Darcet et al. 2024)."
    return Finding("outlier tokens", "fault", message, advice, tuple((layer,) for layer in layers), values)


def norms_over_median(norms: np.ndarray) -> np.ndarray:
    """Divide norms (layers, tokens) by each layer's median."""
    return norms / np.maximum(np.median(norms, 1, keepdims=True), 1e-12)


def outliers_by_layer(norms: np.ndarray) -> list[np.ndarray]:
    """Find the outlier tokens after each block, from norms (layers + 1, tokens): bool (tokens) per layer."""
    relative = norms_over_median(norms)
    grown = relative[1:] > OUTLIER_GROWTH * relative[0]
    return [
        outlier_tokens(layer, OUTLIER_RATIO, OUTLIER_DEVIATIONS) & mask
        for layer, mask in zip(norms[1:], grown, strict=True)
    ]


def attention_to_outliers(statistics: ModelStatistics, outliers: list[list[np.ndarray]]) -> np.ndarray:
    """Return attention to a layer's outliers over their fraction of the patches, mean over images with any: (layers).

    A layer attends to its input tokens, so its outliers are those after the previous layer.
    """
    ratios = np.zeros(statistics.depth)
    for layer in range(1, statistics.depth):
        pairs = [
            (one.attention[layer], masks[layer - 1]) for one, masks in zip(statistics.images, outliers, strict=True)
        ]
        found = [row[mask].sum() / row.sum() / mask.mean() for row, mask in pairs if mask.any() and row.sum() > 0]
        ratios[layer] = np.mean(found) if found else 0
    return ratios


def describe_positions(outliers: list[list[np.ndarray]], layer: int, statistics: ModelStatistics) -> str:
    """Describe how many outliers of a layer are at the border, and whether all images have them at one position."""
    at_border, positions, border = [], [], []
    for one, masks in zip(statistics.images, outliers, strict=True):
        edge = np.ones(one.grid_size, bool)
        edge[1:-1, 1:-1] = False
        at_border += edge.ravel()[masks[layer]].tolist()
        positions += [(one.grid_size, int(index)) for index in np.flatnonzero(masks[layer])]
        border.append(edge.mean())
    text = f"{np.mean(at_border):.0%} of them at the border (it is {np.mean(border):.0%} of the patches)"
    affected = sum(bool(masks[layer].any()) for masks in outliers)
    (grid_size, index), times = max(((one, positions.count(one)) for one in set(positions)), key=lambda pair: pair[1])
    if affected > 2 and times > 0.8 * affected:
        row, column = divmod(index, grid_size[1])
        text += f", mostly the patch in row {row}, column {column}, whatever the image"
    return text


def check_token_collapse(statistics: ModelStatistics) -> Finding:
    """Check for layers after which all patches of an image are nearly the same."""
    topic, similarity = "token collapse", statistics.token_similarity[1:]
    values = {"mean_cosine_by_layer": similarity.tolist()}
    layers = [int(layer) for layer in np.flatnonzero(similarity > MAX_TOKEN_SIMILARITY)]
    if not layers:
        message = f"The patches of an image stay distinct: their mean cosine is {similarity.max():.2f} at most."
        return Finding(topic, "ok", message, values=values)
    message = f"After {format_layers(layers)} all patches of an image are nearly the same: "
    message += f"mean cosine {similarity.max():.3f}."
    advice = "Later attention can hardly distinguish them: maps of later layers no longer belong to positions."
    return Finding(topic, "fault", message, advice, tuple((layer,) for layer in layers), values)


def check_idle_blocks(statistics: ModelStatistics) -> Finding:
    """Check for blocks that hardly change the tokens."""
    topic, values = "idle blocks", {"relative_change_by_layer": statistics.relative_change.tolist()}
    layers = [int(layer) for layer in np.flatnonzero(statistics.relative_change < MIN_RELATIVE_CHANGE)]
    if not layers:
        least = int(statistics.relative_change.argmin())
        change = statistics.relative_change[least]
        message = f"No block is idle: the weakest, layer {least}, adds {change:.0%} of a token's norm."
        return Finding(topic, "ok", message, values=values)
    message = f"{pluralize(len(layers), 'block')} of {statistics.depth} add less than {MIN_RELATIVE_CHANGE:.0%} of a "
    message += f"token's norm: {format_layers(layers)}."
    advice = "Their attention has no effect, but rollout counts it like that of any other block."
    return Finding(topic, "fault", message, advice, tuple((layer,) for layer in layers), values)


def check_layer_scale(statistics: ModelStatistics) -> Finding:
    """Check for branches whose LayerScale factors are close to zero."""
    topic = "LayerScale"
    if statistics.layer_scale is None:
        return Finding(topic, "ok", "The model has no LayerScale.")
    values = {"mean_factors_by_layer": statistics.layer_scale.tolist()}
    weak = statistics.layer_scale < MIN_LAYER_SCALE
    layers = [int(layer) for layer in np.flatnonzero(weak.any(1))]
    if not layers:
        low, high = statistics.layer_scale.min(), statistics.layer_scale.max()
        message = f"LayerScale suppresses no branch: mean factors {low:.2g} to {high:.2g}."
        return Finding(topic, "ok", message, values=values)
    names = [name for name, branch in zip(("attention", "MLP"), weak.T, strict=True) if branch.any()]
    message = f"LayerScale suppresses {' and '.join(names)} of {format_layers(layers)}: "
    message += f"mean factor below {MIN_LAYER_SCALE:g}."
    advice = "These branches have little effect: train longer, or start LayerScale higher."
    return Finding(topic, "fault", message, advice, tuple((layer,) for layer in layers), values)


def _format_count(count: float) -> str:
    return f"{count:.0f}" if count >= 10 or count == round(count) else f"{count:.1f}"


def _format_patches(statistics: ModelStatistics) -> str:
    counts = sorted({one.grid_size[0] * one.grid_size[1] for one in statistics.images})
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
