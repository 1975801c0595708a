"""The plugin's viewers."""

from .viewer_emhance import EmhanceViewer

__all__ = ["EmhanceViewer"]
