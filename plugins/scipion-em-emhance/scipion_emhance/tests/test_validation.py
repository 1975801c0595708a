"""The form's parameters, and every sentence of the validation; nothing is run."""

import os
from unittest import mock

import numpy as np
from pwem.objects import Transform, Volume, VolumeMask
from pyworkflow.protocol.executor import StepExecutor
from pyworkflow.tests import BaseTest, setupTestProject

from scipion_emhance import Plugin
from scipion_emhance.arguments import CHECKPOINT_FILES
from scipion_emhance.constants import EMHANCE_BIN, EMHANCE_CHECKPOINTS, EMHANCE_ENV_ACTIVATION
from scipion_emhance.protocols import ProtEmhance
from scipion_emhance.tests.simulated import simulated_maps


class WithVolumes(BaseTest):
    """Volumes that are files only, and a protocol without a run."""

    @classmethod
    def setUpClass(cls):
        cls.maps = simulated_maps()
        setupTestProject(cls)
        cls.small = cls.maps.write("small.mrc", np.random.default_rng(1).normal(size=(32, 32, 32)))

    def volume(self, path=None, sampling=1.0, halves=(), volume_class=Volume):
        volume = volume_class(location=path or self.maps.mean)
        volume.setSamplingRate(sampling)
        volume.setOrigin(Transform())
        volume.setHalfMaps(list(halves))
        return volume

    def protocol(self, **parameters):
        volumes = {name: parameters.pop(name) for name in list(parameters) if name.startswith("input")}
        protocol = self.newProtocol(ProtEmhance, **parameters)
        for name, volume in volumes.items():
            getattr(protocol, name).set(volume)
        return protocol


class TestForm(WithVolumes):
    """The form is that of Xmipp's deepEMhancer protocol."""

    DEFAULTS = {
        "useHalfMapsInsteadVol": False,
        "halfMapsAttached": True,
        "normalization": 0,
        "noiseMean": None,
        "noiseStd": None,
        "modelType": 0,
        "performCleaningStep": False,
        "sizeFraction_CC": 0.05,
        "batch_size": 8,
        "gpuList": "0",
    }

    def test_names_and_defaults(self):
        protocol = self.protocol()
        for name, default in self.DEFAULTS.items():
            self.assertEqual(getattr(protocol, name).get(), default, name)
        for name in ("inputHalf1", "inputHalf2", "inputVolume", "inputMask"):
            self.assertTrue(protocol.hasAttribute(name), name)
        self.assertTrue(protocol.useGpu.get())
        self.assertEqual(protocol.networkSource.get(), ProtEmhance.NETWORKS_EMHANCE)

    def test_lists(self):
        self.assertEqual((ProtEmhance.TIGHT_MODEL, ProtEmhance.WIDE_MODEL, ProtEmhance.HI_RES), (0, 1, 2))
        self.assertEqual(
            (ProtEmhance.NORMALIZATION_AUTO, ProtEmhance.NORMALIZATION_STATS, ProtEmhance.NORMALIZATION_MASK), (0, 1, 2)
        )
        protocol = self.protocol()
        self.assertEqual(protocol.getParam("modelType").choices, ["tight target", "wide target", "highRes"])
        self.assertEqual(
            protocol.getParam("normalization").choices,
            ["Automatic normalization", "Normalization from statistics", "Normalization from binary mask"],
        )
        self.assertEqual(str(protocol.getParam("inputMask").pointerClass), "VolumeMask")

    def test_conditions(self):
        shown = {
            (): {"inputVolume", "modelType"},
            (("useHalfMapsInsteadVol", True),): {"halfMapsAttached", "inputVolume", "modelType"},
            (("useHalfMapsInsteadVol", True), ("halfMapsAttached", False)): {
                "halfMapsAttached",
                "inputHalf1",
                "inputHalf2",
                "modelType",
            },
            (("normalization", 1),): {"inputVolume", "noiseMean", "noiseStd", "modelType"},
            (("normalization", 2),): {"inputVolume", "inputMask"},
            (("performCleaningStep", True),): {"inputVolume", "modelType", "sizeFraction_CC"},
            (("networkSource", 1),): {"inputVolume", "modelType", "checkpointsPath"},
        }
        conditional = set().union(*shown.values())
        for values, wanted in shown.items():
            protocol = self.protocol(**dict(values))
            self.assertEqual({name for name in conditional if protocol.evalParamCondition(name)}, wanted, values)

    def test_every_parameter_is_explained(self):
        protocol = self.protocol()
        for name in [
            *self.DEFAULTS,
            "inputHalf1",
            "inputHalf2",
            "inputVolume",
            "inputMask",
            "networkSource",
            "checkpointsPath",
            "writeReport",
        ]:
            self.assertGreater(len(protocol.getParam(name).getHelp()), 20, name)


class TestValidation(WithVolumes):
    """Each mistake is said in a sentence of its own, and a good form is accepted."""

    def check(self, sentence, **parameters):
        errors = self.protocol(**parameters).validate()
        self.assertEqual(len([error for error in errors if sentence in error]), 1, errors)
        self.assertFalse([error for error in errors if "Traceback" in error], errors)

    def test_a_good_form(self):
        halves = (self.maps.half1, self.maps.half2)
        self.assertEqual(self.protocol(inputVolume=self.volume()).validate(), [])
        attached = self.protocol(useHalfMapsInsteadVol=True, inputVolume=self.volume(self.maps.mean + ":mrc", halves=halves))
        self.assertEqual(attached.validate(), [])

    def test_no_input(self):
        self.check("*Input Volume* cannot be EMPTY.")

    def test_halves_not_attached(self):
        self.check("but the input volume has none attached", useHalfMapsInsteadVol=True, inputVolume=self.volume())

    def test_one_half_attached(self):
        self.check(
            "has 1 half map attached, not 2", useHalfMapsInsteadVol=True, inputVolume=self.volume(halves=[self.maps.half1])
        )

    def test_one_half_missing(self):
        self.check(
            "Only one half map is given",
            useHalfMapsInsteadVol=True,
            halfMapsAttached=False,
            inputHalf1=self.volume(self.maps.half1),
        )

    def test_halves_of_another_box(self):
        halves = [self.maps.half1, self.small]
        self.check(
            "The half map 2 has a box of 32 x 32 x 32 voxels, the input volume 64 x 64 x 64",
            useHalfMapsInsteadVol=True,
            inputVolume=self.volume(halves=halves),
        )
        self.check(
            "The half map 2 has a box of 32 x 32 x 32 voxels, the half map 1 64 x 64 x 64",
            useHalfMapsInsteadVol=True,
            halfMapsAttached=False,
            inputHalf1=self.volume(halves[0]),
            inputHalf2=self.volume(halves[1]),
        )

    def test_halves_of_another_sampling(self):
        self.check(
            "The half map 2 has a sampling rate of 1.1 Å/px, the input 1 Å/px",
            useHalfMapsInsteadVol=True,
            halfMapsAttached=False,
            inputHalf1=self.volume(self.maps.half1),
            inputHalf2=self.volume(self.maps.half2, sampling=1.1),
        )

    def test_a_file_that_is_gone(self):
        gone = os.path.join(self.maps.folder, "gone.mrc")
        self.check(
            "The file of the half map 2", useHalfMapsInsteadVol=True, inputVolume=self.volume(halves=[self.maps.half1, gone])
        )

    def test_no_sampling(self):
        self.check("The input has no sampling rate", inputVolume=self.volume(sampling=0))

    def test_mask_missing(self):
        self.check("needs a mask", inputVolume=self.volume(), normalization=2)

    def test_mask_of_another_box(self):
        mask = self.volume(self.small, volume_class=VolumeMask)
        self.check("The mask has a box of 32 x 32 x 32 voxels", inputVolume=self.volume(), normalization=2, inputMask=mask)

    def test_mask_of_another_sampling(self):
        mask = self.volume(self.maps.mask, sampling=2.0, volume_class=VolumeMask)
        self.check("The mask has a sampling rate of 2 Å/px", inputVolume=self.volume(), normalization=2, inputMask=mask)

    def test_statistics_missing(self):
        self.check("needs the mean and the standard deviation", inputVolume=self.volume(), normalization=1, noiseMean=0.0)

    def test_standard_deviation_not_positive(self):
        for std in (0.0, -1.0):
            self.check("must be positive, not", inputVolume=self.volume(), normalization=1, noiseMean=0.0, noiseStd=std)

    def test_fraction_out_of_range(self):
        for fraction in (-0.1, 1.5):
            self.check(
                "must lie between 0 and 1, not", inputVolume=self.volume(), performCleaningStep=True, sizeFraction_CC=fraction
            )

    def test_batch_size_below_one(self):
        self.check("The batch size must be at least 1, not 0", inputVolume=self.volume(), batch_size=0)

    def test_gpu_list(self):
        self.check("The GPU list is empty", inputVolume=self.volume(), gpuList="")
        for text in ("-1", "zero", "0;1"):
            self.check("cannot be read", inputVolume=self.volume(), gpuList=text)
        # pyworkflow's runner reads it even then
        self.check("cannot be read", inputVolume=self.volume(), gpuList="-1", useGpu=False)
        self.assertEqual(self.protocol(inputVolume=self.volume(), gpuList="", useGpu=False).validate(), [])

    def test_checkpoints_not_found(self):
        missing = os.path.join(self.maps.folder, "deepEMhancer_wideTarget.hd5")
        for place in (self.maps.folder, missing):
            self.check(
                f"The deepEMhancer checkpoint {missing} does not exist",
                inputVolume=self.volume(),
                networkSource=ProtEmhance.NETWORKS_DEEPEMHANCER,
                modelType=ProtEmhance.WIDE_MODEL,
                checkpointsPath=place,
            )

    def test_program_not_found(self):
        for program, activation, sentence in (
            ("/nowhere/emhance", "", "EMHANCE_BIN is set to /nowhere/emhance, where there is no program"),
            ("no-such-emhance", "", "The program no-such-emhance is not in the PATH"),
            ("emhance", "conda activate emhance-0.1.0", "emhance is not installed: run 'scipion3 installb emhance'"),
        ):
            with mock.patch.dict(Plugin._vars, {EMHANCE_BIN: program, EMHANCE_ENV_ACTIVATION: activation}):
                self.check(sentence, inputVolume=self.volume())


class TestCommand(WithVolumes):
    """The command that is run, for what cannot be run everywhere: GPUs, and deepEMhancer's checkpoints."""

    def words(self, gpus, **parameters):
        protocol = self.protocol(inputVolume=self.volume(), **parameters)
        self.proj.saveProtocol(protocol)
        protocol.setStepsExecutor(StepExecutor(None, gpuList=gpus))
        return protocol._arguments()

    def after(self, words, option):
        return words[words.index(option) + 1]

    def test_gpus(self):
        words = self.words([0, 2], gpuList="0,2", batch_size=4)
        self.assertEqual(self.after(words, "--gpus"), "0,2")
        self.assertEqual(self.after(words, "--batch-size"), "4")

    def test_cpu(self):
        words = self.words([0], useGpu=False, batch_size=4)
        self.assertEqual(self.after(words, "--gpus"), "none")
        self.assertEqual(self.after(words, "--batch-size"), "auto")

    def test_checkpoints(self):
        folder = os.path.join(self.maps.folder, "models", "production_checkpoints")
        os.makedirs(folder)
        for name in CHECKPOINT_FILES.values():
            with open(os.path.join(folder, name), "wb"):
                pass
        for place in (folder, os.path.dirname(folder)):
            for model, name in ((0, "tightTarget"), (1, "wideTarget"), (2, "highRes")):
                words = self.words([0], networkSource=1, checkpointsPath=place, modelType=model)
                self.assertEqual(self.after(words, "--network"), os.path.join(folder, f"deepEMhancer_{name}.hd5"))
        one = os.path.join(folder, "deepEMhancer_masked.hd5")
        self.assertEqual(self.after(self.words([0], networkSource=1, checkpointsPath=one), "--network"), one)
        with mock.patch.dict(Plugin._vars, {EMHANCE_CHECKPOINTS: folder}):
            words = self.words([0], networkSource=1, modelType=2)
            self.assertEqual(self.after(words, "--network"), os.path.join(folder, "deepEMhancer_highRes.hd5"))
