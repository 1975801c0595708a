"""Small simulated maps, made by the emhance program itself."""

import functools
import os
import subprocess
import tempfile

import mrcfile
import numpy as np
from pwem import Config, Domain
from pwem.emlib.image import ImageHandler

from scipion_emhance import Plugin

BOX = 64


class SimulatedMaps:
    """Paths of two half maps, their mean as .mrc and .spi, and a mask; boxes of 64 voxels of 1 Å."""

    def __init__(self, folder):
        subprocess.run(
            f"{Plugin.getProgram()} demo --quiet --gpus none --box {BOX} --output '{folder}'",
            shell=True,
            check=True,
            env=Plugin.getEnviron(),
        )
        self.folder = folder
        self.half1, self.half2 = self._path("half1.mrc"), self._path("half2.mrc")
        mean = 0.5 * (mrcfile.read(self.half1) + mrcfile.read(self.half2))
        self.mean = self.write("mean.mrc", mean)
        self.spider = self._path("mean.spi")
        ImageHandler().convert(self.mean + ":mrc", self.spider)
        enhanced = mrcfile.read(self._path("enhanced.mrc"))
        inside = enhanced > 0.1 * np.percentile(enhanced, 99.9)
        self.mask = self.write("mask.mrc", inside.astype(np.float32))

    def write(self, name, data, voxel_size=1.0):
        """Write an array as an MRC volume into the folder and return its path."""
        path = self._path(name)
        with mrcfile.new(path, data.astype(np.float32), overwrite=True) as file:
            file.voxel_size = voxel_size
            file.set_volume()
        return path

    def _path(self, name):
        return os.path.join(self.folder, name)


@functools.lru_cache(maxsize=None)
def simulated_maps():
    """The maps, made once per test run."""
    Domain.getPlugins()  # plugins know their variables only after this
    root = Config.SCIPION_USER_DATA
    os.makedirs(root, exist_ok=True)
    return SimulatedMaps(tempfile.mkdtemp(prefix="simulated-", dir=root))
