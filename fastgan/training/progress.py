"""How far a training is: a bar in a terminal, elsewhere plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

EVERY = 5.0  # seconds between two plain lines, at least
FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} steps [{elapsed}<{remaining}, {images}{postfix}]"


class Progress:
    """Of `steps`, the first `done` of which are done already, on stderr. What cannot be written, as to a terminal that
    went away, ends it, not the run."""

    def __init__(self, steps: int, done: int, batch_size: int) -> None:
        self.terminal = sys.stderr is not None and sys.stderr.isatty()
        self._steps = steps
        self._written = sys.stderr is not None
        self._line = ""  # not yet shown
        self._since = 0.0
        self._bar = _Bar(steps, done, batch_size) if self.terminal else None

    def update(self) -> None:
        """One more step is done."""
        if self._bar is not None:
            with self._writing():
                self._bar.update()

    def values(self, step: int, text: str) -> None:
        """`text`: the values of the last steps, up to `step`."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            return
        self._line = f"step {step} of {self._steps}, {text}"
        if time.perf_counter() - self._since >= EVERY:
            self._show()

    def close(self) -> None:
        if self._bar is not None:
            with self._writing():
                self._bar.close()
        elif self._line:
            self._show()

    def _show(self) -> None:
        with self._writing():
            if self._written:
                print(self._line, file=sys.stderr, flush=True)
        self._line, self._since = "", time.perf_counter()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # a broken pipe, a closed file
            self._written = False
            if self._bar is not None:
                self._bar.disable = True


class _Bar(tqdm):
    """By a clock that does not jump; counts steps and tells images a second."""

    def __init__(self, steps: int, done: int, batch_size: int) -> None:
        self._batch_size = batch_size
        super().__init__(
            total=steps,
            initial=done,
            bar_format=FORMAT,
            mininterval=0.5,  # seconds
            miniters=1,  # else tqdm's own thread looks at the time of day
            dynamic_ncols=True,
        )
        self._time = time.perf_counter
        self.start_t = self.last_print_t = time.perf_counter()

    @property
    def format_dict(self) -> dict[str, Any]:
        values = super().format_dict
        done, elapsed = values["n"] - values["initial"], values["elapsed"]
        rate = values["rate"] or (done / elapsed if elapsed else 0)
        return {**values, "images": f"{rate * self._batch_size:,.0f} images/s"}
