"""How many heads a model has, where its weights and its config.json don't tell."""

from vitreous.errors import InputError

WIDE = {1152: 16, 1280: 16, 1408: 16, 1664: 16}
"""Width and heads of the published models whose heads aren't 64 wide: so400m, H, g, G (Zhai et al. 2022, table 2)."""


def usual_heads(width: int, key: str = "num_heads") -> int:
    """The heads that published models of this width have; `key` is where a config.json would say them.

    Raises:
        InputError: there is no usual number; it must be said.

    >>> usual_heads(384), usual_heads(1280)
    (6, 16)
    """
    if width in WIDE:
        return WIDE[width]
    if width % 64:
        raise InputError(f"weights of width {width} don't tell the number of heads: give a config.json with {key}")
    return width // 64
