"""emhance fine-tune: a network, and a user's own maps with atomic models."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from emhance.cli.console import set_verbosity
from emhance.cli.train import finish, reporting
from emhance.errors import OptionError

logger = logging.getLogger("emhance")


def fine_tune_command(
    weights: Annotated[
        str, typer.Argument(metavar="WEIGHTS", help="The network to start from: a .safetensors file, or a name such as tight.")
    ],
    maps: Annotated[
        Path,
        typer.Option(
            "--maps",
            metavar="TABLE.csv",
            readable=False,
            help="Columns: map, or half1 and half2; atomic_model; resolution (Å); optional: name, mask, set (train, validation).",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for checkpoint, log and weights.")] = Path(
        "emhance-fine-tuned"
    ),
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="Optimiser steps.")] = 300,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Its largest value.")] = 1e-4,
    crop: Annotated[int, typer.Option("--crop", metavar="N", help="Edge of the crops in voxels, a multiple of 8.")] = 64,
    structures: Annotated[
        Path | None,
        typer.Option(
            "--structures",
            readable=False,
            help="Folder of atomic models, or a packed file: maps simulated from them are mixed in.",
        ),
    ] = None,
    simulated_share: Annotated[
        float, typer.Option("--simulated-share", metavar="0-1", help="With --structures: share of simulated maps.")
    ] = 0.5,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the new network. Default: the old one's, and -tuned.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed draws other crops.")] = 1,
    threads: Annotated[int, typer.Option("--threads", help="CPU threads of the training itself.")] = 1,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the output folder, if any.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; -vv says everything.")] = 0,
) -> None:
    """Fine-tune a network on your own maps and the atomic models built into them.

    emhance fine-tune tight --maps table.csv -o tuned

    emhance enhance half1.mrc half2.mrc -n tuned/tight-tuned.safetensors

    Model and map must share one frame, and the model be complete: where it has no atoms the network learns to remove density.
    Crops are taken near the atoms and turned by multiples of 90°. Without --structures the network may forget what it had
    learnt.
    """
    set_verbosity(quiet=quiet, verbose=verbose)
    if structures is not None and not 0 < simulated_share < 1:
        raise OptionError(f"--simulated-share must lie between 0 and 1, not {simulated_share:g}.")
    if structures is not None and not structures.exists():
        raise OptionError(f"--structures {structures} does not exist; give a folder of atomic models, or a packed file.")
    if not 0 < learning_rate <= 0.01:
        raise OptionError(f"--learning-rate must be positive and at most 0.01, not {learning_rate:g}.")
    from emhance.network.weights import load_network
    from emhance.training.dataset import CropConfig
    from emhance.training.fine_tuning import FineTuning, export_tuned, fine_tune
    from emhance.training.pairs import read_table
    from emhance.training.simulation import SimulationConfig
    from emhance.training.training_config import TrainingConfig

    parent = load_network(weights)
    card = parent.card
    config = TrainingConfig(
        structures=structures or Path(),
        output=output,
        name=name or f"{card.name}-tuned",
        steps=steps,
        learning_rate=learning_rate,
        warm_up=max(1, min(50, steps // 10)),
        averaging=0.98,
        validate_every=min(50, steps),
        validation_maps=8,
        threads=threads,
        device=device,
        seed=seed,
        network=parent.module.shape,
        simulation=SimulationConfig(box=max(128, crop + crop % 2 + 8), voxel_size=card.voxel_size, resolution=card.resolution),
        maps_mixed=1,
        crops=CropConfig(edge=crop, per_map=2),
    )
    if card.name.startswith("wide"):
        config = replace(config, crops=replace(config.crops, target="wide"))
        logger.warning("Atomic models make tight targets; the wide network will lose some of what no model explains.")
    tuning = FineTuning(parent, read_table(maps), config, simulated_share if structures is not None else 0.0)
    with reporting(config, quiet=quiet) as reports:
        result = fine_tune(tuning, resume=resume, reports=reports)
    finish(result, lambda: export_tuned(tuning, result), again="the same command and --resume", quiet=quiet)
