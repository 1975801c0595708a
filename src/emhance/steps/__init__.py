"""Array in, array out: normalisation, tiling, recombination, cleaning. No torch here."""
