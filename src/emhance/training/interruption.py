"""Stop a training run between two steps when the user or the system asks for it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

SAME_REQUEST = 2.0
"""Signals within this many seconds are one request."""


@dataclass
class StopRequest:
    """Whether somebody asked the run to stop.

    Parameters
    ----------
    number
        The signal's; 0 until one came.
    at
        When it came, by `time.monotonic`, seconds.
    """

    number: int = 0
    at: float = 0.0


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note Ctrl-C and kill instead of dying of them; another one, seconds later, acts as it did before.

    Seconds, because one Ctrl-C may come twice: from the terminal, and from torchrun.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # Python delivers signals to the main thread alone
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not request.number:
            request.number, request.at = number, now
        elif now - request.at > SAME_REQUEST:
            restore()
            signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()


def leave_signals_to_parent() -> None:
    """For a worker: Ctrl-C reaches every process of a terminal, and it is the parent that ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
