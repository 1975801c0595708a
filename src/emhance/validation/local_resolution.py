"""Local resolution: FSC of the half maps in a small window that moves through the molecule."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from emhance.maps.fourier import Curve
from emhance.maps.volume import FloatArray

WINDOW = 7.0
"""Diameter of the window in units of the resolution of the whole map."""

SMALLEST_WINDOW = 18
"""Voxels; below that its shells are too few to interpolate."""

THRESHOLD = 0.5
"""Local FSC at which the resolution is read off; a window has too few coefficients to tell 0.143 from noise."""

MOST_POSITIONS = 12000
"""Positions at most; the step between them grows to fit."""

_BATCH_BYTES = 2**21


def local_resolution(
    half1: FloatArray,
    half2: FloatArray,
    mask: FloatArray,
    *,
    voxel_size: float,
    resolution: float,
    threshold: float = THRESHOLD,
    workers: int | None = None,
) -> FloatArray:
    """Local resolution of a half-map pair, inside a mask.

    Parameters
    ----------
    half1, half2
        Half maps, shape ``(nz, ny, nx)``.
    mask
        Soft mask, same shape; positions with a value over 0.5 are looked at.
    voxel_size
        Å.
    resolution
        Resolution of the whole map in Å; it decides the window.
    threshold
        Local FSC at which the resolution is read off.
    workers
        Threads of the Fourier transforms; None for one.

    Returns
    -------
    ndarray
        Å, interpolated linearly between the positions, same shape, float32; the coarsest value found outside the mask.

    Notes
    -----
    Cardone et al. 2013, J Struct Biol 184:226, doi 10.1016/j.jsb.2013.08.002.
    """
    nz, ny, nx = half1.shape
    edge = window_edge((nz, ny, nx), voxel_size=voxel_size, resolution=resolution)
    step = _step(mask, edge)
    grids = [np.arange(min(step // 2, n - 1), n, step) for n in (nz, ny, nx)]
    wanted = mask[np.ix_(*grids)] > 0.5
    places = np.argwhere(wanted)
    centres = np.stack([grid[places[:, axis]] for axis, grid in enumerate(grids)], axis=1)
    values = np.full(wanted.shape, np.nan)
    found = np.concatenate(
        [
            _local_resolutions(half1, half2, batch, edge, voxel_size=voxel_size, threshold=threshold, workers=workers)
            for batch in _batches(centres, edge)
        ]
        or [np.zeros(0)]
    )
    values[tuple(places.T)] = found
    return _spread(values, wanted, mask, grids)


def window_edge(shape: tuple[int, int, int], *, voxel_size: float, resolution: float) -> int:
    """Edge of the window in voxels: even, fast to transform, not larger than the box."""
    edge = max(WINDOW * resolution / voxel_size, SMALLEST_WINDOW)
    return int(min(scipy.fft.next_fast_len(int(np.ceil(edge / 2)), real=True) * 2, min(shape) // 2 * 2))


def _step(mask: FloatArray, edge: int) -> int:
    inside = float(np.count_nonzero(mask > 0.5))
    fitting = int(np.ceil((inside / MOST_POSITIONS) ** (1 / 3)))
    return max(fitting, edge // 8, 2)


def _batches(centres: NDArray[np.intp], edge: int) -> Iterator[NDArray[np.intp]]:
    size = max(1, _BATCH_BYTES // (4 * edge**3))
    for first in range(0, len(centres), size):
        yield centres[first : first + size]


def _local_resolutions(
    half1: FloatArray,
    half2: FloatArray,
    centres: NDArray[np.intp],
    edge: int,
    *,
    voxel_size: float,
    threshold: float,
    workers: int | None,
) -> Curve:
    """Resolution in Å at each of some centres, shape ``(len(centres),)``."""
    taper = _window(edge)
    F, G = (
        scipy.fft.rfftn(np.stack([_cut(half, centre, edge) for centre in centres]) * taper, axes=(1, 2, 3), workers=workers)
        for half in (half1, half2)
    )
    shell, weight = _window_shells(edge)
    n = edge // 2 + 1
    order = np.argsort(shell, kind="stable")
    # Sums over shells are sums over runs of the coefficients sorted by shell.
    starts = np.searchsorted(shell[order], np.arange(n))
    stop = int(np.searchsorted(shell[order], n))
    order, by_shell = order[:stop], weight[order[:stop]]

    def sums(values: NDArray[np.float32]) -> Curve:
        flat = values.reshape(len(centres), -1)[:, order] * by_shell
        return np.asarray(np.add.reduceat(flat, starts, axis=1), dtype=np.float64)

    cross = sums(F.real * G.real + F.imag * G.imag)
    scale = np.sqrt(sums(F.real**2 + F.imag**2) * sums(G.real**2 + G.imag**2))
    fsc = np.divide(cross, scale, out=np.zeros_like(scale), where=scale > 0)
    return _crossings(fsc, edge * voxel_size, threshold)


def _crossings(fsc: Curve, length: float, threshold: float) -> Curve:
    """Å at which each curve, shape ``(m, shells)``, first falls below the threshold; `length` is the window's, Å."""
    # The inner shells of a window hold few coefficients: smoothed, and twice in a row, noise alone hardly crosses.
    fsc = ndimage.convolve1d(fsc, (0.25, 0.5, 0.25), axis=1, mode="nearest")
    low = fsc[:, 1:] < threshold
    low[:, :-1] &= low[:, 1:]
    first = np.where(low.any(axis=1), low.argmax(axis=1) + 1, fsc.shape[1] - 1)
    row = np.arange(len(fsc))
    before, after = fsc[row, first - 1], fsc[row, first]
    drop = before - after
    t = np.where(low.any(axis=1), np.clip((before - threshold) / np.where(drop > 0, drop, 1.0), 0.0, 1.0), 1.0)
    return np.asarray(length / np.maximum(first - 1 + t, 0.5))


def _cut(data: FloatArray, centre: NDArray[np.intp], edge: int) -> FloatArray:
    """Cut the window around a voxel out; at the box's faces it is moved inwards."""
    start = [min(max(int(c) - edge // 2, 0), n - edge) for c, n in zip(centre, data.shape, strict=True)]
    z, y, x = (slice(s, s + edge) for s in start)
    return data[z, y, x]


def _window(edge: int) -> FloatArray:
    """Make a sphere with a cosine fall over its whole radius (Hann)."""
    axis = (np.arange(edge) - (edge - 1) / 2) / (edge / 2)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.minimum(radius, 1.0)), dtype=np.float32)


def _window_shells(edge: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Shell of every coefficient of a window's half-complex spectrum, and how many of the full one it stands for."""
    full, half = np.fft.fftfreq(edge, 1 / edge), np.fft.rfftfreq(edge, 1 / edge)
    radius = np.sqrt(full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2)
    weight = np.full(radius.shape, 2.0, dtype=np.float32)
    weight[..., 0] = weight[..., -1] = 1.0
    return np.rint(radius).astype(np.intp).ravel(), weight.ravel()


def _spread(values: Curve, wanted: NDArray[np.bool_], mask: FloatArray, grids: list[NDArray[np.intp]]) -> FloatArray:
    """From the coarse grid of positions to all voxels."""
    if not wanted.any():
        return np.full(mask.shape, np.nan, dtype=np.float32)
    # Positions outside take the value of the nearest one inside, so that the interpolation at the rim is one of real values.
    nearest = ndimage.distance_transform_edt(~wanted, return_distances=False, return_indices=True)
    filled = values[tuple(nearest)].astype(np.float32)
    coarsest = np.float32(np.nanmax(values))
    at = [
        np.clip((np.arange(n) - grid[0]) / (grid[1] - grid[0] if len(grid) > 1 else 1), 0, len(grid) - 1)
        for n, grid in zip(mask.shape, grids, strict=True)
    ]
    in_plane = np.meshgrid(at[1], at[2], indexing="ij")
    out = np.empty(mask.shape, dtype=np.float32)
    for z, height in enumerate(at[0]):
        lower = min(int(height), len(filled) - 1)
        upper = min(lower + 1, len(filled) - 1)
        plane = filled[lower] + np.float32(height - lower) * (filled[upper] - filled[lower])
        out[z] = ndimage.map_coordinates(plane, in_plane, order=1, mode="nearest")
        out[z][mask[z] <= 0.5] = coarsest
    return out
