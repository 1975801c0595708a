"""Pictures of maps; the only place that knows matplotlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from emhance.maps.atomic_write import atomic_output
from emhance.maps.volume import FloatArray

AXES = ("z", "y", "x")


def plot_central_slices(panels: dict[str, FloatArray], path: Path, *, voxel_size: float, overwrite: bool = False) -> None:
    """Draw the central slices along z, y and x of maps on one grid, a row each, as a PNG.

    Parameters
    ----------
    panels
        Title and map, shape ``(nz, ny, nx)``.
    path
        The PNG to write; it appears whole or not at all.
    voxel_size
        Å, for the scale bar.
    overwrite
        Whether a file that is already there may be replaced.
    """
    figure = Figure(figsize=(9.0, 3.1 * len(panels) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 3, squeeze=False)
    for row, (title, data) in zip(axes, panels.items(), strict=True):
        low, high = np.percentile(data.ravel()[::3], (2.0, 99.8))
        for axis, ax in enumerate(row):
            plane = np.take(data, data.shape[axis] // 2, axis=axis)
            ax.imshow(plane, cmap="gray", vmin=low, vmax=max(high, low + 1e-9), origin="lower", interpolation="bilinear")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_title(f"{title}, {AXES[axis]} = {data.shape[axis] // 2}", fontsize=9)
        length = 20.0 / voxel_size
        row[0].plot([4, 4 + length], [4, 4], color="white", linewidth=3)
        row[0].text(4 + length / 2, 6, "20 Å", color="white", ha="center", va="bottom", fontsize=8)
    with atomic_output(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
