"""A training run's TOML file: complete, strict, and every mistake one sentence."""

from pathlib import Path

import pytest

from emhance.errors import OptionError
from emhance.training.settings import read_config, write_config

MINIMAL = 'structures = "models"\noutput = "run"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(folder: Path) -> None:
    config = read_config(written(folder, MINIMAL))
    assert (config.structures, config.output) == (folder / "models", folder / "run")
    assert read_config(written(folder, MINIMAL), output=folder / "other").output == folder / "other"


def test_tables_and_kinds(folder: Path) -> None:
    text = MINIMAL + "steps = 7\nlearning_rate = 1\nworkers = 3\ndata_weighting = false\n[network]\nchannels = [4, 8]\n"
    text += "encoder_blocks = [1, 1]\ndecoder_blocks = [2]\n[simulation]\nresolution = [3, 4.5]\nbox = 96\n[crops]\nedge = 48\n"
    config = read_config(written(folder, text))
    assert config.steps == 7
    assert config.learning_rate == 1.0
    assert isinstance(config.learning_rate, float)
    assert config.workers == 3
    assert not config.data_weighting
    assert config.network.channels == (4, 8)
    assert config.simulation.resolution == (3.0, 4.5)
    assert config.crops.edge == 48


def test_what_is_written_reads_back(folder: Path) -> None:
    config = read_config(written(folder, MINIMAL + "[simulation]\nresolution = [3, 4.5]\n"))
    write_config(config, folder / "all.toml")
    assert read_config(folder / "all.toml") == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stepps = 3\n", ("unknown key 'stepps'", "did you mean steps")),
        ("nonsense = 3\n", ("unknown key", "structures")),
        ("steps = 3.5\n", ("steps", "a whole number", "3.5")),
        ("steps = true\n", ("steps", "a whole number")),
        ('learning_rate = "fast"\n', ("learning_rate", "a number")),
        ("learning_rate = nan\n", ("learning_rate", "nan")),
        ("data_weighting = 1\n", ("data_weighting", "true or false")),
        ("structures = 1\n", ("structures", "a path")),
        ('structures = "nowhere"\n', ("nowhere", "does not exist")),
        ("checkpoint_every = 3600\n", ("checkpoint_every", "600")),
        ("network = 3\n", ("network", "a table")),
        ("[simulation]\nresolution = [5, 3]\n", ("[simulation]", "range")),
        ("[simulation]\nresolution = 5\n", ("[simulation]", "a list of 2")),
        ("[simulation]\nresolutoin = 5\n", ("did you mean resolution",)),
        ("[crops]\nedge = 50\n", ("edge", "multiple of 8")),
        ("[network]\nchannels = [4, 4]\n", ("[network]", "encoder_blocks")),
        ("steps = = 3\n", ("not a TOML file",)),
    ],
)
def test_mistakes_are_said(folder: Path, text: str, words: tuple[str, ...]) -> None:
    lines = [line for line in MINIMAL.splitlines() if line.split(" ")[0] != text.split(" ")[0]]
    with pytest.raises(OptionError) as raised:
        read_config(written(folder, "\n".join([*lines, text])))
    message = str(raised.value)
    assert "config.toml" in message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_what_is_missing_is_said(folder: Path) -> None:
    with pytest.raises(OptionError, match="output is missing"):
        read_config(written(folder, 'structures = "models"\n'))
    with pytest.raises(OptionError, match="cannot be read"):
        read_config(folder / "none.toml")
