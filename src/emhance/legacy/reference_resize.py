"""The reference program's resampling: cubic splines by scikit-image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emhance.errors import MissingExtraError


def resize(data: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Resample to another box as the reference program does: ``skimage.transform.resize``, order 3, anti-aliased.

    Parameters
    ----------
    data
        A map, ``(nz, ny, nx)``; float32 stays float32 and float64 stays float64.
    shape
        The box to resample to, in voxels.

    Returns
    -------
    NDArray
        The resampled map; its values stay inside the range of the input's.

    Raises
    ------
    MissingExtraError
        If scikit-image is not installed.
    """
    try:
        from skimage import transform
    except ImportError as error:
        raise MissingExtraError(
            "The reference arithmetic needs scikit-image; install it with: pip install 'emhance[legacy]'"
        ) from error
    resample: Any = transform.resize
    return np.asarray(resample(data, shape, order=3, mode="reflect", clip=True, preserve_range=False, anti_aliasing=True))
