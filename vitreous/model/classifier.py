"""Which of some classes an image shows: loss, prediction, and a model that answers on real images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vitreous.errors import InputError, unknown
from vitreous.imaging.geometry import Geometry
from vitreous.imaging.preprocessing import Preprocessing, preprocess_image
from vitreous.imaging.reading import as_image_u8
from vitreous.model.vit import ViT

ImageInput = str | Path | Image.Image | np.ndarray
"""An image as users have it: a file's path, a Pillow image, or uint8 (height, width, 3)."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: classes and probabilities (0 to 1), most probable first.

    A model without classes, which answers with a vector of features, says nothing: its ranking is empty.
    """

    scores: tuple[tuple[str, float], ...]

    @property
    def label(self) -> str:
        """The most probable class."""
        return self._first[0]

    @property
    def score(self) -> float:
        """The probability of the most probable class, between 0 and 1."""
        return self._first[1]

    @property
    def _first(self) -> tuple[str, float]:
        if not self.scores:
            raise InputError("this model has no classes, only features: it predicts nothing; take one with a head")
        return self.scores[0]


class ImageClassifier:
    """A ViT with all it needs to answer on real images: preprocessing and the names of its classes.

    `vit` is our ViT or, from `vitreous.wrap`, anyone's model in the same form: images and a trace to logits.
    Without names, what the ViT answers with is a vector of features (its pooled token, or an image-text embedding).
    `origin` is where it was loaded from, if it was.
    """

    def __init__(self, vit: nn.Module, preprocessing: Preprocessing, class_names: Sequence[str]) -> None:
        assert not isinstance(vit, ViT) or len(class_names) in (0, vit.config.num_classes), "one name a class, or none"
        self.model = vit.eval()
        self.preprocessing = preprocessing
        self.class_names = tuple(class_names)
        self.origin: str | None = None

    @property
    def vit(self) -> ViT:
        """The model, where it is a ViT of ours and not anyone's module (see `vitreous.wrap`).

        Raises:
            InputError: it is another module.
        """
        if not isinstance(self.model, ViT):
            raise InputError(
                "this needs a ViT of Vitreous, and the model is a wrapped module of another kind: load one"
            )
        return self.model

    @property
    def device(self) -> torch.device:
        """Where the weights lie, and where images are taken to."""
        return next(self.model.parameters()).device

    def preprocess(self, image: ImageInput) -> tuple[Tensor, Geometry]:
        """An image of any size as the model's input (channels, height, width), and where its pixels came from."""
        pixels, geometry = preprocess_image(as_image_u8(image), self.preprocessing)
        weight = next(self.model.parameters())
        return pixels.to(weight.device, weight.dtype if weight.is_floating_point() else pixels.dtype), geometry

    def predict(self, image: ImageInput) -> Prediction:
        """What the image shows.

        Raises:
            InputError: the file can't be read as an image.
        """
        return self.predict_batch([image])[0]

    @torch.no_grad()
    def predict_batch(self, images: Sequence[ImageInput]) -> list[Prediction]:
        """What each of several images shows; they may differ in size."""
        inputs = [self.preprocess(image)[0] for image in images]
        if len({pixels.shape for pixels in inputs}) == 1:
            return self.postprocess(self.model(torch.stack(inputs)))
        return [self.postprocess(self.model(pixels[None]))[0] for pixels in inputs]

    def postprocess(self, logits: Tensor) -> list[Prediction]:
        """Logits (batch, classes) as predictions; empty ones if the classes have no names."""
        if not self.class_names:
            return [Prediction(())] * len(logits)
        if not logits.isfinite().all():
            raise InputError("the model's answer is no number (NaN or infinite): its weights are damaged, or too large")
        probabilities, order = torch.softmax(logits.float(), -1).sort(dim=-1, descending=True, stable=True)
        rows = zip(order.tolist(), probabilities.tolist(), strict=True)
        return [Prediction(tuple((self.class_names[i], p) for i, p in zip(*row, strict=True))) for row in rows]

    def class_index(self, name: str) -> int:
        """The index of a class by name.

        Raises:
            InputError: no class is called so; names the nearest.
        """
        if not self.class_names:
            raise InputError(f"there is no class '{name}': this model has no classes, only features; leave it out")
        if name not in self.class_names:
            raise unknown("class", name, self.class_names)
        return self.class_names.index(name)
