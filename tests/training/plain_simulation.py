"""A configuration in which nothing happens to a map, to switch single effects on."""

from dataclasses import replace
from typing import Any

import torch

from emhance.training.draws import Draw
from emhance.training.simulation_config import SimulationConfig

PLAIN = SimulationConfig(
    box=64,
    resolution=(4.0, 4.0),
    whole=True,
    shift=0.0,
    symmetry_share=0.0,
    neighbour_share=0.0,
    median_b=(50 / 4.0**2, 50 / 4.0**2),  # 50 Å²; the least of them, 0.4 times this, is resolved
    flexibility=(0.0, 0.0),
    moving_domain_share=0.0,
    partial_share=0.0,
    angular_error=(0.0, 0.0),
    shift_error=(0.0, 0.0),
    extra_density_share=0.0,
    micelle_share=0.0,
    nanodisc_share=0.0,
    lipids_share=0.0,
    envelope=(0.8, 0.8),
    ripple=0.0,
    low_frequency_loss=(0.0, 0.0),
    anisotropic_share=0.0,
    missing_cone_share=0.0,
    empty_share=0.0,
    noise_slope=(0.0, 0.0),
    noise_centre_gain=(0.0, 0.0),
    noise_inside=(0.0, 0.0),
    noise_variation=(0.0, 0.0),
    noise_local_colour=(0.0, 0.0),
    fsc_weighted_share=0.0,
    low_pass_share=0.0,
    sharpened_share=0.0,
    interpolated_share=0.0,
    masked_share=0.0,
    outside_sphere_share=0.0,
)


def plain(**changes: Any) -> SimulationConfig:
    return replace(PLAIN, **changes)


def draw(seed: int = 1) -> Draw:
    return Draw(torch.Generator().manual_seed(seed))
