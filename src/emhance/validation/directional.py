"""Resolution by direction: FSC within cones, which shows preferred orientation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emhance.maps.fourier import Curve, Shape, Spectrum, number_of_shells, resolution_at, shell_frequencies, shell_indices

CONE = 20.0
"""Half angle of a cone in degrees."""

DIRECTIONS = 60
"""Cones, spread evenly over the half sphere."""

_RINGS, _SECTORS = 24, 48  # cells of equal area over which the coefficients are summed first


@dataclass(frozen=True, eq=False)
class DirectionalFsc:
    """FSC of the half maps in many directions.

    Parameters
    ----------
    frequency
        1/Å, shape ``(n,)``.
    directions
        Unit vectors of the cones' axes, zyx, shape ``(m, 3)``.
    fsc
        Correlation per direction and shell, shape ``(m, n)``.
    resolution
        Å at the threshold, per direction, shape ``(m,)``.
    threshold
        0.143 for half maps.
    """

    frequency: Curve
    directions: Curve
    fsc: Curve
    resolution: Curve
    threshold: float


def directional_fsc(
    F: Spectrum, G: Spectrum, shape: Shape, *, voxel_size: float, threshold: float = 0.143, cone: float = CONE
) -> DirectionalFsc:
    """Conical FSC of two half maps.

    Parameters
    ----------
    F, G
        Half-complex spectra of the (masked) half maps, shape ``(nz, ny, nx // 2 + 1)``.
    shape
        Box ``(nz, ny, nx)``.
    voxel_size
        Å.
    threshold
        FSC at which the resolution is read off.
    cone
        Half angle in degrees. Coefficients are first summed over 1152 cells of equal area, so that a cone's rim is
        accurate to a few degrees.

    Returns
    -------
    DirectionalFsc

    Notes
    -----
    Conical FSC: Diebolder et al. 2015, J Microsc 259:59; Tan et al. 2017, Nat Methods 14:793, doi 10.1038/nmeth.4347.
    """
    cells = _cell_sums(F, G, shape)
    directions = _half_sphere(DIRECTIONS)
    near = np.abs(directions @ _cell_centres().T) >= np.cos(np.deg2rad(cone))
    cross, power_f, power_g = (near.astype(np.float64) @ sums for sums in cells)
    scale = np.sqrt(power_f * power_g)
    fsc = np.divide(cross, scale, out=np.zeros_like(scale), where=scale > 0)
    frequency = shell_frequencies(shape, voxel_size)
    # The innermost shells have a handful of coefficients in a cone and say nothing of the direction.
    resolution = np.array([resolution_at(frequency[4:], curve[4:], threshold) for curve in fsc])
    return DirectionalFsc(frequency=frequency, directions=directions, fsc=fsc, resolution=resolution, threshold=threshold)


def _cell_sums(F: Spectrum, G: Spectrum, shape: Shape) -> tuple[Curve, Curve, Curve]:
    """Sum Re(F conj G), |F|² and |G|², shape ``(cells, shells)``, over the half space x >= 0, which is enough."""
    shells, cells = number_of_shells(shape), _RINGS * _SECTORS
    sums = tuple(np.zeros(cells * shells) for _ in range(3))
    longest = max(shape)
    kz, ky = (np.fft.fftfreq(n, 1.0 / longest) for n in shape[:2])
    kx = np.fft.rfftfreq(shape[2], 1.0 / longest)
    for z, shell in enumerate(shell_indices(shape)):
        used = (shell > 0) & (shell < shells)
        y, x = np.nonzero(used)
        radius = np.sqrt(kz[z] ** 2 + ky[y] ** 2 + kx[x] ** 2)
        ring = np.minimum((kx[x] / radius * _RINGS).astype(np.intp), _RINGS - 1)
        sector = ((np.arctan2(ky[y], kz[z]) / (2 * np.pi) + 1.0) * _SECTORS).astype(np.intp) % _SECTORS
        index = (ring * _SECTORS + sector) * shells + shell[y, x]
        f, g = F[z][y, x], G[z][y, x]
        for total, values in zip(
            sums, (f.real * g.real + f.imag * g.imag, np.square(np.abs(f)), np.square(np.abs(g))), strict=True
        ):
            total += np.bincount(index, values, minlength=cells * shells)
    cross, power_f, power_g = (total.reshape(cells, shells) for total in sums)
    return cross, power_f, power_g


def _cell_centres() -> NDArray[np.float64]:
    """Return unit vectors, zyx, of the cells: rings of equal height along x, sectors around it."""
    along = np.repeat((np.arange(_RINGS) + 0.5) / _RINGS, _SECTORS)
    angle = np.tile((np.arange(_SECTORS) + 0.5) / _SECTORS * 2 * np.pi, _RINGS)
    across = np.sqrt(1 - along**2)
    return np.stack([across * np.cos(angle), across * np.sin(angle), along], axis=1)


def _half_sphere(number: int) -> NDArray[np.float64]:
    """Directions spread evenly over the half sphere x > 0 (a Fibonacci lattice), zyx."""
    k = np.arange(number)
    along = (k + 0.5) / number
    angle = k * np.pi * (3 - np.sqrt(5))
    across = np.sqrt(1 - along**2)
    return np.stack([across * np.cos(angle), across * np.sin(angle), along], axis=1)
