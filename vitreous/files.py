"""Write files and folders atomically: beside their final path, flushed to disk, then renamed."""

import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vitreous.errors import InputError


@contextmanager
def atomic_write(path: Path | str) -> Generator[Path]:
    """Yield a temporary path in the folder of `path`; on success move it to `path`, on any error remove it.

    The temporary name keeps the suffix, because some writers choose a format by it. The move is atomic (POSIX rename):
    a reader sees the old file or the new one, never a part.

    Raises:
        InputError: the folder can't be created or written, or the block ended without writing the file.
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
        with suppress(OSError):  # on a disk that can't be written, the error that led here is the one to report
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Generator[Path]:
    """Yield a temporary folder beside `path`; on success it becomes `path`, on any error it is removed.

    Raises:
        InputError: the folder can't be written.
    """
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    make_folder(target.parent)
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            flush_to_disk(file)
        temporary.replace(target)
        flush_to_disk(target.parent)
    except OSError as error:
        raise InputError(f"can't write the folder {path}: {os_error_reason(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_new_folder(folder: Path) -> None:
    """Refuse a folder that holds something, before it is written.

    Raises:
        InputError: it exists and is not an empty folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already: name a new folder")


def make_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises:
        InputError: it can't be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't make the folder {folder}: {os_error_reason(error)}") from error


def write_text(path: Path | str, text: str) -> None:
    """Write text (UTF-8) to a file, which is then complete, or absent."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def flush_to_disk(path: Path) -> None:
    """Flush the file or folder at `path` to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def os_error_reason(error: OSError) -> str:
    """Return the system's message for an error in lower case: "no space left on device"."""
    return (error.strerror or str(error)).lower()


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        InputError: the file is missing, or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON ({error}): restore or delete it") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object: restore or delete it")
    return content
