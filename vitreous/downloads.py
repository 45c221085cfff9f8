"""Published data sets as local files: from VITREOUS_DATA, else from the cache, else downloaded once and checked.

A broken download is kept as a `.part` file and resumed with an HTTP range request (RFC 9110, section 14).
"""

import fcntl
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
from vitreous.files import flush_to_disk, make_folder, reason

ATTEMPTS = 4
BLOCK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30
RANGE_NOT_SATISFIABLE = 416


@dataclass(frozen=True)
class Archive:
    """A published file: where it is, and the MD5 (hex) and size in bytes that its publisher states."""

    url: str
    md5: str
    size_bytes: int

    @property
    def name(self) -> str:
        """The file's name, the last part of its address."""
        return self.url.rpartition("/")[2]


def cache_dir() -> Path:
    """Where downloads and decoded images are kept: VITREOUS_CACHE, or vitreous/ in the user's cache folder."""
    if own := os.environ.get("VITREOUS_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitreous"


def user_data_dir(dataset: str) -> Path | None:
    """The folder of `dataset` in the user's own VITREOUS_DATA, or None where that is not set or holds no such folder.

    Raises:
        InputError: VITREOUS_DATA names no folder.
    """
    root = os.environ.get("VITREOUS_DATA")
    if not root:
        return None
    if not Path(root).expanduser().is_dir():
        raise InputError(f"VITREOUS_DATA={root} is not a folder: correct or unset it")
    folder = Path(root).expanduser() / dataset
    return folder if folder.is_dir() else None


def fetch_cached(archive: Archive, dataset: str) -> Path:
    """The path of `archive`: the user's own file (packed, or unpacked from .gz), the cached one, or a new download.

    A file that the user put there is taken as it is; a download has the published checksum.
    """
    cached = cache_dir() / dataset
    for folder in filter(None, (user_data_dir(dataset), cached)):
        for name in (archive.name, archive.name.removesuffix(".gz")):
            if (folder / name).is_file():
                return folder / name
    return fetch(archive, cached)


def fetch(archive: Archive, folder: Path, wait: Callable[[float], object] = time.sleep) -> Path:
    """Download `archive` into `folder` unless it is there; `wait` is called with the seconds to pause before a retry.

    Raises:
        InputError: it can't be downloaded or written, or is not the published file.
    """
    make_folder(folder)
    target = folder / archive.name
    with locked(folder / f".{archive.name}.lock"):
        if not target.exists():
            part = folder / f"{archive.name}.part"
            download(archive, part, wait)
            check(archive, part)
            with writing(target):
                flush_to_disk(part)
                part.replace(target)
    return target


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Let one process at a time into the block: the workers of a run all want the same file."""
    with writing(path):
        file = path.open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn the system's refusal to write `path` into one line."""
    try:
        yield
    except OSError as error:
        raise InputError(f"can't write {path}: {reason(error)}") from error


def download(archive: Archive, part: Path, wait: Callable[[float], object]) -> None:
    """Bring `part` to the archive's full length, going on where it ended, in at most ATTEMPTS connections."""
    with progress_bar(archive) as show:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                receive(archive, part, show)
                return
            except (OSError, http.client.HTTPException) as error:
                if attempt == ATTEMPTS or is_final(error):
                    raise InputError(refusal(archive, part.parent, error)) from error
                if getattr(error, "code", None) == RANGE_NOT_SATISFIABLE:
                    part.unlink()
                wait(2.0 ** (attempt - 1))


def receive(archive: Archive, part: Path, show: Callable[[int], object]) -> None:
    """Make one connection and append to `part` what it brings; a server that knows no ranges is read from the start."""
    have = part.stat().st_size if part.exists() else 0
    if have >= archive.size_bytes:
        return
    headers = {"User-Agent": "vitreous"} | ({"Range": f"bytes={have}-"} if have else {})
    with open_address(urllib.request.Request(archive.url, headers=headers)) as response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        have = have if resumed else 0
        end = have + int(response.headers.get("Content-Length") or archive.size_bytes - have)
        with writing(part):
            file = part.open("ab" if resumed else "wb", buffering=0)
        with file:
            while have <= archive.size_bytes and (block := response.read(BLOCK_BYTES)):
                append(file, block, part)
                have += len(block)
                show(have)
    if have < end:
        raise ConnectionError(f"the connection closed after {have} of {end} bytes")


def open_address(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Open a connection; a refusing answer is raised with its own connection closed."""
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        raise


def append(file: RawIOBase, block: bytes, path: Path) -> None:
    """Write the whole block, or say in one line why not (an unbuffered file may take only a part at a time)."""
    rest = memoryview(block)
    with writing(path):
        while rest:
            rest = rest[file.write(rest) :]


def is_final(error: Exception) -> bool:
    """Whether trying again is useless: the server has refused for good, or there is no network to find it on."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code < 500 and error.code not in (408, RANGE_NOT_SATISFIABLE, 429)
    return isinstance(getattr(error, "reason", None), socket.gaierror)


def refusal(archive: Archive, folder: Path, error: Exception) -> str:
    """One line for a download that failed: why, and how to do without it."""
    cause = getattr(error, "reason", None) or error
    words = reason(cause) if isinstance(cause, OSError) else str(cause)
    code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
    return (
        f"can't download {archive.url}: {code}{words}; fetch it by other means and put it into {folder}, "
        f"or set VITREOUS_DATA=DIR and put it into DIR/{folder.name}"
    )


def check(archive: Archive, part: Path) -> None:
    """Remove a download that is not the published file, and say so."""
    with part.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != archive.md5:
        part.unlink()
        raise InputError(f"{archive.url} has MD5 {found}, not {archive.md5}: the download was removed; try again later")


@contextmanager
def progress_bar(archive: Archive) -> Generator[Callable[[int], object]]:
    """Yield a function that shows how many bytes have come, on a terminal's standard error and nowhere else."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(archive.name, total=archive.size_bytes)
        yield lambda received_bytes: progress.update(task, completed=received_bytes)
