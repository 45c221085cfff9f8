"""Who works on which clip of a folder that several workers share: a file a claim, and nobody who coordinates.

A clip's claims are numbered. To take a clip over from a worker that has died is to make the claim of the next number,
which the file system grants to one worker only, and the latest claim is the one that counts. A claim says that its
owner lives by its time of change, and is read without trust in anybody's clock: what counts is that the time did not
change while it was watched.

Claims lie beside the records of what is done. So a network file system that has just granted a claim also looks up
afresh whether the clip has been done meanwhile (NFS keeps what it knows of a folder until the folder changes).
"""

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
from vitreous.files import reason

BEAT_SECONDS = 15.0
DEAD_SECONDS = 180.0
"""A claim that stands still for so long is a dead worker's. NFS may show times of change a minute late."""


class ClaimLostError(Exception):
    """Another worker has taken the clip over, because this one seemed dead."""


class Claim:
    """A clip that is this worker's, for the length of a `with` block, in which a thread keeps the claim alive.

    At the end of the block, `done` or not, a claim is gone: also after Ctrl-C. Only after any other error it stays, so
    that a clip on which worker after worker breaks down is counted.
    """

    def __init__(self, claims: "Claims", name: str, number: int, text: str) -> None:
        self.name, self.number, self.token = name, number, token_of(text)
        self._claims, self._text, self._path = claims, text, claims.path(name, number)
        self._ended, self._is_lost = threading.Event(), False
        self._pulse = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Claim":
        self._pulse.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._pulse.join()
        self._claims.discard(self.name, self.token)
        # A later claim rests on this one's number.
        if (error is None or not isinstance(error, Exception)) and self.is_mine():
            self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Go on only while the clip is this worker's.

        Raises:
            ClaimLostError: it isn't.
        """
        if self._is_lost:
            raise ClaimLostError(self.name)

    def is_mine(self) -> bool:
        """Whether nobody has taken the clip over, asked of the file system."""
        return read(self._path) == self._text and not self._claims.path(self.name, self.number + 1).exists()

    def done(self) -> None:
        """Remove this claim and those of the dead before it: the clip is recorded as done."""
        self._claims.discard(self.name, self.token)
        for number in range(self.number, 0, -1):
            self._claims.path(self.name, number).unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                os.utime(self._path)
                self._is_lost = not self.is_mine()
            except FileNotFoundError:
                self._is_lost = True
            except OSError:  # the server is away; if for too long, another worker will have the clip
                continue
            if self._is_lost:
                return


class Claims:
    """One worker's view of the claims in a folder.

    `places` are the folders that files of clips are written to. Each worker writes into a folder of its own in each of
    them, `staging`, and moves what is whole to its place from there.
    """

    def __init__(self, folder: Path, places: Iterable[Path], on_note: Callable[[str], object]) -> None:
        self.folder, self.places = folder, set(places)
        self._watched: dict[Path, tuple[object, float]] = {}
        self._on_note: Callable[[str], object] | None = on_note

    def path(self, name: str, number: int) -> Path:
        """The file of a claim."""
        return self.folder / f".{name}.{number}.claim"

    def staging(self, place: Path, name: str, token: str) -> Path:
        """The folder into which the owner of a claim writes what will lie in `place`."""
        return place / f".{name}.{token}.part"

    def take(self, name: str, mark: str) -> Claim | None:
        """Claim a clip; None where another worker has it, or was quicker. `mark` stands for what is to be done to it.

        Raises:
            InputError: the folder can't be written.
        """
        number = 0
        while self.path(name, number + 1).exists():
            number += 1
        if number and not self._is_dead(self.path(name, number), mark):
            return None
        text = json.dumps({"token": secrets.token_hex(4), "request": mark, **this_process()})
        try:
            with self.path(name, number + 1).open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            return None
        except OSError as error:
            raise InputError(f"can't write into {self.folder}: {reason(error)}; choose another place") from error
        for earlier in range(1, number + 1):
            self.discard(name, token_of(read(self.path(name, earlier))))
        return Claim(self, name, number + 1, text)

    def discard(self, name: str, token: str) -> None:
        """Remove what the owner of a claim has written and not moved to its place."""
        for place in self.places if token else ():
            shutil.rmtree(self.staging(place, name, token), ignore_errors=True)

    def clear(self, names: Iterable[str]) -> None:
        """Remove every claim on clips that are done: of workers that died between their last two steps."""
        done = set(names)
        for path in list(self.folder.iterdir()):
            found = re.fullmatch(r"\.(.+)\.\d+\.claim", path.name)
            if found and found[1] in done:
                self.discard(found[1], token_of(read(path)))
                path.unlink(missing_ok=True)

    def _is_dead(self, path: Path, mark: str) -> bool:
        """Whether the owner of a claim has died, as far as can be told by now."""
        text = read(path)
        try:
            state = (text, path.stat().st_mtime_ns)
        except OSError:  # it has just ended
            return False
        if has_ended(values(text)):
            return True
        now = time.monotonic()
        seen, since = self._watched.get(path, (None, now))
        if seen != state:
            self._watched[path] = (state, now)
            self._compare(values(text), mark)
            return False
        return now - since > DEAD_SECONDS

    def _compare(self, theirs: dict[str, object], mark: str) -> None:
        """Say once that another worker has another command, where it does."""
        if self._on_note and theirs and theirs.get("request") != mark:
            self._on_note(
                f"process {theirs.get('process')} on {theirs.get('host')} has another model, request or version of the "
                "clips, so each of you does all of them: start every worker by the same command"
            )
            self._on_note = None


def read(path: Path) -> str:
    """The text of a claim; "" where there is none any more, or none yet."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def values(text: str) -> dict[str, object]:
    """What a claim says; nothing where its owner has not come to write it."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def token_of(text: str) -> str:
    """What tells this claim from all others."""
    return str(values(text).get("token", ""))


def this_process() -> dict[str, object]:
    """What says who this process is, to people and to other processes of this machine."""
    number = os.getpid()
    return {"host": socket.gethostname(), "process": number, "started": started(number), "machine": machine()}


def has_ended(owner: dict[str, object]) -> bool:
    """Whether a claim's owner was a process of this machine and is gone; of other machines nobody can tell."""
    number = owner.get("process")
    if not machine() or owner.get("machine") != machine() or not isinstance(number, int):
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return started(number) != owner.get("started")


def machine() -> str:
    """This machine since its start, and the container on it whose processes can be seen; "" where that isn't told."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def started(number: int) -> str:
    """When a process of this machine started, in ticks since the machine did (proc(5)); "" where it has ended."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
