"""emhance info, networks, demo, and the program's own options."""

import bz2
import gzip
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from program import Program, assert_one_sentence, names

from emhance.maps.mrc import read_map
from emhance.network.weights import available_cards

Halves = tuple[Path, Path]


def test_info_of_a_map(program: Program, halves: Halves) -> None:
    ended = program("info", halves[0])
    assert ended.code == 0, ended.err
    assert ended.err == ""
    assert "32" in ended.out
    assert "Fit to be enhanced: yes" in ended.out
    assert "Solvent noise" in ended.out


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_info_of_a_packed_map(program: Program, halves: Halves, tmp_path: Path, pack: object) -> None:
    path = tmp_path / "packed.map.gz"
    path.write_bytes(pack(halves[0].read_bytes()))
    ended = program("info", path)
    assert ended.code == 0
    assert pack.__module__.replace("bz2", "bzip2") in ended.out


def test_info_shows_labels_as_they_are(program: Program, halves: Halves) -> None:
    with mrcfile.open(halves[0], mode="r+") as file:
        file.header.label[0] = b"[/bold] a label [red]in brackets[/red]".ljust(80)
        file.header.nlabl = 1
    ended = program("info", halves[0])
    assert ended.code == 0
    assert "[/bold] a label [red]in brackets[/red]" in ended.out


def test_info_notes_what_makes_a_map_less_fit(program: Program, halves: Halves) -> None:
    with mrcfile.open(halves[0], mode="r+") as file:
        file.data[:, :, :14] = 0
    ended = program("info", halves[0])
    assert ended.code == 0
    assert "looks masked" in ended.out
    assert "with the notes above" in ended.out


def stack(path: Path) -> None:
    with mrcfile.new(path) as file:
        file.set_data(np.random.default_rng(1).standard_normal((5, 16, 16), dtype=np.float32))
        file.set_image_stack()


def complex_map(path: Path) -> None:
    with mrcfile.new(path) as file:
        file.set_data(np.ones((8, 8, 8), np.complex64))


def volume_stack(path: Path) -> None:
    with mrcfile.new(path) as file:
        file.set_data(np.random.default_rng(1).standard_normal((2, 8, 16, 16), dtype=np.float32))


def no_voxel_size(path: Path) -> None:
    with mrcfile.new(path) as file:
        file.set_data(np.random.default_rng(1).standard_normal((8, 8, 8), dtype=np.float32))
        file.set_volume()


@pytest.mark.parametrize(
    ("make", "seen", "words"),
    [
        (stack, "16, 16, 5", "stack of 5 images"),
        (complex_map, "complex float32", "complex"),
        (volume_stack, "float32", "stack of volumes"),
        (no_voxel_size, "float32", "--voxel-size"),
    ],
)
def test_info_of_what_is_no_map_shows_what_it_is_and_says_why(
    program: Program, tmp_path: Path, make: object, seen: str, words: str
) -> None:
    path = tmp_path / "odd.mrc"
    make(path)
    ended = program("info", path)
    assert_one_sentence(ended, words)
    assert seen in ended.out
    assert "Fit to be enhanced: no" in ended.out


def test_info_of_no_mrc_file(program: Program, tmp_path: Path) -> None:
    (tmp_path / "text.mrc").write_text("no map at all\n" * 200)
    assert_one_sentence(program("info", tmp_path / "text.mrc"), "not an MRC file")
    assert_one_sentence(program("info", tmp_path / "missing.mrc"), "no such file")


def test_networks_lists_what_ships(program: Program) -> None:
    ended = program("networks")
    assert ended.code == 0
    for card in available_cards():
        assert card.name in ended.out
    assert "kFLOP/voxel" in ended.out


def test_version_and_help(program: Program) -> None:
    assert program("--version").out.strip() == f"emhance {version('emhance')}"
    for arguments in (["--help"], ["-h"], ["enhance", "--help"], ["info", "-h"], ["demo", "--help"]):
        ended = program(*arguments)
        assert ended.code == 0
        assert "Usage" in ended.out


def test_without_arguments_the_help_is_shown(program: Program) -> None:
    ended = program()
    assert "enhance" in ended.out + ended.err
    assert "networks" in ended.out + ended.err


def test_the_module_runs_as_a_program() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "emhance.cli.main", "info", "missing.mrc"], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: ")
    assert len(ended.stderr.strip().splitlines()) == 1
    assert ended.stdout == ""


def test_the_demo_leaves_maps_and_a_picture(program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "demo"
    ended = program("demo", "-o", folder, "--box", "64", "--resolution", "4")
    assert ended.code == 0, ended.err
    assert names(folder) == ["enhanced.json", "enhanced.mrc", "half1.mrc", "half2.mrc", "slices.png"]
    assert (folder / "slices.png").read_bytes().startswith(b"\x89PNG")
    assert read_map(folder / "enhanced.mrc").data.shape == (64, 64, 64)
    assert json.loads((folder / "enhanced.json").read_text())["recombination"]["source"] == "half-map FSC"
    words = ended.out.split("Correlation with the true density:")[1].split()
    assert float(words[2]) > float(words[0]), "the enhanced map should be nearer to the truth"
    before = {name: (folder / name).stat().st_mtime_ns for name in names(folder)}
    assert_one_sentence(program("demo", "-o", folder, "--box", "64"), "exists already", "--overwrite")
    assert {name: (folder / name).stat().st_mtime_ns for name in names(folder)} == before


def test_the_demo_can_be_quiet_and_repeated(program: Program, tmp_path: Path) -> None:
    for _ in range(2):
        ended = program("demo", "-o", tmp_path, "--box", "64", "--quiet", "--overwrite")
        assert (ended.code, ended.out, ended.err) == (0, "", "")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--box", "20"], "--box"),
        (["--resolution", "30"], "--resolution"),
        (["-g", "99"], "GPU 99"),
        (["-o", "{file}/x"], "file"),
    ],
)
def test_bad_options_of_the_demo(program: Program, tmp_path: Path, options: list[str], word: str) -> None:
    (tmp_path / "file").write_text("")
    options = [option.format(file=tmp_path / "file") for option in options]
    if "-o" not in options:
        options += ["-o", str(tmp_path / "demo")]
    assert_one_sentence(program("demo", *options), word)
    assert names(tmp_path) == ["file"]
