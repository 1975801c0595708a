import json

import pytest
from program import Program, assert_one_sentence, names

from emhance.maps.mrc import write_map
from emhance.maps.volume import DensityMap, Geometry


@pytest.fixture
def halves(simulated, tmp_path):
    geometry = Geometry.whole_box(simulated.half1.shape, 1.0)
    paths = [tmp_path / "run_half1.mrc", tmp_path / "run_half2.mrc"]
    for path, half in zip(paths, (simulated.half1, simulated.half2), strict=True):
        write_map(path, DensityMap(half, geometry))
    return paths


def test_validate_says_the_resolution_and_leaves_its_files(program: Program, halves, tmp_path):
    out = tmp_path / "out"
    ended = program("validate", *halves, "-o", out, "--threads", 1)
    assert ended.code == 0, ended
    assert ended.out.startswith("Resolution ")
    assert names(out) == ["fsc.xml", "local_resolution.mrc", "mask.mrc", "validation.json"]
    resolution = json.loads((out / "validation.json").read_text())["resolution"]
    assert f"Resolution {resolution:.2f} Å" in ended.out
    assert_one_sentence(program("validate", *halves, "-o", out), "exists already")


def test_half_map_2_is_found_by_its_name(program: Program, halves, tmp_path):
    assert program("validate", halves[0], "-o", tmp_path / "out", "-q", "--threads", 1).code == 0


def test_confidence_and_report_lie_beside_the_map(program: Program, halves, small_network, tmp_path):
    pytest.importorskip("jinja2")
    out = tmp_path / "out"
    out.mkdir()
    arguments = ("-o", out / "map.mrc", "-n", small_network, "-g", "none", "--precision", "float32")
    ended = program("enhance", *halves, *arguments, "--gate", "--report")
    assert ended.code == 0, ended
    assert names(out) == ["map.cxc", "map.json", "map.mrc", "map_confidence.mrc", "map_report.html"]
    assert "Each half map, enhanced alone" in ended.out
    again = program("report", out)
    assert_one_sentence(again, "exists already")
    assert program("report", out, "--overwrite").code == 0


def test_confidence_needs_half_maps(program: Program, halves, tmp_path):
    assert_one_sentence(
        program("enhance", halves[0], "--confidence", "-o", tmp_path / "x.mrc"), "--confidence needs two half maps"
    )


def test_a_folder_without_maps_has_no_report(program: Program, tmp_path):
    assert_one_sentence(program("report", tmp_path), "holds no map enhanced by emhance")
