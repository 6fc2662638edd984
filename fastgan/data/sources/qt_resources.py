"""Files of Qt's resource system, .rcc: a tree of named files in one, as Qt's resource compiler writes it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Container, Iterator
from os import PathLike
from pathlib import Path

MAGIC = b"qres"
NODE = {1: 14, 2: 22, 3: 22}  # bytes of a node of the tree, by the version of the format
COMPRESSED, FOLDER, ZSTANDARD = 1, 2, 4  # flags of a node


def read_resources(path: str | PathLike[str], names: Container[str]) -> dict[str, bytes]:
    """Those of the files in it that are called so, in whatever folder.

    OSError where it cannot be read, ValueError for what is no such file, and where one is compressed by Zstandard.
    """
    content = Path(path).read_bytes()
    try:
        return dict(_files(content, names))
    except (struct.error, ValueError, RecursionError, zlib.error) as error:
        raise ValueError(f"{path} is no resource file of Qt (.rcc), or damaged: {error}") from error


def _files(content: bytes, names: Container[str]) -> Iterator[tuple[str, bytes]]:
    magic, version, tree, data, texts = struct.unpack_from(">4s4I", content)
    if magic != MAGIC or version not in NODE:
        raise ValueError(f"it must begin with {MAGIC!r} and a version up to {max(NODE)}")

    def below(number: int) -> Iterator[tuple[str, bytes]]:
        at = tree + number * NODE[version]
        text, flags = struct.unpack_from(">IH", content, at)
        if flags & FOLDER:
            count, first = struct.unpack_from(">II", content, at + 6)
            for child in range(first, first + count):
                yield from below(child)
            return
        (length,) = struct.unpack_from(">H", content, texts + text)
        name = part(texts + text + 6, 2 * length).decode("utf-16-be")  # behind a hash
        if name in names:
            (begin,) = struct.unpack_from(">I", content, at + 10)  # behind territory and language
            yield name, file(data + begin, flags)

    def file(begin: int, flags: int) -> bytes:
        (length,) = struct.unpack_from(">I", content, begin)
        held = part(begin + 4, length)
        if flags & ZSTANDARD:
            raise ValueError("it is compressed by Zstandard, which is not read here")
        return zlib.decompress(held[4:]) if flags & COMPRESSED else held  # behind its length

    def part(begin: int, length: int) -> bytes:
        if begin + length > len(content):
            raise ValueError("it ends too early")
        return content[begin : begin + length]

    return below(0)
