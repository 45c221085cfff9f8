"""Leases on the clips of a folder that several workers share: one file per lease, and no coordinator.

The leases on a clip are numbered. A worker takes a clip over from a dead worker by creating the lease with the next
number. The file system grants that to one worker only, and the lease with the highest number counts. The owner of a
lease shows that it is alive by touching the file. Other workers read this without trusting any clock: they only check
whether the modification time changed while they watched.

The leases are in the same folder as the records of finished clips. A network file system that has just granted a lease
therefore also looks up again whether the clip was finished meanwhile (NFS caches a folder until the folder changes).
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from vitreous.errors import InputError
from vitreous.files import os_error_reason

HEARTBEAT_SECONDS = 15.0
EXPIRY_SECONDS = 180.0
"""A lease without a heartbeat for this long has a dead owner. NFS may show modification times a minute late."""

MAX_NAME_BYTES = 200
"""Longest name of a clip that its leases and staging folders keep; file systems allow 255 bytes for theirs."""


class LeaseLostError(Exception):
    """Another worker has taken the clip over because this worker seemed dead."""


class Lease:
    """The right to work on one clip, held for a `with` block; a thread sends heartbeats meanwhile.

    The lease is removed at the end of the block, after `complete` or without it, and also after Ctrl-C. It stays after
    any other error, so that the crashes that a clip causes are counted.
    """

    def __init__(self, store: "LeaseStore", name: str, number: int, text: str) -> None:
        self.name, self.number, self.token = name, number, lease_token(text)
        self._store, self._text, self._path = store, text, store.path(name, number)
        self._ended, self._is_lost = threading.Event(), False
        self._heart = threading.Thread(target=self._send_heartbeats, daemon=True)

    def __enter__(self) -> "Lease":
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._heart.join()
        self._store.remove_staging(self.name, self.token)
        # A later lease is counted from this one's number.
        if (error is None or not isinstance(error, Exception)) and self.is_held():
            self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Return if this worker still holds the lease, as far as the last heartbeat knows.

        Raises:
            LeaseLostError: it does not.
        """
        if self._is_lost:
            raise LeaseLostError(self.name)

    def is_held(self) -> bool:
        """Ask the file system whether this worker still holds the lease."""
        return read_lease(self._path) == self._text and not self._store.path(self.name, self.number + 1).exists()

    def complete(self) -> None:
        """Remove this lease and those of the dead workers before it; call it once the clip is recorded."""
        self._store.remove_staging(self.name, self.token)
        for number in range(self.number, 0, -1):
            self._store.path(self.name, number).unlink(missing_ok=True)

    def _send_heartbeats(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self._path)
                self._is_lost = not self.is_held()
            except FileNotFoundError:
                self._is_lost = True
            except OSError:  # The server is away. If it stays away too long, another worker takes the clip.
                continue
            if self._is_lost:
                return


class LeaseStore:
    """One worker's view of the leases in a folder.

    `output_folders` are the folders that receive files of the clips. In each of them a worker writes into a staging
    folder of its own, and moves whole files to their final path from there.
    """

    def __init__(self, folder: Path, output_folders: Iterable[Path], on_note: Callable[[str], object]) -> None:
        self.folder, self.output_folders = folder, set(output_folders)
        self._watched: dict[Path, tuple[object, float]] = {}
        self._on_note: Callable[[str], object] | None = on_note

    def path(self, name: str, number: int) -> Path:
        """Return the path of a lease."""
        return self.folder / f".{shorten(name)}.{number}.lease"

    def staging_folder(self, output_folder: Path, name: str, token: str) -> Path:
        """Return the folder into which the owner of a lease writes the files meant for `output_folder`."""
        return output_folder / f".{shorten(name)}.{token}.part"

    def acquire(self, name: str, fingerprint: str) -> Lease | None:
        """Acquire the lease on a clip, or return None if another worker holds it or was faster.

        `fingerprint` identifies the model and request, so that workers with different commands notice each other.

        Raises:
            InputError: the folder can't be written.
        """
        number = 0
        while self.path(name, number + 1).exists():
            number += 1
        if number and not self._is_expired(self.path(name, number), fingerprint):
            return None
        text = json.dumps({"token": secrets.token_hex(4), "fingerprint": fingerprint, **current_process()})
        try:
            with self.path(name, number + 1).open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            return None
        except OSError as error:
            raise InputError(
                f"can't write into {self.folder}: {os_error_reason(error)}; choose another folder"
            ) from error
        for earlier in range(1, number + 1):
            self.remove_staging(name, lease_token(read_lease(self.path(name, earlier))))
        return Lease(self, name, number + 1, text)

    def remove_staging(self, name: str, token: str) -> None:
        """Remove what the owner of a lease has written and not moved to its final path."""
        for folder in self.output_folders if token else ():
            shutil.rmtree(self.staging_folder(folder, name, token), ignore_errors=True)

    def remove_finished(self, names: Iterable[str]) -> None:
        """Remove all leases on finished clips; workers that died between their last two steps leave some."""
        finished = set(map(shorten, names))
        for path in list(self.folder.iterdir()):
            found = re.fullmatch(r"\.(.+)\.\d+\.(lease|claim)", path.name)  # Version 0.1.0 called them claims.
            if found and found[1] in finished:
                self.remove_staging(found[1], lease_token(read_lease(path)))
                path.unlink(missing_ok=True)

    def _is_expired(self, path: Path, fingerprint: str) -> bool:
        """Return whether the owner of a lease is dead, as far as this worker can know by now."""
        text = read_lease(path)
        try:
            state = (text, path.stat().st_mtime_ns)
        except OSError:  # The lease has just ended.
            return False
        if owner_is_dead(parse_lease(text)):
            return True
        now = time.monotonic()
        last_state, since = self._watched.get(path, (None, now))
        if last_state != state:
            self._watched[path] = (state, now)
            self._compare(parse_lease(text), fingerprint)
            return False
        return now - since > EXPIRY_SECONDS

    def _compare(self, lease: dict[str, object], fingerprint: str) -> None:
        """Note once that another worker runs another command, if one does."""
        if self._on_note and lease and lease.get("fingerprint") != fingerprint:
            self._on_note(
                f"process {lease.get('process')} on {lease.get('host')} has another model, request or version of the "
                "clips, so each worker processes every video: start every worker with the same command"
            )
            self._on_note = None


def shorten(name: str) -> str:
    """Return the name of a clip, or if it leaves no room for the names of its leases, its beginning and a hash.

    >>> shorten("dog"), len(shorten("x" * 250))
    ('dog', 177)
    """
    encoded = os.fsencode(name)
    if len(encoded) <= MAX_NAME_BYTES:
        return name
    start = encoded[: MAX_NAME_BYTES - 40].decode(errors="ignore")
    return f"{start}-{hashlib.blake2b(encoded, digest_size=8).hexdigest()}"


def read_lease(path: Path) -> str:
    """Return the text of a lease; "" if it no longer exists, or is not written yet."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def parse_lease(text: str) -> dict[str, object]:
    """Return the values in a lease's text; none if its owner has not written them yet."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def lease_token(text: str) -> str:
    """Return the random token that identifies a lease, from its text."""
    return str(parse_lease(text).get("token", ""))


def current_process() -> dict[str, object]:
    """Return what identifies this process, for people and for other processes of this machine."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "process": pid, "started": start_time(pid), "machine": machine_id()}


def owner_is_dead(lease: dict[str, object]) -> bool:
    """Return whether a lease's owner was a process of this machine and is gone; of other machines nobody knows."""
    pid = lease.get("process")
    if not machine_id() or lease.get("machine") != machine_id() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # The process belongs to another user.
        return False
    return start_time(pid) != lease.get("started")


def machine_id() -> str:
    """Return an id of this boot of the machine and of the container's process namespace; "" where unknown."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def start_time(pid: int) -> str:
    """Return when a process of this machine started, in ticks since boot (proc(5)); "" if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
