"""Refreshes the song lists from your Spotify playlists, by hand or from cron.

`python spotify_sync.py login` once, then `python spotify_sync.py`; docs/spotify.md has every step.
Nothing that comes from Spotify's API goes into a model: the playlist that a song sits in is its mood.

Exit codes: 0 fine or nothing to do, 1 some list was not refreshed (the next run may do it),
2 it cannot run until a person does something (log in, Premium, settings).
"""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from model.emotions import EMOTIONS, Emotion
from model.files import folder_fault, replace_text
from songs.catalog import Track, append_tracks, list_of, names_of, not_in, plain, read_tracks, write_tracks
from songs.dotenv import DotenvError, environment
from songs.spotify import (
    LOG_IN,
    LOGIN_LASTS,
    CannotRunError,
    ListError,
    MissingError,
    RefusedError,
    Settings,
    SyncError,
    TokenRefusedError,
    add_songs,
    ask,
    connect,
    contents,
    expire_token,
    forget_token,
    log_in,
    pages,
    read_token,
    settings_from,
)
from songs.synced import PLAYLISTS, SYNCED, Note, notes_of, write_note
from terminal.stdio import close_output, fault_of_file, open_closed_streams, take_any_title

HERE = Path(__file__).resolve().parent
# An unchanged list is fetched again all the same, for its songs may have gone; weekly runs do so before the page minds.
OLDEST_COPY = timedelta(days=22)
WARNED = timedelta(days=14)  # before a login ends
COPY_IT = (
    "Spotify gives an app only the lists that you own or edit. In the Spotify app add its songs to a list of"
    " your own (... > Add to other playlist > New playlist) and put that list's link into playlists.json"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code is for cron."""
    logging.getLogger("spotipy").setLevel(logging.CRITICAL)  # it logs tokens
    open_closed_streams()
    take_any_title(sys.stdout)
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        settings = settings_from(environment(HERE / ".env"))
        try:
            return int(options.command(options, settings))
        except TokenRefusedError:  # before its time, or the clock was wrong when it came
            expire_token(settings.token_cache)
            return int(options.command(options, settings))
    except DotenvError as error:
        complain(str(error))
        return CannotRunError.exit_code
    except SyncError as error:
        complain(str(error))
        return error.exit_code
    except OSError as error:
        complain(fault_of_file(error))
        return CannotRunError.exit_code
    except (KeyboardInterrupt, EOFError):
        complain("stopped; what was done is saved")
        return 130


# -- the commands --------------------------------------------------------------------------------


def refresh(options: argparse.Namespace, settings: Settings) -> int:
    """Bring the song lists up to date with the playlists."""
    wanted = wanted_playlists(settings, options.only)
    notes = notes_of(settings.songs, wanted)
    if options.if_older and all(
        notes[e].made_of(wanted[e])
        and notes[e].unchecked < options.if_older
        and notes[e].age < OLDEST_COPY
        and songs_on_disk(list_of(settings.songs, e))
        for e in wanted
    ):
        return 0
    with nullcontext() if options.dry_run else only_one(settings.songs):
        spotify = connect(settings)
        snapshots = look(spotify, {playlist for ids in wanted.values() for playlist in ids})
        warn_of_end(settings)
        run = Refresh(spotify, settings.songs, snapshots, options.append, options.dry_run)
        done = [run.one(emotion, ids) for emotion, ids in wanted.items()]
    return 0 if all(done) else 1


def warn_of_end(settings: Settings) -> None:
    """Say in time that Spotify will end the login: the run after that one fails."""
    end = login_ends(read_token(settings.token_cache))
    if end and timedelta() < end - datetime.now() < WARNED:
        complain(f"the login ends about {end:%Y-%m-%d}; before that {LOG_IN}")


def login_ends(token: Mapping[str, Any] | None) -> datetime | None:
    """About when Spotify ends a login; None where nothing says when it began."""
    with suppress(TypeError, KeyError, ValueError, OverflowError, OSError):
        return datetime.fromtimestamp((token or {})["logged_in_at"] + LOGIN_LASTS)
    return None


def login(options: argparse.Namespace, settings: Settings) -> int:
    """Log in to Spotify in a browser and keep the token."""
    log_in(settings, say, browser=not options.no_browser, timeout=options.timeout)
    say(f"Logged in. The token is in {settings.token_cache}, readable by you only.")
    next(own_playlists(connect(settings)), None)  # an app without Premium hears of it now, not from cron
    say("Spotify answers. Next: .venv/bin/python spotify_sync.py playlists")
    return 0


def logout(options: argparse.Namespace, settings: Settings) -> int:
    """Delete the token."""
    there = settings.token_cache.exists()
    forget_token(settings.token_cache)
    say("Logged out: the token is deleted." if there else "You were not logged in.")
    say("To withdraw the app's permission as well: https://www.spotify.com/account/apps/")
    return 0


def status(options: argparse.Namespace, settings: Settings) -> int:
    """Say whether a refresh could run, and how old each list is. Asks Spotify nothing."""
    token = read_token(settings.token_cache)
    end = login_ends(token)
    over = end is not None and end < datetime.now()
    until = f", until about {end:%Y-%m-%d}" if end else ""
    say(f"App:    {settings.client_id or 'SPOTIPY_CLIENT_ID is not set'}")
    if over:
        say(f"Login:  over since about {end:%Y-%m-%d}; {LOG_IN}")
    else:
        say(f"Login:  {f'yes{until} ({settings.token_cache})' if token else f'no; {LOG_IN}'}")
    say(f"Songs:  {settings.songs}")
    named = read_playlists(settings.songs)
    for emotion, note in notes_of(settings.songs, EMOTIONS).items():
        songs = held(list_of(settings.songs, emotion))
        fetched = f"fetched {note.age.days} days ago" if note.age < timedelta.max else "never fetched"
        say(f"{emotion:9} {songs}, {fetched}, playlists: {len(named.get(emotion, ()))}")
    return 0 if settings.client_id and token and not over and named else CannotRunError.exit_code


def playlists(options: argparse.Namespace, settings: Settings) -> int:
    """Show your own playlists and choose which one is which mood."""
    spotify = connect(settings)
    me = ask(spotify.me).get("id")
    mine = [p for p in own_playlists(spotify) if p.get("collaborative") or (p.get("owner") or {}).get("id") == me]
    chosen = {emotion: list(ids) for emotion, ids in read_playlists(settings.songs).items()}
    if options.create:
        whole = create_playlists(spotify, settings.songs, mine, chosen)
        say("Edit them in the Spotify app, then: .venv/bin/python spotify_sync.py")
        return 0 if whole else 1
    moods = {playlist: emotion for emotion, ids in chosen.items() for playlist in ids}
    for number, playlist in enumerate(mine, 1):
        say(f"{number:3}  {playlist['id']}  {playlist.get('name')}  {moods.get(playlist['id'], '')}".rstrip())
    if not mine:
        say("You have no playlist of your own yet. Make the seven: .venv/bin/python spotify_sync.py playlists --create")
    elif sys.stdin.isatty():
        written = choose_playlists(settings.songs, mine, chosen)
        next_step = f"Written: {settings.songs / PLAYLISTS}. Next: .venv/bin/python spotify_sync.py"
        say(next_step if written else "Nothing was chosen, and nothing written.")
    else:
        say(f"Put the ids into {settings.songs / PLAYLISTS}, or run this at a terminal to choose.")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; without a command it is a refresh."""
    parser = argparse.ArgumentParser(
        prog="spotify_sync.py",
        description="Refresh the song lists from your Spotify playlists. Without a command: refresh.",
        epilog="Exit codes: 0 fine or nothing to do, 1 some list was not refreshed, 2 it cannot run. docs/spotify.md",
    )
    commands = parser.add_subparsers(title="commands", metavar="command")

    def command(run: Callable[[argparse.Namespace, Settings], int]) -> argparse.ArgumentParser:
        made = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
        made.set_defaults(command=run)
        return made

    one = command(refresh)
    one.add_argument("--append", action="store_true", help="add new songs and keep the old ones (default: replace)")
    one.add_argument(
        "--only", nargs="+", action="extend", choices=[e.value for e in EMOTIONS], help="these lists alone"
    )
    one.add_argument("--dry-run", action="store_true", help="show what would change and write nothing")
    one.add_argument("--if-older", type=duration, metavar="7d", help="do nothing while the lists are younger (h, d, w)")
    one = command(login)
    one.add_argument("--no-browser", action="store_true", help="only print the page's address (over ssh)")
    one.add_argument("--timeout", type=seconds, default=300, metavar="SECONDS", help="how long to wait for you")
    command(status)
    command(logout)
    one = command(playlists)
    one.add_argument("--create", action="store_true", help="create one for each mood that has none, with its songs")

    bare = not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help"))
    return parser.parse_args(["refresh", *arguments] if bare else arguments)


def duration(text: str) -> timedelta:
    """`36h`, `7d` or `2w` as a time; for argparse."""
    found = re.fullmatch(r"(\d{1,4})([hdw])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 36h, 7d or 2w")
    return timedelta(hours=int(found[1]) * {"h": 1, "d": 24, "w": 168}[found[2]])


def seconds(text: str) -> float:
    """A time to wait, above zero and at most a day; for argparse."""
    with suppress(ValueError):
        if 0 < (number := float(text)) <= 24 * 60 * 60:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds, above 0 and at most a day")


def say(line: str) -> None:
    """A line for who started this; the lists matter more than that somebody takes it."""
    show("")
    try:
        print(line, flush=True)
    except OSError as error:
        close_output()
        if not isinstance(error, BrokenPipeError):  # `| head` has seen enough
            complain(f"the output: {error.strerror}")


def complain(line: str) -> None:
    """A line about what went wrong; the lists matter more than that somebody takes this one, too."""
    show("")
    try:
        print(f"spotify_sync: {line}", file=sys.stderr, flush=True)
    except OSError:
        close_output(sys.stderr)


def show(line: str) -> None:
    """A line that the next one overwrites; only a person at a terminal sees it."""
    if sys.stderr.isatty():
        with suppress(OSError):
            print(f"\r{line:<70}\r", end="", file=sys.stderr, flush=True)


# -- playlists.json ------------------------------------------------------------------------------


def own_playlists(spotify: Any) -> Iterator[dict[str, Any]]:
    """The playlists in the person's library, a page for each request."""
    for entries, _ in pages(spotify.current_user_playlists):
        yield from (entry for entry in entries if isinstance(entry, dict) and entry.get("id"))


def look(spotify: Any, wanted: set[str]) -> dict[str, str]:
    """The snapshot of each wanted list that is in the person's library; stops at the last one."""
    found: dict[str, str] = {}
    for playlist in own_playlists(spotify):
        if playlist["id"] in wanted:
            found[playlist["id"]] = playlist.get("snapshot_id") or ""
        if found.keys() == wanted:
            break
    return found


def playlist_id(text: str) -> str:
    """The id in what people paste: an id, a URI, or a link with whatever hangs on it. Raises CannotRunError."""
    text = text.strip().strip("<>\"'")
    found = re.fullmatch(r"(?:.*[:/]playlist[:/])?([0-9A-Za-z]{22})/?(?:[?#].*)?", text)
    if found:
        return found[1]
    hint = "open it and copy the address it leads to" if "spotify.link" in text else "copy it with Share > Copy link"
    raise CannotRunError(f"{PLAYLISTS}: {text[:80]!r} is not a playlist's id, URI or link; {hint}")


def read_playlists(folder: Path) -> dict[Emotion, tuple[str, ...]]:
    """Which playlists make each list; none without the file."""
    if fault := folder_fault(folder):
        raise CannotRunError(f"VISAGE_SONGS={folder}: {fault}; make it, or name another")
    try:
        given = json.loads((folder / PLAYLISTS).read_text(encoding="utf-8-sig"), object_pairs_hook=no_doubles)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CannotRunError(f"{folder / PLAYLISTS} is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise CannotRunError(f'{folder / PLAYLISTS} must look like {{"happy": ["<link>"], ...}}')
    found = {}
    for name, links in given.items():
        if name not in set(EMOTIONS):
            near = difflib.get_close_matches(name, EMOTIONS, n=1) or [", ".join(EMOTIONS)]
            raise CannotRunError(f"{PLAYLISTS}: {name!r} is none of the seven moods; did you mean {near[0]}?")
        links = [links] if isinstance(links, str) else links
        if not isinstance(links, list) or not all(isinstance(link, str) for link in links):
            raise CannotRunError(f'{PLAYLISTS}: {name} must be a list of links, such as ["<link>"]')
        if links:
            found[Emotion(name)] = tuple(dict.fromkeys(playlist_id(link) for link in links))
    return found


def no_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; CannotRunError where it names something twice, of which one would be lost."""
    if doubles := [name for name, n in Counter(name for name, _ in pairs).items() if n > 1]:
        raise CannotRunError(f"{PLAYLISTS} names {doubles[0]} twice: put all its links into one list")
    return dict(pairs)


def write_playlists(folder: Path, chosen: Mapping[Emotion, Sequence[str]]) -> None:
    replace_text(
        folder / PLAYLISTS, json.dumps({e: list(chosen[e]) for e in EMOTIONS if chosen.get(e)}, indent=2) + "\n"
    )


def wanted_playlists(settings: Settings, only: Sequence[str] | None) -> dict[Emotion, tuple[str, ...]]:
    """The playlists of this run, by emotion. Raises CannotRunError if there are none."""
    found = read_playlists(settings.songs)
    if not found:
        raise CannotRunError(
            f"no playlist is named in {settings.songs / PLAYLISTS}: .venv/bin/python spotify_sync.py playlists helps"
        )
    if missing := [name for name in only or () if name not in found]:
        raise CannotRunError(f"{settings.songs / PLAYLISTS} names no playlist for {', '.join(missing)}")
    return {emotion: found[emotion] for emotion in EMOTIONS if emotion in (only or found)}


def choose_playlists(folder: Path, mine: Sequence[Mapping[str, Any]], chosen: dict[Emotion, list[str]]) -> bool:
    """Ask for each mood's playlist by its name, number or link, and keep each at once; Enter leaves it as it is.

    Whether one was chosen.
    """
    written = False
    say("Which playlist is it for each mood? A name, a number or a link; Enter leaves a mood as it is.")
    for emotion in EMOTIONS:
        while text := input(f"{emotion} [{', '.join(chosen.get(emotion, [])) or 'none'}]: ").strip():
            try:
                chosen[emotion] = [named_playlist(text, mine)]
                write_playlists(folder, chosen)
                written = True
                called = (p.get("name") for p in mine if p["id"] == chosen[emotion][0])
                say(f"{emotion}: {next(called, chosen[emotion][0])}")
                break
            except CannotRunError as error:
                say(str(error))
    return written


def named_playlist(text: str, mine: Sequence[Mapping[str, Any]]) -> str:
    """The id of the playlist that a person means. Raises CannotRunError."""
    same = [p["id"] for p in mine if plain(p.get("name") or "") == plain(text)]
    if len(same) != 1 and text.isdecimal() and 0 < int(text) <= len(mine):
        return str(mine[int(text) - 1]["id"])
    near = same or [p["id"] for p in mine if plain(text) in plain(p.get("name") or "")]
    if len(near) > 1:
        raise CannotRunError(f"{len(near)} playlists are called that; give the number")
    return str(near[0]) if near else playlist_id(text)


def create_playlists(
    spotify: Any, folder: Path, mine: Sequence[Mapping[str, Any]], chosen: dict[Emotion, list[str]]
) -> bool:
    """A private playlist, filled with the list as it stands, for each mood that has none; each is kept at once.

    False if a list cannot be read: its mood gets none, or the next refresh would take what is in it for gone.
    """
    whole = True
    for emotion in EMOTIONS:
        if chosen.get(emotion):
            say(f"{emotion}: has its playlist already")
            continue
        try:
            songs = [track.track_id for track in songs_on_disk(list_of(folder, emotion), strict=True)]
        except ListError as error:
            complain(f"{emotion}: no playlist is made: {error}")
            whole = False
            continue
        name = f"Visage FM: {emotion}"
        there = next((p for p in mine if p.get("name") == name), None)  # of an earlier run that was cut short
        made = there or ask(spotify.current_user_playlist_create, name, public=False, repeat=False)
        if there:
            songs = lacking(songs, *entries_of(spotify, there["id"], emotion))
        show(f"{name}: {len(songs)} songs")
        added = add_songs(partial(ask, spotify.playlist_add_items, made["id"], repeat=False), songs)
        chosen[emotion] = [made["id"]]
        write_playlists(folder, chosen)
        say(f"{emotion}: {name!r} {'was there' if there else 'created'}, {added} songs added")
    return whole


def lacking(songs: Sequence[str], entries: Sequence[Any], total: int) -> list[str]:
    """The songs (ids) that a playlist of `total` entries lacks; none if a person has put others into it."""
    held = {song.track.track_id for song in songs_in(entries, Counter())}
    return [song for song in songs if song not in held] if len(entries) >= total and held <= set(songs) else []


# -- from a playlist to a list -------------------------------------------------------------------


class Song(NamedTuple):
    """A track as Spotify gives it, with its recording's number."""

    track: Track
    isrc: str


@dataclass(frozen=True)
class Refresh:
    """One run: what it knows of Spotify, and where and how it writes."""

    spotify: Any
    folder: Path
    snapshots: Mapping[str, str]
    append: bool
    dry_run: bool

    def one(self, emotion: Emotion, playlists: Sequence[str]) -> bool:
        """Refresh a list and say how it went in one line. False if it stays as it was because something failed."""
        try:
            say(f"{emotion}: {self._refreshed(emotion, playlists)}")
            return True
        except ListError as error:
            complain(f"{emotion} stays as it was: {error}")
            return False

    def _refreshed(self, emotion: Emotion, playlists: Sequence[str]) -> str:
        path = list_of(self.folder, emotion)
        now = {playlist: self.snapshots.get(playlist, "") for playlist in playlists}
        note, started = notes_of(self.folder, [emotion])[emotion], datetime.now(UTC)
        if self._unchanged(note, now) and songs_on_disk(path):
            if not self.dry_run:
                write_note(self.folder, emotion, replace(note, checked=started))
            return "unchanged"
        songs: list[Song] = []
        left_out: Counter[str] = Counter()
        given = there = 0
        for playlist in playlists:
            entries, total = entries_of(self.spotify, playlist, emotion)
            given, there = given + min(len(entries), total), there + total
            songs += songs_in(entries, left_out)
        whole = given == there
        tracks = unique(songs, left_out)
        if not tracks:
            raise ListError(f"the playlist holds no song that can be played{counted(left_out)}")
        keep = self.append or not whole
        before = songs_on_disk(path, strict=keep)
        tracks = measured_as(before, tracks)
        new = not_in(before, tracks)
        tracks = before + new if keep else tracks
        line = f"{len(tracks)} songs{changes(before, tracks)}{counted(left_out)}"
        if not whole:
            line += f"; Spotify gave only {given} of the {there} entries, so the old songs stay"
        if self.dry_run:
            return "\n".join([f"would have {line}", *difference(before, tracks)])
        if keep:
            append_tracks(path, new)
        else:
            write_tracks(path, tracks)
        # After the list: a crash between the two means another fetch, and never a list taken for newer than it is.
        seen = now if whole else dict.fromkeys(now, "")
        write_note(self.folder, emotion, Note(started, seen, "append" if keep else "replace"))
        return line

    def _unchanged(self, note: Note, now: Mapping[str, str]) -> bool:
        """Whether a fetch would bring what the note says was brought."""
        as_asked = self.append or note.mode == "replace"
        return note.playlists == now and all(now.values()) and as_asked and note.age < OLDEST_COPY


def entries_of(spotify: Any, playlist: str, emotion: Emotion) -> tuple[list[Any], int]:
    """What Spotify gives of a playlist, and how many entries it says that there are."""
    entries: list[Any] = []
    total = 0
    try:
        for page, total in pages(spotify.playlist_items, playlist, additional_types=("track",)):
            entries += page
            show(f"{emotion:9}[{'#' * (30 * len(entries) // max(total, 1)):<30}] {len(entries)}/{total}")
    except RefusedError:
        return nested_entries(spotify, playlist)
    except MissingError as error:
        if playlist.startswith("37i9dQZ"):
            raise RefusedError(f"playlist {playlist} is one of Spotify's own. {COPY_IT}") from None
        raise ListError(f"playlist {playlist}: {error}") from None
    return entries, total


def nested_entries(spotify: Any, playlist: str) -> tuple[list[Any], int]:
    """The first entries, and how many there are, of a playlist whose `/items` is refused: some apps' own are."""
    try:
        answer = ask(spotify.playlist, playlist, additional_types=("track",))
    except (RefusedError, MissingError):
        answer = {}
    held = answer.get("items") or answer.get("tracks")
    if not isinstance(held, dict) or not isinstance(held.get("items"), list):
        owner = (answer.get("owner") or {}).get("display_name") or "someone else"
        raise RefusedError(f"playlist {answer.get('name') or playlist} belongs to {owner}. {COPY_IT}")
    return contents(held)


def songs_in(entries: Iterable[Any], left_out: Counter[str]) -> list[Song]:
    """The songs among a playlist's entries; counts why the others are none."""
    songs = []
    for entry in entries:
        try:
            songs.append(song_of(entry))
        except ValueError as error:
            left_out[str(error)] += 1
    return songs


def song_of(entry: Any) -> Song:
    """An entry as a song. ValueError says in a word why it is none."""
    entry = entry if isinstance(entry, dict) else {}
    item = entry.get("item") or entry.get("track")  # `track` is what apps from before 2026 still see
    if not isinstance(item, dict):
        raise ValueError("gone")
    if item.get("type", "track") != "track" or item.get("episode") is True:
        raise ValueError("episode")
    if entry.get("is_local") or item.get("is_local"):
        raise ValueError("local")
    if not item.get("id") or not item.get("name"):
        raise ValueError("gone")
    if item.get("is_playable") is False or item.get("restrictions"):
        raise ValueError("unplayable")
    try:
        artist = ", ".join(a["name"] for a in item.get("artists") or () if a.get("name"))
        album = (item.get("album") or {}).get("name") or ""
        length = item.get("duration_ms")
        length = length if isinstance(length, int) else None
        track = Track(item["id"], item["name"], artist, album, length, (entry.get("added_at") or "")[:10])
        return Song(track, str((item.get("external_ids") or {}).get("isrc") or ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("not understood") from None


def unique(songs: Iterable[Song], left_out: Counter[str]) -> list[Track]:
    """Each song once: by its id, by ISRC, then by title and artist. Counts the others."""
    seen: set[str] = set()
    tracks = []
    for track, isrc in songs:
        known_by = names_of(track) | ({f"ISRC {isrc.upper()}"} if isrc else set())
        if known_by & seen:
            left_out["double"] += 1
        else:
            tracks.append(track)
        seen |= known_by
    return tracks


def measured_as(old: Iterable[Track], tracks: Iterable[Track]) -> list[Track]:
    """The songs with the measures that a list has of them, for Spotify says none."""
    known = {track.track_id: (track.valence, track.energy) for track in old}
    measures = ((track, *known.get(track.track_id, (None, None))) for track in tracks)
    return [replace(track, valence=valence, energy=energy) for track, valence, energy in measures]


def songs_on_disk(path: Path, strict: bool = False) -> list[Track]:
    """The list as it stands; empty if it is absent, or broken and about to be replaced."""
    try:
        return read_tracks(path)[0]
    except FileNotFoundError:
        return []
    except ValueError as error:
        if strict:
            raise ListError(f"{path} is not a song list ({error}): mend it, or move it away") from None
        return []


def held(path: Path) -> str:
    """How many songs are in a list, or why that cannot be said."""
    try:
        return f"{len(songs_on_disk(path, strict=True)):5} songs"
    except ListError as error:
        return str(error)


def changes(before: Iterable[Track], after: Iterable[Track]) -> str:
    old, new = ({track.track_id for track in tracks} for tracks in (before, after))
    return f", {len(new - old)} new, {len(old - new)} gone" if old != new else ", the same as before"


def counted(left_out: Counter[str]) -> str:
    return f"; left out: {', '.join(f'{n} {why}' for why, n in sorted(left_out.items()))}" if left_out else ""


def difference(before: Sequence[Track], after: Sequence[Track]) -> list[str]:
    """The songs that come and go, a line each."""
    old, new = ({track.track_id: track for track in tracks} for tracks in (before, after))
    gone = [f"  - {track.artist}: {track.title}" for i, track in old.items() if i not in new]
    return gone + [f"  + {track.artist}: {track.title}" for i, track in new.items() if i not in old]


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Two refreshes never write at once. The lock ends with the process, however it ends."""
    with (folder / ".spotify_sync.lock").open("a") as file:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise SyncError(f"another refresh is at work in {folder}; this one did nothing") from None
        except OSError as error:
            why = f"{folder} takes no lock ({error.strerror})"
            raise CannotRunError(f"{why}: let VISAGE_SONGS name a folder on a disk of this computer") from None
        for file_of_ours in (*(f"{emotion}.csv" for emotion in EMOTIONS), SYNCED):
            for left in folder.glob(f".{file_of_ours}.*.part"):  # by a run that was killed
                left.unlink(missing_ok=True)
        yield


if __name__ == "__main__":
    sys.exit(main())
