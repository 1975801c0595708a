# Copyright (C) 2026 the emhance developers
#
# This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License
# as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later version.
# It is distributed in the hope that it will be useful, but WITHOUT ANY WARRANTY; see the GNU General Public License.
"""The viewer: input, half maps and output in ChimeraX, and the report."""

import glob
import os
import webbrowser

import mrcfile
from pwem.emlib.image import ImageHandler
from pwem.objects import Volume
from pwem.viewers import Chimera, ChimeraView
from pyworkflow.viewer import DESKTOP_TKINTER, View, Viewer

from scipion_emhance.files import plain_name
from scipion_emhance.protocols import ProtEmhance
from scipion_emhance.record import record_path

from .chimerax import INPUT_COLOR, OUTPUT_COLOR, MapScene, enclosed_fraction, level_enclosing, output_level, script


class WebPageView(View):
    """A local HTML file in the user's browser."""

    def __init__(self, path):
        self.path = path

    def show(self):
        """Open it."""
        webbrowser.open_new_tab("file://" + os.path.abspath(self.path))


class EmhanceViewer(Viewer):
    """Show the enhanced map over its input in ChimeraX, at surfaces that enclose the same volume, and open the report."""

    _label = "emhance viewer"
    _name = "emhance: ChimeraX and report"
    _targets = [ProtEmhance]
    _environments = [DESKTOP_TKINTER]

    def _visualize(self, obj, **kwargs):
        if not obj.hasAttribute("Volume"):
            return [self.infoMessage("There is no enhanced map yet.", "emhance")]
        return [self._chimeraView(obj), *self._reportViews(obj)]

    def _chimeraView(self, protocol):
        path = self.writeScript(protocol)
        program = Chimera.getProgram()
        if program and os.path.exists(program):
            return ChimeraView(path)
        return self.infoMessage(
            f"ChimeraX was not found ({program}). Install it with the plugin scipion-em-chimera, or open this script with a "
            f"ChimeraX of your own:\n{path}",
            "emhance",
        )

    def _reportViews(self, protocol):
        reports = sorted(glob.glob(protocol._getExtraPath("*.html")))
        if reports:
            return [WebPageView(reports[0])]
        record = record_path(protocol.getOutputFile())
        return [self.textView([record], "How this map was made")] if self.formWindow and os.path.exists(record) else []

    def writeScript(self, protocol):
        """Write axes and script into the run's folder; return the script's absolute path."""
        axes = os.path.abspath(protocol._getExtraPath("axes.bild"))
        path = os.path.abspath(protocol._getExtraPath("chimera_output.cxc"))
        output = protocol.Volume
        Chimera.createCoordinateAxisFile(max(output.getDim()), bildFileName=axes, sampling=output.getSamplingRate())
        with open(path, "w", encoding="utf-8") as file:
            file.write(script(os.getcwd(), axes, self._scenes(protocol, output)))
        return path

    def _scenes(self, protocol, output):
        enhanced = _values(output.getFileName())
        level = output_level(enhanced)
        fraction = enclosed_fraction(enhanced, level)
        scenes = []
        for name, volume, shown in self._inputs(protocol):
            path = os.path.abspath(plain_name(volume.getFileName()))
            if os.path.exists(path):
                contour = level_enclosing(_values(path), fraction)
                scenes.append(_scene(path, name, volume, contour, INPUT_COLOR, shown))
        return [*scenes, _scene(os.path.abspath(output.getFileName()), "enhanced map", output, level, OUTPUT_COLOR, True)]

    def _inputs(self, protocol):
        """Name, volume and whether it is shown at once, of everything that went in."""
        if protocol.useHalfMapsInsteadVol.get() and not protocol.halfMapsAttached.get():
            return [("half map 1", protocol.inputHalf1.get(), True), ("half map 2", protocol.inputHalf2.get(), False)]
        volume = protocol.inputVolume.get()
        inputs = [("input map", volume, True)]
        if protocol.useHalfMapsInsteadVol.get():
            for number, name in enumerate(volume.getHalfMaps(asList=True), start=1):
                inputs.append((f"half map {number}", _halfOf(volume, name), False))
        return inputs


def _halfOf(volume, name):
    """A volume for an attached half map, on the grid of the volume it is attached to."""
    half = Volume(location=name)
    half.setSamplingRate(volume.getSamplingRate())
    half.setOrigin(volume.getOrigin(force=True))
    return half


def _scene(path, name, volume, level, color, shown):
    return MapScene(path, name, volume.getSamplingRate(), volume.getOrigin(force=True).getShifts(), level, color, shown)


def _values(name):
    """The voxels of a volume file."""
    name = plain_name(name)
    if name.endswith((".mrc", ".map")):
        # permissive: maps without a proper header are common, and Scipion reads them
        with mrcfile.open(name, permissive=True) as file:
            return file.data.copy()
    return ImageHandler().read(name).getData()
