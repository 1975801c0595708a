"""What Scipion sees of the plugin: protocol, viewer, place in the tree, variables, installation, workflows of Xmipp."""

import os
from unittest import mock

from pwem import Domain
from pyworkflow.gui.project.viewprotocols_extra import ProtocolTreeConfig
from pyworkflow.tests import BaseTest, setupTestProject

from scipion_emhance import Plugin
from scipion_emhance.constants import EMHANCE_BIN, EMHANCE_ENV_ACTIVATION
from scipion_emhance.protocols import ProtEmhance
from scipion_emhance.viewers import EmhanceViewer

XMIPP_WORKFLOW = """[
    {
        "object.className": "XmippProtDeepVolPostProc", "object.id": "2", "object.label": "xmipp3 - deepEMhancer",
        "object.comment": "", "runMode": 0, "_useQueue": false, "_prerequisites": "", "gpuList": "1",
        "useHalfMapsInsteadVol": true, "halfMapsAttached": true, "normalization": 1, "noiseMean": 0.01, "noiseStd": 0.2,
        "modelType": 2, "performCleaningStep": true, "sizeFraction_CC": 0.07, "batch_size": 3
    }
]"""
"""As Scipion exports it, its class name apart."""


class TestPlugin(BaseTest):
    """Needs no program."""

    @classmethod
    def setUpClass(cls):
        setupTestProject(cls)

    def test_protocol_and_viewer_are_found(self):
        self.assertIs(Domain.getProtocols()["ProtEmhance"], ProtEmhance)
        self.assertIs(Domain.getViewers()["EmhanceViewer"], EmhanceViewer)
        protocol = self.newProtocol(ProtEmhance)
        self.assertIn("map enhancement", protocol.getClassLabel())
        self.assertTrue(os.path.exists(protocol.getPluginLogoPath()))

    def test_place_in_the_tree(self):
        tree = ProtocolTreeConfig.load(Domain, "")
        three_d = next(child for child in tree["Protocols SPA"] if child.text == "3D")
        postprocess = next(child for child in three_d if child.text == "Postprocess")
        self.assertEqual([child.value for child in postprocess], ["ProtEmhance"])

    def test_a_workflow_of_xmipp_can_be_used(self):
        protocols = self.proj.loadProtocols(jsonStr=XMIPP_WORKFLOW.replace("XmippProtDeepVolPostProc", "ProtEmhance"))
        protocol = protocols["2"]
        self.assertIsInstance(protocol, ProtEmhance)
        values = {
            name: getattr(protocol, name).get()
            for name in (
                "gpuList",
                "useHalfMapsInsteadVol",
                "noiseMean",
                "noiseStd",
                "modelType",
                "sizeFraction_CC",
                "batch_size",
            )
        }
        self.assertEqual(
            values,
            {
                "gpuList": "1",
                "useHalfMapsInsteadVol": True,
                "noiseMean": 0.01,
                "noiseStd": 0.2,
                "modelType": ProtEmhance.HI_RES,
                "sizeFraction_CC": 0.07,
                "batch_size": 3,
            },
        )

    def test_program(self):
        for program, activation, command in (
            ("/opt/em hance/bin/emhance", "conda activate x", "'/opt/em hance/bin/emhance'"),
            ("emhance", "", "emhance"),
            ("emhance", ". /opt/emhance/bin/activate", " . /opt/emhance/bin/activate && emhance"),
            ("emhance", "conda activate emhance-0.1.0", ": && conda activate emhance-0.1.0 && emhance"),
        ):
            with mock.patch.dict(Plugin._vars, {EMHANCE_BIN: program, EMHANCE_ENV_ACTIVATION: activation}), mock.patch.object(
                Plugin, "_condaActivationCmd", ": &&"
            ):
                self.assertEqual(Plugin.getProgram(), command)

    def test_scipions_python_does_not_leak_into_the_program(self):
        with mock.patch.dict(os.environ, {"PYTHONPATH": "/scipion", "PYTHONHOME": "/scipion", "EMHANCE_TEST": "kept"}):
            environ = Plugin.getEnviron()
        self.assertNotIn("PYTHONPATH", environ)
        self.assertNotIn("PYTHONHOME", environ)
        self.assertEqual(environ["EMHANCE_TEST"], "kept")

    def test_installation(self):
        env = mock.Mock()
        with mock.patch.object(Plugin, "_condaActivationCmd", 'eval "$(conda shell.bash hook)" &&'):
            Plugin.defineBinaries(env)
        (name,), given = env.addPackage.call_args
        self.assertEqual((name, given["version"]), ("emhance", "0.1.0"))
        ((command, mark),) = given["commands"]
        parts = command.split(" && ")
        self.assertEqual(parts[0], ['eval "$(conda shell.bash hook)"', "conda create"][0])
        self.assertIn("conda activate emhance-0.1.0", parts)
        self.assertIn("python -m pip install 'emhance[legacy,report]==0.1.0'", parts)
        self.assertEqual(parts[-1], "touch " + mark)
