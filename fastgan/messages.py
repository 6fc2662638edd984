"""What FastGAN says: to the logger "fastgan", whose settings are the application's, and to the run or the command that
says it, which keeps or shows its own messages alone, whatever other threads do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import NamedTuple


class _Listener(NamedTuple):
    hear: Callable[[logging.LogRecord], object]
    showing: Callable[[], AbstractContextManager[None]]
    shows: bool


_listeners: ContextVar[tuple[_Listener, ...]] = ContextVar("fastgan.messages", default=())


class Messages:
    def info(self, text: str, *arguments: object) -> None:
        self._say(logging.INFO, text, arguments)

    def warning(self, text: str, *arguments: object) -> None:
        self._say(logging.WARNING, text, arguments)

    def _say(self, level: int, text: str, arguments: tuple[object, ...]) -> None:
        logger, listeners = logging.getLogger("fastgan"), _listeners.get()
        with ExitStack() as around:
            for listener in listeners:
                around.enter_context(listener.showing())
            # Once is enough, also where nobody has set up logging, which then writes warnings to stderr.
            handled = logger.hasHandlers()
            if handled or not any(listener.shows for listener in listeners):
                logger.log(level, text, *arguments, stacklevel=3)
            for listener in listeners:
                if not (listener.shows and handled):
                    listener.hear(logger.makeRecord(logger.name, level, "", 0, text, arguments, None))


log = Messages()


@contextmanager
def heard_by(
    hear: Callable[[logging.LogRecord], object],
    showing: Callable[[], AbstractContextManager[None]] = nullcontext,
    *,
    shows: bool = False,
) -> Iterator[None]:
    """Inside the block, in this thread, `hear` gets every message too.

    showing: entered while a message is handed on, as by one who draws on the terminal that it may appear on.
    shows: `hear` shows messages to the user, and is asked to only where nobody has set up logging to do it.
    """
    token = _listeners.set((*_listeners.get(), _Listener(hear, showing, shows)))
    try:
        yield
    finally:
        _listeners.reset(token)


def duration(seconds: float) -> str:
    """ "50 seconds", "27 minutes", "3 hours 20 minutes" """
    if seconds < 100:
        return f"{seconds:.0f} second{'s' if round(seconds) != 1 else ''}"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} minutes"
    hours, minutes = divmod(round(minutes, -1), 60)
    days, hours = divmod(hours, 24)
    parts = (days, "day"), (hours, "hour"), (0 if days else minutes, "minute")
    return " ".join(f"{count} {unit}{'s' if count > 1 else ''}" for count, unit in parts if count)
