"""Transforms of masked maps that never hold a masked copy of the map: it is multiplied plane by plane."""

from __future__ import annotations

import numpy as np
import scipy.fft

from emhance.maps.fourier import Spectrum, shell_indices
from emhance.maps.volume import FloatArray


def masked_transform(data: FloatArray, mask: FloatArray, *, workers: int | None = None) -> Spectrum:
    """Half-complex spectrum of ``data * mask``.

    Parameters
    ----------
    data, mask
        Map and soft mask, shape ``(nz, ny, nx)``.
    workers
        Threads of the Fourier transform; None for one.

    Returns
    -------
    ndarray
        Shape ``(nz, ny, nx // 2 + 1)``, complex64.
    """
    nz, ny, nx = data.shape
    F: Spectrum = np.empty((nz, ny, nx // 2 + 1), dtype=np.complex64)
    for z in range(nz):
        F[z] = scipy.fft.rfft2(data[z] * mask[z], workers=workers)
    transformed: Spectrum = scipy.fft.fft(F, axis=0, overwrite_x=True, workers=workers)
    return transformed


def masked_spectrum(F: Spectrum, mask: FloatArray, *, workers: int | None = None) -> Spectrum:
    """Multiply the map whose half-complex spectrum is `F` by a mask; returns the new spectrum and destroys `F`."""
    F = scipy.fft.ifft(F, axis=0, overwrite_x=True, workers=workers)
    plane_shape = mask.shape[1:]
    for z in range(len(F)):
        F[z] = scipy.fft.rfft2(scipy.fft.irfft2(F[z], plane_shape, workers=workers) * mask[z], workers=workers)
    transformed: Spectrum = scipy.fft.fft(F, axis=0, overwrite_x=True, workers=workers)
    return transformed


def randomise_phases(F: Spectrum, shape: tuple[int, int, int], *, from_shell: int, rng: np.random.Generator) -> None:
    """Give every coefficient from a shell on a random phase, in place; amplitudes stay.

    Parameters
    ----------
    F
        Half-complex spectrum, shape ``(nz, ny, nx // 2 + 1)``; changed.
    shape
        Box ``(nz, ny, nx)``.
    from_shell
        First shell whose phases are lost.
    rng
        The only source of randomness.

    Notes
    -----
    Coefficients of the self-conjugate planes are given independent phases; taking the map's real part halves their
    weight, which concerns a share of 2 / n of the coefficients and no correlation between two maps.
    """
    for plane, shell in zip(F, shell_indices(shape), strict=True):
        outer = shell >= from_shell
        angle = rng.uniform(0, 2 * np.pi, size=int(np.count_nonzero(outer))).astype(np.float32)
        plane[outer] = np.abs(plane[outer]) * np.exp(1j * angle)
