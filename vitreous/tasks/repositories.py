"""Where a model's files lie: a folder on this machine, or a repository of the Hugging Face hub, fetched once."""

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from vitreous.errors import InputError
from vitreous.files import reason


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
class Folder:
    """A folder that holds what a hub's repository would."""

    path: Path

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    def find(self, name: str) -> Path | None:
        """The path of a file, or None where there is none of that name."""
        return self.path / name if (self.path / name).is_file() else None


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
        return f"{self.id}@{self.revision}" if self.revision else self.id

    def find(self, name: str) -> Path | None:
        """The path of a file in the cache, downloaded once, or None where the repository has none of that name.

        Raises:
            InputError: there is no such repository or revision, access is refused, there is no network and the cache
                doesn't have it, or the cache can't be written.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HTTPError

        if not self._online:
            return self._cached(name)
        try:
            path = hf_hub_download(
                self.id, name, repo_type=self.kind, revision=self.revision, tqdm_class=_progress_bar()
            )
        except EntryNotFoundError:
            return None
        except (HTTPError, OSError, ValueError) as error:
            raise self._refusal(error) from None
        return Path(path)

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


def _progress_bar() -> Any:
    """The hub client's own progress bar, which shows on a terminal only."""
    from huggingface_hub.utils import tqdm

    class TerminalBar(tqdm):
        """Hidden where standard error is no terminal."""

        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options | {"disable": not sys.stderr.isatty()})

    return TerminalBar
