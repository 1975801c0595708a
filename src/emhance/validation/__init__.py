"""How far a map can be trusted: FSC, local and directional resolution, fit to an atomic model, support by the half maps."""
