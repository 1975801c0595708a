"""Names the plugin shares; importing this module needs nothing but Python."""

PLUGIN_VERSION = "0.1.0"

EMHANCE_VERSION = "0.1.0"
"""The version of the program that `defineBinaries` installs."""

EMHANCE_BIN = "EMHANCE_BIN"
"""Configuration variable: the program, by name or path."""

EMHANCE_ENV_ACTIVATION = "EMHANCE_ENV_ACTIVATION"
"""Configuration variable: the command that activates the environment the program lives in."""

EMHANCE_REQUIREMENT = "EMHANCE_REQUIREMENT"
"""Configuration variable: what pip installs into the program's environment."""

EMHANCE_CHECKPOINTS = "EMHANCE_CHECKPOINTS"
"""Configuration variable: folder of deepEMhancer's checkpoints."""

DEFAULT_ENV_NAME = "emhance-" + EMHANCE_VERSION
DEFAULT_BIN = "emhance"
DEFAULT_ACTIVATION = "conda activate " + DEFAULT_ENV_NAME
DEFAULT_REQUIREMENT = "emhance[legacy,report]==" + EMHANCE_VERSION
DEFAULT_CHECKPOINTS = "~/.local/share/deepEMhancerModels/production_checkpoints"
"""Where deepEMhancer itself downloads them to."""

# Values of the form's lists, the same as those of Xmipp's deepEMhancer protocol.
NORMALIZATION_AUTO = 0
NORMALIZATION_STATS = 1
NORMALIZATION_MASK = 2
NORMALIZATION_OPTIONS = ["Automatic normalization", "Normalization from statistics", "Normalization from binary mask"]

TIGHT_MODEL = 0
WIDE_MODEL = 1
HI_RES = 2
MODEL_TARGET_OPTIONS = ["tight target", "wide target", "highRes"]

# New here.
NETWORKS_EMHANCE = 0
NETWORKS_DEEPEMHANCER = 1
NETWORKS_OPTIONS = ["emhance", "deepEMhancer checkpoints"]

# Files of a run.
INPUT_VOL_BASENAME = "inputVol.mrc"
INPUT_HALF1_BASENAME = "inputHalf1.mrc"
INPUT_HALF2_BASENAME = "inputHalf2.mrc"
INPUT_MASK_BASENAME = "inputMask.mrc"
POSTPROCESS_VOL_BASENAME = "deepPostProcess.mrc"
