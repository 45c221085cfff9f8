"""Class names are one whether their accents are composed or decomposed."""

import pytest

from vitreous.data.class_names import distinct_class_names, same_classes
from vitreous.errors import InputError
from vitreous.pretrained.load import load

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_lists_of_classes_are_compared_by_what_they_show():
    assert same_classes((COMPOSED, "dog"), (DECOMPOSED, "dog"))
    assert not same_classes((COMPOSED, "dog"), ("cafe", "dog")) and not same_classes(("a",), ("a", "b"))


def test_a_class_is_found_by_either_spelling():
    classifier = load("vitreous:cifar10", "cpu")
    classifier.class_names = (DECOMPOSED, *classifier.class_names[1:])
    assert classifier.class_index(COMPOSED) == classifier.class_index(DECOMPOSED) == 0


def test_names_are_made_distinct_and_must_be_text():
    assert distinct_class_names(["crane", "\x1b[2J", "crane"], "x") == ("crane", r"\x1b[2J", "crane (2)")
    with pytest.raises(InputError, match="x: the class name 7 is no text"):
        distinct_class_names(["a", 7], "x")


def test_a_name_that_ends_like_a_number_stays_distinct():
    assert distinct_class_names(["a (2)", "a", "a"], "the data") == ("a (2)", "a", "a (2) (2)")
