"""Go on training a network on a user's own maps and atomic models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emhance.errors import OptionError
from emhance.network.weights import Network
from emhance.training.dataset import SimulatedCrops
from emhance.training.export import export_network
from emhance.training.loop import Reports, TrainingResult, make_output, read_structures, run
from emhance.training.pairs import Pair, PairCrops, prepare_pair
from emhance.training.processes import processes
from emhance.training.training_config import TrainingConfig


@dataclass(frozen=True, eq=False)
class FineTuning:
    """A fine-tuning run.

    Parameters
    ----------
    parent
        The network it starts from.
    pairs
        Maps and atomic models, from `emhance.training.pairs.read_table`.
    config
        Steps, learning rate, crops and the like; its network and simulation are replaced by what fits the parent. Its
        ``structures`` are mixed in if `simulated_share` is above 0.
    simulated_share
        Share of the maps that are simulated.
    """

    parent: Network
    pairs: list[Pair]
    config: TrainingConfig
    simulated_share: float = 0.0


def fine_tune(tuning: FineTuning, *, resume: bool = False, reports: Reports | None = None) -> TrainingResult:
    """Fine-tune a network; everything else is as in `emhance.training.loop.train`.

    Pairs marked as validation are kept for it; without any, fixed crops of the training pairs are validated on, which says
    how well they were learnt, and no more.

    Raises
    ------
    UserError
        One of its kinds, for pairs or options that cannot be used.
    """
    config, card = tuning.config, tuning.parent.card
    config.check()
    reports = reports or Reports()
    with processes(config.device) as own:
        make_output(config.output, resume=resume, own=own)
        prepared = []
        for pair in tuning.pairs:
            if own.is_first:
                reports.line(f"reading {pair.name}")
            prepared.append(prepare_pair(pair, voxel_size=card.voxel_size, masked=is_masked(card.name)))
            smallest = min(prepared[-1].target.shape)
            if smallest < config.crops.edge:
                raise OptionError(
                    f"{pair.name} measures {smallest} voxels of {card.voxel_size:g} Å along its shortest edge, less "
                    f"than the crops' {config.crops.edge}; give smaller crops with --crop."
                )
        training = [made for made, pair in zip(prepared, tuning.pairs, strict=True) if not pair.validation]
        held_out = [made for made, pair in zip(prepared, tuning.pairs, strict=True) if pair.validation]
        if not training:
            raise OptionError("Every pair is marked as validation; leave some to train on.")
        simulated = None
        about = f"Fine-tuned from {card.name} {card.version} (SHA-256 {card.sha256}) on {len(training)} map(s) with atomic models"
        if tuning.simulated_share > 0:
            models, _ = read_structures(config, own, reports).split()
            simulated = SimulatedCrops(models, config.simulation, config.crops, seed=config.seed)
            about += f" and maps simulated from {len(models)} ({tuning.simulated_share:.0%})"
        about += f", validated on {len(held_out)} others." if held_out else ", validated on crops of the same maps."
        return run(
            config,
            own,
            PairCrops(training, config.crops, seed=config.seed, simulated=simulated, simulated_share=tuning.simulated_share),
            PairCrops(held_out or training, config.crops, seed=config.seed + 1),
            resume=resume,
            reports=reports,
            about=about,
            weights=tuning.parent.module.state_dict(),
        )


def is_masked(name: str) -> bool:
    """Whether the network of this name takes input that is normalised by a mask."""
    return name == "masked" or name.startswith("masked-")


def export_tuned(tuning: FineTuning, result: TrainingResult) -> Path:
    """Write the weights and the card, which names the parent; returns the weights' path."""
    card = tuning.parent.card
    finest = min(card.resolution[0], *(pair.resolution for pair in tuning.pairs))
    coarsest = max(card.resolution[1], *(pair.resolution for pair in tuning.pairs))
    return export_network(result, tuning.config, purpose=card.purpose, voxel_size=card.voxel_size, resolution=(finest, coarsest))
