"""The data that a model was trained on: known of runs and of packaged models."""

import pytest

from vitreous.diagnostics.evaluation_set import training_run, training_source
from vitreous.errors import InputError
from vitreous.pretrained.load import load


def test_a_packaged_model_knows_its_data():
    classifier = load("vitreous:cifar10", "cpu")
    assert training_source(training_run(classifier), classifier) == "cifar10"


def test_the_data_of_another_model_are_unknown():
    classifier = load("vitreous:cifar10", "cpu")
    for origin in (None, "hf:someone/cifar10", "vitreous:other"):
        classifier.origin = origin
        with pytest.raises(InputError, match="unknown: name the images with --data"):
            training_source(None, classifier)
