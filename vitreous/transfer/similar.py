"""Find the images of a source that are most similar to one image, and show what makes them alike."""

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, LogCallback, Progress
from vitreous.errors import InputError
from vitreous.explanation.explain import ExplainTask, resolve_task, run_task
from vitreous.explanation.figures import map_legend
from vitreous.explanation.registry import METHODS
from vitreous.explanation.result import Explanation
from vitreous.files import write_text
from vitreous.imaging.reading import as_image_u8
from vitreous.imaging.writing import save_image
from vitreous.model.classifier import ImageClassifier, ImageInput
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.render.similar_sheet import SimilarPair, similar_sheet
from vitreous.runtime import choose_precision
from vitreous.tasks.targets import SimilarityTarget
from vitreous.transfer.feature_set import FeatureSet
from vitreous.transfer.images import ImageStream, open_stream
from vitreous.transfer.neighbors import nearest
from vitreous.transfer.probing.data import cached_features

DEFAULT_METHOD = "gradient-rollout"


@dataclass(frozen=True)
class SimilarImage:
    """One of the most similar images.

    Attributes:
        path: its file, or its row or number in the data.
        label: None if it has none.
        similarity: cosine similarity of the two vectors, −1 to 1.
        explanation: which parts of it make it similar to the query.
        query_explanation: which parts of the query make it similar to this image.
    """

    path: str
    label: str | None
    similarity: float
    explanation: Explanation
    query_explanation: Explanation


@dataclass(frozen=True, repr=False)
class SimilarImages:
    """The images that are most similar to a query, the most similar first. A notebook shows them as a sheet.

    >>> found = vitreous.similar("dinov2:vits14", "rose.jpg", "folder:flowers")    # doctest: +SKIP
    >>> found.images[0].label, found.images[0].similarity                         # doctest: +SKIP
    ('rose', 0.87)
    """

    query: str
    """The path of the query, or "the image" where it is none."""
    model: str
    data: str
    count: int
    method: str
    images: tuple[SimilarImage, ...]

    def __repr__(self) -> str:
        first = ", ".join(f"{one.label or Path(one.path).name} {one.similarity:.2f}" for one in self.images[:5])
        return f"SimilarImages({Path(self.query).name}: {first}{', …' if len(self.images) > 5 else ''})"

    def figure(self) -> Image.Image:
        """Draw the query, and each similar image beside it with the two maps."""
        first = self.images[0].query_explanation
        lines = [
            f"of {self.count:,} images in {self.data}, by the cosine similarity of the features of "
            f"{Path(self.model).name}",
            f"each pair: what in the query, and what in the other image, makes the two alike ({self.method})",
        ]
        pairs = [
            SimilarPair(
                one.query_explanation.render(), one.explanation.render(),
                f"{number} · {one.label or Path(one.path).name} · {one.similarity:.2f}",
                (Path(one.path).name,) if one.label else (),
            )
            for number, one in enumerate(self.images, 1)
        ]  # fmt: skip
        name = Path(self.query).name
        title = f"The {len(pairs)} images most like {name}" if len(pairs) > 1 else f"The image most like {name}"
        return similar_sheet(first.image_u8, title, lines, pairs, map_legend(first))

    @check_arguments
    def save(self, path: str | Path) -> None:
        """Write the sheet as an image, or the paths, labels and similarities as a .json file.

        Raises:
            InputError: the suffix is of no image format, or the file can't be written.
        """
        if Path(path).suffix.lower() == ".json":
            write_text(path, json.dumps(self.to_json(), indent=2) + "\n")
        else:
            save_image(self.figure(), path)

    def to_json(self) -> dict[str, object]:
        """Return paths, labels and similarities, without the maps."""
        images = [{"path": one.path, "label": one.label, "similarity": one.similarity} for one in self.images]
        own = {"query": self.query, "model": self.model, "data": self.data, "count": self.count, "method": self.method}
        return {**own, "images": images}

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.figure().save(stream, "png")
        return stream.getvalue()


@check_arguments
def similar(
    model: str | Path | ImageClassifier,
    image: ImageInput,
    data: str,
    *,
    count: int = 8,
    method: str = DEFAULT_METHOD,
    device: str = "auto",
    precision: str = "fp32",
    skip_unreadable: bool = False,
    callback: Callback | None = None,
) -> SimilarImages:
    """Find the images that are most similar to one, and explain the similarity in both images of each pair.

    The vectors are those of `ImageClassifier.embed`; those of the data are computed once and kept in the cache folder.
    The maps explain the cosine similarity to the other image's vector.

    Args:
        model: whatever `load` takes, or a loaded model.
        image: a path, a Pillow image or uint8 (height, width, 3).
        data: a source such as "folder:photos", a folder of images, or a file that `embed` wrote with this model.
        count: number of similar images; the image itself is left out, if it is a file of the data.
        method: an explanation method that depends on the target.
        device: "auto", "cpu" or "cuda".
        precision: of the data's vectors: "fp32", "bf16", or "auto" for bf16 where the hardware has it.
        skip_unreadable: leave out images of the data that can't be read, with a note, instead of refusing the data.
        callback: receives the progress and notes.

    Raises:
        InputError: the model, image or data can't be read, the method doesn't depend on the target, or the model is a
            wrapped module with a head.
    """
    callback = callback or LogCallback()
    if count < 1:
        raise InputError(f"can't find {count} similar images: give 1 or more")
    classifier = load(model, device, callback=callback)
    headless = without_head(classifier)
    task = resolve_task(headless, method)
    if not task.method.is_class_specific:
        able = ", ".join(name for name, one in METHODS.items() if one.is_class_specific)
        raise InputError(f"the maps of {method} don't depend on the other image: choose one of {able}")
    query_u8 = as_image_u8(image)
    query = classifier.embed(query_u8).float().cpu()
    precision = choose_precision(precision, classifier.device)
    features = cached_features(classifier, data, precision, callback, skip_unreadable=skip_unreadable)
    if features.info.features != ("pooled",):
        raise InputError(
            f"images are compared by pooled vectors, and {data} holds {' and '.join(features.info.features)}: embed "
            "them with --features pooled"
        )
    vectors, name = torch.from_numpy(features.vectors), _name(image)
    similarities, indexes = nearest(query[None], vectors, min(len(vectors), count + 1))
    found = [
        (index, value)
        for index, value in zip(indexes[0].tolist(), similarities[0].tolist(), strict=True)
        if not _is_same_file(image, features.paths[index])
    ][:count]
    images = []
    for (index, value), neighbor_u8 in zip(found, _read(features, [one for one, _ in found], classifier), strict=True):
        path, label = features.paths[index], features.label_names[index]
        own = _explain(headless, query_u8, task, vectors[index], label or Path(path).name)
        other = _explain(headless, neighbor_u8, task, query, name)
        images.append(SimilarImage(path, label, value, other, own))
        callback.on_progress(Progress(len(images), len(found), f"{len(images)} of {len(found)} pairs explained"))
    query_path = str(image) if isinstance(image, str | Path) else name
    return SimilarImages(query_path, str(classifier.origin), data, len(features), method, tuple(images))


def without_head(classifier: ImageClassifier) -> ImageClassifier:
    """Return the classifier with its vector of features as output.

    Raises:
        InputError: it is a wrapped module with a head.
    """
    if not classifier.class_names:
        return classifier
    if not isinstance(classifier.model, ViT):
        raise InputError(
            "the model is a wrapped module with classes, so its vector of features can't be explained: remove its "
            "head and wrap it with class_names=[]"
        )
    vit = deepcopy(classifier.model)
    vit.reset_classifier(0)
    return ImageClassifier(vit, classifier.preprocessing, ())


def _explain(
    headless: ImageClassifier, image_u8: np.ndarray, task: ExplainTask, vector: torch.Tensor, name: str
) -> Explanation:
    target = SimilarityTarget(vector, f"similarity to {name}")
    own = resolve_task(headless, task.method_name, task.options, target)
    return run_task(headless, [image_u8], own)[0]


def _read(features: FeatureSet, indexes: list[int], classifier: ImageClassifier) -> Iterator[np.ndarray]:
    """Read images by their paths, or else by their numbers in the data.

    Raises:
        InputError: an image isn't there any more.
    """
    stream, info = None, features.info
    for index in indexes:
        path = features.paths[index]
        if Path(path).is_file():
            yield as_image_u8(path)
            continue
        try:
            stream = stream or open_stream(info.data, info.split, classifier.preprocessing.input_size)
        except InputError as error:
            raise InputError(f"the image {path} of {info.data} isn't found from this folder ({error})") from None
        yield _read_again(stream, path, index, len(stream) - len(features))


def _read_again(stream: ImageStream, path: str, index: int, skipped: int) -> np.ndarray:
    """Read the image of a row by its path, at the row's number or after it, as some before it may have been skipped.

    Raises:
        InputError: it isn't there any more.
    """
    for number in range(index, min(index + max(0, skipped) + 1, len(stream))):
        with suppress(InputError):
            found, image_u8 = stream.read(number)
            if found == path:
                return image_u8
    raise InputError(f"the image {path} is not in {stream.source} any more: give the images themselves as --data")


def _name(image: ImageInput) -> str:
    return Path(image).name if isinstance(image, str | Path) else "the image"


def _is_same_file(image: ImageInput, path: str) -> bool:
    return isinstance(image, str | Path) and Path(path).is_file() and Path(image).resolve() == Path(path).resolve()
