"""emhance enhance: a raw map or its half maps in, an enhanced map out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from emhance.cli.console import progress_bar, set_verbosity
from emhance.cli.half_maps import find_half2
from emhance.cli.network_choice import check_choice, enhance_by_choice
from emhance.config import CAUTION, EnhanceConfig, default_of, help_of
from emhance.errors import OptionError

logger = logging.getLogger("emhance")


def _help(name: str) -> str:
    return help_of(EnhanceConfig, name)


def enhance_command(  # files that cannot be read are said by whoever reads them, hence readable=False
    map: Annotated[
        Path, typer.Argument(readable=False, help="The map, or half map 1: a raw reconstruction, not sharpened, not masked.")
    ],
    half2: Annotated[Path | None, typer.Argument(readable=False, help="Half map 2.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", readable=False, help="The map to write. Default: NAME_enhanced.mrc.")
    ] = None,
    half2_option: Annotated[
        str | None, typer.Option("--half2", help="Half map 2, or auto: found by the names of RELION, cryoSPARC and EMDB.")
    ] = None,
    network: Annotated[str | None, typer.Option("-n", "--network", help=_help("network"))] = None,
    normalization: Annotated[str | None, typer.Option("--normalization", help=_help("normalization"))] = None,
    noise_mean: Annotated[float | None, typer.Option("--noise-mean", help=_help("noise_mean"))] = None,
    noise_std: Annotated[float | None, typer.Option("--noise-std", help=_help("noise_std"))] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            "-m", "--mask", readable=False, help="Binary mask on the map's grid; selects mask normalisation and network."
        ),
    ] = None,
    clean: Annotated[float | None, typer.Option("--clean", metavar="FRACTION", help=_help("clean"))] = None,
    recombine: Annotated[str | None, typer.Option("--recombine", metavar="on|off", help=_help("recombine"))] = None,
    resolution: Annotated[float | None, typer.Option("--resolution", metavar="Å", help=_help("resolution"))] = None,
    voxel_size: Annotated[float | None, typer.Option("--voxel-size", metavar="Å", help=_help("voxel_size"))] = None,
    batch_size: Annotated[str, typer.Option("-b", "--batch-size", metavar="N|auto", help=_help("batch_size"))] = "auto",
    tile_size: Annotated[str, typer.Option("--tile-size", metavar="N|auto", help=_help("tile_size"))] = "auto",
    gpus: Annotated[str, typer.Option("-g", "--gpus", help=_help("gpus"))] = default_of(EnhanceConfig, "gpus"),
    threads: Annotated[int | None, typer.Option("--threads", help=_help("threads"))] = None,
    precision: Annotated[str, typer.Option("--precision", help=_help("precision"))] = default_of(EnhanceConfig, "precision"),
    confidence: Annotated[
        bool,
        typer.Option("--confidence", help="With half maps: enhance each alone as well, and say how far to trust every voxel."),
    ] = False,
    gate: Annotated[
        bool, typer.Option("--gate", help="Let density fade where the half maps do not support it; includes --confidence.")
    ] = False,
    report: Annotated[bool, typer.Option("--report", help="Write a report to look at, one HTML file.")] = False,
    reference_exact: Annotated[
        bool,
        typer.Option("--reference-exact", help="With an imported network: deepEMhancer's own arithmetic, its defects included."),
    ] = False,
    stride: Annotated[
        int | None,
        typer.Option(
            "--stride",
            metavar="N",
            help="With an imported network: largest step between tiles in voxels of 1 Å; smaller is slower. deepEMhancer: 16. "
            "Default: three quarters of a tile.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that are already there.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; -vv says everything.")] = 0,
) -> None:
    """Enhance a map, or better its two half maps.

    emhance enhance half1.mrc half2.mrc -o enhanced.mrc

    emhance enhance map.mrc --resolution 3.4 -o enhanced.mrc

    Beside the map a JSON file says how it was made. Look at both maps, always: the enhanced one is an aid to interpretation.
    """
    set_verbosity(quiet=quiet, verbose=verbose)
    if half2 is not None and half2_option is not None:
        raise OptionError(f"Half map 2 is given twice, as {half2} and as --half2 {half2_option}; give it once.")
    if half2_option is not None:
        half2 = find_half2(map) if half2_option == "auto" else Path(half2_option)
    config = EnhanceConfig(
        network=network,
        normalization=normalization,
        noise_mean=noise_mean,
        noise_std=noise_std,
        clean=clean,
        recombine=_on_or_off("--recombine", "on" if recombine is None else recombine),
        resolution=resolution,
        voxel_size=voxel_size,
        batch_size=_number_or_auto("--batch-size", batch_size),
        tile_size=_number_or_auto("--tile-size", tile_size),
        gpus=gpus,
        threads=threads,
        precision=precision,
    )
    config.resolved(has_mask=mask is not None)  # contradictions are said before anything is loaded
    check_choice(config, exact=reference_exact, stride=stride, recombine=recombine == "on", confidence=confidence or gate)
    output = output or _default_output(map)

    from emhance.evidence import confidence_path, enhance_with_evidence, require_half_maps
    from emhance.maps.atomic_write import check_output
    from emhance.pipeline import provenance_path
    from emhance.report.chimerax import script_path, write_script
    from emhance.report.folder import report_path, write_report_of_run
    from emhance.report.page import require_jinja

    confidence = confidence or gate
    if report:
        require_jinja()
    if confidence:
        require_half_maps("--gate" if gate else "--confidence", half2)
    targets = [output, provenance_path(output)]
    targets += [confidence_path(output)] if confidence else []
    shown = [script_path(output)] if confidence or report else []
    shown += [report_path(output)] if report else []
    targets += shown
    inputs = [path for path in (map, half2, mask) if path is not None]
    for target in targets:
        for source in inputs:
            if source.exists() and target.exists() and source.samefile(target):
                raise OptionError(f"The output {target} is an input as well; inputs are never touched: choose another name.")
        check_output(target, overwrite=overwrite)
    with progress_bar(quiet=quiet) as progress:
        if confidence and half2 is not None:
            supported = enhance_with_evidence(map, half2, mask=mask, config=config, gate=gate, progress=progress)
            supported.write(output, overwrite=overwrite)
            result, sentence = supported.result, supported.held_out.sentence
        else:
            result = enhance_by_choice(
                map, half2, mask=mask, config=config, exact=reference_exact, stride=stride, progress=progress
            )
            result.write(output, overwrite=overwrite)
            sentence = ""
    if shown and not result.map.data.any():
        logger.warning("There is nothing to show: not written: %s.", ", ".join(path.name for path in shown))
        targets, shown, sentence = [target for target in targets if target not in shown], [], ""
    if script_path(output) in shown:
        write_script(output, overwrite=overwrite)
    if report_path(output) in shown:
        write_report_of_run(provenance_path(output), overwrite=overwrite)
    if not quiet:
        written, *others = targets
        typer.echo(f"Wrote {written} ({CAUTION}) and {', '.join(path.name for path in others)}.")
        if sentence:
            typer.echo(sentence)


def _default_output(map: Path) -> Path:
    name = map.name
    for suffix in (".gz", ".bz2", ".mrc", ".map", ".ccp4"):
        name = name.removesuffix(suffix)
    return map.with_name(f"{name}_enhanced.mrc")


def _on_or_off(option: str, value: str) -> bool:
    if value not in ("on", "off"):
        raise OptionError(f"{option} must be on or off, not {value!r}.")
    return value == "on"


def _number_or_auto(option: str, value: str) -> int | None:
    if value == "auto":
        return None
    try:
        return int(value)
    except ValueError:
        raise OptionError(f"{option} must be a whole number or auto, not {value!r}.") from None
