"""emhance networks: which networks ship, what each is for; fetch deepEMhancer's checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from emhance.cli.console import progress_bar
from emhance.errors import OptionError, WeightsError


def networks_command(
    destination: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DEST]",
            help="With --download-reference: the folder for the checkpoints. Default: where deepEMhancer itself keeps them.",
        ),
    ] = None,
    download_reference: Annotated[
        bool,
        typer.Option(
            "--download-reference", help="Fetch deepEMhancer's published checkpoints (0.7 GB, Zenodo record 7432763) instead."
        ),
    ] = False,
) -> None:
    """List the networks that ship with emhance and what each is for.

    emhance networks --download-reference checkpoints
    """
    if download_reference:
        fetch_reference(destination)
        return
    if destination is not None:
        raise OptionError(f"A folder ({destination}) goes with --download-reference only; add that option, or drop the folder.")
    from emhance.network.weights import available_cards, load_network

    cards = available_cards()
    if not cards:
        raise WeightsError("This installation holds no networks; install emhance again.")
    table = Table(show_lines=True)
    for column in ("network", "for", "maps of", "trained", "cost"):
        table.add_column(column)
    for card in cards:
        cost = load_network(card.name).module.operations_per_voxel() / 1000
        table.add_row(
            f"{card.name} {card.version}",
            card.purpose,
            f"{card.resolution[0]:g}-{card.resolution[1]:g} Å\n{card.voxel_size:g} Å/voxel",
            f"{card.trained_on} {card.training}",
            f"{cost:.0f} kFLOP/voxel",
        )
    Console().print(table)
    typer.echo("Use one with --network NAME; tight is the default, masked goes with --mask.")


def fetch_reference(destination: Path | None) -> None:
    """Fetch deepEMhancer's checkpoints with a progress bar, or check those that are there, and say where they lie."""
    from emhance.legacy.download import RECORD, REFERENCE_FOLDER, download_reference

    folder = (destination or Path(REFERENCE_FOLDER)).expanduser()
    with progress_bar(quiet=False) as move:
        progress = None if move is None else lambda done, total: move("fetching", done, total)
        files = download_reference(folder, progress=progress)
    typer.echo(f"{', '.join(path.name for path in files)} lie in {folder}.")
    typer.echo(
        f"Their SHA-256 are in {RECORD} there and are checked from now on. The archive's true one is not known to emhance, so "
        "the first download itself could not be checked."
    )
