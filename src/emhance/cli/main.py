"""The program `emhance`: lists the subcommands."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from emhance.cli import (
    compat,
    demo,
    enhance,
    evaluate,
    fine_tune,
    import_keras,
    info,
    networks,
    report,
    simulate,
    train,
    validate,
)
from emhance.cli.program import run_program

app = typer.Typer(
    name="emhance",
    help="Enhance cryo-EM density maps: locally sharpened, denoised, solvent removed, true to the data. "
    "The result is an aid to interpretation, never a replacement of the experimental map.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("enhance")(enhance.enhance_command)
app.command("validate")(validate.validate_command)
app.command("report")(report.report_command)
app.command("info")(info.info_command)
app.command("networks")(networks.networks_command)
app.command("demo")(demo.demo_command)
app.command("simulate")(simulate.simulate_command)
app.command("train")(train.train_command)
app.command("fine-tune")(fine_tune.fine_tune_command)
app.command("evaluate")(evaluate.evaluate_command)
app.command("import-keras")(import_keras.import_keras_command)
app.command("install-compat")(compat.install_compat_command)


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
    run_program(app)


if __name__ == "__main__":
    run()
