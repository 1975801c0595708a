"""Enhance cryo-EM density maps."""
