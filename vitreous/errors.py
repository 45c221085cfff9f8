"""The one error that is a user's to mend, and the sentence that helps to mend it."""

import difflib
from collections.abc import Iterable

MOST_NAMES = 20
"""Of more valid names than that, only those like the given one are listed."""


class InputError(ValueError):
    """Something the user gave can't be used: one line that says what is wrong and what to do.

    The command line prints it without a traceback and exits with code 2. Everything else that is raised is a bug.
    """


def unknown(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """The error for a name that is in no table: it names the nearest and lists the valid ones.

    >>> str(unknown("method", "rolout", ["attention", "rollout"]))
    "there is no method 'rolout': did you mean 'rollout'? (attention, rollout)"
    """
    names = list(valid)
    nearest = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    question = f"did you mean '{nearest[0]}'?" if nearest else "choose one of"
    if len(names) > MOST_NAMES:
        close = difflib.get_close_matches(str(name).lower(), names, n=5, cutoff=0.3)
        names = [*(close or names[:MOST_NAMES]), "..."]
    return InputError(f"there is no {kind} '{name}': {question} ({', '.join(names)})")
