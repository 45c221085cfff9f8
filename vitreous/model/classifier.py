"""An image classifier: a model, the preprocessing of its images, and the names of its classes."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
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
from vitreous.model.config import ViTConfig
from vitreous.model.output_scores import FunctionToApply, ProblemType, apply_function, check_problem, to_logits
from vitreous.model.prediction import Prediction
from vitreous.model.vit import ViT
from vitreous.runtime import select_device

ImageInput = str | Path | Image.Image | np.ndarray
"""An image as users have it: a file's path, a Pillow image, or uint8 (height, width, 3)."""


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
        load_options: what `load` was given beside the origin to get this preprocessing: input_size, resize_mode.
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
        self.load_options: dict[str, object] = {}

    @staticmethod
    def make_model(config: ViTConfig) -> ViT:
        """Build the model of a configuration, with random weights; a task with another head has its own."""
        return ViT(config)

    def __repr__(self) -> str:
        classes = f"{len(self.class_names)} classes" if self.class_names else "features"
        size = " × ".join(map(str, self.preprocessing.input_size))
        return f"{type(self).__name__}({type(self.model).__name__}, {classes}, input {size}, origin {self.origin!r})"

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
        changed.origin, changed.load_options = self.origin, self.load_options
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
