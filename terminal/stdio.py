"""How a command speaks and ends: what it says, its exit code, and where words go when nobody takes them."""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

# What libraries in C write to the terminal of matters that are in order, or that are said in words elsewhere.
NOISE = re.compile(
    rb"INFO: |OpenCV: FFMPEG: tag |libpng |Corrupt JPEG data"
    rb"|WARNING: All log messages before absl|[IW]\d{4} |E\d{4} .*cuInit"
)


def exit_code(job: Callable[[], None], *failures: type[Exception]) -> int:
    """What a command ends with that does a job: 0 done, 2 it cannot be done, 130 stopped; a line says what went wrong.

    `failures` say in words why it cannot be done, as an OSError does.
    """
    open_closed_streams()
    take_any_title(sys.stdout, sys.stderr)
    try:
        job()
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # whoever read the lines has seen enough
        close_output()
        return 0
    except KeyboardInterrupt:
        complain("stopped; no file was changed halfway")
        return 130
    except failures as error:
        complain(str(error))
    except OSError as error:
        complain(fault_of_file(error))
    return 2


def say(line: str) -> None:
    """A line of what was asked for."""
    sys.stdout.write(f"{line}\n")


def complain(line: str) -> None:
    """A line about what went wrong."""
    sys.stderr.write(f"{line}\n")


def spoken_beside(out: Path | None) -> Callable[[str], None]:
    """What says the lines of a command that writes a table to `out`: `say`, unless that is where the lines would go."""
    if out and out.exists() and not (out.is_file() and not _is_output(out)):
        return complain
    return say


def _is_output(path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # nothing has taken stdout
        return False


def fault_of_file(error: OSError, file: str = "a file") -> str:
    """What the system says, and of which file, where it says that."""
    return f"{error.filename or file}: {error.strerror or error}"


def take_any_title(*streams: TextIO) -> None:
    """Let a title that a console cannot show, of an old code page, not end a run that prints it."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def open_closed_streams() -> None:
    """Let what is said go nowhere and nothing come in, where whoever started this has closed a stream."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as we run


def close_output(stream: TextIO | None = None) -> None:
    """Nobody takes any more: what Python would still say on its way out goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())


@contextmanager
def without_noise(noise: re.Pattern[bytes] = NOISE) -> Iterator[None]:
    """Keep back what is written to stderr meanwhile, then pass on all lines but `noise`. One thread at a time."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            kept.seek(0)
            with suppress(OSError):  # the terminal has gone
                os.write(2, b"".join(line for line in kept if not noise.match(line)))
