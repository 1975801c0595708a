"""Everything of a simulated map that can be chosen, once each, with its unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emhance.training.draws import Range

UNPROCESSED: dict[str, Any] = dict.fromkeys(
    ("fsc_weighted_share", "low_pass_share", "sharpened_share", "interpolated_share", "masked_share", "outside_sphere_share"), 0.0
)
"""Fields of half maps as reconstructions are: unfiltered, unsharpened, unmasked."""


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """Ranges from which every parameter of a simulated map is drawn, uniformly unless said otherwise.

    What is drawn is logged under the field's name; a field ``x_share`` is the chance of something, logged as ``x``.
    """

    box: int = 128
    """Edge of the simulated box in voxels, even."""
    voxel_size: float = 1.0
    """Å."""
    resolution: Range = (2.2, 7.5)
    """Where the half maps' FSC inside the molecule crosses 0.143, Å; drawn log-uniformly."""

    # Where the atoms are
    whole: bool = False
    """Centre the whole molecule in the box instead of a random atom."""
    shift: float = 15.0
    """Largest shift of the centre from the middle of the box, voxels, along each axis."""
    symmetry_share: float = 0.12
    """Share of maps with copies of the molecule around a rotation axis beside it."""
    symmetry_order: tuple[int, int] = (2, 6)
    """Number of copies around the axis."""
    neighbour_share: float = 0.12
    """Share of maps of those without such an axis where neighbouring copies reach into the box: a filament's or a crystal's."""
    neighbour_twist: Range = (-60.0, 60.0)
    """Rotation from copy to copy about a filament's axis, degrees."""
    copy_gap: Range = (1.0, 6.0)
    """Distance between copies beyond the smallest at which they do not clash, Å."""

    # How sharp and how full they are
    median_b: Range = (1.5, 9.0)
    """Median of the atoms' own B-factors after rescaling, in units of resolution². In 496 crystal structures of 1 to 5 Å their
    mean is 7 to 9 times that, whatever the resolution; a little less keeps targets on the sharp side."""
    flexibility: Range = (0.05, 1.5)
    """Largest additional B of the local-disorder field, in units of 12 · resolution²."""
    flexibility_length: Range = (12.0, 40.0)
    """Correlation length of the disorder field, voxels."""
    flexibility_power: Range = (1.0, 3.0)
    """Power the field, scaled to 0-1, is raised to: the larger, the smaller the flexible part."""
    moving_domain_share: float = 0.2
    """Share of maps in which a domain moves as a whole: an average over `MOTION_COPIES` rotations about a hinge."""
    motion_part: Range = (0.15, 0.45)
    """Share of the atoms in the moving domain."""
    motion: Range = (0.15, 0.8)
    """Largest displacement of the domain's far end, in units of the resolution."""
    partial_share: float = 0.2
    """Share of maps in which the atoms within a ball are partly occupied (a ligand's surroundings where there is one)."""
    partial_radius: Range = (5.0, 20.0)
    """Radius of that ball, Å."""
    partial_occupancy: Range = (0.3, 0.9)
    """Occupancy within it."""
    angular_error: Range = (0.0, 0.8)
    """S.d. of the particles' angles about each axis, degrees at 4 Å, proportional to the resolution."""
    shift_error: Range = (0.0, 0.5)
    """S.d. of the particles' shifts along each axis of an image, Å at 4 Å, proportional to the resolution."""
    target_flexibility: float = 0.5
    """How much of disorder, motion, angular errors and missing occupancy stays in the target: 0 restores all, 1 nothing."""

    # What is beside the atoms
    solvent_contrast: Range = (0.2, 0.75)
    """Bulk solvent in units of the mean density inside the molecule."""
    solvent_edge_b: Range = (50.0, 250.0)
    """Smoothness of the molecule's boundary with the solvent, Å²."""
    extra_density_share: float = 0.2
    """Share of maps with disordered density in patches beside the molecule."""
    micelle_share: float = 0.08
    """Share of maps with a detergent micelle: an oblate belt whose head groups are brighter than its core."""
    nanodisc_share: float = 0.06
    """Share of maps with a nanodisc: a disc of two leaflets within a rim of scaffold protein."""
    lipids_share: float = 0.06
    """Share of maps with a belt of lipids, two leaflets that follow the molecule's surface."""
    extra_level: Range = (0.1, 0.6)
    """Level of patches, head groups and scaffold in units of the mean density inside the molecule."""
    extra_core: Range = (-0.2, 0.6)
    """Level of the lipid or detergent tails in units of the head groups'."""
    extra_edge_b: Range = (200.0, 700.0)
    """Smoothness of all these, Å²."""
    extra_patch: Range = (10.0, 25.0)
    """Size of the patches, voxels."""
    extra_reach_b: Range = (1500.0, 6000.0)
    """How far patches reach from the molecule: the B that blurs it to the region they lie in, Å²."""
    extra_cut: Range = (-0.5, 0.8)
    """How much of that region stays empty, in s.d. of a random field."""
    membrane_half_width: Range = (15.0, 22.0)
    """Half the thickness of micelle, nanodisc or lipids, Å."""
    membrane_margin: Range = (8.0, 30.0)
    """How far they reach beyond the molecule, Å."""

    # What microscope and alignment do
    envelope: Range = (0.02, 0.8)
    """Overall B-factor in units of 14 · resolution², never above 400 Å²; drawn log-uniformly. The smaller, the more noise in the
    coarse shells for the same resolution."""
    ripple: float = 0.15
    """S.d. of each of three waves in the logarithm of the amplitudes over spatial frequency, as CTFs leave."""
    ripple_period: Range = (0.5, 1.5)
    """Waves from zero frequency to 1/Å of the first one; of the second twice, of the third three times as many."""
    low_frequency_loss: Range = (0.0, 0.9)
    """Amplitude lost below the scale `low_frequency_scale`."""
    low_frequency_scale: Range = (40.0, 150.0)
    """Å."""
    anisotropic_share: float = 0.2
    """Share of maps more blurred along one direction."""
    anisotropy: Range = (0.0, 80.0)
    """Additional B along it, Å²."""
    missing_cone_share: float = 0.15
    """Share of maps with preferred orientation: directions within a cone around one axis are missing."""
    missing_cone_angle: Range = (15.0, 50.0)
    """Half the opening angle of the cone, degrees."""
    missing_cone_rest: Range = (0.0, 0.15)
    """Share of the views that remains within the cone."""

    # Noise
    empty_share: float = 0.06
    """Share of maps that hold noise alone, never masked: the one that a molecule's map of the resolution would have."""
    noise_slope: Range = (-0.8, 2.2)
    """Power of the rise of the noise's spectral power with spatial frequency; below 0 it falls. Reconstructions have about 1:
    fine shells are sampled less."""
    noise_knee: Range = (0.005, 0.2)
    """Spatial frequency (1/Å) where the power is twice what it is before the rise, or after the fall; drawn log-uniformly."""
    noise_centre_gain: Range = (0.0, 0.5)
    """How much larger the noise is in the middle of the box."""
    noise_centre_width: Range = (0.25, 0.5)
    """S.d. of the Gaussian of that gain, in edges of the box."""
    noise_inside: Range = (0.0, 1.2)
    """How much larger it is inside the molecule; RELION's half maps of simulated, slightly misaligned particles have 0.5 to 1."""
    noise_variation: Range = (0.0, 0.3)
    """S.d. of the logarithm of a smooth random gain of the noise."""
    noise_variation_length: Range = (12.0, 40.0)
    """Correlation length of this gain and of the local colour, voxels."""
    noise_local_colour: Range = (0.0, 0.8)
    """How much redder the noise is in some places than in others: logarithm of its amplitude from zero frequency to Nyquist."""

    # Processing
    fsc_weighted_share: float = 0.5
    """Share of maps whose amplitudes are weighted by 2 FSC / (1 + FSC)."""
    low_pass_share: float = 0.35
    """Share of maps low-passed near their resolution."""
    low_pass_at: Range = (0.95, 1.4)
    """Where the low-pass cuts, in units of 1 / resolution."""
    sharpened_share: float = 0.35
    """Share of maps sharpened by part of their overall B (always FSC-weighted and low-passed)."""
    sharpened_by: Range = (0.3, 1.0)
    """That part."""
    interpolated_share: float = 0.2
    """Share of maps interpolated linearly from a grid of another voxel size and position."""
    interpolated_from: Range = (0.7, 1.5)
    """Its voxel size in units of the map's; never above 0.45 times the resolution."""
    masked_share: float = 0.3
    """Share of maps cut at or near the molecule, which leaves no noise to normalise from."""
    mask_cut: Range = (0.05, 0.4)
    """Where the mask cuts the blurred molecule: the lower, the wider."""
    soft_mask_share: float = 0.6
    """Share of the masks that have a soft edge."""
    mask_edge_b: Range = (100.0, 800.0)
    """Smoothness of that edge, Å²."""
    mask_keeps_offset_share: float = 0.5
    """Share of the masked maps whose solvent was not brought to zero before."""
    scaled_inside_share: float = 0.5
    """Share of the masked maps scaled by their 99.9th percentile inside the mask, as with a mask; the rest by the whole box's."""
    outside_sphere_share: float = 0.25
    """Share of the other maps set to zero outside a sphere."""
    sphere_radius: Range = (0.35, 0.55)
    """Its radius in edges of the box."""
    normalised: bool = True
    """Normalise as before the network; False leaves an arbitrary scale and offset."""
    scale: Range = (1e-3, 1e2)
    """Arbitrary factor of a map that is not normalised; drawn log-uniformly."""
    offset: Range = (-3.0, 3.0)
    """Arbitrary offset of a map that is not normalised, in units of its solvent's noise (masked: of a thirtieth of its top)."""
