"""The one callback protocol of every long-running use case: progress, notes and a request to stop."""

import logging
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How much of a task is done.

    Attributes:
        total: None where the total is unknown, such as on a live stream.
        message: What runs now, such as the name of a method.
    """

    done: int
    total: int | None
    message: str = ""


class Callback:
    """Receives the events of a use case such as `train` or `explain_video`; every method does nothing by default.

    Override the methods that you need and pass an instance as `callback`.

    >>> class Printer(Callback):
    ...     def on_note(self, text: str) -> None:
    ...         print(text)
    >>> Printer().on_note("reading cifar10")
    reading cifar10
    """

    def on_progress(self, progress: Progress) -> None:
        """Report progress; called from the thread that does the work."""

    def on_note(self, text: str) -> None:
        """Report one line that the user should read, such as an assumption about a checkpoint."""

    def should_stop(self) -> bool:
        """Return True to stop at the next safe point; what is done so far is kept."""
        return False


class ForwardingCallback(Callback):
    """Passes all events on to another callback; a subclass changes some of them.

    >>> class Named(ForwardingCallback):
    ...     def on_note(self, text: str) -> None:
    ...         super().on_note(f"dog.mp4: {text}")
    """

    def __init__(self, callback: Callback) -> None:
        self.callback = callback

    def on_progress(self, progress: Progress) -> None:
        """Pass the progress on."""
        self.callback.on_progress(progress)

    def on_note(self, text: str) -> None:
        """Pass the note on."""
        self.callback.on_note(text)

    def should_stop(self) -> bool:
        """Ask the other callback."""
        return self.callback.should_stop()


class LogCallback(Callback):
    """Writes notes to the logger "vitreous", whose lines go to standard error unless logging is configured."""

    def on_note(self, text: str) -> None:
        """Log the line."""
        logging.getLogger("vitreous").warning(text)
