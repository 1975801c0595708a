"""Which atomic models are related: clusters of those whose sequences share words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import combinations

import gemmi

PROTEIN_WORD = 6
"""Residues of a protein's word."""

NUCLEIC_WORD = 12
"""Nucleotides of a nucleic acid's word: of shorter ones a ribosomal RNA holds too many by chance."""

SHARED_WORDS = 0.3
"""Models that share more than this part of the words of the smaller one are related."""

UNKNOWN = "X"
"""What gemmi calls a residue without a letter of its own."""


def sequence_words(model: gemmi.Model) -> frozenset[str]:
    """All words of the sequences of a model's chains, those of proteins and of nucleic acids told apart."""
    words: set[str] = set()
    sequences = set()
    for chain in model:
        polymer = chain.get_polymer()
        if len(polymer):
            peptide = polymer.check_polymer_type() in (gemmi.PolymerType.PeptideL, gemmi.PolymerType.PeptideD)
            sequences.add((peptide, gemmi.one_letter_code(polymer.extract_sequence()).upper()))
    for peptide, sequence in sequences:
        length, tag = (PROTEIN_WORD, "p") if peptide else (NUCLEIC_WORD, "n")
        for part in (sequence if peptide else sequence.replace("U", "T")).split(UNKNOWN):
            words.update(f"{tag}{part[i : i + length]}" for i in range(len(part) - length + 1))
    return frozenset(words)


def sequence_clusters(words: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """Put related models into one cluster; chains of relations join, so that no two clusters are related.

    Parameters
    ----------
    words
        For every model's name, from `sequence_words`.

    Returns
    -------
    dict
        For every name the name of its cluster's representative, the member with the most words.
    """
    names = sorted(words, key=lambda name: (-len(words[name]), name))
    owners: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        for word in words[name]:
            owners[word].append(i)
    shared: Counter[tuple[int, int]] = Counter()
    for members in owners.values():
        shared.update(combinations(members, 2))
    first = list(range(len(names)))  # the earliest member known of each one's cluster

    def root(i: int) -> int:
        while first[i] != i:
            i = first[i]
        return i

    for (i, j), count in shared.items():
        if count > SHARED_WORDS * min(len(words[names[i]]), len(words[names[j]])):
            a, b = sorted((root(i), root(j)))
            first[b] = a
    return {name: names[root(i)] for i, name in enumerate(names)}
