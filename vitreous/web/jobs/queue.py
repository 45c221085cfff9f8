"""A bounded, fair queue of work for the models: one thread runs jobs, taking turns between the people who wait."""

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Condition, Thread
from typing import Literal

from vitreous.callbacks import Callback, Progress
from vitreous.errors import InputError, is_out_of_memory
from vitreous.web.latest_value import LatestValue

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
PROGRESS_SECONDS = 0.05
"""Progress is published at most so often."""
BACKGROUND_SECONDS = 0.5
"""How long the thread waits after a job for the next one before it goes on with the background work."""


class JobLimitError(Exception):
    """There are too many jobs: of one person (`is_own`), or of all."""

    def __init__(self, message: str, *, is_own: bool) -> None:
        super().__init__(message)
        self.is_own = is_own


class JobStoppedError(Exception):
    """Raised inside a job whose result is no longer wanted, or that takes too long."""


@dataclass(frozen=True)
class JobResult:
    """What a job has found: a description for JSON, and arrays as bytes."""

    description: dict[str, object]
    data: bytes = b""


@dataclass(frozen=True)
class JobStatus:
    """A job at this moment.

    Attributes:
        progress: how much is done, once the job runs.
        message: why it failed, in one line.
    """

    state: JobState = "queued"
    progress: Progress = field(default_factory=lambda: Progress(0, None))
    message: str = ""

    @property
    def is_final(self) -> bool:
        """Whether it will not change any more."""
        return self.state not in ("queued", "running")


class Job(Callback):
    """Something that a person waits for. While it runs, it is the callback of its own work.

    Args:
        owner: whose job it is.
        work: returns the result; or None after a step, to be called again once other jobs have had their turn.
        seconds: of computation at most.
    """

    def __init__(self, owner: str, work: Callable[["Job"], JobResult | None], seconds: float) -> None:
        self.id, self.owner, self.work, self.seconds = secrets.token_urlsafe(12), owner, work, seconds
        self.status = LatestValue[JobStatus]()
        self.status.put(JobStatus())
        self.result: JobResult | None = None
        self._is_cancelled, self._deadline, self._published = False, float("inf"), 0.0
        self._used_seconds = 0.0

    @property
    def state(self) -> JobStatus:
        """The newest status."""
        assert self.status.newest is not None
        return self.status.newest

    @property
    def is_cancelled(self) -> bool:
        """Whether the result is no longer wanted."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Ask the job to stop as soon as it can."""
        self._is_cancelled = True

    def on_progress(self, progress: Progress) -> None:
        """Publish the progress."""
        self.check()
        now = time.monotonic()
        if now - self._published >= PROGRESS_SECONDS:
            self._published = now
            self.status.put(JobStatus("running", progress))

    def should_stop(self) -> bool:
        """Return whether the result is no longer wanted, or the time is up."""
        return self._is_cancelled or time.monotonic() > self._deadline

    def check(self) -> None:
        """Raise JobStoppedError if the job should stop."""
        if self._is_cancelled:
            raise JobStoppedError("cancelled")
        if time.monotonic() > self._deadline:
            raise JobStoppedError(
                f"this took longer than {self.seconds:g} seconds, which is the limit: choose a faster method, a "
                "smaller model or a shorter clip, or start the server with a larger --max-seconds"
            )

    def run(self) -> None:
        """Do the work, or a step of it; whatever happens becomes the status."""
        started = time.monotonic()
        self._deadline = started + self.seconds - self._used_seconds
        try:
            self.check()
            self.status.put(JobStatus("running", self.state.progress))
            self.result = self.work(self)
            self.check()
            self._used_seconds += time.monotonic() - started
            if self.result is None:
                return
            final = JobStatus("done", self.state.progress)
        except JobStoppedError as stop:
            self.result = None
            final = JobStatus("cancelled" if self._is_cancelled else "failed", message=str(stop))
        except InputError as error:
            final = JobStatus("failed", message=" ".join(str(error).split()))
        except Exception as error:  # noqa: BLE001 - the thread serves the others too
            final = JobStatus("failed", message=_describe(error))
        self.status.put(final)
        self.work = _released  # it holds images and models


def _released(job: Job) -> JobResult | None:
    raise AssertionError("this job has ended")


def _describe(error: Exception) -> str:
    """Describe an error that is our own fault, or the machine's; what it says may hold paths, so the log gets it."""
    if isinstance(error, MemoryError | RuntimeError) and is_out_of_memory(error):
        return "there is too little memory: use a smaller image or a smaller model"
    logging.getLogger("vitreous").error("a job of the web app failed", exc_info=error)
    return "something went wrong on the server: its log says what"


class JobQueue:
    """Runs jobs one after the other on a thread of its own, one of each owner in turn.

    Args:
        max_jobs: jobs that wait, of all owners together.
        max_own_jobs: jobs of one owner that wait.
        background: pieces of work that are done while no job waits; each gives something that isn't None.
    """

    def __init__(self, max_jobs: int = 64, max_own_jobs: int = 4, background: Iterator[object] | None = None) -> None:
        self.max_jobs, self.max_own_jobs, self.background = max_jobs, max_own_jobs, background or iter(())
        self.counts: dict[str, int] = dict.fromkeys(("done", "failed", "cancelled"), 0)
        self.busy_seconds = 0.0
        self._waiting: dict[str, deque[Job]] = {}
        self._running: Job | None = None
        self._patience_seconds = BACKGROUND_SECONDS
        self._is_closed, self._changed = False, Condition()
        self._thread = Thread(target=self._run, name="web jobs", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def __len__(self) -> int:
        """The number of jobs that wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def is_busy(self) -> bool:
        """Whether a job runs."""
        return self._running is not None

    def put(self, job: Job) -> None:
        """Add a job.

        Raises:
            JobLimitError: too many jobs wait.
        """
        with self._changed:
            own = self._waiting.get(job.owner, ())
            if len(own) >= self.max_own_jobs:
                raise JobLimitError(f"{len(own)} requests of yours wait already: let one end first", is_own=True)
            if len(self) >= self.max_jobs or self._is_closed:
                raise JobLimitError("too many people wait for the model: try again in a few seconds", is_own=False)
            self._waiting.setdefault(job.owner, deque()).append(job)
            self._changed.notify()

    def jobs_before(self, job: Job) -> int:
        """Return how many jobs run before one that waits."""
        with self._changed:
            own = self._waiting.get(job.owner)
            if own is None or job not in own:
                return 0
            turn, owners = own.index(job), list(self._waiting)
            earlier = owners[: owners.index(job.owner)]
            others = sum(min(len(queue), turn + (owner in earlier)) for owner, queue in self._waiting.items()
                         if owner != job.owner)  # fmt: skip
            return turn + others + (self._running is not None)

    def cancel(self, job: Job) -> None:
        """Cancel a job; one that waits leaves the queue at once."""
        job.cancel()
        with self._changed:
            own = self._waiting.get(job.owner, deque())
            if job not in own:
                return
            own.remove(job)
            if not own:
                del self._waiting[job.owner]
            self.counts["cancelled"] += 1
        job.status.put(replace(job.state, state="cancelled", message="cancelled"))

    def close(self) -> None:
        """Cancel everything and end the thread, after the step that runs."""
        with self._changed:
            self._is_closed = True
            jobs = [job for queue in self._waiting.values() for job in queue]
            if self._running is not None:
                self._running.cancel()
            self._changed.notify()
        for job in jobs:
            self.cancel(job)
        if self._thread.ident is not None:
            self._thread.join(5.0)

    def _put_back(self, job: Job) -> None:
        """Let a job that isn't finished wait behind the others."""
        with self._changed:
            if not self._is_closed and not job.is_cancelled:
                self._waiting.setdefault(job.owner, deque()).append(job)
                return
        job.run()  # it ends at once, and says why
        self.counts[job.state.state] += 1

    @contextmanager
    def _next(self) -> Generator[Job | None]:
        """Yield the job whose turn it is; None if there is none yet. Its owner goes to the end of the row."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed, self._patience_seconds)
            if self._waiting and not self._is_closed:
                owner = next(iter(self._waiting))
                jobs = self._waiting.pop(owner)
                self._running = jobs.popleft()
                if jobs:
                    self._waiting[owner] = jobs
        try:
            yield self._running
        finally:
            with self._changed:
                self._running = None

    def _run(self) -> None:
        while not self._is_closed:
            with self._next() as job:
                if job is not None:
                    started = time.monotonic()
                    job.run()
                    self.busy_seconds += time.monotonic() - started
                    if job.state.is_final:
                        self.counts[job.state.state] += 1
                    else:
                        self._put_back(job)
            if job is not None:
                self._patience_seconds = BACKGROUND_SECONDS
            elif not self._is_closed:
                self._patience_seconds = 60.0 if self._do_background_work() is None else 0.0

    def _do_background_work(self) -> object:
        """Do a piece of it; where it fails, it ends, and the thread goes on for the people who wait."""
        try:
            return next(self.background, None)
        except Exception as error:
            logging.getLogger("vitreous").error("background work of the web app failed", exc_info=error)
            self.background = iter(())
            return None
