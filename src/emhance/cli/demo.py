"""emhance demo: an example from nothing, to see that everything works and what it does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from emhance.cli.console import progress_bar, set_verbosity
from emhance.config import EnhanceConfig
from emhance.errors import OptionError, OutputError


def demo_command(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the maps and the picture.")] = Path("emhance-demo"),
    resolution: Annotated[float, typer.Option("--resolution", metavar="Å", help="Resolution of the example.")] = 3.6,
    box: Annotated[int, typer.Option("--box", help="Edge of the box in voxels of 1 Å.")] = 112,
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives another example.")] = 1,
    gpus: Annotated[str, typer.Option("-g", "--gpus", help="auto, none, all, or numbers as in 0 or 0,1.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that are already there.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Build a small protein, simulate a noisy half-map pair of it, enhance it, and draw input and output.

    Needs no download and no data. Leaves half1.mrc, half2.mrc, enhanced.mrc, enhanced.json and slices.png.
    """
    set_verbosity(quiet=quiet, verbose=0)
    if not 64 <= box <= 256:
        raise OptionError(f"--box must lie between 64 and 256 voxels, not {box}.")
    if not 2.0 <= resolution <= 12.0:
        raise OptionError(f"--resolution must lie between 2 and 12 Å, not {resolution:g}.")
    from emhance.maps.atomic_write import check_output
    from emhance.maps.mrc import read_map, write_map
    from emhance.maps.volume import DensityMap, Geometry
    from emhance.network.devices import pick_devices
    from emhance.pipeline import enhance
    from emhance.report.plots import plot_central_slices
    from emhance.training.example_protein import example_protein
    from emhance.training.simulation import raw_pair

    pick_devices(gpus)  # a GPU that is not there is said before anything is written
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {output} cannot be made ({error.strerror}); choose another with --output.") from error
    half_paths = [output / "half1.mrc", output / "half2.mrc"]
    enhanced_path, picture = output / "enhanced.mrc", output / "slices.png"
    for target in (*half_paths, enhanced_path, enhanced_path.with_suffix(".json"), picture):
        check_output(target, overwrite=overwrite)

    def say(message: str) -> None:
        if not quiet:
            typer.echo(message)

    say("Building a small protein and simulating two half maps of it ...")
    maps = raw_pair(example_protein(seed=seed), resolution=resolution, box=box, seed=seed)
    geometry = Geometry.whole_box((box, box, box), 1.0)
    halves = [half.numpy() for half in (maps.half1, maps.half2)]
    for path, half in zip(half_paths, halves, strict=True):
        write_map(path, DensityMap(half, geometry, labels=("emhance demo: simulated half map",)), overwrite=overwrite)
    say(f"Enhancing {half_paths[0].name} and {half_paths[1].name} ...")
    start = time.perf_counter()
    with progress_bar(quiet=quiet) as progress:
        result = enhance(half_paths[0], half_paths[1], config=EnhanceConfig(gpus=gpus), progress=progress)
    seconds = time.perf_counter() - start
    result.write(enhanced_path, overwrite=overwrite)
    mean = 0.5 * (read_map(half_paths[0]).data + read_map(half_paths[1]).data)
    panels = {"input": mean, "enhanced": result.map.data, "truth": maps.target.numpy()}
    plot_central_slices(panels, picture, voxel_size=1.0, overwrite=overwrite)
    truth = maps.target.numpy().ravel()
    before, after = (float(np.corrcoef(data.ravel(), truth)[0, 1]) for data in (mean, result.map.data))
    say(f"Enhanced in {seconds:.0f} s. Correlation with the true density: {before:.3f} before, {after:.3f} after.")
    say(f"Look at {picture}; the maps are {', '.join(path.name for path in half_paths)} and {enhanced_path.name} beside it.")
