"""Fourier space: shells, spectra, FSC, and filters that depend on the spatial frequency alone.

Shells have the width ``1 / (max(shape) * voxel_size)`` in 1/Å, and a coefficient at spatial frequency s belongs to shell
``rint(s / width)``. Spectra are the half-complex ones of `scipy.fft.rfftn`; every sum counts the coefficients that such a
spectrum leaves out. Everything runs plane by plane along z, so that no index or weight array is as large as the map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from emhance.maps.volume import FloatArray

Shape = tuple[int, int, int]
Curve = NDArray[np.float64]
Spectrum = NDArray[np.complex64]


def shell_width(shape: Shape, voxel_size: float) -> float:
    """Width of a shell in 1/Å for a box of `shape` voxels of `voxel_size` Å."""
    return 1.0 / (max(shape) * voxel_size)


def number_of_shells(shape: Shape) -> int:
    """Shells from zero frequency up to and including Nyquist."""
    return max(shape) // 2 + 1


def shell_frequencies(shape: Shape, voxel_size: float) -> Curve:
    """Spatial frequency of every shell in 1/Å, shape ``(number_of_shells,)``; the axis of every curve of this module."""
    return np.arange(number_of_shells(shape), dtype=np.float64) * shell_width(shape, voxel_size)


def shell_radii(shape: Shape) -> Iterator[Curve]:
    """Yield, for each z-plane of the half-complex spectrum, s / width of its coefficients, shape ``(ny, nx // 2 + 1)``."""
    longest = max(shape)
    kz, ky = (np.fft.fftfreq(n, 1.0 / longest) for n in shape[:2])
    kx = np.fft.rfftfreq(shape[2], 1.0 / longest)
    in_plane = ky[:, None] ** 2 + kx[None, :] ** 2
    for k in kz:
        yield np.sqrt(in_plane + k * k)


def shell_indices(shape: Shape) -> Iterator[NDArray[np.intp]]:
    """Yield, for each z-plane of the half-complex spectrum, the shell of its coefficients, shape ``(ny, nx // 2 + 1)``."""
    for radius in shell_radii(shape):
        yield np.rint(radius).astype(np.intp)


def shell_counts(shape: Shape) -> Curve:
    """Coefficients of the full spectrum in every shell, shape ``(number_of_shells,)``."""
    weights = np.broadcast_to(_half_weights(shape[2]), (shape[1], shape[2] // 2 + 1))
    return _sum_over_shells(shape, lambda _: weights)


def shell_sums(F: Spectrum, shape: Shape, G: Spectrum | None = None) -> Curve:
    """Sum |F|², or Re(F conj G) if `G` is given, over the coefficients of every shell of the full spectrum.

    Parameters
    ----------
    F, G
        Half-complex spectra of maps of `shape`, shape ``(nz, ny, nx // 2 + 1)``.
    shape
        Box ``(nz, ny, nx)``.

    Returns
    -------
    ndarray
        One sum per shell up to Nyquist, float64, shape ``(number_of_shells,)``.
    """
    weights = _half_weights(shape[2])

    def products(z: int) -> Curve:
        f = F[z]
        g = f if G is None else G[z]
        plane: Curve = (f.real * g.real + f.imag * g.imag) * weights
        return plane

    return _sum_over_shells(shape, products)


def amplitude_profile(data: FloatArray, voxel_size: float, *, workers: int | None = None) -> tuple[Curve, Curve]:
    """Root mean square amplitude of every shell.

    Parameters
    ----------
    data
        Map, shape ``(nz, ny, nx)``.
    voxel_size
        Å.
    workers
        Threads of the Fourier transform; None for one.

    Returns
    -------
    frequency, amplitude
        1/Å, and the amplitude in the map's units times voxels, both of shape ``(number_of_shells,)``.
    """
    shape = _shape_of(data)
    F = scipy.fft.rfftn(data, workers=workers)
    return shell_frequencies(shape, voxel_size), np.sqrt(shell_sums(F, shape) / shell_counts(shape))


def fsc_curve(first: FloatArray, second: FloatArray, voxel_size: float, *, workers: int | None = None) -> tuple[Curve, Curve]:
    """Fourier shell correlation of two maps of one box.

    Parameters
    ----------
    first, second
        Maps, shape ``(nz, ny, nx)``.
    voxel_size
        Å.
    workers
        Threads of the Fourier transforms; None for one.

    Returns
    -------
    frequency, fsc
        1/Å, and the correlation between -1 and 1 (0 where a map has no power), both of shape ``(number_of_shells,)``.

    Notes
    -----
    Harauz and van Heel 1986, Optik 73:146.
    """
    shape = _shape_of(first)
    F, G = scipy.fft.rfftn(first, workers=workers), scipy.fft.rfftn(second, workers=workers)
    return shell_frequencies(shape, voxel_size), fsc_of_spectra(F, G, shape)


def fsc_of_spectra(F: Spectrum, G: Spectrum, shape: Shape) -> Curve:
    """Fourier shell correlation of two half-complex spectra, one value per shell (0 where one has no power)."""
    scale = np.sqrt(shell_sums(F, shape) * shell_sums(G, shape))
    return np.divide(shell_sums(F, shape, G), scale, out=np.zeros_like(scale), where=scale > 0)


def resolution_at(frequency: Curve, fsc: Curve, threshold: float) -> float:
    """Resolution in Å at which an FSC curve first falls below `threshold`, by linear interpolation between shells.

    The first two shells, which hold the mean and the box's own shape, are not looked at. A curve that never falls below
    the threshold gives its last frequency (Nyquist); one that starts below it gives the second shell's.
    """
    for k in range(2, len(fsc)):
        if fsc[k] < threshold:
            drop = fsc[k - 1] - fsc[k]
            t = min(max((fsc[k - 1] - threshold) / drop, 0.0), 1.0) if drop > 0 else 0.0
            return float(1.0 / (frequency[k - 1] + t * (frequency[k] - frequency[k - 1])))
    return float(1.0 / frequency[-1])


def fsc_mean(frequency: Curve, fsc: Curve, resolution: float) -> float:
    """Mean of an FSC curve up to a resolution in Å, shells weighted by their number of coefficients; zero frequency left out."""
    used = (frequency > 0) & (frequency <= 1 / resolution)
    weight = frequency[used] ** 2
    return float(np.sum(fsc[used] * weight) / np.sum(weight))


def apply_radial(F: Spectrum, shape: Shape, curve: Curve) -> None:
    """Multiply a half-complex spectrum in place by a curve given per shell.

    Between the shells the curve is interpolated linearly; beyond its end (the corners past Nyquist) its last value holds.

    Parameters
    ----------
    F
        Half-complex spectrum, shape ``(nz, ny, nx // 2 + 1)``; changed.
    shape
        Box ``(nz, ny, nx)``.
    curve
        One factor per shell from zero frequency on, at least two.
    """
    values = np.append(curve, curve[-1]).astype(np.float32)
    last = len(curve) - 1

    def gain(radius: Curve) -> FloatArray:
        clipped = np.minimum(radius, last).astype(np.float32)
        below = clipped.astype(np.intp)
        low = values[below]
        return np.asarray(low + (values[below + 1] - low) * (clipped - below), dtype=np.float32)

    _multiply(F, shape, gain)


def inverse_transform(F: Spectrum, shape: Shape, *, workers: int | None = None) -> FloatArray:
    """Turn a half-complex spectrum back into a map, overwriting the spectrum.

    Parameters
    ----------
    F
        Spectrum, shape ``(nz, ny, nx // 2 + 1)``; destroyed.
    shape
        Box ``(nz, ny, nx)``.
    workers
        Threads of the Fourier transform; None for one.

    Returns
    -------
    ndarray
        The map, float32, shape `shape`.
    """
    # In two steps, because irfftn would hold a second copy of the spectrum.
    F = scipy.fft.ifftn(F, axes=(0, 1), overwrite_x=True, workers=workers)
    return np.asarray(scipy.fft.irfft(F, shape[2], axis=2, overwrite_x=True, workers=workers), dtype=np.float32)


def apply_b_factor(data: FloatArray, voxel_size: float, b_factor: float, *, workers: int | None = None) -> FloatArray:
    """Multiply the amplitudes by exp(-B s² / 4).

    Parameters
    ----------
    data
        Map, shape ``(nz, ny, nx)``.
    voxel_size
        Å.
    b_factor
        B in Å²: positive blurs, negative sharpens.
    workers
        Threads of the Fourier transforms; None for one.

    Returns
    -------
    ndarray
        The new map, same shape, float32.
    """
    per_shell = -0.25 * b_factor * shell_width(_shape_of(data), voxel_size) ** 2
    return _filtered(data, lambda radius: np.exp(per_shell * radius * radius), workers=workers)


def low_pass(
    data: FloatArray, voxel_size: float, resolution: float, *, edge_shells: int = 3, workers: int | None = None
) -> FloatArray:
    """Remove what is finer than `resolution`, with a cosine edge.

    Parameters
    ----------
    data
        Map, shape ``(nz, ny, nx)``.
    voxel_size, resolution
        Å.
    edge_shells
        Shells over which the gain falls from 1 to 0, centred on the resolution; >= 1.
    workers
        Threads of the Fourier transforms; None for one.

    Returns
    -------
    ndarray
        The new map, same shape, float32.
    """
    start = 1.0 / (resolution * shell_width(_shape_of(data), voxel_size)) - 0.5 * edge_shells
    return _filtered(
        data, lambda radius: 0.5 + 0.5 * np.cos(np.pi * np.clip((radius - start) / edge_shells, 0.0, 1.0)), workers=workers
    )


def guinier_b_factor(frequency: Curve, amplitude: Curve, *, coarsest: float, finest: float) -> float:
    """B-factor in Å² of the line that fits ln(amplitude) against s² between two resolutions.

    Parameters
    ----------
    frequency, amplitude
        Amplitude profile (1/Å, any unit).
    coarsest, finest
        Range of the fit in Å; at least two shells with amplitude must lie in it.

    Returns
    -------
    float
        Positive where the amplitudes fall off as exp(-B s² / 4); nan where fewer than two shells can be fitted.

    Notes
    -----
    Rosenthal and Henderson 2003, J Mol Biol 333:721, doi 10.1016/j.jmb.2003.07.013.
    """
    used = (frequency >= 1.0 / coarsest) & (frequency <= 1.0 / finest) & (amplitude > 0)
    if int(used.sum()) < 2:
        return float("nan")
    slope = np.polyfit(frequency[used] ** 2, np.log(amplitude[used]), 1)[0]
    return float(-4.0 * slope)


def _shape_of(data: FloatArray) -> Shape:
    nz, ny, nx = data.shape
    return (nz, ny, nx)


def _half_weights(nx: int) -> FloatArray:
    """How many coefficients of the full spectrum each column of the half-complex one stands for: 1 or 2."""
    weights = np.full(nx // 2 + 1, 2.0, dtype=np.float32)
    weights[0] = 1.0
    if nx % 2 == 0:
        weights[-1] = 1.0
    return weights


def _sum_over_shells(shape: Shape, plane_of: Callable[[int], NDArray[np.floating]]) -> Curve:
    shells = number_of_shells(shape)
    total = np.zeros(shells)
    for z, index in enumerate(shell_indices(shape)):
        total += np.bincount(index.ravel(), plane_of(z).ravel(), minlength=shells)[:shells]
    return total


def _multiply(F: Spectrum, shape: Shape, gain: Callable[[Curve], NDArray[np.floating]]) -> None:
    for plane, radius in zip(F, shell_radii(shape), strict=True):
        plane *= gain(radius).astype(np.float32, copy=False)


def _filtered(data: FloatArray, gain: Callable[[Curve], Curve], *, workers: int | None) -> FloatArray:
    shape = _shape_of(data)
    F = scipy.fft.rfftn(data, workers=workers)
    _multiply(F, shape, gain)
    return inverse_transform(F, shape, workers=workers)
