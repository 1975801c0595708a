import importlib.util

import numpy as np
import pytest
from half_map_signals import filtered_noise, noisy_pair, radius

from emhance.maps.mrc import write_map
from emhance.maps.volume import DensityMap, Geometry
from emhance.validation.held_out import held_out


@pytest.fixture(scope="module")
def case():
    signal = filtered_noise(48, np.exp(-25.0 * radius(48) ** 2), 1)
    return signal, *noisy_pair(signal, 0.7)


def test_the_truth_reaches_the_ceiling(case):
    signal, half1, half2 = case
    result = held_out(signal, signal, half1, half2, voxel_size=1.2)
    assert result.gain == pytest.approx(1.0, abs=0.15)
    assert "agrees better" in result.sentence
    below = result.raw > 0.3
    assert np.abs(result.enhanced - result.ceiling)[below][3:].max() < 0.1


def test_doing_nothing_gains_nothing(case):
    _, half1, half2 = case
    result = held_out(half1, half2, half1, half2, voxel_size=1.2)
    assert result.gain == pytest.approx(0.0, abs=1e-5)
    assert "as well as before" in result.sentence


def test_invented_density_loses(case):
    _, half1, half2 = case
    invented = filtered_noise(48, 2 * np.exp(-25.0 * radius(48) ** 2), 99)
    result = held_out(half1 + invented, half2 + invented, half1, half2, voxel_size=1.2)
    assert result.gain < -0.2
    assert "against the evidence" in result.sentence


@pytest.mark.shared_data
def test_the_scorer_finds_the_same_gain(shared, case, tmp_path):
    spec = importlib.util.spec_from_file_location("score", shared / "score" / "score.py")
    score = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)
    signal, half1, half2 = case
    enhanced = (0.5 * half1 + signal).astype(np.float32)
    geometry = Geometry.whole_box(signal.shape, 1.2)
    for name, data in (("e", enhanced), ("a", half1), ("b", half2)):
        write_map(tmp_path / f"{name}.mrc", DensityMap(data, geometry))
    theirs = score.score_halves(*(str(tmp_path / f"{name}.mrc") for name in "eab"))
    ours = held_out(enhanced, enhanced, half1, half2, voxel_size=1.2)
    # The scorer counts every coefficient of the half-complex spectrum once, so curves differ by a hair.
    assert ours.gains[0] == pytest.approx(theirs["gain"], abs=0.02)
