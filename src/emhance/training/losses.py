"""The loss: a sum of terms none of which an empty output can satisfy."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from emhance.steps.recombination import (
    DATA_POWER,
    DATA_WEIGHT,
    SMOOTHED_LEVEL,
    SUPPORT_EDGE,
    SUPPORT_FLOOR,
    SUPPORT_LEVEL,
    SUPPORT_SMOOTHING,
)
from emhance.training.grids import shell_radii

LEAST_MERIT = 0.3
"""Amplitudes are never asked to fade further than this, so that a network that knows nothing yet does not fall silent."""

RECOMBINED_TAPER = 8
"""The outermost 1/8 of a crop's edge fades out before it is recombined, because its opposite faces do not meet."""


@lru_cache(maxsize=4)
def _shells_of(edge: int, device: torch.device) -> tuple[Tensor, int]:
    shells = edge // 2
    return torch.round(shell_radii(edge, device)).long().clamp(max=shells), shells


@lru_cache(maxsize=4)
def _hann(edge: int, device: torch.device) -> Tensor:
    return _cube(torch.hann_window(edge + 2, periodic=False, device=device)[1:-1])


@lru_cache(maxsize=4)
def _taper(edge: int, device: torch.device) -> Tensor:
    from_face = torch.arange(edge, device=device) + 0.5
    from_face = torch.minimum(from_face, edge - from_face) / (edge / RECOMBINED_TAPER)
    return _cube(0.5 - 0.5 * torch.cos(torch.pi * from_face.clamp(max=1)))


def _cube(axis: Tensor) -> Tensor:
    return axis[:, None, None] * axis[None, :, None] * axis[None, None, :]


def _shell_sums(values: Tensor, edge: int) -> Tensor:
    """Sums of ``(n, e, e, e // 2 + 1)`` over shells: ``(n, e // 2 + 1)``; the last one holds the corners as well."""
    shell, shells = _shells_of(edge, values.device)
    index = shell.flatten().expand(len(values), -1)
    return torch.zeros((len(values), shells + 1), device=values.device).scatter_add(1, index, values.flatten(1))


def shell_correlation(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """FSC of windowed crops, and the power of both, per shell.

    Parameters
    ----------
    prediction, target
        Shape ``(n, 1, e, e, e)``.

    Returns
    -------
    tuple
        FSC and the two powers, each ``(n, e // 2)``: shells of width ``1 / e`` from the first up to Nyquist.
    """
    edge = target.shape[-1]
    window = _hann(edge, target.device)
    p = torch.fft.rfftn(prediction[:, 0].float() * window, dim=(1, 2, 3))
    t = torch.fft.rfftn(target[:, 0].float() * window, dim=(1, 2, 3))
    power_p, power_t = _shell_sums(p.abs() ** 2, edge)[:, 1:], _shell_sums(t.abs() ** 2, edge)[:, 1:]
    cross = _shell_sums((p * t.conj()).real, edge)[:, 1:]
    return cross / torch.sqrt(power_p * power_t + 1e-8), power_p, power_t


def enhancement_loss(prediction: Tensor, target: Tensor, *, reliability: Tensor | None = None) -> tuple[Tensor, dict[str, float]]:
    """Relative squared error + (1 - correlation) + a spectral term, and the terms for the log.

    The squared error is relative to the crop's own power, so that weak maps count as much as strong ones; the spectral term asks
    for the right phases (1 - FSC) and amplitudes in every shell in which the target has power: its amplitudes times the FSC, so
    that detail fades as it gets uncertain (the figure of merit of Rosenthal and Henderson 2003, doi 10.1016/j.jmb.2003.07.013).
    Where the data's reliability F is given, the phases count most where the data half supports them, F = 0.5: what the data knows
    comes from the data through recombination, and what it says nothing about cannot be learnt.

    Parameters
    ----------
    prediction, target
        Shape ``(n, 1, e, e, e)``.
    reliability
        F of the input, 0 to 1, per shell from zero frequency to Nyquist, shape ``(n, e // 2 + 1)``.
    """
    prediction = prediction.float()
    voxels = target[0].numel()
    difference = prediction - target
    power = (target**2).flatten(1).sum(1)
    squared = ((difference**2).flatten(1).sum(1) / (power + 2e-3 * voxels)).mean()
    p = (prediction - prediction.mean((1, 2, 3, 4), keepdim=True)).flatten(1)
    t = (target - target.mean((1, 2, 3, 4), keepdim=True)).flatten(1)
    correlation = (p * t).sum(1) / torch.sqrt((p**2).sum(1) * (t**2).sum(1) + 1e-3)
    full = (power > 2e-3 * voxels).float()
    one_minus_correlation = ((1 - correlation) * full).mean()
    fsc, power_p, power_t = shell_correlation(prediction, target)
    share = power_t / power_t.sum(1, keepdim=True).clamp(min=1e-6)
    weight = torch.sqrt(share) * full[:, None]
    phase_weight = weight
    if reliability is not None:
        F = reliability[:, 1:]
        phase_weight = weight * (0.3 + 4 * F * (1 - F))
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
    phase_weight = phase_weight / phase_weight.sum(1, keepdim=True).clamp(min=1e-6)
    phases = ((1 - fsc) * phase_weight).sum(1).mean()
    merit = fsc.detach().clamp(min=LEAST_MERIT)
    ratio = torch.log((power_p + 1e-3) / (merit**2 * power_t + 1e-3)).clamp(-4, 4)
    amplitudes = (ratio**2 * weight).sum(1).mean()
    loss = squared + one_minus_correlation + phases + 0.1 * amplitudes
    terms = {
        "loss": float(loss.detach()),
        "squared": float(squared.detach()),
        "correlation": 1 - float(one_minus_correlation.detach()),
        "phases": float(phases.detach()),
        "amplitudes": float(amplitudes.detach()),
    }
    return loss, terms


def recombined(
    prediction: Tensor, data: Tensor, target: Tensor, reliability: Tensor, *, voxel_size: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Recombine crops of the network's output with the data, as `emhance.steps.recombination` does with whole maps.

    ``Y = w g X' + (1 - w) N'``, with X' and N' cut out by a support taken from N. Gradients flow through N and the support, not
    through the gain g.

    Parameters
    ----------
    prediction
        Output of the network, N, shape ``(n, 1, e, e, e)``.
    data
        The normalised map, X, same shape.
    target
        What Y should be, same shape.
    reliability
        F of the data, 0 to 1, per shell from zero frequency to Nyquist, shape ``(n, e // 2 + 1)``.
    voxel_size
        Å.

    Returns
    -------
    tuple
        Y and the target, both faded out towards the crop's faces, same shape.
    """
    edge = target.shape[-1]
    taper = _taper(edge, target.device)
    N = prediction.float()
    support = _support(N, voxel_size)
    shell, _ = _shells_of(edge, target.device)
    with torch.no_grad():
        x, gain = _with_power_of(N * taper, data * taper)
        sharpened = torch.fft.irfftn(gain[:, shell] * x, s=(edge, edge, edge), dim=(1, 2, 3))[:, None]
    inside = N * taper * support
    n = torch.fft.rfftn(inside[:, 0], dim=(1, 2, 3))
    x, gain = _with_power_of(inside.detach(), sharpened * support)
    weight = DATA_WEIGHT * reliability**DATA_POWER
    y = (weight * gain)[:, shell] * x + (1 - weight)[:, shell] * n
    return torch.fft.irfftn(y, s=(edge, edge, edge), dim=(1, 2, 3))[:, None], target * taper


def _with_power_of(reference: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Transform of crops, ``(n, e, e, e // 2 + 1)``, and the factors per shell that would give them the reference's power."""
    edge = values.shape[-1]
    of_reference, of_values = (torch.fft.rfftn(v[:, 0], dim=(1, 2, 3)) for v in (reference, values))
    with torch.no_grad():
        wanted, present = (_shell_sums(transform.abs() ** 2, edge) for transform in (of_reference, of_values))
        return of_values, torch.sqrt(wanted / present.clamp(min=1e-20))


def _support(N: Tensor, voxel_size: float) -> Tensor:
    """Where the network sees density, 0 to 1 with a soft edge; see `emhance.steps.recombination.support_of`."""
    with torch.no_grad():
        top = torch.stack([torch.quantile(crop.flatten()[::7], 0.999) for crop in N])[:, None, None, None, None]
    averaged = _smoothed(N, SUPPORT_SMOOTHING / voxel_size)
    wide = _softly_above(averaged, (SMOOTHED_LEVEL * top).clamp(min=SUPPORT_FLOOR), voxel_size)
    return wide * _softly_above(N, (SUPPORT_LEVEL * top).clamp(min=SUPPORT_FLOOR), voxel_size)


def _softly_above(values: Tensor, level: Tensor, voxel_size: float) -> Tensor:
    ramp = (2 * values / level - 1.5).clamp(0, 1)
    return (1.5 * _smoothed(ramp, SUPPORT_EDGE / voxel_size)).clamp(max=1)


def _smoothed(values: Tensor, width: float) -> Tensor:
    """Two running means of an odd width near `width` voxels; beyond a crop's faces its outermost values go on."""
    size = 2 * round((width - 1) / 2) + 1
    for _ in range(2):
        for axis in (2, 3, 4):
            edges = [size // 2 if k // 2 == 4 - axis else 0 for k in range(6)]
            padded = functional.pad(values, edges, mode="replicate")
            # Sums of shifted crops: several times faster than pooling.
            shifted = [padded.narrow(axis, k, values.shape[axis]) for k in range(size)]
            values = sum(shifted[1:], shifted[0]) / size
    return values
