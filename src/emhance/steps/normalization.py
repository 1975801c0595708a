"""Bring a map to the scale the networks were trained on: noise of mean 0 and s.d. 0.1, or density of a known height."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from emhance.config import Normalization
from emhance.errors import MaskError, NormalizationError
from emhance.maps.masks import soft_mask
from emhance.maps.volume import FloatArray
from emhance.steps.noise import DENSITY_PERCENTILE, estimate_noise, sample_voxels

BoolArray = NDArray[np.bool_]

NOISE_STD = 0.1
"""S.d. of the solvent noise in a normalised map."""

DENSITY_TARGET = 2.5
"""What the 99.9th percentile becomes where the density itself sets the scale."""

MASK_MARGIN = 3.0
"""How far mask normalisation reaches beyond the mask, and over what width it then fades out, in Å."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalizationResult:
    """A normalised map and how it came about.

    Parameters
    ----------
    data
        Normalised map, shape ``(nz, ny, nx)``.
    mode
        auto, statistics or mask.
    mean, std
        Noise statistics that were used, in the map's units; `None` where the density itself set the scale.
    offset, scale
        ``data = (map - offset) * scale``, before mask normalisation fades it out.
    density
        99.9th percentile of the map (of the voxels inside the mask, in mask mode), in the map's units.
    from_density
        Whether the density itself set the scale, rather than noise.
    message
        What the user should know: why automatic normalisation found no noise, and what else there is.
    weight
        What mask normalisation multiplied the map by, 0 to 1, same shape; None in other modes.
    """

    data: FloatArray
    mode: Normalization
    mean: float | None
    std: float | None
    offset: float
    scale: float
    density: float
    from_density: bool
    message: str | None = None
    weight: FloatArray | None = None

    def apply(self, data: FloatArray) -> FloatArray:
        """Bring another map, such as a half map, to the same scale; nothing is faded out."""
        return _scale(data, self.offset, self.scale)

    def scale_difference(self, difference: FloatArray) -> None:
        """Bring a difference of two maps to the same scale, in place, and fade it out as the map was."""
        difference *= np.float32(self.scale)
        if self.weight is not None:
            difference *= self.weight


def normalize(
    data: FloatArray,
    *,
    mode: Normalization = "auto",
    noise_mean: float | None = None,
    noise_std: float | None = None,
    mask: BoolArray | None = None,
    voxel_size: float | None = None,
) -> NormalizationResult:
    """Bring a map to the scale of the networks' input.

    With noise statistics, given or measured, ``(map - mean) / (10 * std)``: noise of mean 0 and s.d. 0.1. Where there is no
    noise the 99.9th percentile of the density becomes 2.5 instead, a height within the range of maps with noise; the
    networks hardly change their result between 1.5 and 4.

    Inside a mask there is no noise to measure, so mask mode always scales by the density. Its zero is the median of the
    6 Å around the mask: solvent where the mask is generous, the fill value where the map was cut with it. Its height is
    the 99.9th percentile inside the mask. The map is kept to 3 Å beyond the mask, because atoms at a mask's edge reach out of
    it, and fades to zero over the next 3 Å, because a step there would look like density to the network.

    Parameters
    ----------
    data
        Map, shape ``(nz, ny, nx)``, finite, density positive.
    mode
        ``auto`` measures the noise in the map, ``statistics`` takes it from `noise_mean` and `noise_std`, ``mask`` scales by
        the density inside `mask`.
    noise_mean, noise_std
        Mean and s.d. (> 0) of the solvent noise in the map's units, for ``statistics``.
    mask
        True inside, same shape, for ``mask``.
    voxel_size
        Å per voxel, for ``mask``.

    Returns
    -------
    NormalizationResult
        ``auto`` and ``mask`` give the same `data` for ``a * map + b``, a > 0.

    Raises
    ------
    NormalizationError
        For missing or impossible statistics, or density that does not rise above its surroundings.
    MaskError
        For a missing or empty mask, or one of another shape.
    MapContentError
        For a constant map.
    """
    if mode == "statistics":
        return _normalize_by_statistics(data, noise_mean, noise_std)
    if mode == "mask":
        return _normalize_in_mask(data, mask, voxel_size)
    return _normalize_automatically(data)


def _normalize_automatically(data: FloatArray) -> NormalizationResult:
    noise = estimate_noise(data)
    if noise.mean is not None and noise.std is not None:
        return _with_noise(data, "auto", noise.mean, noise.std, noise.density)
    sample = sample_voxels(data)
    # A map without noise and without a flat part is density throughout; its voids, the lowest quarter, come nearest to solvent.
    offset = float(np.percentile(sample, 25)) if noise.background is None else noise.background
    density = noise.density
    if density <= offset:
        above = sample[sample > offset]
        density = float(np.percentile(above, DENSITY_PERCENTILE)) if above.size else float(data.max())
    message = (
        f"The map holds no solvent noise to measure ({noise.reason}), so its density sets the scale: its 99.9th percentile "
        f"becomes {DENSITY_TARGET:g}; to choose the scale yourself give the noise with --noise-mean and --noise-std "
        "(statistics), or a mask with --mask (mask)."
    )
    return _with_density(data, "auto", offset, density, message)


def _normalize_by_statistics(data: FloatArray, mean: float | None, std: float | None) -> NormalizationResult:
    if mean is None or std is None:
        raise NormalizationError("Normalisation by statistics needs both the mean and the s.d. of the noise; give both.")
    if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
        raise NormalizationError(
            f"The noise must have a finite mean and a positive s.d., not {mean:g} and {std:g}; correct them."
        )
    density = float(np.percentile(sample_voxels(data), DENSITY_PERCENTILE))
    return _with_noise(data, "statistics", mean, std, density)


def _normalize_in_mask(data: FloatArray, mask: BoolArray | None, voxel_size: float | None) -> NormalizationResult:
    if mask is None or voxel_size is None:
        raise MaskError("Normalisation by mask needs a mask and the voxel size; give both.")
    if mask.shape != data.shape:
        raise MaskError(
            f"The mask measures {mask.shape} voxels (z, y, x) but the map {data.shape}; make it on the map's own grid."
        )
    if not mask.any():
        raise MaskError("The mask is empty; give one that is 1 on the molecule and 0 elsewhere.")
    width = MASK_MARGIN / voxel_size
    box = _bounding_box(mask, margin=int(np.ceil(2 * width)) + 1)
    inside, near = mask[box], data[box]
    weight = soft_mask(soft_mask(inside, width_voxels=width) > 0, width_voxels=width)
    around = near[(weight > 0) & ~inside]
    density = float(np.percentile(sample_voxels(near[inside]), DENSITY_PERCENTILE))
    offset = float(np.median(around)) if around.size else float(np.percentile(near[inside], 25))
    result = _with_density(near, "mask", offset, density, None)
    faded, whole = np.zeros_like(data), np.zeros(data.shape, np.float32)
    faded[box], whole[box] = result.data * weight, weight
    return replace(result, data=faded, weight=whole)


def _with_noise(data: FloatArray, mode: Normalization, mean: float, std: float, density: float) -> NormalizationResult:
    scale = NOISE_STD / std
    return NormalizationResult(
        data=_scale(data, mean, scale),
        mode=mode,
        mean=mean,
        std=std,
        offset=mean,
        scale=scale,
        density=density,
        from_density=False,
    )


def _with_density(
    data: FloatArray, mode: Normalization, offset: float, density: float, message: str | None
) -> NormalizationResult:
    if not density > offset:
        raise NormalizationError(
            f"The density ({density:.4g}) does not rise above its surroundings ({offset:.4g}); density must be positive: invert "
            "the map's contrast, or give the noise with --noise-mean and --noise-std."
        )
    scale = DENSITY_TARGET / (density - offset)
    return NormalizationResult(
        data=_scale(data, offset, scale),
        mode=mode,
        mean=None,
        std=None,
        offset=offset,
        scale=scale,
        density=density,
        from_density=True,
        message=message,
    )


def _scale(data: FloatArray, offset: float, scale: float) -> FloatArray:
    result = np.subtract(data, np.float32(offset), dtype=np.float32)
    result *= np.float32(scale)
    return result


def _bounding_box(mask: BoolArray, *, margin: int) -> tuple[slice, slice, slice]:
    """Slices of the smallest box around a mask that is not empty, `margin` voxels wider on every side that has room."""
    slices = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        slices.append(slice(max(0, int(hit[0]) - margin), int(hit[-1]) + 1 + margin))
    return (slices[0], slices[1], slices[2])
