"""The command that runs emhance.

This module needs nothing but Python, so that emhance's own tests can load it and compare its flags with emhance's parser.
"""

import os
import shlex

from .constants import HI_RES, TIGHT_MODEL, WIDE_MODEL

NETWORK_NAMES = {TIGHT_MODEL: "tight", WIDE_MODEL: "wide", HI_RES: "highres"}
"""emhance's name of each entry of the form's list."""

MASKED_NETWORK = "masked"

CHECKPOINT_FILES = {
    "tight": "deepEMhancer_tightTarget.hd5",
    "wide": "deepEMhancer_wideTarget.hd5",
    "highres": "deepEMhancer_highRes.hd5",
    "masked": "deepEMhancer_masked.hd5",
}
"""deepEMhancer's checkpoint that stands for each of emhance's networks."""

CHECKPOINTS_SUBFOLDER = "production_checkpoints"


def network_name(model_type, with_mask):
    """Emhance's name of the network that the form asks for; a mask has a network of its own."""
    return MASKED_NETWORK if with_mask else NETWORK_NAMES[model_type]


def checkpoint_path(place, network):
    """The deepEMhancer checkpoint that stands for a network.

    Parameters
    ----------
    place
        A folder with the four published checkpoints, its parent, or one .hd5 file, which is used as it is.
    network
        emhance's name of the network.
    """
    place = os.path.expanduser(place)
    if place.endswith((".hd5", ".h5", ".hdf5")):
        return place
    inside = os.path.join(place, CHECKPOINTS_SUBFOLDER)
    return os.path.join(inside if os.path.isdir(inside) else place, CHECKPOINT_FILES[network])


def enhance_arguments(
    volume,
    output,
    voxel_size,
    network,
    half2=None,
    noise_mean=None,
    noise_std=None,
    mask=None,
    clean=None,
    batch_size=None,
    gpus=(),
    report=False,
):
    """Arguments of one enhancement, as a list of strings that starts with the subcommand.

    Parameters
    ----------
    volume, half2
        The map; or half map 1 and half map 2.
    output
        The map to write; its record is written beside it, as .json.
    voxel_size
        Å; Scipion's sampling rate overrides the file's header.
    network
        Name or path.
    noise_mean, noise_std
        Statistics of the solvent noise, in the map's units; they select normalisation from statistics.
    mask
        Binary mask; it selects normalisation from the mask.
    clean
        Connected components smaller than this fraction of the positive voxels are removed; `None` leaves them.
    batch_size
        Tiles at a time; `None` leaves it to emhance.
    gpus
        Numbers of the GPUs; empty for the CPU.
    report
        Whether to write a report, one HTML file, beside the map.
    """
    arguments = ["enhance", volume]
    if half2 is not None:
        arguments.append(half2)
    arguments += ["--output", output, "--voxel-size", _number(voxel_size), "--network", network]
    if mask is not None:
        arguments += ["--normalization", "mask", "--mask", mask]
    elif noise_mean is not None:
        # with "=", since a negative number could be taken for an option
        arguments += ["--normalization", "statistics"]
        arguments += ["--noise-mean=" + _number(noise_mean), "--noise-std=" + _number(noise_std)]
    else:
        arguments += ["--normalization", "auto"]
    if clean is not None:
        arguments += ["--clean", _number(clean)]
    arguments += ["--batch-size", "auto" if batch_size is None else str(batch_size)]
    arguments += ["--gpus", ",".join(str(gpu) for gpu in gpus) if gpus else "none"]
    if report:
        arguments.append("--report")
    return [*arguments, "--overwrite", "--verbose"]


def shell_words(arguments):
    """Arguments as one string for a shell, each quoted where it needs to be."""
    return " ".join(shlex.quote(argument) for argument in arguments)


def _number(value):
    """The shortest text that reads back as the same number; numpy's own numbers would print their type."""
    return repr(float(value))
