"""Fourier grids of cubic boxes in torch: frequencies, shells, blurring."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=8)
def frequencies(n: int, voxel_size: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Spatial frequencies (1/Å) along z, y and x of a cubic rfft, shaped to broadcast."""
    full = torch.fft.fftfreq(n, voxel_size, device=device)
    half = torch.fft.rfftfreq(n, voxel_size, device=device)
    return full[:, None, None], full[None, :, None], half[None, None, :]


@lru_cache(maxsize=8)
def frequencies_squared(n: int, voxel_size: float, device: torch.device) -> Tensor:
    """Squared spatial frequency (1/Å²) of every coefficient of a cubic rfft, shape ``(n, n, n // 2 + 1)``."""
    z, y, x = frequencies(n, voxel_size, device)
    s2: Tensor = z**2 + y**2 + x**2
    return s2


@lru_cache(maxsize=8)
def shell_radii(n: int, device: torch.device) -> Tensor:
    """Radius of every coefficient in shells of width ``1 / (n · voxel size)``, shape ``(n, n, n // 2 + 1)``."""
    return torch.sqrt(frequencies_squared(n, 1.0 / n, device))


@lru_cache(maxsize=8)
def _shells(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Flat shell numbers, those beyond Nyquist together in one more, and how often each x coefficient stands in the whole."""
    number = torch.round(shell_radii(n, device)).clamp(max=n // 2 + 1).int().flatten()
    times = torch.full((n // 2 + 1,), 2.0, device=device, dtype=torch.float64)
    times[0] = times[-1] = 1.0
    return number, times


def shell_sums(values: Tensor) -> Tensor:
    """Sums of a real quantity, given for every coefficient of a cubic rfft, over the shells from 0 to Nyquist.

    Parameters
    ----------
    values
        Shape ``(n, n, n // 2 + 1)``.

    Returns
    -------
    Tensor
        Shape ``(n // 2 + 1,)``, float64. Coefficients that the half-complex form leaves out are counted.
    """
    n = len(values)
    number, times = _shells(n, values.device)
    return torch.bincount(number, weights=(values * times).flatten(), minlength=n // 2 + 2)[: n // 2 + 1]


def along_shells(curve: Tensor) -> Tensor:
    """A curve given per shell, from 0 to Nyquist, at every coefficient: linear between shells, the last value beyond."""
    n = 2 * (len(curve) - 1)
    radius = shell_radii(n, curve.device).clamp(max=n // 2)
    below = radius.long().clamp(max=n // 2 - 1)
    low, high = curve[below], curve[below + 1]
    return low + (high - low) * (radius - below)


def to_map(transform: Tensor) -> Tensor:
    """Inverse of ``torch.fft.rfftn`` for a cubic box of even edge."""
    n = len(transform)
    values: Tensor = torch.fft.irfftn(transform, s=(n, n, n))
    return values


def gaussian(b_factor: float, n: int, voxel_size: float, device: torch.device) -> Tensor:
    """The filter ``exp(-B s²/4)``, shape ``(n, n, n // 2 + 1)``; B in Å²."""
    z, y, x = (torch.exp(-0.25 * b_factor * axis**2) for axis in frequencies(n, voxel_size, device))
    return z * y * x


def blurred(values: Tensor, b_factor: float, voxel_size: float) -> Tensor:
    """A cubic map blurred by a B-factor in Å²."""
    return to_map(torch.fft.rfftn(values) * gaussian(b_factor, len(values), voxel_size, values.device))


def offsets(n: int, centre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distances in voxels from a point (zyx, voxels) along z, y and x, shaped to broadcast."""
    axis = torch.arange(n, device=centre.device, dtype=torch.float32)
    z, y, x = (axis - value for value in centre)
    return z[:, None, None], y[None, :, None], x[None, None, :]
