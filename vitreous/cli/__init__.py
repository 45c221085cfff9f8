"""The command line: one file per verb, and one place where errors become a line and an exit code."""

import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Group, UnknownOptionError, UnusedCliTokensError

import vitreous
from vitreous.errors import InputError, is_out_of_memory
from vitreous.files import os_error_reason

EXIT_BAD_INPUT, EXIT_TRUNCATED, EXIT_INTERRUPTED = 2, 3, 130
MIN_COLUMNS = 40
"""A terminal that says that it is narrower gets lines of this width."""

VERB_GROUPS = {
    "Train and evaluate": {
        "demo": "Train a small model, evaluate it, and explain images and a video with it.",
        "data": "Inspect a dataset: counts, corrupt files, duplicates, class balance.",
        "train": "Train a model by a recipe, or resume a run.",
        "evaluate": "Evaluate a model on images that it was not trained on.",
        "film": "Make a film of a training run: its maps, predictions and scores.",
        "compare": "Compare two runs and test whether their difference is significant.",
        "report": "Write a run's report, or the comparison of two runs, as one HTML page.",
    },
    "Look inside a model": {
        "explain": "Explain a model's predictions on images with heatmaps.",
        "predict": "Predict the labels of images, with their scores.",
        "video": "Overlay a model's attention on a video.",
        "live": "Show a model's attention live in the browser.",
        "serve": "Explore models in the browser: hover over a patch and see where it looks.",
        "patches": "Show how an image is cut into patches.",
        "methods": "List the explanation methods and their options.",
    },
    "Check models and explanations": {
        "doctor": "Diagnose a model: outlier tokens, dead heads, uninformative maps.",
        "faithfulness": "Measure how faithful each explanation method is, against two baselines.",
        "localization": "Measure whether heatmaps fall on the object, against known masks.",
    },
    "Use frozen features": {
        "embed": "Compute a feature vector of every image, into a Parquet file.",
        "similar": "Find the images most similar to one, with maps of what makes them alike.",
        "probe": "Measure how well frozen features tell classes apart, and make a classifier of them.",
    },
    "Models": {
        "models": "List the model sizes and their cost.",
        "plan": "Estimate time, memory, storage and cost of work on many images.",
        "convert": "Convert a model to the format of another library.",
    },
}
"""The verbs by purpose, with their summaries; the function of a verb is imported from its file when it is called."""

VERBS = {verb: summary for group in VERB_GROUPS.values() for verb, summary in group.items()}

ALIASES = {"localisation": "localization"}
"""Older spellings of verbs, which still work."""

USAGE = {
    "train": "[OPTIONS] RECIPE",
    "embed": "[OPTIONS] MODEL DATA --output FILE",
    "probe": "[OPTIONS] MODEL --data SOURCE",
    "similar": "[OPTIONS] MODEL IMAGE --data SOURCE",
    "explain": "[OPTIONS] MODEL [IMAGES...]",
    "predict": "[OPTIONS] MODEL IMAGES...",
    "doctor": "[OPTIONS] MODEL [IMAGES...]",
    "report": "[OPTIONS] MODEL [OTHER]",
    "serve": "[OPTIONS] MODEL [MODELS...]",
    "models": "[OPTIONS] [SIZES...]",
    "plan": "[OPTIONS] MODEL --images COUNT",
    "methods": "[METHOD]",
    "convert": "MODEL --to LIBRARY --output FOLDER",
}
"""The usage lines that name more than the parameters do."""

app = App(
    name="vitreous",
    help="Vision Transformers you can see through: train them, measure them, and see where they look.",
    version=vitreous.__version__,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
    print_error=False,
    result_action="return_value",
)
for _name, _verbs in VERB_GROUPS.items():
    _group = Group.create_ordered(_name)
    for _order, (_verb, _summary) in enumerate(_verbs.items()):
        _usage = f"Usage: vitreous {_verb} {USAGE[_verb]}" if _verb in USAGE else None
        app.command(
            f"vitreous.cli.{_verb}:{_verb}", name=_verb, help=_summary, usage=_usage, sort_key=_order, group=_group
        )
for _alias, _verb in ALIASES.items():
    app.command(f"vitreous.cli.{_verb}:{_verb}", name=_alias, show=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    0: done; 2: bad input, reported in one line; 3: a video is truncated and its readable part was written, or
    one of several failed; 130: interrupted.
    """
    from vitreous.process_tuning import keep_freed_memory, monitor_cores, share_cores

    arguments = sys.argv[1:] if arguments is None else arguments
    keep_freed_memory()
    if list(arguments[:1]) in (["video"], ["live"], ["serve"]):  # they decode and encode beside the model
        share_cores()
    else:
        monitor_cores(lambda text: print(text, file=sys.stderr))  # noqa: T201
    warnings.filterwarnings("ignore", module=r"PIL\.")  # on damage that it can ignore
    for library in ("PIL", "matplotlib"):  # of a cache that can't be written, for one
        logging.getLogger(library).addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")
    sys.exit(run(arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    if (columns := os.environ.get("COLUMNS", "")).isdecimal() and int(columns) < MIN_COLUMNS:
        os.environ["COLUMNS"] = str(MIN_COLUMNS)
    verb = arguments[0] if arguments else ""
    try:
        if verb in VERBS or verb in ALIASES:
            app[verb].help = None  # the summary is for the list of verbs; the verb's own help is its whole docstring
        return app(list(arguments)) or 0
    except UnknownOptionError as error:
        from vitreous.cli.renamed import renamed_flag

        flag = error.token.keyword or error.token.value
        known = app[verb].assemble_argument_collection() if verb in VERBS or verb in ALIASES else ()
        names = {name for argument in known for name in argument.names}
        return print_error(renamed_flag(flag, names, verb) or " ".join(str(error).split()))
    except UnusedCliTokensError as error:
        surplus = ", ".join(map(repr, error.unused_tokens or ()))
        return print_error(
            f"{verb} has no argument for {surplus}: name it by an option, or leave it out; see vitreous {verb} --help"
        )
    except (CycloptsError, InputError) as error:
        return print_error(" ".join(str(error).split()))
    except BrokenPipeError:
        return EXIT_BAD_INPUT
    except OSError as error:
        return print_error(f"{error.filename}: {os_error_reason(error)}" if error.filename else os_error_reason(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return print_error(
            "there is too little memory: use smaller or fewer images, a smaller batch, or a smaller model"
        )
    except KeyboardInterrupt:
        print("vitreous: interrupted", file=sys.stderr)  # noqa: T201
        return EXIT_INTERRUPTED


def print_error(message: str) -> int:
    """Print one line about bad input to standard error, and return the exit code for it."""
    print(f"vitreous: {message}", file=sys.stderr)  # noqa: T201
    return EXIT_BAD_INPUT
