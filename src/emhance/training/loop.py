"""Train a network: resumable, logged, in one process or in as many as torchrun starts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from emhance.errors import OutputError
from emhance.network.devices import cpu_threads
from emhance.network.unet import UNet
from emhance.training.batches import batches, simulated
from emhance.training.dataset import Crops, SimulatedCrops
from emhance.training.interruption import StopRequest, stop_requests
from emhance.training.learner import Learner
from emhance.training.processes import Processes, processes
from emhance.training.records import CHECKPOINT, LOG, TrainingLog, load_checkpoint, save_checkpoint
from emhance.training.structures import Structures, load_structures, prepare_structures, structure_files
from emhance.training.training_config import TrainingConfig

logger = logging.getLogger("emhance")

PREPARED = "structures.npz"
"""What a folder of atomic models is packed into, in the output folder."""


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """How a training run ended.

    Parameters
    ----------
    checkpoint
        Path of the checkpoint.
    network
        The averaged weights, on the CPU.
    step
        Steps done.
    stopped_by
        Number of the signal that stopped it; 0 for a run that came to its end.
    seconds
        Time it took, earlier parts of a resumed run included.
    scores
        Of the last validation.
    about
        What it was trained on, a sentence.
    training
        For how long, a sentence.
    is_first
        Whether this process is the one that writes.
    """

    checkpoint: Path
    network: UNet
    step: int
    stopped_by: int
    seconds: float
    scores: dict[str, float]
    about: str
    training: str
    is_first: bool = True


@dataclass(frozen=True, eq=False)
class Reports:
    """Whom a run keeps informed.

    Parameters
    ----------
    line
        Receives a sentence now and then.
    step
        Called with the steps done and the steps to do.
    checkpoint
        Called with the log's path after every checkpoint.
    """

    line: Callable[[str], None] = logger.info
    step: Callable[[int, int], None] = lambda done, total: None
    checkpoint: Callable[[Path], None] = lambda log: None


def train(
    config: TrainingConfig,
    *,
    resume: bool = False,
    report: Callable[[str], None] | None = None,
    reports: Reports | None = None,
) -> TrainingResult:
    """Train on simulated maps, or go on from the last checkpoint.

    Started by torchrun, every process simulates and learns from maps of its own; the first one validates and writes.

    Parameters
    ----------
    config
        The run.
    resume
        Go on from the checkpoint in ``config.output``; without one, start.
    report
        Receives a line now and then; short for ``reports``.
    reports
        Everybody who is kept informed.

    Raises
    ------
    UserError
        One of its kinds, for a configuration, structures or a checkpoint that cannot be used.
    """
    config.check()
    reports = reports or Reports(line=report or logger.info)
    with processes(config.device) as own:
        make_output(config.output, resume=resume, own=own)
        structures = read_structures(config, own, reports)
        training, held_out = structures.split()
        device = own.device if config.simulate_on == "device" else None
        related = (
            f" of {structures.number_of_clusters} sequence clusters" if structures.number_of_clusters < len(structures) else ""
        )
        about = f"Maps simulated from {len(training)} atomic models{related}, validated on {len(held_out)} unrelated to them."
        return run(
            config,
            own,
            SimulatedCrops(training, config.simulation, config.crops, seed=config.seed, device=device),
            SimulatedCrops(held_out, config.simulation, config.crops, seed=config.seed + 1, device=device),
            resume=resume,
            reports=reports,
            about=about,
        )


def make_output(folder: Path, *, resume: bool, own: Processes) -> None:
    """Make the output folder.

    Raises
    ------
    OutputError
        If it cannot be made, or holds another run and `resume` is false.
    """
    if not own.is_first:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made ({error.strerror}); choose another output.") from error
    if not resume and (folder / CHECKPOINT).exists():
        raise OutputError(f"{folder} holds a training run already; go on with it by --resume, or choose another output.")


def read_structures(config: TrainingConfig, own: Processes, reports: Reports) -> Structures:
    """Read the atomic models; those of a folder are packed once, by the first process."""
    if not config.structures.is_dir():
        return load_structures(config.structures)
    packed = config.output / PREPARED
    files = structure_files(config.structures)
    newest = max(path.stat().st_mtime for path in (config.structures, *files))
    if own.is_first and not (packed.exists() and packed.stat().st_mtime >= newest):
        reports.line(f"packing {len(files)} atomic models into {packed}")
        prepare_structures(files, packed, overwrite=True)
    own.wait()
    return load_structures(packed)


def run(
    config: TrainingConfig,
    own: Processes,
    training: Dataset[Crops],
    validation: Dataset[Crops],
    *,
    resume: bool,
    reports: Reports,
    about: str,
    weights: dict[str, Tensor] | None = None,
) -> TrainingResult:
    """Train on any crops.

    Parameters
    ----------
    config
        The run; its structures and simulation are not looked at.
    own
        The processes of the run.
    training, validation
        Where crops come from; an item's number decides everything about it.
    resume, reports
        As of `train`.
    about
        What it is trained on, a sentence.
    weights
        What a fresh run starts from; else ``config.start_from``, else random numbers.
    """
    with cpu_threads(config.threads):
        learner = Learner(config, own)
        checkpoint = config.output / CHECKPOINT
        if resume and checkpoint.exists():
            state = load_checkpoint(checkpoint, device=own.device, shape=config.network)
            learner.load(state)
            if own.is_first:
                reports.line(f"resumed at step {learner.step}")
        elif weights is not None:
            learner.start_from(weights)
        elif config.start_from is not None:
            learner.start_from(load_checkpoint(config.start_from, device=own.device, shape=config.network)["average"])
        if own.any(learner.step) != learner.step or own.any(-learner.step) != -learner.step:
            raise OutputError(
                f"Not every process finds the checkpoint {checkpoint}; give an output folder that all machines share."
            )
        stopped_by = 0
        if learner.step < config.steps:
            with stop_requests() as request:
                stopped_by = _steps(learner, own, training, validation, reports, request)
        how = "CPU" if own.device.type == "cpu" else torch.cuda.get_device_name(own.device)
        crops = f"{config.crops_per_step * own.count} crops of {config.crops.edge}³ voxels, {config.crops.per_map} from each map"
        duration = f"{learner.seconds / 3600:.1f} h" if learner.seconds > 5400 else f"{learner.seconds / 60:.0f} min"
        return TrainingResult(
            checkpoint=checkpoint,
            network=learner.average.cpu(),
            step=learner.step,
            stopped_by=stopped_by,
            seconds=learner.seconds,
            scores=learner.scores,
            about=about,
            training=f"{learner.step} steps of {crops}; {duration} in {own.count} process(es) on {how}.",
            is_first=own.is_first,
        )


def _steps(
    learner: Learner,
    own: Processes,
    training: Dataset[Crops],
    validation: Dataset[Crops],
    reports: Reports,
    request: StopRequest,
) -> int:
    """Take the steps that are left; returns the number of the signal that ended it, or 0."""
    config = learner.config
    log = TrainingLog(config.output / LOG, step=learner.step)
    cases = list(simulated(config, own, validation, range(config.validation_maps))) if own.is_first else []
    shared = own.share(learner.network)
    started, saved = time.monotonic() - learner.seconds, time.monotonic()
    arrived = time.monotonic()
    stopped_by = 0
    for batch in batches(config, own, training, step=learner.step):
        learner.waiting += time.monotonic() - arrived
        learner.learn(shared, batch)
        learner.seconds = time.monotonic() - started
        last = learner.step == config.steps
        stopped_by = own.any(request.number)
        if own.is_first:
            reports.step(learner.step, config.steps)
            if learner.step % config.validate_every == 0 or last:
                learner.scores = learner.validate(cases)
                row = learner.row()
                log.append(row)
                reports.line(" ".join(f"{key} {value}" for key, value in row.items()))
            if time.monotonic() - saved > config.checkpoint_every or last or stopped_by:
                saved = time.monotonic()
                save_checkpoint(config.output / CHECKPOINT, learner.state())
                reports.checkpoint(config.output / LOG)
        if stopped_by or last:
            break
        arrived = time.monotonic()
    return stopped_by
