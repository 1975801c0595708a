import numpy as np
import pytest

from emhance.config import EnhanceConfig
from emhance.evidence import enhance_with_evidence
from emhance.maps.mrc import write_map
from emhance.maps.volume import DensityMap, Geometry
from emhance.report.chimerax import matched_contour, output_contour, write_script


def test_contours_enclose_equal_volumes():
    rng = np.random.default_rng(1)
    enhanced, original = (rng.gamma(1.0, 1.0, (20, 20, 20)).astype(np.float32) for _ in range(2))
    contour, voxels = output_contour(enhanced)
    assert (enhanced > contour).sum() == voxels
    assert (original >= matched_contour(original, voxels)).sum() == voxels


def test_the_script_opens_everything_and_colours_by_confidence(simulated, small_network, tmp_path):
    geometry = Geometry.whole_box(simulated.half1.shape, 1.0)
    for name, half in (("half1.mrc", simulated.half1), ("half2.mrc", simulated.half2)):
        write_map(tmp_path / name, DensityMap(half, geometry))
    config = EnhanceConfig(network=small_network, gpus="none", precision="float32")
    result = enhance_with_evidence(tmp_path / "half1.mrc", tmp_path / "half2.mrc", config=config)
    result.write(tmp_path / "enhanced.mrc")
    lines = write_script(tmp_path / "enhanced.mrc").read_text().splitlines()
    assert (tmp_path / "enhanced.cxc").exists()
    opened = [line for line in lines if line.startswith("open")]
    assert opened[0] == 'open "half1.mrc" id #1'
    assert opened[2] == 'open "enhanced.mrc" id #4'
    assert any(line.startswith("color sample #4 map #5 palette 0,") for line in lines)
    level = float(next(line for line in lines if line.startswith("volume #4 level")).split()[3])
    assert level == pytest.approx(output_contour(result.result.map.data)[0], rel=1e-4)
