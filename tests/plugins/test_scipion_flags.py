"""The Scipion plugin speaks to emhance through its command line and its record only; here both ends meet."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from emhance.cli.main import app
from emhance.config import NETWORK_NAMES, EnhanceConfig
from emhance.pipeline import enhance

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "scipion-em-emhance" / "scipion_emhance"


def forget_plugin() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "scipion_emhance"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def plugin() -> Iterator[ModuleType]:
    """The plugin as a bare package: its __init__, which needs Scipion, is not run."""
    package = ModuleType("scipion_emhance")
    package.__path__ = [str(PLUGIN)]
    sys.modules["scipion_emhance"] = package
    for name in ("arguments", "constants", "record"):
        setattr(package, name, importlib.import_module(f"scipion_emhance.{name}"))
    yield package
    forget_plugin()


def parsed(arguments: list[str]) -> dict[str, Any]:
    """What emhance's own parser makes of the arguments; nothing is executed."""
    group = typer.main.get_command(app)
    name, *rest = arguments
    command = group.commands[name]  # type: ignore[attr-defined]
    return command.make_context(name, rest).params


MODES: dict[str, dict[str, Any]] = {
    "one map": {"network": "tight"},
    "half maps": {"network": "wide", "half2": "Runs/1 a/tmp/inputHalf2.mrc"},
    "statistics": {"network": "highres", "noise_mean": -1.5e-05, "noise_std": 0.02},
    "mask": {"network": "masked", "mask": "-mask.mrc"},
    "cleaning": {"network": "tight", "clean": 0.05},
    "GPUs": {"network": "tight", "gpus": [0, 2], "batch_size": 8},
    "report": {"network": "tight", "report": True},
    "checkpoint": {"network": "/models/deepEMhancer_tightTarget.hd5"},
}


@pytest.mark.parametrize("mode", MODES)
def test_emhance_understands_every_mode_of_the_form(plugin: ModuleType, mode: str) -> None:
    given = MODES[mode]
    found = parsed(plugin.arguments.enhance_arguments("in.mrc", "out.mrc", 1.0634, **given))
    assert found["map"] == Path("in.mrc")
    assert found["output"] == Path("out.mrc")
    assert found["voxel_size"] == 1.0634
    assert found["overwrite"] is True
    assert found["network"] == given["network"]
    assert found["half2"] == (Path(given["half2"]) if "half2" in given else None)
    assert found["mask"] == (Path(given["mask"]) if "mask" in given else None)
    assert (found["noise_mean"], found["noise_std"]) == (given.get("noise_mean"), given.get("noise_std"))
    assert found["clean"] == given.get("clean")
    assert found["report"] is given.get("report", False)
    assert found["gpus"] == ("0,2" if "gpus" in given else "none")
    assert found["batch_size"] == ("8" if "batch_size" in given else "auto")


@pytest.mark.parametrize("mode", MODES)
def test_no_mode_of_the_form_contradicts_itself(plugin: ModuleType, mode: str) -> None:
    found = parsed(plugin.arguments.enhance_arguments("in.mrc", "out.mrc", 1.0, **MODES[mode]))
    names = ("network", "normalization", "noise_mean", "noise_std", "clean", "voxel_size", "gpus")
    resolved = EnhanceConfig(**{name: found[name] for name in names}).resolved(has_mask=found["mask"] is not None)
    assert resolved.normalization == {"mask": "mask", "statistics": "statistics"}.get(mode, "auto")


def test_the_networks_of_the_form_are_those_that_ship(plugin: ModuleType) -> None:
    arguments, constants = plugin.arguments, plugin.constants
    models = (constants.TIGHT_MODEL, constants.WIDE_MODEL, constants.HI_RES)
    assert [arguments.network_name(model, False) for model in models] == ["tight", "wide", "highres"]
    assert {*(arguments.network_name(model, False) for model in models), arguments.network_name(0, True)} == set(NETWORK_NAMES)
    assert set(arguments.CHECKPOINT_FILES) == set(NETWORK_NAMES)


def test_a_shell_gives_back_the_arguments(plugin: ModuleType) -> None:
    import shlex

    words = ["enhance", "a map's.mrc", "$HOME/x y.mrc", "--noise-mean=-1.0"]
    assert shlex.split(plugin.arguments.shell_words(words)) == words


def test_the_summary_finds_what_emhance_records(plugin: ModuleType, simulated: Any, tmp_path: Path) -> None:
    from emhance.maps.volume import DensityMap, Geometry

    geometry = Geometry.whole_box(simulated.half1.shape, 1.0)
    halves = [DensityMap(half.copy(), geometry) for half in (simulated.half1, simulated.half2)]
    output = tmp_path / "deepPostProcess.mrc"
    enhance(*halves, gpus="none", clean=0.05).write(output)
    record = plugin.record.read_record(str(output))
    sentences = plugin.record.record_sentences(record)
    for start in ("Network used: tight", "Noise found: mean ", "Data trusted to: ", "Cleaning: "):
        assert any(sentence.startswith(start) for sentence in sentences), (start, sentences)
    assert record["versions"]["emhance"]
