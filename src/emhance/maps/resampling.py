"""Changing the voxel size in Fourier space, and coming back to the exact box.

A box of n voxels of size v is resampled to n' voxels of size ``n v / n'``: the length stays, so the change is an exact one
of a periodic map, voxel 0 keeps its place, and nothing shifts. n' is an integer, so the target voxel size is met within
1 % only; from 50 voxels on there is always such an n', and among those allowed the one nearest to the target with a fast
Fourier transform is taken. A smaller box that has none is first repeated, two or more times along the axis, and one copy
is kept on the way back. Repeating a periodic map is exact as well; padding it with anything else would not be, because
the padded map is no longer band-limited and would not come back as it was.

Periodic means that opposite faces are neighbours: density cut off at a face rings near it and, weakly, near the opposite
one, within a few voxels. Maps that end in solvent, as reconstructions do, have nothing there to ring.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import scipy.fft

from emhance.maps.volume import FloatArray

VOXEL_SIZE_TOLERANCE = 0.01
"""Largest relative difference between the target voxel size and the one used."""

_SLAB_BYTES = 8 * 2**20

Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class ResamplingPlan:
    """How to bring one box to another voxel size and back.

    Parameters
    ----------
    shape
        The box that comes in and goes out, ``(nz, ny, nx)``.
    repeats
        How often the box is repeated along each axis first; 1 but for small boxes.
    new_shape
        The box at the new voxel size, all repeats included.
    voxel_size
        The new voxel size in Å, mean of the axes; each lies within 1 % of the target.
    """

    shape: Shape
    repeats: Shape
    new_shape: Shape
    voxel_size: float

    @property
    def is_identity(self) -> bool:
        """Whether nothing is to be done."""
        return self.shape == self.new_shape

    def forward(self, data: FloatArray, *, workers: int | None = None) -> FloatArray:
        """Bring a map of `shape` to `new_shape`; an identity returns `data` itself."""
        if self.is_identity:
            return data
        repeated = data if self.repeats == (1, 1, 1) else np.tile(data, self.repeats)
        return fourier_resample(repeated, self.new_shape, workers=workers)

    def backward(self, data: FloatArray, *, workers: int | None = None) -> FloatArray:
        """Bring a map of `new_shape` back to exactly `shape`; an identity returns `data` itself."""
        if self.is_identity:
            return data
        nz, ny, nx = self.shape
        rz, ry, rx = self.repeats
        repeated = fourier_resample(data, (nz * rz, ny * ry, nx * rx), workers=workers)
        return np.ascontiguousarray(repeated[:nz, :ny, :nx])


def plan_resampling(shape: Shape, voxel_size: float, target: float) -> ResamplingPlan:
    """Plan the way from a box of `shape` voxels of `voxel_size` Å to voxels of about `target` Å.

    A voxel size within 1 % of the target is left as it is.

    Parameters
    ----------
    shape
        Box ``(nz, ny, nx)``.
    voxel_size, target
        Å, > 0.

    Returns
    -------
    ResamplingPlan
        Every axis of its new box has voxels within 1 % of the target.
    """
    if _is_close(voxel_size, target):
        return ResamplingPlan(shape=shape, repeats=(1, 1, 1), new_shape=shape, voxel_size=voxel_size)
    (rz, nz), (ry, ny), (rx, nx) = (_repeats_and_length(n, voxel_size / target) for n in shape)
    mean = voxel_size * (shape[0] * rz / nz + shape[1] * ry / ny + shape[2] * rx / nx) / 3.0
    return ResamplingPlan(shape=shape, repeats=(rz, ry, rx), new_shape=(nz, ny, nx), voxel_size=mean)


def fourier_resample(data: FloatArray, new_shape: Shape, *, workers: int | None = None) -> FloatArray:
    """Resample a periodic map to another number of voxels by cutting or padding its Fourier transform.

    The values keep their scale, and the first voxel its place. The axes are done one after another, in slabs: the
    transforms of a box separate, and so the memory needed beside input and output is at most one map between their sizes.

    Parameters
    ----------
    data
        Map, shape ``(nz, ny, nx)``.
    new_shape
        The box wanted.
    workers
        Threads of the Fourier transforms; None for one.

    Returns
    -------
    ndarray
        Shape `new_shape`, float32.
    """
    # Axes that shrink first and those that grow last keep what lies between small.
    for axis in sorted(range(3), key=lambda i: new_shape[i] / data.shape[i]):
        if new_shape[axis] != data.shape[axis]:
            data = _resample_axis(data, axis, new_shape[axis], workers)
    return np.ascontiguousarray(data, dtype=np.float32)


def _resample_axis(data: FloatArray, axis: int, length: int, workers: int | None) -> FloatArray:
    shape = list(data.shape)
    shape[axis] = length
    out = np.empty(shape, dtype=np.float32)
    # Slabs run along z, or along y where z itself is resampled.
    along = 0 if axis else 1
    plane_bytes = 4 * max(data.size, out.size) // data.shape[along]
    step = max(1, _SLAB_BYTES // plane_bytes)
    for first in range(0, data.shape[along], step):
        part = (slice(None),) * along + (slice(first, first + step),)
        out[part] = _resample_lines(data[part], axis, length, workers)
    return out


def _resample_lines(data: FloatArray, axis: int, length: int, workers: int | None) -> FloatArray:
    old = data.shape[axis]
    common = min(old, length)
    # Both transforms normalised "forward": the coefficients then do not depend on the number of voxels, the values stay.
    F = np.moveaxis(scipy.fft.rfft(data, axis=axis, norm="forward", workers=workers), axis, 0)[: common // 2 + 1]
    if common % 2 == 0:
        # The Nyquist term of the shorter side stands for both +k and -k: joined on the way down, shared on the way up.
        F[-1] *= 2.0 if length < old else 0.5
    lines = scipy.fft.irfft(np.moveaxis(F, 0, axis), length, axis=axis, norm="forward", workers=workers)
    return np.asarray(lines, dtype=np.float32)


def _is_close(voxel_size: float, target: float) -> bool:
    return math.isclose(voxel_size / target, 1.0, abs_tol=VOXEL_SIZE_TOLERANCE * (1 + 1e-9))


def _repeats_and_length(n: int, factor: float) -> tuple[int, int]:
    """Choose repeats and new length of an axis of `n` voxels, each `factor` times as large as the target."""
    for repeats in itertools.count(1):
        ideal = repeats * n * factor
        shortest = max(1, math.ceil(ideal / (1 + VOXEL_SIZE_TOLERANCE)))
        longest = math.floor(ideal / (1 - VOXEL_SIZE_TOLERANCE))
        allowed = range(shortest, longest + 1)
        if allowed:
            break
    fast = [m for m in allowed if scipy.fft.next_fast_len(m) == m]
    return repeats, min(fast or allowed, key=lambda m: abs(m - ideal))
