"""A playlist split by mood: `python -m songs.split SONGS.txt --features TABLE.csv`, and the site's /split.

Songs come as ids, links or names, from a paste or from a list; how they sound comes from a table that somebody has, or
from a service that they switched on. Only these measures reach the network. Exit codes: 0 done, 2 it cannot be done.
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import BoundedSemaphore
from urllib.parse import urlsplit

import numpy as np

from model.emotions import EMOTIONS, Emotion
from model.files import replace_text
from model.song_moods import FEATURES, Mood, SongMoods, SongMoodsError, load_song_moods
from model.song_table import TableError
from songs.catalog import Track, list_of, remove_tracks
from songs.features import FeaturesError, FeatureTable, Song, Sound
from songs.lift import Place, own_places
from songs.lookup import Lookup, LookupFailedError
from songs.moods import ALSO_IN, choose, existing_folder, listed, undone, write_lists
from songs.paste import Pasted, SplitError, read_songs, songs_of
from songs.synced import forget_fetch
from terminal.stdio import complain, exit_code, spoken_beside

PATIENCE = 3600.0  # seconds that the command lets a service take; a playlist of thousands is asked for in minutes
AT_ONCE = 2  # splits; a large table or a slow service must not take the site's threads
COLUMNS = ("track_id", "title", "artist", "mood", "emotion", "confidence", "valence", "energy")
"""What `playlists` and `check` read."""
UNKNOWN = "unknown"
logger = logging.getLogger(__name__)


class BusyError(SplitError):
    """Others are being served."""

    code = 503


@dataclass(frozen=True)
class Placed:
    """A song and the list it belongs in: an emotion, "not sure", or "unknown" without features; and where it lies."""

    song: Song
    place: str
    mood: str
    confidence: float
    at: Place | None = None

    @property
    def emotion(self) -> Emotion | None:
        return Emotion(self.place) if self.place in set(EMOTIONS) else None

    @property
    def name(self) -> str:
        """The song in a line."""
        return " - ".join(part for part in (self.song.artist, self.song.title) if part) or self.song.track_id

    @property
    def url(self) -> str:
        """Where it can be heard; "" without an id."""
        return f"https://open.spotify.com/track/{self.song.track_id}" if self.song.track_id else ""


@dataclass(frozen=True)
class Split:
    """The songs in the order they came, and what went wrong; `whole` unless a service did not answer for all."""

    placed: tuple[Placed, ...]
    troubles: tuple[str, ...] = ()
    whole: bool = True

    @property
    def groups(self) -> dict[str, list[Placed]]:
        """The songs by list, the surest first; lists without a song are left out."""
        by_place = {
            place: [one for one in self.placed if one.place == place] for place in (*EMOTIONS, Mood.NOT_SURE, UNKNOWN)
        }
        return {
            str(place): sorted(found, key=lambda one: -one.confidence) for place, found in by_place.items() if found
        }


class Splitter:
    """Splits songs with a table, a service, both or neither at hand. Threads may share it."""

    def __init__(self, table: FeatureTable | None = None, lookup: Lookup | None = None) -> None:
        self.table, self.lookup = table, lookup
        self._places = BoundedSemaphore(AT_ONCE)

    @cached_property
    def _moods(self) -> SongMoods:
        return load_song_moods()

    def split(self, pasted: Pasted, look_up: bool = False) -> Split:
        """Where each song belongs; the service is asked for what the table does not have, if `look_up` says so.

        Raises SplitError when the table cannot be read, or when AT_ONCE others are at it.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError("Other playlists are being split at this moment; please try again in a while.")
        try:
            return self._split(pasted, look_up)
        finally:
            self._places.release()

    def _split(self, pasted: Pasted, look_up: bool) -> Split:
        sounds: list[Sound | None] = [pasted.sounds.get(song) for song in pasted.songs]
        troubles, trouble = list(pasted.faults), ""
        try:
            if self.table:
                sounds = _filled(sounds, self.table.find(pasted.songs))
        except FeaturesError as error:
            raise SplitError(str(error)) from None
        if self.lookup and look_up:
            missing = [song if sound is None else Song() for song, sound in zip(pasted.songs, sounds, strict=True)]
            answers, trouble = self.lookup.find(missing)
            sounds = _filled(sounds, answers)
            troubles += [trouble] if trouble else []
        return Split(tuple(self._placed(pasted.songs, sounds)), tuple(troubles), whole=not trouble)

    def places(self, tracks: Sequence[Track]) -> list[Place | None]:
        """Where songs lie, by their own list or by the table. A table that cannot be read is said in the log."""
        places = own_places(tracks)
        if self.table is None:
            return places
        try:
            sounds = self.table.find(songs_of(tracks).songs)
        except FeaturesError as error:
            logger.warning("%s", error)
            return places
        return [place or (sound.place if sound else None) for place, sound in zip(places, sounds, strict=True)]

    def _placed(self, songs: Sequence[Song], sounds: Sequence[Sound | None]) -> Iterable[Placed]:
        heard = [sound for sound in sounds if sound]
        values = np.array([sound.features for sound in heard]).reshape(-1, len(FEATURES))
        answers = iter(self._moods.audio.answers(values)) if heard else iter(())
        for song, sound in zip(songs, sounds, strict=True):
            if not sound:
                yield Placed(song, UNKNOWN, Mood.NOT_KNOWN, 0.0)
                continue
            answer = next(answers)
            yield Placed(
                _named(song, sound.song),
                str(answer.emotion or answer.mood),
                answer.mood,
                float(answer.confidence),
                sound.place,
            )


def as_csv(split: Split) -> str:
    """The songs and their lists as a CSV, which `playlists` and `check` read."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for one in split.placed:
        confidence = f"{one.confidence:.3f}" if one.confidence else ""
        song, at = one.song, one.at or ("", "")
        rows.writerow([song.track_id, song.title, song.artist, one.mood, one.emotion or "", confidence, *at])
    return text.getvalue()


def _filled(sounds: Iterable[Sound | None], more: Iterable[Sound | None]) -> list[Sound | None]:
    return [sound or other for sound, other in zip(sounds, more, strict=True)]


def _named(song: Song, known: Song) -> Song:
    """A song with what its source knows of it: an id for a name, a name for an id."""
    names = (song.title, song.artist) if song.track_id and song.title else (known.title, known.artist)
    title, artist = names if names[0] else (song.title, song.artist)
    return Song(song.track_id or known.track_id, title, artist)


# -- the command ---------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Split a file of songs."""
    options = _parser().parse_args(arguments)
    failures = (SplitError, FeaturesError, LookupFailedError, SongMoodsError, TableError)
    return exit_code(lambda: _run(options), *failures)


def _run(options: argparse.Namespace) -> None:
    home = _home_of(options.file, options.songs) if options.songs else None
    if home and options.append:
        raise SplitError(f"{options.file} is a list of {options.songs} itself, whose songs move: leave out --append")
    if options.out:
        _check_apart(options.out, options.file, options.features)
    table = FeatureTable(options.features) if options.features else None
    if table:
        table.check()
    text = _text_of(options.file)
    lookup = Lookup(options.lookup, PATIENCE) if options.lookup else None
    split = Splitter(table, lookup).split(read_songs(text), look_up=True)
    tell = spoken_beside(options.out)
    if options.out:
        _write_out(options.out, as_csv(split))
    if options.songs and not split.whole:
        raise SplitError(f"{split.troubles[-1]}; the lists stay as they are")
    written = _write(split, options.songs, options.append, home) if options.songs else []
    for trouble in split.troubles:
        complain(trouble)
    for line in (*_lines(split), *written):  # once all is written: a pipe may close
        tell(line)


def _text_of(file: Path) -> str:
    try:
        if str(file) != "-":
            return file.read_text(encoding="utf-8-sig")
        return io.TextIOWrapper(io.BytesIO(sys.stdin.buffer.read()), "utf-8-sig").read()  # whatever the locale
    except UnicodeDecodeError:
        raise SplitError(f"{file}: it is not text in UTF-8") from None


def _check_apart(out: Path, *sources: Path | None) -> None:
    """Raises SplitError where what is written would take the place of what is read."""
    for source in sources:
        if source and _same(out, source):
            raise SplitError(f"--out {out}: that is what is read; choose another name, or it would be overwritten")


def _same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def _write_out(out: Path, text: str) -> None:
    try:
        replace_text(out, text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SplitError(f"--out {out}: {error.strerror}") from None


def _lines(split: Split) -> Iterator[str]:
    """The songs as a person reads them, list by list."""
    for place, found in split.groups.items():
        yield f"{place}: {len(found)}"
        yield from (f"  {one.name}{f' ({one.confidence:.2f})' if one.confidence else ''}" for one in found)


def _home_of(source: Path, folder: Path) -> Emotion | None:
    """The emotion whose list in the folder is split."""
    return next((emotion for emotion in EMOTIONS if _same(list_of(folder, emotion), source)), None)


def _write(split: Split, folder: Path, append: bool, home: Emotion | None) -> list[str]:
    """The lists of a folder from a split, and how each went; a song that has no id or no title can be in none.

    What the lists say of a song already, its album and length say, stays. From the list of `home` songs move: the
    others gain them, and all else in it stays: songs that belong in none or do not disagree with it, and other lines.
    """
    known = {track.track_id: track for emotion in EMOTIONS for track in listed(list_of(folder, emotion))}
    songs, left = [], 0
    for i, one in enumerate(split.placed):
        try:
            stays = home and (not one.emotion or home in ALSO_IN.get(one.emotion, ()))
            if emotion := home if stays else one.emotion:
                track = _track(one, known.get(one.song.track_id))
                songs.append((emotion, (one.confidence, -i, track)))
        except ValueError:
            left += 1
    chosen = choose(songs, len(songs) or 1)
    if home:
        del chosen[home]
    written = list(write_lists(chosen, folder, append or home is not None))
    if home:  # last: of songs that move, none is ever in no list
        moved = {track.track_id for emotion, (_, _, track) in songs if emotion != home}
        written.append(_left_without(list_of(folder, home), moved))
    if left:
        complain(f"{left} songs are in no list: a list needs a Spotify id and a title")
    return written


def _track(one: Placed, known: Track | None) -> Track:
    """A song for a list, with what a list says of it already. ValueError without an id or a title."""
    track = known or Track(one.song.track_id, one.song.title, one.song.artist, "", None, "")
    if one.at and track.valence is None:
        track = replace(track, valence=one.at[0], energy=one.at[1])
    return track


def _left_without(path: Path, moved: set[str]) -> str:
    """Take the songs (ids) that have moved out of a list, and say how many."""
    before = {track.track_id for track in listed(path)}
    gone = before & moved
    if gone:
        forget_fetch(path)
        remove_tracks(path, gone)
    return f"{path.stem}: {len(before - gone)} songs, {len(gone)} have moved{undone(path) if gone else ''}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m songs.split", description="Split a playlist by mood; docs/song-moods.md"
    )
    parser.add_argument(
        "file", type=Path, metavar="SONGS", help="links, ids, 'artist - title' lines, or a CSV; - for what is piped in"
    )
    parser.add_argument("--features", type=Path, metavar="TABLE.csv", help="songs and their nine features")
    parser.add_argument(
        "--lookup", type=_address, metavar="ADDRESS", help="ask this service for the rest, such as ReccoBeats"
    )
    parser.add_argument("--out", type=Path, metavar="SPLIT.csv", help="write the songs with mood, emotion, confidence")
    parser.add_argument("--songs", type=existing_folder, metavar="DIR", help="where the seven lists are, to be written")
    parser.add_argument("--append", action="store_true", help="add to the lists (default: replace)")
    return parser


def _address(text: str) -> str:
    with suppress(ValueError):
        if (parts := urlsplit(text)).scheme in ("http", "https") and parts.hostname:
            return text
    raise argparse.ArgumentTypeError(f"{text} is no address: give one such as https://api.reccobeats.com/v1")


if __name__ == "__main__":
    sys.exit(main())
