"""Find the files of a model or a dataset, in a folder or in a repository of the Hugging Face hub."""

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
from typing import TYPE_CHECKING, Literal, Protocol

from vitreous.downloads import cache_dir
from vitreous.errors import InputError
from vitreous.files import os_error_reason, write_text

if TYPE_CHECKING:
    from huggingface_hub.utils import tqdm

PARALLEL_DOWNLOADS = 8
MAX_PROGRESS_BARS = 16
"""With more files than this, none shows a progress bar."""


class Repository(Protocol):
    """Files by name."""

    @property
    def name(self) -> str:
        """The name that messages use."""
        ...

    def find(self, name: str, *, is_optional: bool = False) -> Path | None:
        """Return the path of a file, or None if the repository has no such file."""
        ...


@dataclass(frozen=True)
class LocalRepository:
    """A folder that is laid out like a repository of the hub."""

    path: Path

    @property
    def name(self) -> str:
        """The name that messages use."""
        return str(self.path)

    def find(self, name: str, *, is_optional: bool = False) -> Path | None:
        """Return the path of a file, or None if the folder has no such file."""
        return self.path / name if (self.path / name).is_file() else None

    def list_files(self) -> tuple["LocalRepository", tuple[str, ...]]:
        """Return this folder, and the sorted names of the files in it and below it, without hidden ones."""
        paths = (path for path in self.path.rglob("*") if path.is_file())
        return self, _without_hidden(path.relative_to(self.path).as_posix() for path in paths)

    def find_all(self, names: Sequence[str]) -> list[Path]:
        """Return the paths of files that exist."""
        return [self.path / name for name in names]


@dataclass(frozen=True)
class HubRepository:
    """A repository on the Hugging Face hub. HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE have their usual effect.

    Attributes:
        id: owner and name, "facebook/dinov2-small".
        revision: a branch, tag or commit; the main branch if None.
        repo_type: "model" or "dataset".
    """

    id: str
    revision: str | None = None
    repo_type: Literal["model", "dataset"] = "model"

    @property
    def name(self) -> str:
        """The name that messages use."""
        is_commit = self.revision is None or re.fullmatch("[0-9a-f]{40}", self.revision)
        return self.id if is_commit else f"{self.id}@{self.revision}"

    def find(self, name: str, *, is_optional: bool = False) -> Path | None:
        """Return the path of a file in the cache, downloaded once, or None if the repository has no such file.

        Without a network, an optional file that is not in the cache counts as one that the repository lacks: other
        libraries download only the files that they need.

        Raises:
            InputError: there is no such repository or revision, access is refused, there is no network and the file
                is not cached, or the cache can't be written.
        """
        if self._online:
            return self._download(name, bar=True)
        return cached_file(self.id, name, self.revision, self.repo_type) if is_optional else self._cached(name)

    def list_files(self) -> tuple["HubRepository", tuple[str, ...]]:
        """Return this repository at its current commit, and the sorted names of its files, without hidden ones.

        Without a network, both are those of the last time.

        Raises:
            InputError: there is no such repository or revision, access is refused, or there is no network and the
                files were never listed before.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

        try:
            commit = HfApi().repo_info(self.id, repo_type=self.repo_type, revision=self.revision, timeout=10).sha
            names = _without_hidden(HfApi().list_repo_files(self.id, repo_type=self.repo_type, revision=commit))
        except (HTTPError, OfflineModeIsEnabled) as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
                raise self._as_input_error(error) from None
            commit, names = self._cached_listing()
        except (OSError, ValueError) as error:
            raise self._as_input_error(error) from None
        else:
            with suppress(InputError):  # on a full disk: the listing is needed only where there is no network
                write_text(self._listing_path, json.dumps([commit, names]))
        return replace(self, revision=commit), tuple(names)

    def find_all(self, names: Sequence[str]) -> list[Path]:
        """Return the paths of files in the cache; several are downloaded at a time.

        Raises:
            InputError: as `find`, and if the repository lacks one of them.
        """
        online = self._online

        def path_of(name: str) -> Path:
            path = self._download(name, bar=len(names) <= MAX_PROGRESS_BARS) if online else self._cached(name)
            if path is None:
                raise InputError(f"{self.name} lacks {name}, which it lists: try again")
            return path

        with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
            return list(pool.map(path_of, names))

    def _download(self, name: str, *, bar: bool) -> Path | None:
        """Return a file's path in the cache, downloaded once, or None if there is no such file."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HTTPError

        try:
            path = hf_hub_download(
                self.id, name, repo_type=self.repo_type, revision=self.revision, tqdm_class=_progress_bar(shown=bar)
            )
        except EntryNotFoundError:
            return None
        except (HTTPError, OSError, ValueError) as error:
            raise self._as_input_error(error) from None
        return Path(path)

    @property
    def _listing_path(self) -> Path:
        """The file that keeps the last listing. Its name is the one that version 0.1 gave it."""
        key = f"HubRepository(id={self.id!r}, revision={self.revision!r}, kind={self.repo_type!r})"
        return cache_dir() / "hub" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    def _cached_listing(self) -> tuple[str, list[str]]:
        """Return the commit and the names that `list_files` found the last time."""
        try:
            commit, names = json.loads(self._listing_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError(
                f"can't reach the Hugging Face hub for {self.name}, and it was not downloaded before: "
                "connect, set HF_ENDPOINT to a mirror, or give a folder with its files"
            ) from None
        return commit, names

    @cached_property
    def _online(self) -> bool:
        """Whether the hub can be reached, found with one request: the client itself would retry for 20 seconds."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HTTPError, OfflineModeIsEnabled

        try:
            get_hf_file_metadata(hf_hub_url(self.id, "config.json", repo_type=self.repo_type, revision=self.revision))
        except EntryNotFoundError:
            return True
        except HfHubHTTPError as error:
            if error.response.status_code >= 500:
                return False
            raise self._as_input_error(error) from None
        except (HTTPError, OfflineModeIsEnabled):
            return False
        except (OSError, ValueError) as error:
            raise self._as_input_error(error) from None
        return True

    def _cached(self, name: str) -> Path | None:
        """Return the path of a file that was downloaded before, or None if the repository was found to lack it."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.id, name, revision=self.revision, repo_type=self.repo_type)
        if found is None:
            raise InputError(
                f"can't reach the Hugging Face hub for {self.name}, and its {name} was not downloaded before: "
                "connect, set HF_ENDPOINT to a mirror, or give a folder with the files"
            )
        return Path(found) if isinstance(found, str) else None

    def _as_input_error(self, error: Exception) -> InputError:
        """Say in one line what an exception of the hub's client means."""
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        if isinstance(error, GatedRepoError):
            problem = "is gated: accept its terms on its page, then run 'hf auth login' or set HF_TOKEN"
        elif isinstance(error, RepositoryNotFoundError):
            problem = "is not on the Hugging Face hub, or is private: check the name, or set HF_TOKEN"
        elif isinstance(error, RevisionNotFoundError):
            problem = f"does not exist: {self.id} has no revision '{self.revision}'"
        elif isinstance(error, HFValidationError):
            problem = "is not a valid repository name: write OWNER/NAME"
        elif isinstance(error, HfHubHTTPError):
            response = error.response
            problem = f"was refused by the Hugging Face hub: {response.status_code} {response.reason_phrase}"
        elif isinstance(error, OSError):
            problem = f"can't be downloaded: {error.filename or 'its files'}: {os_error_reason(error)}"
        else:
            problem = f"can't be downloaded: {' '.join(str(error).split())}"
        return InputError(f"{self.name} {problem}")


def cached_file(
    repository: str, name: str, revision: str | None = None, repo_type: Literal["model", "dataset"] = "model"
) -> Path | None:
    """Return the path of a repository's file in the hub's cache, or None if it isn't there; never downloads."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repository, name, revision=revision, repo_type=repo_type)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _without_hidden(names: Iterable[str]) -> tuple[str, ...]:
    """Return the sorted names of files that neither begin with a dot nor are in a folder that does."""
    return tuple(sorted(name for name in names if not any(part.startswith(".") for part in name.split("/"))))


def _progress_bar(*, shown: bool) -> "type[tqdm]":
    """Return the hub client's own progress bar, shown on a terminal only."""
    from huggingface_hub.utils import tqdm

    class TerminalBar(tqdm):
        """Hidden if standard error is not a terminal."""

        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options | {"disable": not (shown and sys.stderr.isatty())})

    return TerminalBar
