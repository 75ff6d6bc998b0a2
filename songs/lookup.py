"""How songs sound, asked by Spotify id from a public service of audio features, such as ReccoBeats.

Off unless VISAGE_LOOKUP names a service. It is no part of Spotify, but where its numbers are from it does not say:
docs/song-moods.md says what is known. A client of one request: `GET <address>/audio-features?ids=...`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from model.song_moods import FEATURES, fault_of
from songs.catalog import id_in
from songs.features import Song, Sound

AT_ONCE = 40  # ids; the service refuses more
TIMEOUT = (5, 10)  # seconds to connect, and to wait for a byte
LONGEST = 30.0  # seconds that a visitor's split may take, waits included; what is asked last may go a little over
LONGEST_ANSWER = 1_000_000  # bytes; 40 songs take 20,000
MOST_REMEMBERED = 50_000  # songs


class LookupFailedError(Exception):
    """The service did not answer, or asks to wait; the message is for a person."""


class Lookup:
    """A service of audio features at an address. It remembers answers in memory only, and asks once at a time.

    One `find` takes `longest` seconds at most. Raises LookupFailedError at Spotify's own address: the wall.
    """

    def __init__(self, address: str, longest: float = LONGEST) -> None:
        self._address, self._longest = address.rstrip("/"), longest
        if f".{self.host}".endswith(".spotify.com"):
            raise LookupFailedError("Spotify itself is not asked: its terms forbid feeding its content to a model")
        self._known: dict[str, Sound | None] = {}
        self._lock = threading.Lock()
        self._session = requests.Session()
        self._session.auth = lambda request: request  # or ~/.netrc would say who is asking

    @property
    def host(self) -> str:
        """Who is asked."""
        return urlsplit(self._address).hostname or self._address

    def find(self, songs: Sequence[Song]) -> tuple[list[Sound | None], str]:
        """How each song sounds, None where the service does not know or was not asked; and what went wrong, or "".

        A song without an id cannot be asked for.
        """
        wanted = list(dict.fromkeys(song.track_id for song in songs if song.track_id))
        trouble = ""
        try:
            self._ask_for(wanted)
        except LookupFailedError as error:
            trouble = str(error)
        return [self._known.get(song.track_id) for song in songs], trouble

    def _ask_for(self, ids: Sequence[str]) -> None:
        if not self._missing(ids):
            return
        if not self._lock.acquire(blocking=False):
            raise LookupFailedError(f"{self.host} is being asked by somebody else at this moment; try again soon")
        try:
            if len(self._known) > MOST_REMEMBERED:
                self._known = {}
            missing = self._missing(ids)
            end = time.monotonic() + self._longest
            for start in range(0, len(missing), AT_ONCE):
                self._check_time(end)
                lot = missing[start : start + AT_ONCE]
                self._known |= dict.fromkeys(lot) | self._sounds(lot, end)
        finally:
            self._lock.release()

    def _missing(self, ids: Sequence[str]) -> list[str]:
        return [one for one in ids if one not in self._known]

    def _check_time(self, end: float) -> None:
        if time.monotonic() > end:
            raise LookupFailedError(f"{self.host} is slow; the rest is asked for when you try again")

    def _sounds(self, lot: Sequence[str], end: float) -> dict[str, Sound | None]:
        """What the service says of some songs. It leaves out those that it does not know."""
        code, headers, body = self._answer(lot, end)
        while code == 429:
            wait = _seconds(headers.get("Retry-After"))
            if time.monotonic() + wait > end:
                raise LookupFailedError(f"{self.host} asks to wait for {wait} seconds; try again then")
            time.sleep(wait)
            code, headers, body = self._answer(lot, end)
        if code != 200:
            raise LookupFailedError(f"{self.host} answers {code}; try again later")
        try:
            rows = json.loads(body)["content"]
            sounds = [sound for row in rows if (sound := _sound(row))]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise LookupFailedError(f"the answer of {self.host} is not understood") from None
        return {sound.song.track_id: sound for sound in sounds if sound.song.track_id in lot}

    def _answer(self, lot: Sequence[str], end: float) -> tuple[int, Any, bytes]:
        """Status, headers and body of one request. No redirect is followed: the ids go where the setting says."""
        left = max(0.1, end - time.monotonic())
        try:
            with self._session.get(
                f"{self._address}/audio-features",
                params={"ids": ",".join(lot)},
                headers={"Accept": "application/json", "User-Agent": "visage-fm"},
                timeout=(min(TIMEOUT[0], left), min(TIMEOUT[1], left)),
                allow_redirects=False,
                stream=True,
            ) as answer:
                body = b""
                while piece := answer.raw.read1(65_536, decode_content=True):  # what is there, however little
                    self._check_time(end)
                    body += piece
                    if len(body) > LONGEST_ANSWER:
                        raise LookupFailedError(f"the answer of {self.host} has no end")
                return answer.status_code, answer.headers, body
        except (requests.RequestException, HTTPError) as error:
            self._check_time(end)
            raise LookupFailedError(f"{self.host} cannot be reached ({type(error).__name__})") from None


def _sound(row: Any) -> Sound | None:
    """A song of the answer; None without all nine features, or without a link to a song of Spotify's."""
    values = [row.get(name) for name in FEATURES]
    if any(not isinstance(value, int | float) for value in values):
        return None
    if any(fault_of(name, value) for name, value in zip(FEATURES, values, strict=True)):
        return None
    return Sound(tuple(map(float, values)), Song(id_in(str(row.get("href")))))


def _seconds(retry_after: str | None) -> int:
    """How long a service asks to wait; a second at least, or it would be asked without a pause."""
    text = (retry_after or "").strip()
    return max(1, min(int(text[:12]), 10**9)) if text.isdecimal() else 1
