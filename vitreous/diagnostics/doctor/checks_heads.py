"""Checks of a model's heads: dead, uniform, attention sinks, query-independent or redundant."""

import numpy as np

from vitreous.diagnostics.doctor.findings import Finding, format_heads, locations_where, pluralize
from vitreous.diagnostics.doctor.statistics import ModelStatistics

MIN_CONTRIBUTION = 0.005
"""A head that adds a smaller fraction of a token's norm is dead. Measured: a healthy head adds at least 5 %."""
MAX_ENTROPY = 0.99
"""A head with a higher relative entropy attends uniformly. Measured: 0.95 at most."""
MAX_PREFIX_ATTENTION = 0.9
"""A head whose patches give one prefix token a larger fraction of their attention is an attention sink (Xiao et al.
2024, section 3.1). Measured: 0.45 at most."""
MIN_QUERY_DEPENDENCE = 0.02
"""Below this, all patches of a head attend to the same tokens. Measured: 0.05 at least."""
MAX_HEAD_SIMILARITY = 0.97
"""Two heads of a layer whose attention correlates more are redundant. Measured: 0.94 at most."""
LOCAL_DISTANCE, GLOBAL_DISTANCE = 0.4, 0.9
"""Mean attention distance, over that of uniform attention, below which a head is local and above which it is global."""


def check_dead_heads(statistics: ModelStatistics) -> Finding:
    """Check for heads that add almost nothing to the tokens."""
    topic = "dead heads"
    contribution = statistics.contribution
    if contribution is None:
        return Finding(
            topic, "unknown", "The contribution of the heads can't be measured: the model hides its projection."
        )
    values = {"min_contribution": float(contribution.min()), "threshold": MIN_CONTRIBUTION}
    locations = locations_where(contribution < MIN_CONTRIBUTION)
    if not locations:
        layer, head = np.unravel_index(contribution.argmin(), contribution.shape)
        message = (
            f"No dead heads: the weakest, layer {layer} head {head}, adds {contribution.min():.1%} of a token's norm."
        )
        return Finding(topic, "ok", message, values=values)
    message = f"{_subject(locations, statistics, 'add')} less than {MIN_CONTRIBUTION:.1%} of a token's norm: "
    message += f"{format_heads(locations)}."
    advice = "Their maps show nothing that the model uses: ignore them, or prune these heads."
    return Finding(topic, "fault", message, advice, locations, values)


def check_uniform_heads(statistics: ModelStatistics) -> Finding:
    """Check for heads that attend to all tokens equally."""
    topic, values = "uniform heads", {"max_entropy": float(statistics.entropy.max()), "threshold": MAX_ENTROPY}
    locations = locations_where(statistics.entropy > MAX_ENTROPY)
    if not locations:
        message = f"No head attends uniformly: the highest entropy is {statistics.entropy.max():.0%} of the maximum."
        return Finding(topic, "ok", message, values=values)
    message = f"{_subject(locations, statistics, 'attend')} to all tokens equally: {format_heads(locations)}."
    advice = "They only average: their maps localize nothing, and they blur the mean over heads."
    return Finding(topic, "fault", message, advice, locations, values)


def check_attention_sinks(statistics: ModelStatistics) -> Finding:
    """Check for heads whose patches attend to a single prefix token."""
    topic = "attention sinks"
    if statistics.num_prefix_tokens == 0:
        return Finding(topic, "ok", "No head can have a prefix token as attention sink: the model has none.")
    attention = statistics.prefix_attention.max(-1)
    values = {"max_prefix_attention": float(attention.max()), "threshold": MAX_PREFIX_ATTENTION}
    locations = locations_where(attention > MAX_PREFIX_ATTENTION)
    if not locations:
        message = f"No head has a prefix token as attention sink: {attention.max():.0%} of a head's attention at most."
        return Finding(topic, "ok", message, values=values)
    message = f"{_subject(locations, statistics, 'give')} over {MAX_PREFIX_ATTENTION:.0%} of the attention to one "
    message += f"prefix token: {format_heads(locations)}."
    advice = "A head does so when it finds nothing relevant; the little attention on patches says little in any map."
    return Finding(topic, "note", message, advice, locations, values)


def check_query_independent_heads(statistics: ModelStatistics) -> Finding:
    """Check for heads whose patches all attend to the same tokens; uniform heads and attention sinks are excluded."""
    topic = "query-independent heads"
    uniform = statistics.entropy > MAX_ENTROPY
    sinks = np.zeros_like(uniform)
    if statistics.num_prefix_tokens:
        sinks = statistics.prefix_attention.max(-1) > MAX_PREFIX_ATTENTION
    others = np.where(uniform | sinks, np.inf, statistics.query_dependence)
    values = {"min_query_dependence": float(statistics.query_dependence.min()), "threshold": MIN_QUERY_DEPENDENCE}
    locations = locations_where(others < MIN_QUERY_DEPENDENCE)
    if np.isinf(others).all():
        return Finding(topic, "ok", "Every head attends uniformly or has an attention sink.", values=values)
    if not locations:
        layer, head = np.unravel_index(others.argmin(), others.shape)
        which = "every other head" if uniform.any() or sinks.any() else "every head"
        message = f"In {which} the attention depends on the query: least in layer {layer} head {head}, where the query "
        message += f"explains {others.min():.0%} of the variation."
        return Finding(topic, "ok", message, values=values)
    message = f"{_subject(locations, statistics, 'attend')} to the same tokens for every query: "
    message += f"{format_heads(locations)}."
    advice = (
        "Such a head summarizes the image for all tokens; its map for a chosen patch says nothing about that patch."
    )
    return Finding(topic, "note", message, advice, locations, values)


def check_redundant_heads(statistics: ModelStatistics) -> Finding:
    """Check for heads of one layer with the same attention."""
    topic, upper = "redundant heads", np.triu(np.ones((statistics.num_heads, statistics.num_heads), bool), 1)
    most = float(statistics.head_similarity[:, upper].max()) if statistics.num_heads > 1 else 0.0
    values = {"max_head_similarity": most, "threshold": MAX_HEAD_SIMILARITY}
    pairs = locations_where((statistics.head_similarity > MAX_HEAD_SIMILARITY) & upper)
    if not pairs:
        message = f"No two heads of a layer are redundant: their attention correlates {most:.2f} at most."
        return Finding(topic, "ok", message, values=values)
    listed = "; ".join(f"layer {layer}: heads {first} and {second}" for layer, first, second in pairs[:6])
    more = f"; and {len(pairs) - 6} more pairs" if len(pairs) > 6 else ""
    verb = "has" if len(pairs) == 1 else "have"
    message = f"{pluralize(len(pairs), 'pair')} of heads {verb} the same attention (correlation above "
    message += f"{MAX_HEAD_SIMILARITY}): {listed}{more}."
    heads = sorted({(layer, head) for layer, *both in pairs for head in both})
    return Finding(topic, "note", message, "One head of each pair could be pruned.", tuple(heads), values)


def describe_attention_distance(statistics: ModelStatistics) -> Finding:
    """Describe how local or global the heads are; this is never a fault."""
    relative = statistics.distance / statistics.uniform_distance
    num_local, num_global = int((relative < LOCAL_DISTANCE).sum()), int((relative > GLOBAL_DISTANCE).sum())
    pixels = statistics.patch_size
    low, high = float(statistics.distance.min()), float(statistics.distance.max())
    total = statistics.depth * statistics.num_heads
    message = (
        f"The mean attention distance of the heads is {low:.1f} to {high:.1f} patches ({low * pixels:.0f} to "
        f"{high * pixels:.0f} pixels of the input); that of uniform attention is {statistics.uniform_distance:.1f}. "
        f"Of {pluralize(total, 'head')} {num_local} are local (under {LOCAL_DISTANCE:.0%} of that), {num_global} are "
        f"global (over {GLOBAL_DISTANCE:.0%})."
    )
    values = {"distance": statistics.distance.tolist(), "uniform_distance": statistics.uniform_distance}
    locations = locations_where(relative < LOCAL_DISTANCE)
    return Finding("attention distance", "ok", message, locations=locations, values=values)


def _subject(locations: tuple[tuple[int, ...], ...], statistics: ModelStatistics, verb: str) -> str:
    """Write the beginning of a sentence: "1 of 12 heads adds", "2 of 12 heads add"."""
    total = pluralize(statistics.depth * statistics.num_heads, "head")
    return f"{len(locations)} of {total} {verb}{'s' * (len(locations) == 1)}"
