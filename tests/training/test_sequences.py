"""Related models share a cluster; unrelated ones do not."""

import random

import gemmi
import pytest

from emhance.training.sequences import sequence_clusters, sequence_words

PROTEIN = {"A": "ALA", "C": "CYS", "D": "ASP", "E": "GLU", "F": "PHE", "G": "GLY", "X": "UNK"}
DNA = {"A": "DA", "C": "DC", "G": "DG", "T": "DT"}
RNA = {"A": "A", "C": "C", "G": "G", "U": "U"}


def model_of(*sequences: str, names: dict[str, str] = PROTEIN) -> gemmi.Model:
    model = gemmi.Model(1)
    for i, sequence in enumerate(sequences):
        chain = gemmi.Chain(chr(ord("A") + i))
        for number, letter in enumerate(sequence, 1):
            residue = gemmi.Residue()
            residue.name, residue.seqid = names[letter], gemmi.SeqId(number, " ")
            residue.entity_type = gemmi.EntityType.Polymer
            atom = gemmi.Atom()
            atom.name, atom.element = "CA", gemmi.Element("C")
            residue.add_atom(atom)
            chain.add_residue(residue)
        model.add_chain(chain)
    return model


def test_words_of_a_protein() -> None:
    assert sequence_words(model_of("ACDEFGA")) == {"pACDEFG", "pCDEFGA"}
    assert sequence_words(model_of("ACDEF")) == frozenset()
    assert sequence_words(model_of("ACDXEFG")) == frozenset(), "words do not span unknown residues"
    assert sequence_words(model_of("ACDEFG", "ACDEFG")) == {"pACDEFG"}


def test_words_of_nucleic_acids_are_longer_and_dna_is_as_rna() -> None:
    dna = sequence_words(model_of("ACGTACGTACGTA", names=DNA))
    assert dna == {"nACGTACGTACGT", "nCGTACGTACGTA"}
    assert sequence_words(model_of("ACGUACGUACGUA", names=RNA)) == dna


def random_words(seed: int, count: int = 100) -> set[str]:
    rng = random.Random(seed)
    return {"p" + "".join(rng.choices("ACDEFGHIKLMNPQRSTVWY", k=6)) for _ in range(count)}


def test_chains_of_relations_form_one_cluster() -> None:
    a, b, c = (random_words(seed) for seed in (1, 2, 3))
    middle = set(list(a)[:50]) | set(list(b)[:50])
    clusters = sequence_clusters({"a": frozenset(a), "b": frozenset(b), "middle": frozenset(middle), "c": frozenset(c)})
    assert clusters["a"] == clusters["b"] == clusters["middle"]
    assert clusters["c"] == "c"


@pytest.mark.parametrize(("shared", "together"), [(25, False), (35, True)])
def test_what_counts_is_the_part_of_the_smaller_one(shared: int, together: bool) -> None:
    large, small = random_words(1, 1000), random_words(2, 100)
    small = set(list(small)[: 100 - shared]) | set(list(large)[:shared])
    clusters = sequence_clusters({"large": frozenset(large), "small": frozenset(small)})
    assert (clusters["small"] == "large") is together


def test_models_without_words_stay_alone() -> None:
    assert sequence_clusters({"a": frozenset(), "b": frozenset()}) == {"a": "a", "b": "b"}
