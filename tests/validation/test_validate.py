import json
import re
import shutil
import subprocess
import tracemalloc
from xml.etree import ElementTree

import numpy as np
import pytest
from half_map_signals import ball, filtered_noise, noisy_pair, radius

from emhance.errors import GeometryError, MaskError
from emhance.maps.mrc import read_map, write_map
from emhance.maps.volume import DensityMap, Geometry
from emhance.validation.validate import FILES, validate


def pair(n: int = 64, voxel_size: float = 1.5) -> tuple[DensityMap, DensityMap]:
    signal = (filtered_noise(n, np.exp(-25.0 * radius(n) ** 2), 1) + 1.5) * ball(n, 0.25)
    geometry = Geometry.whole_box((n, n, n), voxel_size)
    return tuple(DensityMap(half, geometry) for half in noisy_pair(signal, 0.4))


def test_everything_is_found_and_written(tmp_path):
    half1, half2 = pair()
    mean = DensityMap(0.5 * (half1.data + half2.data), half1.geometry)
    result = validate(half1, half2, enhanced=mean, threads=1)
    assert 3.0 < result.resolution < 8.0
    assert result.mask_is_automatic
    assert np.allclose(result.guinier["after"].amplitude, result.guinier["before"].amplitude, rtol=1e-3)
    paths = result.write(tmp_path / "out")
    assert sorted(path.name for path in paths) == sorted(FILES)
    record = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert record["resolution"] == pytest.approx(result.resolution, rel=1e-6)
    assert len(record["fsc"]["corrected"]) == len(record["fsc"]["frequency"]) == 33
    assert record["fsc"]["resolution"]["corrected"]["0.143"] == record["resolution"]
    local = read_map(tmp_path / "out" / "local_resolution.mrc")
    assert local.geometry == half1.geometry


def test_the_xml_is_emdbs(tmp_path):
    half1, half2 = pair(48)
    result = validate(half1, half2, threads=1)
    result.write(tmp_path)
    root = ElementTree.parse(tmp_path / "fsc.xml").getroot()
    assert root.tag == "fsc"
    assert root.attrib["xaxis"] == "Resolution (A-1)"
    x, y = (np.array([float(p.find(axis).text) for p in root.iter("coordinate")]) for axis in "xy")
    assert np.allclose(x, result.fsc.frequency, atol=1e-6)
    assert np.allclose(y, result.fsc.corrected, atol=1e-6)


def test_a_given_mask_is_used_as_it_is():
    half1, half2 = pair(48)
    mask = DensityMap(ball(48, 0.3), half1.geometry)
    result = validate(half1, half2, mask=mask, threads=1)
    assert np.array_equal(result.mask, mask.data)
    assert not result.mask_is_automatic


def test_identical_halves_and_foreign_masks_are_refused():
    half1, half2 = pair(32)
    with pytest.raises(GeometryError, match="identical"):
        validate(half1, half1)
    with pytest.raises(MaskError, match="own grid"):
        validate(half1, half2, mask=DensityMap(ball(24), Geometry.whole_box((24, 24, 24), 1.5)))
    with pytest.raises(MaskError, match="from 0"):
        validate(half1, half2, mask=DensityMap(7 * ball(32), half1.geometry))


def test_memory_stays_below_six_maps(tmp_path):
    half1, half2 = pair(96)
    for name, half in (("half1.mrc", half1), ("half2.mrc", half2)):
        write_map(tmp_path / name, half)
    map_bytes = half1.data.nbytes
    del half1, half2
    validate(tmp_path / "half1.mrc", tmp_path / "half2.mrc", threads=1)  # imports and caches do not count
    tracemalloc.start()
    validate(tmp_path / "half1.mrc", tmp_path / "half2.mrc", threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 12 MB are for the batches of local resolution, whose size does not depend on the map's.
    assert peak < 6 * map_bytes + 12e6


@pytest.mark.shared_data
@pytest.mark.skipif(shutil.which("relion_postprocess") is None, reason="RELION is not installed")
@pytest.mark.parametrize("name", ["6msm", "6rku", "8u4l", "6o1m", "5irx", "8fxc"])
def test_relion_finds_the_same_resolution(shared, tmp_path, name):
    halves = [read_map(shared / "relion_pairs" / f"{name}_half{i}.mrc.gz") for i in (1, 2)]
    result = validate(*halves, threads=1)
    for i, half in enumerate(halves, 1):
        write_map(tmp_path / f"pair_half{i}.mrc", half)
    write_map(tmp_path / "mask.mrc", DensityMap(result.mask, result.geometry))
    command = "relion_postprocess --i pair_half1.mrc --i2 pair_half2.mrc --mask mask.mrc --o out"
    voxel_size = f"{halves[0].voxel_size:.6f}"
    # Its exit code says only that Ghostscript is missing.
    subprocess.run([*command.split(), "--angpix", voxel_size], cwd=tmp_path, check=False, capture_output=True)
    star = (tmp_path / "out.star").read_text()
    theirs = float(re.search(r"_rlnFinalResolution\s+([\d.]+)", star)[1])
    shell = 1 / (max(result.geometry.shape) * result.geometry.voxel_size)
    assert abs(1 / theirs - 1 / result.resolution) <= shell
