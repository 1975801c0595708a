"""The command lines of deepEMhancer 0.17 and of Xmipp's wrapper around it; both end in the same call as ``emhance enhance``.

They are no entry points of the package: those would replace an original in the same environment as soon as emhance is
installed. ``emhance install-compat DIR`` writes the two launchers into a folder of the user's choice instead, so the PATH
decides who answers, in one shell or in all of them, and removing two files takes it back.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from emhance.cli.console import progress_bar, set_verbosity
from emhance.cli.network_choice import check_choice, enhance_by_choice
from emhance.cli.networks import fetch_reference
from emhance.cli.program import run_program
from emhance.config import CAUTION, EnhanceConfig
from emhance.errors import OptionError, OutputError, WeightsError

logger = logging.getLogger("emhance")

OWN_NETWORKS = {"tightTarget": "tight", "wideTarget": "wide", "highRes": "highres", "masked": "masked"}
"""emhance's own networks by the names of deepEMhancer's checkpoints."""

SUBFOLDER = "production_checkpoints"
"""Folder of the checkpoints inside the one that ``--download DEST`` names."""

PROGRAMS = ("deepemhancer", "xmipp_deep_volume_postprocessing")

# Run by sh, the second line starts Python on this same file, whatever the length of its path and the spaces in it; to Python
# the two lines are a string.
LAUNCHER = """#!/bin/sh
'''exec' {python} "$0" "$@"
' '''
# Written by `emhance install-compat`: emhance in place of {program}. Remove this file to be rid of it.
from emhance.cli.compat import {program}

{program}()
"""


def deepemhancer() -> None:
    """Be deepEMhancer 0.17 and leave with an exit code."""
    run_program(lambda: _run_deepemhancer(sys.argv[1:]))


def xmipp_deep_volume_postprocessing() -> None:
    """Be Xmipp's xmipp_deep_volume_postprocessing and leave with an exit code."""
    run_program(lambda: _run_xmipp(sys.argv[1:]))


def install_compat_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the two launchers; it is made if missing.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of these names that are there.")] = False,
) -> None:
    """Write launchers called deepemhancer and xmipp_deep_volume_postprocessing that run emhance.

    Installing emhance alone never stands in the way of an installed deepEMhancer; this does, for whoever has DIR early in the
    PATH, and only there. Scripts and Xmipp's protocol then run emhance unchanged.
    """
    from emhance.maps.atomic_write import atomic_output, check_output

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made ({error.strerror}); choose another one.") from error
    for program in PROGRAMS:
        check_output(folder / program, overwrite=overwrite)
    for program in PROGRAMS:
        with atomic_output(folder / program, overwrite=overwrite) as temporary:
            temporary.write_text(LAUNCHER.format(python=shlex.quote(sys.executable), program=program), encoding="utf-8")
            temporary.chmod(0o755)
    typer.echo(f"Wrote {' and '.join(PROGRAMS)} to {folder}; put it early in your PATH to use them.")


def deepemhancer_parser() -> argparse.ArgumentParser:
    """Every option of deepEMhancer 0.17, and --reference-exact."""
    parser = argparse.ArgumentParser(
        prog="deepemhancer",
        description="emhance in place of deepEMhancer 0.17: the same options, an enhanced map on the grid of the input.",
    )
    add = parser.add_argument
    add(
        "-i",
        "--inputMap",
        type=_path,
        required=True,
        metavar="MAP",
        help="the map, or half map 1; raw: not sharpened, not masked",
    )
    add("-o", "--outputMap", type=_path, required=True, metavar="MAP", help="the map to write; must not exist")
    add("-p", "--processingType", choices=("wideTarget", "tightTarget", "highRes"), default="tightTarget", help="which network")
    add("-i2", "--halfMap2", type=_path, metavar="MAP", help="half map 2")
    add("-s", "--samplingRate", type=float, metavar="Å", help="voxel size; default: the header's")
    add("--noiseStats", type=float, nargs=2, metavar=("MEAN", "STD"), help="noise statistics; default: measured")
    add("-m", "--binaryMask", type=_path, metavar="MAP", help="binary mask; selects the network made for masks")
    add("--deepLearningModelPath", type=_path, metavar="DIR|FILE", help="folder of checkpoints, or one checkpoint")
    add("--cleaningStrengh", type=float, default=-1.0, metavar="F", help="remove smaller components, 0-1; -1: off (default)")
    add("-g", "--gpuIds", metavar="IDS", help="GPUs, as in 0 or 0,1; -1 is the CPU; default: one GPU if there is one")
    add("-b", "--batch_size", type=int, metavar="N", help="tiles at a time; the result does not depend on it")
    add("--version", action="version", version=f"emhance {version('emhance')}, in place of deepEMhancer 0.17")
    add("--download", nargs="?", action=_Download, metavar="DEST", help="fetch deepEMhancer's published checkpoints and leave")
    add("--reference-exact", action="store_true", help="with a checkpoint: deepEMhancer's own arithmetic, defects included")
    return parser


def xmipp_parser() -> argparse.ArgumentParser:
    """Every option of Xmipp's wrapper."""
    parser = argparse.ArgumentParser(
        prog="xmipp_deep_volume_postprocessing",
        description="emhance in place of Xmipp's wrapper around deepEMhancer: the same options.",
    )
    add = parser.add_argument
    add("-i", dest="inputMap", type=_path, required=True, metavar="MAP", help="the map, or half map 1")
    add("-i2", dest="halfMap2", type=_path, metavar="MAP", help="half map 2")
    add("-o", dest="outputMap", type=_path, required=True, metavar="MAP", help="the map to write; must not exist")
    add("--sampling_rate", type=float, metavar="Å", help="voxel size; default: the header's")
    add("--checkpoint", type=_path, metavar="FILE", help="one of deepEMhancer's checkpoints")
    add("--cleaningStrengh", type=float, default=-1.0, metavar="F", help="remove smaller components, 0-1; -1: off (default)")
    add("-g", dest="gpuIds", metavar="ID|all|-1", help="GPUs; -1 is the CPU; default: one GPU if there is one")
    add("-b", dest="batch_size", type=int, metavar="N", help="tiles at a time; the result does not depend on it")
    add("--binaryMask", type=_path, metavar="MAP", help="binary mask; goes before noise statistics")
    add("--noise_stats_mean", type=float, metavar="MEAN", help="mean of the noise")
    add("--noise_stats_std", type=float, metavar="STD", help="s.d. of the noise")
    add("--sizeThr", nargs="*", help="ignored, as by the original")
    return parser


class _Download(argparse.Action):
    """Fetch the checkpoints and leave, whatever else is on the command line."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, values: Any, option_string: str | None = None) -> None:
        fetch_reference(Path(values) / SUBFOLDER if values else None)
        parser.exit()


def _run_deepemhancer(arguments: list[str]) -> None:
    options = deepemhancer_parser().parse_args(arguments)
    kind, chosen = options.processingType, options.deepLearningModelPath
    if kind != "tightTarget" and options.binaryMask is not None:
        raise OptionError(
            f"-p {kind} and a mask contradict each other, as the mask selects its own network; drop one of the two."
        )
    if kind != "tightTarget" and chosen is not None and chosen.is_file():
        raise OptionError(f"-p {kind} and the checkpoint {chosen} contradict each other; drop one of the two.")
    if options.noiseStats is not None and options.binaryMask is not None:
        raise OptionError("--noiseStats and --binaryMask contradict each other; drop one of the two.")
    _run(
        options,
        chosen=chosen,
        kind="masked" if options.binaryMask is not None else kind,
        noise=options.noiseStats,
        voxel_size=options.samplingRate,
        exact=options.reference_exact,
    )


def _run_xmipp(arguments: list[str]) -> None:
    options = xmipp_parser().parse_args(arguments)
    noise = (options.noise_stats_mean, options.noise_stats_std)
    if (noise[0] is None) != (noise[1] is None):
        raise OptionError("--noise_stats_mean and --noise_stats_std belong together; give both.")
    _run(
        options,
        chosen=options.checkpoint,
        kind="masked" if options.binaryMask is not None else "tightTarget",
        noise=None if options.binaryMask is not None or noise[0] is None else noise,
        voxel_size=options.sampling_rate,
        exact=False,
    )


def _run(
    options: argparse.Namespace,
    *,
    chosen: Path | None,
    kind: str,
    noise: tuple[float, float] | None,
    voxel_size: float | None,
    exact: bool,
) -> None:
    """Enhance and write the map; all that the two programs share."""
    set_verbosity(quiet=False, verbose=0)
    if options.cleaningStrengh >= 1:
        raise OptionError(f"--cleaningStrengh must be below 1, or -1 for no cleaning, not {options.cleaningStrengh:g}.")
    output, mask = options.outputMap, options.binaryMask
    stale_record = _check_output(output)
    config = EnhanceConfig(
        network=_network(chosen, kind),
        noise_mean=None if noise is None else noise[0],
        noise_std=None if noise is None else noise[1],
        clean=options.cleaningStrengh if options.cleaningStrengh > 0 else None,
        voxel_size=voxel_size,
        batch_size=options.batch_size,
        gpus=_gpus(options.gpuIds),
    )
    config.resolved(has_mask=mask is not None)
    check_choice(config, exact=exact)
    with progress_bar(quiet=False) as progress:
        result = enhance_by_choice(options.inputMap, options.halfMap2, mask=mask, config=config, exact=exact, progress=progress)
    written, record = result.write(output, overwrite=stale_record)
    used = result.provenance.normalization
    if used.get("mean") is not None and used.get("std") is not None:
        typer.echo(f"Noise statistics: mean={used['mean']:f} std={used['std']:f}")
    typer.echo(f"Wrote {written} ({CAUTION}) and {record.name}.")


def _check_output(output: Path) -> bool:
    """Refuse what the original refuses; return whether there is a record whose map was removed, to be replaced."""
    from emhance.maps.atomic_write import check_output
    from emhance.pipeline import provenance_path
    from emhance.report.folder import is_provenance

    if output.suffix not in (".mrc", ".map"):
        raise OutputError(f"{output}: the name of the output must end in .mrc or .map.")
    if output.exists():
        raise OutputError(f"{output}: exists already and is never replaced; remove it, or give another name.")
    record = provenance_path(output)
    stale = is_provenance(record)
    for target in (output, record):
        check_output(target, overwrite=stale)
    return stale


def _network(chosen: Path | None, kind: str) -> str:
    """The checkpoint of a kind where the user has one, else emhance's own network of that kind."""
    from emhance.legacy.download import REFERENCE_FOLDER

    if chosen is not None and chosen.is_file():
        return str(chosen)
    folder = chosen or _path(REFERENCE_FOLDER)
    file = f"deepEMhancer_{kind}.hd5"
    for path in (folder / file, folder / SUBFOLDER / file):
        if path.is_file():
            return str(path)
    if chosen is not None:
        raise WeightsError(
            f"There is no checkpoint {chosen}, and no {file} in a folder of that name; fetch it with deepemhancer --download, or "
            "leave the option out to use emhance's own network."
        )
    logger.warning("No %s in %s: emhance's own network '%s' is used.", file, folder, OWN_NETWORKS[kind])
    return OWN_NETWORKS[kind]


def _gpus(ids: str | None) -> str:
    """Return the choice of GPUs in emhance's words; like the original, run on the CPU where there is no GPU, and say so."""
    from emhance.network.devices import pick_devices

    if ids is None:
        return "auto"
    if "-1" in ids:
        return "none"
    if pick_devices("auto")[0].type == "cpu":
        logger.warning("There is no GPU here (-g %s): running on the CPU.", ids)
        return "none"
    return ids


def _path(text: str) -> Path:
    return Path(text).expanduser()
