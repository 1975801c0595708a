"""Training repeats, resumes exactly, and learns."""

import csv
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emhance.errors import AtomicModelError, OptionError, OutputError, WeightsError
from emhance.network.unet import UNet, UNetShape
from emhance.training import learner, loop
from emhance.training.dataset import CropConfig, Crops
from emhance.training.example_protein import example_protein
from emhance.training.loop import Reports, TrainingResult, train
from emhance.training.simulation import SimulationConfig
from emhance.training.structures import is_validation
from emhance.training.training_config import TrainingConfig

TINY = UNetShape(channels=(4, 4), encoder_blocks=(1, 1), decoder_blocks=(1,))


def pack(path: Path, *, validation: bool = True) -> Path:
    """A packed file of the example protein under names of both halves of the split."""
    names = (f"example{i}" for i in range(1000))
    wanted = {False: 2 if validation else 1, True: 1 if validation else 0}
    arrays: dict[str, np.ndarray] = {}
    atoms = example_protein(seed=1)
    for name in names:
        if wanted[is_validation(name)]:
            wanted[is_validation(name)] -= 1
            arrays[f"{name}/positions"] = np.rint((atoms.positions - atoms.positions.mean(0)) / 0.01).astype(np.int16)
            arrays[f"{name}/elements"], arrays[f"{name}/kinds"] = atoms.elements, atoms.kinds
            arrays[f"{name}/b_factors"] = atoms.b_factors.astype(np.int16)
            arrays[f"{name}/occupancies"] = (100 * atoms.occupancies).astype(np.uint8)
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("structures") / "packed.npz")


@pytest.fixture
def config(structures: Path, tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(
        structures=structures,
        output=tmp_path / "run",
        steps=4,
        warm_up=2,
        validate_every=2,
        validation_maps=1,
        checkpoint_every=0.0,
        workers=0,
        maps_mixed=1,
        network=TINY,
        simulation=SimulationConfig(box=48),
        crops=CropConfig(edge=24, per_map=2),
    )


def state(run: TrainingResult | Path) -> dict:
    return torch.load(run if isinstance(run, Path) else run.checkpoint, weights_only=True)


def assert_same(a: dict, b: dict) -> None:
    for key in ("step", "running", "scores"):
        assert a[key] == b[key], key
    for name, values in a["optimizer"]["state"].items():
        for key, value in values.items():
            assert torch.equal(value, b["optimizer"]["state"][name][key]), (name, key)
    for part in ("network", "average"):
        for key, value in a[part].items():
            assert torch.equal(value, b[part][key]), key


class PowerCutError(Exception):
    """Stands for a power cut."""


def after(step: int) -> Callable[[str], None]:
    def report(line: str) -> None:
        if line.startswith(f"step {step} "):
            raise PowerCutError

    return report


def test_a_run_repeats(config: TrainingConfig, tmp_path: Path) -> None:
    first = state(train(config))
    assert first["step"] == 4
    assert_same(first, state(train(replace(config, output=tmp_path / "again"))))
    other = state(train(replace(config, output=tmp_path / "other", seed=2)))
    assert not torch.equal(first["network"]["stem.weight"], other["network"]["stem.weight"])


def test_an_interrupted_run_resumes_exactly(config: TrainingConfig, tmp_path: Path) -> None:
    whole = state(train(config))
    broken = replace(config, output=tmp_path / "broken")
    with pytest.raises(PowerCutError):
        train(broken, report=after(4))
    assert state(broken.output / "checkpoint.pt")["step"] == 3
    lines: list[str] = []
    assert_same(whole, state(train(broken, resume=True, report=lines.append)))
    assert lines[0] == "resumed at step 3"


def test_resuming_without_a_checkpoint_starts(config: TrainingConfig) -> None:
    assert state(train(config, resume=True))["step"] == 4


def test_a_finished_run_resumes_to_nothing(config: TrainingConfig) -> None:
    before = state(train(config))
    assert_same(before, state(train(config, resume=True)))


def test_worker_processes_change_nothing(config: TrainingConfig, tmp_path: Path) -> None:
    short = replace(config, steps=2)
    assert_same(state(train(short)), state(train(replace(short, output=tmp_path / "workers", workers=1))))


def test_the_log_has_a_row_for_every_validation(config: TrainingConfig) -> None:
    train(config)
    with (config.output / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert all(np.isfinite(float(row["validation_loss"])) for row in rows)
    assert [float(row["loader_share"]) <= 1 for row in rows] == [True, True]


def test_a_run_can_start_from_another(config: TrainingConfig, tmp_path: Path) -> None:
    first = train(config)
    still = replace(config, output=tmp_path / "second", start_from=first.checkpoint, steps=1, learning_rate=0.0)
    second = state(train(still))
    for key, value in state(first)["average"].items():
        assert torch.equal(second["network"][key], value)


def test_a_single_crop_is_learnt(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    class One(loop.SimulatedCrops):
        def __getitem__(self, index: int) -> Crops:
            return super().__getitem__(0)

    monkeypatch.setattr(loop, "SimulatedCrops", One)
    monkeypatch.setattr(One, "_simulated", _once(One._simulated))
    seen: list[float] = []
    measure = learner.enhancement_loss

    def watch(prediction: torch.Tensor, target: torch.Tensor, **options: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        result = measure(prediction, target, **options)
        seen.append(result[1]["loss"])
        return result

    monkeypatch.setattr(learner, "enhancement_loss", watch)
    train(replace(config, steps=40, validate_every=1000, learning_rate=1e-2))
    assert seen[-1] < 0.75 * seen[0]


def _once(function: Callable) -> Callable:
    results: list = []

    def first(self: object, generator: torch.Generator) -> object:
        if not results:
            results.append(function(self, generator))
        return results[0]

    return first


def test_the_learning_rate_rises_then_falls(config: TrainingConfig) -> None:
    long = replace(config, steps=1000, warm_up=100, learning_rate=1.0)
    rates = [learner.learning_rate(long, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01, abs=0.005)
    assert int(np.argmax(rates)) == pytest.approx(99, abs=3)
    assert rates[-1] == pytest.approx(0.01, abs=0.002)


def test_structures_without_a_validation_set_are_said(config: TrainingConfig, tmp_path: Path) -> None:
    alone = pack(tmp_path / "alone.npz", validation=False)
    with pytest.raises(AtomicModelError, match="validation"):
        train(replace(config, structures=alone))


def test_the_checkpoint_holds_the_shape(config: TrainingConfig) -> None:
    saved = state(train(config))
    network = UNet(UNetShape.from_dict(saved["shape"]))
    network.load_state_dict(saved["average"])


def test_stopping_saves_a_checkpoint_and_resuming_repeats_the_run(config: TrainingConfig) -> None:
    config = replace(config, checkpoint_every=600.0)
    whole = state(train(replace(config, output=config.output / "whole")))

    def interrupt(done: int, total: int) -> None:
        if done == 1:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    # What comes between two steps is seen after the second one.
    stopped = train(config, reports=Reports(step=interrupt))
    assert signal.getsignal(signal.SIGINT) == before
    assert (stopped.stopped_by, stopped.step) == (signal.SIGINT, 2)
    assert state(stopped)["step"] == 2
    assert_same(whole, state(train(config, resume=True)))


def test_resuming_drops_rows_that_were_lost(config: TrainingConfig) -> None:
    result = train(replace(config, steps=2))
    log = config.output / "log.csv"
    text = log.read_text()
    log.write_text(text + text.splitlines()[1].replace("2,", "3,", 1) + "\n")
    train(config, resume=True)
    with log.open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4"]
    assert result.step == 2


def test_checkpoints_of_older_runs_are_read(config: TrainingConfig) -> None:
    result = train(replace(config, steps=2))
    saved = state(result)
    torch.save({key: saved[key] for key in ("network", "average", "optimizer", "step", "shape")}, result.checkpoint)
    assert train(config, resume=True).step == 4


def test_a_folder_with_a_run_is_not_overwritten(config: TrainingConfig) -> None:
    train(replace(config, steps=1))
    with pytest.raises(OutputError, match="--resume"):
        train(config)


def test_a_checkpoint_of_another_network_is_said(config: TrainingConfig) -> None:
    train(replace(config, steps=1))
    other = UNetShape(channels=(4, 8), encoder_blocks=(1, 1), decoder_blocks=(1,))
    with pytest.raises(OptionError, match="network"):
        train(replace(config, network=other), resume=True)
    (config.output / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="damaged"):
        train(config, resume=True)


def test_the_second_loss_is_part_of_the_first(config: TrainingConfig, tmp_path: Path) -> None:
    plain = train(replace(config, steps=2, recombined=0.0))
    result = train(replace(config, output=tmp_path / "second", steps=2, recombined=0.5))
    assert {"recombined", "recombined_correlation"} <= set(result.scores)
    assert result.scores["loss"] > plain.scores["loss"]
    assert not torch.equal(state(plain)["network"]["head.weight"], state(result)["network"]["head.weight"])


def test_simulating_on_the_device_gives_the_same_on_a_cpu(config: TrainingConfig, tmp_path: Path) -> None:
    short = replace(config, steps=2)
    assert_same(state(train(short)), state(train(replace(short, output=tmp_path / "device", simulate_on="device"))))


def test_bfloat16_trains(config: TrainingConfig) -> None:
    result = train(replace(config, steps=2, precision="bfloat16"))
    assert np.isfinite(result.scores["loss"])
    assert all(value.dtype == torch.float32 for value in state(result)["network"].values())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"steps": 0}, "steps"),
        ({"checkpoint_every": 601.0}, "600"),
        ({"precision": "float16"}, "bfloat16"),
        ({"crops": CropConfig(edge=22)}, "multiple"),
        ({"crops": CropConfig(edge=64)}, "box"),
        ({"crops": CropConfig(edge=24, target="narrow")}, "tight or wide"),
        ({"network": UNetShape(channels=(4, 4), encoder_blocks=(1,), decoder_blocks=(1,))}, "encoder_blocks"),
        ({"name": "../up"}, "name"),
    ],
)
def test_impossible_configurations_are_said(config: TrainingConfig, change: dict, word: str) -> None:
    with pytest.raises(OptionError, match=word):
        replace(config, **change).check()
