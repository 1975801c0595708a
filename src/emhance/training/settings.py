"""A training run as a TOML file: its keys are the fields of `TrainingConfig`, its tables configurations within it."""

from __future__ import annotations

import difflib
import sys
import types
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tomli_w

from emhance.errors import OptionError
from emhance.maps.atomic_write import atomic_output
from emhance.training.training_config import TrainingConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG = "config.toml"
"""The run's configuration with every value, in its output folder."""


def read_config(path: Path, *, output: Path | None = None) -> TrainingConfig:
    """Read a training run's configuration; paths in it are relative to its own folder.

    Parameters
    ----------
    path
        The TOML file.
    output
        Replaces the file's ``output``.

    Raises
    ------
    OptionError
        For a file that cannot be read, unknown keys, and values of a wrong kind or out of range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"The configuration {path} cannot be read ({error.strerror}); check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is not a TOML file: {error}.") from error
    if output is not None:
        values["output"] = str(output.absolute())
    config: TrainingConfig = _dataclass_of(TrainingConfig, values, f"{path.name}", path.parent)
    try:
        config.check()
    except OptionError as error:
        raise OptionError(f"{path.name}: {error}") from error
    for what in ("structures", "start_from"):
        target = getattr(config, what)
        if target is not None and not target.exists():
            raise OptionError(f"{path.name}: {what} = {str(target)!r} does not exist; correct the path.")
    return config


def write_config(config: TrainingConfig, path: Path) -> None:
    """Write a configuration with every value it has."""
    with atomic_output(path, overwrite=True) as temporary:
        temporary.write_text(tomli_w.dumps(_plain(asdict(config))), encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value.absolute()) if isinstance(value, Path) else value


def _dataclass_of(kind: Any, values: dict[str, Any], where: str, folder: Path) -> Any:
    """Build a dataclass from a table, strictly."""
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise OptionError(f"{where}: unknown key {key!r} ({advice}).")
    for key, f in known.items():
        if f.default is MISSING and f.default_factory is MISSING and key not in values:
            raise OptionError(f"{where}: {key} is missing; add it, as in {key} = {_example(hints[key])}.")
    return kind(**{key: _converted(value, hints[key], f"{where}: {key}", folder) for key, value in values.items()})


def _example(hint: Any) -> str:
    return '"path"' if hint is Path else "..."


def _converted(value: Any, hint: Any, where: str, folder: Path) -> Any:
    """Bring a TOML value to the type a field is declared with."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _converted(value, next(a for a in arguments if a is not type(None)), where, folder)
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise OptionError(f"{where} must be a table, not {value!r}.")
        name, _, table = where.rpartition(": ")
        return _dataclass_of(hint, value, f"{name}: [{table}]", folder)
    if origin is tuple:
        return _tuple_of(value, arguments, where, folder)
    if origin is Literal:
        if value not in arguments:
            raise OptionError(f"{where} must be one of {', '.join(map(str, arguments))}, not {value!r}.")
        return value
    if hint is Path and isinstance(value, str):
        return folder / Path(value).expanduser()
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise OptionError(f"{where} must be {names.get(hint, hint)}, not {value!r}.")
    if hint is float and value != value:
        raise OptionError(f"{where} must be a number, not nan.")
    return value


def _tuple_of(value: Any, arguments: tuple[Any, ...], where: str, folder: Path) -> tuple[Any, ...]:
    repeated = arguments[-1] is Ellipsis
    if not isinstance(value, list) or not (repeated or len(value) == len(arguments)):
        raise OptionError(f"{where} must be a list{'' if repeated else f' of {len(arguments)} values'}, not {value!r}.")
    kinds = [arguments[0]] * len(value) if repeated else arguments
    items = tuple(_converted(item, kind, where, folder) for item, kind in zip(value, kinds, strict=True))
    if arguments == (float, float) and items[0] > items[1]:
        raise OptionError(f"{where} must be a range, the lower end first, not {value!r}.")
    return items
