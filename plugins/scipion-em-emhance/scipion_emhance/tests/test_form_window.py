"""The form as a user sees it, on a real (or virtual) display."""

import importlib.util
import os
import unittest

from pyworkflow.protocol import LEVEL_ADVANCED
from pyworkflow.tests import BaseTest, setupTestProject

from scipion_emhance.protocols import ProtEmhance

HAS_TKINTER = importlib.util.find_spec("_tkinter") is not None


@unittest.skipUnless(HAS_TKINTER and os.environ.get("DISPLAY"), "needs tkinter and a display (xvfb-run makes one)")
class TestFormWindow(BaseTest):
    """Which rows are shown, and that what is chosen reaches the protocol."""

    @classmethod
    def setUpClass(cls):
        import pyworkflow.gui.project  # noqa: F401  # the form imports it, and it the form: only this order works
        from pyworkflow.gui import Window

        setupTestProject(cls)
        # one for all tests: pyworkflow keeps its images, which belong to the first window
        cls.scipion = Window("Scipion")
        cls.addClassCleanup(cls.scipion.root.master.destroy)

    def setUp(self):
        from pyworkflow.gui.form import FormWindow

        self.protocol = self.newProtocol(ProtEmhance)
        self.window = FormWindow("emhance", self.protocol, callback=None, master=self.scipion)
        self.window.root.deiconify()
        self.window.root.update()
        self.addCleanup(self.window.root.destroy)

    def choose(self, **values):
        for name, value in values.items():
            self.window.setVar(name, value)
        self.window.root.update()

    def shown(self):
        rows = {name: widget for name, widget in self.window.widgetDict.items() if hasattr(widget, "label")}
        return [name for name in rows if self.protocol.hasAttribute(name) and rows[name].label.winfo_ismapped()]

    def test_a_beginner_sees_little(self):
        self.assertEqual(self.shown(), ["useHalfMapsInsteadVol", "inputVolume", "normalization", "modelType"])

    def test_conditions(self):
        self.choose(useHalfMapsInsteadVol=True)
        self.assertIn("halfMapsAttached", self.shown())
        self.choose(halfMapsAttached=False)
        self.assertEqual(self.shown()[2:4], ["inputHalf1", "inputHalf2"])
        self.assertNotIn("inputVolume", self.shown())
        self.choose(normalization=ProtEmhance.NORMALIZATION_STATS)
        self.assertIn("noiseStd", self.shown())
        self.choose(normalization=ProtEmhance.NORMALIZATION_MASK)
        self.assertIn("inputMask", self.shown())
        self.assertNotIn("modelType", self.shown())
        self.assertEqual(self.protocol.normalization.get(), ProtEmhance.NORMALIZATION_MASK)

    def test_advanced(self):
        self.choose(expertLevel=LEVEL_ADVANCED)
        self.assertEqual(self.shown()[-3:], ["performCleaningStep", "batch_size", "writeReport"])
        self.choose(networkSource=ProtEmhance.NETWORKS_DEEPEMHANCER, performCleaningStep=True)
        self.assertIn("checkpointsPath", self.shown())
        self.assertIn("sizeFraction_CC", self.shown())

    def test_gpus(self):
        self.window.useGpuVar.set(0)
        self.window.gpuListVar.set("1")
        self.assertFalse(self.protocol.useGpu.get())
        self.assertEqual(self.protocol.gpuList.get(), "1")
