"""Enhance cryo-EM density maps: locally sharpened, denoised, solvent removed, true to the data.

>>> import emhance
>>> result = emhance.enhance("half1.mrc", "half2.mrc")  # doctest: +SKIP
>>> result.write("enhanced.mrc")  # doctest: +SKIP

The enhanced map is an aid to interpretation, never a replacement of the experimental map.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emhance.config import EnhanceConfig
    from emhance.maps.mrc import read_map, write_map
    from emhance.maps.volume import DensityMap, Geometry
    from emhance.pipeline import EnhanceResult, enhance
    from emhance.validation.validate import ValidationResult, validate

_HOMES = {
    "DensityMap": "emhance.maps.volume",
    "EnhanceConfig": "emhance.config",
    "EnhanceResult": "emhance.pipeline",
    "Geometry": "emhance.maps.volume",
    "ValidationResult": "emhance.validation.validate",
    "enhance": "emhance.pipeline",
    "read_map": "emhance.maps.mrc",
    "validate": "emhance.validation.validate",
    "write_map": "emhance.maps.mrc",
}

__all__ = [
    "DensityMap",
    "EnhanceConfig",
    "EnhanceResult",
    "Geometry",
    "ValidationResult",
    "enhance",
    "read_map",
    "validate",
    "write_map",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import emhance`` does not import torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'emhance' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
