"""Which plots a report shows, with the words that describe them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emhance.maps.volume import FloatArray
from emhance.report.plots import Line, histogram_plot, line_plot
from emhance.validation.validate import ValidationResult

FREQUENCY = "spatial frequency (1/Å)"


@dataclass(frozen=True)
class Plot:
    """A plot of the page.

    Parameters
    ----------
    title
        Its heading.
    text
        What it shows in words, which a screen reader reads instead of it.
    svg
        The plot.
    """

    title: str
    text: str
    svg: str


def plots_of(
    record: dict[str, Any],
    validation: ValidationResult | None,
    *,
    enhanced: FloatArray,
    original: FloatArray | None,
    confidence: FloatArray | None,
) -> list[Plot]:
    """All plots there are numbers for."""
    plots = []
    if validation is not None:
        plots += _half_map_plots(validation)
    evidence = record.get("evidence") or {}
    if evidence:
        plots += _evidence_plots(evidence, confidence)
    plots.append(_histogram(record, enhanced, original))
    return plots


def _half_map_plots(validation: ValidationResult) -> list[Plot]:
    fsc, directional = validation.fsc, validation.directional
    s = fsc.frequency[1:]
    at = fsc.resolution["corrected"]
    how = "an automatic soft mask" if validation.mask_is_automatic else "the given mask"
    half_map = Plot(
        "Half-map FSC",
        f"Corrected FSC within {how}: {at[0.143]:.2f} Å at 0.143, {at[0.5]:.2f} Å at 0.5; unmasked "
        f"{fsc.resolution['unmasked'][0.143]:.2f} Å. Phases were randomised beyond {fsc.randomised_from:.1f} Å.",
        line_plot(
            [
                Line(name, s, curve[1:], style)
                for (name, curve), style in zip(fsc.curves().items(), ("-", "--", ":", "-"), strict=True)
            ],
            name="fsc",
            x_label=FREQUENCY,
            y_label="FSC",
            y_range=(-0.05, 1.02),
            levels=(0.0, 0.143, 0.5),
            resolution_axis=True,
        ),
    )
    spread = directional.fsc.std(axis=0)[1:]
    mean = directional.fsc.mean(axis=0)[1:]
    by_direction = Plot(
        "FSC by direction",
        f"FSC within cones of 20°: the resolution is {directional.resolution.min():.2f} Å in the best and "
        f"{directional.resolution.max():.2f} Å in the worst direction.",
        line_plot(
            [Line("mean", s, mean), Line("mean + s.d.", s, mean + spread, "--"), Line("mean - s.d.", s, mean - spread, "--")],
            name="directional",
            x_label=FREQUENCY,
            y_label="FSC",
            y_range=(-0.05, 1.02),
            levels=(0.143,),
            resolution_axis=True,
        ),
    )
    guinier_lines, words = [], []
    for name, profile in validation.guinier.items():
        used = profile.amplitude[1:] > 0
        scaled = np.log(profile.amplitude[1:][used])
        guinier_lines.append(Line(f"{name} enhancement", s[used] ** 2, scaled - scaled.max()))
        if np.isfinite(profile.b_factor):
            words.append(f"B = {profile.b_factor:.0f} Å² {name}")
    guinier = Plot(
        "Guinier plot",
        "Logarithm of the amplitudes, each map relative to its own highest, against squared spatial frequency, within the mask. "
        + "; ".join(words)
        + ".",
        line_plot(guinier_lines, name="guinier", x_label="squared spatial frequency (1/Å²)", y_label="ln amplitude"),
    )
    inside = validation.local_resolution[validation.mask > 0.5]
    quantiles = validation.local_resolution_quantiles
    plots = [half_map, by_direction, guinier]
    if inside.size and np.isfinite(inside).any():
        top = float(np.percentile(inside, 98))
        plots.append(
            Plot(
                "Local resolution",
                f"Where the FSC in a moving window falls below 0.5: median {quantiles['50 %']:.2f} Å, 90 % of the voxels in "
                f"the mask between {quantiles['5 %']:.2f} and {quantiles['95 %']:.2f} Å.",
                histogram_plot(
                    {"voxels in the mask": inside},
                    name="local",
                    x_label="local resolution (Å)",
                    value_range=(float(inside.min()), top),
                ),
            )
        )
    for name, fit in validation.map_model.items():
        plots.append(
            Plot(
                f"Map-model FSC, {name} enhancement",
                f"CC_box {fit.cc_box:.3f}, CC_mask {fit.cc_mask:.3f}; FSC 0.5 at {fit.resolution:.2f} Å, masked "
                f"{fit.resolution_masked:.2f} Å.",
                line_plot(
                    [Line("unmasked", s, fit.fsc[1:]), Line("masked", s, fit.fsc_masked[1:], "--")],
                    name=f"model-{name}",
                    x_label=FREQUENCY,
                    y_label="FSC",
                    y_range=(-0.05, 1.02),
                    levels=(0.5,),
                    resolution_axis=True,
                ),
            )
        )
    return plots


def _evidence_plots(evidence: dict[str, Any], confidence: FloatArray | None) -> list[Plot]:
    held = {key: np.array(evidence["held_out"][key], dtype=float)[1:] for key in ("frequency", "raw", "enhanced", "ceiling")}
    s = held["frequency"]
    shares = evidence["power_shares"]
    plots = [
        Plot(
            "Held-out half",
            evidence["held_out"]["sentence"],
            line_plot(
                [
                    Line("half 1, half 2", s, held["raw"]),
                    Line("enhanced half, other half", s, held["enhanced"]),
                    Line("ceiling: no noise", s, held["ceiling"], "--"),
                ],
                name="held-out",
                x_label=FREQUENCY,
                y_label="FSC",
                y_range=(-0.05, 1.02),
                levels=(0.143,),
                resolution_axis=True,
            ),
        ),
        Plot(
            "Is this real? Data and network",
            f"Share of the output's power that comes from the data and from the network, by detail; over all, "
            f"{shares['data_overall']:.0%} comes from the data.",
            line_plot(
                [
                    Line(name, s, np.array(shares[key], dtype=float)[1:])
                    for name, key in (("from the data", "data"), ("from the network", "network"))
                ],
                name="shares",
                x_label=FREQUENCY,
                y_label="share of power",
                y_range=(0.0, 1.0),
                resolution_axis=True,
                filled=True,
            ),
        ),
    ]
    tenths = np.array(evidence["confidence"]["density_by_tenth"], dtype=float)
    middle = (np.arange(10) + 0.5) / 10
    if confidence is not None:
        plots.append(
            Plot(
                "Confidence",
                f"How much of the density has which confidence; {tenths[5:].sum():.0%} of it has 0.5 or more.",
                line_plot(
                    [Line("density", middle, tenths, "-")], name="confidence", x_label="confidence", y_label="share of density"
                ),
            )
        )
    return plots


def _histogram(record: dict[str, Any], enhanced: FloatArray, original: FloatArray | None) -> Plot:
    used = record.get("normalization") or {}
    sample = slice(None, None, 5)
    samples = {}
    words = "Values of the output; well-ordered density is about 1, solvent 0."
    marks: dict[str, float] = {}
    offset, scale = used.get("offset"), used.get("scale")
    if original is not None and offset is not None and scale is not None:
        samples["input, normalised"] = (original.ravel()[sample] - offset) * scale
        if used.get("mean") is not None and used.get("std") is not None:
            words = (
                f"Values of input and output. Solvent noise of the input: mean {used['mean']:.4g}, s.d. {used['std']:.4g} in its "
                "own units, which become 0 and 0.1."
            )
            marks = {"noise + 1 s.d.": 0.1, "noise - 1 s.d.": -0.1}
    samples["output"] = enhanced.ravel()[sample]
    low = float(min(np.percentile(values, 0.05) for values in samples.values()))
    high = float(max(np.percentile(values, 99.98) for values in samples.values()))
    return Plot(
        "Histograms and noise",
        words,
        histogram_plot(
            samples,
            name="histogram",
            x_label="density, on the network's scale",
            value_range=(low, high),
            logarithmic=True,
            marks=marks,
        ),
    )
