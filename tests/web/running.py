"""A tiny run that trains on a thread and waits where a test wants it to."""

from contextlib import contextmanager
from threading import Event, Thread

from tiny_run import tiny_recipe

import vitreous
from vitreous.callbacks import Callback


class PausedTraining(Callback):
    """Trains a run of 24 steps; it waits before each step from `pause_at` on, until `go_on` lets it take some."""

    def __init__(self, data, path, pause_at, *, resume=False, **changes):
        self.pause_at, self.taken, self.reached, self._may = pause_at, 0, Event(), Event()
        self.is_stopped, self.error = False, None
        self.recipe = tiny_recipe(data, **{"epochs": 4.0, "checkpoint_seconds": 1000.0, "keep_maps": 3, **changes})
        self._thread = Thread(target=self._train, args=(path, resume))
        self._thread.start()

    def _train(self, path, resume):
        try:
            vitreous.train(self.recipe, path, resume=resume, callback=self)
        except Exception as error:  # noqa: BLE001 - the test raises it
            self.error = error
            self.reached.set()

    def should_stop(self):
        self.taken += 1
        while self.taken > self.pause_at and not self.is_stopped:
            self.reached.set()
            self._may.wait(60)
        return self.is_stopped

    def wait(self):
        """Wait until the run waits."""
        assert self.reached.wait(60)
        assert self.error is None, self.error

    def go_on(self, steps=None):
        """Let it take so many steps, or all that are left, and wait until it has."""
        self.pause_at = 10**9 if steps is None else self.pause_at + steps
        self.reached.clear()
        self._may.set()
        self._may = Event()
        if steps is None:
            self.end()
        else:
            self.wait()

    def stop(self):
        """Stop the run, which saves a checkpoint."""
        self.is_stopped = True
        self._may.set()
        self.end()

    def end(self):
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.error is None, self.error


@contextmanager
def paused_training(*arguments, **options):
    """Yield a run that waits; it is stopped at the end."""
    run = PausedTraining(*arguments, **options)
    try:
        run.wait()
        yield run
    finally:
        run.stop()
