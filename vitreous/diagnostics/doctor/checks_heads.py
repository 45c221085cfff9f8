"""What is wrong with a model's heads: dead, uniform, on one prefix token, alike for every query, or doubled."""

import numpy as np

from vitreous.diagnostics.doctor.finding import Finding, counted, heads_in_words, places_where
from vitreous.diagnostics.doctor.statistics import Anatomy

DEAD_CONTRIBUTION = 0.005
"""A head that adds less than this share of a token's length is dead; measured: the least of a model that is well adds
5 %."""
UNIFORM_ENTROPY = 0.99
"""From here on a head's attention is even over all tokens; measured: 0.95 at most."""
PREFIX_SHARE = 0.9
"""A head whose patches give one prefix token this share of their attention rests there: a sink (Xiao et al. 2024,
section 3.1); measured: 0.45 at most."""
BLIND_DEPENDENCE = 0.02
"""Below it a head's patches all attend to the same places; measured: 0.05 at least."""
ALIKE = 0.97
"""Two heads of a layer whose attention correlates more than this do the same; measured: 0.94 at most."""
NEAR_SHARE, FAR_SHARE = 0.4, 0.9
"""Of the distance that even attention has: what counts as looking nearby, and as looking far."""


def dead_heads(anatomy: Anatomy) -> Finding:
    """Heads that add next to nothing to the tokens."""
    topic = "dead heads"
    if anatomy.contribution is None:
        return Finding(
            topic, "unknown", "What each head adds can't be known: the model doesn't hand out its projection."
        )
    numbers = {"least": float(anatomy.contribution.min()), "threshold": DEAD_CONTRIBUTION}
    places = places_where(anatomy.contribution < DEAD_CONTRIBUTION)
    if not places:
        layer, head = np.unravel_index(anatomy.contribution.argmin(), anatomy.contribution.shape)
        least = f"the weakest, layer {layer} head {head}, adds {numbers['least']:.1%} of a token's length"
        return Finding(topic, "well", f"No dead heads: {least}.", numbers=numbers)
    words = f"{_of(places, anatomy, 'add')} less than {DEAD_CONTRIBUTION:.1%} of a token's length: "
    words += f"{heads_in_words(places)}."
    meaning = "Their maps show something that the model doesn't use: leave them out when you look, or prune them."
    return Finding(topic, "fault", words, meaning, places, numbers)


def uniform_heads(anatomy: Anatomy) -> Finding:
    """Heads whose attention is even over all tokens."""
    topic, numbers = "uniform heads", {"most even": float(anatomy.entropy.max()), "threshold": UNIFORM_ENTROPY}
    places = places_where(anatomy.entropy > UNIFORM_ENTROPY)
    if not places:
        words = f"No head attends evenly to everything: the widest's entropy is {numbers['most even']:.0%} of that."
        return Finding(topic, "well", words, numbers=numbers)
    words = f"{_of(places, anatomy, 'attend')} to all tokens alike: {heads_in_words(places)}."
    meaning = "They only average: their maps say nothing about where, and they blur the mean over heads."
    return Finding(topic, "fault", words, meaning, places, numbers)


def prefix_heads(anatomy: Anatomy) -> Finding:
    """Heads whose patches look at one prefix token only."""
    topic = "resting heads"
    if anatomy.prefix == 0:
        return Finding(topic, "well", "No head can rest on a prefix token: the model has none.")
    share = anatomy.prefix_attention.max(-1)
    numbers = {"greatest share": float(share.max()), "threshold": PREFIX_SHARE}
    places = places_where(share > PREFIX_SHARE)
    if not places:
        words = f"No head rests on a prefix token: at most {share.max():.0%} of a head's attention goes to one."
        return Finding(topic, "well", words, numbers=numbers)
    words = f"{_of(places, anatomy, 'give')} over {PREFIX_SHARE:.0%} of the attention to one prefix token: "
    meaning = "A head rests so when it finds nothing to do; what is left on the patches is small, however it is drawn."
    return Finding(topic, "note", words + heads_in_words(places) + ".", meaning, places, numbers)


def blind_heads(anatomy: Anatomy) -> Finding:
    """Heads that look at the same places from everywhere, without being even or resting."""
    topic = "same for every query"
    even = anatomy.entropy > UNIFORM_ENTROPY
    resting = anatomy.prefix_attention.max(-1) > PREFIX_SHARE if anatomy.prefix else np.zeros_like(even)
    others = np.where(even | resting, np.inf, anatomy.query_dependence)
    numbers = {"least": float(anatomy.query_dependence.min()), "threshold": BLIND_DEPENDENCE}
    places = places_where(others < BLIND_DEPENDENCE)
    if np.isinf(others).all():
        return Finding(topic, "well", "Every head attends evenly or rests on a prefix token.", numbers=numbers)
    if not places:
        layer, head = np.unravel_index(others.argmin(), others.shape)
        words = (
            f"In {'every other head' if _any(even, resting) else 'every head'} it matters which patch asks: least in "
        )
        words += f"layer {layer} head {head}, where {others.min():.0%} of the attention's variation comes from that."
        return Finding(topic, "well", words, numbers=numbers)
    words = f"{_of(places, anatomy, 'attend')} to the same places whichever patch asks: {heads_in_words(places)}."
    meaning = "Such a head gathers one summary for all tokens; its map for a chosen patch says nothing of that patch."
    return Finding(topic, "note", words, meaning, places, numbers)


def redundant_heads(anatomy: Anatomy) -> Finding:
    """Heads of one layer that do the same."""
    topic, upper = "doubled heads", np.triu(np.ones((anatomy.heads, anatomy.heads), bool), 1)
    most = float(anatomy.likeness[:, upper].max()) if anatomy.heads > 1 else 0.0
    numbers = {"most alike": most, "threshold": ALIKE}
    pairs = places_where((anatomy.likeness > ALIKE) & upper)
    if not pairs:
        words = f"No two heads of a layer do the same: their attention correlates {most:.2f} at most."
        return Finding(topic, "well", words, numbers=numbers)
    shown = "; ".join(f"layer {layer}: heads {first} and {second}" for layer, first, second in pairs[:6])
    more = f"; and {len(pairs) - 6} more pairs" if len(pairs) > 6 else ""
    verb = "does" if len(pairs) == 1 else "do"
    words = f"{counted(len(pairs), 'pair')} of heads {verb} the same (correlation above {ALIKE}): {shown}{more}."
    heads = sorted({(layer, head) for layer, *both in pairs for head in both})
    return Finding(topic, "note", words, "One of each pair could go; seeing both adds nothing.", tuple(heads), numbers)


def distance_of_heads(anatomy: Anatomy) -> Finding:
    """How far the heads look, layer by layer: no fault, but what the model is like."""
    share = anatomy.distance / anatomy.uniform_distance
    near, far = int((share < NEAR_SHARE).sum()), int((share > FAR_SHARE).sum())
    pixels = anatomy.patch_size
    low, high = float(anatomy.distance.min()), float(anatomy.distance.max())
    total = anatomy.layers * anatomy.heads
    words = (
        f"Heads look {low:.1f} to {high:.1f} patches far on average ({low * pixels:.0f} to {high * pixels:.0f} of the "
        f"model's pixels); even attention would look {anatomy.uniform_distance:.1f}. Of {counted(total, 'head')} "
        f"{near} look nearby (under {NEAR_SHARE:.0%} of that), {far} far (over {FAR_SHARE:.0%})."
    )
    numbers = {"patches": anatomy.distance.tolist(), "of even attention": anatomy.uniform_distance}
    places = places_where(share < NEAR_SHARE)
    return Finding("attention distance", "well", words, places=places, numbers=numbers)


def _of(places: tuple[tuple[int, ...], ...], anatomy: Anatomy, verb: str) -> str:
    return f"{len(places)} of {counted(anatomy.layers * anatomy.heads, 'head')} {verb}{'s' * (len(places) == 1)}"


def _any(*conditions: np.ndarray) -> bool:
    return any(bool(condition.any()) for condition in conditions)
