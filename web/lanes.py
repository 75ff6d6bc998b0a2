"""How many visitors' pictures one process takes on: who waits, and who is told to come back."""

from __future__ import annotations

import ipaddress
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

WAITING = 24  # frames that may wait in one process; a thread each
PHOTOS = 6  # in memory at once
PHOTOS_EACH = 3  # of them from one address: who sends slowly keeps others from sending no photo


class BusyError(Exception):
    """There is no place for one more; the message says what now."""


class Lane:
    """Work of one kind, one piece at a time. Who would wait for more than `patience` seconds is refused at once.

    At most `most` are inside, waiting or at work, `each` of them of one sender. What a piece takes is the mean of the
    last ones.
    """

    def __init__(self, patience: float, most: int, each: int | None = None) -> None:
        self.patience, self.most, self.each = patience, most, each or most
        self._turn, self._count = Lock(), Lock()
        self._senders: Counter[str] = Counter()
        self._inside, self._takes = 0, 0.0

    def check(self) -> None:
        """BusyError when there is no place."""
        if self._inside >= self.most or self._inside * self._takes > self.patience:
            raise BusyError("many people are here at the moment: try again in a second")

    @contextmanager
    def place(self, sender: str) -> Iterator[None]:
        """A place in the queue; BusyError when there is none, or when its sender has enough."""
        with self._count:
            self.check()
            if self._senders[sender] >= self.each:
                raise BusyError(f"{self.each} photos from your address are on their way: try again in a second")
            self._senders[sender] += 1
            self._inside += 1
        try:
            yield
        finally:
            with self._count:
                self._inside -= 1
                self._senders -= Counter([sender])  # and who has none is forgotten

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One's turn, waited for."""
        with self._turn:
            begun = time.perf_counter()
            yield
            self._takes += 0.1 * (time.perf_counter() - begun - self._takes)


class Limits:
    """How much one process takes on: pictures a second from an address (0: any number), frames and photos that wait."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.frames, self.photos = Lane(patience=0.1, most=WAITING), Lane(patience=4.0, most=PHOTOS, each=PHOTOS_EACH)
        self._second, self._sent, self._lock = 0, Counter[str](), Lock()

    def count(self, sender: str) -> None:
        """One more picture of a household; BusyError when it has sent too many."""
        if not self.rate:
            return
        with self._lock:
            if (second := int(time.monotonic())) != self._second:
                self._second, self._sent = second, Counter()
            self._sent[sender] += 1
            sent = self._sent[sender]
        if sent > self.rate:
            raise BusyError(f"more than {self.rate} pictures a second come from your address: try again in a second")


def household(address: str) -> str:
    """What one line to the internet has: an IPv4 address, or the first half of an IPv6 one.

    Some proxies write the port behind it, and an IPv6 address in brackets.
    """
    if with_port := re.fullmatch(r"\[(.*)\](?::\d+)?|([\d.]+):\d+", address):
        address = "".join(with_port.groups(""))
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed  # how a site on :: sees who comes over IPv4
    return str(parsed) if parsed.version == 4 else str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
