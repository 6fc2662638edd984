"""Files that are there wholly or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whoever reads or writes it meanwhile. OSError, naming the file, if it cannot be."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"could not write it ({error.strerror})", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
