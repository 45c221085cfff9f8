"""The table of methods."""

from vitreous.errors import InputError, unknown
from vitreous.explanation.attention import attention
from vitreous.explanation.method import Method
from vitreous.explanation.rollout import rollout
from vitreous.explanation.settings import Settings

METHODS = {
    "attention": Method(
        attention,
        "where one layer's readout, or a chosen patch, looks",
        "share",
        frozenset({"layer", "head", "fusion", "query"}),
        asks_target=False,
    ),
    "rollout": Method(
        rollout,
        "attention followed through all layers (Abnar and Zuidema 2020)",
        "share",
        frozenset({"query"}),
        asks_target=False,
    ),
}
"""Every method by name: a new one is one file and one line here."""


def find_method(name: str, settings: Settings) -> Method:
    """The method called so, if it has a use for each setting that isn't left as it was.

    Raises:
        InputError: there is no such method, or it has no use for a setting; names those that have.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    usual = Settings()
    for setting in sorted(vars(settings)):
        if getattr(settings, setting) != getattr(usual, setting) and setting not in METHODS[name].settings:
            able = ", ".join(key for key, method in METHODS.items() if setting in method.settings)
            raise InputError(f"method '{name}' has no use for the setting {setting}: leave it out, or choose {able}")
    return METHODS[name]
