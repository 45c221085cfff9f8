"""metrics.jsonl as it grows: only what was added is read again, and a run that was resumed earlier is noticed."""

from io import SEEK_END
from typing import Any, BinaryIO

from vitreous.errors import InputError
from vitreous.files import os_error_reason
from vitreous.runs.run_folder import RunFolder, parse_metrics_line

CHECKED_BYTES = 512
"""Of what was read last: if they have changed, the file is another one."""


class MetricsTail:
    """The lines of a run's metrics.jsonl up to now, under today's names; `read` brings them up to date.

    Attributes:
        lines: of the file; when a resumed run drops lines, this becomes a new list.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._forget()

    def _forget(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._numbers, self._offset, self._end = 0, 0, b""

    def read(self) -> None:
        """Read what was added; a last line that is only half written waits.

        Raises:
            InputError: a line is damaged, or the file can't be read; the lines before it are kept.
        """
        try:
            with self.folder.metrics.open("rb") as file:
                self._read(file)
        except FileNotFoundError:
            if self._offset:  # else nothing was read, and nothing has changed
                self._forget()
        except OSError as error:
            raise InputError(f"can't read {self.folder.metrics}: {os_error_reason(error)}") from error

    def _read(self, file: BinaryIO) -> None:
        if not self._continues(file):
            self._forget()
        file.seek(self._offset)
        for line in file.read().split(b"\n")[:-1]:
            if line:
                self.lines.append(parse_metrics_line(line.decode(errors="replace"), self._numbers + 1, self.folder))
            self._numbers += 1
            self._offset += len(line) + 1
            self._end = (self._end + line + b"\n")[-CHECKED_BYTES:]

    def _continues(self, file: BinaryIO) -> bool:
        """Whether what was read is still the beginning of the file: a resumed run replaces it by a shorter one."""
        if file.seek(0, SEEK_END) < self._offset:
            return False
        file.seek(self._offset - len(self._end))
        return file.read(len(self._end)) == self._end
