# Copyright (C) 2026 the emhance developers
#
# This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License
# as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later version.
# It is distributed in the hope that it will be useful, but WITHOUT ANY WARRANTY; see the GNU General Public License.
"""Scipion plugin for emhance, which runs as a program in an environment of its own."""

import os
import shutil

import pwem
from pyworkflow import VarTypes
from pyworkflow.utils import Environ

from .arguments import shell_words
from .constants import (
    DEFAULT_ACTIVATION,
    DEFAULT_BIN,
    DEFAULT_CHECKPOINTS,
    DEFAULT_ENV_NAME,
    DEFAULT_REQUIREMENT,
    EMHANCE_BIN,
    EMHANCE_CHECKPOINTS,
    EMHANCE_ENV_ACTIVATION,
    EMHANCE_REQUIREMENT,
    EMHANCE_VERSION,
    PLUGIN_VERSION,
)

__version__ = PLUGIN_VERSION
_logo = "emhance_logo.png"
_references = ["emhance"]

INSTALLED_MARK = "EMHANCE_INSTALLED"


class Plugin(pwem.Plugin):
    """Where the program is, how it is started, how it is installed."""

    _url = ""
    _supportedVersions = [EMHANCE_VERSION]

    @classmethod
    def _defineVariables(cls):
        cls._defineVar(
            EMHANCE_BIN,
            DEFAULT_BIN,
            description="The emhance program: its name, looked up after the activation command below, or its path, "
            "in which case nothing is activated.",
        )
        cls._defineVar(
            EMHANCE_ENV_ACTIVATION,
            DEFAULT_ACTIVATION,
            description="Command that activates the environment that emhance is installed in.",
        )
        cls._defineVar(
            EMHANCE_REQUIREMENT,
            DEFAULT_REQUIREMENT,
            description="What pip installs into emhance's environment: a requirement, a wheel, or the path of a checkout.",
        )
        cls._defineVar(
            EMHANCE_CHECKPOINTS,
            DEFAULT_CHECKPOINTS,
            description="Folder of deepEMhancer's checkpoints (deepEMhancer_*.hd5), for those who want to use them.",
            var_type=VarTypes.FOLDER,
        )

    @classmethod
    def getEnviron(cls):
        """The environment the program runs in: Scipion's own Python must not leak into it."""
        environ = Environ(os.environ)
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            environ.pop(name, None)
        return environ

    @classmethod
    def getProgram(cls):
        """The start of every command, as a shell reads it."""
        program = os.path.expanduser(cls.getVar(EMHANCE_BIN))
        if os.sep in program:
            return shell_words([program])
        activation = cls.getVar(EMHANCE_ENV_ACTIVATION).strip()
        if not activation:
            return program
        conda = cls.getCondaActivationCmd() if activation.startswith("conda ") else ""
        return f"{conda} {activation} && {program}"

    @classmethod
    def validateInstallation(cls):
        """What is missing, as sentences; files are looked at, nothing is started, since Scipion asks often."""
        program = os.path.expanduser(cls.getVar(EMHANCE_BIN))
        activation = cls.getVar(EMHANCE_ENV_ACTIVATION).strip()
        if os.sep in program:
            if not os.access(program, os.X_OK) or os.path.isdir(program):
                return [f"{EMHANCE_BIN} is set to {program}, where there is no program; correct it in Scipion's configuration."]
        elif not activation:
            if shutil.which(program) is None:
                return [f"The program {program} is not in the PATH; set {EMHANCE_BIN} to its path in Scipion's configuration."]
        elif activation == DEFAULT_ACTIVATION and not os.path.exists(cls._installedMark()):
            return [
                f"emhance is not installed: run 'scipion3 installb emhance', or set {EMHANCE_BIN} to the path of an emhance "
                "that you have installed yourself."
            ]
        return []

    @classmethod
    def _installedMark(cls):
        return os.path.join(pwem.Config.EM_ROOT, DEFAULT_ENV_NAME, INSTALLED_MARK)

    @classmethod
    def defineBinaries(cls, env):
        """Make a conda environment with emhance in it."""
        commands = [
            cls.getCondaActivationCmd() + f" conda create -y -n {DEFAULT_ENV_NAME} -c conda-forge python=3.11",
            DEFAULT_ACTIVATION,
            f"python -m pip install {shell_words([os.path.expanduser(cls.getVar(EMHANCE_REQUIREMENT))])}",
            "emhance --version",
            "touch " + INSTALLED_MARK,
        ]
        env.addPackage(
            "emhance",
            version=EMHANCE_VERSION,
            tar="void.tgz",
            commands=[(" && ".join(commands), INSTALLED_MARK)],
            neededProgs=cls.getDependencies(),
            default=True,
        )

    @classmethod
    def getDependencies(cls):
        """Programs the installation needs."""
        return [] if cls.getCondaActivationCmd() else ["conda"]
