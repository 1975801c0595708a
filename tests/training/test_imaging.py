"""Errors of angles and shifts, the envelope, waves, and directions that are missing."""

import math

import numpy as np
import pytest
import torch
from plain_simulation import draw, plain

from emhance.training.draws import Draw, rotation_about
from emhance.training.grids import frequencies, frequencies_squared
from emhance.training.imaging import (
    amplitudes,
    angular_error_b,
    noise_of_views,
    overall_b,
    shift_error_b,
    signal_of_views,
    views,
)

N = 64
CPU = torch.device("cpu")


def b_of_displacements(displacements: torch.Tensor) -> float:
    """8π² times the mean square displacement along one axis, in the mean over the three."""
    return 8 * math.pi**2 * float((displacements**2).mean())


def test_the_b_factor_of_angular_errors_is_that_of_the_displacements() -> None:
    generator = torch.Generator().manual_seed(1)
    degrees, point = 1.5, torch.tensor([30.0, -40.0, 50.0])
    angles = torch.randn(4000, 3, generator=generator) * math.radians(degrees)
    moved = torch.stack([rotation_about(a / a.norm(), float(a.norm())) @ point for a in angles])
    expected = b_of_displacements(moved - point)
    assert float(angular_error_b(point.norm(), degrees)) == pytest.approx(expected, rel=0.06)
    assert float(angular_error_b(torch.tensor(0.0), degrees)) == 0.0


def test_the_b_factor_of_shift_errors_is_that_of_the_displacements() -> None:
    generator = torch.Generator().manual_seed(1)
    normal = torch.nn.functional.normalize(torch.randn(4000, 3, generator=generator), dim=1)
    shifts = torch.randn(4000, 3, generator=generator) * 0.7
    in_plane = shifts - (shifts * normal).sum(1, keepdim=True) * normal
    assert shift_error_b(0.7) == pytest.approx(b_of_displacements(in_plane), rel=0.06)


def test_the_overall_b_is_limited_and_grows_by_shifts() -> None:
    assert overall_b(plain(envelope=(1.0, 1.0)), draw(), 4.0) == pytest.approx(14 * 16)
    assert overall_b(plain(envelope=(1.0, 1.0)), draw(), 12.0) == pytest.approx(400)
    shifted = overall_b(plain(envelope=(1.0, 1.0), shift_error=(0.5, 0.5)), draw(), 6.0)
    assert shifted == pytest.approx(400 + shift_error_b(0.75))


def test_the_envelope_is_a_gaussian_without_the_rest() -> None:
    s2 = frequencies_squared(N, 1.0, CPU)
    curve = amplitudes(plain(), draw(), 120.0)
    assert torch.allclose(curve, torch.exp(-0.25 * 120 * s2), atol=1e-6)


def test_waves_and_lost_low_frequencies() -> None:
    s2 = frequencies_squared(N, 1.0, CPU)
    waves = torch.log(amplitudes(plain(ripple=0.2), draw(), 0.0))
    assert 0.03 < float(waves.std()) < 0.6
    line = waves[0, 0]
    assert float((line[1:] - line[:-1]).abs().max()) < 0.25, "smooth over frequency"
    config = plain(low_frequency_loss=(0.8, 0.8), low_frequency_scale=(50.0, 50.0))
    lost = amplitudes(config, draw(), 0.0)
    assert float(lost[0, 0, 0]) == pytest.approx(0.2, abs=1e-4)
    assert float(lost[s2 > 1 / 15**2].min()) > 0.99


def axis_of(one: Draw, name: str) -> torch.Tensor:
    return torch.tensor([float(one.log[f"{name}_{letter}"]) for letter in "zyx"])


def angle_to(axis: torch.Tensor) -> torch.Tensor:
    """Angle between every frequency and an axis, degrees, 0-90."""
    z, y, x = frequencies(N, 1.0, CPU)
    s = torch.sqrt(frequencies_squared(N, 1.0, CPU)).clamp(min=1e-6)
    return torch.rad2deg(torch.arccos(((z * axis[0] + y * axis[1] + x * axis[2]).abs() / s).clamp(max=1)))


def test_one_direction_is_more_blurred() -> None:
    one = draw()
    curve = amplitudes(plain(anisotropic_share=1.0, anisotropy=(60.0, 60.0)), one, 0.0)
    angle = angle_to(axis_of(one, "anisotropy"))
    s = torch.sqrt(frequencies_squared(N, 1.0, CPU))
    shell = (s - 0.25).abs() < 0.01
    assert float(curve[shell & (angle < 10)].mean()) == pytest.approx(math.exp(-15 * 0.25**2), rel=0.05)
    assert float(curve[shell & (angle > 85)].mean()) == pytest.approx(1.0, rel=0.01)


def test_a_cone_of_directions_is_missing() -> None:
    one = draw()
    share = views(plain(missing_cone_share=1.0, missing_cone_angle=(30.0, 30.0), missing_cone_rest=(0.05, 0.05)), one)
    assert share is not None
    angle = angle_to(axis_of(one, "missing_cone"))
    s = torch.sqrt(frequencies_squared(N, 1.0, CPU))
    inner, outer = (s > 0.05) & (angle < 15), (s > 0.05) & (angle > 45)
    assert float(share[inner].max()) < 0.1
    assert float(share[outer].min()) > 0.95
    assert float(share[0, 0, 0]) == pytest.approx(1.0, abs=1e-3), "the mean is in every view"
    signal, noise = signal_of_views(share), noise_of_views(share)
    assert float(signal[inner].mean()) < 0.5
    assert float(signal[outer].mean()) == pytest.approx(1.0, abs=0.01)
    ratio = (signal / noise) ** 2
    assert torch.allclose(ratio, share, atol=1e-4), "the signal-to-noise ratio is that of the views"
    assert views(plain(), draw()) is None


def test_directions_and_rotations_are_unit_and_logged() -> None:
    one = draw()
    assert float(one.direction("a").norm()) == pytest.approx(1.0, abs=1e-5)
    rotation = one.rotation("r")
    assert torch.allclose(rotation @ rotation.T, torch.eye(3), atol=1e-5)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1.0, abs=1e-5)
    quarter = rotation_about(torch.tensor([1.0, 0.0, 0.0]), math.pi / 2)
    assert np.allclose(quarter @ torch.tensor([0.0, 1.0, 0.0]), [0.0, 0.0, 1.0], atol=1e-6)
    assert {"a_z", "a_y", "a_x", "r_w", "r_z"} <= set(one.log)
