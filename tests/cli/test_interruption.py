"""Whenever the program is stopped, no partial output lies under the final name, and no temporary survives the next run."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from program import Program, names

from emhance.maps.mrc import read_map, write_map
from emhance.maps.volume import DensityMap, Geometry

PATIENCE = 120.0
"""Seconds after which a run that does not get there is a failure."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map that takes a good part of a second to be packed with bzip2."""
    data = np.random.default_rng(3).standard_normal((96, 96, 96), dtype=np.float32)
    path = tmp_path_factory.mktemp("large") / "map.mrc"
    write_map(path, DensityMap(data, Geometry.whole_box(data.shape, 1.0)))
    return path


def start(source: Path, output: Path, network: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "emhance.cli.main", "enhance", str(source), "-o", str(output), "-n", network]
    options = ["--noise-mean", "0", "--noise-std", "1", "--resolution", "4", "--overwrite"]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(condition: Callable[[], bool], run: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def ended() -> Iterator[list[subprocess.Popen[str]]]:
    runs: list[subprocess.Popen[str]] = []
    yield runs
    for run in runs:
        run.kill()
        run.communicate()


def temporaries(folder: Path) -> list[str]:
    return [name for name in names(folder) if name.endswith(".tmp")]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_while_writing(
    program: Program, large: Path, small_network: str, tmp_path: Path, ended: list, number: signal.Signals, code: int
) -> None:
    output = tmp_path / "out.mrc.bz2"
    run = start(large, output, small_network)
    ended.append(run)
    wait_until(lambda: any((tmp_path / name).stat().st_size for name in temporaries(tmp_path)), run)
    run.send_signal(number)
    out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == code, err
    assert "Traceback" not in err
    if number == signal.SIGKILL:
        assert names(tmp_path) == temporaries(tmp_path)
        assert temporaries(tmp_path)
    else:
        assert names(tmp_path) == []
        assert err.endswith("Stopped.\n")
        assert out == ""
    # The next run, here in this process, removes what is left.
    assert program("enhance", large, "-o", output, "-n", small_network, "--noise-mean", 0, "--noise-std", 1).code == 0
    assert names(tmp_path) == ["out.json", "out.mrc.bz2"]
    assert read_map(output, allow_constant=True).data.shape == (96, 96, 96)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_while_reading(small_network: str, tmp_path: Path, ended: list, number: signal.Signals, code: int) -> None:
    pipe = tmp_path / "map.mrc"  # one that never delivers
    os.mkfifo(pipe)
    run = start(pipe, tmp_path / "out.mrc", small_network)
    ended.append(run)
    writing: list[int] = []

    def is_being_read() -> bool:
        try:
            writing.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody reads it yet
            return False
        return True

    wait_until(is_being_read, run)
    run.send_signal(number)
    out, err = run.communicate(timeout=PATIENCE)
    os.close(writing[0])
    assert (run.returncode, out, err) == (code, "", "Stopped.\n")
    assert names(tmp_path) == ["map.mrc"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_a_random_moment(large: Path, small_network: str, tmp_path: Path, ended: list, seed: int) -> None:
    """An old output stays whole until the new one takes its place."""
    output = tmp_path / "out.mrc.bz2"
    output.write_bytes(b"old")
    (tmp_path / "out.json").write_bytes(b"old")
    run = start(large, output, small_network)
    ended.append(run)
    time.sleep(random.Random(seed).uniform(0.1, 5.0))
    run.kill()
    run.communicate(timeout=PATIENCE)
    if output.read_bytes() != b"old":
        assert read_map(output, allow_constant=True).data.shape == (96, 96, 96)
        assert (tmp_path / "out.json").read_bytes() != b"old"
