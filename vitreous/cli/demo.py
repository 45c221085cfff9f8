"""vitreous demo"""

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.cli import EXIT_INTERRUPTED
from vitreous.cli.console import print_line
from vitreous.cli.evaluate import print_evaluation
from vitreous.cli.flags import OUTPUT_NAMES
from vitreous.cli.train import train_display


def demo(*, output: Annotated[Path, Parameter(name=OUTPUT_NAMES)] = Path("demo"), data: str = "shapes") -> int:
    """Train a small model, evaluate it, and explain images and a video with it.

    Prints the list of files to open at the end.

    Args:
        output: Folder for everything that the demo makes. A run that is there already is resumed.
        data: What to train on: shapes (drawn by Vitreous, offline), cifar10 or mnist.
    """
    from vitreous.workflows.demo import demo as run

    with train_display() as display:
        result = run(output, data, callback=display)
    if result.evaluation is None:
        print_line(f"stopped; resume with:\n  vitreous demo --output {shlex.quote(str(output))} --data {data}")
        return EXIT_INTERRUPTED
    print_evaluation(result.evaluation)
    print_line()
    print_line("Open these:")
    for path, description in result.files:
        print_line(f"  {path}  {description}")
    return 0
