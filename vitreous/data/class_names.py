"""Class names: words that differ from each other, whatever a folder or the metadata of a file call them."""

import unicodedata
from collections.abc import Sequence

from vitreous.errors import InputError, printable


def same_class(name: str) -> str:
    """Return what is equal for two names of one class: without control characters, its accents composed (NFC)."""
    return unicodedata.normalize("NFC", printable(name))


def distinct_class_names(names: Sequence[object], origin: str) -> tuple[str, ...]:
    """Return class names without control characters; a name that is there twice gets its number.

    Args:
        names: in the order of the labels. ImageNet's have the bird and the machine "crane".
        origin: where they come from, for the message.

    Raises:
        InputError: one is no word.

    >>> distinct_class_names(["crane", "dog", "crane"], "the data")
    ('crane', 'dog', 'crane (2)')
    """
    if others := [name for name in names if not isinstance(name, str)]:
        raise InputError(f"{origin}: the class name {str(others[0])[:40]} is no text: repair its metadata")
    found: dict[str, str] = {}
    for number, name in enumerate(map(str, names)):
        unique = printable(name)
        while same_class(unique) in found:  # a name may end like a number
            unique += f" ({number})"
        found[same_class(unique)] = unique
    return tuple(found.values())


def same_classes(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two lists name the same classes in the same order."""
    normalized = [[same_class(name) for name in distinct_class_names(names, "")] for names in (first, second)]
    return normalized[0] == normalized[1]
