"""Predictions for a whole clip, from those for its frames: pooled over time, and as segments of one class each."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vitreous.model.prediction import Prediction
from vitreous.render.plots.timeline import Segment

VOTE_SECONDS = 0.5
"""A frame's vote counts for all frames within this time before and after it, by how long it is shown in that time."""
MICROSECONDS = 1_000_000
MIN_SEGMENT_SECONDS = 0.1
MIN_PROBABILITY = 1e-30


@dataclass(frozen=True)
class ClipPrediction:
    """The prediction for a whole clip by one pooling rule.

    >>> print(ClipPrediction("mean of logits", "dog", 0.87))
    dog 87 % (mean of logits)
    """

    rule: str
    label: str
    score: float

    def __str__(self) -> str:
        return f"{self.label} {100 * self.score:.0f} % ({self.rule})"


class PredictionPool:
    """Pools the predictions for the frames of a clip, and keeps the time and the top class of each frame.

    Three rules pool them: the mean of the logits (the softmax of the mean log probability, which differs from it by a
    constant only); the mean of the probabilities weighted by the frame's confidence, which is its highest probability;
    and the mean weighted by how concentrated the map is, 1 - its entropy. Labels that don't exclude each other are
    pooled each by itself: the mean of the logits is then the mean log odds.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(dict.fromkeys(class_names))
        self._index = {name: index for index, name in enumerate(self.class_names)}
        self._logits, self._by_confidence, self._by_attention = np.zeros((3, len(self.class_names)))
        self._is_exclusive, self._confidence, self._attention = True, 0.0, 0.0
        self.times: list[float] = []
        self.labels: list[str] = []
        self.end_seconds = 0.0

    def add(self, prediction: Prediction, entropy: float, start_seconds: float, end_seconds: float) -> np.ndarray:
        """Add the next frame's prediction.

        Returns: its probabilities, float64 (classes), in the order of `class_names`.
        """
        probabilities = np.zeros(len(self.class_names))
        for label, score in prediction.scores:
            probabilities[self._index[label]] += score
        self._is_exclusive = prediction.problem_type == "single_label_classification"
        self._logits += np.log(np.maximum(probabilities, MIN_PROBABILITY))
        if not self._is_exclusive:
            self._logits -= np.log(np.maximum(1 - probabilities, MIN_PROBABILITY))
        attention = 0.0 if math.isnan(entropy) else max(0.0, 1 - entropy)
        self._by_confidence += prediction.score * probabilities
        self._by_attention += attention * probabilities
        self._confidence, self._attention = self._confidence + prediction.score, self._attention + attention
        self.times.append(start_seconds)
        self.labels.append(prediction.label)
        self.end_seconds = end_seconds
        return probabilities

    def predictions(self) -> list[ClipPrediction]:
        """Return the clip's prediction by each rule; a rule is missing where no map has any weight."""
        if not self.times:
            return []
        mean = self._logits / len(self.times)
        by_logits = np.exp(mean - mean.max()) if self._is_exclusive else 1 / (1 + np.exp(-mean))
        pooled = {"mean of logits": by_logits, "confidence-weighted": self._by_confidence}
        pooled["attention-weighted"] = self._by_attention
        totals = [1.0, self._confidence, self._attention]  # the weights of the frames
        if self._is_exclusive:
            totals = [float(values.sum()) for values in pooled.values()]
        return [
            ClipPrediction(rule, self.class_names[int(values.argmax())], float(values.max() / total))
            for (rule, values), total in zip(pooled.items(), totals, strict=True)
            if total > 0
        ]

    def segments(self) -> list[Segment]:
        """Return the parts of the clip in which one class is predicted, one after the other without gaps."""
        labels = majority_vote(self.times, self.labels, self.end_seconds)
        starts = [i for i in range(len(labels)) if not i or labels[i] != labels[i - 1]]
        ends = [*(self.times[i] for i in starts[1:]), self.end_seconds][: len(starts)]
        return min_duration_segments(
            [Segment(self.times[i], end, labels[i]) for i, end in zip(starts, ends, strict=True)]
        )

    def top_classes(self, probabilities: np.ndarray, count: int = 5) -> Mapping[str, np.ndarray]:
        """Select the classes with the highest mean from probabilities (frames, classes); each is float64 (frames).

        Classes that were predicted for a frame come in the order in which they first were, as in the class strip.
        """
        means = np.zeros(len(self.class_names))
        for first in range(0, len(probabilities), 1024):
            means += probabilities[first : first + 1024].astype(np.float64).sum(0)
        order = {label: number for number, label in enumerate(dict.fromkeys(self.labels))}
        highest = [self.class_names[i] for i in np.argsort(-means, kind="stable")[:count]]
        ordered = sorted(highest, key=lambda label: order.get(label, len(order)))
        return {label: np.asarray(probabilities[:, self._index[label]], np.float64) for label in ordered}


def majority_vote(times: Sequence[float], labels: Sequence[str], end_seconds: float) -> list[str]:
    """Return for each frame the label that is shown longest from half a second before it until half a second after it.

    A tie goes to the label of the frame before, if that is among them, or else to the frame's own label. Durations are
    counted in whole microseconds, so that frames of one duration have one weight.

    Args:
        times: when each frame starts, in seconds, increasing.
        labels: of each frame.
        end_seconds: the end of the last frame.
    """
    edges = [round(time * MICROSECONDS) for time in (*times, end_seconds)]
    reach, shown = round(VOTE_SECONDS * MICROSECONDS), Counter[str]()
    voted, first, last = [], 0, 0
    for i, own in enumerate(labels):
        start, end = edges[i] - reach, edges[i + 1] + reach
        while last < len(labels) and edges[last] < end:
            shown[labels[last]] += edges[last + 1] - edges[last]
            last += 1
        while edges[first + 1] <= start:
            shown[labels[first]] -= edges[first + 1] - edges[first]
            first += 1
        inside = Counter(shown)
        inside[labels[first]] -= max(0, start - edges[first])
        inside[labels[last - 1]] -= max(0, edges[last] - end)
        previous = voted[-1] if voted else own
        votes = [(count, label == previous, label == own, label) for label, count in inside.items()]
        voted.append(max(votes)[-1])
    return voted


def min_duration_segments(segments: Sequence[Segment]) -> list[Segment]:
    """Drop segments that are too short; the segment before gets their time, or else the one after."""
    kept = [one for one in segments if one.end_seconds - one.start_seconds >= MIN_SEGMENT_SECONDS]
    kept = kept or sorted(segments, key=lambda one: one.start_seconds - one.end_seconds)[:1]
    kept = [one for i, one in enumerate(kept) if not i or one.label != kept[i - 1].label]
    starts = [segments[0].start_seconds, *(one.start_seconds for one in kept[1:])] if kept else []
    ends = [*starts[1:], segments[-1].end_seconds] if kept else []
    return [Segment(start, end, one.label) for start, end, one in zip(starts, ends, kept, strict=True)]
