"""emhance simulate: half maps of an atomic model, and what a network should make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emhance.cli.console import set_verbosity
from emhance.errors import OptionError


def simulate_command(
    atomic_model: Annotated[Path, typer.Argument(metavar="MODEL", readable=False, help="mmCIF or PDB file, gzipped or not.")],
    resolution: Annotated[
        float, typer.Option("--resolution", metavar="Å", help="Where the half-map FSC inside the molecule crosses 0.143.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the maps.")],
    box: Annotated[
        int | None, typer.Option("--box", metavar="N", help="Edge in voxels, even. Default: the molecule and 30 Å around it.")
    ] = None,
    voxel_size: Annotated[float, typer.Option("--voxel-size", metavar="Å", help="Voxel size.")] = 1.0,
    raw: Annotated[
        bool, typer.Option("--raw", help="Plain half maps: not filtered, sharpened or masked. Default: that is drawn as well.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives another case.")] = 1,
    device: Annotated[
        str, typer.Option("--device", help="cpu, or a GPU as in cuda:0. The same seed draws other numbers there.")
    ] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that are already there.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Simulate two half maps of an atomic model, with everything that makes a real map differ from an ideal one.

    emhance simulate 1abc.cif.gz --resolution 3.5 -o sim

    Leaves half1.mrc, half2.mrc, truth.mrc (the atoms' whole density), target.mrc (what the tight network should make of the half
    maps), mask.mrc (the molecule) and parameters.json (every parameter drawn). The molecule is turned at random.
    """
    set_verbosity(quiet=quiet, verbose=0)
    if not 0.1 <= voxel_size <= 10:
        raise OptionError(f"--voxel-size must lie between 0.1 and 10 Å, not {voxel_size:g}.")
    if not 2 * voxel_size <= resolution <= 30:
        raise OptionError(
            f"--resolution must lie between {2 * voxel_size:g} Å (twice the voxel size) and 30 Å, not {resolution:g}; "
            "choose another, or another --voxel-size."
        )
    if seed < 0:
        raise OptionError(f"--seed must not be negative, not {seed}.")
    from emhance.training.atoms import read_atoms
    from emhance.training.simulated_folder import (
        LARGEST_BOX,
        SMALLEST_BOX,
        box_for,
        check_case,
        simulate_case,
        torch_device,
        write_case,
    )

    if box is not None and (box % 2 or not SMALLEST_BOX <= box <= LARGEST_BOX):
        raise OptionError(f"--box must be an even number between {SMALLEST_BOX} and {LARGEST_BOX}, not {box}.")
    chosen = torch_device(device)
    atoms = read_atoms(atomic_model)
    box = box or box_for(atoms, voxel_size)
    check_case(output, overwrite=overwrite)
    maps = simulate_case(atoms, resolution=resolution, box=box, voxel_size=voxel_size, seed=seed, raw=raw, device=chosen)
    parameters = {
        "atomic_model": atomic_model.name,
        "resolution": resolution,
        "box": box,
        "voxel_size": voxel_size,
        "seed": seed,
        "raw": raw,
        "device": device,
    }
    paths = write_case(maps, output, parameters=parameters, voxel_size=voxel_size, overwrite=overwrite)
    if not quiet:
        typer.echo(f"Wrote {', '.join(path.name for path in paths)} to {output}: {box} voxels of {voxel_size:g} Å.")
