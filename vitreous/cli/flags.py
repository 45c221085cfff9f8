"""Parameters that several verbs share, with their names and help, spelled out once."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.errors import InputError

Flag = Annotated[bool, Parameter(negative="", show_default=False)]
"""A switch without a --no- form."""
JsonFlag = Annotated[bool, Parameter(name="--json", negative="", show_default=False)]
ModelName = Annotated[
    str,
    Parameter(
        help="Run folder, weights file, timm:NAME, hf:OWNER/NAME such as hf:facebook/dinov2-small, or "
        "factory:MODULE:FUNCTION, a function of your own that returns the model, with @WEIGHTS after it if they come "
        "from a file."
    ),
]
SplitName = Annotated[str, Parameter(help="test, or validation while settings are still being chosen.")]
DeviceName = Annotated[str, Parameter(help="auto, cpu or cuda.")]
OUTPUT_NAMES = ["--output", "-o", "--out"]
OutputFile = Annotated[Path | None, Parameter(name=OUTPUT_NAMES)]
"""The file or folder to write, under the same names for every verb."""


def parse_input_size(text: str) -> tuple[int, int]:
    """Parse "224x320" as height and width, and "224" as the side of a square.

    >>> parse_input_size("224x320"), parse_input_size("224")
    ((224, 320), (224, 224))

    Raises:
        InputError: the text has another form.
    """
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise InputError(
            f"'{text}' is not a size: write one side in pixels, such as 224, or height x width, such as 224x320"
        )
    return int(sides[0]), int(sides[-1])


def check_web_extra(verb: str) -> None:
    """Check that the packages of the extra "web", which a verb needs, can be imported.

    Raises:
        InputError: one can't; gives the command that installs them.
    """
    try:
        import starlette.applications  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"vitreous {verb} needs the package {error.name}: install it with pip install 'vitreous[web]'"
        ) from error
