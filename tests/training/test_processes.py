"""Several processes, started by torchrun, do what one would do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from emhance.errors import DeviceError, OptionError
from emhance.training.processes import processes, training_precision
from small_run import small_config, small_structures

CPU = torch.device("cpu")


def test_one_process_needs_no_fellows() -> None:
    with processes("cpu") as own:
        assert (own.rank, own.count, own.is_first) == (0, 1, True)
        assert own.any(3) == 3
        module = torch.nn.Linear(1, 1)
        assert own.share(module) is module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(DeviceError, match="PyTorch sees 0"), processes("cuda"):
        pass


def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    for matrix_units, precision in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("emhance.training.processes.has_matrix_units", lambda there=matrix_units: there)
        assert training_precision("auto", CPU) == precision
    assert training_precision("float32", CPU) == torch.float32
    assert training_precision("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(OptionError, match="float64"):
        training_precision("float64", CPU)


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_maps(tmp_path: Path) -> None:
    """The gradients of the first step, which Adam's first moment holds, are those of both processes' maps together."""
    small_structures(tmp_path / "models")
    common = 'steps = 1\nvalidate_every = 1\nvalidation_maps = 1\nrecombined = 0.3\nprecision = "float32"\n'
    two = small_config(tmp_path, "two", common + "crops_per_step = 2\n")
    one = small_config(tmp_path, "one", common + "crops_per_step = 4\nmaps_mixed = 2\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "emhance.cli.main", "train", str(one)]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*torchrun, "-m", "emhance.cli.main", "train", str(two)], check=False, capture_output=True, env=environment, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("step 1 ") == 1, "the first process alone reports"
    assert ended.stdout.count("Wrote ") == 1
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("two", "one")]
    moments = [[values["exp_avg"] for values in state["optimizer"]["state"].values()] for state in states]
    largest = max(float(moment.abs().max()) for moment in moments[1])
    assert largest > 0
    for a, b in zip(*moments, strict=True):
        assert float((a - b).abs().max()) < 1e-4 * largest
    # The first process saw one map, the other process another.
    assert states[0]["running"]["loss"] != pytest.approx(states[1]["running"]["loss"], rel=1e-6)
    written = {path.name for path in (tmp_path / "two").iterdir()}
    assert written == {path.name for path in (tmp_path / "one").iterdir()}
