"""Every knob of an enhancement once, with its default, unit and help text.

The command line takes its option texts and defaults from here, and the provenance file writes the resolved values.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, get_args

from emhance.errors import OptionError

Normalization = Literal["auto", "statistics", "mask"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]

NETWORK_NAMES = ("tight", "wide", "highres", "masked")
"""The networks that ship inside the package."""

NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)
PRECISIONS: tuple[str, ...] = get_args(Precision)

CAUTION = "NN-enhanced, not the experimental map"
"""The words every output carries in its header."""


def knob(default: Any, help_text: str) -> Any:
    """A dataclass field with its help text."""
    return field(default=default, metadata={"help": help_text})


def help_of(config: type, name: str) -> str:
    """The help text of the knob called `name`."""
    return str(next(f for f in fields(config) if f.name == name).metadata["help"])


def default_of(config: type, name: str) -> Any:
    """The default of the knob called `name`."""
    value = next(f for f in fields(config) if f.name == name).default
    return None if value is MISSING else value


@dataclass(frozen=True, kw_only=True)
class EnhanceConfig:
    """What can be set for one enhancement. `None` means "decide from the input" and is resolved by `resolved`."""

    network: str | None = knob(
        None,
        "Network: tight, wide, highres, masked, or a path to weights (.safetensors) or a checkpoint of deepEMhancer's (.hd5). "
        "Default: tight, or masked with a mask.",
    )
    normalization: str | None = knob(
        None, "How the input is brought to the network's scale: auto, statistics or mask. Default: auto, or mask with a mask."
    )
    noise_mean: float | None = knob(None, "Mean of the solvent noise, in the map's own units (statistics).")
    noise_std: float | None = knob(None, "Standard deviation of the solvent noise, in the map's own units (statistics).")
    clean: float | None = knob(
        None, "Remove connected components smaller than this fraction of all positive voxels (0-1). Default: off."
    )
    recombine: bool = knob(
        True,
        "Keep what the data supports: recombine network and data by their reliability, shell by shell. Default: on; off with an "
        "imported network.",
    )
    resolution: float | None = knob(None, "Resolution of the map in Å, where you know it (used for a single map only).")
    voxel_size: float | None = knob(None, "Voxel size in Å; overrides the header.")
    batch_size: int | None = knob(
        None, "Tiles the network takes at a time. The result does not depend on it. Default: automatic."
    )
    tile_size: int | None = knob(
        None, "Edge of a tile in voxels (multiple of 8). The result does not depend on it. Default: as large as memory allows."
    )
    gpus: str = knob("auto", "GPUs: auto (one if there is one), none, all, or their numbers, as in 0 or 0,1.")
    threads: int | None = knob(None, "CPU threads. Default: all cores this process may use.")
    precision: str = knob("auto", "Arithmetic of the network: auto, float32, bfloat16 or float16.")

    def resolved(self, *, has_mask: bool) -> EnhanceConfig:
        """Return a copy with the choices that follow from one another made, or say what contradicts.

        Parameters
        ----------
        has_mask
            Whether a mask is given.

        Raises
        ------
        OptionError
            For options that contradict each other or are out of range.
        """
        normalization = self.normalization
        if normalization is not None and normalization not in NORMALIZATIONS:
            raise OptionError(f"Unknown normalization '{normalization}'; choose one of {', '.join(NORMALIZATIONS)}.")
        statistics = self.noise_mean is not None or self.noise_std is not None
        if has_mask and normalization in ("auto", "statistics"):
            raise OptionError(
                f"A mask selects mask normalisation, but --normalization {normalization} was given; drop one of the two."
            )
        if has_mask and statistics:
            raise OptionError(
                "A mask and noise statistics (--noise-mean, --noise-std) contradict each other; drop one of the two."
            )
        if normalization == "mask" and not has_mask:
            raise OptionError("--normalization mask needs a mask; give one with --mask.")
        if normalization == "auto" and statistics:
            raise OptionError("--normalization auto measures the noise; drop --noise-mean and --noise-std, or use statistics.")
        if normalization is None:
            normalization = "mask" if has_mask else "statistics" if statistics else "auto"
        if normalization == "statistics":
            if self.noise_mean is None or self.noise_std is None:
                raise OptionError("--normalization statistics needs both --noise-mean and --noise-std.")
            if not self.noise_std > 0:
                raise OptionError(f"--noise-std must be positive, not {self.noise_std:g}.")
        if has_mask and self.network in ("tight", "wide", "highres"):
            raise OptionError(
                f"A mask needs the masked network, but --network {self.network} was given; drop the mask or that option."
            )
        if self.network == "masked" and not has_mask:
            raise OptionError("The masked network needs a mask; give one with --mask.")
        self._check_ranges()
        network = self.network or ("masked" if has_mask else "tight")
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return EnhanceConfig(**{**values, "network": network, "normalization": normalization})

    def _check_ranges(self) -> None:
        positive = [("--resolution", self.resolution), ("--voxel-size", self.voxel_size)]
        for option, value in positive:
            if value is not None and not 0 < value < float("inf"):
                raise OptionError(f"{option} must be a positive number of Å, not {value:g}.")
        if self.clean is not None and not 0 <= self.clean <= 1:
            raise OptionError(f"--clean must lie between 0 and 1, not {self.clean:g}.")
        for option, count in [("--batch-size", self.batch_size), ("--threads", self.threads)]:
            if count is not None and count < 1:
                raise OptionError(f"{option} must be at least 1, not {count}.")
        if self.tile_size is not None and (self.tile_size < 8 or self.tile_size % 8):
            raise OptionError(f"--tile-size must be a multiple of 8, not {self.tile_size}.")
        if self.precision not in PRECISIONS:
            raise OptionError(f"Unknown precision '{self.precision}'; choose one of {', '.join(PRECISIONS)}.")
