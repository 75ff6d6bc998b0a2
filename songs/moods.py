"""Song lists from a table of labelled songs: the commands `label`, `playlists` and `check`.

`python -m model.song_moods label` and `playlists`, `python -m songs.catalog check`; docs/song-moods.md shows them.
Exit codes: 0 done, 2 it cannot be done.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from errno import ENOENT
from pathlib import Path

from model.emotions import EMOTIONS, Emotion
from model.files import folder_fault
from model.song_moods import EMOTIONS_OF, SongMoodsError, load_song_moods
from model.song_table import FAULTS_SAID, LONGEST_FIELD, TableError, hint, label
from songs.catalog import Track, append_tracks, id_in, list_of, measure, names_of, not_in, read_tracks, write_tracks
from songs.dotenv import DotenvError, own_lists
from songs.features import SONG_COLUMNS, artists_in, song_columns
from songs.synced import PLAYLISTS, forget_fetch, is_refreshed
from terminal.stdio import complain, exit_code, say, spoken_beside

NAMES = {  # how tables in circulation call a column
    **SONG_COLUMNS,
    "album": ("album", "album_name", "album name", "track_album_name"),
    "duration_ms": ("duration_ms", "duration (ms)", "track duration (ms)"),
    "added_at": ("added_at", "added at"),
    "emotion": ("emotion",),
    "confidence": ("confidence",),
    "valence": ("valence",),
    "energy": ("energy",),
}
NEEDED = ("track_id", "title", "emotion", "confidence")
SPARE = 20  # times as many songs are looked at as a list takes, to vary the artists
ALSO_IN = {
    Emotion.ANGRY: (Emotion.DISGUST,),
    Emotion.SURPRISE: (Emotion.ANGRY, Emotion.DISGUST, Emotion.HAPPY),  # energetic: which of these, nobody can tell
}
"""Where else than in its own emotion's list a song does not disagree."""

Song = tuple[float, int, Track]
"""Confidence, minus the place in the table (so that ties keep its order), and the song."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    options = _parser().parse_args(arguments)
    return exit_code(lambda: options.command(options), TableError, SongMoodsError, DotenvError)


def label_songs(options: argparse.Namespace) -> None:
    """Add mood, emotion and confidence to a table of songs with audio features, lyrics or both."""
    tell = spoken_beside(options.out)
    tally = label(options.table, options.out, load_song_moods(), complain, _bar())
    if tally.faults > FAULTS_SAID:
        complain(f"... and {tally.faults - FAULTS_SAID} more")
    counted = ", ".join(f"{n} {mood}" for mood, n in tally.moods.most_common())
    tell(f"{options.out}: {tally.moods.total()} songs: {counted or 'none'}; {tally.faults} rows with a fault")


def make_playlists(options: argparse.Namespace) -> None:
    """Make the song lists from a labelled table: the surest songs, each artist as rarely as possible."""
    chosen = choose(labelled_songs(options.table), options.top)
    for line in write_lists(chosen, options.songs, options.append):
        say(line)


def check_lists(options: argparse.Namespace) -> None:
    """Name the songs whose labelled mood disagrees with the list they sit in; says nothing else."""
    folder = options.songs or own_lists()
    if not any(list_of(folder, emotion).exists() for emotion in EMOTIONS):
        raise FileNotFoundError(ENOENT, "none of the seven lists is in it", str(folder))
    lists = {emotion: listed(list_of(folder, emotion)) for emotion in EMOTIONS}
    known = {track.track_id for tracks in lists.values() for track in tracks}
    labelled = {
        track.track_id: (emotion, sure)
        for emotion, (sure, _, track) in labelled_songs(options.table)
        if track.track_id in known and sure >= options.sure
    }
    if not labelled:
        complain(f"none of the {len(known)} songs in {folder} has a mood in {options.table}, so none was checked")
    for emotion, tracks in lists.items():
        for track in tracks:
            sounds, sure = labelled.get(track.track_id, (emotion, 0.0))
            if emotion != sounds and emotion not in ALSO_IN.get(sounds, ()):
                say(f"{emotion}: {track.artist}: {track.title} is labelled {sounds} ({sure:.2f})")


def labelled_songs(table: Path) -> Iterator[tuple[Emotion, Song]]:
    """The songs of a labelled table with the emotion each has, one by one. Raises TableError and OSError.

    Songs without a mood are skipped; of rows that are none the first are complained of, and how many more there are.
    """
    faults = 0
    csv.field_size_limit(LONGEST_FIELD)
    with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file)
        try:
            places = _places(next(rows, []))
        except csv.Error as error:
            raise TableError(f"{table}: its first line is no header: {error}") from None
        except TableError as error:
            raise TableError(f"{table}: {error}") from None
        while True:
            try:
                row = next(rows)
                if row and (song := _song(row, places, rows.line_num)):
                    yield song
            except StopIteration:
                if faults > FAULTS_SAID:
                    complain(f"... and {faults - FAULTS_SAID} more")
                return
            except (ValueError, IndexError, csv.Error) as error:
                faults += 1
                if faults <= FAULTS_SAID:
                    complain(f"line {rows.line_num}: {'too few columns' if isinstance(error, IndexError) else error}")


def write_lists(chosen: Mapping[Emotion, Sequence[Track]], folder: Path, append: bool) -> Iterator[str]:
    """Write the lists of a folder that have songs, one by one, and say how each went. Raises TableError and OSError."""
    for emotion in chosen:
        path = list_of(folder, emotion)
        if not chosen[emotion]:
            yield f"{emotion}: no song for it, the list stays as it is"
            continue
        try:
            before = read_tracks(path)[0] if append and path.exists() else []
        except ValueError as error:
            raise TableError(f"{path} is not a song list, and nothing is added to it: {error}") from None
        new = not_in(before, chosen[emotion])
        if new:
            forget_fetch(path)
            (append_tracks if append else write_tracks)(path, new)
        artists = len({track.artist for track in new})
        yield f"{emotion}: {len(before) + len(new)} songs, {artists} artists among the new{undone(path) if new else ''}"


def undone(path: Path) -> str:
    """What is to be said of a list that was changed here, if a refresh will fetch it anew."""
    why = "; a refresh brings back what its playlist holds: change that too, or take it out of"
    return f"{why} {path.with_name(PLAYLISTS)}" if is_refreshed(path) else ""


def choose(songs: Iterable[tuple[Emotion, Song]], top: int) -> dict[Emotion, list[Track]]:
    """At most `top` songs an emotion, from the surest, varied by artist; in bounded memory.

    What the list of a song's own emotion has no room for goes to the emotion's borrowers, see EMOTIONS_OF.
    """
    surest: dict[Emotion, list[Song]] = {emotion: [] for emotion in EMOTIONS}
    for emotion, song in songs:
        if len(surest[emotion]) < SPARE * top:
            heapq.heappush(surest[emotion], song)
        else:
            heapq.heappushpop(surest[emotion], song)
    chosen: dict[Emotion, list[Track]] = {emotion: [] for emotion in EMOTIONS}
    for lists in sorted({emotions for emotions in EMOTIONS_OF.values() if emotions}):
        left: list[Track] = []
        for emotion in lists:
            left = [*varied(track for _, _, track in sorted(surest[emotion], reverse=True)), *left]
            chosen[emotion], left = left[:top], left[top:]
    return chosen


def varied(tracks: Iterable[Track]) -> list[Track]:
    """The same songs, each once whatever its ids; every artist has had a turn before one has another."""
    turns: Counter[str] = Counter()
    rounds: defaultdict[int, list[Track]] = defaultdict(list)
    seen: set[str] = set()
    for track in tracks:
        if not names_of(track) & seen:
            seen |= names_of(track)
            artist = track.artist.casefold() or track.track_id
            rounds[turns[artist]].append(track)
            turns[artist] += 1
    return [track for turn in sorted(rounds) for track in rounds[turn]]


def existing_folder(text: str) -> Path:
    """The folder that an argument names; argparse says it when there is none."""
    path = Path(text)
    if fault := folder_fault(path):
        raise argparse.ArgumentTypeError(f"{text}: {fault}; make it first, or give another")
    return path


def listed(path: Path) -> list[Track]:
    """The songs of a list, none without one. Raises TableError and OSError."""
    try:
        return read_tracks(path)[0]
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise TableError(f"{path} is not a song list: {error}") from None


def _places(header: list[str]) -> Mapping[str, int]:
    """Where the columns stand, by our name; TableError says which are missing."""
    names = [name.strip().casefold() for name in header]
    places = song_columns(names, NAMES)
    if missing := [name for name in NEEDED if name not in places]:
        labelled = "emotion and confidence come from .venv/bin/python -m model.song_moods label"
        needed = "a list needs every song's Spotify id and title"
        unlabelled = {"emotion", "confidence"} & set(missing)
        why = labelled if unlabelled else needed
        raise TableError(f"it has no column {', '.join(missing)}{hint(header)}; {why}")
    return places


def _song(row: list[str], places: Mapping[str, int], line: int) -> tuple[Emotion, Song] | None:
    """A row as a song; None without an emotion. ValueError says what is wrong."""
    cells = {name: row[place].strip() for name, place in places.items()}
    if not cells["emotion"]:
        return None
    if re.search("[\udc80-\udcff]", "".join(cells.values())):
        raise ValueError("it is not UTF-8: save the table again as UTF-8")
    confidence = measure(cells["confidence"])
    if confidence is None:
        raise ValueError(f"its confidence is {cells['confidence']!r}, not a number from 0 to 1")
    length = cells.get("duration_ms", "").partition(".")[0]
    track = Track(
        id_in(cells["track_id"]) or cells["track_id"],
        cells["title"],
        artists_in(cells.get("artist", "")),
        cells.get("album", ""),
        int(length) if length.isdecimal() else None,
        cells.get("added_at", "")[: len("2026-01-31")],
        measure(cells.get("valence", "")),
        measure(cells.get("energy", "")),
    )
    emotion = cells["emotion"].casefold()
    if emotion not in set(EMOTIONS):
        raise ValueError(f"its emotion is {cells['emotion']!r:.40}, none of {', '.join(EMOTIONS)}")
    return Emotion(emotion), (confidence, -line, track)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model.song_moods", description="Songs that know their own mood; docs/song-moods.md"
    )
    commands = parser.add_subparsers(title="commands", metavar="command", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], None], table: str, prog: str | None = None
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, prog=prog, help=run.__doc__, description=run.__doc__)
        made.add_argument("table", type=Path, metavar=table)
        made.set_defaults(command=run)
        return made

    one = command("label", label_songs, "SONGS.csv")
    one.add_argument("--out", type=Path, required=True, metavar="LABELLED.csv")
    one = command("playlists", make_playlists, "LABELLED.csv")
    one.add_argument("--songs", type=existing_folder, required=True, metavar="DIR", help="where the seven lists are")
    one.add_argument("--append", action="store_true", help="add new songs and keep the old ones (default: replace)")
    one.add_argument("--top", type=_positive, default=100, metavar="100", help="songs a list")
    one = command("check", check_lists, "LABELLED.csv", prog="python -m songs.catalog check")
    one.add_argument("--songs", type=existing_folder, metavar="DIR", help="where the lists are (default: the site's)")
    one.add_argument("--sure", type=_share, default=0.5, metavar="0.5", help="name songs from this confidence on")
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _share(text: str) -> float:
    share = measure(text)
    if share is None:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")
    return share


def _bar() -> Callable[[float], None]:
    """Draws how far it is, at a terminal."""
    if not sys.stderr.isatty():
        return lambda share: None

    def draw(share: float) -> None:
        end = "\n" if share >= 1 else ""
        sys.stderr.write(f"\r[{'#' * round(30 * share):<30}] {share:4.0%}{end}")
        sys.stderr.flush()

    return draw
