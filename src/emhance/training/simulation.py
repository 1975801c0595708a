"""Simulate half maps and what a network should make of them, from atoms.

One function, `simulate`, follows the signal from the atoms to two half maps: atoms placed and copied, with what differs from
particle to particle (`assembly`); bulk solvent, detergent, lipids and disordered density (`surroundings`); what microscope
and alignment leave of it (`imaging`); noise whose FSC crosses 0.143 at the requested resolution (`half_maps`); and what
programs and depositors do to maps afterwards (`processing`). Every random choice comes from one generator, is returned
in the log, and is drawn from a range in `simulation_config`. It runs on the generator's device; on the CPU the same
generator gives the same maps bit for bit, on a GPU up to the order of its sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from emhance.training.assembly import assemble
from emhance.training.atoms import KINDS, Atoms
from emhance.training.draws import Draw
from emhance.training.grids import frequencies_squared, gaussian, to_map
from emhance.training.half_maps import half_transforms
from emhance.training.imaging import amplitudes, noise_of_views, overall_b, signal_of_views, views
from emhance.training.processing import DENSITY_TOP, NOISE_STD, processed
from emhance.training.simulation_config import UNPROCESSED, SimulationConfig
from emhance.training.surroundings import bulk_solvent, density_beside, molecule_of

__all__ = [
    "DENSITY_TOP",
    "NOISE_STD",
    "UNPROCESSED",
    "SimulatedMaps",
    "SimulationConfig",
    "one_molecule",
    "raw_molecule",
    "raw_pair",
    "simulate",
]

SOLVENT_FREE_DENSITY = 0.25
"""Electron-scattering density (Å⁻²) that becomes 1 in a target: about that of well-ordered atoms at 3 Å."""


@dataclass(eq=False)
class SimulatedMaps:
    """One simulated case.

    Parameters
    ----------
    half1, half2
        Half maps, normalised (see `NOISE_STD`, `DENSITY_TOP`) unless the configuration says otherwise, shape ``(n, n, n)``.
    target
        Sharpened, noise-free density of every atom at the local resolution, well-ordered density about 1, solvent 0.
    wide_target
        Less sharp, and with the density no atom explains.
    molecule
        1 inside the molecule, 0 outside; in an empty map, inside the molecule whose noise it holds.
    others
        Voxels of the atoms that are neither protein nor nucleic acid, zyx, shape ``(m, 3)``, int64.
    truth
        Density of the atoms with their own B-factors and occupancies, whole and still, in units of the target.
    reliability
        2 FSC / (1 + FSC) per shell of width ``1 / (n · voxel size)`` from 0 to Nyquist, shape ``(n // 2 + 1,)``, of the FSC to
        be expected of the two half maps behind `half_maps.fsc_mask`.
    resolution
        Where that FSC crosses 0.143, Å.
    log
        Every parameter drawn.
    """

    half1: Tensor
    half2: Tensor
    target: Tensor
    wide_target: Tensor
    molecule: Tensor
    others: Tensor
    truth: Tensor
    reliability: Tensor
    resolution: float
    log: dict[str, float | str | bool] = field(default_factory=dict)


def simulate(atoms: Atoms, config: SimulationConfig, generator: torch.Generator) -> SimulatedMaps:
    """Simulate one pair of half maps and its targets.

    Parameters
    ----------
    atoms
        The atomic model.
    config
        Ranges of everything that is drawn.
    generator
        The only source of randomness; its device is where everything is computed.

    Raises
    ------
    AtomicModelError
        If fewer than 100 atoms fall into the box.
    """
    draw = Draw(generator)
    n, voxel = config.box, config.voxel_size
    resolution = draw.log_uniform("resolution", config.resolution)

    # The density itself: atoms, the solvent they displace, and what no atomic model explains.
    assembly = assemble(atoms, config, draw, resolution)
    clean = assembly.data.transform(n=n, voxel_size=voxel)
    molecule = molecule_of(clean, voxel)
    level = (to_map(clean) * molecule).sum() / molecule.sum()
    signal = clean - bulk_solvent(config, draw, molecule) * level
    extra = density_beside(config, draw, molecule)
    extra_transform = None if extra is None else torch.fft.rfftn(extra * level)
    if extra_transform is not None:
        signal = signal + extra_transform

    # What is measured of it, twice.
    b_factor = overall_b(config, draw, resolution)
    signal = signal * amplitudes(config, draw, b_factor)
    share = views(config, draw)
    if share is not None:
        signal = signal * signal_of_views(share)
    direction_gain = None if share is None else noise_of_views(share)
    empty = draw.chance("empty", config.empty_share)
    if empty:  # with a molecule's shape noise cannot be told from one
        config = replace(config, masked_share=0.0, noise_inside=(0.0, 0.0))
    pair = half_transforms(config, draw, signal, molecule, resolution, direction_gain)
    if empty:
        pair = pair.without(signal)
    half1, half2 = processed(config, draw, pair, molecule, resolution, b_factor)

    # What to make of it: every atom at the resolution the local data support.
    s = torch.sqrt(frequencies_squared(n, voxel, draw.device))
    roll_off = torch.rsqrt(1 + (s * resolution * 0.9) ** 8)
    target = to_map(assembly.target.transform(n=n, voxel_size=voxel) * roll_off)
    wide = clean * gaussian(0.5 * min(b_factor, 8 * resolution**2), n, voxel, draw.device) * roll_off
    if extra_transform is not None:
        wide = wide + extra_transform
    placed = assembly.truth
    truth = to_map(placed.transform(n=n, voxel_size=voxel))
    unit = 0 if empty else 1 / SOLVENT_FREE_DENSITY
    return SimulatedMaps(
        half1=half1,
        half2=half2,
        target=target.clamp(min=0) * unit,
        wide_target=to_map(wide).clamp(min=0) * unit,
        molecule=molecule,
        others=torch.round(placed.positions[placed.kinds == KINDS.index("other")] / voxel).long(),
        truth=truth * unit,
        reliability=pair.reliability.to(draw.device) * (not empty),
        resolution=resolution,
        log=draw.log,
    )


def one_molecule(*, resolution: float, box: int, voxel_size: float) -> SimulationConfig:
    """One whole molecule in the middle of its box (voxels) at a resolution (Å); all the rest as it is drawn for training."""
    return SimulationConfig(
        box=box,
        voxel_size=voxel_size,
        resolution=(resolution, resolution),
        whole=True,
        shift=0.0,
        symmetry_share=0.0,
        neighbour_share=0.0,
        empty_share=0.0,
    )


def raw_molecule(*, resolution: float, box: int, voxel_size: float = 1.0) -> SimulationConfig:
    """One whole molecule (see `one_molecule`) in half maps as reconstructions are: unfiltered, unsharpened, unmasked."""
    return replace(
        one_molecule(resolution=resolution, box=box, voxel_size=voxel_size),
        flexibility=(0.3, 0.3),
        moving_domain_share=0.0,
        partial_share=0.0,
        extra_density_share=0.0,
        micelle_share=0.0,
        nanodisc_share=0.0,
        lipids_share=0.0,
        envelope=(0.8, 0.8),
        missing_cone_share=0.0,
        **UNPROCESSED,
    )


def raw_pair(atoms: Atoms, *, resolution: float, box: int, seed: int, voxel_size: float = 1.0) -> SimulatedMaps:
    """Simulate the raw half maps of one whole molecule; see `raw_molecule`.

    Parameters
    ----------
    atoms
        The atomic model; it must fit the box.
    resolution
        Where the half-map FSC inside the molecule crosses 0.143, Å.
    box
        Edge in voxels.
    seed
        Decides rotation, disorder and noise.
    voxel_size
        Å.
    """
    config = raw_molecule(resolution=resolution, box=box, voxel_size=voxel_size)
    return simulate(atoms, config, torch.Generator().manual_seed(seed))
