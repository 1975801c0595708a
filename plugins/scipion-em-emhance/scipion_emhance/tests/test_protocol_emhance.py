"""The protocol, run to its end in every mode of its form by the real program."""

import os
import shutil
import stat
from unittest import mock

import mrcfile
import numpy as np
from pwem import Domain
from pwem.protocols import ProtImportMask, ProtImportVolumes
from pyworkflow.object import RELATION_TRANSFORM
from pyworkflow.protocol.executor import StepExecutor
from pyworkflow.tests import BaseTest, setupTestProject

from scipion_emhance import Plugin
from scipion_emhance.constants import EMHANCE_BIN
from scipion_emhance.protocols import ProtEmhance
from scipion_emhance.record import read_record
from scipion_emhance.tests.simulated import BOX, simulated_maps
from scipion_emhance.viewers import EmhanceViewer

SAMPLING = 0.9
"""Not the 1 Å of the headers: Scipion's word counts."""

ORIGIN = (10.0, -5.5, 3.3)


class TestProtEmhance(BaseTest):
    """A project with the simulated maps imported, in which every mode of the form is run."""

    @classmethod
    def setUpClass(cls):
        cls.maps = simulated_maps()
        setupTestProject(cls)
        cls.volume = cls.importWithHalves()
        cls.halves = cls.importHalves()
        cls.mask = cls.importMask()
        cls.spider = cls.importSpider()

    @classmethod
    def importWithHalves(cls):
        """The mean map with its half maps attached, at an origin of its own."""
        x, y, z = (-shift for shift in ORIGIN)
        protocol = cls.newProtocol(
            ProtImportVolumes,
            filesPath=cls.maps.mean,
            samplingRate=SAMPLING,
            setHalfMaps=True,
            half1map=cls.maps.half1,
            half2map=cls.maps.half2,
            setOrigCoord=True,
            x=x,
            y=y,
            z=z,
        )
        return cls.launchProtocol(protocol).outputVolume

    @classmethod
    def importHalves(cls):
        """The protocol that imported the two half maps, as a set of volumes, centred as Scipion does by itself."""
        protocol = cls.newProtocol(
            ProtImportVolumes, filesPath=cls.maps.folder, filesPattern="half[12].mrc", samplingRate=SAMPLING
        )
        return cls.launchProtocol(protocol)

    @classmethod
    def importMask(cls):
        protocol = cls.newProtocol(ProtImportMask, maskPath=cls.maps.mask, samplingRate=SAMPLING)
        return cls.launchProtocol(protocol).outputMask

    @classmethod
    def importSpider(cls):
        protocol = cls.newProtocol(ProtImportVolumes, filesPath=cls.maps.spider, samplingRate=SAMPLING)
        return cls.launchProtocol(protocol).outputVolume

    def run_protocol(self, **parameters):
        parameters.setdefault("writeReport", False)
        return self.run_to_end(self.newProtocol(ProtEmhance, useGpu=False, **parameters))

    def run_to_end(self, protocol):
        self.assertEqual(protocol.validate(), [])
        self.proj.launchProtocol(protocol, wait=True)
        self.assertTrue(protocol.isFinished(), protocol.getErrorMessage())
        return protocol

    def check_output(self, protocol, source, halves):
        """The output is there, on the grid of the input, and says where it came from; return its record."""
        volume = protocol.Volume
        self.assertEqual(volume.getFileName(), protocol._getExtraPath("deepPostProcess.mrc"))
        self.assertEqual(volume.getDim(), (BOX, BOX, BOX))
        self.assertAlmostEqual(volume.getSamplingRate(), source.getSamplingRate())
        self.assertEqual(volume.getOrigin().getShifts(), source.getOrigin(force=True).getShifts())
        self.assertEqual(
            [os.path.realpath(name) for name in volume.getHalfMaps(asList=True)], [os.path.realpath(p) for p in halves]
        )
        with mrcfile.open(volume.getFileName()) as file:
            self.assertEqual(file.data.shape, (BOX, BOX, BOX))
            self.assertTrue(np.isfinite(file.data).all())
            self.assertGreater(file.data.std(), 0)
            self.assertAlmostEqual(float(file.voxel_size.x), SAMPLING, places=4)
        record = read_record(volume.getFileName())
        self.assertEqual(record["inputs"][0]["voxel_size"], SAMPLING)
        return record

    def transformed_from(self, protocol):
        """(protocol, its output) pairs that the output came from, by transform relations."""
        rows = self.proj.mapper.getRelationsByCreator(protocol)
        return sorted(
            (row["object_parent_id"], row["object_parent_extended"]) for row in rows if row["name"] == RELATION_TRANSFORM
        )

    def test_one_volume(self):
        protocol = self.run_protocol(inputVolume=self.volume)
        halves = self.volume.getHalfMaps(asList=True)
        record = self.check_output(protocol, self.volume, halves)
        self.assertEqual(protocol.Volume.getOrigin().getShifts(), ORIGIN)
        self.assertEqual(record["config"]["network"], "tight")
        self.assertEqual(record["config"]["normalization"], "auto")
        self.assertEqual(record["config"]["gpus"], "none")
        self.assertEqual(len(record["inputs"]), 1)
        self.assertEqual(self.transformed_from(protocol), [(protocol.inputVolume.getObjValue().getObjId(), "")])
        summary = "\n".join(protocol.summary())
        self.assertIn("Input: one map", summary)
        self.assertIn("Noise found: mean", summary)
        self.assertIn("not the experimental map", summary)

    def test_attached_halves_and_cleaning(self):
        protocol = self.run_protocol(
            useHalfMapsInsteadVol=True,
            inputVolume=self.volume,
            modelType=ProtEmhance.WIDE_MODEL,
            performCleaningStep=True,
            sizeFraction_CC=0.1,
            writeReport=True,
        )
        record = self.check_output(protocol, self.volume, self.volume.getHalfMaps(asList=True))
        self.assertEqual([entry["role"] for entry in record["inputs"]], ["half map 1", "half map 2"])
        self.assertEqual(record["config"]["network"], "wide")
        self.assertEqual(record["config"]["clean"], 0.1)
        summary = "\n".join(protocol.summary())
        self.assertIn("Input: half maps attached", summary)
        self.assertIn("Network: wide target (emhance)", summary)
        self.assertIn("Data trusted to:", summary)
        self.assertIn("Cleaning: ", summary)
        views = self.check_viewer(protocol, ["input map", "half map 1", "half map 2", "enhanced map"])
        self.assertEqual(views[1].path, protocol._getExtraPath("deepPostProcess_report.html"))

    def test_separate_halves_with_statistics(self):
        protocol = self.newProtocol(
            ProtEmhance,
            useGpu=False,
            writeReport=False,
            useHalfMapsInsteadVol=True,
            halfMapsAttached=False,
            normalization=ProtEmhance.NORMALIZATION_STATS,
            noiseMean=-0.002,
            noiseStd=0.1,
            modelType=ProtEmhance.HI_RES,
        )
        for number, pointer in enumerate((protocol.inputHalf1, protocol.inputHalf2), start=1):
            pointer.set(self.halves)
            pointer.setExtended(f"outputVolumes.{number}")
        self.run_to_end(protocol)
        half1, half2 = protocol.inputHalf1.get(), protocol.inputHalf2.get()
        record = self.check_output(protocol, half1, [half1.getFileName(), half2.getFileName()])
        self.assertEqual(protocol.Volume.getOrigin().getShifts(), (-BOX / 2 * SAMPLING,) * 3)
        self.assertEqual(record["config"]["network"], "highres")
        self.assertEqual(record["normalization"]["mean"], -0.002)
        self.assertEqual(record["normalization"]["std"], 0.1)
        imported = self.halves.getObjId()
        self.assertEqual(self.transformed_from(protocol), [(imported, "outputVolumes.1"), (imported, "outputVolumes.2")])
        self.assertIn("Noise given: mean -0.002, s.d. 0.1", protocol.summary())
        self.check_viewer(protocol, ["half map 1", "half map 2", "enhanced map"])

    def test_mask(self):
        protocol = self.run_protocol(inputVolume=self.volume, normalization=ProtEmhance.NORMALIZATION_MASK, inputMask=self.mask)
        record = self.check_output(protocol, self.volume, self.volume.getHalfMaps(asList=True))
        self.assertEqual(record["config"]["network"], "masked")
        self.assertEqual(record["config"]["normalization"], "mask")
        self.assertIn("mask", [entry["role"] for entry in record["inputs"]])
        self.assertIn("Network: masked (emhance)", protocol.summary())

    def test_other_formats_are_converted(self):
        self.assertTrue(self.spider.getFileName().endswith(".spi"))
        protocol = self.run_protocol(inputVolume=self.spider)
        self.check_output(protocol, self.spider, [])
        self.check_viewer(protocol, ["input map", "enhanced map"])
        methods = protocol.getParsedMethods()
        self.assertIn("automatic normalization, tight target network", methods[0])
        self.assertIn("Sanchez-Garcia et al., Communications Biology, 2021", protocol.citations()[1])
        self.assertIn("emhance developers", " ".join(protocol.citations()))

    def check_viewer(self, protocol, names):
        """The viewer's script shows these maps, on the output's grid, at levels inside of the map; return its views."""
        self.assertIn(EmhanceViewer, Domain.findViewers(protocol, "tkinter"))
        viewer = EmhanceViewer(project=self.proj, protocol=protocol)
        views = viewer._visualize(protocol)
        self.assertEqual(len(views), 2 if protocol.writeReport.get() else 1)
        with open(protocol._getExtraPath("chimera_output.cxc")) as file:
            lines = file.read().splitlines()
        opened = [line.split('"')[1] for line in lines if line.startswith("open ")]
        self.assertTrue(opened[0].endswith("axes.bild"))
        for path in opened:
            self.assertTrue(os.path.isabs(path) and os.path.exists(path), path)
        self.assertEqual([line.split('"')[1] for line in lines if line.startswith("rename ")], names)
        self.assertEqual(os.path.realpath(opened[-1]), os.path.realpath(protocol.getOutputFile()))
        origin = ",".join(f"{shift:.4f}" for shift in protocol.Volume.getOrigin().getShifts())
        grids = [line for line in lines if "voxelSize" in line]
        self.assertEqual(len(grids), len(names))
        for line in grids:
            self.assertIn(f"voxelSize {SAMPLING:.6f} origin {origin}", line)
        level = float(next(line for line in lines if line.startswith(f"volume #{len(names) + 1} level")).split()[3])
        share = np.mean(mrcfile.read(protocol.getOutputFile()) > level)
        self.assertTrue(0.001 < share < 0.3, f"the surface encloses {share:.4f} of the box")
        return views

    # --------------------------- a program that fails, or does not do what it should ---------------------------

    def protocol_with_program(self, lines):
        """The protocol, with a shell script as the program."""
        program = os.path.join(self.maps.folder, f"program of {self.id()}")
        with open(program, "w") as file:
            file.write("#!/bin/sh\n" + lines)
        os.chmod(program, os.stat(program).st_mode | stat.S_IXUSR)
        for changed in (
            mock.patch.dict(os.environ, {EMHANCE_BIN: program}),
            mock.patch.dict(Plugin._vars, {EMHANCE_BIN: program}),
        ):
            changed.start()
            self.addCleanup(changed.stop)
        return self.newProtocol(ProtEmhance, useGpu=False, inputVolume=self.volume)

    def run_here(self, protocol):
        """The first two steps, in this process."""
        self.proj.saveProtocol(protocol)
        protocol.makePathsAndClean()
        protocol.setStepsExecutor(StepExecutor(None, gpuList=[0]))
        protocol.convertInputStep()
        protocol.deepVolPostProStep()

    def test_the_programs_own_sentence_is_shown(self):
        protocol = self.protocol_with_program("echo 'Error: the map holds NaN values; repair it.' >&2\nexit 2\n")
        self.proj.launchProtocol(protocol, wait=True)
        self.assertTrue(protocol.isFailed())
        self.assertFalse(protocol.hasAttribute("Volume"))
        self.assertIn("emhance: the map holds NaN values; repair it.", protocol.getErrorMessage())

    def test_a_program_that_writes_nothing(self):
        protocol = self.protocol_with_program("exit 0\n")
        with self.assertRaisesRegex(RuntimeError, "emhance wrote no map"):
            self.run_here(protocol)

    def test_a_map_that_was_there_before_does_not_pass_for_the_output(self):
        protocol = self.protocol_with_program("exit 0\n")
        self.proj.saveProtocol(protocol)
        protocol.makePathsAndClean()
        shutil.copy(self.maps.mean, protocol.getOutputFile())
        with self.assertRaisesRegex(RuntimeError, "emhance wrote no map"):
            self.run_here(protocol)

    def test_a_map_of_another_box(self):
        small = self.maps.write("small.mrc", np.random.default_rng(1).normal(size=(32, 32, 32)))
        protocol = self.protocol_with_program(f'while [ "$1" != --output ]; do shift; done\ncp "{small}" "$2"\n')
        with self.assertRaisesRegex(RuntimeError, "has a box of 32 x 32 x 32 voxels, the input has 64 x 64 x 64"):
            self.run_here(protocol)
