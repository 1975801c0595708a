"""Train a network on simulated maps: resumable, logged, one process."""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from emhance.errors import AtomicModelError
from emhance.network.unet import UNet, UNetShape, channels_last
from emhance.training.dataset import CropConfig, SimulatedCrops
from emhance.training.losses import enhancement_loss
from emhance.training.simulation import SimulationConfig
from emhance.training.structures import is_validation, load_structures

logger = logging.getLogger("emhance")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything a training run depends on."""

    structures: Path
    """The file `prepare_structures` wrote."""
    output: Path
    """Folder for checkpoint, log and weights."""
    start_from: Path | None = None
    """Checkpoint of another run whose averaged weights this one starts from."""
    steps: int = 2000
    """Optimiser steps."""
    maps_per_step: int = 1
    """Simulated maps in a batch; each gives ``crops.per_map`` crops."""
    learning_rate: float = 1e-3
    """Peak of the schedule: linear rise, then cosine to 1 %."""
    warm_up: int = 60
    """Steps of the linear rise."""
    weight_decay: float = 1e-4
    averaging: float = 0.995
    """Decay of the running average of the weights; the average is what is shipped."""
    validate_every: int = 100
    """Steps between validations."""
    validation_maps: int = 12
    checkpoint_every: float = 300.0
    """Seconds between checkpoints."""
    workers: int = 1
    """Processes that simulate."""
    threads: int = 1
    """CPU threads of the training itself."""
    seed: int = 1
    network: UNetShape = field(default_factory=UNetShape)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    crops: CropConfig = field(default_factory=CropConfig)


def train(config: TrainingConfig, *, resume: bool = False, report: Callable[[str], None] = logger.info) -> Path:
    """Train, or go on from the last checkpoint; return the path of the averaged weights' checkpoint.

    Parameters
    ----------
    config
        The run.
    resume
        Go on from the checkpoint in ``config.output``; without one, start.
    report
        Receives a line now and then.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = channels_last(UNet(config.network).to(device))
    average = UNet(config.network).to(device).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    if config.start_from is not None:
        network.load_state_dict(torch.load(config.start_from, map_location=device, weights_only=True)["average"])
    average.load_state_dict(network.state_dict())
    checkpoint = config.output / "checkpoint.pt"
    step = 0
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step = int(state["step"])
        report(f"resumed at step {step}")

    structures = load_structures(config.structures)
    training = [atoms for name, atoms in structures.items() if not is_validation(name)]
    held_out = [atoms for name, atoms in structures.items() if is_validation(name)]
    if not training or not held_out:
        raise AtomicModelError(
            f"{config.structures} holds {len(training)} structures for training and {len(held_out)} for validation (decided by "
            "their names); give more."
        )
    validation = SimulatedCrops(held_out, config.simulation, config.crops, seed=config.seed + 1)
    validation_set = [validation[i] for i in range(config.validation_maps)]
    first, last = step * config.maps_per_step, config.steps * config.maps_per_step
    loader = DataLoader(
        SimulatedCrops(training, config.simulation, config.crops, seed=config.seed),
        batch_size=config.maps_per_step,
        sampler=range(first, last),
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        worker_init_fn=_single_thread,
    )
    log = config.output / "log.csv"
    started = saved = time.monotonic()
    waiting = 0.0
    running: dict[str, float] = {}
    arrived = time.monotonic()
    for inputs, targets in loader:
        now = time.monotonic()
        waiting += now - arrived
        rate = _learning_rate(config, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = inputs.flatten(0, 1).to(device).contiguous(memory_format=torch.channels_last_3d)
        loss, terms = enhancement_loss(network(x), targets.flatten(0, 1).to(device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        decay = min(config.averaging, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, current in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(current, 1 - decay)
        running = {key: 0.97 * running.get(key, value) + 0.03 * value for key, value in terms.items()}
        if step % config.validate_every == 0 or step == config.steps:
            scores = _validate(average, validation_set, device)
            elapsed = time.monotonic() - started
            row: dict[str, Any] = {
                "step": step,
                "seconds": round(elapsed),
                "learning_rate": rate,
                "loader_share": round(waiting / elapsed, 3),
                **{key: round(value, 4) for key, value in running.items()},
                **{f"validation_{key}": round(value, 4) for key, value in scores.items()},
            }
            _append(log, row)
            report(" ".join(f"{key} {value}" for key, value in row.items()))
        if time.monotonic() - saved > config.checkpoint_every or step == config.steps:
            saved = time.monotonic()
            state = {
                "step": step,
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "shape": config.network.to_dict(),
            }
            partial = checkpoint.with_suffix(".tmp")
            torch.save(state, partial)
            partial.replace(checkpoint)
        arrived = time.monotonic()
    (config.output / "config.txt").write_text(repr(asdict(config)))
    return checkpoint


def _single_thread(_: int) -> None:
    torch.set_num_threads(1)


def _learning_rate(config: TrainingConfig, step: int) -> float:
    rise = min(1.0, (step + 1) / config.warm_up)
    fall = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.learning_rate * rise * (0.01 + 0.99 * fall)


def _validate(network: UNet, cases: list[tuple[torch.Tensor, torch.Tensor]], device: torch.device) -> dict[str, float]:
    network.eval()
    totals: dict[str, float] = {}
    with torch.inference_mode():
        for inputs, targets in cases:
            _, terms = enhancement_loss(network(inputs.to(device)), targets.to(device))
            for key, value in terms.items():
                totals[key] = totals.get(key, 0.0) + value / len(cases)
    network.train()
    return totals


def _append(log: Path, row: dict[str, Any]) -> None:
    fresh = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)
