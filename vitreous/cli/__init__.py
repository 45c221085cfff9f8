"""The command line: one thin file a verb, and one place where errors become a line and an exit code."""

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

import vitreous
from vitreous.errors import InputError
from vitreous.files import os_error_reason
from vitreous.process_tuning import keep_freed_memory

EXIT_BAD_INPUT, EXIT_BROKE_OFF, EXIT_INTERRUPTED = 2, 3, 130

VERBS = {
    "demo": "Run the whole chain: train, evaluate, explain, video.",
    "data": "Look at images before learning from them.",
    "train": "Train a model by a recipe, or go on with a run.",
    "evaluate": "Evaluate a model on images that it was not trained on.",
    "compare": "Say which of two runs is better, and how sure that is.",
    "models": "List the sizes of models and what they cost.",
    "explain": "Show what a model looks at on images.",
    "methods": "List the ways to explain.",
    "video": "Overlay a model's attention on a video.",
    "live": "Show a model's attention live in the browser.",
    "patches": "Show how an image is cut into patches.",
    "convert": "Write a model in the form that another library loads.",
    "localization": "Measure whether maps fall on the object, by known masks.",
    "faithfulness": "Measure how faithful each explanation method is, against two baselines.",
    "doctor": "Diagnose a model: outlier tokens, dead heads, uninformative maps.",
}
"""Every verb and what it does; its function, in the file of the same name, is imported when it is called."""

app = App(
    name="vitreous",
    help="Vision Transformers you can see through: train them, measure them, and see where they look.",
    version=vitreous.__version__,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
    print_error=False,
    result_action="return_value",
)
for _order, (_verb, _summary) in enumerate(VERBS.items()):
    app.command(f"vitreous.cli.{_verb}:{_verb}", name=_verb, help=_summary, sort_key=_order)
app.command("vitreous.cli.localization:localization", name="localisation", show=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    0: done; 2: bad input, said in one line; 3: a clip broke off and its good part was written, or one of several
    failed; 130: interrupted.
    """
    keep_freed_memory()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    try:
        return app(list(arguments)) or 0
    except (CycloptsError, InputError) as error:
        return print_error(" ".join(str(error).split()))
    except BrokenPipeError:
        return EXIT_BAD_INPUT
    except OSError as error:
        return print_error(f"{error.filename}: {os_error_reason(error)}" if error.filename else os_error_reason(error))
    except KeyboardInterrupt:
        print("vitreous: interrupted", file=sys.stderr)  # noqa: T201
        return EXIT_INTERRUPTED


def print_error(message: str) -> int:
    """Say in one line on standard error what is wrong."""
    print(f"vitreous: {message}", file=sys.stderr)  # noqa: T201
    return EXIT_BAD_INPUT
