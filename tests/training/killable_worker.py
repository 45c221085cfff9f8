"""A process that imports everything once, and forks a process that trains for each line on its standard input.

A line is {"output": ..., "epochs": ...}. It prints the id of the new process, what that one prints ("training" as soon
as it starts), and the exit status. So a test can kill a run many times without waiting for the imports each time.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from tiny_run import tiny_recipe

from vitreous.callbacks import Callback
from vitreous.runs.run_folder import RunFolder
from vitreous.workflows.train import train


def print_at_once(text: object) -> None:
    """Write a line in one piece, so that the lines of two processes don't mix."""
    os.write(1, f"{text}\n".encode())


class AnnounceTraining(Callback):
    """Prints "training" when the model is built and the training starts."""

    def on_note(self, text: str) -> None:
        """Recognize the summary of the run."""
        if "to train on" in text:
            print_at_once("training")


def train_tiny(folder: str, output: str, epochs: float, die_at: int | None = None) -> None:
    """Train, or resume, in `output`; with `die_at`, up to the write or rename of that number."""
    if die_at is not None:
        die_at_write(die_at)
    recipe, resume = tiny_recipe(Path(folder), epochs=epochs), RunFolder(Path(output)).recipe.exists()
    train(recipe, output, resume=resume, callback=AnnounceTraining())


def die_at_write(number: int) -> None:
    """Make the process kill itself at the write or rename of that number, in the middle of what it writes."""
    left = iter(range(number))
    original = {name: getattr(Path, name) for name in ("write_bytes", "write_text", "replace")}

    def deadly(name: str):
        def act(path: Path, content, *arguments, **options):
            if next(left, None) is None:
                if name != "replace":
                    original[name](path, content[: len(content) // 2], *arguments, **options)
                os.kill(os.getpid(), signal.SIGKILL)
            return original[name](path, content, *arguments, **options)

        return act

    for name in original:
        setattr(Path, name, deadly(name))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        train(tiny_recipe(Path(sys.argv[1]), epochs=0.2), Path(temporary) / "run")
    for line in sys.stdin:
        process = os.fork()
        if not process:
            train_tiny(sys.argv[1], **json.loads(line))
            os._exit(0)
        print_at_once(process)
        print_at_once(f"ended {os.waitpid(process, 0)[1]}")
