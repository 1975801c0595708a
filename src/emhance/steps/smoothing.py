"""Running means: for windows of a few voxels the cheapest smoothing there is."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from emhance.maps.volume import FloatArray


def smooth(data: FloatArray, width: float, workers: int | None) -> None:
    """Two running means of an odd width near `width` voxels, in place: nearly a Gaussian of 0.4 of the width, but cheap."""
    size = 2 * round((width - 1) / 2) + 1
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for axis in (0, 1, 2):
            # Lines along one axis know nothing of each other: each thread takes some of them.
            parts = np.array_split(data, 16, axis=1 if axis == 0 else 0)
            list(pool.map(lambda part, axis=axis: _running_means(part, size, axis), parts))


def _running_means(data: FloatArray, size: int, axis: int) -> None:
    # Sums of shifted planes: for windows this small several times faster than filtering line by line.
    if size == 1:
        return
    before = (slice(None),) * axis
    edges = [(size // 2, size // 2) if i == axis else (0, 0) for i in range(3)]
    for _ in range(2):
        padded = np.pad(data, edges, mode="edge")
        shifted = [padded[(*before, slice(k, k + data.shape[axis]))] for k in range(size)]
        np.add(shifted[0], shifted[1], out=data)
        for values in shifted[2:]:
            data += values
        data *= np.float32(1 / size)
