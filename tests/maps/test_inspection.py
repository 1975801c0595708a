"""What a map's values and amplitudes say about its past."""

from pathlib import Path

import numpy as np
import pytest

from emhance.maps.fourier import apply_b_factor, low_pass
from emhance.maps.inspection import inspect, most_common_value
from emhance.maps.mrc import read_map
from emhance.maps.volume import DensityMap, Geometry


def as_map(data: np.ndarray, voxel_size: float = 1.2) -> DensityMap:
    return DensityMap(data.astype(np.float32), Geometry.whole_box(data.shape, voxel_size))


def codes(density_map: DensityMap) -> list[str]:
    return [finding.code for finding in inspect(density_map)]


@pytest.fixture(scope="module")
def atoms() -> np.ndarray:
    """Point atoms scattered in a ball: a flat spectrum, which is what a sharpened map has."""
    rng = np.random.default_rng(3)
    density = np.zeros((72, 72, 72), np.float32)
    positions = rng.normal(size=(4000, 3))
    positions *= 22 * rng.uniform(size=(4000, 1)) ** (1 / 3) / np.linalg.norm(positions, axis=1, keepdims=True)
    np.add.at(density, tuple((positions + 36).astype(int).T), 1.0)
    return density


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(4).normal(size=shape).astype(np.float32)


def test_a_raw_map_has_no_findings(atoms: np.ndarray) -> None:
    raw = apply_b_factor(atoms, 1.2, 90.0)
    assert codes(as_map(raw + 0.1 * raw.std() * noise(raw.shape))) == []


def test_a_filtered_but_unsharpened_map_is_not_called_sharpened(atoms: np.ndarray) -> None:
    raw = apply_b_factor(atoms, 1.2, 90.0)
    assert codes(as_map(low_pass(raw + 0.02 * raw.std() * noise(raw.shape), 1.2, 3.5))) == []


@pytest.mark.parametrize("resolution", [3.0, 3.5, 4.0])
def test_a_sharpened_and_filtered_map_is(atoms: np.ndarray, resolution: float) -> None:
    assert codes(as_map(low_pass(atoms + 0.1 * noise(atoms.shape), 1.2, resolution))) == ["sharpened"]


def test_a_map_sharpened_without_a_filter_is(atoms: np.ndarray) -> None:
    raw = apply_b_factor(atoms, 1.2, 90.0)
    assert codes(as_map(apply_b_factor(raw + 0.5 * raw.std() * noise(raw.shape), 1.2, -90.0))) == ["sharpened"]


def test_a_map_cut_to_a_cylinder_looks_masked() -> None:
    data = noise((40, 40, 40))
    y, x = np.indices((40, 40)) - 19.5
    data[:, x**2 + y**2 > 19.5**2] = -0.5
    finding = inspect(as_map(data))[0]
    assert finding.code == "masked"
    assert "exactly -0.5" in finding.message
    value, share = most_common_value(as_map(data).data)
    assert value == -0.5
    assert share == np.mean(data == -0.5)


def test_a_coarse_map_is_named_with_its_voxel_size() -> None:
    findings = inspect(as_map(noise((24, 24, 24)), 3.54))
    assert [f.code for f in findings] == ["coarse"]
    assert "3.54 Å" in findings[0].message
    assert findings[0].suggestion.endswith(".")


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["5irx", "6msm", "6o1m", "6rku", "8fxc", "8u4l"])
def test_raw_reconstructions_have_no_findings(shared: Path, name: str) -> None:
    assert codes(read_map(shared / "relion_pairs" / f"{name}_half1.mrc.gz")) == []


@pytest.mark.shared_data
def test_a_deposited_map_looks_masked_and_sharpened_until_it_is_blurred(shared: Path) -> None:
    deposited = read_map(shared / "real" / "emd_3488.mrc.gz")
    assert codes(deposited) == ["masked", "sharpened"]
    blurred = apply_b_factor(deposited.data, deposited.voxel_size, 100.0)
    assert "sharpened" not in codes(as_map(blurred, deposited.voxel_size))
