"""The program `emhance`: lists the subcommands, turns errors into one sentence and an exit code.

Exit codes: 0 done, 1 emhance's own fault, 2 the user's.
"""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from emhance.cli import demo, enhance, info, networks
from emhance.errors import EmhanceError, UserError

errors = Console(stderr=True)

app = typer.Typer(
    name="emhance",
    help="Enhance cryo-EM density maps: locally sharpened, denoised, solvent removed, true to the data. "
    "The result is an aid to interpretation, never a replacement of the experimental map.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("enhance")(enhance.enhance_command)
app.command("info")(info.info_command)
app.command("networks")(networks.networks_command)
app.command("demo")(demo.demo_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"emhance {version('emhance')}")
        raise typer.Exit


@app.callback()
def common(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Enhance cryo-EM density maps: locally sharpened, denoised, solvent removed, true to the data.

    The result is an aid to interpretation, never a replacement of the experimental map.
    """


def run() -> None:
    """Run the program and leave with its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=errors, show_time=False, show_path=False)])
    try:
        app(standalone_mode=True)
    except UserError as error:
        _say(f"Error: {error}")
        sys.exit(2)
    except EmhanceError as error:
        _say(f"Error: {error}")
        sys.exit(1)
    except MemoryError:
        _say("Error: the machine's memory does not suffice for this map; close other programs or use a smaller box.")
        sys.exit(1)
    except KeyboardInterrupt:
        _say("Stopped; nothing was written.")
        sys.exit(130)


def _say(message: str) -> None:
    errors.print(message, style="bold red", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run()
