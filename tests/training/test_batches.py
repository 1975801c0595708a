"""Which crops a step learns from: mixed from several maps, each once, in an order that depends on the step alone."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from emhance.errors import OptionError
from emhance.training.batches import batches
from emhance.training.dataset import CropConfig, Crops
from emhance.training.processes import Processes
from emhance.training.training_config import TrainingConfig

PER_MAP = 4


class Numbered(Dataset[Crops]):
    """Crops that hold the number of their map, and their own."""

    def __getitem__(self, index: int) -> Crops:
        inputs = torch.full((PER_MAP, 1, 8, 8, 8), float(index))
        return Crops(inputs, inputs + torch.arange(PER_MAP)[:, None, None, None, None] / 10, torch.ones(PER_MAP, 5) * index)


def config(**options: int) -> TrainingConfig:
    return TrainingConfig(
        structures=Path("models"),
        output=Path("run"),
        workers=0,
        crops=CropConfig(edge=8, per_map=PER_MAP),
        **{"maps_mixed": 1} | options,
    )


def process(rank: int, count: int) -> Processes:
    return Processes(rank, count, count, torch.device("cpu"))


def seen(options: TrainingConfig, own: Processes, *, step: int = 0) -> list[list[float]]:
    """Targets of every step: the map before the point, the crop after it."""
    made = list(batches(options, own, Numbered(), step=step))
    for crops in made:
        assert torch.equal(crops.inputs[:, 0, 0, 0, 0], crops.reliability[:, 0]), "reliability goes with its crop"
    return [[round(float(v), 1) for v in crops.targets[:, 0, 0, 0, 0]] for crops in made]


def test_every_crop_of_the_mixed_maps_is_seen_once_and_steps_see_several_maps() -> None:
    steps = seen(config(steps=12, crops_per_step=2, maps_mixed=3), process(0, 1))
    assert len(steps) == 12
    first, second = steps[:6], steps[6:]
    for part, maps in ((first, (0, 1, 2)), (second, (3, 4, 5))):
        assert sorted(v for step in part for v in step) == [round(m + c / 10, 1) for m in maps for c in range(PER_MAP)]
    assert any(int(a) != int(b) for a, b in first)
    assert [[v % 3 for v in step] for step in first] != [[v % 3 for v in step] for step in second]


@pytest.mark.parametrize("step", [1, 5, 6, 11])
def test_what_is_left_is_the_same_after_a_stop(step: int) -> None:
    options = config(steps=12, crops_per_step=2, maps_mixed=3)
    assert seen(options, process(0, 1), step=step) == seen(options, process(0, 1))[step:]


def test_processes_see_different_maps() -> None:
    options = config(steps=4, crops_per_step=4, maps_mixed=2)
    maps = [{int(v) for step in seen(options, process(rank, 2)) for v in step} for rank in (0, 1)]
    assert maps[0] == {0, 2, 4, 6}
    assert maps[1] == {1, 3, 5, 7}


def test_a_batch_must_divide_what_is_mixed() -> None:
    with pytest.raises(OptionError, match="a divisor of maps_mixed times"):
        config(crops_per_step=3, maps_mixed=2).check()
