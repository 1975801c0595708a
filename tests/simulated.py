"""What the fixture `simulated` holds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Simulated:
    """A half-map pair of a small protein at 4 Å, in a box of 64 voxels of 1 Å, and the density it stands for."""

    half1: NDArray[np.float32]
    half2: NDArray[np.float32]
    target: NDArray[np.float32]
    molecule: NDArray[np.bool_]
