"""Fixtures every test may use."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """The folder of development data beside the checkout; tests that use it are marked `shared_data`."""
    if not (SHARED / "README.md").exists():
        pytest.skip("the development data are not here")
    return SHARED
