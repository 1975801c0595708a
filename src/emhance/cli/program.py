"""What every program of emhance shares: its log, how it is stopped, and errors as one sentence and an exit code.

Exit codes: 0 done, 1 emhance's own fault, 2 the user's, 130 and 143 interrupted (Ctrl-C, kill).
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.logging import RichHandler

from emhance.errors import EmhanceError, UserError
from emhance.network.memory import ask_for_huge_pages

errors = Console(stderr=True)


class Stopped(BaseException):
    """The user (Ctrl-C) or the system (kill) asked the program to end; no `Exception`, so that nothing catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def run_program(action: Callable[[], object]) -> None:
    """Run what a program does; where it fails, say why in one sentence and leave with the exit code."""
    ask_for_huge_pages()
    logger = logging.getLogger("emhance")
    if not logger.handlers:
        logger.addHandler(RichHandler(console=errors, show_time=False, show_path=False))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        action()
    except UserError as error:
        _say(f"Error: {error}")
        sys.exit(2)
    except EmhanceError as error:
        _say(f"Error: {error}")
        sys.exit(1)
    except MemoryError:
        _say("Error: the machine's memory does not suffice for this map; close other programs or use a smaller box.")
        sys.exit(1)
    except Stopped as stopped:
        _say("Stopped.")
        sys.exit(stopped.exit_code)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    # As an exception the signal lets temporary files be removed; a second one must not disturb that.
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(number)


def _say(message: str) -> None:
    errors.print(message, style="bold red", markup=False, highlight=False, soft_wrap=True)
