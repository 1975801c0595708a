"""emhance info: what is in this file, and is it fit to be enhanced?"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from emhance.errors import UserError


def info_command(
    map: Annotated[Path, typer.Argument(readable=False, help="An MRC/CCP4 map, plain or compressed.")],
    voxel_size: Annotated[float | None, typer.Option("--voxel-size", metavar="Å", help="Overrides the header.")] = None,
) -> None:
    """Say what is in a map file and whether it is fit to be enhanced."""
    from emhance.maps.inspection import inspect
    from emhance.maps.mrc import read_map, read_summary
    from emhance.steps.noise import estimate_noise

    console = Console(soft_wrap=True, markup=False, highlight=False)
    summary = read_summary(map)
    table = Table(show_header=False, box=None, title=str(map), title_justify="left")
    for entry in fields(summary):
        value = getattr(summary, entry.name)
        name = entry.name.replace("_xyz", " (x, y, z)").replace("_", " ")
        table.add_row(name, _text(value))
    console.print(table)
    try:
        density = read_map(map, voxel_size=voxel_size)
    except UserError as error:
        console.print("Fit to be enhanced: no.", style="bold")
        raise error
    noise = estimate_noise(density.data)
    if noise.mean is not None and noise.std is not None:
        console.print(
            f"Solvent noise: mean {noise.mean:.4g}, s.d. {noise.std:.4g}; density reaches {noise.density:.4g} (99.9 %)."
        )
    else:
        console.print(f"Solvent noise: none to measure ({noise.reason}).")
    findings = inspect(density)
    for finding in findings:
        console.print(f"Note: {finding.message} {finding.suggestion}")
    console.print("Fit to be enhanced: yes." if not findings else "Fit to be enhanced: yes, with the notes above.", style="bold")


def _text(value: object) -> str:
    if value is None:
        return "not given"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return ("; " if value and isinstance(value[0], str) else ", ").join(_text(item) for item in value) or "none"
    return str(value)
