"""Predict the labels of image files, a few at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.callbacks import Callback, Progress
from vitreous.data.image_files import list_image_files, read_batches
from vitreous.errors import InputError
from vitreous.model.classifier import ImageClassifier
from vitreous.model.prediction import Prediction


@dataclass(frozen=True)
class PredictedFile:
    """An image file and its prediction, or why there is none."""

    path: Path
    prediction: Prediction | None
    reason: str | None = None


def predict_files(
    classifier: ImageClassifier, paths: Sequence[Path], callback: Callback | None = None
) -> Iterator[PredictedFile]:
    """Predict the labels of image files in order; a file that can't be read is yielded with the reason.

    Few images are in memory at a time, however many there are.

    Args:
        classifier: a loaded model.
        paths: image files, and folders of them.
        callback: receives the number of images done; it can stop the work.

    Raises:
        InputError: the model has no classes, a folder holds no images, or not one image can be read.
    """
    if not classifier.class_names:
        raise InputError("this model has no classes, only features: it predicts nothing; take one with a head")
    files, callback, done, failed = list_image_files(paths), callback or Callback(), 0, 0
    for batch in read_batches(files):
        if callback.should_stop():
            return
        predictions = iter(classifier.predict_batch([one for one in batch if isinstance(one, np.ndarray)]))
        for path, image in zip(files[done:], batch, strict=False):
            if isinstance(image, InputError) and len(files) == 1:
                raise image
            failed += isinstance(image, InputError)
            is_image = isinstance(image, np.ndarray)
            yield PredictedFile(path, next(predictions), None) if is_image else PredictedFile(path, None, str(image))
        done += len(batch)
        callback.on_progress(Progress(done, len(files), f"{done} of {len(files)} image{'s' * (len(files) > 1)}"))
    if failed == len(files):
        raise InputError(f"none of the {failed} images can be read: see the reason of each")
