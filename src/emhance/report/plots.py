"""Pictures of maps; the only place that knows matplotlib."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from emhance.maps.atomic_write import atomic_output
from emhance.maps.volume import FloatArray

AXES = ("z", "y", "x")


def plot_central_slices(panels: dict[str, FloatArray], path: Path, *, voxel_size: float, overwrite: bool = False) -> None:
    """Draw the central slices along z, y and x of maps on one grid, a row each, as a PNG.

    Parameters
    ----------
    panels
        Title and map, shape ``(nz, ny, nx)``.
    path
        The PNG to write; it appears whole or not at all.
    voxel_size
        Å, for the scale bar.
    overwrite
        Whether a file that is already there may be replaced.
    """
    figure = Figure(figsize=(9.0, 3.1 * len(panels) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 3, squeeze=False)
    for row, (title, data) in zip(axes, panels.items(), strict=True):
        low, high = np.percentile(data.ravel()[::3], (2.0, 99.8))
        for axis, ax in enumerate(row):
            plane = np.take(data, data.shape[axis] // 2, axis=axis)
            ax.imshow(plane, cmap="gray", vmin=low, vmax=max(high, low + 1e-9), origin="lower", interpolation="bilinear")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_title(f"{title}, {AXES[axis]} = {data.shape[axis] // 2}", fontsize=9)
        length = 20.0 / voxel_size
        row[0].plot([4, 4 + length], [4, 4], color="white", linewidth=3)
        row[0].text(4 + length / 2, 6, "20 Å", color="white", ha="center", va="bottom", fontsize=8)
    with atomic_output(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


INK = "#010203"
"""Colour that `_svg` turns into the page's own text colour, so that plots are readable in light and dark."""

COLOURS = ("#2b7bba", "#d95f02", "#1b9e77", "#a05cc0", "#888888")
"""Lines of the plots: told apart by the colour-blind, visible on white and on black."""

Values = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Line:
    """One curve of a plot: its name, x, y and dash pattern ("-", "--", ":")."""

    label: str
    x: Values
    y: Values
    style: str = "-"


def line_plot(
    lines: list[Line],
    *,
    name: str,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    levels: tuple[float, ...] = (),
    resolution_axis: bool = False,
    filled: bool = False,
) -> str:
    """Draw curves as an SVG element.

    Parameters
    ----------
    lines
        The curves.
    name
        Distinguishes the identifiers inside the SVG from those of other plots on the page.
    x_label, y_label
        With units.
    y_range
        Limits of the vertical axis; None for automatic.
    levels
        Heights of dotted horizontal lines.
    resolution_axis
        Label the horizontal axis, which is spatial frequency in 1/Å, with the resolution in Å above as well.
    filled
        Stack the curves as areas.
    """
    figure, ax = _axes()
    if filled:
        ax.stackplot(lines[0].x, *(line.y for line in lines), labels=[line.label for line in lines], colors=COLOURS, alpha=0.75)
    else:
        for line, colour in zip(lines, COLOURS, strict=False):
            ax.plot(line.x, line.y, line.style, label=line.label, color=colour, linewidth=1.6)
    for level in levels:
        ax.axhline(level, color=INK, linewidth=0.7, linestyle=":")
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.set_xlim(float(min(line.x.min() for line in lines)), float(max(line.x.max() for line in lines)))
    if y_range is not None:
        ax.set_ylim(*y_range)
    if resolution_axis:
        above = ax.secondary_xaxis("top")
        ticks = ax.get_xticks()
        above.set_xticks(ticks, [f"{1 / t:.1f}" if t > 0 else "" for t in ticks])
        above.set_xlabel("resolution (Å)", color=INK)
        above.tick_params(colors=INK, labelsize=8)
        above.spines["top"].set_color(INK)
    ax.legend(fontsize=8, framealpha=0, labelcolor=INK)
    return _svg(figure, name)


def histogram_plot(
    samples: dict[str, Values],
    *,
    name: str,
    x_label: str,
    value_range: tuple[float, float] | None = None,
    logarithmic: bool = False,
    marks: dict[str, float] | None = None,
) -> str:
    """Draw histograms as an SVG element: voxels (share) against value; `marks` are named vertical lines."""
    figure, ax = _axes()
    for (label, values), colour in zip(samples.items(), COLOURS, strict=False):
        weight = np.full(values.size, 1 / max(values.size, 1))
        ax.hist(values, bins=80, range=value_range, weights=weight, histtype="step", label=label, color=colour, linewidth=1.5)
    for (label, value), style in zip((marks or {}).items(), ("--", ":", "-."), strict=False):
        ax.axvline(value, color=INK, linewidth=0.9, linestyle=style, label=label)
    if logarithmic:
        ax.set_yscale("log")
    ax.set_xlabel(x_label)
    ax.set_ylabel("share of voxels")
    ax.legend(fontsize=8, framealpha=0, labelcolor=INK)
    return _svg(figure, name)


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    ax.tick_params(colors=INK, labelsize=8)
    for text in (ax.xaxis.label, ax.yaxis.label):
        text.set_color(INK)
    for spine in ax.spines.values():
        spine.set_color(INK)
    ax.patch.set_alpha(0)
    figure.patch.set_alpha(0)
    return figure, ax


def _svg(figure: Figure, name: str) -> str:
    """Write a figure as one SVG element: text stays text, and its colour is the page's."""
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def plot_training_log(log: Path, path: Path) -> None:
    """Draw the CSV log of a training run as a PNG: its losses, and how validation correlates, against the step.

    Parameters
    ----------
    log
        The CSV file; without a row in it nothing is drawn.
    path
        The PNG to write, replacing what is there.
    """
    if not log.exists():
        return
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = (
        ("loss", ("loss", "recombined", "validation_loss", "validation_recombined")),
        ("correlation", ("correlation", "validation_correlation", "validation_recombined_correlation")),
    )
    for ax, (title, columns) in zip(figure.subplots(1, 2), panels, strict=True):
        for column, colour in zip(columns, COLOURS, strict=False):
            points = [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
            if points:
                ax.plot(*zip(*points, strict=True), label=column.replace("_", " "), color=colour, linewidth=1.5, marker=".")
        ax.set_xlabel("step")
        ax.set_title(title, fontsize=9)
        if ax.lines:
            ax.legend(fontsize=8)
    with atomic_output(path, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
