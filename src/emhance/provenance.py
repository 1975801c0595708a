"""How an output was made: the record that lies beside it as JSON."""

from __future__ import annotations

import json
import math
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from emhance.config import CAUTION
from emhance.maps.atomic_write import atomic_output

PACKAGES = ("emhance", "numpy", "scipy", "torch", "mrcfile", "safetensors")


@dataclass(eq=False)
class Provenance:
    """Everything needed to know, and to repeat, how a map was enhanced.

    Parameters
    ----------
    config
        The resolved configuration.
    inputs
        Role, path, SHA-256, box, voxel size (Å) and origin (Å, xyz) of every input.
    network
        Name, version, voxel size (Å) and SHA-256 of the weights.
    normalization
        Mode, noise mean and s.d. in the map's units, offset and scale.
    restoration
        What told signal from noise before the network saw the map, and the share of the box the signal fills.
    recombination
        Source, resolution (Å), and per shell: frequency (1/Å), reliability, data_weight and gain; empty when off.
    cleaning
        What cleaning removed; empty when off.
    evidence
        What the half maps alone say: held-out-half curve, shares of data and network, confidence, gate; empty when not asked for.
    device
        Devices, precision, threads, network voxel size and box.
    seconds
        Wall time of the stages.
    warnings
        What the user was told.
    """

    config: dict[str, Any] = field(default_factory=dict)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    network: dict[str, Any] = field(default_factory=dict)
    normalization: dict[str, Any] = field(default_factory=dict)
    restoration: dict[str, Any] = field(default_factory=dict)
    recombination: dict[str, Any] = field(default_factory=dict)
    cleaning: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    caution: str = CAUTION
    command: list[str] = field(default_factory=lambda: list(sys.argv))
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))
    versions: dict[str, str] = field(default_factory=lambda: package_versions())

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the wall time of a block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - start, 3)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values; numbers that are not finite become null."""
        values: dict[str, Any] = plain(asdict(self))
        return values

    def write(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the record as JSON; it appears whole or not at all."""
        with atomic_output(path, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages the result depends on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions


def plain(value: Any) -> Any:
    """Dataclass fields, arrays and paths as what JSON can hold; numbers that are not finite become None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
