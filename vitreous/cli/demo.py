"""vitreous demo"""

import shlex
from pathlib import Path

from vitreous.cli import EXIT_INTERRUPTED
from vitreous.cli.console import note, progress, say, stop_on_interrupt
from vitreous.cli.evaluate import print_scores
from vitreous.cli.train import training_words


def demo(*, out: Path = Path("demo"), data: str = "shapes") -> int:
    """Run the whole chain: train, evaluate, explain, video; ends with the list of files to open.

    Args:
        out: Folder for everything the demo makes.
        data: What to train on: shapes (drawn by Vitreous, offline), cifar10 or mnist.
    """
    from vitreous.workflows.demo import demo as run
    from vitreous.workflows.train import Listener

    with progress("training") as display:
        listener = Listener(note, lambda at: display(at.step, at.steps, training_words(at)), stop_on_interrupt)
        result = run(out, data, listener)
    if result is None:
        say(f"stopped; go on with:\n  vitreous demo --out {shlex.quote(str(out))} --data {data}")
        return EXIT_INTERRUPTED
    print_scores(result.scores)
    say()
    say("Open these:")
    for path, words in result.files:
        say(f"  {path}  {words}")
    return 0
