"""A trained network as others use it: weights and a card that says where they come from."""

from __future__ import annotations

from pathlib import Path

from emhance.network.weights import save_network
from emhance.training.loop import TrainingResult
from emhance.training.training_config import TrainingConfig

SCORES = {
    "correlation": "correlation with the target, crops",
    "recombined_correlation": "the same, recombined with the data",
    "phases": "weighted mean of 1 - FSC, crops",
}
"""What of a validation goes onto the card, and what it means."""


def export_network(
    result: TrainingResult,
    config: TrainingConfig,
    *,
    purpose: str,
    voxel_size: float | None = None,
    resolution: tuple[float, float] | None = None,
) -> Path:
    """Write the averaged weights of a run and their card into its output folder; returns the weights' path.

    Parameters
    ----------
    result, config
        The run.
    purpose
        What the network is for, a sentence.
    voxel_size
        Of the network, Å; else the simulation's.
    resolution
        Of the maps it was trained for, Å; else the simulation's.
    """
    path = config.output / f"{config.name}.safetensors"
    save_network(
        result.network,
        path,
        name=config.name,
        version=f"step {result.step}",
        purpose=purpose,
        voxel_size=voxel_size or config.simulation.voxel_size,
        resolution=resolution or config.simulation.resolution,
        trained_on=result.about,
        training=result.training,
        scores={
            f"validation {name}": f"{result.scores[name]:.4f} ({what})" for name, what in SCORES.items() if name in result.scores
        },
    )
    return path
