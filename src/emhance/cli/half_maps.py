"""Find half map 2 by the names that RELION, cryoSPARC and EMDB give."""

from __future__ import annotations

import re
from pathlib import Path

from emhance.errors import OptionError

_NAMES = (
    (re.compile(r"half1(?=[._-]|$)", re.IGNORECASE), r"half2"),  # RELION: run_half1_class001_unfil.mrc
    (re.compile(r"half_A(?=[._-]|$)"), r"half_B"),  # cryoSPARC: J12_map_half_A.mrc
    (re.compile(r"half_map_1(?=[._-]|$)", re.IGNORECASE), r"half_map_2"),  # EMDB: emd_1234_half_map_1.map.gz
    (re.compile(r"half_1(?=[._-]|$)", re.IGNORECASE), r"half_2"),
    (re.compile(r"half-1(?=[._-]|$)", re.IGNORECASE), r"half-2"),
)


def find_half2(half1: Path) -> Path:
    """The second half map that belongs to `half1`, in the same folder.

    Raises
    ------
    OptionError
        If the name is not that of a first half map, or its partner is not there.
    """
    for pattern, replacement in _NAMES:
        matches = list(pattern.finditer(half1.name))
        if matches:
            last = matches[-1]
            word = _same_case(replacement, last.group())
            partner = half1.with_name(half1.name[: last.start()] + word + half1.name[last.end() :])
            if partner.exists():
                return partner
            raise OptionError(f"--half2 auto looked for {partner}, which does not exist; give half map 2 by name.")
    raise OptionError(
        f"{half1.name} is not named like half map 1 of RELION (half1), cryoSPARC (half_A) or EMDB (half_map_1); "
        "give half map 2 by name."
    )


def _same_case(word: str, like: str) -> str:
    if like.isupper():
        return word.upper()
    return word.capitalize() if like[0].isupper() and word[0].islower() else word
