"""Everything a training run depends on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from emhance.errors import OptionError
from emhance.network.unet import UNetShape
from emhance.training.dataset import TARGETS, CropConfig
from emhance.training.processes import DEVICES, PRECISIONS
from emhance.training.simulation import SimulationConfig

SIMULATE_ON = ("workers", "device")

LONGEST_WITHOUT_CHECKPOINT = 600.0
"""Seconds."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything a training run depends on."""

    structures: Path
    """The file `prepare_structures` wrote, or a folder of mmCIF or PDB files, which is packed into the output folder first."""
    output: Path
    """Folder for checkpoint, log and weights."""
    name: str = "custom"
    """Name of the network: of its weights file, and on its card."""
    start_from: Path | None = None
    """Checkpoint of another run whose averaged weights this one starts from."""
    steps: int = 2000
    """Optimiser steps."""
    crops_per_step: int = 2
    """Crops in a batch of one process."""
    maps_mixed: int = 12
    """Simulated maps whose crops are shuffled together and dealt out to steps, so that a step's come from different ones; each
    gives ``crops.per_map`` crops."""
    learning_rate: float = 1e-3
    """Peak of the schedule: linear rise, then cosine to 1 %."""
    warm_up: int = 60
    """Steps of the linear rise."""
    weight_decay: float = 1e-4
    averaging: float = 0.995
    """Decay of the running average of the weights; the average is what is shipped."""
    data_weighting: bool = True
    """Whether the loss's phases count most where the data half supports them."""
    recombined: float = 0.5
    """Weight of a second loss, on the recombination of the network's output with the data."""
    validate_every: int = 100
    """Steps between validations."""
    validation_maps: int = 12
    checkpoint_every: float = 300.0
    """Seconds between checkpoints, at most 600."""
    workers: int | None = None
    """Processes that simulate, for every training process; without it as many as there are cores to spare, 0 for none."""
    simulate_on: str = "workers"
    """workers, or device: on the training's own device, in its own process."""
    threads: int = 1
    """CPU threads of the training itself."""
    device: str = "auto"
    """auto (a GPU for every process if there are any), cpu or cuda."""
    precision: str = "auto"
    """auto (bfloat16 on a GPU that has it, or a CPU with matrix units), float32 or bfloat16."""
    seed: int = 1
    network: UNetShape = field(default_factory=UNetShape)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    crops: CropConfig = field(default_factory=CropConfig)

    @property
    def crops_mixed(self) -> int:
        """Crops that are shuffled together."""
        return self.maps_mixed * self.crops.per_map

    def check(self) -> None:
        """Raise `OptionError` for values that make no sense."""
        checks = {
            "steps": (self.steps >= 1, "at least 1", self.steps),
            "crops_per_step": (
                self.crops_per_step >= 1 and self.crops_mixed % self.crops_per_step == 0,
                f"a divisor of maps_mixed times [crops] per_map, {self.crops_mixed}",
                self.crops_per_step,
            ),
            "maps_mixed": (self.maps_mixed >= 1, "at least 1", self.maps_mixed),
            "learning_rate": (self.learning_rate >= 0, "not negative", self.learning_rate),
            "warm_up": (self.warm_up >= 1, "at least 1", self.warm_up),
            "weight_decay": (self.weight_decay >= 0, "not negative", self.weight_decay),
            "averaging": (0 <= self.averaging < 1, "at least 0 and below 1", self.averaging),
            "recombined": (self.recombined >= 0, "not negative", self.recombined),
            "validate_every": (self.validate_every >= 1, "at least 1", self.validate_every),
            "validation_maps": (self.validation_maps >= 1, "at least 1", self.validation_maps),
            "checkpoint_every": (
                0 <= self.checkpoint_every <= LONGEST_WITHOUT_CHECKPOINT,
                f"between 0 and {LONGEST_WITHOUT_CHECKPOINT:g} seconds",
                self.checkpoint_every,
            ),
            "workers": (self.workers is None or self.workers >= 0, "not negative", self.workers),
            "simulate_on": (self.simulate_on in SIMULATE_ON, " or ".join(SIMULATE_ON), self.simulate_on),
            "threads": (self.threads >= 1, "at least 1", self.threads),
            "device": (self.device in DEVICES, ", ".join(DEVICES), self.device),
            "precision": (self.precision in PRECISIONS, ", ".join(PRECISIONS), self.precision),
            "seed": (self.seed >= 0, "not negative", self.seed),
            "name": (self.name.replace("-", "").replace("_", "").isalnum(), "letters, digits, - and _", self.name),
            "[crops] target": (self.crops.target in TARGETS, " or ".join(TARGETS), self.crops.target),
            "[crops] per_map": (self.crops.per_map >= 1, "at least 1", self.crops.per_map),
            "[crops] jitter": (self.crops.jitter >= 0, "not negative", self.crops.jitter),
            "[crops] anywhere": (0 <= self.crops.anywhere <= 1, "between 0 and 1", self.crops.anywhere),
            "[crops] around_others": (0 <= self.crops.around_others <= 1, "between 0 and 1", self.crops.around_others),
            "[crops] single_half": (0 <= self.crops.single_half <= 1, "between 0 and 1", self.crops.single_half),
            "[crops] stated": (0 <= self.crops.stated <= 1, "between 0 and 1", self.crops.stated),
            "[crops] unrestored": (
                0 <= self.crops.unrestored <= 1 - self.crops.stated,
                "between 0 and what [crops] stated leaves",
                self.crops.unrestored,
            ),
            "[simulation] box": (
                self.simulation.box >= self.crops.edge + 8 and self.simulation.box % 2 == 0,
                f"even, and 8 more than the crops' edge of {self.crops.edge} or larger",
                self.simulation.box,
            ),
            "[simulation] normalised": (self.simulation.normalised, "true", False),
            "[simulation] voxel_size": (self.simulation.voxel_size > 0, "positive", self.simulation.voxel_size),
        }
        for name, (fine, wanted, value) in checks.items():
            if not fine:
                raise OptionError(f"{name} must be {wanted}, not {value!r}; correct the configuration.")
        levels = len(self.network.channels)
        blocks = [*self.network.channels, *self.network.encoder_blocks, *self.network.decoder_blocks]
        if not levels or len(self.network.encoder_blocks) != levels or len(self.network.decoder_blocks) != levels - 1:
            raise OptionError(
                f"[network] has {levels} channels; encoder_blocks must have as many entries and decoder_blocks one less, not "
                f"{len(self.network.encoder_blocks)} and {len(self.network.decoder_blocks)}."
            )
        if min(self.network.channels) < 1 or min(blocks) < 0:
            raise OptionError("[network] channels must be at least 1 and blocks not negative; correct the configuration.")
        alignment = 2**levels
        if self.crops.edge < alignment or self.crops.edge % alignment:
            raise OptionError(f"[crops] edge must be a multiple of {alignment} for this network, not {self.crops.edge}.")
