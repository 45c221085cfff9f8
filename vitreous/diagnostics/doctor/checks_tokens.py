"""What is wrong with a model's tokens and blocks: outliers, tokens that collapse, blocks that do nothing."""

import numpy as np

from vitreous.diagnostics.doctor.finding import Finding, counted, layers_in_words
from vitreous.diagnostics.doctor.statistics import Anatomy, outlier_tokens

OUTLIER_RATIO, OUTLIER_DEVIATIONS = 3.0, 6.0
"""An outlier token is this many times as long as the median, and beyond it by so many standard deviations. Those of
Darcet et al. (2024, section 2.1) are some 10 times as long; measured: 1.6 times at most on
DINOv2 ViT-S/14, which has none."""
OUTLIER_GROWTH = 2.0
"""And its length over the median has grown by this since the embedding: the model has made it so. On MNIST, strokes are
longer than blank paper from the start, and up to 3.9 times the median later; that is the image, not an outlier."""
OUTLIER_IMAGES = 0.25
"""Share of the images that must have outliers in a layer before the layer is said to have them."""
DRAWN = 3.0
"""Outliers spoil a layer's map where they draw this many times their share of its attention."""
SAME_TOKENS = 0.95
"""Mean cosine between an image's patches from where they are all the same (Dong et al. 2021); measured: 0.67."""
IDLE_CHANGE = 0.01
"""A block that adds less than this share of a token's length does nothing; measured: 0.2 at least."""
WEAK_SCALE = 1e-3
"""LayerScale starts between 1e-6 and 0.1 (Touvron et al. 2021, section 2); a mean below this has hardly grown;
measured: 0.14 at least."""


def outliers(anatomy: Anatomy) -> Finding:
    """Patches whose tokens are far longer than the rest, in which the model keeps what isn't theirs."""
    found = [outliers_by_layer(one.norms) for one in anatomy.images]
    present = np.array([[layer.any() for layer in one] for one in found]).mean(0)
    layers = [int(layer) for layer in np.flatnonzero(present >= OUTLIER_IMAGES)]
    ratios = np.array([relative_lengths(one.norms)[1:].max(1) for one in anatomy.images])
    numbers = {
        "greatest ratio": float(ratios.max()),
        "layers": layers,
        "images with them, by layer": present.tolist(),
    }
    if not layers:
        few = f"Outlier tokens in {present.max():.0%} of the images only" if present.any() else "No outlier tokens"
        words = f"{few}: in no layer is the longest patch's token more than {ratios.mean(0).max():.1f} times "
        words += "as long as the median (mean over the images)."
        return Finding("outlier tokens", "well", words, numbers=numbers)
    worst = max(layers, key=lambda layer: ratios[:, layer].mean())
    drawn = attention_drawn(anatomy, found)
    spoiled = [int(layer) for layer in np.flatnonzero(drawn > DRAWN) if layer >= layers[0]]
    count, share = (float(np.mean([mean(one[worst]) for one in found])) for mean in (np.sum, np.mean))
    numbers |= {"worst layer": worst, "patches": count, "share": share, "attention over share": drawn.tolist()}
    words = (
        f"{_number(count)} of {_patches(anatomy)} patches ({share:.1%}) are up to {ratios[:, worst].mean():.1f} times "
        f"as long as the median in layer {worst}, in {present[worst]:.0%} of the images: outlier tokens, "
        f"{where(found, worst, anatomy)}. They are there in {layers_in_words(layers)}."
    )
    meaning = "The readout's attention isn't drawn to them. "
    if spoiled:
        times = f"{drawn[spoiled].max():.0f} times their share of the readout's attention"
        meaning = f"Attention maps of {layers_in_words(spoiled)} show spots there: they draw up to {times}. "
    meaning += "A model trained with registers has none (Darcet et al. 2024)."
    return Finding("outlier tokens", "fault", words, meaning, tuple((layer,) for layer in layers), numbers)


def relative_lengths(norms: np.ndarray) -> np.ndarray:
    """Lengths (layers, tokens) over each layer's median."""
    return norms / np.maximum(np.median(norms, 1, keepdims=True), 1e-12)


def outliers_by_layer(norms: np.ndarray) -> list[np.ndarray]:
    """Which tokens are outliers out of each block: lengths (layers + 1, tokens) to bool (tokens) a layer."""
    relative = relative_lengths(norms)
    grown = relative[1:] > OUTLIER_GROWTH * relative[0]
    return [
        outlier_tokens(layer, OUTLIER_RATIO, OUTLIER_DEVIATIONS) & marks
        for layer, marks in zip(norms[1:], grown, strict=True)
    ]


def attention_drawn(anatomy: Anatomy, found: list[list[np.ndarray]]) -> np.ndarray:
    """Attention on a layer's outliers over their share of the patches, mean over images that have some: (layers).

    A layer attends to the tokens that it was given, so the outliers are those out of the layer before it.
    """
    drawn = np.zeros(anatomy.layers)
    for layer in range(1, anatomy.layers):
        pairs = [(one.attention[layer], marks[layer - 1]) for one, marks in zip(anatomy.images, found, strict=True)]
        shares = [row[marks].sum() / row.sum() / marks.mean() for row, marks in pairs if marks.any() and row.sum() > 0]
        drawn[layer] = np.mean(shares) if shares else 0
    return drawn


def where(found: list[list[np.ndarray]], layer: int, anatomy: Anatomy) -> str:
    """Whether a layer's outliers are at the image's border, and whether at the same place in every image."""
    at_border, places, border = [], [], []
    for one, marks in zip(anatomy.images, found, strict=True):
        edge = np.ones(one.grid_hw, bool)
        edge[1:-1, 1:-1] = False
        at_border += edge.ravel()[marks[layer]].tolist()
        places += [(one.grid_hw, int(place)) for place in np.flatnonzero(marks[layer])]
        border.append(edge.mean())
    words = f"{np.mean(at_border):.0%} of them at the border (it is {np.mean(border):.0%} of the patches)"
    with_some = sum(bool(marks[layer].any()) for marks in found)
    (grid_hw, place), times = max(((place, places.count(place)) for place in set(places)), key=lambda pair: pair[1])
    if with_some > 2 and times > 0.8 * with_some:
        row, column = divmod(place, grid_hw[1])
        words += f", mostly the patch in row {row}, column {column}, whatever the image"
    return words


def token_collapse(anatomy: Anatomy) -> Finding:
    """Layers out of which all patches of an image come nearly the same."""
    topic, similarity = "collapse of tokens", anatomy.similarity[1:]
    numbers = {"mean cosine, by layer": similarity.tolist()}
    layers = [int(layer) for layer in np.flatnonzero(similarity > SAME_TOKENS)]
    if not layers:
        words = f"The patches of an image stay different: their mean cosine is {similarity.max():.2f} at most."
        return Finding(topic, "well", words, numbers=numbers)
    words = f"Out of {layers_in_words(layers)} all patches of an image come nearly the same: "
    words += f"mean cosine {similarity.max():.3f}."
    meaning = "Later attention can hardly tell them apart: maps of later layers don't belong to places any more."
    return Finding(topic, "fault", words, meaning, tuple((layer,) for layer in layers), numbers)


def idle_blocks(anatomy: Anatomy) -> Finding:
    """Blocks that add next to nothing."""
    topic, numbers = "idle blocks", {"change, by layer": anatomy.change.tolist()}
    layers = [int(layer) for layer in np.flatnonzero(anatomy.change < IDLE_CHANGE)]
    if not layers:
        least = int(anatomy.change.argmin())
        words = f"Every block works: the quietest, layer {least}, adds {anatomy.change[least]:.0%} of a token's length."
        return Finding(topic, "well", words, numbers=numbers)
    words = f"{counted(len(layers), 'block')} of {anatomy.layers} add less than {IDLE_CHANGE:.0%} of a token's length: "
    meaning = "Their attention has no effect, but rollout counts it like any other's."
    places = tuple((layer,) for layer in layers)
    return Finding(topic, "fault", words + layers_in_words(layers) + ".", meaning, places, numbers)


def weak_layer_scale(anatomy: Anatomy) -> Finding:
    """Branches that LayerScale keeps near nought."""
    topic = "LayerScale"
    if anatomy.layer_scale is None:
        return Finding(topic, "well", "The model has no LayerScale that could be near nought.")
    numbers = {"mean factor of attention and MLP, by layer": anatomy.layer_scale.tolist()}
    weak = anatomy.layer_scale < WEAK_SCALE
    layers = [int(layer) for layer in np.flatnonzero(weak.any(1))]
    if not layers:
        low, high = anatomy.layer_scale.min(), anatomy.layer_scale.max()
        return Finding(
            topic,
            "well",
            f"LayerScale lets every branch through: mean factors {low:.2g} to {high:.2g}.",
            numbers=numbers,
        )
    names = [name for name, branch in zip(("attention", "MLP"), weak.T, strict=True) if branch.any()]
    words = f"LayerScale keeps {' and '.join(names)} of {layers_in_words(layers)} near nought: "
    words += f"mean factor below {WEAK_SCALE:g}."
    return Finding(topic, "fault", words, "These branches hardly count: train longer, or start it higher.",
                   tuple((layer,) for layer in layers), numbers)  # fmt: skip


def _number(count: float) -> str:
    return f"{count:.0f}" if count >= 10 or count == round(count) else f"{count:.1f}"


def _patches(anatomy: Anatomy) -> str:
    sizes = sorted({one.grid_hw[0] * one.grid_hw[1] for one in anatomy.images})
    return f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
