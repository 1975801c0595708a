"""emhance train: a network from atomic models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emhance.cli.console import console, progress_bar, set_verbosity
from emhance.cli.program import Stopped

if TYPE_CHECKING:  # importing PyTorch takes seconds; --help shall not wait for it
    from emhance.training.loop import Reports, TrainingResult
    from emhance.training.training_config import TrainingConfig

PLOT = "log.png"


def train_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", readable=False, help="The run's configuration.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the output folder, if any.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for checkpoint, log and weights; replaces the file's output.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; -vv says everything.")] = 0,
) -> None:
    """Train a network on maps simulated from atomic models.

    emhance train config.toml

    torchrun --nproc-per-node 4 --no-python emhance train config.toml

    The smallest configuration has two lines, structures = "FOLDER" of mmCIF or PDB files and output = "FOLDER"; docs/training.md
    lists the rest. The output folder gets config.toml (every value), checkpoint.pt, log.csv, log.png, and at the end the weights
    and their card. Ctrl-C saves a checkpoint and ends; --resume goes on from there, exactly.
    """
    set_verbosity(quiet=quiet, verbose=verbose)
    from emhance.training.export import export_network
    from emhance.training.loop import train
    from emhance.training.settings import CONFIG, read_config, write_config

    settings = read_config(config, output=output)
    with reporting(settings, quiet=quiet) as reports:
        result = train(settings, resume=resume, reports=reports)
    if result.is_first:
        write_config(settings, settings.output / CONFIG)
    finish(
        result,
        lambda: export_network(result, settings, purpose=f"Trained for {settings.crops.target} targets."),
        again=f"emhance train {config} --resume",
        quiet=quiet,
    )


@contextmanager
def reporting(config: TrainingConfig, *, quiet: bool) -> Iterator[Reports]:
    """Keep the user informed about a run: a bar on a terminal, else lines; and the plot of its log."""
    from emhance.report.plots import plot_training_log
    from emhance.training.loop import Reports

    with progress_bar(quiet=quiet) as move:

        def say(line: str) -> None:
            if move is not None:  # above the bar
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            elif not quiet:
                typer.echo(line)

        def step(done: int, total: int) -> None:
            if move is not None:
                move("training", done, total)

        yield Reports(line=say, step=step, checkpoint=lambda log: plot_training_log(log, config.output / PLOT))


def finish(result: TrainingResult, export: Callable[[], Path], *, again: str, quiet: bool) -> None:
    """Export the weights of a run that came to its end; leave as the signal asked after one that was stopped."""
    if result.stopped_by:
        if result.is_first and not quiet:
            typer.echo(f"Saved {result.checkpoint} at step {result.step}; go on with: {again}")
        raise Stopped(result.stopped_by)
    if result.is_first:
        path = export()
        if not quiet:
            typer.echo(f"Wrote {path} and {path.with_suffix('.toml').name}. {result.training}")
