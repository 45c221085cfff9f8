"""A prediction: the labels of an image and their scores, and how they are written and drawn."""

from dataclasses import dataclass
from html import escape
from numbers import Integral

import numpy as np

from vitreous.errors import InputError
from vitreous.model.output_scores import ProblemType


@dataclass(frozen=True, repr=False)
class Prediction:
    """The labels of one image and their scores, highest first.

    `problem_type`, as in transformers, says what the scores are. Of "single_label_classification", whose classes
    exclude each other, they are probabilities that sum to 1. Of "multi_label_classification" (and of a model with one
    output), each is the probability of one label by itself. Of "regression" they are the model's values. A model
    without classes, which gives a vector of features, predicts nothing: `scores` is empty.

    >>> prediction = Prediction((("cat", 0.9), ("dog", 0.1)))
    >>> prediction.label, prediction.score
    ('cat', 0.9)
    >>> prediction
    Prediction(cat 90.0 %, dog 10.0 %)
    """

    scores: tuple[tuple[str, float], ...]
    problem_type: ProblemType = "single_label_classification"

    @property
    def label(self) -> str:
        """The label with the highest score."""
        return self._first[0]

    @property
    def score(self) -> float:
        """The highest score: a probability between 0 and 1, or the highest value of a regression."""
        return self._first[1]

    def top_k(self, k: int = 5) -> tuple[tuple[str, float], ...]:
        """Give the `k` labels with the highest scores, highest first."""
        if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
            raise InputError(f"can't give the top {k!r} labels: give a number of labels, 1 or more")
        return self.scores[: int(k)]

    def caption(self) -> str:
        """Return the label and its score in words, or nothing for a model without classes.

        >>> Prediction((("cat", 0.93), ("dog", 0.07))).caption()
        'cat 93 %'
        """
        return f"{self.label} {self.format_score(self.score, 0)}" if self.scores else ""

    def is_correct(self, truth: str | None) -> bool | None:
        """Return whether this is the true label; None if that is unknown, or no label is predicted."""
        if truth is None or not self.scores or self.problem_type != "single_label_classification":
            return None
        return self.label == truth

    def draw(self, image_u8: np.ndarray) -> np.ndarray:
        """Draw the prediction on its image, uint8 (height, width, 3): labels leave it as it is, boxes would be drawn.

        It is drawn wherever the image is shown beside a map or under one.
        """
        return image_u8

    @property
    def probabilities(self) -> tuple[tuple[str, float], ...]:
        """The labels and their scores, highest first; empty if the scores are no probabilities."""
        return () if self.problem_type == "regression" else self.scores

    def format_score(self, score: float, decimals: int = 1) -> str:
        """Write a score in words: "90.0 %", or "3.14" for the value of a regression."""
        return f"{score:.3g}" if self.problem_type == "regression" else f"{100 * score:.{decimals}f} %"

    def __repr__(self) -> str:
        more = ", …" if len(self.scores) > 5 else ""
        return f"Prediction({', '.join(f'{label} {self.format_score(score)}' for label, score in self.top_k())}{more})"

    def _repr_html_(self) -> str:
        cells = (f"<td>{escape(label)}</td><td>{self.format_score(score)}</td>" for label, score in self.top_k())
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"

    @property
    def _first(self) -> tuple[str, float]:
        if not self.scores:
            raise InputError("this model has no classes, only features: it predicts nothing; take one with a head")
        return self.scores[0]
