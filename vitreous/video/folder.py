"""Write a video as a folder of PNG files with their times; the folder is complete or absent."""

import csv
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from PIL import Image

from vitreous.errors import InputError
from vitreous.files import atomic_folder, os_error_reason
from vitreous.video.check import IncompleteVideoError, verify_equal
from vitreous.video.info import Frame, VideoInfo
from vitreous.video.writer import Writer

COMPRESSION = 1  # zlib level: twice as fast as the default 6, files 10 % larger
TIMES_FILE = "times.csv"


class FolderWriter(Writer):
    """Writes frames as frame-000000.png, frame-000001.png, ... and times.csv (file, time_seconds, duration_seconds).

    Use it as a context manager: the folder gets its name at the end, after its files were counted and the last one read
    back; on an error nothing is left.

    Raises:
        InputError: the folder exists and is not empty, or can't be written.
        IncompleteVideoError: what was read back differs from what was written.
    """

    codec = "png"

    def __init__(self, path: Path, source: VideoInfo, size_hw: tuple[int, int]) -> None:
        check_empty_folder(path)
        super().__init__(path, source, size_hw)
        self.rows: list[tuple[str, float, float]] = []

    def __enter__(self) -> "FolderWriter":
        with ExitStack() as stack:
            self.temporary = stack.enter_context(atomic_folder(self.path))
            self.stack = stack.pop_all()
        return self

    def write(self, frame: Frame) -> None:
        """Write one frame."""
        name = f"frame-{self.frames:06d}.png"
        Image.fromarray(frame.image_u8).save(self.temporary / name, compress_level=COMPRESSION)
        self.rows.append((name, float(frame.time_seconds), float(frame.duration_seconds or 1 / self.source.fps)))
        super().write(frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.stack.__exit__(kind, error, trace)
            return
        with self.stack:
            self.finish()

    def finish(self) -> None:
        """Write the times, and read the files back."""
        with (self.temporary / TIMES_FILE).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["file", "time_seconds", "duration_seconds"])
            table.writerows((name, f"{time:.6f}", f"{duration:.6f}") for name, time, duration in self.rows)
        verify_equal("number of files", len(list(self.temporary.glob("frame-*.png"))), len(self.rows))
        try:
            with Image.open(self.temporary / self.rows[-1][0]) as last:
                last.load()
                verify_equal("size (height, width)", last.size[::-1], self.size_hw)
        except OSError as error:
            raise IncompleteVideoError(f"the last written file can't be read back: {error}") from error


def check_empty_folder(path: Path) -> None:
    """Check that a folder is absent or empty.

    Raises:
        InputError: it holds something, or is a file.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"can't write the folder {path}: it is a file; choose another name")
    try:
        if path.is_dir() and any(path.iterdir()):
            raise InputError(f"can't write the folder {path}: it is not empty; choose a new one")
    except OSError as error:
        raise InputError(f"can't write the folder {path}: {os_error_reason(error)}") from error
