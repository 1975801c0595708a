"""Electron-scattering density of atoms, in Fourier space, on CPU or GPU.

Every atom is a sum of Gaussians (electron scattering factors of the International Tables C 4.3.2.2, from gemmi) blurred by
its B-factor. The Gaussians' total B values are spread over a few fixed ones, each of which needs one or two FFTs, so the
cost hardly depends on the number of atoms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import gemmi
import torch
from torch import Tensor

from emhance.training.grids import frequencies, gaussian

LEVEL_RATIO = 1.5
"""Ratio of neighbouring B values among which a Gaussian is interpolated."""

LEAST_B = 20.0
"""Smallest total B of a Gaussian that the grid resolves, in units of voxel size²; smaller ones are raised to it."""

ONE_GRID, HALF_GRID = 150.0, 600.0
"""From these total B values on, in units of voxel size², one grid instead of two, and one of twice the voxel size, are enough."""


@lru_cache(maxsize=16)
def _undo_spline(n: int, interlaced: bool, device: torch.device) -> Tensor:
    """The filter that best undoes the spreading by a cubic B-spline, shape ``(n, n, n // 2 + 1)``.

    Dividing by the spline's own transform W = sinc⁴ would amplify its aliases near Nyquist; this is the optimal influence
    function of particle-mesh methods (Hockney & Eastwood 1988, Computer Simulation Using Particles, ch. 8), W over the sum of
    W² over the images, in the least-squares sense over all positions. Two interlaced grids have only the images whose
    shifts along the three axes, whole multiples of the sampling frequency, sum to an even number.
    """

    def product(of: Callable[[Tensor], Tensor]) -> Tensor:
        full, half = of(torch.fft.fftfreq(n, device=device)), of(torch.fft.rfftfreq(n, device=device))
        return full[:, None, None] * full[None, :, None] * half[None, None, :]

    def squares(sign: int) -> Tensor:
        def along(frequency: Tensor) -> Tensor:
            images = torch.stack([sign ** abs(k) * torch.sinc(frequency + k) ** 8 for k in range(-2, 3)])
            return images.sum(0)

        return product(along)

    present = 0.5 * (squares(1) + squares(-1)) if interlaced else squares(1)
    return product(lambda frequency: torch.sinc(frequency) ** 4) / present


@lru_cache(maxsize=1)
def _scattering_factors() -> Tensor:
    """Amplitudes (Å) and widths (Å²) of the Gaussians of every element, shape ``(119, n, 2)``."""
    table = []
    for number in range(119):
        coefficients = gemmi.Element(number).c4322
        values = list(zip(coefficients.a, coefficients.b, strict=True)) if coefficients is not None else []
        table.append(values)
    longest = max(len(values) for values in table)
    carbon = table[6]
    for values in table:
        if not any(a for a, _ in values):
            values[:] = carbon
        values.extend([(0.0, 0.0)] * (longest - len(values)))
    return torch.tensor(table, dtype=torch.float32)


def spread(positions: Tensor, weights: Tensor, n: int) -> Tensor:
    """Spread weighted points over the 4×4×4 voxels around them by a cubic B-spline, in a periodic box.

    Parameters
    ----------
    positions
        In voxels, zyx, shape ``(m, 3)``.
    weights
        Shape ``(m,)``.
    n
        Edge of the box in voxels.

    Returns
    -------
    Tensor
        Shape ``(n, n, n)``; its sum is that of the weights.
    """
    corner = torch.floor(positions)
    t = positions - corner
    u = 1 - t
    shares = torch.stack([u**3, 3 * t**3 - 6 * t**2 + 4, 3 * u**3 - 6 * u**2 + 4, t**3]) / 6
    index = torch.stack([(corner.long() + step) % n for step in (-1, 0, 1, 2)])
    out = weights.new_zeros(n * n * n)
    for i in range(4):
        for j in range(4):
            row = (index[i, :, 0] * n + index[j, :, 1]) * n
            share = weights * shares[i, :, 0] * shares[j, :, 1]
            for k in range(4):
                out.index_add_(0, row + index[k, :, 2], share * shares[k, :, 2])
    return out.view(n, n, n)


def density_transform(
    positions: Tensor, elements: Tensor, b_factors: Tensor, occupancies: Tensor, *, n: int, voxel_size: float
) -> Tensor:
    """Fourier transform of the electron-scattering density of atoms in a periodic cubic box.

    Parameters
    ----------
    positions
        In Å from the first voxel, zyx, shape ``(m, 3)``; positions outside the box are wrapped into it.
    elements
        Atomic numbers, shape ``(m,)``, int64.
    b_factors
        In Å², shape ``(m,)``. Gaussians whose total B is below ``LEAST_B · voxel_size²`` are given that one.
    occupancies
        Shape ``(m,)``.
    n
        Edge of the box in voxels.
    voxel_size
        In Å.

    Returns
    -------
    Tensor
        ``torch.fft.rfftn`` of the density (scattering factor per voxel volume, Å⁻²), shape ``(n, n, n // 2 + 1)``, complex64.

    Notes
    -----
    exp(-B s²/4) is interpolated quadratically in log B among values `LEVEL_RATIO` apart. Sharp Gaussians are spread on two grids
    half a voxel apart along every axis; in their mean the nearest aliases cancel (interlacing: Hockney & Eastwood 1988, ch. 7;
    Sefusatti et al. 2016, doi 10.1093/mnras/stw1229). With this the density of an atom is within 1 % of the
    peak of its closed form (up to Nyquist) for every B of at least ``LEAST_B · voxel_size²``.
    """
    device = positions.device
    factors = _scattering_factors().to(device)[elements]
    amplitude = factors[..., 0] * occupancies[:, None]
    total = (factors[..., 1] + b_factors[:, None]).clamp(min=LEAST_B * voxel_size**2)
    levels, weights = _weights_of_levels(amplitude, total)
    voxels = positions / voxel_size
    first = torch.zeros((n, n, n // 2 + 1), dtype=torch.complex64, device=device)
    second, plain, coarse = torch.zeros_like(first), torch.zeros_like(first), None
    small = n // 2
    for level, b_factor in enumerate(levels):
        chosen = weights[:, level].nonzero()[:, 0]
        if not len(chosen):
            continue
        places, share = voxels[chosen], weights[chosen, level]
        if b_factor >= HALF_GRID * voxel_size**2 and n % 4 == 0:
            blur = gaussian(b_factor, small, 2 * voxel_size, device)
            part = torch.fft.rfftn(spread(0.5 * places, share, small)) * blur
            coarse = part if coarse is None else coarse + part
            continue
        blur = gaussian(b_factor, n, voxel_size, device)
        if b_factor >= ONE_GRID * voxel_size**2:
            plain += torch.fft.rfftn(spread(places, share, n)) * blur
        else:
            first += torch.fft.rfftn(spread(places, share, n)) * blur
            second += torch.fft.rfftn(spread(places + 0.5, share, n)) * blur
    z, y, x = (torch.exp(1j * math.pi * axis) for axis in frequencies(n, 1.0, device))
    transform = 0.5 * (first + second * (z * y * x)) * _undo_spline(n, True, device) + plain * _undo_spline(n, False, device)
    if coarse is not None:
        coarse = coarse * _undo_spline(small, False, device)
        edge = small // 2  # the coarse grid's Nyquist, where nothing is left
        rows = torch.cat([torch.arange(edge), torch.arange(n - edge, n)]).to(device)
        transform[rows[:, None], rows[None, :], :edge] += coarse[:, :, :edge]
    return transform / voxel_size**3


def _weights_of_levels(amplitude: Tensor, total: Tensor) -> tuple[list[float], Tensor]:
    """B values, `LEVEL_RATIO` or less apart, and every atom's share of each: the sum of its Gaussians' amplitudes there.

    Parameters
    ----------
    amplitude, total
        Of the atoms' Gaussians, total B in Å², shape ``(m, k)``.
    """
    present = amplitude != 0
    used = total[present]
    lowest, highest = float(used.min()), float(used.max())
    steps = max(2, math.ceil(math.log(highest / lowest) / math.log(LEVEL_RATIO)))
    levels = lowest * torch.logspace(0, 1, steps + 1, base=max(highest / lowest, 1.01), device=total.device)
    log_levels, log_total = torch.log(levels), torch.log(total)
    middle = torch.bucketize(log_total, 0.5 * (log_levels[:-1] + log_levels[1:])).clamp(1, steps - 1)
    weights = torch.zeros((len(total), steps + 1), device=total.device)
    for offset in (-1, 0, 1):  # Lagrange's polynomial through the nearest level and its neighbours
        share = torch.where(present, amplitude, 0.0)
        for other in (-1, 0, 1):
            if other != offset:
                gap = log_levels[middle + offset] - log_levels[middle + other]
                share = share * (log_total - log_levels[middle + other]) / gap
        weights.scatter_add_(1, middle + offset, share)
    return levels.tolist(), weights
