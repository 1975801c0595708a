"""Simulation from atomic models and training of networks."""
