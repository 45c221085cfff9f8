"""What the tests share: where the real data lies, and a fixed seed."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("VITREOUS_SHARED", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real test data; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"real test data not found at {SHARED} (set VITREOUS_SHARED)")
    return SHARED
