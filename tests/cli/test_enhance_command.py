"""emhance enhance: what it writes, what it says, and how it refuses."""

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from program import Program, assert_one_sentence, names

from emhance.cli import console
from emhance.maps.mrc import read_map, write_map
from emhance.maps.volume import DensityMap, Geometry

Halves = tuple[Path, Path]


def make_map(path: Path, data: np.ndarray | None = None, *, voxel_size: float = 1.0, **geometry: object) -> Path:
    if data is None:
        data = np.random.default_rng(1).standard_normal((16, 16, 16), dtype=np.float32)
    write_map(path, DensityMap(data, Geometry.whole_box(data.shape, voxel_size, **geometry)))
    return path


def test_half_maps_in_an_enhanced_map_out(program: Program, halves: Halves, small_network: str, tmp_path: Path) -> None:
    before = set(names(tmp_path))
    ended = program("enhance", *halves, "-o", tmp_path / "out.mrc", "-n", small_network)
    assert ended.code == 0, ended.err
    assert set(names(tmp_path)) - before == {"out.mrc", "out.json"}
    assert re.search(r"Wrote .*out\.mrc \(NN-enhanced, not the experimental map\) and out\.json", ended.out)
    assert ended.err == "", "without a terminal there is no progress bar"
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["command"][1] == "enhance"
    assert record["recombination"]["source"] == "half-map FSC"
    with mrcfile.open(tmp_path / "out.mrc") as written:
        assert "NN-enhanced" in str(written.get_labels()[-1])


def test_from_noise_there_is_an_empty_map_and_nothing_to_show(program: Program, small_network: str, tmp_path: Path) -> None:
    halves = [
        make_map(tmp_path / f"noise{i}.mrc", np.random.default_rng(i).standard_normal((32, 32, 32), dtype=np.float32))
        for i in (1, 2)
    ]
    ended = program("enhance", *halves, "--confidence", "--report", "-o", tmp_path / "out.mrc", "-n", small_network)
    assert ended.code == 0, ended.err
    said = " ".join(ended.err.split())
    assert "no more in common than noise" in said
    assert "nothing to show: not written: out.cxc, out_report.html." in said
    with mrcfile.open(tmp_path / "out.mrc") as written:
        assert not written.data.any()
    assert not {"out.cxc", "out_report.html"} & set(names(tmp_path))
    later = program("report", tmp_path)
    assert later.code == 0
    assert "out.json: nothing was found" in " ".join(later.err.split())
    assert "out_report.html" not in names(tmp_path)


def test_the_output_has_a_name_of_its_own(program: Program, halves: Halves, small_network: str, tmp_path: Path) -> None:
    packed = tmp_path / "map.map.gz"
    packed.write_bytes(gzip.compress(halves[0].read_bytes()))
    assert program("enhance", packed, "-n", small_network).code == 0
    assert (tmp_path / "map_enhanced.mrc").exists()
    assert (tmp_path / "map_enhanced.json").exists()


def test_quiet_says_nothing(program: Program, halves: Halves, small_network: str, tmp_path: Path) -> None:
    data = read_map(halves[0]).data.copy()
    data[:, :, :14] = 0
    cut = make_map(tmp_path / "cut.mrc", data)
    loud = program("enhance", cut, "-o", tmp_path / "loud.mrc", "-n", small_network)
    assert loud.code == 0
    assert "looks masked" in " ".join(loud.err.split())
    ended = program("enhance", cut, "-o", tmp_path / "out.mrc", "-n", small_network, "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    ended = program("enhance", cut, "-o", tmp_path / "out.mrc", "-n", small_network, "--quiet")
    assert_one_sentence(ended, "exists already")


def test_verbose_says_more(program: Program, halves: Halves, small_network: str, tmp_path: Path) -> None:
    ended = program("enhance", *halves, "-o", tmp_path / "out.mrc", "-n", small_network, "-v")
    assert ended.code == 0
    assert "Data are trusted to" in ended.err


def test_only_a_terminal_gets_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, quiet, expected in [(True, False, True), (True, True, False), (False, False, False)]:
        monkeypatch.setattr(console.sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
        with console.progress_bar(quiet=quiet) as move:
            assert (move is not None) == expected
            if move is not None:
                move("network", 1, 2)
                move("network", 2, 2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("run_half1_class001_unfil.mrc", "run_half2_class001_unfil.mrc"),
        ("J12_map_half_A.mrc", "J12_map_half_B.mrc"),
        ("cryosparc_P3_J55_008_volume_map_half_A.mrc", "cryosparc_P3_J55_008_volume_map_half_B.mrc"),
        ("emd_1234_half_map_1.map.gz", "emd_1234_half_map_2.map.gz"),
        ("half1.mrc", "half2.mrc"),
        ("MAP_HALF1.MRC", "MAP_HALF2.MRC"),
        ("half1_half1.mrc", "half1_half2.mrc"),
    ],
)
def test_the_second_half_map_is_found(
    program: Program, halves: Halves, small_network: str, tmp_path: Path, first: str, second: str
) -> None:
    folder = tmp_path / "half1.mrcs"  # the folder's name does not matter
    folder.mkdir()
    for source, name in zip(halves, (first, second), strict=True):
        data = source.read_bytes()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    ended = program("enhance", folder / first, "--half2", "auto", "-o", tmp_path / "out.mrc", "-n", small_network)
    assert ended.code == 0, ended.err
    roles = {entry["role"]: entry["path"] for entry in json.loads((tmp_path / "out.json").read_text())["inputs"]}
    assert roles == {"half map 1": str(folder / first), "half map 2": str(folder / second)}


def test_a_second_half_map_that_cannot_be_found_is_said(program: Program, halves: Halves, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out.mrc")
    lone = tmp_path / "lone_half1.mrc"
    shutil.copy(halves[0], lone)
    before = names(tmp_path)
    assert_one_sentence(program("enhance", lone, "--half2", "auto", *out), "lone_half2.mrc", "does not exist")
    for name in ("map.mrc", "behalf1x.mrc", "emd_1234.map", halves[1].name):
        assert_one_sentence(program("enhance", tmp_path / name, "--half2", "auto", *out), "not named like half map 1")
    assert_one_sentence(program("enhance", *halves, "--half2", "auto", *out), "given twice")
    assert names(tmp_path) == before


# --- bad input ------------------------------------------------------------------------------------------------------

Maker = Callable[[Path], Path]


def text_file(folder: Path) -> Path:
    path = folder / "text.mrc"
    path.write_text("this is no map\n" * 200)
    return path


def short_file(folder: Path) -> Path:
    path = folder / "short.mrc"
    path.write_bytes(b"1234")
    return path


def empty_file(folder: Path) -> Path:
    path = folder / "empty.mrc"
    path.touch()
    return path


def truncated(folder: Path) -> Path:
    path = make_map(folder / "truncated.mrc")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def truncated_gzip(folder: Path) -> Path:
    path = make_map(folder / "truncated.mrc.gz")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def with_header(name: str, **words: object) -> Maker:
    def make(folder: Path) -> Path:
        path = make_map(folder / name)
        with mrcfile.open(path, mode="r+", permissive=True) as file:
            for word, value in words.items():
                file.header[word] = value
        return path

    return make


def image_stack(folder: Path) -> Path:
    path = folder / "stack.mrcs"
    with mrcfile.new(path) as file:
        file.set_data(np.random.default_rng(1).standard_normal((5, 16, 16), dtype=np.float32))
        file.set_image_stack()
        file.voxel_size = 1.0
    return path


def micrograph(folder: Path) -> Path:
    path = folder / "micrograph.mrc"
    with mrcfile.new(path) as file:
        file.set_data(np.random.default_rng(1).standard_normal((16, 16), dtype=np.float32))
    return path


def volume_stack(folder: Path) -> Path:
    path = folder / "volumes.mrc"
    with mrcfile.new(path) as file:
        file.set_data(np.random.default_rng(1).standard_normal((2, 8, 16, 16), dtype=np.float32))
    return path


def complex_map(folder: Path) -> Path:
    path = folder / "complex.mrc"
    with mrcfile.new(path) as file:
        file.set_data(np.ones((8, 8, 8), np.complex64))
        file.voxel_size = 1.0
    return path


def with_values(name: str, value: float, where: object) -> Maker:
    def make(folder: Path) -> Path:
        data = np.random.default_rng(1).standard_normal((16, 16, 16), dtype=np.float32)
        data[where] = value
        path = make_map(folder / name)
        path.write_bytes(path.read_bytes()[:1024] + data.tobytes())
        return path

    return make


def anisotropic(folder: Path) -> Path:
    path = make_map(folder / "anisotropic.mrc")
    with mrcfile.open(path, mode="r+") as file:
        file.header.cella.z = 17.0
    return path


def skewed(folder: Path) -> Path:
    path = make_map(folder / "skewed.mrc")
    with mrcfile.open(path, mode="r+") as file:
        file.header.cellb.gamma = 120.0
    return path


def no_voxel_size(folder: Path) -> Path:
    path = make_map(folder / "nosize.mrc")
    with mrcfile.open(path, mode="r+") as file:
        file.header.cella = (0.0, 0.0, 0.0)
    return path


BAD_MAPS: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "missing": (lambda folder: folder / "missing.mrc", ("missing.mrc", "no such file")),
    "directory": (lambda folder: folder, ("is a directory",)),
    "text": (text_file, ("not an MRC file",)),
    "short": (short_file, ("not an MRC file",)),
    "empty": (empty_file, ("empty",)),
    "truncated": (truncated, ("truncated", "bytes")),
    "truncated gzip": (truncated_gzip, ("truncated",)),
    "image stack": (image_stack, ("stack of 5 images",)),
    "micrograph": (micrograph, ("2-D image",)),
    "volume stack": (volume_stack, ("stack of volumes",)),
    "complex": (complex_map, ("complex",)),
    "one NaN": (with_values("nan.mrc", np.nan, (3, 4, 5)), ("1 value", "x, y, z = 5, 4, 3")),
    "infinities": (with_values("inf.mrc", np.inf, slice(2, 3)), ("256 values", "x, y, z = 0, 0, 2")),
    "constant": (with_values("constant.mrc", 2.5, slice(None)), ("2.5", "constant")),
    "no voxel size": (no_voxel_size, ("--voxel-size",)),
    "anisotropic": (anisotropic, ("1 %",)),
    "skewed": (skewed, ("120",)),
    "mode": (with_header("mode.mrc", mode=101), ("mode 101",)),
}


@pytest.mark.parametrize("case", BAD_MAPS)
def test_a_bad_map_gets_one_sentence(program: Program, small_network: str, tmp_path: Path, case: str) -> None:
    maker, words = BAD_MAPS[case]
    (tmp_path / "in").mkdir()
    path = maker(tmp_path / "in")
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "out.mrc"
    assert_one_sentence(program("enhance", path, "-o", out, "-n", small_network), *words)
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("case", ["text", "one NaN", "complex", "no voxel size"])
def test_a_bad_second_half_map_gets_one_sentence(
    program: Program, halves: Halves, small_network: str, tmp_path: Path, case: str
) -> None:
    maker, words = BAD_MAPS[case]
    (tmp_path / "in").mkdir()
    path = maker(tmp_path / "in")
    before = names(tmp_path)
    assert_one_sentence(program("enhance", halves[0], path, "-o", tmp_path / "out.mrc", "-n", small_network), path.name, *words)
    assert names(tmp_path) == before


def test_half_maps_that_do_not_match_get_one_sentence(
    program: Program, halves: Halves, small_network: str, tmp_path: Path
) -> None:
    data = read_map(halves[1]).data
    (tmp_path / "in").mkdir()
    cases = {
        "box": make_map(tmp_path / "in" / "box.mrc", data[:30].copy()),
        "voxel size": make_map(tmp_path / "in" / "voxel.mrc", data, voxel_size=1.05),
        "origin": make_map(tmp_path / "in" / "origin.mrc", data, origin=(0.0, 0.0, 10.0)),
        "nstart": make_map(tmp_path / "in" / "nstart.mrc", data, nstart=(0, 0, 10)),
        "identical": make_map(tmp_path / "in" / "same.mrc", read_map(halves[0]).data),
    }
    before = names(tmp_path)
    for word, path in cases.items():
        ended = program("enhance", halves[0], path, "-o", tmp_path / "out.mrc", "-n", small_network)
        assert_one_sentence(ended, word, halves[0].name, path.name)
    assert_one_sentence(program("enhance", halves[0], halves[0], "-o", tmp_path / "out.mrc", "-n", small_network), "identical")
    assert names(tmp_path) == before


def test_a_bad_mask_gets_one_sentence(program: Program, halves: Halves, small_network: str, tmp_path: Path) -> None:
    z, y, x = np.ogrid[-16:16, -16:16, -16:16]
    ball = (z**2 + y**2 + x**2 < 100).astype(np.float32)
    (tmp_path / "in").mkdir()
    cases = {
        "box": make_map(tmp_path / "in" / "box.mrc", ball[:30].copy()),
        "voxel size": make_map(tmp_path / "in" / "voxel.mrc", ball, voxel_size=1.1),
        "empty": make_map(tmp_path / "in" / "none.mrc", 0 * ball),
        "whole box": make_map(tmp_path / "in" / "all.mrc", np.ones_like(ball)),
        "not binary": make_map(tmp_path / "in" / "soft.mrc", ball * (0.1 + np.abs(z) / 20).astype(np.float32)),
    }
    before = names(tmp_path)
    for word, path in cases.items():
        ended = program("enhance", *halves, "-m", path, "-o", tmp_path / "out.mrc", "-n", small_network)
        assert_one_sentence(ended, word, path.name)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-n", "tigth"], ["Unknown network 'tigth'", "tight, wide, highres, masked"]),
        (["-n", "missing.safetensors"], ["do not exist"]),
        (["-g", "77"], ["GPU 77 does not exist"]),
        (["-g", "first"], ["cannot be read"]),
        (["-n", "masked"], ["--mask"]),
        (["--normalization", "mask"], ["--mask"]),
        (["--normalization", "statistics"], ["--noise-mean"]),
        (["--normalization", "auto", "--noise-mean", "1"], ["--noise-mean"]),
        (["--noise-mean", "0"], ["both"]),
        (["--normalization", "other"], ["other", "auto, statistics, mask"]),
        (["-m", "mask.mrc", "-n", "wide"], ["masked network"]),
        (["-m", "mask.mrc", "--normalization", "auto"], ["mask"]),
        (["--clean", "2"], ["between 0 and 1"]),
        (["--recombine", "maybe"], ["on or off"]),
        (["-b", "many"], ["whole number or auto"]),
        (["-b", "0"], ["at least 1"]),
        (["--tile-size", "30"], ["multiple of 8"]),
        (["--threads", "0"], ["at least 1"]),
        (["--precision", "float8"], ["float8"]),
        (["--precision", "float16", "-g", "none"], ["needs a GPU"]),
        (["--voxel-size", "0"], ["positive"]),
        (["--voxel-size", "nan"], ["positive"]),
        (["--resolution", "-1"], ["positive"]),
        (["--resolution", "1.2"], ["finer than the map can hold"]),
    ],
)
def test_bad_options_get_one_sentence(
    program: Program, halves: Halves, tmp_path: Path, options: list[str], words: list[str]
) -> None:
    before = names(tmp_path)
    assert_one_sentence(program("enhance", *halves, "-o", tmp_path / "out.mrc", *options), *words)
    assert names(tmp_path) == before


def test_bad_outputs_get_one_sentence(
    program: Program, halves: Halves, small_network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, record = tmp_path / "taken.mrc", tmp_path / "other.json"
    taken.write_text("mine")
    record.write_text("mine")
    before = names(tmp_path)
    run = lambda output, *more: program("enhance", *halves, "-n", small_network, "-o", output, *more)  # noqa: E731
    assert_one_sentence(run(taken), "exists already", "--overwrite")
    assert_one_sentence(run(tmp_path / "other.mrc"), "other.json", "exists already")
    assert_one_sentence(run(tmp_path / "missing" / "out.mrc"), "does not exist")
    assert_one_sentence(run(tmp_path), "is a directory")
    assert_one_sentence(run("/dev/full"), "not a file")
    assert_one_sentence(run(tmp_path / "new.json"), "new.json", ".mrc")
    for source in halves:
        assert_one_sentence(run(source, "--overwrite"), "is an input as well")
    monkeypatch.setattr("emhance.maps.atomic_write.os.access", lambda path, mode: False)  # root may write anywhere
    assert_one_sentence(run(tmp_path / "out.mrc"), "no permission")
    assert names(tmp_path) == before
    assert taken.read_text() == record.read_text() == "mine"


def test_a_full_disk_gets_one_sentence(
    program: Program, halves: Halves, small_network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = names(tmp_path)
    monkeypatch.setattr("emhance.maps.atomic_write.os.fsync", full)
    assert_one_sentence(program("enhance", *halves, "-n", small_network, "-o", tmp_path / "out.mrc"), "disk is full")
    assert names(tmp_path) == before


def test_overwrite_replaces_both(program: Program, halves: Halves, small_network: str, tmp_path: Path) -> None:
    for name in ("out.mrc", "out.json"):
        (tmp_path / name).write_text("old")
    assert program("enhance", *halves, "-n", small_network, "-o", tmp_path / "out.mrc", "--overwrite").code == 0
    assert json.loads((tmp_path / "out.json").read_text())
    assert read_map(tmp_path / "out.mrc").data.shape == (32, 32, 32)


@pytest.mark.parametrize(
    "arguments",
    [
        ["enhance"],
        ["enhance", "a", "b", "c"],
        ["enhance", "a.mrc", "--no-such-option"],
        ["enhance", "a.mrc", "--clean", "much"],
        ["enhance", "a.mrc", "--threads", "1.5"],
        ["no-such-command"],
        ["info"],
        ["--no-such-option"],
    ],
)
def test_usage_errors_end_with_code_2(program: Program, arguments: list[str]) -> None:
    ended = program(*arguments)
    assert ended.code == 2
    assert ended.err
    assert "Traceback" not in ended.err


def test_a_failure_of_emhance_itself_is_not_the_users(program: Program, halves: Halves, monkeypatch: pytest.MonkeyPatch) -> None:
    from emhance.errors import EmhanceError

    def fail(*args: object, **kwargs: object) -> None:
        raise EmhanceError("This should not happen.")

    monkeypatch.setattr("emhance.pipeline.enhance", fail)
    ended = program("enhance", *halves, "-o", halves[0].parent / "out.mrc")
    assert ended.code == 1
    assert ended.err.strip() == "Error: This should not happen."
