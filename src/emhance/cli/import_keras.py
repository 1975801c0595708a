"""emhance import-keras: a Keras checkpoint in, safetensors and a card out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from emhance.errors import OptionError

NORMALIZATIONS = (
    "inputNormalization_3 (by the noise), or with a mask inputNormalizationWithMask, inputNormalizationWithMask_2, "
    "inputNormalizationWithMask_3"
)


def import_keras_command(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="FILE.hd5", readable=False, help="A Keras checkpoint, such as one of deepEMhancer's.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The weights to write. Default: FILE.safetensors in this folder.")
    ] = None,
    normalization: Annotated[
        str | None,
        typer.Option(
            "--normalization",
            metavar="NAME",
            help=f"How the network's input is normalised, where the checkpoint does not say: {NORMALIZATIONS}.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are already there.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Import a Keras checkpoint once: weights as safetensors, and a card beside them.

    emhance import-keras deepEMhancer_tightTarget.hd5

    emhance enhance half1.mrc half2.mrc -n deepEMhancer_tightTarget.safetensors

    Nothing in the checkpoint is executed. Importing is optional: enhance takes the checkpoint itself as well.
    """
    from emhance.legacy.importing import load_keras, save_imported
    from emhance.legacy.reference_normalization import MASKS, NOISE
    from emhance.maps.atomic_write import check_output

    known = (NOISE, *MASKS)
    if normalization is not None and normalization not in known:
        raise OptionError(f"Unknown normalisation {normalization!r}; choose one of {', '.join(known)}.")
    output = output or Path(checkpoint.with_suffix(".safetensors").name)
    check_output(output, overwrite=overwrite)
    network = load_keras(checkpoint)
    function = normalization or network.normalization
    if function not in known:
        raise OptionError(
            f"{checkpoint.name} does not say how its input is normalised (found {function!r}); choose one of "
            f"{', '.join(known)} with --normalization."
        )
    network = replace(network, normalization=function, checkpoint=replace(network.checkpoint, normalization=function))
    card = save_imported(network, output, overwrite=overwrite)
    if not quiet:
        typer.echo(f"Wrote {output} and {card.name}: tiles of {network.tile_size} voxels, {function}.")
