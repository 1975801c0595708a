"""Train a network: resumable, logged, in one process or in as many as torchrun starts."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from emhance.errors import OutputError
from emhance.network.devices import cpu_threads
from emhance.network.unet import UNet, channels_last
from emhance.training.dataset import Crops, SimulatedCrops, as_arrays, as_tensors
from emhance.training.interruption import StopRequest, leave_signals_to_parent, stop_requests
from emhance.training.losses import enhancement_loss, recombined
from emhance.training.processes import Processes, processes, processor_share, training_precision
from emhance.training.records import CHECKPOINT, LOG, TrainingLog, load_checkpoint, save_checkpoint
from emhance.training.structures import Structures, load_structures, prepare_structures, structure_files
from emhance.training.training_config import TrainingConfig

logger = logging.getLogger("emhance")

PREPARED = "structures.npz"
"""What a folder of atomic models is packed into, in the output folder."""

MOMENTUM = 0.97
"""Decay of the running means in the log, per step."""


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


class _Numbers(Sampler[int]):
    """The numbers of the maps that this process learns from: those of one step are dealt out to the processes in turn."""

    def __init__(self, config: TrainingConfig, own: Processes, *, step: int, first: int) -> None:
        self._steps, self._maps, self._own, self._first = config.steps - step, config.maps_per_step, own, first

    def __len__(self) -> int:
        return self._steps * self._maps

    def __iter__(self) -> Iterator[int]:
        for step in range(self._steps):
            start = self._first + (step * self._own.count + self._own.rank) * self._maps
            yield from range(start, start + self._maps)


def _loader(
    config: TrainingConfig, own: Processes, crops: Dataset[Crops], numbers: Sampler[int] | range, *, count: int, size: int
) -> DataLoader[Any]:
    on_device = config.simulate_on == "device"
    workers = config.workers if config.workers is not None else max(1, processor_share(own.local_count) - 1)
    workers = 0 if on_device else min(workers, count)
    return DataLoader(
        crops,
        batch_size=size,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_start_worker,
        collate_fn=as_tensors if on_device else as_arrays,
    )


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    leave_signals_to_parent()


def _on(device: torch.device, batch: Any) -> Crops:
    return Crops(*(torch.as_tensor(part).to(device) for part in batch))


class _Learner:
    """The network, its average and its optimiser: what a checkpoint holds."""

    def __init__(self, config: TrainingConfig, own: Processes) -> None:
        self.config, self.device = config, own.device
        torch.manual_seed(config.seed)
        self.network = channels_last(UNet(config.network).to(own.device))
        self.average = UNet(config.network).to(own.device).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
        )
        self.precision = training_precision(config.precision, own.device)
        self.step, self.maps, self.seconds, self.waiting = 0, 0, 0.0, 0.0
        self.running: dict[str, float] = {}
        self.scores: dict[str, float] = {}

    def start_from(self, weights: dict[str, Tensor]) -> None:
        self.network.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "maps": self.maps,
            "seconds": self.seconds,
            "waiting": self.waiting,
            "running": self.running,
            "scores": self.scores,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "shape": self.config.network.to_dict(),
        }

    def load(self, state: dict[str, Any], *, maps_per_step: int) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        self.maps = int(state.get("maps", self.step * maps_per_step))
        self.seconds, self.waiting = float(state.get("seconds", 0.0)), float(state.get("waiting", 0.0))
        self.running, self.scores = dict(state.get("running", {})), dict(state.get("scores", {}))

    def learn(self, shared: torch.nn.Module, crops: Crops) -> None:
        """One step; `shared` is the network whose gradients are averaged over all processes."""
        rate = learning_rate(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        x = crops.inputs.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            prediction = shared(x)
        loss, terms = self._loss(prediction.float(), crops)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(self.config.averaging, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(current, 1 - decay)
        self.running = {key: MOMENTUM * self.running.get(key, value) + (1 - MOMENTUM) * value for key, value in terms.items()}

    def _loss(self, prediction: Tensor, crops: Crops) -> tuple[Tensor, dict[str, float]]:
        reliability = crops.reliability if self.config.data_weighting else None
        loss, terms = enhancement_loss(prediction, crops.targets, reliability=reliability)
        if self.config.recombined > 0:
            again, _ = enhancement_loss(*self._recombined(prediction, crops), reliability=reliability)
            loss = loss + self.config.recombined * again
            terms = {**terms, "loss": float(loss.detach()), "recombined": float(again.detach())}
        return loss, terms

    def _recombined(self, prediction: Tensor, crops: Crops) -> tuple[Tensor, Tensor]:
        voxel_size = self.config.simulation.voxel_size
        return recombined(prediction, crops.inputs, crops.targets, crops.reliability, voxel_size=voxel_size)

    def validate(self, cases: list[Any]) -> dict[str, float]:
        """Terms of the loss with the averaged weights, and how the recombined crops correlate with the targets."""
        self.average.eval()
        totals: dict[str, float] = {}
        with torch.no_grad():
            for case in cases:
                crops = _on(self.device, case)
                prediction = self.average(crops.inputs)
                _, terms = self._loss(prediction, crops)
                _, again = enhancement_loss(*self._recombined(prediction, crops))
                terms["recombined_correlation"] = again["correlation"]
                for key, value in terms.items():
                    totals[key] = totals.get(key, 0.0) + value / len(cases)
        return totals


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
        learner = _Learner(config, own)
        checkpoint = config.output / CHECKPOINT
        if resume and checkpoint.exists():
            state = load_checkpoint(checkpoint, device=own.device, shape=config.network)
            learner.load(state, maps_per_step=config.maps_per_step)
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
        maps, crops = config.maps_per_step * own.count, f"{config.crops.per_map} crops of {config.crops.edge}³ voxels"
        duration = f"{learner.seconds / 3600:.1f} h" if learner.seconds > 5400 else f"{learner.seconds / 60:.0f} min"
        return TrainingResult(
            checkpoint=checkpoint,
            network=learner.average.cpu(),
            step=learner.step,
            stopped_by=stopped_by,
            seconds=learner.seconds,
            scores=learner.scores,
            about=about,
            training=f"{learner.step} steps of {maps} map(s), {crops} from each; {duration} in {own.count} process(es) on {how}.",
            is_first=own.is_first,
        )


def _steps(
    learner: _Learner,
    own: Processes,
    training: Dataset[Crops],
    validation: Dataset[Crops],
    reports: Reports,
    request: StopRequest,
) -> int:
    """Take the steps that are left; returns the number of the signal that ended it, or 0."""
    config = learner.config
    log = TrainingLog(config.output / LOG, step=learner.step)
    cases = (
        list(_loader(config, own, validation, range(config.validation_maps), count=config.validation_maps, size=1))
        if own.is_first
        else []
    )
    shared = own.share(learner.network)
    numbers = _Numbers(config, own, step=learner.step, first=learner.maps)
    started, saved = time.monotonic() - learner.seconds, time.monotonic()
    arrived = time.monotonic()
    stopped_by = 0
    for batch in _loader(config, own, training, numbers, count=len(numbers), size=config.maps_per_step):
        learner.waiting += time.monotonic() - arrived
        learner.learn(shared, _on(own.device, batch))
        learner.maps += config.maps_per_step * own.count
        learner.seconds = time.monotonic() - started
        last = learner.step == config.steps
        stopped_by = own.any(request.number)
        if own.is_first:
            reports.step(learner.step, config.steps)
            if learner.step % config.validate_every == 0 or last:
                learner.scores = learner.validate(cases)
                row = _row(learner)
                log.append(row)
                reports.line(" ".join(f"{key} {value}" for key, value in row.items()))
            if time.monotonic() - saved > config.checkpoint_every or last or stopped_by:
                saved = time.monotonic()
                save_checkpoint(config.output / CHECKPOINT, learner.state())
                reports.checkpoint(config.output / LOG)
        if stopped_by:
            break
        arrived = time.monotonic()
    return stopped_by


def _row(learner: _Learner) -> dict[str, Any]:
    return {
        "step": learner.step,
        "seconds": round(learner.seconds),
        "learning_rate": f"{learning_rate(learner.config, learner.step - 1):.3g}",
        "loader_share": round(learner.waiting / max(learner.seconds, 1e-9), 3),
        **{key: round(value, 4) for key, value in learner.running.items()},
        **{f"validation_{key}": round(value, 4) for key, value in learner.scores.items()},
    }


def learning_rate(config: TrainingConfig, step: int) -> float:
    """The schedule: linear rise, then cosine to 1 % of the peak."""
    rise = min(1.0, (step + 1) / config.warm_up)
    fall = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.learning_rate * rise * (0.01 + 0.99 * fall)
