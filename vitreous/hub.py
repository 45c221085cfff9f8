"""Where the files of a model or a data set lie: a folder, or a repository of the Hugging Face hub, fetched once."""

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from vitreous.downloads import cache_dir
from vitreous.errors import InputError
from vitreous.files import reason, write_text

AT_ONCE = 8  # files fetched at the same time
MOST_BARS = 16  # of more files than that no single one shows its progress


class Repository(Protocol):
    """Files by name."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def find(self, name: str) -> Path | None:
        """The path of a file, or None where the repository has none of that name."""
        ...


@dataclass(frozen=True)
class LocalRepository:
    """A folder that holds what a hub's repository would."""

    path: Path

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    def find(self, name: str) -> Path | None:
        """The path of a file, or None where there is none of that name."""
        return self.path / name if (self.path / name).is_file() else None

    def files(self) -> tuple["LocalRepository", tuple[str, ...]]:
        """This folder, and the names of the files in it and below it, without hidden ones, sorted."""
        paths = (path for path in self.path.rglob("*") if path.is_file())
        return self, seen(path.relative_to(self.path).as_posix() for path in paths)

    def find_all(self, names: Sequence[str]) -> list[Path]:
        """The paths of files that are there."""
        return [self.path / name for name in names]


@dataclass(frozen=True)
class HubRepository:
    """A repository on the Hugging Face hub. HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE count as usual."""

    id: str
    """Owner and name, "facebook/dinov2-small"."""
    revision: str | None = None
    """Branch, tag or commit; the main branch if None."""
    kind: Literal["model", "dataset"] = "model"

    @property
    def name(self) -> str:
        """What messages call it."""
        is_commit = self.revision is None or re.fullmatch("[0-9a-f]{40}", self.revision)
        return self.id if is_commit else f"{self.id}@{self.revision}"

    def find(self, name: str) -> Path | None:
        """The path of a file in the cache, downloaded once, or None where the repository has none of that name.

        Raises:
            InputError: there is no such repository or revision, access is refused, there is no network and the cache
                doesn't have it, or the cache can't be written.
        """
        return self._fetched(name, bar=True) if self._online else self._cached(name)

    def list_files(self) -> tuple["HubRepository", tuple[str, ...]]:
        """This repository at the commit where it stands now, and the names of its files, without hidden ones, sorted.

        Where the hub can't be reached they are those of the last time.

        Raises:
            InputError: there is no such repository or revision, access is refused, or there is no network and the
                names were never asked for before.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

        kept = cache_dir() / "hub" / f"{hashlib.sha256(repr(self).encode()).hexdigest()[:32]}.json"
        try:
            commit = HfApi().repo_info(self.id, repo_type=self.kind, revision=self.revision, timeout=10).sha
            names = seen(HfApi().list_repo_files(self.id, repo_type=self.kind, revision=commit))
        except (HTTPError, OfflineModeIsEnabled) as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
                raise self._refusal(error) from None
            commit, names = self._seen_before(kept)
        except (OSError, ValueError) as error:
            raise self._refusal(error) from None
        else:
            with suppress(InputError):  # a full disk: it is needed only where there will be no network
                write_text(kept, json.dumps([commit, names]))
        return replace(self, revision=commit), tuple(names)

    def find_all(self, names: Sequence[str]) -> list[Path]:
        """The paths of files in the cache, several downloaded at a time.

        Raises:
            InputError: as `find`, and where the repository lacks one of them.
        """
        online = self._online

        def path_of(name: str) -> Path:
            path = self._fetched(name, bar=len(names) <= MOST_BARS) if online else self._cached(name)
            if path is None:
                raise InputError(f"{self.name} lacks {name}, which it lists: try again")
            return path

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(path_of, names))

    def _fetched(self, name: str, *, bar: bool) -> Path | None:
        """A file's path in the cache, downloaded once, or None where there is none; with or without a progress bar."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HTTPError

        try:
            path = hf_hub_download(
                self.id, name, repo_type=self.kind, revision=self.revision, tqdm_class=_progress_bar(shown=bar)
            )
        except EntryNotFoundError:
            return None
        except (HTTPError, OSError, ValueError) as error:
            raise self._refusal(error) from None
        return Path(path)

    def _seen_before(self, kept: Path) -> tuple[str, list[str]]:
        """The commit and the names that `files` gave the last time."""
        try:
            commit, names = json.loads(kept.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError(
                f"can't reach the Hugging Face hub for {self.name}, and it was not downloaded before: "
                "connect, set HF_ENDPOINT to a mirror, or give a folder with its files"
            ) from None
        return commit, names

    @cached_property
    def _online(self) -> bool:
        """Whether the hub can be asked. Found with one request, as the client would try for 20 seconds in vain."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HTTPError, OfflineModeIsEnabled

        try:
            get_hf_file_metadata(hf_hub_url(self.id, "config.json", repo_type=self.kind, revision=self.revision))
        except EntryNotFoundError:
            return True
        except HfHubHTTPError as error:
            if error.response.status_code >= 500:
                return False
            raise self._refusal(error) from None
        except (HTTPError, OfflineModeIsEnabled):
            return False
        except (OSError, ValueError) as error:
            raise self._refusal(error) from None
        return True

    def _cached(self, name: str) -> Path | None:
        """The path of a file that was downloaded before, or None where it was then found not to exist."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.id, name, revision=self.revision, repo_type=self.kind)
        if found is None:
            raise InputError(
                f"can't reach the Hugging Face hub for {self.name}, and its {name} was not downloaded before: "
                "connect, set HF_ENDPOINT to a mirror, or give a folder with the files"
            )
        return Path(found) if isinstance(found, str) else None

    def _refusal(self, error: Exception) -> InputError:
        """One line for what the hub's client raises."""
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        if isinstance(error, GatedRepoError):
            said = "is gated: accept its terms on its page, then run 'hf auth login' or set HF_TOKEN"
        elif isinstance(error, RepositoryNotFoundError):
            said = "is not on the Hugging Face hub, or is private: check the name, or set HF_TOKEN"
        elif isinstance(error, RevisionNotFoundError):
            said = f"does not exist: {self.id} has no revision '{self.revision}'"
        elif isinstance(error, HFValidationError):
            said = "is no name of a repository: write OWNER/NAME"
        elif isinstance(error, HfHubHTTPError):
            said = f"was refused by the Hugging Face hub: {error.response.status_code} {error.response.reason_phrase}"
        elif isinstance(error, OSError):
            said = f"can't be downloaded: {error.filename or 'its files'}: {reason(error)}"
        else:
            said = f"can't be downloaded: {' '.join(str(error).split())}"
        return InputError(f"{self.name} {said}")


def seen(names: Iterable[str]) -> tuple[str, ...]:
    """The names that don't begin with a dot, nor does one of their folders, sorted."""
    return tuple(sorted(name for name in names if not any(part.startswith(".") for part in name.split("/"))))


def _progress_bar(*, shown: bool) -> Any:
    """The hub client's own progress bar, which shows on a terminal only."""
    from huggingface_hub.utils import tqdm

    class TerminalBar(tqdm):
        """Hidden where standard error is no terminal."""

        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options | {"disable": not (shown and sys.stderr.isatty())})

    return TerminalBar
