"""Takes the images of a camera or video of the server on a thread of its own; only the newest is kept."""

import logging
from contextlib import closing
from threading import Event, Thread

from vitreous.errors import InputError
from vitreous.video.camera import LiveFrame, LiveSource
from vitreous.video.decode import TruncatedVideoError
from vitreous.web.latest_value import LatestValue

END_SECONDS = 0.5
"""A camera that hangs for longer at the end is left behind; its thread dies with the process."""


class LiveCapture:
    """A source that is read from `start` to `close`, or until it ends.

    Attributes:
        name: of the source.
        frames: the newest image, numbered from 1.
        error: why there are no more, in one line; empty if the source ended as it should.
    """

    def __init__(self, source: LiveSource) -> None:
        self.source, self.name, self.error = source, source.name, ""
        self.frames = LatestValue[LiveFrame]()
        self._stop, self._thread = Event(), Thread(target=self._run, name="live camera", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, and release the source."""
        self._stop.set()
        self.frames.finish()
        if self._thread.ident is not None:
            self._thread.join(END_SECONDS)
        if not self._thread.is_alive():
            self.source.close()

    def _run(self) -> None:
        try:
            with closing(self.source.frames(self._stop)) as frames:
                for frame in frames:
                    self.frames.put(frame)
        except (InputError, TruncatedVideoError) as error:
            self.error = " ".join(str(error).split())
        except Exception as error:
            logging.getLogger("vitreous").error("the live source failed", exc_info=error)
            self.error = "the source failed: the log of the server says why"
        self.frames.finish()
