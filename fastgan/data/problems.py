"""What is said about pictures that were left out or converted."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

# Left out, this many are named, later ones counted; of what is converted, the first few.
NAMED = 50
EXAMPLES = 3


class Note(NamedTuple):
    """A picture that was left out, and why, or converted, and from what."""

    picture: str
    kind: str
    left_out: bool


class Ledger:
    """Counts and names every picture once, however often and by whichever process it is read."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}  # pictures left out, and converted by kind
        self._seen: set[tuple[str, str]] = set()
        self._lines: list[str] = []
        self._more = 0
        self._examples: dict[str, list[str]] = {}
        self._said: dict[str, int] = {}

    def say(self, lines: Iterable[str]) -> None:
        self._lines.extend(lines)

    def add(self, notes: Iterable[Note]) -> None:
        for note in notes:
            if note[:2] in self._seen:
                continue
            self._seen.add(note[:2])
            kind = "left out" if note.left_out else note.kind
            self.counts[kind] = self.counts.get(kind, 0) + 1
            if not note.left_out:
                examples = self._examples.setdefault(kind, [])
                examples += [note.picture] if len(examples) < EXAMPLES else []
            elif self.counts[kind] <= NAMED:
                self._lines.append(f"{note.picture}: {note.kind}, left out")
            else:
                self._more += 1

    def lines(self) -> list[str]:
        """What is new since the last call. A kind of conversion is told at first, then at ten times as many."""
        lines, self._lines = self._lines, []
        if self._more:
            lines.append(f"{self._more} more pictures left out, {self.counts['left out']} by now")
            self._more = 0
        for kind, examples in self._examples.items():
            count = self.counts[kind]
            if count >= 10 * self._said.get(kind, 0):
                self._said[kind] = max(count, 1)
                lines.append(f"converted ({kind}): {count} by now, such as {', '.join(examples)}")
        return lines


def examples(names: Sequence[str], most: int = EXAMPLES) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return printable(", ".join(names[:most])) + more


def printable(text: str) -> str:
    """The text on one line, whatever bytes a file name holds."""
    return text.encode("utf-8", "backslashreplace").decode().translate(_CONTROL)


_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
