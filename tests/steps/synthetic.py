"""Synthetic maps of known noise: random atoms in a given support, the halo of a high-passed reconstruction, and noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Synthetic:
    """A map, where its particle lies, and the true mean and s.d. of the noise in its solvent."""

    data: FloatArray
    particle: BoolArray
    noise_mean: float
    noise_std: float


def grid(box: int, centre: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> tuple[NDArray[np.float64], ...]:
    """Broadcastable coordinates z, y, x in voxels, counted from `centre` (fractions of the box)."""
    axes = np.ogrid[:box, :box, :box]
    return tuple(axis - c * (box - 1) for axis, c in zip(axes, centre, strict=True))


def ball(box: int, radius: float, centre: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> BoolArray:
    """Voxels within `radius` voxels of `centre`."""
    z, y, x = grid(box, centre)
    return z**2 + y**2 + x**2 <= radius**2


def filled_box(box: int, share: float = 0.47) -> BoolArray:
    """A rounded cube that nearly fills the box."""
    z, y, x = grid(box)
    return z**4 + y**4 + x**4 <= (share * box) ** 4


def shell(box: int, outer: float, inner: float) -> BoolArray:
    """A hollow sphere, as a virus capsid."""
    return ball(box, outer) & ~ball(box, inner)


def filament(box: int, radius: float) -> BoolArray:
    """A rod along z through the whole box."""
    z, y, x = grid(box)
    return (y**2 + x**2 <= radius**2) & (z == z)


def disc(box: int, radius: float, half_height: float) -> BoolArray:
    """A flat ellipsoid, as a detergent micelle."""
    z, y, x = grid(box)
    return (z / half_height) ** 2 + (y**2 + x**2) / radius**2 <= 1


def density(support: BoolArray, *, seed: int, blur: float = 1.3, halo: float = 0.2) -> FloatArray:
    """Density of random atoms inside `support`; its 99.9th percentile there is 1.

    Parameters
    ----------
    blur
        S.d. of an atom, in voxels.
    halo
        How much of the low-passed density is taken away again: solvent beside the particle dips below zero.
    """
    generator = np.random.default_rng(seed)
    atoms = (generator.poisson(0.08, support.shape) * support).astype(np.float32)
    sharp = ndimage.gaussian_filter(atoms, blur, mode="wrap")
    result = sharp - halo * ndimage.gaussian_filter(sharp, 4.0, mode="wrap")
    return (result / np.percentile(result[support], 99.9)).astype(np.float32)


def noise(box: int, *, seed: int, correlation: float = 0.0, centre_gain: float = 1.0) -> FloatArray:
    """Gaussian noise of s.d. 1.

    Parameters
    ----------
    correlation
        S.d. of the Gaussian, in voxels, that the white noise is blurred with.
    centre_gain
        The s.d. in the middle of the box over that at the middle of its faces.
    """
    generator = np.random.default_rng(seed + 1000)
    result = generator.standard_normal((box, box, box), dtype=np.float32)
    if correlation:
        result = ndimage.gaussian_filter(result, correlation, mode="wrap")
        result /= result.std()
    if centre_gain != 1.0:
        z, y, x = grid(box)
        result *= 1 + (centre_gain - 1) * np.exp(-2 * (z**2 + y**2 + x**2) / (box / 2) ** 2)
    return result.astype(np.float32)


def assemble(signal: FloatArray, added: FloatArray, particle: BoolArray, *, contrast: float) -> Synthetic:
    """Add `signal` (peak 1) times `contrast` to the noise; the truth is the noise's own, away from the particle."""
    solvent = ~ndimage.binary_dilation(particle, iterations=3)
    data = (contrast * signal + added).astype(np.float32)
    values = added[solvent].astype(np.float64)
    return Synthetic(data, particle, float(values.mean()), float(values.std()))


def keep_inside(synthetic: Synthetic, region: BoolArray, *, soft_edge: float = 0.0) -> Synthetic:
    """Set the map to zero outside `region`, by a raised cosine over `soft_edge` voxels."""
    weight = region.astype(np.float32)
    if soft_edge:
        distance = ndimage.distance_transform_edt(~region)
        weight = (0.5 * (1 + np.cos(np.pi * np.clip(distance / soft_edge, 0, 1)))).astype(np.float32)
    return Synthetic(synthetic.data * weight, synthetic.particle, synthetic.noise_mean, synthetic.noise_std)
