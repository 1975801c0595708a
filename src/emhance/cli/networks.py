"""emhance networks: which networks ship, what each is for."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from emhance.errors import WeightsError


def networks_command() -> None:
    """List the networks that ship with emhance and what each is for."""
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
