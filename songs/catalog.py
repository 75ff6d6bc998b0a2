"""The song lists: an emotion in, its playlist out. The only reader and writer of the CSVs.

A list is `<emotion>.csv`: UTF-8, a header, one line a song, with `COLUMNS` and perhaps `MEASURES`. Other columns may
be there and are not read; a spreadsheet may have put semicolons or tabs where the commas were. `songs.synced` says when
each was last fetched.
"""

from __future__ import annotations

import csv
import io
import logging
import re
import sys
import threading
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from model.emotions import EMOTIONS, Emotion
from model.files import replace_text, stamp_of
from songs.synced import SYNCED, fetch_times

COLUMNS = ("track_id", "title", "artist", "album", "duration_ms", "added_at")
MEASURES = ("valence", "energy")  # how a song sounds, 0 to 1, where somebody knows it; a sync brings none
LONGEST_TEXT = 300  # characters
LINK = r"(?:https?://open\.spotify\.com/(?:[\w-]+/)?track/|spotify:track:)?([0-9A-Za-z]{22})/?(?:[?#]\S*)?"
TYPED = str.maketrans("\u2018\u2019\u2010\u2011", "''--")  # what keyboards have for what typesetters set
LONGEST_SONG = 24 * 60 * 60 * 1000  # milliseconds; anything above is no song
REASONS_LOGGED = 20

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Track:
    """A song on Spotify, fit to be shown: its texts are cleaned and at most `LONGEST_TEXT` characters.

    `duration_ms` is in milliseconds, None where it is unknown or absurd; `added_at` is an ISO date; `valence` (from sad
    to happy) and `energy` are 0 to 1, None where they are not known.
    Raises ValueError on an id that is none of Spotify's, or without a title.
    """

    track_id: str
    title: str
    artist: str
    album: str
    duration_ms: int | None
    added_at: str
    valence: float | None = None
    energy: float | None = None

    def __post_init__(self) -> None:
        for name in ("title", "artist", "album", "added_at"):
            object.__setattr__(self, name, _clean(getattr(self, name)))
        if not re.fullmatch("[0-9A-Za-z]{22}", self.track_id):
            raise ValueError(f"{self.track_id[:40]!r} is not a Spotify track id (22 letters and digits)")
        if not self.title:
            raise ValueError("the title is missing")
        if self.duration_ms is not None and not 0 < self.duration_ms <= LONGEST_SONG:
            object.__setattr__(self, "duration_ms", None)

    @property
    def url(self) -> str:
        """Where the song can be heard."""
        return f"https://open.spotify.com/track/{self.track_id}"

    def as_dict(self) -> dict[str, str | int | None]:
        """What the site's JSON says of a song."""
        return {
            "track_id": self.track_id,
            "title": self.title,
            "artist": self.artist,
            "album": self.album,
            "duration_ms": self.duration_ms,
            "url": self.url,
        }


@dataclass(frozen=True, slots=True)
class Playlist:
    """The songs for an emotion, in the order of its list; `fetched_at` is ISO, None if never synced.

    Songs that lead to another emotion have `steps`: for each track the list it is from.
    """

    emotion: Emotion
    tracks: tuple[Track, ...]
    fetched_at: str | None
    steps: tuple[Emotion, ...] = ()


class Catalog:
    """The song lists of a folder. A list that changes on disk is read again when it is next asked for.

    Threads may share a Catalog: one lock covers everything it remembers. A list that cannot be
    read leaves the songs last read in place (none, if there were none), and the log says why.
    """

    def __init__(self, folder: Path) -> None:
        self._lists = {e: _Remembered[tuple[Track, ...]](list_of(folder, e), _songs, ()) for e in EMOTIONS}
        self._synced = _Remembered[Mapping[str, str]](folder / SYNCED, _fetch_times, {})
        self._lock = threading.Lock()

    def playlist(self, emotion: Emotion) -> Playlist:
        """The songs for an emotion, as its list stands now. Never raises on what a file holds."""
        with self._lock:
            return Playlist(emotion, self._lists[emotion].value(), self._synced.value().get(emotion))


def list_of(folder: Path, emotion: Emotion) -> Path:
    """Where a folder has the list of an emotion."""
    return folder / f"{emotion}.csv"


def read_tracks(path: Path) -> tuple[list[Track], list[str]]:
    """The good rows of a list, and for every other row why it was dropped ("line 7: the title is missing").

    A duration that is no number of milliseconds becomes None; its row stays. Of two rows with
    one id the first stays. Raises OSError if the file cannot be opened, ValueError if it is no song list.
    """
    rows, dropped = _rows(path.read_bytes().decode("utf-8-sig", errors="surrogateescape"))
    tracks: dict[str, Track] = {}
    for line, row in rows.items():
        try:
            track = _track(row)
            if track.track_id in tracks:
                raise ValueError(f"{track.track_id} is in the list already")
            tracks[track.track_id] = track
        except ValueError as error:
            dropped[line] = str(error)
    return list(tracks.values()), [f"line {line}: {dropped[line]}" for line in sorted(dropped)]


def write_tracks(path: Path, tracks: Iterable[Track]) -> None:
    """Make `path` the list of these songs, all at once or not at all. Raises OSError."""
    tracks = list(tracks)
    columns = _columns(tracks)
    replace_text(path, ",".join(columns) + "\n" + _lines_of(tracks, columns))


def append_tracks(path: Path, tracks: Iterable[Track]) -> None:
    """Add songs to a list, all at once or not at all; lines that are no songs, and columns that are not ours, stay.

    Where there is no list one begins. Raises OSError, and ValueError if it is no song list.
    """
    if not path.exists():
        write_tracks(path, tracks)
        return
    head, columns, rows = _text_of(path)
    tracks = list(tracks)
    missing = [name for name in _columns(tracks) if name not in columns]
    if missing:
        head[-1] = ",".join([head[-1], *missing])
        rows = [row + "," * len(missing) if _cells(row, columns) else row for row in rows]
    more = _lines_of(tracks, [*columns, *missing])
    replace_text(path, "\n".join([*head, *rows, more]), errors="surrogateescape")


def remove_tracks(path: Path, ids: Collection[str]) -> None:
    """Take the songs with these ids out of a list, all at once or not at all; every other line stays.

    Raises OSError, and ValueError if it is no song list.
    """
    head, columns, rows = _text_of(path)
    at = columns.index("track_id")
    kept = [row for row in rows if not (cells := _cells(row, columns)) or (id_in(cells[at]) or cells[at]) not in ids]
    replace_text(path, "\n".join([*head, *kept, ""]), errors="surrogateescape")


def id_in(text: str) -> str:
    """The Spotify id in an id, a URI or a link to a song; "" if it is none of them."""
    found = re.fullmatch(LINK, text.strip().strip("<>\"'"))
    return found[1] if found else ""


def plain(text: str) -> str:
    """A name as it is compared: without case, width, doubled blanks and a typesetter's apostrophes and hyphens."""
    return " ".join(unicodedata.normalize("NFKC", text.translate(TYPED)).casefold().split())


def names_of(track: Track) -> set[str]:
    """What makes two tracks the same song, if they share one: one recording has several ids at Spotify."""
    return {track.track_id} | ({f"{plain(track.title)} by {plain(track.artist)}"} if track.artist else set())


def not_in(old: Iterable[Track], tracks: Iterable[Track]) -> list[Track]:
    """The songs that are not among the old ones."""
    seen = {name for track in old for name in names_of(track)}
    return [track for track in tracks if not names_of(track) & seen]


def delimiter_of(header: str) -> str:
    """What is between columns: commas, in some countries semicolons, tabs in what is copied from a spreadsheet."""
    return max(",;\t", key=header.count)


def measure(text: str) -> float | None:
    """A number from 0 to 1, with a point or a comma in it; None if it is none."""
    with suppress(ValueError):
        if 0 <= (number := float(text.replace(",", "."))) <= 1:
            return number
    return None


class _Remembered(Generic[T]):
    """What a file said when it was last good, read again once the file has changed. Not for two threads at once."""

    def __init__(self, path: Path, read: Callable[[Path], T], nothing: T) -> None:
        self._path, self._read, self._value = path, read, nothing
        self._seen: tuple[int, ...] | None = ()
        self._trouble = ""

    def value(self) -> T:
        """The file's content, or what it said last with a line in the log."""
        try:
            # Stamped before it is read: what is written meanwhile is read next time.
            stamp = _stamp(self._path)
            if stamp != self._seen:
                self._value, self._seen, self._trouble = self._read(self._path), stamp, ""
        except ValueError as error:
            self._seen, self._trouble = stamp, ""
            logger.warning("%s is not used, what it said last stays: %s", self._path, error)
        except OSError as error:
            # It may pass without the file changing (too many open files), so it is tried again
            # with every request, and logged once.
            if self._trouble != str(error):
                logger.warning("%s cannot be read, what it said last stays: %s", self._path, error.strerror)
            self._seen, self._trouble = (), str(error)
        return self._value


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when the file does; None without a file."""
    try:
        return stamp_of(path)
    except FileNotFoundError:
        return None


def _songs(path: Path) -> tuple[Track, ...]:
    """The songs of a list; what is wrong with it goes to the log. ValueError if no row of it is good."""
    tracks, dropped = read_tracks(path)
    reasons = "; ".join(dropped[:REASONS_LOGGED]) + ("; ..." if len(dropped) > REASONS_LOGGED else "")
    if dropped and not tracks:
        raise ValueError(f"no row is good: {reasons}")
    if dropped:
        logger.warning("%s: %d songs, and %d rows dropped: %s", path, len(tracks), len(dropped), reasons)
    elif not tracks:
        logger.warning("%s has no songs", path)
    return tuple(tracks)


def _columns(tracks: Sequence[Track]) -> tuple[str, ...]:
    """What is known of these songs."""
    measured = any(track.valence is not None or track.energy is not None for track in tracks)
    return (*COLUMNS, *MEASURES) if measured else COLUMNS


def _lines_of(tracks: Iterable[Track], columns: Sequence[str]) -> str:
    """Songs as lines of a list; a column that is not ours is left empty."""
    text = io.StringIO(newline="")
    ours = [column if column in (*COLUMNS, *MEASURES) else None for column in columns]
    csv.writer(text, lineterminator="\n").writerows(
        [column and getattr(track, column) for column in ours] for track in tracks
    )
    return text.getvalue()


def _fetch_times(path: Path) -> dict[str, str]:
    """When each list was fetched, by emotion; empty if the file is absent or broken."""
    try:
        return fetch_times(path.parent)
    except ValueError as error:
        logger.warning("%s is not understood, the lists show no date: %s", path, error)
        return {}


def _text_of(path: Path) -> tuple[list[str], list[str], list[str]]:
    """The lines of a list up to its header, its columns, and the lines below. ValueError if it is no list."""
    text = path.read_bytes().decode(errors="surrogateescape")
    lines = [line.rstrip("\n") for line in io.StringIO(text, newline=None)]
    below = next((n for n, line in enumerate(lines, 1) if line.strip("\ufeff \t")), 0)
    header = lines[below - 1].lstrip("\ufeff") if below else ""
    names, delimiter = _names(header)
    if delimiter != ",":
        lines[below - 1] = _line(names)
    rows = []
    for line in lines[below:]:
        try:
            rows.append(_row(line, names, delimiter))
        except ValueError:
            rows.append(line)
    return lines[:below], names, rows


def _rows(text: str) -> tuple[dict[int, Mapping[Any, str]], dict[int, str]]:
    """The rows of a CSV by line number, and why other lines are no rows. ValueError if it is no song list."""
    import pandas  # here: it takes longer to import than the rest of the site

    lines = {n: line.rstrip("\n") for n, line in enumerate(io.StringIO(text, newline=None), 1) if line.strip()}
    header = lines.pop(next(iter(lines))) if lines else ""
    names, delimiter = _names(header)
    # pandas does not say which lines it skips, and loses all that follows an unclosed quotation
    # mark. A song takes one line, so each line is checked by itself and brings its number along.
    numbered, faults = [_line(["line", *names])], {}
    for number, line in lines.items():
        try:
            numbered.append(f"{number},{_row(line, names, delimiter)}")
        except ValueError as error:
            faults[number] = str(error)
    frame = pandas.read_csv(io.StringIO("\n".join(numbered)), dtype=str, keep_default_na=False)
    return {int(row["line"]): row for row in frame.to_dict("records")}, faults


def _names(header: str) -> tuple[list[str], str]:
    """The columns of a list, and what is between them. ValueError if one of `COLUMNS` is not among them."""
    delimiter = delimiter_of(header)
    try:
        names = next(csv.reader([header], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise ValueError(f"its first line is no header: {error}") from None
    if missing := [column for column in COLUMNS if column not in names]:
        how = "a list is UTF-8, with commas, semicolons or tabs between its columns"
        raise ValueError(f"it has no column {', '.join(missing)} ({how})")
    return names, delimiter


def _row(line: str, names: Sequence[str], delimiter: str = ",") -> str:
    """A line with commas between all columns; the last ones may be left out. ValueError says why it is no row."""
    try:
        line.encode()
        cells = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except UnicodeEncodeError:
        raise ValueError("it is not UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"it cannot be parsed, look at its quotation marks ({error})") from None
    left_out = names[len(cells) :]
    if len(cells) > len(names) or set(left_out) & set(COLUMNS):
        raise ValueError(f"it has not the header's {len(names)} columns but {len(cells)}")
    return line + "," * len(left_out) if delimiter == "," else _line(cells + [""] * len(left_out))


def _cells(row: str, names: Sequence[str]) -> list[str]:
    """What stands in a row; nothing where it is none."""
    try:
        return next(csv.reader([_row(row, names)]))
    except ValueError:
        return []


def _line(cells: Sequence[str]) -> str:
    """Cells with commas between them, as a line without its end."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _track(row: Mapping[Any, str]) -> Track:
    """A row as a song. ValueError says what is wrong with it."""
    return Track(
        id_in(row["track_id"]) or row["track_id"].strip(),
        row["title"],
        row["artist"],
        row["album"],
        _duration(row["duration_ms"]),
        row["added_at"],
        measure(row.get("valence", "")),
        measure(row.get("energy", "")),
    )


def _duration(text: str) -> int | None:
    """Milliseconds; a spreadsheet's "218933.0" is a number too."""
    number = re.fullmatch(r"\s*([0-9]{1,9})([.,]0{0,2})?\s*", text)
    return int(number[1]) if number else None


def _clean(text: str) -> str:
    """One line of printable text, bounded. Joiners stay: emoji and Persian need them."""
    printable = "".join(c if c.isprintable() or c in "\u200c\u200d" else " " for c in text)
    return " ".join(printable.split())[:LONGEST_TEXT].rstrip()


if __name__ == "__main__":  # run, it compares lists with a labelled table; imported, it knows nothing of moods
    from songs.moods import main

    sys.exit(main())
