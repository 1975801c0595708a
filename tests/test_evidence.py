import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from emhance.config import EnhanceConfig
from emhance.errors import OptionError
from emhance.evidence import enhance_with_evidence, gate_of, power_shares, require_half_maps
from emhance.maps.mrc import read_map
from emhance.maps.volume import DensityMap, Geometry
from emhance.pipeline import enhance
from emhance.validation.held_out import held_out_gain


@pytest.fixture(scope="module")
def halves(simulated):
    geometry = Geometry.whole_box(simulated.half1.shape, 1.0)
    return DensityMap(simulated.half1, geometry), DensityMap(simulated.half2, geometry)


@pytest.fixture(scope="module")
def config(small_network):
    return EnhanceConfig(network=small_network, gpus="none", precision="float32")


@pytest.fixture(scope="module")
def evidence(halves, config):
    return enhance_with_evidence(*halves, config=config)


def test_the_map_is_that_of_the_plain_run(evidence, halves, config):
    plain = enhance(*halves, config=config)
    assert np.array_equal(evidence.result.map.data, plain.map.data)


def test_confidence_is_high_in_the_molecule_and_low_in_the_solvent(evidence, simulated):
    confidence = evidence.confidence.data
    assert confidence.dtype == np.float32
    assert 0 <= confidence.min() <= confidence.max() <= 1
    dense = simulated.target > 0.3
    outside = confidence[~simulated.molecule].mean()
    assert outside < 0.2
    assert confidence[dense].mean() > 3 * outside


def test_a_mask_and_confidence_go_together(halves, simulated, config):
    mask = DensityMap(simulated.molecule.astype(np.float32), halves[0].geometry)
    masked = enhance_with_evidence(*halves, mask=mask, config=replace(config, normalization="mask"))
    confidence = masked.confidence.data
    assert masked.result.provenance.normalization["mode"] == "mask"
    assert confidence[simulated.molecule].mean() > 3 * confidence[~simulated.molecule].mean()


def test_independent_noise_has_no_confidence(config):
    rng = np.random.default_rng(1)
    geometry = Geometry.whole_box((48, 48, 48), 1.0)
    pair = [DensityMap(rng.standard_normal((48, 48, 48)).astype(np.float32), geometry) for _ in range(2)]
    result = enhance_with_evidence(*pair, config=config)
    assert result.confidence.data.mean() < 0.2
    assert result.held_out.gain < 0.1


def test_the_halves_are_normalised_as_their_mean(evidence, halves, config):
    used = evidence.result.provenance.normalization
    assert used["mode"] == "auto"
    alone = EnhanceConfig(
        network=config.network, gpus="none", precision="float32", normalization="statistics",
        noise_mean=used["offset"], noise_std=0.1 / used["scale"],
    )  # fmt: skip
    first = enhance(halves[0], config=alone)
    assert first.provenance.normalization["scale"] == pytest.approx(used["scale"])
    assert first.provenance.normalization["offset"] == pytest.approx(used["offset"])


def test_the_record_holds_every_number(evidence, tmp_path):
    paths = evidence.write(tmp_path / "enhanced.mrc")
    assert [path.name for path in paths] == ["enhanced.mrc", "enhanced.json", "enhanced_confidence.mrc"]
    assert np.allclose(read_map(paths[2]).data, evidence.confidence.data)
    record = json.loads(paths[1].read_text())["evidence"]
    assert record["held_out"]["gain"] == pytest.approx(evidence.held_out.gain, rel=1e-5)
    assert record["held_out"]["sentence"]
    shares = record["power_shares"]
    assert len(shares["frequency"]) == len(shares["data"]) == len(shares["network"])
    assert 0 <= shares["data_overall"] <= 1
    assert sum(record["confidence"]["density_by_tenth"]) == pytest.approx(1)


def test_the_gate_removes_what_has_no_confidence_and_says_how_much(evidence, halves, config, caplog):
    with caplog.at_level(logging.WARNING, logger="emhance"):
        gated = enhance_with_evidence(*halves, config=config, gate=True)
    assert "The gate removed" in caplog.text
    lost = gated.confidence.data < 0.2
    assert np.all(gated.result.map.data[lost] == 0)
    sure = gated.confidence.data >= 0.5
    assert np.array_equal(gated.result.map.data[sure], evidence.result.map.data[sure])
    assert 0 <= gated.result.provenance.evidence["gate"]["removed"] < 1


def test_the_gate_is_smooth_between_its_ends():
    assert np.allclose(gate_of(np.array([0.0, 0.2, 0.35, 0.5, 1.0], np.float32)), [0, 0, 0.5, 1, 1])


def test_shares_add_up_and_follow_the_recombination():
    data, network = power_shares(np.array([0.0, 0.5, 1.0]))
    assert np.allclose(data + network, 1)
    assert np.allclose(data, [0, 0.5, 1])
    assert np.allclose(power_shares(np.array([0.8]))[0], 0.64 / 0.68)


def test_nothing_is_logged_twice_and_the_logger_is_left_as_it_was(halves, config):
    before = list(logging.getLogger("emhance").filters)
    enhance_with_evidence(*halves, config=config)
    assert logging.getLogger("emhance").filters == before


def test_confidence_needs_half_maps():
    with pytest.raises(OptionError, match="--confidence needs two half maps"):
        require_half_maps("--confidence", None)


def test_gain_is_one_at_the_ceiling_and_zero_without_change():
    raw = np.array([1.0, 1.0, 0.9, 0.7, 0.5, 0.3, 0.1, 0.0])
    assert held_out_gain(raw, raw) == 0
    assert held_out_gain(raw, np.sqrt(raw)) == pytest.approx(1)
    assert held_out_gain(raw, raw - 0.1) < 0
