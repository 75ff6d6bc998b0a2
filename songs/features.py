"""How songs sound, from a table that somebody has: nine measures a song, found by its id or by artist and title.

Nothing here asks Spotify, and what Spotify's API answers does not belong in such a table: docs/song-moods.md says why.
"""

from __future__ import annotations

import ast
import csv
import html
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.files import stamp_of
from model.song_moods import FEATURES, fault_of
from songs.catalog import id_in, plain

SONG_COLUMNS: Mapping[str, tuple[str, ...]] = {  # how tables in circulation call a column
    "track_id": ("track_id", "id", "spotify_id", "spotify id", "track_uri", "track uri", "uri"),
    "title": ("title", "name", "track_name", "track name", "song"),
    "artist": ("artist", "artists", "artist_name", "artist name", "artist name(s)", "track_artist"),
}
MOST_LINES = 20  # of a row that has not the header's columns; a longer one is a quotation mark that is never closed
LONGEST_FIELD = 500_000  # characters; what an unclosed quotation mark may swallow
MOST_REMEMBERED = 50_000  # names of songs that were asked for, unless they were asked for at once
ASIDES = (  # guests before a title, guests behind it, remasters
    r"^[(\[](?:feat|ft)\.[^)\]]*[)\]]\s*",
    r"\s*[(\[]?\b(?:feat|ft)\..*$",
    r"\s*[-(\[][^-(\[]*\bremaster.*$",
)


class FeaturesError(Exception):
    """The table cannot be used at all; the message says why."""


@dataclass(frozen=True, slots=True)
class Song:
    """What is asked about: a song by its Spotify id, by artist and title, or both."""

    track_id: str = ""
    title: str = ""
    artist: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """What it is found by, the surest first: its id; its first artist and its title, as they are compared."""
        name = f"{_first(self.artist)}|{_plain(self.title)}" if self.title and self.artist else ""
        return tuple(key for key in (self.track_id, name) if key)

    @property
    def guesses(self) -> tuple[str, ...]:
        """The same of a song that somebody typed: "Title - Artist" is as common as "Artist - Title"."""
        return self.keys if self.track_id else self.keys + Song(title=self.artist, artist=self.title).keys


@dataclass(frozen=True, slots=True)
class Sound:
    """How a song sounds: `features` in the order of FEATURES, and the song as its source names it."""

    features: tuple[float, ...]
    song: Song = Song()

    @property
    def place(self) -> tuple[float, float]:
        """Its valence and energy, 0 to 1 each."""
        return self.features[FEATURES.index("valence")], self.features[FEATURES.index("energy")]


class Wanted:
    """Songs by their keys, and a quick look that leaves out nearly all others: a table may have a million rows."""

    def __init__(self, keys: set[str]) -> None:
        self._keys = keys
        self._starts = {key.partition("|")[2][:6] for key in keys if "|" in key}
        self._lengths = {len(start) for start in self._starts}

    def perhaps(self, track_id: str, title: str) -> bool:
        """False if this is none of the songs."""
        if (track_id if len(track_id) == 22 else id_in(track_id)) in self._keys:
            return True
        head = title.strip()[:7]  # a seventh character that is an accent belongs to the sixth
        simple = head.isascii() and head.isprintable() and "  " not in head and not head.startswith(("(", "["))
        start = head[:6].casefold() if simple else _plain(title)[:6]
        return any(start[:length] in self._starts for length in self._lengths)


class FeatureTable:
    """A CSV of songs with the columns of FEATURES. Threads may share it; what is known is said while others read.

    It may be far larger than the memory: it is read from end to end for songs that were not asked for before,
    and only their rows are kept, until the file changes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Sound | None] = {}
        self._stamp: tuple[int, ...] = ()
        self._fault = ""  # of the file as it is; a long table is not read again for it
        self._lock = threading.Lock()  # of what it remembers
        self._reading = threading.Lock()

    def check(self) -> None:
        """Raises FeaturesError unless it is a table of songs and features, of which one at least can be used."""
        faults: list[str] = []
        if not next(self._rows(faults=faults), None) and faults:
            raise FeaturesError(f"{self._path}: no row of it can be used; {faults[0]}")

    def find(self, songs: Sequence[Song]) -> list[Sound | None]:
        """How each song sounds; None for those that the table does not have. Raises FeaturesError."""
        asked = [song.guesses for song in songs]
        keys = {key for keys in asked for key in keys}
        found = self._remembered(keys)
        if keys - found.keys():
            with self._reading:
                found |= self._remembered(keys)  # somebody may have read them meanwhile
                if wanted := keys - found.keys():
                    found |= self._read(wanted, found)
        return [next((sound for key in keys if (sound := found.get(key))), None) for keys in asked]

    def _remembered(self, keys: set[str]) -> dict[str, Sound | None]:
        """What is known of these keys. Raises FeaturesError when the table has gone."""
        try:
            stamp = stamp_of(self._path)
        except OSError as error:
            raise FeaturesError(f"{self._path}: {error.strerror}") from None
        with self._lock:
            if stamp != self._stamp:
                self._found, self._stamp, self._fault = {}, stamp, ""
            if self._fault:
                raise FeaturesError(self._fault)
            return {key: self._found[key] for key in keys & self._found.keys()}

    def _read(self, wanted: set[str], known: Mapping[str, Sound | None]) -> dict[str, Sound | None]:
        """What the table says of these keys, to be remembered with those `known`. Raises FeaturesError."""
        found: dict[str, Sound | None] = dict.fromkeys(wanted)
        for sound in self._rows(Wanted(wanted)):
            for key in wanted.intersection(sound.song.keys):
                found[key] = found[key] or sound  # of two rows the first counts
        with self._lock:  # of a table that could not be read to its end, nothing is remembered
            rest = {} if len(self._found) + len(found) > MOST_REMEMBERED else self._found
            self._found = {**rest, **known, **found}
        return found

    def _rows(self, wanted: Wanted | None = None, faults: list[str] | None = None) -> Iterator[Sound]:
        """The good rows, one by one; of all, or of those that `wanted` may name. Raises FeaturesError.

        `faults` gains what is wrong with the first row that is not good.
        """
        csv.field_size_limit(LONGEST_FIELD)
        try:
            with self._path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
                rows = csv.reader(file)
                header = next(rows, [])
                columns = columns_of(header)
                for row in _parsed(rows, len(header)):
                    if sound := sound_in(row, columns, wanted):
                        yield sound
                    elif faults == []:
                        faults.append(f"line {rows.line_num}: {fault_in(row, columns) or 'it has no measures'}")
        except csv.Error as error:
            raise FeaturesError(f"{self._path}: its first line is no header: {error}") from None
        except FeaturesError as error:
            self._fault = f"{self._path}: {error}"
            raise FeaturesError(self._fault) from None
        except OSError as error:
            raise FeaturesError(f"{self._path}: {error.strerror}") from None


def columns_of(header: Sequence[str]) -> Mapping[str, int]:
    """Where songs and features stand under a header. FeaturesError says what is missing."""
    names = [name.strip().casefold() for name in header]
    columns = song_columns(names)
    if missing := [name for name in FEATURES if name not in names]:
        raise FeaturesError(
            f"it has no column {', '.join(missing)} (a table is UTF-8, its columns separated by commas)"
        )
    if "track_id" not in columns and not {"title", "artist"} <= columns.keys():
        raise FeaturesError("it has no column track_id, nor title and artist")
    return columns | {name: names.index(name) for name in FEATURES}


def song_columns(names: Sequence[str], known: Mapping[str, Sequence[str]] = SONG_COLUMNS) -> dict[str, int]:
    """Where the columns `known` stand by some names, as far as they are among the (lower-case) `names` of columns."""
    found = {ours: [names.index(one) for one in called if one in names] for ours, called in known.items()}
    return {ours: places[0] for ours, places in found.items() if places}


def song_in(row: Sequence[str], columns: Mapping[str, int]) -> Song:
    """The song that a row names; what is no Spotify id is left out. IndexError on a row that is too short."""
    cells = {name: " ".join(row[columns[name]].split()) for name in SONG_COLUMNS if name in columns}
    return Song(id_in(cells.get("track_id", "")), cells.get("title", ""), artists_in(cells.get("artist", "")))


def artists_in(cell: str) -> str:
    """The artists of a cell with commas between, of a list as Python writes it and of one with semicolons too."""
    if cell.startswith("[") and cell.endswith("]"):
        with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return ", ".join(ast.literal_eval(cell)).encode(errors="replace").decode()  # half a character is none
    return ", ".join(filter(None, map(str.strip, html.unescape(cell).split(";"))))


def sound_in(row: Sequence[str], columns: Mapping[str, int], wanted: Wanted | None = None) -> Sound | None:
    """A row with all nine features; None without them, and for most songs that are not `wanted`."""
    try:
        if wanted:
            id_at, title_at = (columns.get(name) for name in ("track_id", "title"))
            if not wanted.perhaps("" if id_at is None else row[id_at], "" if title_at is None else row[title_at]):
                return None
        song = song_in(row, columns)
        texts = [row[columns[name]] for name in FEATURES]
    except IndexError:
        return None
    if any(fault_of(name, text) for name, text in zip(FEATURES, texts, strict=True)):
        return None
    return Sound(tuple(float(text) for text in texts), song)


def fault_in(row: Sequence[str], columns: Mapping[str, int]) -> str:
    """What is wrong with the features of a row; "" when nothing is, or when it has none."""
    if len(row) <= max(columns.values()):
        return "too few columns"
    texts = [row[columns[name]].strip() for name in FEATURES]
    faults = (fault for name, text in zip(FEATURES, texts, strict=True) if (fault := fault_of(name, text)))
    return next(faults, "") if any(texts) else ""


def _parsed(rows: Any, width: int) -> Iterator[list[str]]:
    """The rows of a csv.reader that can be parsed. FeaturesError where a quotation mark swallows those that follow.

    Such a row has several lines and not the header's `width`; it goes on to the end, or until it is too long.
    """
    swallows = 0  # the line where the last row began, if it may be such a one
    while True:
        first = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error:
            row = []
        if row is not None:
            lines = rows.line_num - first
            swallows = first if lines and len(row) != width else 0
        if swallows and (not row or lines > MOST_LINES):
            raise FeaturesError(f"line {swallows} opens a quotation mark that is not closed: mend that line")
        if row is None:
            return
        if row:
            yield row


def _plain(text: str) -> str:
    """A name as it is compared: without case, marks of width, guests and remasters."""
    text = plain(text)
    for aside in ASIDES:
        text = re.sub(aside, "", text) or text  # "Ft. Worth Blues" is a name
    return text


def _first(artists: str) -> str:
    """The first of several artists, as it is compared."""
    return re.split(r"\s*[,;&]\s*", _plain(artists), maxsplit=1)[0].strip("'\"")
