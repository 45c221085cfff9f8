"""Work that reports its progress, as the work of a job that lets other jobs have their turn."""

from collections.abc import Callable
from threading import Semaphore, Thread

from vitreous.callbacks import Callback, Progress
from vitreous.web.jobs.queue import Job, JobResult, JobStoppedError

POLL_SECONDS = 0.5
"""How soon work whose job was cancelled between two steps ends."""


class Stepwise:
    """Runs work on a thread of its own, from one report of progress to the next at each call.

    Between two calls the thread waits, so that it never uses the model while another job does.

    Args:
        work: does everything, and reports its progress to the callback.
    """

    def __init__(self, work: Callable[[Callback], JobResult]) -> None:
        self._work, self._thread = work, Thread(target=self._run, name="web job in steps", daemon=True)
        self._may_go, self._has_paused = Semaphore(0), Semaphore(0)
        self._job: Job | None = None
        self._outcome: JobResult | BaseException | None = None

    def __call__(self, job: Job) -> JobResult | None:
        """Go on until the next report, or to the end.

        Raises:
            Exception: whatever the work has raised.
        """
        if self._job is None:
            self._job = job
            self._thread.start()
        else:
            self._may_go.release()
        self._has_paused.acquire()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def _run(self) -> None:
        try:
            self._outcome = self._work(_Pauses(self._pause))
        except BaseException as error:  # noqa: BLE001 - raised again on the thread that called
            self._outcome = error
        self._has_paused.release()

    def _pause(self, progress: Progress) -> None:
        """Publish progress, and wait for the next call."""
        assert self._job is not None
        self._job.on_progress(progress)
        self._has_paused.release()
        while not self._may_go.acquire(timeout=POLL_SECONDS):
            if self._job.is_cancelled:
                raise JobStoppedError("cancelled")
        self._job.check()


class _Pauses(Callback):
    """Pauses at each report."""

    def __init__(self, pause: Callable[[Progress], None]) -> None:
        self._pause = pause

    def on_progress(self, progress: Progress) -> None:
        """Pause."""
        self._pause(progress)
