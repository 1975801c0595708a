"""A training run that takes seconds: small unrelated atomic models, a tiny network, small boxes."""

from pathlib import Path

from atomic_models import write_model
from emhance.training.example_protein import example_protein

SMALL = """\
structures = "models"
output = "{output}"
name = "tiny"
warm_up = 2
workers = 0
[network]
channels = [4, 4]
encoder_blocks = [1, 1]
decoder_blocks = [1]
[simulation]
box = 48
resolution = [3.5, 5.0]
[crops]
edge = 24
per_map = 2
"""


def small_structures(folder: Path, *, count: int = 3) -> Path:
    """Write a few mmCIF files that share no sequence."""
    folder.mkdir()
    for seed in range(1, count + 1):
        write_model(folder / f"model{seed}.cif", example_protein(seed=seed), seed=seed)
    return folder


def small_config(folder: Path, output: str, more: str = "") -> Path:
    """Write a configuration beside the folder `models`; `more` are lines before its tables."""
    path = folder / f"{output}.toml"
    if "maps_mixed" not in more:
        more += "maps_mixed = 1\n"
    path.write_text(more + SMALL.format(output=output))
    return path
