"""A process that has trained once and forks one that trains for each line it is told: {"out": ..., "epochs": ...}.

It says the number of the new process, what that one says ("training" as soon as it begins), and how it ended. So a run
can be killed many times without waiting each time for all that is imported.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from runs import tiny_recipe

from vitreous.runs.run_folder import RunFolder
from vitreous.workflows.train import Listener, train


def say(words: object) -> None:
    """Write a line in one piece, so that those of two processes don't mix."""
    os.write(1, f"{words}\n".encode())


def learn(folder: str, out: str, epochs: float, die_at: int | None = None) -> None:
    """Train, or go on, in `out`; with `die_at` up to the write or renaming of that number."""
    if die_at is not None:
        die_at_write(die_at)
    listener = Listener(lambda text: say("training") if "learn from" in text else None)
    train(tiny_recipe(Path(folder), epochs=epochs), out, resume=RunFolder(Path(out)).recipe.exists(), listener=listener)


def die_at_write(number: int) -> None:
    """Have the process kill itself at the write or renaming of that number, in the midst of what it writes."""
    left = iter(range(number))
    plain = {name: getattr(Path, name) for name in ("write_bytes", "write_text", "replace")}

    def mortal(name: str):
        def act(path: Path, content, *arguments, **options):
            if next(left, None) is None:
                if name != "replace":
                    plain[name](path, content[: len(content) // 2], *arguments, **options)
                os.kill(os.getpid(), signal.SIGKILL)
            return plain[name](path, content, *arguments, **options)

        return act

    for name in plain:
        setattr(Path, name, mortal(name))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as first:
        train(tiny_recipe(Path(sys.argv[1]), epochs=0.2), Path(first) / "run")
    for line in sys.stdin:
        process = os.fork()
        if not process:
            learn(sys.argv[1], **json.loads(line))
            os._exit(0)
        say(process)
        say(f"ended {os.waitpid(process, 0)[1]}")
