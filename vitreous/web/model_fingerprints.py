"""Which weights have made a result: a key that costs nothing, and the fingerprint behind it once somebody asks."""

from itertools import count
from threading import Lock
from weakref import WeakKeyDictionary

from vitreous.errors import InputError
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.fingerprint import weights_fingerprint


class ModelFingerprints:
    """Keys and fingerprints of the models of one server. A model that is loaded again is another one."""

    def __init__(self) -> None:
        self._keys: WeakKeyDictionary[ImageClassifier, str] = WeakKeyDictionary()
        self._found: WeakKeyDictionary[ImageClassifier, str] = WeakKeyDictionary()
        self._numbers, self._lock = count(), Lock()

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
