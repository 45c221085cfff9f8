"""Which of some classes a picture shows: loss, prediction, and a model that answers on real pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vitreous.data.images import as_image_u8
from vitreous.data.preprocessing import Geometry, Preprocessing, prepare
from vitreous.errors import unknown
from vitreous.model.trace import Trace
from vitreous.model.vit import ViT

Picture = str | Path | Image.Image | np.ndarray
"""A picture as users have it: a file's path, a Pillow image, or uint8 (height, width, 3)."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one picture: classes and probabilities (0 to 1), most probable first."""

    ranking: tuple[tuple[str, float], ...]

    @property
    def name(self) -> str:
        """The most probable class."""
        return self.ranking[0][0]

    @property
    def probability(self) -> float:
        """The probability of the most probable class, between 0 and 1."""
        return self.ranking[0][1]


class Classifier:
    """A ViT with all it needs to answer on real pictures: preprocessing and the names of its classes."""

    def __init__(self, vit: ViT, preprocessing: Preprocessing, class_names: Sequence[str]) -> None:
        assert vit.config.classes == len(class_names), "one name a class"
        self.vit = vit.eval()
        self.preprocessing = preprocessing
        self.class_names = tuple(class_names)

    @property
    def device(self) -> torch.device:
        """Where the weights lie, and where pictures are taken to."""
        return next(self.vit.parameters()).device

    def prepare(self, picture: Picture) -> tuple[Tensor, Geometry]:
        """A picture of any size as the model's input (channels, height, width), and where its pixels came from."""
        pixels, geometry = prepare(as_image_u8(picture), self.preprocessing)
        return pixels.to(self.device), geometry

    def predict(self, picture: Picture) -> Prediction:
        """What the picture shows.

        Raises:
            InputError: the file can't be read as a picture.
        """
        return self.predict_batch([picture])[0]

    @torch.no_grad()
    def predict_batch(self, pictures: Sequence[Picture]) -> list[Prediction]:
        """What each of several pictures shows; they may differ in size."""
        inputs = [self.prepare(picture)[0] for picture in pictures]
        if len({pixels.shape for pixels in inputs}) == 1:
            return self.read(self.vit(torch.stack(inputs)))
        return [self.read(self.vit(pixels[None]))[0] for pixels in inputs]

    def observe(self, inputs: Tensor) -> tuple[Tensor, Trace]:
        """Logits (batch, classes) of prepared pictures, and the trace of how they came about."""
        trace = Trace()
        return self.vit(inputs, trace), trace

    def read(self, logits: Tensor) -> list[Prediction]:
        """Logits (batch, classes) as predictions."""
        probabilities, order = torch.softmax(logits.float(), -1).sort(-1, descending=True)
        rows = zip(order.tolist(), probabilities.tolist(), strict=True)
        return [Prediction(tuple((self.class_names[i], p) for i, p in zip(*row, strict=True))) for row in rows]

    def class_index(self, name: str) -> int:
        """The index of a class by name.

        Raises:
            InputError: no class is called so; names the nearest.
        """
        if name not in self.class_names:
            raise unknown("class", name, self.class_names)
        return self.class_names.index(name)


def loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats of logits (batch, classes) and labels (batch), computed in float32.

    With smoothing s, the truth is 1 − s on the label plus s / classes on each (Szegedy et al. 2016, section 7).
    """
    return functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
