"""The models of one server: by number, as the page names them, and by the key of the weights that made a result."""

from collections.abc import Mapping
from itertools import count
from threading import Lock
from weakref import WeakKeyDictionary

from vitreous.errors import InputError
from vitreous.explanation.text_targets import takes_text
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.fingerprint import weights_fingerprint


class ServedModels:
    """Models with a name each, numbered from 0. One that is loaded again keeps its number, and gets another key.

    A key costs nothing; the fingerprint behind it is computed once somebody asks.

    Args:
        models: by the name that the page shows.
    """

    def __init__(self, models: Mapping[str, ImageClassifier]) -> None:
        self._models = list(models.items())
        self._keys: WeakKeyDictionary[ImageClassifier, str] = WeakKeyDictionary()
        self._found: WeakKeyDictionary[ImageClassifier, str] = WeakKeyDictionary()
        self._numbers, self._lock = count(), Lock()

    def __len__(self) -> int:
        return len(self._models)

    def get(self, index: int) -> ImageClassifier:
        """Return a model by its number.

        Raises:
            InputError: there is none.
        """
        if not 0 <= index < len(self):
            raise InputError(f"there is no model {index}: there are {len(self)}, from 0")
        return self._models[index][1]

    def add(self, name: str, classifier: ImageClassifier) -> int:
        """Add a model, and return its number."""
        self._models.append((name, classifier))
        return len(self) - 1

    def replace(self, index: int, classifier: ImageClassifier) -> None:
        """Give a model other weights."""
        self._models[index] = (self._models[index][0], classifier)

    def describe(self) -> list[dict[str, object]]:
        """Describe the models for JSON, with the keys of their weights."""
        return [describe_model(name, one) | {"weights": self.key(one)} for name, one in self._models]

    def key(self, classifier: ImageClassifier) -> str:
        """Return the key of a loaded model."""
        with self._lock:
            if classifier not in self._keys:
                self._keys[classifier] = f"weights-{next(self._numbers)}"
            return self._keys[classifier]

    def fingerprint(self, key: str) -> str:
        """Return the fingerprint of the weights and the preprocessing of a model, by its key; it takes a while once.

        Raises:
            InputError: no model with this key is loaded.
        """
        with self._lock:
            classifier = next((one for one, own in self._keys.items() if own == key), None)
        if classifier is None:
            raise InputError("the model has other weights by now: open the image again")
        if classifier not in self._found:
            self._found[classifier] = weights_fingerprint(classifier)
        return self._found[classifier]


def describe_model(name: str, classifier: ImageClassifier) -> dict[str, object]:
    """Describe a model for JSON."""
    preprocessing = classifier.preprocessing
    return {
        "name": name,
        "origin": classifier.origin or name,
        "load_options": classifier.load_options,
        "task": classifier.task,
        "class_names": classifier.class_names,
        "problem_type": classifier.problem_type,
        "takes_text": takes_text(classifier),
        "input_size": preprocessing.input_size,
        "patch_size": preprocessing.patch_size,
        "resize_mode": preprocessing.resize_mode,
    }
