"""Run the program `emhance` as a user does, in this process or in one of its own."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from emhance.cli import main


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    out: str
    err: str


@contextmanager
def _process_kept_as_it_is() -> Iterator[None]:
    logger = logging.getLogger("emhance")
    level, log_handlers = logger.level, list(logger.handlers)
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        logger.setLevel(level)
        logger.handlers[:] = log_handlers


class Program:
    """``program("enhance", "map.mrc")`` is the command line ``emhance enhance map.mrc`` in this process.

    Another program's name and function can be given.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: object, name: str = "emhance", run: Callable[[], None] = main.run) -> Ended:
        self._monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        self._capsys.readouterr()
        code: object = None
        with _process_kept_as_it_is():
            try:
                run()
            except SystemExit as ended:
                code = ended.code
        captured = self._capsys.readouterr()
        return Ended(0 if code is None else int(str(code)), captured.out, captured.err)


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files as well."""
    return sorted(path.name for path in folder.iterdir())


def assert_one_sentence(ended: Ended, *words: str) -> None:
    """The user's mistake: exit code 2, one line on stderr that begins with Error and ends with a full stop."""
    assert ended.code == 2, ended
    lines = ended.err.strip().splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("Error: ")
    assert lines[0].endswith((".", ")"))
    assert "Traceback" not in ended.err
    for word in words:
        assert word in lines[0], lines[0]
