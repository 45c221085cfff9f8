"""The page of a run, written by `train`: what is known at each checkpoint, and at the end everything.

A fault in the page costs a note, and neither the run nor its result: the weights are saved before.
"""

from collections.abc import Callable

from vitreous.callbacks import ForwardingCallback, Progress
from vitreous.diagnostics.report.run import report
from vitreous.diagnostics.report.training_page import write_history_report
from vitreous.errors import InputError
from vitreous.runs.run_folder import RunFolder
from vitreous.training.context import TrainContext


class _StoppedError(Exception):
    """The user has asked to stop."""


class _Stoppable(ForwardingCallback):
    """Ends the measurements of a page when the run's callback asks to stop; passes on no progress but that of steps."""

    def on_progress(self, progress: Progress) -> None:
        """Look whether to go on."""
        if self.should_stop():
            raise _StoppedError("stopped")


def write_interim_report(folder: RunFolder, context: TrainContext) -> None:
    """Write the page while a run trains, with what is known: some milliseconds."""
    _try_to_write(lambda: write_history_report(folder), folder, context)


def write_final_report(folder: RunFolder, context: TrainContext, *, finished: bool) -> None:
    """Write the page of a run that ends here: measured if it is finished, else what is known, with the filmstrip."""
    _try_to_write(lambda: write_history_report(folder, is_training=False), folder, context)
    if finished:
        context.note("measuring the model for report.html (report=false leaves it out)")
        device = str(context.device)
        _try_to_write(
            lambda: report(folder.path, device=device, callback=_Stoppable(context.callback)), folder, context
        )


def _try_to_write(write: Callable[[], object], folder: RunFolder, context: TrainContext) -> None:
    """Write a page; whatever goes wrong becomes a note, except that the run folder is gone, which ends the run."""
    with folder.writing():
        try:
            write()
        except _StoppedError:
            context.note("report.html has no measurements, since they were stopped: `vitreous report RUN` makes them")
        except Exception as error:  # noqa: BLE001 - a page must not end a run
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            context.note(f"report.html is not up to date ({' '.join(reason.split())}): `vitreous report RUN` writes it")
