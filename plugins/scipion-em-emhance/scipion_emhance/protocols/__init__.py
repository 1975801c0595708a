"""The plugin's protocols."""

from .protocol_emhance import ProtEmhance

__all__ = ["ProtEmhance"]
