# Copyright (C) 2026 the emhance developers
#
# This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License
# as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later version.
# It is distributed in the hope that it will be useful, but WITHOUT ANY WARRANTY; see the GNU General Public License.
"""The protocol: a form, three steps, and everything that is said about a run."""

import os
import subprocess

from pwem.emlib.image import ImageHandler
from pwem.objects import Transform, Volume
from pwem.protocols import ProtAnalysis3D
from pyworkflow.protocol.params import (
    GPU_LIST,
    LEVEL_ADVANCED,
    USE_GPU,
    BooleanParam,
    EnumParam,
    FloatParam,
    IntParam,
    PathParam,
    PointerParam,
    StringParam,
)
from pyworkflow.utils import cleanPath, createAbsLink, getListFromRangeString

import scipion_emhance
from scipion_emhance import constants as const
from scipion_emhance.arguments import MASKED_NETWORK, checkpoint_path, enhance_arguments, network_name, shell_words
from scipion_emhance.files import plain_name
from scipion_emhance.record import read_record, record_path, record_sentences

SAMPLING_TOLERANCE = 1e-3
"""Relative difference of two sampling rates that is taken for rounding in a header."""


class ProtEmhance(ProtAnalysis3D):
    """Enhance a cryo-EM map, or better its two half maps, with a neural network: locally sharpened, denoised, solvent removed.

    Give it what the reconstruction gave you: a map that is neither sharpened nor masked. Half maps are better than one map,
    because what both halves agree on is kept as it is, and the network's word counts only where they do not.

    The result is an aid to interpretation and never a replacement of the experimental map. Look at both, always: a feature
    that is only in the enhanced map is not evidence. Deposit the experimental map, and this one as an additional map.

    The form is that of Xmipp's deepEMhancer protocol, so its workflows can be used with this one. emhance's own networks or
    deepEMhancer's published checkpoints can be chosen, on a GPU or on the CPU.
    """

    _label = "map enhancement"
    _possibleOutputs = {"Volume": Volume}

    NORMALIZATION_AUTO = const.NORMALIZATION_AUTO
    NORMALIZATION_STATS = const.NORMALIZATION_STATS
    NORMALIZATION_MASK = const.NORMALIZATION_MASK
    NORMALIZATION_OPTIONS = const.NORMALIZATION_OPTIONS

    TIGHT_MODEL = const.TIGHT_MODEL
    WIDE_MODEL = const.WIDE_MODEL
    HI_RES = const.HI_RES
    MODEL_TARGET_OPTIONS = const.MODEL_TARGET_OPTIONS

    NETWORKS_EMHANCE = const.NETWORKS_EMHANCE
    NETWORKS_DEEPEMHANCER = const.NETWORKS_DEEPEMHANCER
    NETWORKS_OPTIONS = const.NETWORKS_OPTIONS

    # --------------------------- the form ---------------------------

    def _defineParams(self, form):
        form.addHidden(
            USE_GPU,
            BooleanParam,
            default=True,
            label="Use GPU",
            help="*Yes* runs on the GPUs given beside, *No* on the CPU. The result is the same; emhance's networks are small "
            "enough for the CPU, deepEMhancer's checkpoints are slow there.",
        )
        form.addHidden(
            GPU_LIST,
            StringParam,
            default="0",
            label="GPU IDs",
            help="Numbers of the GPUs to use, as nvidia-smi counts them: 0 for the first, 0,1 for the first two.",
        )
        form.addSection(label="Input")
        self._defineInputParams(form)
        self._defineNormalizationParams(form)
        self._defineNetworkParams(form)
        self._defineAdvancedParams(form)

    def _defineInputParams(self, form):
        form.addParam(
            "useHalfMapsInsteadVol",
            BooleanParam,
            default=False,
            label="Use half maps?",
            help="*Yes* is better wherever you have the two half maps of your refinement: emhance then knows from the half-map "
            "FSC up to where the data speak for themselves.\n*No* enhances one map.\nIn both cases the input must be "
            "unsharpened and unmasked: no B-factor, no post-processing, no mask applied, noise all around the particle.",
        )
        form.addParam(
            "halfMapsAttached",
            BooleanParam,
            default=True,
            condition="useHalfMapsInsteadVol",
            label="Are the half maps attached to the volume?",
            help="Half maps can be attached to a volume: refinement protocols do so, and so does _import volumes_ with "
            "_Set half maps_.\n*Yes* takes them from the input volume.\n*No* lets you choose two volumes as half maps.",
        )
        form.addParam(
            "inputHalf1",
            PointerParam,
            pointerClass="Volume",
            important=True,
            condition="useHalfMapsInsteadVol and not halfMapsAttached",
            label="Volume Half 1",
            help="Half map 1, unsharpened and unmasked.",
        )
        form.addParam(
            "inputHalf2",
            PointerParam,
            pointerClass="Volume",
            important=True,
            condition="useHalfMapsInsteadVol and not halfMapsAttached",
            label="Volume Half 2",
            help="Half map 2 of the same refinement: same box, same sampling rate.",
        )
        form.addParam(
            "inputVolume",
            PointerParam,
            pointerClass="Volume",
            important=True,
            condition="not useHalfMapsInsteadVol or halfMapsAttached",
            label="Input Volume",
            help="The map to enhance, or the one whose attached half maps are. It must be unsharpened and unmasked: a network "
            "that has learnt to sharpen sharpens twice what is sharp already, and finds no noise where a mask has cut it off.",
        )

    def _defineNormalizationParams(self, form):
        form.addParam(
            "normalization",
            EnumParam,
            choices=self.NORMALIZATION_OPTIONS,
            default=self.NORMALIZATION_AUTO,
            label="Input normalization",
            help="The networks expect a map on a certain scale, which is set by the noise of the solvent.\n"
            "*{}* measures that noise; start with it. The summary shows what it found.\n"
            "*{}* takes mean and standard deviation from you: measure them in a corner of the box, outside of the particle. "
            "For filaments, hollow particles and membranes, where little of the box is solvent.\n"
            "*{}* takes a binary mask of the particle instead, for maps without any noise around, and uses a network of its "
            "own.\nIf the result looks too empty or too noisy, the normalisation is the first thing to change.".format(
                *self.NORMALIZATION_OPTIONS
            ),
        )
        form.addParam(
            "inputMask",
            PointerParam,
            pointerClass="VolumeMask",
            allowsNull=True,
            condition=f"normalization=={self.NORMALIZATION_MASK}",
            label="Binary mask",
            help="1 in the particle, 0 elsewhere, as tight as you can make it, on the grid of the input.",
        )
        form.addParam(
            "noiseMean",
            FloatParam,
            allowsNull=True,
            condition=f"normalization=={self.NORMALIZATION_STATS}",
            label="Noise mean",
            help="Mean of the solvent noise, in the map's own units.",
        )
        form.addParam(
            "noiseStd",
            FloatParam,
            allowsNull=True,
            condition=f"normalization=={self.NORMALIZATION_STATS}",
            label="Noise standard deviation",
            help="Standard deviation of the solvent noise, in the map's own units.",
        )

    def _defineNetworkParams(self, form):
        form.addParam(
            "modelType",
            EnumParam,
            choices=self.MODEL_TARGET_OPTIONS,
            default=self.TIGHT_MODEL,
            condition=f"normalization in [{self.NORMALIZATION_STATS}, {self.NORMALIZATION_AUTO}]",
            label="Model power",
            help="*{}*: the default; removes the solvent closely around the density.\n"
            "*{}*: more cautious, keeps weak density further out; for low local resolution, flexible domains, "
            "or where the tight one removes what you know to be there.\n"
            "*{}*: for maps better than about 3 Å; takes twice the time.\n"
            "Normalisation from a mask has a network of its own.".format(*self.MODEL_TARGET_OPTIONS),
        )
        form.addParam(
            "networkSource",
            EnumParam,
            choices=self.NETWORKS_OPTIONS,
            default=self.NETWORKS_EMHANCE,
            expertLevel=LEVEL_ADVANCED,
            label="Networks",
            help="*{}*: the networks that come with emhance.\n"
            "*{}*: the networks published with deepEMhancer, read from its files, which you need to have; to repeat or to "
            "compare with earlier results.".format(*self.NETWORKS_OPTIONS),
        )
        form.addParam(
            "checkpointsPath",
            PathParam,
            default="",
            condition=f"networkSource=={self.NETWORKS_DEEPEMHANCER}",
            expertLevel=LEVEL_ADVANCED,
            label="deepEMhancer checkpoints",
            help="Folder with deepEMhancer_tightTarget.hd5, _wideTarget.hd5, _highRes.hd5 and _masked.hd5, of which the one "
            "chosen above is used; or one .hd5 file, which is used as it is. "
            f"Empty: the folder set as {const.EMHANCE_CHECKPOINTS} in Scipion's configuration.",
        )

    def _defineAdvancedParams(self, form):
        form.addParam(
            "performCleaningStep",
            BooleanParam,
            default=False,
            expertLevel=LEVEL_ADVANCED,
            label="Remove small connected components?",
            help="*Yes* removes small pieces of density that touch nothing else; they are mostly noise, but can be a ligand or "
            "a loosely attached domain. The summary says what was removed.",
        )
        form.addParam(
            "sizeFraction_CC",
            FloatParam,
            default=0.05,
            allowsNull=False,
            condition="performCleaningStep",
            expertLevel=LEVEL_ADVANCED,
            label="Relative size (0-1) of what is removed",
            help="Connected components smaller than this fraction of all positive voxels are removed.",
        )
        form.addParam(
            "batch_size",
            IntParam,
            default=8,
            allowsNull=False,
            expertLevel=LEVEL_ADVANCED,
            label="Batch size",
            help="Tiles that a GPU takes at a time. The result does not depend on it, and emhance lowers it by itself where "
            "memory does not suffice. On the CPU emhance decides.",
        )
        form.addParam(
            "writeReport",
            BooleanParam,
            default=True,
            expertLevel=LEVEL_ADVANCED,
            label="Write a report?",
            help="*Yes* leaves one HTML file with input and output side by side, what was done and how far to trust it; "
            "_Analyze results_ opens it.",
        )

    # --------------------------- the steps ---------------------------

    def _insertAllSteps(self):
        self._insertFunctionStep(self.convertInputStep)
        self._insertFunctionStep(self.deepVolPostProStep)
        self._insertFunctionStep(self.createOutputStep)

    def convertInputStep(self):
        """Bring the input to where the program finds it, as .mrc."""
        for source, name in self._inputFiles():
            target = self._getTmpPath(name)
            cleanPath(target)
            if source.endswith((".mrc", ".map")):
                createAbsLink(os.path.abspath(source), target)
            else:
                ImageHandler().convert(source, target)

    def deepVolPostProStep(self):
        """Run emhance, and see that it wrote what it should have."""
        output = self.getOutputFile()
        # what an earlier attempt left must not pass for the result of this one
        cleanPath(output, record_path(output))
        plugin = scipion_emhance.Plugin
        log = self.getStderrLog()
        written = os.path.getsize(log) if os.path.exists(log) else 0
        try:
            self.runJob(plugin.getProgram(), shell_words(self._arguments()), env=plugin.getEnviron(), numberOfMpi=1)
        except subprocess.CalledProcessError as error:
            said = _errorSentence(log, written)
            raise RuntimeError(f"emhance: {said}" if said else f"emhance failed ({error}); see {log}.") from error
        self._checkOutput()

    def createOutputStep(self):
        """Register the enhanced volume."""
        source = self._mainInput()
        volume = Volume()
        volume.setFileName(self.getOutputFile())
        volume.setSamplingRate(source.getSamplingRate())
        origin = Transform()
        origin.setShifts(*source.getOrigin(force=True).getShifts())
        volume.setOrigin(origin)
        halves = self._halfMapFiles()
        if halves:
            volume.setHalfMaps(halves)
        self._defineOutputs(Volume=volume)
        for pointer in self._inputPointers():
            self._defineTransformRelation(pointer, volume)
        if self._usesMask():
            self._defineSourceRelation(self.inputMask, volume)

    # --------------------------- what is asked for ---------------------------

    def getOutputFile(self):
        """The enhanced map, relative to the project."""
        return self._getExtraPath(const.POSTPROCESS_VOL_BASENAME)

    def _usesMask(self):
        return self.normalization.get() == self.NORMALIZATION_MASK

    def _separateHalves(self):
        return self.useHalfMapsInsteadVol.get() and not self.halfMapsAttached.get()

    def _inputPointers(self):
        return [self.inputHalf1, self.inputHalf2] if self._separateHalves() else [self.inputVolume]

    def _mainInput(self):
        """The volume whose sampling rate and origin the output has."""
        return self._inputPointers()[0].get()

    def _halfMapFiles(self):
        """Both half maps of the input, whether they are used or not; empty where there are none."""
        if self._separateHalves():
            return [plain_name(pointer.get().getFileName()) for pointer in self._inputPointers()]
        return [plain_name(name) for name in self.inputVolume.get().getHalfMaps(asList=True)]

    def _inputFiles(self):
        """Pairs of an input file and the name under which the program gets it."""
        if self.useHalfMapsInsteadVol.get():
            files = list(zip(self._halfMapFiles(), (const.INPUT_HALF1_BASENAME, const.INPUT_HALF2_BASENAME)))
        else:
            files = [(plain_name(self.inputVolume.get().getFileName()), const.INPUT_VOL_BASENAME)]
        if self._usesMask():
            files.append((plain_name(self.inputMask.get().getFileName()), const.INPUT_MASK_BASENAME))
        return files

    def _network(self):
        """What goes to --network: a name, or the path of a checkpoint."""
        name = network_name(self.modelType.get(), self._usesMask())
        if self.networkSource.get() == self.NETWORKS_DEEPEMHANCER:
            place = (self.checkpointsPath.get() or "").strip() or scipion_emhance.Plugin.getVar(const.EMHANCE_CHECKPOINTS)
            return checkpoint_path(place, name)
        return name

    def _arguments(self):
        """The program's arguments."""
        names = [name for _, name in self._inputFiles()]
        given = {"report": self.writeReport.get()}
        if const.INPUT_HALF2_BASENAME in names:
            given["half2"] = self._getTmpPath(const.INPUT_HALF2_BASENAME)
        if self._usesMask():
            given["mask"] = self._getTmpPath(const.INPUT_MASK_BASENAME)
        elif self.normalization.get() == self.NORMALIZATION_STATS:
            given["noise_mean"], given["noise_std"] = self.noiseMean.get(), self.noiseStd.get()
        if self.performCleaningStep.get():
            given["clean"] = self.sizeFraction_CC.get()
        if self.useGpu.get():
            # the executor's list is right in a queue as well, where the GPUs of a job are counted from 0
            given["gpus"] = self._stepsExecutor.getGpuList()
            given["batch_size"] = self.batch_size.get()
        return enhance_arguments(
            self._getTmpPath(names[0]), self.getOutputFile(), self._mainInput().getSamplingRate(), self._network(), **given
        )

    # --------------------------- what comes out ---------------------------

    def _checkOutput(self):
        """With a queue a failing program does not raise, so the file itself is looked at."""
        output = self.getOutputFile()
        if not os.path.exists(output):
            raise RuntimeError(f"emhance wrote no map {output}; its own message is in the log (run.stderr).")
        found, wanted = _box(output), self._mainInput().getDim()
        if found != tuple(wanted):
            raise RuntimeError(
                f"The map {output} has a box of {_times(found)} voxels, the input has {_times(wanted)}; do not use it."
            )

    # --------------------------- validation ---------------------------

    def _validate(self):
        errors = self._validateGpus() + self._validateNumbers() + self._validateNetwork()
        if all(pointer.get() is not None for pointer in self._inputPointers()):
            errors += self._validateInput()
        elif any(pointer.get() is not None for pointer in self._inputPointers()):
            errors.append("Only one half map is given; choose both, or use a single volume.")
        return errors

    def _validateInput(self):
        source, errors = self._mainInput(), []
        if self.useHalfMapsInsteadVol.get() and not self._separateHalves():
            count = len(self._halfMapFiles())
            if count == 0:
                return [
                    "The half maps are asked for but the input volume has none attached; attach them when you import it "
                    "(Set half maps), or choose them as two volumes."
                ]
            if count != 2:
                return [f"The input volume has {count} half map attached, not 2; choose the half maps as two volumes."]
        files = [("input volume", plain_name(source.getFileName()))]
        if self.useHalfMapsInsteadVol.get():
            files += zip(("half map 1", "half map 2"), self._halfMapFiles())
        if self._usesMask() and self.inputMask.get() is not None:
            files.append(("mask", plain_name(self.inputMask.get().getFileName())))
        if self._separateHalves():
            del files[0]  # it is half map 1
        boxes = []
        for what, name in files:
            if not os.path.exists(name):
                errors.append(f"The file of the {what}, {name}, does not exist.")
            else:
                boxes.append((what, _box(name)))
        for what, box in boxes[1:]:
            if box != boxes[0][1]:
                errors.append(
                    f"The {what} has a box of {_times(box)} voxels, the {boxes[0][0]} {_times(boxes[0][1])}; they must be equal."
                )
        return errors + self._validateSampling()

    def _validateSampling(self):
        source, errors, others = self._mainInput(), [], []
        if not (source.getSamplingRate() or 0) > 0:
            return ["The input has no sampling rate; import it again with one."]
        if self._separateHalves():
            others.append(("half map 2", self.inputHalf2.get()))
        if self._usesMask() and self.inputMask.get() is not None:
            others.append(("mask", self.inputMask.get()))
        for what, volume in others:
            wanted, found = source.getSamplingRate(), volume.getSamplingRate() or 0
            if abs(found - wanted) > SAMPLING_TOLERANCE * wanted:
                errors.append(
                    f"The {what} has a sampling rate of {found:.4g} Å/px, the input {wanted:.4g} Å/px; they must be equal."
                )
        return errors

    def _validateNumbers(self):
        errors = []
        if self._usesMask() and self.inputMask.get() is None:
            errors.append("Normalization from a binary mask needs a mask; choose one, or another normalization.")
        if self.normalization.get() == self.NORMALIZATION_STATS:
            mean, std = self.noiseMean.get(), self.noiseStd.get()
            if mean is None or std is None:
                errors.append("Normalization from statistics needs the mean and the standard deviation of the noise; give both.")
            if std is not None and not 0 < std < float("inf"):
                errors.append(f"The standard deviation of the noise must be positive, not {std:g}.")
        fraction = self.sizeFraction_CC.get()
        if self.performCleaningStep.get() and fraction is not None and not 0 <= fraction <= 1:
            errors.append(f"The relative size of what is removed must lie between 0 and 1, not {fraction:g}.")
        batch = self.batch_size.get()
        if batch is not None and batch < 1:
            errors.append(f"The batch size must be at least 1, not {batch}.")
        return errors

    def _validateGpus(self):
        text = self.gpuList.get()
        try:
            gpus = getListFromRangeString(text)
        except (ValueError, TypeError):
            # pyworkflow reads the list even where no GPU is used, and dies of one like this
            return [f"The GPU list {text!r} cannot be read; give numbers as in 0 or 0,1."]
        if self.useGpu.get() and not gpus:
            return ["The GPU list is empty; give numbers as in 0 or 0,1, or set Use GPU to No."]
        return []

    def _validateNetwork(self):
        if self.networkSource.get() != self.NETWORKS_DEEPEMHANCER:
            return []
        path = self._network()
        if os.path.isfile(path):
            return []
        return [
            f"The deepEMhancer checkpoint {path} does not exist; give the folder of the .hd5 files, or use emhance's networks."
        ]

    # --------------------------- what is said about a run ---------------------------

    def _summary(self):
        lines = [
            f"Input: {self._inputPhrase()}",
            f"Normalization: {self.NORMALIZATION_OPTIONS[self.normalization.get()].lower()}",
            f"Network: {self._networkPhrase()} ({self.NETWORKS_OPTIONS[self.networkSource.get()]})",
        ]
        if self.hasAttribute("Volume"):
            lines += record_sentences(read_record(self.getOutputFile()))
            lines.append("The output is NN-enhanced, not the experimental map: compare it with the input.")
        else:
            lines.append("Output is not ready yet.")
        return lines

    def _inputPhrase(self):
        if not self.useHalfMapsInsteadVol.get():
            return "one map"
        return "half maps attached to the volume" if self.halfMapsAttached.get() else "two half maps"

    def _networkPhrase(self):
        return MASKED_NETWORK if self._usesMask() else self.MODEL_TARGET_OPTIONS[self.modelType.get()]

    def _methods(self):
        if not self.hasAttribute("Volume"):
            return []
        record = read_record(self.getOutputFile())
        version = (record.get("versions") or {}).get("emhance", "")
        sentence = "{} enhanced with emhance {} [emhance], {}, {} network".format(
            "The two half maps were" if self.useHalfMapsInsteadVol.get() else "The map was",
            version,
            self.NORMALIZATION_OPTIONS[self.normalization.get()].lower(),
            self._networkPhrase(),
        )
        if self.networkSource.get() == self.NETWORKS_DEEPEMHANCER:
            sentence += " of deepEMhancer [SanchezGarcia2021]"
        if self.performCleaningStep.get():
            sentence += (
                f", and connected components smaller than {self.sizeFraction_CC.get():g} of the positive voxels were removed"
            )
        return [sentence + ". The enhanced map served interpretation only."]

    def _citations(self):
        # the form, its modes and their meaning are deepEMhancer's, whichever networks run
        return ["SanchezGarcia2021"]


def _errorSentence(log, start):
    """The sentence with which emhance ends when it fails, from what was logged after `start` bytes; None if there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(start)
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    said = [line for line in lines if line.startswith("Error: ")]
    return said[-1][len("Error: ") :].strip() if said else None


def _box(name):
    """Box of a volume file in voxels, (x, y, z)."""
    x, y, z, n = ImageHandler.getDimensions(name)
    return x, y, (z if z > 1 else n)


def _times(box):
    return " x ".join(str(edge) for edge in box)
