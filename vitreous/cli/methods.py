"""vitreous methods"""

from typing import TYPE_CHECKING

from vitreous.cli.console import print_line

if TYPE_CHECKING:
    from vitreous.explanation.method import Method

SCALES = {
    "proportion": "attention weights, which sum to 1 together with those of the prefix tokens (class token, registers)",
    "positive": "0 or more",
    "signed": "positive values favor the target, negative values count against it",
}
QUERY = (
    "Patch at pixel X,Y of the image, or patches in the box X0,Y0,X1,Y1, whose attention or similarity is shown "
    "instead of the readout's."
)
"""In Python the record of options counts patches, not pixels."""


def methods(name: str | None = None, /) -> int:
    """List the explanation methods and their options.

    Args:
        name: Show only this method, with a description of its options.
    """
    from vitreous.explanation.options import MethodOptions
    from vitreous.explanation.registry import METHODS, find_method

    if name is not None:
        print_method(name, find_method(name, MethodOptions()))
        return 0
    for one, method in METHODS.items():
        target = "depends on the target" if method.is_class_specific else "the same for every target"
        options = " ".join(flag_of(option) for option in sorted(method.options))
        print_line(f"{one}\n    {method.summary}\n    {method.scale_kind}, {target}{'; ' + options if options else ''}")
    print_line()
    for kind, meaning in SCALES.items():
        print_line(f"{kind}: {meaning}")
    print_line("`vitreous methods NAME` describes the options of a method")
    return 0


def print_method(name: str, method: "Method") -> None:
    """Print one method with a description of each of its options."""
    from docstring_parser import parse_from_object

    from vitreous.explanation.options import MethodOptions

    print_line(f"{name}: {method.summary}")
    print_line(f"    values: {method.scale_kind}, {SCALES[method.scale_kind]}")
    print_line(
        f"    target: the map {'depends on the target' if method.is_class_specific else 'is the same for every target'}"
    )
    print_line(f"    gradients: {'needed' if method.uses_gradients else 'not needed'}")
    texts = {one.arg_name: one.description or "" for one in parse_from_object(MethodOptions).params}
    for option in sorted(method.options):
        text = QUERY if option == "query" else " ".join(texts[option].split()).partition(" Used by ")[0]
        print_line(f"    {flag_of(option)}: {text}")


def flag_of(option: str) -> str:
    """Return the flag of an option: "--head-fusion" for "head_fusion"."""
    return f"--{option.replace('_', '-')}"
