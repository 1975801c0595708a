"""One way to enhance, whichever network is chosen: emhance's own, or one imported from Keras."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emhance.config import EnhanceConfig
from emhance.errors import OptionError

if TYPE_CHECKING:  # importing PyTorch takes seconds; --help shall not wait for it
    from emhance.pipeline import EnhanceResult, Progress

KERAS_ENDINGS = (".hd5", ".h5", ".hdf5")


def is_keras(network: str | None) -> bool:
    """Whether ``--network`` names a Keras checkpoint, or weights that were imported from one."""
    path = Path(network or "")
    if path.suffix in KERAS_ENDINGS:
        return True
    if path.suffix != ".safetensors":
        return False
    from emhance.legacy.importing import is_imported

    return is_imported(path)


def check_choice(
    config: EnhanceConfig, *, exact: bool = False, stride: int | None = None, recombine: bool = False, confidence: bool = False
) -> None:
    """Refuse options that do not apply to the network that was chosen; `recombine` is whether that was asked for by name.

    Raises
    ------
    OptionError
        For options that contradict the network or one another.
    """
    if not is_keras(config.network):
        for option, given in (("--reference-exact", exact), ("--stride", stride is not None)):
            if given:
                raise OptionError(
                    f"{option} applies to imported networks only; name one with --network FILE.hd5, or drop the option."
                )
        return
    inapplicable = {
        "--recombine on": recombine,
        "--resolution": config.resolution is not None,
        "--tile-size": config.tile_size is not None,
        "--precision": config.precision != "auto",
        "--confidence and --gate": confidence,
    }
    for option, given in inapplicable.items():
        if given:
            raise OptionError(
                f"{option} applies to emhance's own networks only, not to {Path(str(config.network)).name}; drop the option, or "
                "name another network."
            )
    if exact and stride is not None:
        raise OptionError("--stride does not go with --reference-exact, which uses the checkpoint's own; drop one of the two.")
    if stride is not None and stride < 1:
        raise OptionError(f"--stride must be at least 1, not {stride}.")


def enhance_by_choice(
    map: Path,
    half2: Path | None = None,
    *,
    mask: Path | None = None,
    config: EnhanceConfig,
    exact: bool = False,
    stride: int | None = None,
    progress: Progress | None = None,
) -> EnhanceResult:
    """Enhance with the network that `config` names; options as in `enhance` and `enhance_with_imported`."""
    if not is_keras(config.network):
        from emhance.pipeline import enhance

        return enhance(map, half2, mask=mask, config=config, progress=progress)
    from emhance.legacy.enhancing import enhance_with_imported
    from emhance.legacy.importing import load_imported, load_keras

    path = Path(str(config.network))
    network = load_imported(path) if path.suffix == ".safetensors" else load_keras(path)
    return enhance_with_imported(
        map, half2, network=network, mask=mask, config=config, exact=exact, stride=stride, progress=progress
    )
