"""What the tests share: where the real data lies, and a fixed seed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitreous.callbacks import Callback

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported; the processes that tests start inherit it
    os.environ.setdefault("OMP_NUM_THREADS", "1")
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
    train(tiny_recipe(colored_folder, epochs=20, report=True), path)
    return path


@pytest.fixture(scope="module")
def small_classifier():
    """An untrained classifier of three classes for images of 24 x 32 pixels, in 3 x 4 patches."""
    import torch

    from vitreous.imaging.preprocessing import Preprocessing
    from vitreous.model.classifier import ImageClassifier
    from vitreous.model.config import ViTConfig
    from vitreous.model.vit import ViT

    torch.manual_seed(0)
    vit = ViT(ViTConfig((24, 32), 8, embed_dim=16, depth=3, num_heads=2, num_classes=3, stem="linear"))
    return ImageClassifier(vit, Preprocessing((24, 32), "crop", (0.5,) * 3, (0.5,) * 3, 8), ("dog", "cat", "cow"))


@pytest.fixture(scope="module")
def noise_image():
    """An image of 72 x 96 pixels, of which `small_classifier` sees everything: a patch is 24 x 24 pixels."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, driven by Playwright; tests skip where it is absent."""
    from page_driver import launched_chromium

    with launched_chromium() as made:
        yield made


def pytest_terminal_summary(terminalreporter) -> None:
    """Say in one line how many tests were skipped for want of Chromium."""
    from page_driver import ABSENT

    count = sum(ABSENT in str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    if count:
        terminalreporter.write_line(f"{count} tests of pages were skipped: {ABSENT}")


@pytest.fixture
def clips(tmp_path) -> Path:
    """A folder with two videos of 4 frames, a.mp4 and c.mp4, a file b.mp4 that is no video, and one of another kind."""
    from fractions import Fraction

    from video_clips import moving_square

    from vitreous.video.encode import write_video

    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "c.mp4"):
        write_video(folder / name, moving_square(4), Fraction(10))
    (folder / "b.mp4").write_bytes(b"not a video")
    (folder / "notes.txt").write_text("not a video either")
    return folder


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
