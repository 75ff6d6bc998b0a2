"""Files put in place whole, and what is wrong with a folder."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replacing(path: Path, errors: str = "strict") -> Iterator[TextIO]:
    """A UTF-8 file to write that becomes `path` at the end: a reader sees the old one or the new one. Raises OSError.

    Its permissions and links to it stay; after an error the old content does too, and nothing is left beside it. What
    is no file, a pipe say, is written as it comes. An OSError names the file, a full disk's too.
    """
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8", errors=errors, newline="") as file:
            yield file
        return
    path = Path(os.path.realpath(path))  # resolve() takes a link to itself for an error of ours
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("x", encoding="utf-8", errors=errors, newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            part.chmod(stat.S_IMODE(path.stat().st_mode))
        part.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def replace_text(path: Path, text: str, errors: str = "strict") -> None:
    """Make `text` the content of a file, whole: see `replacing`."""
    with replacing(path, errors) as file:
        file.write(text)


def folder_fault(path: Path) -> str | None:
    """Why there is no looking into a folder, in words; None if there is."""
    try:
        return None if path.is_dir() else "there is no such folder"
    except OSError as error:  # one that only somebody else may look into, say
        return error.strerror


def stamp_of(path: Path) -> tuple[int, ...]:
    """What changes when a file does. Raises OSError."""
    status = path.stat()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
