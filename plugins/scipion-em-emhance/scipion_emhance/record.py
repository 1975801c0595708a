"""The record that emhance writes beside its output, told in sentences. Nothing but Python is needed."""

import json
import os


def record_path(volume):
    """Where emhance writes the record of a map."""
    return os.path.splitext(volume)[0] + ".json"


def read_record(volume):
    """The record beside a map; empty where there is none yet."""
    try:
        with open(record_path(volume), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def network_sentence(record):
    """Which network ran, with its version where the record has it."""
    network = record.get("network") or {}
    name = network.get("name") or (record.get("config") or {}).get("network")
    if not name:
        return None
    version = network.get("version")
    return "Network used: {}{}".format(os.path.basename(str(name)), " " + str(version) if version else "")


def noise_sentence(record):
    """The noise statistics that were used."""
    found = record.get("normalization") or {}
    if found.get("std") is not None:
        how = "given" if found.get("mode") == "statistics" else "found"
        return "Noise {}: mean {:.4g}, s.d. {:.4g}".format(how, found["mean"], found["std"])
    if found.get("from_density"):
        return "Noise: none was used; the density itself set the scale (99.9th percentile {:.4g})".format(found["density"])
    return None


def resolution_sentence(record):
    """Up to where the data themselves were kept."""
    found = record.get("recombination") or {}
    if found.get("resolution"):
        return "Data trusted to: {:.2f} Å ({})".format(found["resolution"], found.get("source", "unknown source"))
    return None


def cleaning_sentence(record):
    """What cleaning removed."""
    found = record.get("cleaning") or {}
    return "Cleaning: {}".format(found["sentence"]) if found.get("sentence") else None


def record_sentences(record):
    """Everything worth telling in the summary of a run: findings first, then emhance's warnings."""
    found = [network_sentence(record), noise_sentence(record), resolution_sentence(record), cleaning_sentence(record)]
    warnings = [f"Warning: {warning}" for warning in record.get("warnings") or []]
    return [sentence for sentence in found if sentence] + warnings
