"""simulate, train, fine-tune and evaluate, one after the other, as a user does."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from program import Program, assert_one_sentence, names

from atomic_models import write_model
from emhance.maps.mrc import read_map
from emhance.network.weights import load_network, read_card
from emhance.training.example_protein import example_protein
from small_run import small_config, small_structures

CASE = ["half1.mrc", "half2.mrc", "mask.mrc", "parameters.json", "target.mrc", "truth.mrc"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    small_structures(folder / "models")
    return folder / "models"


def test_simulate_leaves_a_case(program: Program, models: Path, tmp_path: Path) -> None:
    model = models / "model1.cif"
    ended = program("simulate", model, "--resolution", 4.5, "--box", 64, "-o", tmp_path / "case", "--seed", 2)
    assert ended.code == 0, ended.err
    assert names(tmp_path / "case") == CASE
    maps = {name: read_map(tmp_path / "case" / name) for name in CASE if name.endswith(".mrc")}
    assert {m.geometry.shape for m in maps.values()} == {(64, 64, 64)}
    assert set(np.unique(maps["mask.mrc"].data)) == {0.0, 1.0}
    assert not np.array_equal(maps["half1.mrc"].data, maps["half2.mrc"].data)
    parameters = json.loads((tmp_path / "case" / "parameters.json").read_text())
    assert parameters["resolution"] == 4.5
    assert parameters["atomic_model"] == "model1.cif"
    assert len(parameters["drawn"]) > 20
    again = program("simulate", model, "--resolution", 4.5, "--box", 64, "-o", tmp_path / "again", "--seed", 2)
    assert again.code == 0
    assert np.array_equal(read_map(tmp_path / "again" / "half1.mrc").data, maps["half1.mrc"].data)
    assert_one_sentence(program("simulate", model, "--resolution", 4.5, "-o", tmp_path / "case"), "exists already")


def test_simulate_says_what_is_wrong(program: Program, models: Path, tmp_path: Path) -> None:
    model, output = models / "model1.cif", tmp_path / "case"
    wrong = tmp_path / "wrong.cif"
    wrong.write_text("nothing of the kind")
    assert_one_sentence(program("simulate", wrong, "--resolution", 4, "-o", output), "wrong.cif")
    assert_one_sentence(program("simulate", model, "--resolution", 1.5, "-o", output), "--resolution")
    assert_one_sentence(program("simulate", model, "--resolution", 4, "-o", output, "--box", 65), "--box")
    assert_one_sentence(program("simulate", model, "--resolution", 4, "-o", output, "--voxel-size", 0), "--voxel-size")
    assert_one_sentence(program("simulate", model, "--resolution", 4, "-o", output, "--device", "tpu"), "--device")
    assert_one_sentence(program("simulate", model, "--resolution", 4, "-o", output, "--seed", -1), "--seed")
    assert not output.exists()


@pytest.mark.slow
def test_from_atomic_models_to_scores(program: Program, models: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number, seed in enumerate((1, 2), 1):
        options = ("--resolution", 4 + 0.5 * number, "--box", 48, "--raw", "-o", data / f"case{number}", "--seed", seed)
        assert program("simulate", models / "model1.cif", *options).code == 0

    config = small_config(models.parent, "run", "steps = 2\nvalidate_every = 1\nvalidation_maps = 1\n")
    run = tmp_path / "run"
    ended = program("train", config, "-o", run)
    assert ended.code == 0, ended.err
    assert names(run) == ["checkpoint.pt", "config.toml", "log.csv", "log.png", "structures.npz", "tiny.safetensors", "tiny.toml"]
    card = read_card(run / "tiny.toml")
    assert "2 atomic models" in card.trained_on
    assert "2 steps" in card.training
    assert card.scores
    assert (run / "log.png").read_bytes()[:4] == b"\x89PNG"
    assert_one_sentence(program("train", config, "-o", run), "--resume")

    longer = small_config(models.parent, "longer", "steps = 3\nvalidate_every = 1\nvalidation_maps = 1\n")
    ended = program("train", longer, "-o", run, "--resume")
    assert ended.code == 0, ended.err
    assert "resumed at step 2" in ended.out
    with (run / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3"]

    weights = run / "tiny.safetensors"
    target = read_map(data / "case1" / "target.mrc")
    assert target.data.max() > 0.2
    table = tmp_path / "table.csv"
    model_of_case(data / "case1", tmp_path / "placed.cif")
    table.write_text("name,half1,half2,atomic_model,resolution\none,placed1.mrc,placed2.mrc,placed.cif,4.5\n")
    ended = program("fine-tune", weights, "--maps", table, "--steps", 1, "--crop", 24, "-o", tmp_path / "tuned")
    assert ended.code == 0, ended.err
    tuned = tmp_path / "tuned" / "tiny-tuned.safetensors"
    parent, child = load_network(str(weights)), load_network(str(tuned))
    assert parent.card.sha256 in child.card.trained_on
    assert any(not torch.equal(a, b) for a, b in zip(parent.module.parameters(), child.module.parameters(), strict=True))

    ended = program("evaluate", tuned, "--data", data, "-o", tmp_path / "scores.csv", "--threads", 1)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["map", "case1", "case2", "mean"]
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["case1", "case2", "mean"]
    for key in ("cc_box_before", "cc_mask_after", "fsc05_after", "fsc_mean_before"):
        values = [float(row[key]) for row in rows]
        assert np.isfinite(values).all()
        assert values[2] == pytest.approx(np.mean(values[:2]), abs=2e-4)
    assert_one_sentence(program("evaluate", tuned, "--data", data, "-o", tmp_path / "scores.csv"), "exists already")
    ended = program("evaluate", tuned, "--data", table, "--threads", 1, "-q")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[1].startswith("one ")


def model_of_case(case: Path, path: Path) -> None:
    """A map pair with its atomic model in one frame, written beside `path`: what `simulate` turns cannot be turned back."""
    from emhance.maps.mrc import write_map
    from emhance.maps.volume import DensityMap
    from emhance.training.atoms import Atoms
    from emhance.training.grids import to_map
    from emhance.training.scattering import density_transform

    half = read_map(case / "half1.mrc")
    atoms, n = example_protein(seed=1), half.geometry.shape[0]
    placed = (atoms.positions - atoms.positions.mean(0) + n / 2).astype(np.float32)
    parts = (torch.from_numpy(v) for v in (placed, atoms.elements.astype(np.int64), atoms.b_factors + 60, atoms.occupancies))
    clean = to_map(density_transform(*parts, n=n, voxel_size=1.0)).numpy()
    rng = np.random.default_rng(1)
    for number in (1, 2):
        noisy = (clean + 0.3 * clean.std() * rng.standard_normal(clean.shape)).astype(np.float32)
        write_map(path.with_name(f"placed{number}.mrc"), DensityMap(noisy, half.geometry))
    write_model(path, Atoms(placed, atoms.elements, atoms.b_factors, atoms.occupancies, atoms.kinds), seed=1)


def test_train_says_what_is_wrong(program: Program, models: Path, tmp_path: Path) -> None:
    assert_one_sentence(program("train", tmp_path / "none.toml"), "none.toml", "cannot be read")
    config = small_config(models.parent, "wrong", "stepps = 3\n")
    assert_one_sentence(program("train", config), "stepps", "did you mean steps")
    alone = tmp_path / "alone"
    (alone / "models").mkdir(parents=True)
    write_model(alone / "models" / "one.cif", example_protein(seed=1), seed=1)
    assert_one_sentence(program("train", small_config(alone, "run")), "validation")


def test_fine_tune_and_evaluate_say_what_is_wrong(program: Program, small_network: str, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    assert_one_sentence(program("fine-tune", small_network, "--maps", table), "table.csv")
    table.write_text("map,atomic_model,resolution\nmap.mrc,model.cif,3\n")
    assert_one_sentence(program("fine-tune", small_network, "--maps", table), "map.mrc")
    assert_one_sentence(program("fine-tune", "none.safetensors", "--maps", table), "none.safetensors")
    assert_one_sentence(program("fine-tune", small_network, "--maps", table, "--structures", tmp_path / "x"), "--structures")
    assert_one_sentence(program("fine-tune", small_network, "--maps", table, "--learning-rate", 1), "--learning-rate")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_one_sentence(program("evaluate", small_network, "--data", empty), "empty")
    assert_one_sentence(program("evaluate", small_network, "--data", tmp_path / "none"), "does not exist")
    (empty / "parameters.json").write_text("{}")
    assert_one_sentence(program("evaluate", small_network, "--data", empty), "half1.mrc")


@pytest.mark.slow
def test_ctrl_c_saves_a_checkpoint(models: Path, tmp_path: Path) -> None:
    config = small_config(models.parent, "stopped", "steps = 100000\nvalidation_maps = 1\nvalidate_every = 1\n")
    command = [sys.executable, "-m", "emhance.cli.main", "train", str(config), "-o", str(tmp_path / "run")]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "log.csv").exists():
            assert run.poll() is None, run.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=120)
    finally:
        run.kill()
    assert run.returncode == 130, err
    assert "Traceback" not in err
    assert "--resume" in out
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert saved["step"] >= 1
