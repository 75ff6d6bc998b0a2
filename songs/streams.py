"""What a command says, and where it goes when nobody takes it."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


def take_any_title(*streams: TextIO) -> None:
    """Let a title that a console cannot show, of an old code page, not end a run that prints it."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def open_closed_streams() -> None:
    """Let what is said go nowhere, where whoever started this has closed stdout or stderr."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as we run


def close_output(stream: TextIO | None = None) -> None:
    """Nobody takes any more: what Python would still say on its way out goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())
