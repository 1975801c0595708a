"""Fixtures of the command line's tests."""

from pathlib import Path

import numpy as np
import pytest
from program import Program

from emhance.maps.mrc import write_map
from emhance.maps.volume import DensityMap, Geometry


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(monkeypatch, capsys)


@pytest.fixture
def halves(tmp_path: Path) -> tuple[Path, Path]:
    """Two small half maps: a ball in noise, 32 voxels of 1 Å."""
    rng = np.random.default_rng(5)
    z, y, x = np.ogrid[-16:16, -16:16, -16:16]
    ball = (z**2 + y**2 + x**2 < 64).astype(np.float32)
    paths = tmp_path / "run_half1_class001_unfil.mrc", tmp_path / "run_half2_class001_unfil.mrc"
    for path in paths:
        data = ball + 0.1 * rng.standard_normal(ball.shape, dtype=np.float32)
        write_map(path, DensityMap(data, Geometry.whole_box(ball.shape, 1.0)))
    return paths
