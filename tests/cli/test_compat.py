"""The command lines of deepEMhancer 0.17 and of Xmipp's wrapper."""

import os
import subprocess
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import numpy as np
import pytest
from program import Ended, Program, assert_one_sentence, names

from emhance.cli import compat
from emhance.maps.mrc import read_map
from emhance.network.devices import pick_devices

Halves = tuple[Path, Path]


class Drop:
    """The two programs in this process."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def deepemhancer(self, *arguments: object) -> Ended:
        return self.program(*arguments, name="deepemhancer", run=compat.deepemhancer)

    def xmipp(self, *arguments: object) -> Ended:
        name = "xmipp_deep_volume_postprocessing"
        return self.program(*arguments, name=name, run=compat.xmipp_deep_volume_postprocessing)


@pytest.fixture
def drop(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drop:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # the user's own checkpoints are none of the tests' business
    return Drop(program)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder as `--download` leaves it: the checkpoints that these tests use."""
    folder = tmp_path / "models"
    folder.mkdir()
    masked = "inputNormalizationWithMask_2"
    checkpoints.small_network(folder / "deepEMhancer_tightTarget.hd5", box=16, seed=1)
    checkpoints.small_network(folder / "deepEMhancer_highRes.hd5", box=16, seed=2)
    checkpoints.small_network(folder / "deepEMhancer_masked.hd5", box=16, seed=3, normalization=masked)
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Namespace]]:
    """What the library was called with; nothing is computed."""
    seen: list[Namespace] = []

    def note(map: Path, half2: Path | None, **options: object) -> object:
        seen.append(Namespace(map=map, half2=half2, **options))
        write = lambda output, *, overwrite: (output, output.with_suffix(".json"))  # noqa: E731
        return SimpleNamespace(write=write, provenance=SimpleNamespace(normalization={"mean": 1e-6, "std": 0.0013274}))

    monkeypatch.setattr(compat, "enhance_by_choice", note)
    return seen


def test_every_option_of_version_0_17_is_read() -> None:
    parse = lambda line: compat.deepemhancer_parser().parse_args(line.split())  # noqa: E731
    short = parse("-i a -o b -p highRes -i2 c -s 1.3 -m d -g 0,1 -b 4")
    long = parse(
        "--inputMap a --outputMap b --processingType highRes --halfMap2 c --samplingRate 1.3 --binaryMask d --gpuIds 0,1 "
        "--batch_size 4"
    )
    assert short == long
    assert (short.inputMap, short.halfMap2, short.batch_size) == (Path("a"), Path("c"), 4)
    rest = parse("-i a -o b --noiseStats -0.1 0.2 --deepLearningModelPath d --cleaningStrengh 0.1 -g -1")
    assert rest.noiseStats == [-0.1, 0.2]
    assert rest.cleaningStrengh == 0.1
    assert rest.gpuIds == "-1"
    default = parse("-i a -o b")
    assert default.processingType == "tightTarget"
    assert default.cleaningStrengh == -1


def test_the_same_result_as_emhance_enhance(drop: Drop, halves: Halves, models: Path, tmp_path: Path) -> None:
    a, b = halves
    given = ["-i", a, "-i2", b, "-s", 1, "--noiseStats", 0, 0.07, "--cleaningStrengh", -1, "-g", -1, "-b", 3, "-p", "highRes"]
    ended = drop.deepemhancer(*given, "--deepLearningModelPath", models, "-o", tmp_path / "theirs.mrc")
    assert ended.code == 0, ended.err
    assert ended.err == ""
    assert "Noise statistics: mean=0.000000 std=0.070000" in ended.out
    network = models / "deepEMhancer_highRes.hd5"
    options = ["--noise-mean", 0, "--noise-std", 0.07, "-n", network, "-b", 3, "-g", "none"]
    assert drop.program("enhance", a, b, *options, "-o", tmp_path / "ours.mrc").code == 0
    theirs, ours = (read_map(tmp_path / name) for name in ("theirs.mrc", "ours.mrc"))
    assert np.array_equal(theirs.data, ours.data)
    assert theirs.geometry == ours.geometry
    assert (tmp_path / "theirs.json").exists()

    wrapped = ["-i", a, "-i2", b, "--sampling_rate", "1.000000", "-b", 3, "-g", -1, "--cleaningStrengh", -1]
    noise = ["--noise_stats_mean", "0.000000", "--noise_stats_std", "0.070000", "--checkpoint", network]
    assert drop.xmipp(*wrapped, *noise, "-o", tmp_path / "wrapped.mrc").code == 0
    assert np.array_equal(read_map(tmp_path / "wrapped.mrc").data, ours.data)


def test_checkpoints_are_found(drop: Drop, models: Path, tmp_path: Path, calls: list[Namespace]) -> None:
    home = tmp_path / "home/.local/share/deepEMhancerModels"
    home.mkdir(parents=True)
    run = lambda *more: drop.deepemhancer("-i", "a.mrc", "-o", tmp_path / "out.mrc", *more)  # noqa: E731
    assert run("--deepLearningModelPath", models).code == 0
    assert run("--deepLearningModelPath", models / "deepEMhancer_highRes.hd5").code == 0
    assert run("--deepLearningModelPath", models, "-m", "mask.mrc").code == 0
    models.rename(home / "production_checkpoints")
    assert run("--deepLearningModelPath", home).code == 0
    assert run("--reference-exact").code == 0
    folder = home / "production_checkpoints"
    assert [call.config.network for call in calls] == [
        str(models / "deepEMhancer_tightTarget.hd5"),
        str(models / "deepEMhancer_highRes.hd5"),
        str(models / "deepEMhancer_masked.hd5"),
        str(folder / "deepEMhancer_tightTarget.hd5"),
        str(folder / "deepEMhancer_tightTarget.hd5"),
    ]
    assert [call.exact for call in calls] == [False, False, False, False, True]
    assert_one_sentence(run("--deepLearningModelPath", tmp_path / "nowhere"), "nowhere", "--download")
    assert_one_sentence(run("--deepLearningModelPath", folder, "-p", "wideTarget"), "deepEMhancer_wideTarget.hd5")
    assert_one_sentence(run("--deepLearningModelPath", folder / "deepEMhancer_highRes.hd5", "-p", "highRes"), "contradict")


@pytest.mark.parametrize(
    ("options", "network"),
    [
        ([], "tight"),
        (["-p", "wideTarget"], "wide"),
        (["-p", "highRes"], "highres"),
        (["-m", "mask.mrc"], "masked"),
    ],
)
def test_without_checkpoints_emhances_own_networks_are_used(
    drop: Drop, tmp_path: Path, calls: list[Namespace], options: list[str], network: str
) -> None:
    ended = drop.deepemhancer("-i", "a.mrc", "-i2", "b.mrc", "-o", tmp_path / "out.mrc", *options)
    assert ended.code == 0, ended.err
    assert " ".join(ended.err.split()).count(f"emhance's own network '{network}' is used") == 1
    [call] = calls
    assert call.config.network == network
    assert call.config.gpus == "auto"
    assert (call.map, call.half2) == (Path("a.mrc"), Path("b.mrc"))


def test_gpus(drop: Drop, tmp_path: Path, calls: list[Namespace], monkeypatch: pytest.MonkeyPatch) -> None:
    run = lambda ids: drop.deepemhancer("-i", "a.mrc", "-o", tmp_path / "out.mrc", "-g", ids)  # noqa: E731
    monkeypatch.setattr("emhance.network.devices.pick_devices", lambda gpus: pick_devices("none"))
    assert "no GPU" not in run("-1").err
    for ids in ("0", "all"):
        assert f"no GPU here (-g {ids})" in run(ids).err
    monkeypatch.setattr("emhance.network.devices.pick_devices", lambda gpus: [SimpleNamespace(type="cuda")])
    for ids in ("0,1", "all", "-1"):
        assert run(ids).code == 0
    assert [call.config.gpus for call in calls] == ["none", "none", "none", "0,1", "all", "none"]


def test_nothing_is_replaced_but_a_record_whose_map_is_gone(drop: Drop, halves: Halves, models: Path, tmp_path: Path) -> None:
    output, record = tmp_path / "out.mrc", tmp_path / "out.json"
    run = lambda: drop.deepemhancer(  # noqa: E731
        "-i", halves[0], "-o", output, "--noiseStats", 0, 0.1, "--deepLearningModelPath", models, "-g", -1
    )
    record.write_text("mine")
    assert_one_sentence(run(), "out.json", "exists already")
    assert record.read_text() == "mine"
    record.unlink()
    assert run().code == 0
    written = output.read_bytes()
    assert_one_sentence(run(), "out.mrc", "exists already", "never replaced")
    assert output.read_bytes() == written
    output.unlink()
    assert run().code == 0
    assert_one_sentence(drop.deepemhancer("-i", halves[0], "-o", halves[0]), "exists already")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-m", "mask.mrc", "-p", "highRes"], ["-p highRes", "mask"]),
        (["-m", "mask.mrc", "--noiseStats", "0", "1"], ["--noiseStats"]),
        (["--cleaningStrengh", "1"], ["--cleaningStrengh", "below 1"]),
        (["--noiseStats", "0", "0"], ["must be positive"]),
        (["-s", "0"], ["positive number of Å"]),
        (["-b", "0"], ["at least 1"]),
        (["--reference-exact"], ["imported networks only"]),
    ],
    ids=str,
)
def test_bad_options_get_one_sentence(
    drop: Drop, tmp_path: Path, calls: list[Namespace], options: list[str], words: list[str]
) -> None:
    ended = drop.deepemhancer("-i", "a.mrc", "-o", tmp_path / "out.mrc", *options)
    lines = [line for line in ended.err.splitlines() if line.startswith("Error")]
    assert_one_sentence(Ended(ended.code, "", "\n".join(lines)), *words)
    assert not calls
    assert names(tmp_path) == []


def test_the_original_refuses_these_too(drop: Drop, tmp_path: Path) -> None:
    assert drop.deepemhancer("-o", "out.mrc").code == 2
    assert drop.deepemhancer("-i", "a.mrc", "-o", "out.mrc", "-p", "masked").code == 2
    for output in ("out", "out.mrc.gz", "out.hdf"):
        ended = drop.deepemhancer("-i", "a.mrc", "-o", tmp_path / output)
        assert "must end in .mrc or .map" in ended.err
        assert ended.code == 2


def test_xmipps_options(drop: Drop, models: Path, tmp_path: Path, calls: list[Namespace]) -> None:
    base = ["-i", "a.mrc", "-o", tmp_path / "out.mrc"]
    noise = ["--noise_stats_mean", "0.1", "--noise_stats_std", "0.2"]
    checkpoint = models / "deepEMhancer_masked.hd5"
    assert drop.xmipp(*base, *noise, "--cleaningStrengh", "0.100000", "--sizeThr", "0.8").code == 0
    assert drop.xmipp(*base, *noise, "--binaryMask", "mask.mrc", "--checkpoint", checkpoint, "-i2", "b.mrc").code == 0
    statistics, masked = calls
    assert (statistics.config.noise_mean, statistics.config.noise_std, statistics.config.clean) == (0.1, 0.2, 0.1)
    assert (masked.config.noise_mean, masked.mask, masked.half2) == (None, Path("mask.mrc"), Path("b.mrc"))
    assert masked.config.network == str(checkpoint)
    assert "belong together" in drop.xmipp(*base, *noise[:2]).err


def test_version_and_help(drop: Drop) -> None:
    assert "in place of deepEMhancer 0.17" in drop.deepemhancer("--version").out
    for ended in (drop.deepemhancer("-h"), drop.xmipp("--help")):
        assert ended.code == 0
        assert "--cleaningStrengh" in ended.out


def test_download_needs_no_maps(drop: Drop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []

    def fetch(folder: Path, *, progress: object) -> list[Path]:
        folders.append(folder)
        return [folder / "deepEMhancer_tightTarget.hd5"]

    monkeypatch.setattr("emhance.legacy.download.download_reference", fetch)
    for more in ([], [str(tmp_path / "here")]):
        ended = drop.deepemhancer("--download", *more)
        assert ended.code == 0, ended.err
        assert "deepEMhancer_tightTarget.hd5" in ended.out
    expected = tmp_path / "home/.local/share/deepEMhancerModels/production_checkpoints"
    assert folders == [expected, tmp_path / "here/production_checkpoints"]


def test_the_launchers_are_written_and_run(program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "my tools"
    ended = program("install-compat", folder)
    assert ended.code == 0, ended.err
    assert names(folder) == ["deepemhancer", "xmipp_deep_volume_postprocessing"]
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    shown = subprocess.run(["deepemhancer", "--version"], env=environment, capture_output=True, text=True, check=True)
    assert "in place of deepEMhancer 0.17" in shown.stdout
    refused = subprocess.run(
        ["xmipp_deep_volume_postprocessing", "-i", "a.mrc", "-o", "b.txt", "--checkpoint", __file__],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("Error: b.txt")


def test_launchers_run_under_a_python_whose_path_has_spaces(program: Program, tmp_path: Path, monkeypatch) -> None:
    python = tmp_path / "a python" / "it's"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho python got: "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    assert program("install-compat", tmp_path / "bin").code == 0
    command = [str(tmp_path / "bin" / "deepemhancer"), "-i", "a map"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == f"python got: {' '.join(command)}"
    compile((tmp_path / "bin" / "deepemhancer").read_text(), "deepemhancer", "exec")


def test_launchers_replace_nothing_unasked(program: Program, tmp_path: Path) -> None:
    (tmp_path / "xmipp_deep_volume_postprocessing").write_text("the original")
    assert_one_sentence(program("install-compat", tmp_path), "exists already", "--overwrite")
    assert names(tmp_path) == ["xmipp_deep_volume_postprocessing"]
    assert (tmp_path / "xmipp_deep_volume_postprocessing").read_text() == "the original"
    assert program("install-compat", tmp_path, "--overwrite").code == 0
    assert "emhance" in (tmp_path / "xmipp_deep_volume_postprocessing").read_text()
