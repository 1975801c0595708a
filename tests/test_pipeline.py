"""The whole way, from half maps to the enhanced map and its record."""

import json
import subprocess
import sys
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

import emhance
from emhance import DensityMap, EnhanceConfig, Geometry, enhance, read_map, write_map
from emhance.config import CAUTION
from emhance.errors import (
    GeometryError,
    MapContentError,
    MaskError,
    OptionError,
    OutputError,
    UserError,
    WeightsError,
)
from emhance.maps import mrc
from emhance.pipeline import provenance_path
from simulated import Simulated

Array = NDArray[np.float32]


def on_grid(data: Array, voxel_size: float = 1.0, **geometry: Any) -> DensityMap:
    return DensityMap(data, Geometry.whole_box(data.shape, voxel_size, **geometry))


def halves(simulated: Simulated) -> tuple[DensityMap, DensityMap]:
    return on_grid(simulated.half1), on_grid(simulated.half2)


def correlation(a: Array, b: Array) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def assert_same(a: Array, b: Array, tolerance: float = 1e-4) -> None:
    assert float(np.abs(a - b).max()) <= tolerance * float(np.abs(b).max())


def test_half_maps_come_out_nearer_to_the_truth(simulated: Simulated) -> None:
    seen: list[tuple[str, int, int]] = []
    result = enhance(*halves(simulated), progress=lambda *step: seen.append(step))
    mean = 0.5 * (simulated.half1 + simulated.half2)
    assert correlation(result.map.data, simulated.target) > correlation(mean, simulated.target) + 0.1
    assert result.provenance.recombination["source"] == "half-map FSC"
    assert 3.0 < result.provenance.recombination["resolution"] < 5.0
    assert result.map.data.dtype == np.float32
    assert result.map.data.flags.c_contiguous
    corners = np.zeros(mean.shape, bool)
    corners[::63, ::63, ::63] = True
    solvent, molecule = ndimage.binary_dilation(corners, iterations=30) & ~simulated.molecule, simulated.molecule
    before, after = (data[solvent].std() / data[molecule].std() for data in (mean, result.map.data))
    assert after < 0.75 * before
    assert {stage for stage, _, _ in seen} == {"network"}
    assert seen[-1][1] == seen[-1][2]


def test_a_single_map_comes_out_nearer_to_the_truth(simulated: Simulated) -> None:
    mean = 0.5 * (simulated.half1 + simulated.half2)
    result = enhance(on_grid(mean), resolution=4.0)
    assert correlation(result.map.data, simulated.target) > correlation(mean, simulated.target) + 0.05
    assert result.provenance.recombination["source"] in ("solvent noise", "stated resolution")
    assert len(result.provenance.inputs) == 1


def test_what_goes_in_by_path_comes_out_by_geometry(simulated: Simulated, small_network: str, tmp_path: Path) -> None:
    paths = []
    for number, half in enumerate((simulated.half1, simulated.half2), 1):
        data = np.ascontiguousarray(half[4:60, :, 2:62])
        density = on_grid(data, 1.37, origin=(1.5, -20.25, 300.0), nstart=(-28, 7, 0))
        paths.append(tmp_path / f"half{number}.mrc")
        write_map(paths[-1], replace(density, labels=("the reconstruction", "another label")))
    result = enhance(str(paths[0]), paths[1], network=small_network)
    path, record = result.write(tmp_path / "out.mrc")
    with mrcfile.open(paths[0]) as before, mrcfile.open(path) as after:
        for word in ("nx", "ny", "nz", "nxstart", "nystart", "nzstart", "mx", "my", "mz", "mapc", "mapr", "maps", "ispg", "mode"):
            assert after.header[word] == before.header[word], word
        for word in ("cella", "cellb", "origin"):
            assert after.header[word] == before.header[word], word
        assert [str(label) for label in before.get_labels()] == [str(label) for label in after.get_labels()][:2]
        last = str(after.get_labels()[-1])
        assert len(after.get_labels()) == 3
        np.testing.assert_array_equal(after.data, result.map.data)
    assert last.startswith(f"emhance {emhance.provenance.package_versions()['emhance']} network small 3")
    assert CAUTION in last
    assert json.loads(record.read_text())["device"]["network_voxel_size"] == pytest.approx(1.0, rel=0.01)


def test_scale_and_offset_do_not_matter(simulated: Simulated) -> None:
    exactly = {"precision": "float32"}  # bfloat16, where a processor is faster with it, rounds to half a percent
    a = enhance(*halves(simulated), **exactly)
    other = (on_grid(np.float32(41.7) * half + np.float32(13.0)) for half in (simulated.half1, simulated.half2))
    b = enhance(*other, **exactly)
    assert_same(b.map.data, a.map.data, 1e-3)
    assert b.provenance.normalization["mean"] == pytest.approx(41.7 * a.provenance.normalization["mean"] + 13.0, abs=0.02)
    assert b.provenance.normalization["std"] == pytest.approx(41.7 * a.provenance.normalization["std"], rel=1e-3)


@pytest.mark.parametrize(
    "options", [{"tile_size": 24}, {"tile_size": 16, "batch_size": 3}, {"threads": 2}, {"threads": 1, "gpus": "none"}]
)
def test_tiles_batches_and_threads_do_not_matter(simulated: Simulated, small_network: str, options: dict[str, Any]) -> None:
    before = torch.get_num_threads()
    a = enhance(*halves(simulated), network=small_network)
    b = enhance(*halves(simulated), network=small_network, **options)
    assert_same(b.map.data, a.map.data)
    assert torch.get_num_threads() == before, "the caller's threads were changed"
    assert b.provenance.device["threads"] == options.get("threads", before)


def ball(radius: float) -> Array:
    z, y, x = np.ogrid[:64, :64, :64]
    return ((z - 32) ** 2 + (y - 30) ** 2 + (x - 32) ** 2 < radius**2).astype(np.float32)


def test_a_mask_bounds_the_result(simulated: Simulated, small_network: str, tmp_path: Path) -> None:
    write_map(tmp_path / "mask.mrc", on_grid(ball(18)))
    result = enhance(*halves(simulated), mask=tmp_path / "mask.mrc", network=small_network)
    assert result.provenance.config["normalization"] == "mask"
    assert result.provenance.inputs[-1]["role"] == "mask"
    # Recombination filters in Fourier space, which leaves a little everywhere.
    assert np.abs(result.map.data[ball(31) == 0]).max() < 0.03 * result.map.data.max()
    assert result.map.data[ball(18) > 0].std() > 0
    # The box around the mask is a matter of speed: the whole box gives the same inside the mask.
    whole = ball(18)
    whole[0, 0, 0] = whole[-1, -1, -1] = 1
    other = enhance(*halves(simulated), mask=on_grid(whole), network=small_network, normalization="mask")
    inside = ball(16) > 0
    assert_same(other.map.data[inside], result.map.data[inside], 0.02)


def test_a_mask_works_at_any_voxel_size(simulated: Simulated, small_network: str) -> None:
    maps = [on_grid(np.ascontiguousarray(half[:30, 10:50]), 1.37) for half in (simulated.half1, simulated.half2)]
    mask = on_grid(np.ascontiguousarray(ball(14)[:30, 10:50]), 1.37)
    result = enhance(*maps, mask=mask, network=small_network)
    assert result.map.data.shape == (30, 40, 64)
    assert np.isfinite(result.map.data).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": True, "network": "tight"}, "needs the masked network"),
        ({"network": "masked"}, "needs a mask"),
        ({"mask": True, "normalization": "auto"}, "mask selects mask normalisation"),
        ({"normalization": "mask"}, "needs a mask"),
        ({"mask": True, "noise_mean": 0.0, "noise_std": 1.0}, "contradict"),
        ({"noise_mean": 0.0}, "needs both"),
        ({"normalization": "statistics"}, "needs both"),
        ({"normalization": "auto", "noise_std": 1.0}, "measures the noise"),
        ({"noise_mean": 0.0, "noise_std": -1.0}, "must be positive"),
        ({"normalization": "best"}, "Unknown normalization 'best'"),
        ({"clean": 2.0}, "between 0 and 1"),
        ({"tile_size": 30}, "multiple of 8"),
        ({"batch_size": 0}, "at least 1"),
        ({"threads": 0}, "at least 1"),
        ({"precision": "double"}, "Unknown precision"),
        ({"resolution": -3.0}, "positive number"),
        ({"resolution": 1.5}, "finer than the map can hold"),
        ({"voxelsize": 1.0}, "Unknown option 'voxelsize'"),
        ({"config": EnhanceConfig(), "clean": 0.1}, "not both"),
    ],
)
def test_options_that_contradict_are_said(simulated: Simulated, options: dict[str, Any], message: str) -> None:
    if options.get("mask"):
        options = {**options, "mask": on_grid(ball(18))}
    with pytest.raises(OptionError, match=message):
        enhance(*halves(simulated), **options)


def test_the_record_says_how_the_map_was_made(simulated: Simulated, small_network: str, tmp_path: Path) -> None:
    paths = [tmp_path / "half1.mrc", tmp_path / "half2.mrc.gz"]
    for path, half in zip(paths, halves(simulated), strict=True):
        write_map(path, half)
    _, record_path = enhance(*paths, network=small_network, clean=0.05).write(tmp_path / "out.mrc.gz")
    assert record_path == tmp_path / "out.json"
    record = json.loads(record_path.read_text())
    assert record["config"] == {
        **{field.name: field.default for field in fields(EnhanceConfig)},
        "network": small_network,
        "normalization": "auto",
        "clean": 0.05,
    }
    assert [entry["role"] for entry in record["inputs"]] == ["half map 1", "half map 2"]
    for entry, path in zip(record["inputs"], paths, strict=True):
        assert entry["path"] == str(path)
        assert entry["sha256"] == sha256(path.read_bytes()).hexdigest()
        assert entry["box_xyz"] == [64, 64, 64]
        assert entry["voxel_size"] == 1.0
    weights = Path(small_network)
    assert record["network"] == {
        "name": "small",
        "version": "3",
        "voxel_size": 1.0,
        "sha256": sha256(weights.read_bytes()).hexdigest(),
    }
    assert record["normalization"]["std"] == pytest.approx(0.1, rel=0.15)
    assert abs(record["normalization"]["mean"]) < 0.02
    assert record["recombination"]["source"] == "half-map FSC"
    curves = [record["recombination"][key] for key in ("frequency", "reliability", "gain")]
    assert [len(curve) for curve in curves] == [33, 33, 33]
    assert record["cleaning"]["removed_share"] >= 0
    assert set(record["seconds"]) >= {"read", "check", "normalize", "resample", "network", "recombine", "clean"}
    assert record["versions"]["torch"] == torch.__version__
    assert record["caution"] == CAUTION
    assert record["device"]["devices"]
    assert isinstance(record["warnings"], list)


def test_recombination_can_be_switched_off(simulated: Simulated, small_network: str) -> None:
    on = enhance(*halves(simulated), network=small_network)
    off = enhance(*halves(simulated), network=small_network, recombine=False)
    assert off.provenance.recombination == {}
    assert "recombine" not in off.provenance.seconds
    assert not np.allclose(on.map.data, off.map.data, atol=1e-3)


def test_warnings_reach_the_record(simulated: Simulated, small_network: str) -> None:
    cut = simulated.half1 * (ball(22) > 0)
    result = enhance(on_grid(cut), network=small_network, resolution=8.0)
    text = "\n".join(result.provenance.warnings)
    assert "looks masked" in text
    assert "said to be at 8 Å" in text
    assert "no solvent noise" in text


@pytest.mark.parametrize(("voxel", "said"), [(1.0, False), (0.4, True)])
def test_data_finer_than_the_network_can_show_are_said(
    simulated: Simulated, small_network: str, voxel: float, said: bool
) -> None:
    result = enhance(on_grid(simulated.half1, voxel), on_grid(simulated.half2, voxel), network=small_network)
    assert ("detail to about 2.2 Å; use --network highres" in "\n".join(result.provenance.warnings)) is said


@pytest.mark.parametrize("override", [None, 1.1])
@pytest.mark.parametrize("from_file", [False, True])
def test_arrays_of_the_caller_are_never_changed(
    simulated: Simulated, small_network: str, tmp_path: Path, override: float | None, from_file: bool
) -> None:
    maps = [on_grid(data.copy()) for data in (simulated.half1, simulated.half2, ball(20))]
    if from_file:
        for number, density in enumerate(maps):
            write_map(tmp_path / f"{number}.mrc", density)
        maps = [read_map(tmp_path / f"{number}.mrc") for number in range(3)]
    if override is not None:
        maps[2] = on_grid(maps[2].data, override)
    before = [density.data.copy() for density in maps]
    enhance(maps[0], maps[1], network=small_network, voxel_size=override)
    enhance(maps[0], network=small_network, voxel_size=override)
    enhance(maps[0], maps[1], mask=maps[2], network=small_network, voxel_size=override)
    for density, data in zip(maps, before, strict=True):
        assert np.array_equal(density.data, data)


def test_the_voxel_size_can_be_given(simulated: Simulated, small_network: str, tmp_path: Path) -> None:
    geometry = replace(Geometry.whole_box((64, 64, 64), 1.0), cell=(0.0, 0.0, 0.0))
    for number, half in enumerate((simulated.half1, simulated.half2), 1):
        write_map(tmp_path / f"half{number}.mrc", DensityMap(half, geometry))
    write_map(tmp_path / "mask.mrc", DensityMap(ball(20), geometry))
    paths = tmp_path / "half1.mrc", tmp_path / "half2.mrc"
    with pytest.raises(UserError, match="--voxel-size"):
        enhance(*paths, network=small_network)
    result = enhance(*paths, mask=tmp_path / "mask.mrc", network=small_network, voxel_size=1.0)
    assert result.map.voxel_size == 1.0
    with pytest.raises(GeometryError, match="no voxel size"):
        enhance(DensityMap(simulated.half1, geometry), network=small_network)


def test_maps_that_do_not_belong_together_are_refused(simulated: Simulated, small_network: str) -> None:
    first, second = halves(simulated)
    with pytest.raises(GeometryError, match="identical"):
        enhance(first, on_grid(first.data.copy()), network=small_network)
    with pytest.raises(GeometryError, match="differ in voxel size"):
        enhance(first, on_grid(second.data, 1.1), network=small_network)
    with pytest.raises(GeometryError, match="differ in origin"):
        enhance(first, on_grid(second.data, origin=(0.0, 0.0, 5.0)), network=small_network)
    with pytest.raises(GeometryError, match="differ in nstart"):
        enhance(first, on_grid(second.data, nstart=(0, 0, 5)), network=small_network)
    with pytest.raises(GeometryError, match="differ in box"):
        enhance(first, on_grid(np.ascontiguousarray(second.data[:60])), network=small_network)
    for mask, message in [
        (on_grid(ball(18)[:60].copy()), "box"),
        (on_grid(ball(18), 1.2), "voxel size"),
        (on_grid(np.zeros((64, 64, 64), np.float32)), "empty"),
        (on_grid(ball(18) + 0.5 * ball(24)), "not binary"),
    ]:
        with pytest.raises(MaskError, match=message):
            enhance(first, second, mask=mask, network=small_network)


def test_a_masks_voxel_size_on_disk_is_looked_at(simulated: Simulated, small_network: str, tmp_path: Path) -> None:
    write_map(tmp_path / "mask.mrc", on_grid(ball(18), 1.2))
    with pytest.raises(MaskError, match="voxel size"):
        enhance(*halves(simulated), mask=tmp_path / "mask.mrc", network=small_network)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (None, "constant map")])
def test_values_that_cannot_be_used_are_refused(
    simulated: Simulated, small_network: str, value: float | None, message: str
) -> None:
    data = simulated.half1.copy()
    if value is None:
        data[:] = 3.0
    else:
        data[1, 2, 3] = value
    with pytest.raises(MapContentError, match=message):
        enhance(on_grid(data), network=small_network)


def test_voxels_that_are_not_cubes_are_refused(simulated: Simulated, small_network: str) -> None:
    geometry = replace(Geometry.whole_box((64, 64, 64), 1.0), cell=(64.0, 64.0, 66.0))
    with pytest.raises(GeometryError, match="1 %"):
        enhance(DensityMap(simulated.half1, geometry), network=small_network)


def test_an_unknown_network_is_said_before_anything_is_read() -> None:
    with pytest.raises(WeightsError, match="Unknown network"):
        enhance("there-is-no-such-map.mrc", network="tigth")


def test_a_small_box_works(simulated: Simulated, small_network: str) -> None:
    data = np.ascontiguousarray(simulated.half1[26:37, 24:44, 20:36])
    result = enhance(on_grid(data, 1.3), network=small_network, noise_mean=0.0, noise_std=0.1)
    assert result.map.data.shape == (11, 20, 16)
    assert np.isfinite(result.map.data).all()


# --- writing --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result(simulated: Simulated, small_network: str) -> emhance.EnhanceResult:
    return enhance(*halves(simulated), network=small_network)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_replaced_unasked(result: emhance.EnhanceResult, tmp_path: Path) -> None:
    for taken in ("out.mrc", "out.json"):
        folder = tmp_path / taken
        folder.mkdir()
        (folder / taken).write_text("mine")
        with pytest.raises(OutputError, match="exists already"):
            result.write(folder / "out.mrc")
        assert names(folder) == [taken]
        assert (folder / taken).read_text() == "mine"
        result.write(folder / "out.mrc", overwrite=True)
        assert names(folder) == ["out.json", "out.mrc"]
        assert (folder / taken).read_bytes() != b"mine"


def test_no_map_without_its_record(result: emhance.EnhanceResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("emhance.provenance.json.dumps", fail)
    with pytest.raises(OutputError, match="disk is full"):
        result.write(tmp_path / "out.mrc")
    assert names(tmp_path) == []


def test_no_record_without_a_map_that_could_be_written(
    result: emhance.EnhanceResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(data: Array) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mrc, "_slabs", fail)
    with pytest.raises(OutputError, match="disk is full"):
        result.write(tmp_path / "out.mrc")
    assert names(tmp_path) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_no_record_without_a_map_where_a_run_is_stopped_between_the_two(
    result: emhance.EnhanceResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: Any
) -> None:
    move = emhance.maps.atomic_write._move

    def stopped(temporary: Path, path: Path, *, overwrite: bool) -> None:
        if path.suffix == ".mrc":
            raise stop
        move(temporary, path, overwrite=overwrite)

    monkeypatch.setattr(emhance.maps.atomic_write, "_move", stopped)
    with pytest.raises((KeyboardInterrupt, OutputError)):
        result.write(tmp_path / "out.mrc")
    assert names(tmp_path) == []


def test_the_record_is_there_whenever_the_map_is(
    result: emhance.EnhanceResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two moves, a run leaves the record alone, never the map alone."""
    moved: list[str] = []
    move = emhance.maps.atomic_write._move

    def watch(temporary: Path, path: Path, *, overwrite: bool) -> None:
        move(temporary, path, overwrite=overwrite)
        moved.append(path.name)

    monkeypatch.setattr("emhance.maps.atomic_write._move", watch)
    result.write(tmp_path / "out.mrc")
    assert moved == ["out.json", "out.mrc"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.mrc", "a.json"),
        ("a.map.gz", "a.json"),
        ("a.b.ccp4.bz2", "a.b.json"),
        ("run1.5.mrc", "run1.5.json"),
        ("plain", "plain.json"),
    ],
)
def test_where_the_record_lies(name: str, expected: str) -> None:
    assert provenance_path(Path("folder") / name) == Path("folder") / expected


def test_the_map_cannot_take_the_records_name(result: emhance.EnhanceResult, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"ends in \.mrc"):
        result.write(tmp_path / "out.json")
    assert names(tmp_path) == []


def test_importing_the_package_does_not_import_torch() -> None:
    program = "import sys, emhance; emhance.__all__; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_every_public_name_is_there() -> None:
    for name in emhance.__all__:
        assert getattr(emhance, name) is not None
    assert set(dir(emhance)) >= set(emhance.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        emhance.nothing  # noqa: B018
