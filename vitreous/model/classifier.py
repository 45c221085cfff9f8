"""An image classifier: a model, the preprocessing of its images, and the names of its classes."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from html import escape
from numbers import Integral
from pathlib import Path
from typing import ClassVar, Self, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vitreous.arguments import check_arguments
from vitreous.errors import InputError, unknown
from vitreous.imaging.geometry import Geometry, grid_for
from vitreous.imaging.preprocessing import Preprocessing, preprocess_image
from vitreous.imaging.reading import as_image_u8
from vitreous.model.output_scores import FunctionToApply, ProblemType, apply_function, check_problem, to_logits
from vitreous.model.vit import ViT
from vitreous.runtime import select_device

ImageInput = str | Path | Image.Image | np.ndarray
"""An image as users have it: a file's path, a Pillow image, or uint8 (height, width, 3)."""


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


class ImageClassifier:
    """A model with all it needs to classify images: call it with an image, or a list of them.

    Attributes:
        model: a `ViT` or, from `vitreous.wrap`, any module in the same form: images and a trace to logits.
        preprocessing: how the model wants its images.
        class_names: the labels in the order of the logits. Without them the model's output is a vector of features (its
            pooled token, or an image-text embedding).
        problem_type: what the outputs are, in transformers' words: see `Prediction`.
        function_to_apply: what turns outputs into scores: "softmax", "sigmoid", or "none" if they are scores already.
        origin: where it was loaded from, if it was.
        task: what it was trained for, a name in `vitreous.tasks.registry.TASKS`. Each task whose outputs aren't classes
            has a subclass, with its own `postprocess`.

    >>> from vitreous.model.create import create_model
    >>> preprocessing = Preprocessing(32, "crop", (0.5,) * 3, (0.5,) * 3, patch_size=4)
    >>> classifier = ImageClassifier(create_model("nano/4-32", num_classes=2), preprocessing, ["cat", "dog"])
    >>> image = np.zeros((40, 60, 3), np.uint8)
    >>> classifier(image)
    Prediction(cat 50.0 %, dog 50.0 %)
    >>> classifier.embed([image, image]).shape
    torch.Size([2, 64])
    """

    task: ClassVar[str] = "classification"

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        class_names: Iterable[str],
        problem_type: ProblemType | None = None,
        function_to_apply: FunctionToApply | None = None,
    ) -> None:
        """Combine the parts.

        By default the outputs are logits of classes that exclude each other, or of one label if there is one output.

        Raises:
            InputError: they don't fit each other, or are something else.
        """
        if not isinstance(model, nn.Module):
            raise InputError(f"the model has the type {type(model).__name__}: give a torch.nn.Module")
        if not isinstance(preprocessing, Preprocessing):
            raise InputError(
                f"the preprocessing has the type {type(preprocessing).__name__}: give a vitreous.Preprocessing"
            )
        self.class_names = as_class_names(class_names)
        if isinstance(model, ViT):
            _check_fit(model, preprocessing, len(self.class_names))
        self.model = model.eval()
        self.preprocessing = preprocessing
        self.problem_type, self.function_to_apply = check_problem(
            problem_type, function_to_apply, len(self.class_names)
        )
        self.origin: str | None = None

    def __repr__(self) -> str:
        classes = f"{len(self.class_names)} classes" if self.class_names else "features"
        size = " × ".join(map(str, self.preprocessing.input_size))
        return f"ImageClassifier({type(self.model).__name__}, {classes}, input {size}, origin {self.origin!r})"

    @property
    def vit(self) -> ViT:
        """The model, if it is a ViT of Vitreous.

        Raises:
            InputError: it is a module of another kind (see `vitreous.wrap`).
        """
        if not isinstance(self.model, ViT):
            raise InputError(
                "this needs a ViT of Vitreous, and the model is a wrapped module of another kind: load one"
            )
        return self.model

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return next(self.model.parameters()).device

    def to(self, device: str | torch.device) -> Self:
        """Move the model to a device, such as "cuda" or "cpu", and return the classifier.

        Raises:
            InputError: there is no such device.
        """
        self.model.to(select_device(device))
        return self

    @check_arguments
    def save(self, path: str | Path) -> None:
        """Write the classifier to a new folder, from which `vitreous.load` reads it back, bit-identical in float32.

        The folder holds config.json and model.safetensors, as a run folder does. Weights in 16 bits are stored so, and
        read as float32.

        Raises:
            InputError: the folder holds something or can't be written; the model isn't a ViT of Vitreous, is quantized,
                in float64, or has NaN or infinite weights.
        """
        from vitreous.model.serialization import save_classifier  # it builds classifiers

        save_classifier(self, Path(path))

    @overload
    def __call__(self, images: ImageInput) -> Prediction: ...
    @overload
    def __call__(self, images: Sequence[ImageInput]) -> list[Prediction]: ...
    def __call__(self, images: ImageInput | Sequence[ImageInput]) -> Prediction | list[Prediction]:
        """Classify one image, or several, as `predict` does."""
        return self.predict(images)

    def preprocess(self, image: ImageInput) -> tuple[Tensor, Geometry]:
        """Turn an image of any size into the model's input.

        Returns:
            (channels, height, width) on the model's device, and where on the image its pixels come from.
        """
        pixels, geometry = preprocess_image(as_image_u8(image), self.preprocessing)
        weight = next(self.model.parameters())
        return pixels.to(weight.device, weight.dtype if weight.is_floating_point() else pixels.dtype), geometry

    @overload
    def predict(self, images: ImageInput) -> Prediction: ...
    @overload
    def predict(self, images: Sequence[ImageInput]) -> list[Prediction]: ...
    def predict(self, images: ImageInput | Sequence[ImageInput]) -> Prediction | list[Prediction]:
        """Classify one image, or several, which may differ in size.

        Raises:
            InputError: a file can't be read as an image.
        """
        several = isinstance(images, list | tuple) or (isinstance(images, np.ndarray) and images.ndim == 4)
        return self.predict_batch(images) if several else self.predict_batch([images])[0]  # ty: ignore[invalid-argument-type]

    @torch.no_grad()
    def embed(self, images: ImageInput | Sequence[ImageInput]) -> Tensor:
        """Compute a feature vector for each image: (width) for one image, (images, width) for several.

        It is the pooled vector that the head reads. A model without class names gives its output: its pooled vector, or
        an image-text embedding.

        Raises:
            InputError: a file can't be read as an image, or the model is a wrapped one that doesn't separate its head.
        """
        if _is_single(images):
            return self._run([images], self.embed_inputs)[0]  # ty: ignore[invalid-argument-type]
        if not len(images):  # ty: ignore[invalid-argument-type]
            raise InputError("embed got no image: give at least one")
        return self._run(images, self.embed_inputs)  # ty: ignore[invalid-argument-type]

    def embed_inputs(self, inputs: Tensor) -> Tensor:
        """Compute the feature vectors (batch, width) of the model's inputs (batch, channels, height, width).

        These are the vectors of `embed`, for images that `preprocess` has prepared; gradients flow if they are enabled.

        Raises:
            InputError: the model is a wrapped one that doesn't separate its head.
        """
        if not self.class_names:
            return self.model(inputs)
        module = getattr(self.model, "module", self.model)  # inside a WrappedModel
        trunk, head = (getattr(module, name, None) for name in ("forward_features", "forward_head"))
        if not callable(trunk) or not callable(head):
            raise InputError(
                f"{type(module).__name__} has no forward_features and forward_head, as a ViT of Vitreous or timm has: "
                "remove its head and wrap it with class_names=[]"
            )
        return head(trunk(inputs), pre_logits=True)

    def _run(self, images: Sequence[ImageInput], forward: Callable[[Tensor], Tensor]) -> Tensor:
        """Run a function on the inputs of images, in one batch if they have one shape."""
        inputs = [self.preprocess(image)[0] for image in images]
        if len({pixels.shape for pixels in inputs}) == 1:
            return forward(torch.stack(inputs))
        return torch.cat([forward(pixels[None]) for pixels in inputs])

    @torch.no_grad()
    def predict_batch(self, images: Sequence[ImageInput]) -> list[Prediction]:
        """Classify several images, which may differ in size.

        Raises:
            InputError: a file can't be read as an image, or a single image was given.
        """
        if _is_single(images):
            raise InputError("predict_batch got a single image: give a list of images, or call predict for one")
        return self.postprocess(self._run(images, self.model)) if len(images) else []

    def postprocess(self, logits: Tensor) -> list[Prediction]:
        """Turn the model's outputs (batch, classes) into predictions; without class names they are empty.

        Raises:
            InputError: an output is NaN or infinite.
        """
        if not self.class_names:
            return [Prediction(())] * len(logits)
        if not logits.isfinite().all():
            raise InputError("the model's output is NaN or infinite: its weights are damaged, or too large")
        scores = apply_function(logits.float(), self.function_to_apply)
        scores, order = scores.sort(dim=-1, descending=True, stable=True)
        rows = zip(order.tolist(), scores.tolist(), strict=True)
        named = [tuple((self.class_names[i], score) for i, score in zip(*row, strict=True)) for row in rows]
        return [Prediction(one, self.problem_type) for one in named]

    def to_logits(self, outputs: Tensor) -> Tensor:
        """Turn the model's outputs (batch, classes) into logits, whose softmax is the probability of each class.

        Raises:
            InputError: the classes don't exclude each other.
        """
        return to_logits(outputs, self.problem_type, self.function_to_apply)

    def replace(self, model: nn.Module | None = None, preprocessing: Preprocessing | None = None) -> Self:
        """Return a classifier with another model or preprocessing, and everything else the same."""
        changed = type(self)(
            model or self.model, preprocessing or self.preprocessing, self.class_names, self.problem_type,
            self.function_to_apply,
        )  # fmt: skip
        changed.origin = self.origin
        return changed

    def class_index(self, name: str) -> int:
        """Find the index of a class by its name.

        Raises:
            InputError: there is no class of this name; names the nearest.
        """
        if not self.class_names:
            raise InputError(f"there is no class '{name}': this model has no classes, only features; leave it out")
        names = [unicodedata.normalize("NFC", one) for one in self.class_names]  # accents composed or decomposed
        if (composed := unicodedata.normalize("NFC", name)) not in names:
            raise unknown("class", name, self.class_names)
        return names.index(composed)


def _is_single(images: object) -> bool:
    return isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4)


def as_class_names(class_names: Iterable[str]) -> tuple[str, ...]:
    """Return class names, in order, from any iterable but one string or a set, which has no order.

    Names that occur more than once get their numbers.

    Raises:
        InputError: they are something else.
    """
    is_ordered = isinstance(class_names, Iterable) and not isinstance(class_names, str | bytes | AbstractSet)
    names = tuple(class_names) if is_ordered else ()
    if not is_ordered or not all(isinstance(name, str) for name in names):
        raise InputError(f"class_names={class_names!r} is invalid: give a list of strings, empty for a model without")
    return _disambiguate_names(names)


def _disambiguate_names(names: Sequence[str]) -> tuple[str, ...]:
    """Add the class's number to names that occur more than once: ImageNet has two cranes.

    >>> _disambiguate_names(["crane", "cat", "crane"])
    ('crane (class 0)', 'cat', 'crane (class 2)')
    """
    unique = tuple(names)
    while repeated := {name for name, count in Counter(unique).items() if count > 1}:  # a name may end like a number
        unique = tuple(f"{name} (class {index})" if name in repeated else name for index, name in enumerate(unique))
    return unique


def _check_fit(vit: ViT, preprocessing: Preprocessing, names: int) -> None:
    """Refuse a preprocessing or a number of class names that is another model's.

    Raises:
        InputError: they don't fit the model.
    """
    config = vit.config
    if names not in (0, config.num_classes):
        raise InputError(f"{names} class names for a model of {config.num_classes} classes: give one for each, or none")
    if preprocessing.patch_size != config.patch_size:
        raise InputError(
            f"the preprocessing has patch_size={preprocessing.patch_size}, but the model's patches are "
            f"{config.patch_size} pixels: give {config.patch_size}"
        )
    if len(preprocessing.mean) != config.in_chans:
        raise InputError(
            f"the preprocessing has {len(preprocessing.mean)} channels, the model {config.in_chans}: "
            f"give mean and std of {config.in_chans}"
        )
    if preprocessing.resize_mode != "aspect":  # which makes its sizes divisible itself
        grid_for(preprocessing.input_size, config.patch_size)
