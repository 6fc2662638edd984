"""Ctrl-C and SIGTERM, held back until a step is done, but not while the trainer waits for something."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A signal came inside of `Interruption.at_once`."""


class Interruption:
    """`signal`: the one that asked to stop, None so far."""

    signal: int | None = None

    def __init__(self, *, patient: bool = False) -> None:
        self.patient = patient
        self._at_once = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside the block, which may be left at any point and may last long, a signal raises Interrupted; also one
        that came before."""
        try:
            self._at_once = not self.patient
            if self._at_once and self.signal:
                raise Interrupted
            yield
        finally:
            self._at_once = False

    def note(self, number: int) -> None:
        self.signal = self.signal or number
        if self._at_once:
            raise Interrupted


@contextmanager
def interruption(*, patient: bool = False) -> Iterator[Interruption]:
    """Ctrl-C (SIGINT) and SIGTERM, which schedulers send before they kill, are noted instead of acting; a second one
    acts as before. Inside `at_once` the first acts, too. Elsewhere than in the main thread, or where the process
    ignores a signal, nothing changes.

    patient: no step is left undone, and a second one changes nothing. torchrun passes on a Ctrl-C that its processes
    have had already, and kills those that take too long.
    """
    asked = Interruption(patient=patient)
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
        asked.note(number)

    for number in handlers:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        restore()
