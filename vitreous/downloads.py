"""Find the files of published datasets: in VITREOUS_DATA, else in the cache, else download and verify them once.

An interrupted download is kept as a `.part` file and resumed with an HTTP range request (RFC 9110, section 14).
"""

import hashlib
import http.client
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from vitreous.errors import InputError
from vitreous.files import can_lock_files, flush_to_disk, make_folder, os_error_reason

ATTEMPTS = 4
BLOCK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30
RANGE_NOT_SATISFIABLE = 416


@dataclass(frozen=True)
class Archive:
    """A published file: its URL, and the MD5 (hex) and size in bytes that its publisher states."""

    url: str
    md5: str
    size_bytes: int

    @property
    def name(self) -> str:
        """The file's name, the last part of its URL."""
        return self.url.rpartition("/")[2]


def cache_dir() -> Path:
    """Return the folder for downloads and decoded images: VITREOUS_CACHE, or vitreous/ in the user's cache folder."""
    if own := os.environ.get("VITREOUS_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitreous"


def user_data_dir(dataset: str) -> Path | None:
    """Return the folder of `dataset` in the user's VITREOUS_DATA, or None if it is not set or has no such folder.

    Raises:
        InputError: VITREOUS_DATA is not a folder.
    """
    root = os.environ.get("VITREOUS_DATA")
    if not root:
        return None
    if not Path(root).expanduser().is_dir():
        raise InputError(f"VITREOUS_DATA={root} is not a folder: correct or unset it")
    folder = Path(root).expanduser() / dataset
    return folder if folder.is_dir() else None


def fetch_cached(archive: Archive, dataset: str) -> Path:
    """Return the path of `archive`: the user's own file (also decompressed from .gz), the cached one, or a download.

    The user's own file is not verified. A download is, against the published checksum.

    Raises:
        InputError: as `fetch`.
    """
    cached = cache_dir() / dataset
    for folder in filter(None, (user_data_dir(dataset), cached)):
        for name in (archive.name, archive.name.removesuffix(".gz")):
            if (folder / name).is_file():
                return folder / name
    return fetch(archive, cached)


def fetch(archive: Archive, folder: Path, wait: Callable[[float], object] = time.sleep) -> Path:
    """Download `archive` into `folder` unless it is there, and return its path.

    Args:
        archive: the file.
        folder: made if it doesn't exist.
        wait: called with the seconds to pause before a retry.

    Raises:
        InputError: it can't be downloaded or written, or is not the published file.
    """
    make_folder(folder)
    target = folder / archive.name
    with file_lock(folder / f".{archive.name}.lock"):
        if not target.exists():
            part = folder / f"{archive.name}.part"
            _download(archive, part, wait)
            _verify_checksum(archive, part)
            with _write_errors_as_input_errors(target):
                flush_to_disk(part)
                part.replace(target)
    return target


@contextmanager
def file_lock(path: Path) -> Generator[None]:
    """Let one process or thread at a time into the block: the workers of a run all want the same file.

    Where the file system has no locks, all are let in.

    Raises:
        InputError: the lock file can't be written.
    """
    from filelock import FileLock

    if not can_lock_files(path.parent):
        yield
        return
    lock = FileLock(path, thread_local=False)
    with _write_errors_as_input_errors(path):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _write_errors_as_input_errors(path: Path) -> Generator[None]:
    """Turn an operating system error on writing `path` into one line."""
    try:
        yield
    except OSError as error:
        raise InputError(f"can't write {path}: {os_error_reason(error)}") from error


def _download(archive: Archive, part: Path, wait: Callable[[float], object]) -> None:
    """Extend `part` to the archive's full length, from where it ended, in at most ATTEMPTS connections."""
    with _progress_bar(archive) as show:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _receive(archive, part, show)
                return
            except (OSError, http.client.HTTPException) as error:
                if attempt == ATTEMPTS or _is_permanent(error):
                    raise _failed(archive, part.parent, error) from error
                if getattr(error, "code", None) == RANGE_NOT_SATISFIABLE:
                    part.unlink()
                wait(2.0 ** (attempt - 1))


def _receive(archive: Archive, part: Path, show: Callable[[int], object]) -> None:
    """Open one connection and append its content to `part`; a server without ranges is read from the start."""
    have = part.stat().st_size if part.exists() else 0
    if have >= archive.size_bytes:
        return
    headers = {"User-Agent": "vitreous"} | ({"Range": f"bytes={have}-"} if have else {})
    with _open_url(urllib.request.Request(archive.url, headers=headers)) as response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        have = have if resumed else 0
        end = have + int(response.headers.get("Content-Length") or archive.size_bytes - have)
        with _write_errors_as_input_errors(part):
            file = part.open("ab" if resumed else "wb", buffering=0)
        with file:
            while have <= archive.size_bytes and (block := response.read(BLOCK_BYTES)):
                _append(file, block, part)
                have += len(block)
                show(have)
    if have < end:
        raise ConnectionError(f"the connection closed after {have} of {end} bytes")


def _open_url(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Open a connection, and close it if the server refuses."""
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        raise


def _append(file: RawIOBase, block: bytes, path: Path) -> None:
    """Write the whole block; an unbuffered file may take only a part at a time."""
    rest = memoryview(block)
    with _write_errors_as_input_errors(path):
        while rest:
            rest = rest[file.write(rest) :]


def _is_permanent(error: Exception) -> bool:
    """Whether a retry is useless: the server has refused for good, or its name can't be resolved."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code < 500 and error.code not in (408, RANGE_NOT_SATISFIABLE, 429)
    return isinstance(getattr(error, "reason", None), socket.gaierror)


def _failed(archive: Archive, folder: Path, error: Exception) -> InputError:
    """Say in one line why a download failed, and how to do without it."""
    cause = getattr(error, "reason", None) or error
    detail = os_error_reason(cause) if isinstance(cause, OSError) else str(cause)
    code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
    return InputError(
        f"can't download {archive.url}: {code}{detail}; fetch it by other means and put it into {folder}, "
        f"or set VITREOUS_DATA=DIR and put it into DIR/{folder.name}"
    )


def _verify_checksum(archive: Archive, part: Path) -> None:
    """Remove a download that is not the published file, and raise InputError."""
    with part.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != archive.md5:
        part.unlink()
        raise InputError(f"{archive.url} has MD5 {found}, not {archive.md5}: the download was removed; try again later")


@contextmanager
def _progress_bar(archive: Archive) -> Generator[Callable[[int], object]]:
    """Yield a function that shows the number of bytes received, if standard error is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(archive.name, total=archive.size_bytes)
        yield lambda received_bytes: progress.update(task, completed=received_bytes)
