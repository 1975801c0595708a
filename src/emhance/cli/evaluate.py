"""emhance evaluate: a table of scores of a network on maps whose truth is known."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emhance.cli.console import progress_bar, set_verbosity
from emhance.config import EnhanceConfig, help_of

if TYPE_CHECKING:  # importing PyTorch takes seconds; --help shall not wait for it
    from emhance.training.evaluation import Row

HEADINGS = ("cc_box", "cc_mask", "FSC 0.5 (Å)", "mean FSC")


def evaluate_command(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help="A .safetensors file, or a name such as tight.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            readable=False,
            help="Folder of cases from emhance simulate, or with a table.csv as of fine-tune.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="TABLE.csv", help="Write the table as CSV, too.")
    ] = None,
    gpus: Annotated[str, typer.Option("-g", "--gpus", help=help_of(EnhanceConfig, "gpus"))] = "auto",
    threads: Annotated[int | None, typer.Option("--threads", help=help_of(EnhanceConfig, "threads"))] = None,
    recombine: Annotated[
        bool, typer.Option("--recombine/--no-recombine", help="Recombine network and data, as enhance does.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that is already there.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the table alone.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; -vv says everything.")] = 0,
) -> None:
    """Enhance maps whose truth is known and compare: one row a map, input → enhanced, and the means at the end.

    emhance evaluate tight --data simulated -o scores.csv

    cc_box and cc_mask: correlation with the true density at the map's resolution, everywhere and near the atoms. FSC 0.5: where
    the FSC with the truth, near the atoms, falls below 0.5. mean FSC: its mean up to the map's resolution.
    """
    set_verbosity(quiet=quiet, verbose=verbose)
    from emhance.maps.atomic_write import check_output
    from emhance.network.weights import load_network
    from emhance.training.evaluation import evaluate, find_cases, means, write_table

    if output is not None:
        check_output(output, overwrite=overwrite)
    network = load_network(weights)
    cases = find_cases(data)
    config = EnhanceConfig(network=weights, gpus=gpus, threads=threads, recombine=recombine)
    width = max(len("mean"), *(len(case.name) for case in cases))
    rows = []
    typer.echo("  ".join([f"{'map':{width}}", f"{'Å':>5}", *(f"{heading:>15}" for heading in HEADINGS)]))
    with progress_bar(quiet=quiet) as progress:
        for row in evaluate(network, weights, cases, config=config, progress=progress):
            rows.append(row)
            typer.echo(_line(row, width))
    rows.append(means(rows))
    typer.echo(_line(rows[-1], width))
    if output is not None:
        write_table(rows, output, overwrite=overwrite)
        if not quiet:
            typer.echo(f"Wrote {output}.")


def _line(row: Row, width: int) -> str:
    digits = (3, 3, 2, 3)
    cells = [
        f"{f'{before:.{n}f} → {after:.{n}f}':>15}"
        for before, after, n in zip(astuple(row.before), astuple(row.after), digits, strict=True)
    ]
    return "  ".join([f"{row.name:{width}}", f"{row.resolution:5.2f}", *cells])
