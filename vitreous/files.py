"""Files that are either whole or absent: written beside their place, flushed to the disk, then renamed."""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitreous.errors import InputError


@contextmanager
def atomic_write(path: Path | str) -> Generator[Path]:
    """Yield a temporary path in the folder of `path`; on success move it to `path`, on any error remove it.

    The temporary name keeps the suffix, so that writers which choose a format by suffix work unchanged.
    The move is atomic (POSIX rename), so a reader sees the old file or the new one, never a part.

    Raises:
        InputError: the folder can't be made or written, or the block ended without writing the file.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    make_folder(target.parent)
    try:
        yield temporary
        if not temporary.exists():
            raise AssertionError(f"nothing was written for {target}")
        flush_to_disk(temporary)
        temporary.replace(target)
        flush_to_disk(target.parent)
    except OSError as error:
        if error.filename is None or str(temporary.name) in str(error.filename) or error.filename == str(target):
            raise InputError(f"can't write {target}: {os_error_reason(error)}") from error
        raise
    finally:
        with suppress(OSError):  # a disk that can't be written: what is told is the error that led here
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make `folder` and its parents, or say in one line why not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't make the folder {folder}: {os_error_reason(error)}") from error


def write_text(path: Path | str, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def flush_to_disk(path: Path) -> None:
    """Have the operating system put the file or folder at `path` on the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def os_error_reason(error: OSError) -> str:
    """The system's own words for an error, in lower case: "no space left on device"."""
    return (error.strerror or str(error)).lower()


def read_json(path: Path) -> dict:
    """The object in a JSON file.

    Raises:
        InputError: the file isn't there or isn't a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is not there: {path.parent} is no run of Vitreous") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no JSON ({error}): restore or delete it") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object: restore or delete it")
    return content
