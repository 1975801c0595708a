"""emhance validate: what two half maps say about themselves, and about an enhanced map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emhance.cli.console import set_verbosity
from emhance.cli.half_maps import find_half2
from emhance.errors import OptionError


def validate_command(
    half1: Annotated[Path, typer.Argument(help="Half map 1, raw.")],
    half2: Annotated[Path | None, typer.Argument(help="Half map 2. Default: found by the name of half map 1.")] = None,
    enhanced: Annotated[Path | None, typer.Option("--enhanced", help="The enhanced map made from them.")] = None,
    mask: Annotated[Path | None, typer.Option("-m", "--mask", help="Mask from 0 to 1. Default: found from the map.")] = None,
    atomic_model: Annotated[
        Path | None, typer.Option("--atomic-model", help="mmCIF or PDB file in the map's frame, for map-model FSC and CC.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("emhance-validation"),
    voxel_size: Annotated[float | None, typer.Option("--voxel-size", metavar="Å", help="Overrides the headers.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads. Default: all cores.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that are already there.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; -vv says everything.")] = 0,
) -> None:
    """Half-map FSC, Guinier profile, directional and local resolution, and the fit to an atomic model.

    emhance validate half1.mrc half2.mrc --enhanced enhanced.mrc -o validation

    Leaves validation.json (every number), fsc.xml (for EMDB), mask.mrc and local_resolution.mrc (Å) in the folder.
    """
    set_verbosity(quiet=quiet, verbose=verbose)
    if voxel_size is not None and not 0 < voxel_size < float("inf"):
        raise OptionError(f"--voxel-size must be a positive number of Å, not {voxel_size:g}.")
    if threads is not None and threads < 1:
        raise OptionError(f"--threads must be at least 1, not {threads}.")
    from emhance.maps.atomic_write import check_output
    from emhance.validation.validate import FILES, make_folder, validate

    half2 = half2 or find_half2(half1)
    for name in FILES:
        check_output(make_folder(output) / name, overwrite=overwrite)
    result = validate(
        half1, half2, enhanced=enhanced, mask=mask, atomic_model=atomic_model, voxel_size=voxel_size, threads=threads
    )
    written = result.write(output, overwrite=overwrite)
    if quiet:
        return
    fsc = result.fsc.resolution
    how = "automatic mask" if result.mask_is_automatic else "given mask"
    typer.echo(f"Resolution {result.resolution:.2f} Å (FSC 0.143, {how}, corrected); {fsc['corrected'][0.5]:.2f} Å at 0.5;")
    typer.echo(f"  {fsc['masked'][0.143]:.2f} Å masked, {fsc['unmasked'][0.143]:.2f} Å unmasked (0.143).")
    by_direction = result.directional.resolution
    typer.echo(f"By direction: {by_direction.min():.2f} to {by_direction.max():.2f} Å.")
    local = result.local_resolution_quantiles
    typer.echo(f"Local: {local['5 %']:.2f} to {local['95 %']:.2f} Å, median {local['50 %']:.2f} Å (local FSC 0.5).")
    for name, profile in result.guinier.items():
        typer.echo(f"Guinier B {name} enhancement: {profile.b_factor:.0f} Å².")
    for name, fit in result.map_model.items():
        typer.echo(
            f"Atomic model, {name} enhancement: CC_box {fit.cc_box:.3f}, CC_mask {fit.cc_mask:.3f}, map-model FSC 0.5 at "
            f"{fit.resolution:.2f} Å ({fit.resolution_masked:.2f} Å masked)."
        )
    typer.echo(f"Wrote {', '.join(path.name for path in written)} to {output}.")
