"""The loss: a sum of terms none of which an empty output can satisfy."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=4)
def _window_and_shells(edge: int, device: torch.device) -> tuple[Tensor, Tensor, int]:
    axis = torch.hann_window(edge + 2, periodic=False, device=device)[1:-1]
    window = axis[:, None, None] * axis[None, :, None] * axis[None, None, :]
    full, half = torch.fft.fftfreq(edge, device=device) * edge, torch.fft.rfftfreq(edge, device=device) * edge
    radius = torch.sqrt(full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2)
    shells = edge // 2
    return window, torch.round(radius).long().clamp(max=shells), shells


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
    window, shell, shells = _window_and_shells(edge, target.device)
    p = torch.fft.rfftn(prediction[:, 0].float() * window, dim=(1, 2, 3)).flatten(1)
    t = torch.fft.rfftn(target[:, 0].float() * window, dim=(1, 2, 3)).flatten(1)
    index = shell.flatten().expand(len(p), -1)

    def total(values: Tensor) -> Tensor:
        return torch.zeros((len(p), shells + 1), device=p.device).scatter_add(1, index, values)[:, 1:]

    power_p, power_t = total(p.abs() ** 2), total(t.abs() ** 2)
    cross = total((p * t.conj()).real)
    return cross / torch.sqrt(power_p * power_t + 1e-8), power_p, power_t


def enhancement_loss(prediction: Tensor, target: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Relative squared error + (1 - correlation) + a spectral term, and the terms for the log.

    The squared error is relative to the crop's own power, so that weak maps count as much as strong ones; the spectral term asks
    for the right phases (1 - FSC) and amplitudes in every shell in which the target has power.

    Parameters
    ----------
    prediction, target
        Shape ``(n, 1, e, e, e)``.
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
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
    phases = ((1 - fsc) * weight).sum(1).mean()
    ratio = torch.log((power_p + 1e-3) / (power_t + 1e-3)).clamp(-4, 4)
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
