"""The FSC curve as EMDB wants it: XML."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from emhance.maps.atomic_write import atomic_output
from emhance.maps.fourier import Curve


def write_fsc_xml(path: str | Path, frequency: Curve, fsc: Curve, *, title: str, overwrite: bool = False) -> None:
    """Write an FSC curve in EMDB's XML format (https://www.ebi.ac.uk/emdb/documentation#fsc).

    Parameters
    ----------
    path
        The file; it appears whole or not at all.
    frequency, fsc
        1/Å and correlation, shape ``(n,)``.
    title
        What the curve is.
    overwrite
        Whether a file that is already there may be replaced.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    root = ElementTree.Element("fsc", title=title, xaxis="Resolution (A-1)", yaxis="Correlation Coefficient")
    for s, value in zip(frequency, fsc, strict=True):
        point = ElementTree.SubElement(root, "coordinate")
        ElementTree.SubElement(point, "x").text = f"{s:.6f}"
        ElementTree.SubElement(point, "y").text = f"{value:.6f}"
    ElementTree.indent(root)
    with atomic_output(Path(path), overwrite=overwrite) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)
