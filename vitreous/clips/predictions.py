"""What a clip shows, from what its frames show: answers pooled over the clip, and segments of one class each."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vitreous.model.classifier import Prediction
from vitreous.render.plots.timeline import Segment

VOTE_SECONDS = 0.5
"""A segment's class is the one that most frames so near, before and after, were taken for."""
SHORTEST_SECONDS = 0.1
LEAST_PROBABILITY = 1e-30


@dataclass(frozen=True)
class Pooled:
    """An answer about a whole clip."""

    rule: str
    name: str
    probability: float

    def words(self) -> str:
        """As it is said: "dog 87 % (mean of logits)"."""
        return f"{self.name} {100 * self.probability:.0f} % ({self.rule})"


class ClipAnswers:
    """Takes in the answers about frames, and keeps of each its time and its first class.

    Three rules pool them: the mean of the logits (softmax of the mean log probability, from which it differs by a
    constant only); the mean of the probabilities weighted by the frame's confidence, its highest one; and the same
    weighted by how concentrated the map is, 1 − its entropy.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(dict.fromkeys(class_names))
        self._places = {name: place for place, name in enumerate(self.class_names)}
        self._logits, self._confident, self._attentive = np.zeros((3, len(self.class_names)))
        self.times: list[float] = []
        self.names: list[str] = []
        self.end_seconds = 0.0

    def add(self, prediction: Prediction, entropy: float, start_seconds: float, end_seconds: float) -> np.ndarray:
        """Take in the next frame's answer; return its probabilities, float64 (classes), in the order of the names."""
        shares = np.zeros(len(self.class_names))
        for name, share in prediction.scores:
            shares[self._places[name]] += share
        self._logits += np.log(np.maximum(shares, LEAST_PROBABILITY))
        self._confident += prediction.score * shares
        self._attentive += (0.0 if math.isnan(entropy) else max(0.0, 1 - entropy)) * shares
        self.times.append(start_seconds)
        self.names.append(prediction.label)
        self.end_seconds = end_seconds
        return shares

    def pooled(self) -> list[Pooled]:
        """The clip's answer by each rule; by fewer where no map has any weight."""
        if not self.times:
            return []
        mean = self._logits / len(self.times)
        shares = {"mean of logits": np.exp(mean - mean.max()), "confidence-weighted": self._confident}
        shares["attention-weighted"] = self._attentive
        return [
            Pooled(rule, self.class_names[int(values.argmax())], float(values.max() / values.sum()))
            for rule, values in shares.items()
            if values.sum() > 0
        ]

    def segments(self) -> list[Segment]:
        """The stretches of the clip in which one class is the answer, one after the other without gaps."""
        voted = votes(self.times, self.names)
        starts = [i for i in range(len(voted)) if not i or voted[i] != voted[i - 1]]
        ends = [*(self.times[i] for i in starts[1:]), self.end_seconds][: len(starts)]
        return lasting([Segment(self.times[i], end, voted[i]) for i, end in zip(starts, ends, strict=True)])

    def most_shown(self, probabilities: np.ndarray, count: int = 5) -> Mapping[str, np.ndarray]:
        """Of probabilities (frames, classes), those of the classes with the highest means, each float (frames).

        Those that were ever first come in the order in which they were: the strip colors them so too.
        """
        means = np.zeros(len(self.class_names))
        for first in range(0, len(probabilities), 1024):
            means += probabilities[first : first + 1024].astype(np.float64).sum(0)
        firsts = {name: place for place, name in enumerate(dict.fromkeys(self.names))}
        highest = [self.class_names[i] for i in np.argsort(-means, kind="stable")[:count]]
        ordered = sorted(highest, key=lambda name: firsts.get(name, len(firsts)))
        return {name: np.asarray(probabilities[:, self._places[name]], np.float64) for name in ordered}


def votes(times: Sequence[float], names: Sequence[str]) -> list[str]:
    """For each frame the name that most frames within half a second before and after have.

    Where several have as many it is the one that the frame before got, if that is among them, or else the frame's own.
    """
    counts: Counter[str] = Counter()
    voted, first, last = [], 0, 0
    for time, own in zip(times, names, strict=True):
        while last < len(times) and times[last] <= time + VOTE_SECONDS:
            counts[names[last]] += 1
            last += 1
        while times[first] < time - VOTE_SECONDS:
            counts[names[first]] -= 1
            first += 1
        before = voted[-1] if voted else own
        voted.append(max(counts, key=lambda name: (counts[name], name == before, name == own)))
    return voted


def lasting(segments: Sequence[Segment]) -> list[Segment]:
    """The segments without those too short to be told of, whose time the one before takes, or else the one after."""
    kept = [one for one in segments if one.end_seconds - one.start_seconds >= SHORTEST_SECONDS]
    kept = kept or sorted(segments, key=lambda one: one.start_seconds - one.end_seconds)[:1]
    kept = [one for i, one in enumerate(kept) if not i or one.name != kept[i - 1].name]
    starts = [segments[0].start_seconds, *(one.start_seconds for one in kept[1:])] if kept else []
    ends = [*starts[1:], segments[-1].end_seconds] if kept else []
    return [Segment(start, end, one.name) for start, end, one in zip(starts, ends, kept, strict=True)]
