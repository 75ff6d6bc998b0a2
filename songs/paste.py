"""A playlist as somebody pastes it: a line each song, as a link, an id or "artist - title", or a CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from songs.catalog import Track, delimiter_of, id_in
from songs.features import FeaturesError, Song, Sound, columns_of, fault_in, song_columns, song_in, sound_in

MOST_LINES = 2_000  # that the site splits at once
MOST_BYTES = 200_000  # that it reads
LONGEST_LINE = 1_000  # characters; a longer one is no song
NO_PLAYLIST = (
    "That is the link of a playlist, and what is in a playlist only Spotify's API says. Paste the songs:"
    " open the playlist in Spotify's app, select all (Ctrl or Cmd and A), copy, and paste here: a link for each song."
)


class SplitError(Exception):
    """Nothing can be split; the message is for the person who asked, `code` is HTTP's."""

    code = 400


class TooMuchError(SplitError):
    """More than the site splits at once."""

    code = 413


@dataclass(frozen=True)
class Pasted:
    """What somebody pasted: its songs, each once; how they sound, if the paste says it; and what is wrong with it."""

    songs: tuple[Song, ...]
    sounds: Mapping[Song, Sound] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def read_songs(text: str, most: int | None = None) -> Pasted:
    """The songs of a paste: a line each, as a link, an id or "artist - title"; or a CSV with a header.

    Raises SplitError when there is none, and on more than `most` lines.
    """
    text = text.replace("\0", " ").removeprefix("\ufeff")
    lines = [line.strip() for line in text.splitlines()]
    if most is not None and len(lines) > most:
        raise SplitError(f"That is {len(lines):,} lines; {most:,} at a time, please.")
    first = next((line for line in lines if line), "")
    pasted = _from_table(text) if _is_header(first) else _from_lines(lines)
    if not pasted.songs:
        raise SplitError(pasted.faults[0] if pasted.faults else "There is no song in it: a line for each song, please.")
    return pasted


def songs_of(tracks: Iterable[Track]) -> Pasted:
    """The songs of a list. Their ids and names find features; nothing of them reaches the network."""
    return Pasted(tuple(Song(track.track_id, track.title, track.artist) for track in tracks))


def _is_header(line: str) -> bool:
    """Whether a line names the columns of a table rather than a song."""
    names = _cells(line.casefold())
    return "track_id" in song_columns(names) or {"title", "artist"} <= song_columns(names).keys()


def _cells(line: str) -> list[str]:
    with suppress(csv.Error, StopIteration):
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter_of(line), strict=True))]
    return []


def _from_lines(lines: Iterable[str]) -> Pasted:
    songs: dict[Song, None] = {}
    faults = []
    for number, line in enumerate(lines, 1):
        try:
            if line:
                songs[_song(line)] = None
        except SplitError as error:
            faults.append(f"Line {number}: {error}")
    return Pasted(tuple(songs), faults=tuple(faults))


def _song(line: str) -> Song:
    """The song of a line. SplitError says why it is none."""
    if len(line) > LONGEST_LINE:
        raise SplitError(f"it is longer than {LONGEST_LINE:,} characters.")
    if track_id := id_in(line):
        return Song(track_id)
    if re.search(r"spotify(\.com)?[:/](.*[:/])?playlist[:/]", line):
        raise SplitError(NO_PLAYLIST)
    if re.match(r"https?://|spotify:", line):
        raise SplitError(f"{line[:60]} is not the link of a song.")
    artist, dash, title = re.sub(r"\t|\s[\N{EN DASH}\N{EM DASH}]\s", " - ", line, count=1).partition(" - ")
    if not (dash and artist.strip() and title.strip()):
        raise SplitError(f"{line[:60]!r} is neither a link nor 'artist - title'.")
    return Song(title=title.strip(), artist=artist.strip())


def _from_table(text: str) -> Pasted:
    """The songs of a CSV, and how they sound if it has the columns for that."""
    text = re.sub(r"\A\s*\n", "", text)  # and no more: the first cell may be an empty one, before a tab
    delimiter = delimiter_of(text.partition("\n")[0])
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = next(rows)
    except csv.Error as error:
        raise SplitError(f"The first line is no header: {error}.") from None
    columns, sounding, numbers = song_columns([name.strip().casefold() for name in header]), False, set[int]()
    with suppress(FeaturesError):
        known = columns_of(header)
        numbers = set(known.values()) - set(columns.values())
        columns, sounding = dict(known), True
    songs: dict[Song, Sound | None] = {}
    faults = []
    try:
        for row in rows:
            if delimiter != ",":  # then a comma may stand in numbers
                row[:] = [cell.replace(",", ".") if at in numbers else cell for at, cell in enumerate(row)]
            song = song_in(row, columns) if len(row) >= len(header) else Song()
            if song.keys:
                songs[song] = songs.get(song) or (sound_in(row, columns) if sounding else None)
                if sounding and not songs[song] and (fault := fault_in(row, columns)):
                    faults.append(f"Line {rows.line_num}: {fault}.")
            elif any(map(str.strip, row)):
                faults.append(f"Line {rows.line_num}: it has no song in it.")
    except csv.Error as error:
        faults.append(f"Line {rows.line_num}: it cannot be parsed ({error}); nothing after it was read.")
    return Pasted(tuple(songs), {song: sound for song, sound in songs.items() if sound}, tuple(faults))
