"""The images of a data set that the page offers, with what each model predicts for them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vitreous.data.class_names import same_class
from vitreous.data.dataset import EncodedDataset
from vitreous.data.decoding import EncodedImages
from vitreous.data.image_set import ImageSet
from vitreous.data.sources import evaluation_split, load_images, open_dataset
from vitreous.errors import InputError, unknown
from vitreous.explanation.text_targets import takes_text
from vitreous.imaging.reading import decode_image
from vitreous.model.classifier import ImageClassifier
from vitreous.web.jobs.memory import size_of_model
from vitreous.web.jobs.stepwise import STEP_PIXELS, images_per_step
from vitreous.web.sessions import StoredImage

GalleryOrder = Literal["stored", "misclassified", "least-confident", "text"]
ORDERS: tuple[str, ...] = get_args(GalleryOrder)
THUMBNAIL_SIDE = 128


@dataclass(frozen=True)
class ScoredImage:
    """What a model predicts for an image of the gallery.

    `is_correct` is None where that has no meaning, as where the model lacks the image's true class.
    """

    label: str
    score: float
    is_correct: bool | None


class ImageGallery:
    """Images of one split of a data set, spread evenly over it, in their own sizes.

    Args:
        source: a data source, such as "cifar10" or "folder:DIR".
        count: the number of images at most.
        on_note: called with each line that the user should read.

    Raises:
        InputError: there is no such source, or its data can't be found or read.
    """

    def __init__(self, source: str, count: int, on_note: Callable[[str], object]) -> None:
        if count < 1:
            raise InputError(f"can't offer {count} images: give a count of at least 1")
        dataset = open_dataset(source)
        self.source, self.split = source, evaluation_split(source, "test", on_note)
        encoded = isinstance(dataset, EncodedDataset)
        self._images: EncodedImages | ImageSet = (
            dataset.encoded(self.split) if isinstance(dataset, EncodedDataset) else load_images(source, self.split)
        )
        total = len(self._images)
        chosen = torch.linspace(0, total - 1, min(count, total)).round().long()
        self._indices: Sequence[int] = chosen.tolist()
        self._numbers = self._indices
        if isinstance(self._images, ImageSet) and not encoded:  # the others need not stay in memory
            self._images, self._indices = self._images.select(chosen), range(len(chosen))
        self._scored: dict[int, dict[int, ScoredImage]] = {}
        self._vectors: dict[int, dict[int, Tensor]] = {}
        self._done: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self._images.class_names

    @cached_property
    def labels(self) -> list[str]:
        """The true label of each image."""
        labels = self._images.labels
        return [self.class_names[int(labels[index])] for index in self._indices]

    def name(self, position: int) -> str:
        """Return the name of an image: its path in the data set, or its number among those of the split."""
        number = self._numbers[position]
        names = None if isinstance(self._images, ImageSet) else self._images.names
        return names[number] if names is not None else f"{self.split} {number}"

    def image(self, position: int) -> StoredImage:
        """Return an image by its position in the gallery, from 0.

        Raises:
            InputError: there is none, or it can't be read.
        """
        if not 0 <= position < len(self):
            raise InputError(f"there is no image {position}: there are {len(self)}, from 0")
        name = self.name(position)
        if isinstance(self._images, ImageSet):
            pixels = self._images.images_u8[self._indices[position]]
            image_u8 = pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
        else:
            _, data = self._images.read(self._indices[position])
            image_u8 = decode_image(data, name)
        return StoredImage(name, image_u8, self.labels[position])

    def thumbnail(self, position: int) -> np.ndarray:
        """Return an image with a short side of at most 128 pixels: uint8 (height, width, 3)."""
        image = Image.fromarray(self.image(position).image_u8)
        scale = THUMBNAIL_SIDE / min(image.size)
        if scale < 1:
            width, height = (max(1, round(side * scale)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2)
        width, height = image.size
        left, top = max(0, width - 2 * height) // 2, max(0, height - 2 * width) // 2  # a strip shows its middle
        return np.asarray(image.crop((left, top, width - left, height - top)))

    def score(self, model_index: int, classifier: ImageClassifier) -> Iterator[int]:
        """Predict all images by one model, as many at a time as a step may take; yields how many are done.

        Of an image-text model, the embeddings are kept.
        """
        scored, vectors = self._scored[model_index], self._vectors[model_index] = {}, {}
        embeds, known = takes_text(classifier), {same_class(name): name for name in classifier.class_names}
        self._done[model_index], count = 0, images_per_step(size_of_model(classifier))
        while self._done[model_index] < len(self):
            read, end = self._read_some(self._done[model_index], count)
            positions, images = list(read), list(read.values())
            if embeds:
                vectors.update(zip(positions, embed_unit_vectors(classifier, images), strict=True))
            else:
                for position, found in zip(positions, classifier.predict_batch(images), strict=True):
                    if found.scores:
                        truth = known.get(same_class(self.labels[position]))
                        scored[position] = ScoredImage(found.label, found.score, found.is_correct(truth))
            self._done[model_index] = end
            yield end

    def _read_some(self, start: int, count: int) -> tuple[dict[int, np.ndarray], int]:
        """Return the next images by position, fewer than `count` if they are large, and the position after them."""
        images: dict[int, np.ndarray] = {}
        position, pixels = start, 0
        while position < min(start + count, len(self)) and pixels < STEP_PIXELS:
            with suppress(InputError):  # it is in the strip, and says why when it is opened
                images[position] = self.image(position).image_u8
                pixels += images[position].shape[0] * images[position].shape[1]
            position += 1
        return images, position

    def num_done(self, model_index: int) -> int:
        """Return how many images a model has gone through, those that it can't predict included."""
        return self._done.get(model_index, 0)

    def scored(self, model_index: int) -> dict[int, ScoredImage]:
        """Return the predictions of a model so far, by position."""
        return dict(self._scored.get(model_index, {}))

    def similarities(self, model_index: int, text: Tensor) -> dict[int, float]:
        """Return the cosine similarities of the images so far to the embedding of a text (width), by position."""
        vectors = self._vectors.get(model_index, {}).copy()
        if not vectors:
            return {}
        found = torch.stack([*vectors.values()]).float() @ functional.normalize(text, dim=-1)
        return dict(zip(vectors, found.tolist(), strict=True))

    def select(
        self,
        model_index: int,
        order: str,
        label: str | None,
        search: str = "",
        similar: Mapping[int, float] | None = None,
    ) -> list[int]:
        """Return the positions of the images that a filter leaves, in its order.

        Args:
            model_index: the model whose predictions count.
            order: "stored", "misclassified" (the most confident mistakes first, among the images whose true class
                the model has), "least-confident", or "text" (the largest of `similar` first).
            label: of one class only; None for all.
            search: words that the image's name or true label must hold, all of them, in any case; not for "text".
            similar: what `similarities` gives for a text; None leaves the stored order.

        Raises:
            InputError: there is no such order or class.
        """
        if order not in ORDERS:
            raise unknown("order", order, ORDERS)
        if label is not None and label not in self.class_names:
            raise unknown("class", label, self.class_names)
        words = [] if order == "text" else search.casefold().split()
        positions = [
            index
            for index in range(len(self))
            if (label is None or self.labels[index] == label) and self._holds(index, words)
        ]
        if order == "stored" or (order == "text" and similar is None):
            return positions
        if similar is not None:
            return sorted((index for index in positions if index in similar), key=lambda index: -similar[index])
        scored = self.scored(model_index)
        known = [index for index in positions if index in scored]
        if order == "misclassified":
            wrong = [index for index in known if scored[index].is_correct is False]
            return sorted(wrong, key=lambda index: -scored[index].score)
        return sorted(known, key=lambda index: scored[index].score)

    def _holds(self, position: int, words: Sequence[str]) -> bool:
        text = f"{self.name(position)} {self.labels[position]}".casefold() if words else ""
        return all(word in text for word in words)


def embed_unit_vectors(classifier: ImageClassifier, images: Sequence[np.ndarray]) -> Tensor:
    """Return the outputs of a model for images as vectors of length 1: float16 (images, width), on the CPU."""
    return functional.normalize(classifier.embed(images), dim=-1).half().cpu() if images else torch.empty(0, 0)
