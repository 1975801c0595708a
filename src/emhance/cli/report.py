"""emhance report: one page to look at for every enhanced map in a folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from emhance.cli.console import set_verbosity

logger = logging.getLogger("emhance")


def report_command(
    folder: Annotated[Path, typer.Argument(readable=False, help="Folder with enhanced maps and their JSON files.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace reports that are already there.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Write a report beside every enhanced map in a folder: one HTML file each, to be opened offline or mailed."""
    set_verbosity(quiet=quiet, verbose=0)
    from emhance.report.folder import find_runs, is_empty, write_report_of_run

    for run in find_runs(folder):
        if is_empty(run):
            logger.warning("%s: nothing was found in this map, so there is nothing to show; its JSON file says why.", run.name)
            continue
        written = write_report_of_run(run, overwrite=overwrite)
        if not quiet:
            typer.echo(f"Wrote {written}.")
