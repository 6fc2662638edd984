"""What the options of a system mean, read from the comments beside them: they are written once."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from typing import Any, NamedTuple


class Option(NamedTuple):
    name: str
    default: Any
    meaning: str  # "" where no comment says it


def options(config: type) -> list[Option]:
    """Of a configuration, in order. A comment stands behind its option, or in lines of its own before it; a subclass
    that has none keeps the meaning of its base."""
    meanings: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        if dataclasses.is_dataclass(cls):
            meanings |= _meanings(cls)
    fields = dataclasses.fields(config)
    return [Option(field.name, field.default, meanings.get(field.name, "")) for field in fields]


def _meanings(cls: type) -> dict[str, str]:
    try:
        text = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):  # made in a session, or without its source
        return {}
    comments = {
        token.start[0]: (token.string.lstrip("# "), not token.line[: token.start[1]].strip())
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }  # by line: the text, and whether it has the line for itself
    found = {}
    for node in ast.parse(text).body[0].body:  # type: ignore[attr-defined]
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        first = node.lineno
        while (comment := comments.get(first - 1)) and comment[1]:
            first -= 1
        lines = [comments[line][0] for line in range(first, (node.end_lineno or first) + 1) if line in comments]
        if lines:
            found[node.target.id] = " ".join(lines)
    return found
