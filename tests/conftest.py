"""What the tests share: where the real data lies, and a fixed seed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitreous.callbacks import Callback

SHARED = Path(os.environ.get("VITREOUS_SHARED", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real test data; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"real test data not found at {SHARED} (set VITREOUS_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def shared_if_present() -> Path | None:
    """The folder of real test data, or None, for tests that use it only in addition."""
    return SHARED if SHARED.is_dir() else None


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory) -> Iterator[None]:
    """Decoded images go into a cache of the tests' own, not into the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITREOUS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def colored_folder(tmp_path_factory) -> Path:
    """Images of three classes told apart by color: enough for a model that trains in a second."""
    from tiny_run import make_folder

    return make_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def trained_run(colored_folder, tmp_path_factory) -> Path:
    """The run folder of a small model trained on `colored_folder`."""
    from tiny_run import tiny_recipe

    from vitreous.workflows.train import train

    path = tmp_path_factory.mktemp("runs") / "run"
    train(tiny_recipe(colored_folder, epochs=20), path)
    return path


class NoteRecorder(Callback):
    """Records the notes of a use case."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def notes() -> NoteRecorder:
    """A callback that records notes in `lines`."""
    return NoteRecorder()
