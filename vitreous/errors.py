"""The error for bad input, and its most common form: an unknown name."""

import difflib
import unicodedata
from collections.abc import Iterable

MOST_NAMES = 20
"""If there are more valid names, a message lists only those that are similar to the given one."""

CONTROL_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, surrogates, and separators of lines and paragraphs."""


OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")
"""What the messages of errors for want of memory say."""


class InputError(ValueError):
    """Something that the user gave can't be used; the message is one line that says what is wrong and what to do.

    The command line prints it without a traceback and exits with code 2. Any other exception is a bug.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    r"""Return text with control characters and undecodable bytes as escapes, so that it can't steer a terminal.

    >>> printable("caf\u00e9 \x1b[2J")
    'café \\x1b[2J'
    """
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in CONTROL_CATEGORIES
        else character
        for character in text
    )


def unknown(kind: str, name: str, valid: Iterable[str], owner: str = "") -> InputError:
    """Build the error for a name that is in no table; it suggests the nearest name and lists the valid ones.

    `owner` is what has the names, if it is one thing, such as a function.

    >>> str(unknown("method", "rolout", ["attention", "rollout"]))
    "there is no method 'rolout': did you mean 'rollout'? (attention, rollout)"
    >>> str(unknown("argument", "epoch", ["epochs", "seed"], "train"))
    "train has no argument 'epoch': did you mean 'epochs'? (epochs, seed)"
    """
    names = list(valid)
    nearest = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    question = f"did you mean '{nearest[0]}'?" if nearest else "choose one of"
    if len(names) > MOST_NAMES:
        close = difflib.get_close_matches(str(name).lower(), names, n=5, cutoff=0.3)
        names = [*(close or names[:MOST_NAMES]), "..."]
    start = f"{owner} has no" if owner else "there is no"
    return InputError(f"{start} {kind} '{name}': {question} ({', '.join(names)})")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is too little memory: Python's, or one of torch's allocators.

    >>> is_out_of_memory(RuntimeError("Allocator: not enough memory")), is_out_of_memory(RuntimeError("a bug"))
    (True, False)
    """
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
