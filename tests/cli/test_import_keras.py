"""Imported networks on the command line: import-keras, and enhance with a checkpoint or what was imported from one."""

import json
import sys
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from program import Program, assert_one_sentence, names

from emhance.maps.mrc import read_map

Halves = tuple[Path, Path]
STATISTICS = ("--noise-mean", 0, "--noise-std", 0.07)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return checkpoints.small_network(folder / "net.hd5", box=16)


@pytest.fixture
def without_h5py(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "emhance.legacy.keras_file", raising=False)
    monkeypatch.setitem(sys.modules, "h5py", None)


@pytest.mark.parametrize("mode", [(), ("--reference-exact",), ("--stride", 8)], ids=str)
def test_what_was_imported_gives_the_checkpoints_result_to_the_bit(
    program: Program, halves: Halves, checkpoint: Path, tmp_path: Path, mode: tuple[object, ...]
) -> None:
    weights = tmp_path / "weights.safetensors"
    ended = program("import-keras", checkpoint, "-o", weights)
    assert ended.code == 0, ended.err
    assert f"Wrote {weights} and weights.toml" in ended.out
    assert "inputNormalization_3" in ended.out
    maps = []
    for network, output in ((checkpoint, tmp_path / "a.mrc"), (weights, tmp_path / "b.mrc")):
        ended = program("enhance", *halves, "-n", network, "-o", output, *STATISTICS, *mode)
        assert ended.code == 0, ended.err
        assert f"Wrote {output} (NN-enhanced, not the experimental map) and {output.stem}.json" in ended.out
        maps.append(read_map(output))
    assert np.array_equal(maps[0].data, maps[1].data)
    assert maps[0].data.std() > 0
    assert maps[0].geometry == read_map(halves[0]).geometry
    record = json.loads((tmp_path / "b.json").read_text())
    assert record["network"]["name"] == "net"
    assert record["config"]["reference_exact"] is (mode == ("--reference-exact",))
    assert record["config"]["recombine"] is False


def test_a_report_of_an_imported_network(program: Program, halves: Halves, checkpoint: Path, tmp_path: Path) -> None:
    ended = program("enhance", halves[0], "-n", checkpoint, "-o", tmp_path / "out.mrc", *STATISTICS, "--report")
    assert ended.code == 0, ended.err
    assert {"out.mrc", "out.json", "out.cxc", "out_report.html"} <= set(names(tmp_path))


def test_import_replaces_nothing_unasked(program: Program, checkpoint: Path, tmp_path: Path) -> None:
    for taken in ("a.safetensors", "b.toml"):
        (tmp_path / taken).write_text("mine")
    assert_one_sentence(program("import-keras", checkpoint, "-o", tmp_path / "a.safetensors"), "exists already")
    assert_one_sentence(program("import-keras", checkpoint, "-o", tmp_path / "b.safetensors"), "b.toml", "exists already")
    assert_one_sentence(program("import-keras", checkpoint, "-o", tmp_path / "net.npz"), ".safetensors")
    assert {(tmp_path / taken).read_text() for taken in ("a.safetensors", "b.toml")} == {"mine"}
    assert program("import-keras", checkpoint, "-o", tmp_path / "a.safetensors", "--overwrite", "-q").out == ""
    assert (tmp_path / "a.toml").exists()


def test_import_goes_to_this_folder(program: Program, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert program("import-keras", checkpoint).code == 0
    assert {"net.safetensors", "net.toml"} <= set(names(tmp_path))


def test_who_does_not_say_the_normalisation_must_be_told(program: Program, halves: Halves, tmp_path: Path) -> None:
    odd = checkpoints.small_network(tmp_path / "odd.hd5", box=16, normalization="my_own")
    assert_one_sentence(program("import-keras", odd), "my_own", "inputNormalization_3", "--normalization")
    assert_one_sentence(program("import-keras", odd, "--normalization", "auto"), "'auto'", "inputNormalization_3")
    weights = tmp_path / "odd.safetensors"
    assert program("import-keras", odd, "-o", weights, "--normalization", "inputNormalization_3").code == 0
    assert_one_sentence(program("enhance", *halves, "-n", odd, "-o", tmp_path / "out.mrc"), "import-keras", "--normalization")
    assert program("enhance", *halves, "-n", weights, "-o", tmp_path / "out.mrc", *STATISTICS).code == 0


def test_files_that_are_no_checkpoints(program: Program, halves: Halves, tmp_path: Path) -> None:
    (tmp_path / "text.hd5").write_text("no checkpoint")
    for command in (("import-keras",), ("enhance", *halves, "-n")):
        assert_one_sentence(program(*command, tmp_path / "text.hd5"), "not an HDF5 file")
        assert_one_sentence(program(*command, tmp_path / "missing.hd5"), "no checkpoint")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recombine", "on"], ["--recombine on", "net.hd5"]),
        (["--resolution", "3"], ["--resolution"]),
        (["--tile-size", "64"], ["--tile-size"]),
        (["--precision", "bfloat16"], ["--precision"]),
        (["--confidence"], ["--confidence"]),
        (["--gate"], ["--gate"]),
        (["--reference-exact", "--stride", "8"], ["--stride", "--reference-exact"]),
        (["--stride", "0"], ["at least 1"]),
        (["--stride", "17"], ["between 1 and"]),
        (["--batch-size", "0"], ["at least 1"]),
        (["--mask", "{map}"], ["without a mask"]),
        (["-g", "99"], ["GPU 99"]),
    ],
    ids=str,
)
def test_what_does_not_go_with_an_imported_network(
    program: Program, halves: Halves, checkpoint: Path, tmp_path: Path, options: list[str], words: list[str]
) -> None:
    before = names(tmp_path)
    options = [option.format(map=halves[0]) for option in options]
    ended = program("enhance", *halves, "-n", checkpoint, "-o", tmp_path / "out.mrc", *options)
    assert_one_sentence(ended, *words)
    assert names(tmp_path) == before


@pytest.mark.parametrize("options", [["--reference-exact"], ["--stride", "16"]], ids=str)
def test_what_goes_with_an_imported_network_only(
    program: Program, halves: Halves, small_network: str, tmp_path: Path, options: list[str]
) -> None:
    for network in ("tight", small_network):
        ended = program("enhance", *halves, "-n", network, "-o", tmp_path / "out.mrc", *options)
        assert_one_sentence(ended, options[0], "imported networks only")


@pytest.mark.usefixtures("without_h5py")
def test_without_h5py(program: Program, halves: Halves, small_network: str, checkpoint: Path, tmp_path: Path) -> None:
    for command in (("import-keras",), ("enhance", *halves, "-o", tmp_path / "out.mrc", "-n")):
        ended = program(*command, checkpoint)
        assert ended.code == 2
        assert ended.err == "Error: Keras checkpoints need h5py; install it with: pip install 'emhance[legacy]'\n"
    ended = program("enhance", *halves, "-n", small_network, "-o", tmp_path / "out.mrc")
    assert ended.code == 0, "weights that need no h5py are not refused"


def test_the_reference_networks_are_fetched_where_they_are_wanted(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []

    def fetch(folder: Path, *, progress: object) -> list[Path]:
        folders.append(folder)
        return [folder / "a.hd5", folder / "b.hd5"]

    monkeypatch.setattr("emhance.legacy.download.download_reference", fetch)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert program("networks", "--download-reference").code == 0
    ended = program("networks", "--download-reference", tmp_path / "here")
    assert ended.code == 0
    assert "a.hd5, b.hd5" in ended.out
    assert "could not be checked" in ended.out
    assert folders == [tmp_path / ".local/share/deepEMhancerModels/production_checkpoints", tmp_path / "here"]
    assert_one_sentence(program("networks", tmp_path), "--download-reference")
