"""Write files and folders atomically: beside their final path, flushed to disk, then renamed."""

import errno
import glob
import json
import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from vitreous.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MAX_NAME_BYTES = 255
"""Longest name of a file on the usual file systems."""
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES)
"""Errors on file systems, such as some network drives, where a folder can't be flushed; SQLite ignores them too."""
NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)
"""Errors on file systems without locks."""
_NEVER_MADE: ContextVar[Path | None] = ContextVar("never_made", default=None)


def can_lock_files(folder: Path) -> bool:
    """Return whether the file system of `folder` has locks that end with their process; some network drives have none.

    Where it has none, versions of filelock wait forever, raise an error, or leave a marker that survives a kill.
    """
    if fcntl is None:
        return True  # on Windows every file system has them
    try:
        with TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in NO_LOCKS  # other errors are those of the lock itself
    return True


def is_locked(path: Path) -> bool | None:
    """Return whether a process holds the lock of a lock file; None if that can't be found out.

    The file is only read. For an instant it is locked for readers, so whoever locks it should try for a moment.
    """
    if fcntl is None:
        return None
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


@contextmanager
def atomic_write(path: Path | str) -> Generator[Path]:
    """Yield a temporary path in the folder of `path`; on success move it to `path`, on any error remove it.

    The temporary name keeps the suffix, because some writers choose a format by it. The move is atomic (POSIX rename):
    a reader sees the old file or the new one, never a part.

    Raises:
        InputError: the folder can't be created or written, or the block ended without writing the file.
    """
    target = Path(path)
    temporary = _temporary_path(target, target.suffix)
    make_folder(target.parent)
    try:
        yield temporary
        if not temporary.exists():
            raise AssertionError(f"nothing was written for {target}")
        flush_to_disk(temporary)
        temporary.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        own = (None, str(target), str(target.parent))  # the parent may go before its names are flushed
        if error.filename in own or temporary.name in str(error.filename):
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
    temporary = _temporary_path(target, "")
    make_folder(target.parent)
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            flush_to_disk(file)
        temporary.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        raise InputError(f"can't write the folder {path}: {os_error_reason(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_writable(path: Path | str) -> None:
    """Check before long work that a file can be written; nothing is left behind.

    Raises:
        InputError: it is a folder, it is below a file, or its folder can't be written.
    """
    target = Path(path)
    try:
        if target.is_dir():
            raise InputError(f"can't write {target}: it is a folder; add a file name")
    except OSError as error:  # a name that is too long
        raise InputError(f"can't write {target}: {os_error_reason(error)}") from error
    check_folder_writable(target.parent)


def check_folder_writable(folder: Path) -> None:
    """Check before long work that a folder can be created and written to, by trying it; nothing is left behind.

    Raises:
        InputError: it can't.
    """
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    existing = folder.parents[len(missing) - 1] if missing else folder
    if not existing.is_dir():
        raise InputError(f"can't write into {folder}: {existing} is a file; choose another folder")
    try:
        make_folder(folder)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"can't write into {folder}: {os_error_reason(error)}; choose another folder") from error
    finally:
        for parent in missing:
            with suppress(OSError):  # it was not created, or is in use by now
                parent.rmdir()


def require_new_folder(folder: Path) -> None:
    """Refuse a folder that holds something or can't be written, before it is written.

    Raises:
        InputError: it exists and is not an empty folder, or no folder can be created there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already: name a new folder")
    check_folder_writable(folder.absolute().parent)


def _temporary_path(target: Path, suffix: str) -> Path:
    """Return a hidden path beside `target` that no other process, container or thread uses, whatever its number."""
    ending = f".{secrets.token_hex(4)}.part{suffix}"
    stem = os.fsencode(target.name.removesuffix(suffix))[: MAX_NAME_BYTES - 1 - len(os.fsencode(ending))]
    return target.with_name(f".{stem.decode(errors='ignore')}{ending}")


def remove_partial(path: Path) -> None:
    """Remove what killed processes left of their writes to the file `path`, which no living process may be writing."""
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*.part{glob.escape(path.suffix)}"):
        if left.is_file():
            left.unlink(missing_ok=True)


@contextmanager
def only_below(folder: Path) -> Generator[None]:
    """Let this thread create folders below `folder` in the block, but neither `folder` itself nor its parents.

    Whoever writes into a folder that was moved or deleted meanwhile gets an error, instead of a new folder.
    """
    token = _NEVER_MADE.set(folder)
    try:
        yield
    finally:
        _NEVER_MADE.reset(token)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises:
        InputError: it can't be created.
    """
    root = _NEVER_MADE.get()
    try:
        if root is None or not folder.is_relative_to(root):
            folder.mkdir(parents=True, exist_ok=True)
            return
        for part in reversed([folder, *folder.parents][: len(folder.relative_to(root).parts)]):
            part.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"can't make the folder {folder}: {_broken_link(folder) or os_error_reason(error)}") from error


def _broken_link(path: Path) -> str:
    """Return which part of a path is a link to nothing, whose error says no more than that it exists."""
    for part in (path, *path.parents):
        if os.path.islink(part) and not os.path.exists(part):  # noqa: PTH110, PTH114 - for any name, unlike pathlib's
            return f"{part} is a link to {part.readlink()}, which doesn't exist"
    return ""


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


def _flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the file system can."""
    try:
        flush_to_disk(folder)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def os_error_reason(error: OSError) -> str:
    """Return the system's message for an error in lower case: "no space left on device"."""
    return (error.strerror or str(error)).lower()


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in content if keys.count(key) > 1)}' occurs twice")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        InputError: the file is missing, or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeated_keys)
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError too
        raise InputError(f"{path} is not JSON ({error}): restore or delete it") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object: restore or delete it")
    return content
