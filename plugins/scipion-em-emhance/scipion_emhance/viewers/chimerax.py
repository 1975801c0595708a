"""The script with which ChimeraX shows the maps of a run. Nothing of Scipion is needed."""

import numpy as np

INPUT_COLOR = "#b0b0b080"
"""Half transparent grey, so that the enhanced map can be seen inside it."""

OUTPUT_COLOR = "#4a90d9ff"

SURFACE_SHARE = 0.3
"""The enhanced map's solvent is close to zero, so a surface at this share of its high density runs around the particle."""

HIGH_DENSITY = 99.9
"""Percentile that stands for the height of the density; the maximum itself can be a single voxel."""


def output_level(data):
    """A contour level for the enhanced map, in its own units."""
    return SURFACE_SHARE * float(np.percentile(data, HIGH_DENSITY))


def enclosed_fraction(data, level):
    """Fraction of the voxels above a level."""
    return float(np.mean(data > level))


def level_enclosing(data, fraction):
    """The level above which this fraction of the voxels lies, so that two maps are compared at surfaces of the same volume."""
    return float(np.quantile(data, 1.0 - fraction))


class MapScene:
    """One map in ChimeraX.

    Parameters
    ----------
    path
        Absolute path of the file.
    name
        How ChimeraX calls it.
    voxel_size
        Å.
    origin
        Position of the first voxel in Å, (x, y, z).
    level
        Contour level in the map's units.
    color
        As ChimeraX reads it.
    shown
        Whether it can be seen at once.
    """

    def __init__(self, path, name, voxel_size, origin, level, color, shown=True):
        self.path, self.name, self.voxel_size, self.origin = path, name, voxel_size, origin
        self.level, self.color, self.shown = level, color, shown

    def commands(self, number):
        """ChimeraX's commands that open the map as model `number`."""
        origin = ",".join(f"{shift:.4f}" for shift in self.origin)
        return [
            f'open "{self.path}"',
            f'rename #{number} "{self.name}"',
            f"volume #{number} style surface step 1 voxelSize {self.voxel_size:.6f} origin {origin}",
            f"volume #{number} level {self.level:.6g} color {self.color}",
            *([] if self.shown else [f"hide #{number} models"]),
        ]


def script(folder, axes, scenes):
    """A whole ChimeraX script: axes first, then the maps in the order given.

    Parameters
    ----------
    folder
        Where ChimeraX shall work.
    axes
        Absolute path of a .bild file with the axes.
    scenes
        The maps, as `MapScene`.
    """
    lines = [f'cd "{folder}"', "set bgColor white", f'open "{axes}"', "cofr 0,0,0"]
    for number, scene in enumerate(scenes, start=2):
        lines += scene.commands(number)
    return "\n".join([*lines, "view", "lighting soft"]) + "\n"
