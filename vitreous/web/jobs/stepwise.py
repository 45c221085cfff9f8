"""Work that reports its progress, as the work of a job that lets other jobs have their turn."""

from collections.abc import Callable
from threading import Semaphore, Thread

from vitreous.callbacks import Callback, Progress
from vitreous.web.jobs.memory import HEAD_WIDTH, PassSize
from vitreous.web.jobs.queue import Job, JobResult, JobStoppedError

POLL_SECONDS = 0.5
"""How soon work whose job has ended between two steps ends."""
STEP_GMACS, STEP_PIXELS, STEP_IMAGES = 10.0, 8_000_000, 8
"""Others wait for a step that has begun: it takes at most so many billion multiply-adds (two images of ViT-S/16 at 224
pixels), about so many pixels of images and so many images, but one image whatever it costs."""


def images_per_step(size: PassSize, image_pixels: int = 0) -> int:
    """Return how many images of so many pixels one step may take through a model."""
    macs = size.tokens * size.weights + 2 * size.tokens**2 * HEAD_WIDTH * size.heads
    return max(1, min(STEP_IMAGES, int(STEP_GMACS * 1e9) // max(1, macs), STEP_PIXELS // max(1, image_pixels)))


class Stepwise:
    """Runs work on a thread of its own, one step at each call.

    Between two calls the thread waits, so that it never uses the model while another job does.

    Args:
        work: does everything; it ends a step where it calls the callback's `pause`, or reports progress to it.
    """

    def __init__(self, work: Callable[["StepCallback"], JobResult]) -> None:
        self._work, self._thread = work, Thread(target=self._run, name="web job in steps", daemon=True)
        self._may_go, self._has_paused = Semaphore(0), Semaphore(0)
        self._job: Job | None = None
        self._outcome: JobResult | BaseException | None = None

    def __call__(self, job: Job) -> JobResult | None:
        """Go on to the end of the step, or to the end.

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
        assert self._job is not None
        try:
            self._outcome = self._work(StepCallback(self._job, self._wait))
        except BaseException as error:  # noqa: BLE001 - raised again on the thread that called
            self._outcome = error
        self._has_paused.release()

    def _wait(self) -> None:
        """Wait for the next call."""
        assert self._job is not None
        self._has_paused.release()
        while not self._may_go.acquire(timeout=POLL_SECONDS):
            if self._job.is_cancelled or self._job.state.is_final:
                raise JobStoppedError("nobody waits for this any more")
        self._job.check()


class StepCallback(Callback):
    """Tells a job about the progress of its work, and ends a step."""

    def __init__(self, job: Job, wait: Callable[[], None]) -> None:
        self._job, self._wait = job, wait

    def on_progress(self, progress: Progress) -> None:
        """Publish the progress."""
        self._job.on_progress(progress)
        self.pause()

    def pause(self) -> None:
        """End the step: wait until it is this job's turn again.

        Raises:
            JobStoppedError: the result is no longer wanted, or the time is up.
        """
        self._job.check()
        self._wait()
