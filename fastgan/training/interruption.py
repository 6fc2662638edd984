"""Ctrl-C and SIGTERM, held back until a step is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interruption:
    """`signal`: the one that asked to stop, None so far."""

    signal: int | None = None


@contextmanager
def interruption(*, patient: bool = False) -> Iterator[Interruption]:
    """Ctrl-C (SIGINT) and SIGTERM, which schedulers send before they kill, are noted instead of acting; a second one
    acts as before. Elsewhere than in the main thread, or where the process ignores a signal, nothing changes.

    patient: a second one changes nothing. torchrun passes on a Ctrl-C that its processes have had already, and kills
    those that take too long.
    """
    asked = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: before for number, before in handlers.items() if before not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, before in handlers.items():
            signal.signal(number, before)

    def ask(number: int, frame: Any) -> None:
        if not patient:
            restore()
        asked.signal = asked.signal or number

    for number in handlers:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        restore()
