"""The sync script against a Spotify on the loopback address; over real HTTP, and as a process where that matters."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import pty
import random
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

import songs.spotify
from model.emotions import EMOTIONS, Emotion
from songs.catalog import Catalog, Track, read_tracks, write_tracks
from songs.dotenv import DotenvError, dotenv_values, environment
from songs.spotify import CannotRunError, settings_from, write_token
from spotify_sync import OLDEST_COPY, main, playlist_id, read_playlists
from tests.bench_sync import counted_requests
from tests.conftest import ROOT, eventually, free_port
from tests.fake_spotify import PREMIUM, Answer, Asked, FakeSpotify, error, made_id, plain_text, song
from web.pages import OLD

OPERATIONS = ROOT.parent / "shared/data/spotify/openapi-operations.json"
SCRIPT = [sys.executable, "-W", "error", str(ROOT / "spotify_sync.py")]
EDITORIAL = "37i9dQZF1DXdPec7aLTmlC"
LOOPBACK_ONLY = """
import socket
connect = socket.socket.connect
def loopback_only(self, address):
    assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), address
    return connect(self, address)
socket.socket.connect = loopback_only
"""
FORKED_RUNS = """
import os, sys, pandas, spotify_sync
for line in sys.stdin:
    child = os.fork()
    if not child:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        os._exit(spotify_sync.main([]))
    print(child, flush=True)
    sys.stdin.readline()
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may leave the machine; `LOOPBACK_ONLY` says the same to processes."""
    connect = socket.socket.connect

    def checked(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", checked)


class Ran(NamedTuple):
    """How a run of the script ended."""

    code: int
    out: str
    err: str


@dataclass
class Desk:
    """A person's machine: a songs folder, a token, and a Spotify to ask."""

    spotify: FakeSpotify
    folder: Path
    token: Path
    environment: dict[str, str]
    run: Callable[..., Ran]

    def playlists(self, **lists: Any) -> None:
        """Write playlists.json."""
        named = {e: ids if isinstance(ids, list) else [ids] for e, ids in lists.items()}
        self.folder.joinpath("playlists.json").write_text(json.dumps(named))

    def log_in(self, **token: Any) -> None:
        write_token(self.token, self.spotify.token(**token))

    def titles(self, emotion: str) -> list[str]:
        return [track.title for track in read_tracks(self.folder / f"{emotion}.csv")[0]]

    def synced(self) -> dict[str, Any]:
        notes: dict[str, Any] = json.loads(self.folder.joinpath("synced.json").read_text())
        return notes

    def fetched_days_ago(self, days: int) -> None:
        """Make every note say that its list was fetched then."""
        then = f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
        aged = {emotion: entry | {"fetched_at": then} for emotion, entry in self.synced().items()}
        self.folder.joinpath("synced.json").write_text(json.dumps(aged))

    def process(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*SCRIPT, *arguments],
            env=self.environment,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            | options,
        )


@pytest.fixture(scope="module")
def old_lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a list of five old songs for each mood."""
    folder = tmp_path_factory.mktemp("old")
    for n, emotion in enumerate(EMOTIONS):
        write_tracks(folder / f"{emotion}.csv", [old(10 * n + k) for k in range(5)])
    return folder


@pytest.fixture
def desk(
    old_lists: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Desk]:
    """A machine with a token, and with a list of five old songs for each mood; Spotify's waits are short."""
    spotify = FakeSpotify()
    folder, token, guard = tmp_path / "songs", tmp_path / "config/token.json", tmp_path / "guard"
    shutil.copytree(old_lists, folder)
    guard.mkdir()
    guard.joinpath("sitecustomize.py").write_text(LOOPBACK_ONLY)
    monkeypatch.setattr(songs.spotify, "ALONE", (0.01, 0.01, 0.01))
    monkeypatch.setattr(songs.spotify, "SHORTEST_WAIT", 0.01)
    with spotify.serving() as base:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(guard),
            "SPOTIPY_CLIENT_ID": "app",
            "SPOTIPY_CLIENT_SECRET": "",
            "SPOTIPY_REDIRECT_URI": "",
            "SPOTIFY_API_BASE": f"{base}/v1",
            "SPOTIFY_ACCOUNTS_BASE": base,
            "VISAGE_TOKEN_CACHE": str(token),
            "VISAGE_SONGS": str(folder),
        }

        def run(*arguments: str, **changed: str) -> Ran:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in (environment | changed).items():
                    patch.setenv(name, value)
                try:
                    code = main(arguments)
                except SystemExit as ended:
                    code = int(ended.code or 0)
            return Ran(code, *capfd.readouterr())

        made = Desk(spotify, folder, token, environment, run)
        made.log_in()
        yield made


def old(number: int) -> Track:
    return Track(made_id("old", number), f"Old {number}", "Someone", "", 1000, "2024-01-01")


def songs_from(first: int, count: int) -> list[dict[str, Any] | None]:
    return [song(first + k) for k in range(count)]


def names(first: int, count: int) -> list[str]:
    return [f"Song {first + k}" for k in range(count)]


OLD_ANGRY = [f"Old {k}" for k in range(5)]  # what `desk` puts into angry.csv


# -- settings


def test_settings_are_spotipys_and_the_env_file_yields_to_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names that spotipy reads, from .env too; the environment wins; the rest has defaults."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("SPOTIPY_CLIENT_ID=from-file\nexport SPOTIPY_CLIENT_SECRET='from file'\nVISAGE_SONGS=/a\n")
    monkeypatch.setattr("os.environ", {"VISAGE_SONGS": "/b", "XDG_CONFIG_HOME": "/c"})
    settings = settings_from(environment(dotenv))
    assert (settings.client_id, settings.client_secret, settings.songs) == ("from-file", "from file", Path("/b"))
    assert settings.redirect_uri == "http://127.0.0.1:8888/callback"
    assert (settings.api_base, settings.accounts_base) == ("https://api.spotify.com/v1", "https://accounts.spotify.com")
    assert settings.token_cache == Path("/c/visage-fm/spotify-token.json")
    assert settings_from({}).songs == ROOT / "songs"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        (" A = b ", "b"),
        ('A="b # c" # d', "b # c"),
        ("A=b#c # d", "b#c"),
        ("export A='b'", "b"),
        ("A=", ""),
        ("# A=b", None),
        ("nothing", None),
    ],
)
def test_lines_of_an_env_file(tmp_path: Path, line: str, value: str | None) -> None:
    """A .env line is read as people write it."""
    (tmp_path / ".env").write_text(line)
    assert dotenv_values(tmp_path / ".env").get("A") == value


def test_an_env_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    """What an editor saved as UTF-16 is refused in words."""
    (tmp_path / ".env").write_text("A=b", encoding="utf-16")
    with pytest.raises(DotenvError, match=r"\.env is not text in UTF-8"):
        dotenv_values(tmp_path / ".env")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DotenvError, match="folder cannot be read"):
        dotenv_values(tmp_path / "folder")


@pytest.mark.parametrize("address", ["api.spotify.com/v1", "ftp://x/v1", "http://127.0.0.1:port/v1", "http://"])
def test_a_wrong_address_is_named(address: str) -> None:
    """An address that is none stops the script with the name of its setting."""
    with pytest.raises(CannotRunError, match="SPOTIFY_API_BASE"):
        settings_from({"SPOTIFY_API_BASE": address})


# -- playlists.json

LIST = "6VtWpJEWl5yNtcR5zyCDSG"


@pytest.mark.parametrize(
    "pasted",
    [
        LIST,
        f"  {LIST}\n",
        f"spotify:playlist:{LIST}",
        f"spotify:user:ann:playlist:{LIST}",
        f"https://open.spotify.com/playlist/{LIST}",
        f"https://open.spotify.com/playlist/{LIST}?si=1a2b3c&pt=9f",
        f" https://open.spotify.com/intl-de/playlist/{LIST}?si=x ",
        f"https://open.spotify.com/user/ann/playlist/{LIST}/",
        f"open.spotify.com/playlist/{LIST}#login",
        f"<https://open.spotify.com/embed/playlist/{LIST}>",
    ],
)
def test_a_playlist_is_understood_as_people_paste_it(pasted: str) -> None:
    """Ids, URIs and links, with whatever hangs on them, name the same playlist."""
    assert playlist_id(pasted) == LIST


@pytest.mark.parametrize(
    "pasted",
    [
        "",
        "My songs",
        LIST[:-1],
        f"https://open.spotify.com/album/{LIST}",
        "https://spotify.link/x",
        f"playlist/{LIST}x",
    ],
)
def test_what_is_no_playlist_is_refused(pasted: str) -> None:
    """Anything else is refused before Spotify is asked, and the message shows it."""
    with pytest.raises(CannotRunError, match=re.escape(repr(pasted))):
        playlist_id(pasted)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "must look like"),
        ('{"hapy": []}', "did you mean happy"),
        ('{"happy": [1]}', "happy must be a list of links"),
        ('{"happy": {"a": 1}}', "happy must be a list of links"),
        ('{"happy": ["nonsense"]}', "'nonsense' is not a playlist"),
        ("{}", "no playlist is named"),
    ],
)
def test_a_broken_playlists_file_is_explained(desk: Desk, content: str, says: str) -> None:
    """Whatever is wrong in playlists.json is named, nothing is asked, and the exit code is 2."""
    desk.folder.joinpath("playlists.json").write_text(content)
    ran = desk.run()
    assert (ran.code, desk.spotify.asked) == (2, [])
    assert says in ran.err


def test_an_absent_playlists_file_is_explained(desk: Desk) -> None:
    """Without playlists.json the message says what makes one."""
    ran = desk.run()
    assert ran.code == 2
    assert "playlists.json: .venv/bin/python spotify_sync.py playlists helps" in ran.err


def test_a_single_link_needs_no_brackets(tmp_path: Path) -> None:
    """A mood may name one link without a list, or none at all."""
    tmp_path.joinpath("playlists.json").write_text(f'{{"happy": "{LIST}", "sad": []}}')
    assert read_playlists(tmp_path) == {Emotion.HAPPY: (LIST,)}


# -- a refresh


def test_a_list_is_paged_past_fifty(desk: Desk) -> None:
    """A list of 120 songs arrives whole and in order, 50 at a time by offset."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 120)))
    ran = desk.run()
    assert ran == Ran(0, "angry: 120 songs, 120 new, 5 gone\n", "")
    assert desk.titles("angry") == names(0, 120)
    pages = [asked.query for asked in desk.spotify.asked if asked.path.endswith("/items")]
    assert [(page["limit"], page["offset"]) for page in pages] == [("50", "0"), ("50", "50"), ("50", "100")]
    assert desk.titles("happy") == [f"Old {30 + k}" for k in range(5)]


def test_a_track_is_kept_with_its_facts(desk: Desk) -> None:
    """Title, artists, album, length and the day it was added are the playlist's; the site shows when it was fetched."""
    track = song(7, artists=[{"name": "Ärzte, Die"}, {"name": "B"}], name='A "title", with\nall')
    desk.playlists(sad=desk.spotify.add(1, "A", [track]))
    before = datetime.now(UTC).replace(microsecond=0)
    assert desk.run().code == 0
    playlist = Catalog(desk.folder).playlist(Emotion.SAD)
    title = 'A "title", with all'
    assert playlist.tracks == (Track(made_id("song", 7), title, "Ärzte, Die, B", "Album 7", 180_007, "2026-03-04"),)
    assert before <= datetime.fromisoformat(playlist.fetched_at or "") <= datetime.now(UTC)


def test_old_apps_see_track_where_new_ones_see_item(desk: Desk) -> None:
    """Entries under `track` are read as well as those under `item`."""
    desk.spotify.entry_key = "track"
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 3)))
    assert desk.run().code == 0
    assert desk.titles("angry") == names(0, 3)


def test_what_is_no_playable_song_is_left_out_and_counted(desk: Desk) -> None:
    """Null items, null entries, episodes, local files, unplayable and odd tracks are dropped, and the line says so."""
    entries = [
        song(1),
        None,
        song(2, type="episode"),
        song(3, type="track", episode=True),
        song(4, is_local=True, id=None),
        song(5, is_playable=False),
        song(6, restrictions={"reason": "market"}),
        song(7, id="short"),
        song(8, name=None),
        song(11, id=None, name=""),
        song(12, duration_ms=1, album=7),
        song(9, is_playable=True, album=None, artists=None, external_ids=None, duration_ms=None),
    ]
    playlist = desk.spotify.add(1, "A", entries)
    desk.spotify.lists[playlist].entries.append(None)
    desk.spotify.lists[playlist].entries.append(desk.spotify.entry(song(10)) | {"is_local": True})
    desk.playlists(angry=playlist)
    ran = desk.run()
    left_out = "2 episode, 4 gone, 2 local, 2 not understood, 2 unplayable"
    assert ran == Ran(0, f"angry: 2 songs, 2 new, 5 gone; left out: {left_out}\n", "")
    assert desk.titles("angry") == ["Song 1", "Song 9"]


def test_a_song_comes_once(desk: Desk) -> None:
    """The same id, the same recording (ISRC), and the same title by the same artist are one song; the first stays."""
    entries = [
        song(1),
        song(1),
        song(2, external_ids={"isrc": "isrc00000001"}, name="Another pressing"),
        song(3, name="SONG  1", artists=[{"name": "artist 1"}]),
        song(4, external_ids={}),
        song(5, external_ids={}),
    ]
    other = desk.spotify.add(2, "B", [song(4, external_ids={}), song(6)])
    desk.playlists(angry=[desk.spotify.add(1, "A", entries), other])
    ran = desk.run()
    assert desk.titles("angry") == ["Song 1", "Song 4", "Song 5", "Song 6"]
    assert "left out: 4 double" in ran.out


def test_requests_are_few(tmp_path: Path) -> None:
    """Seven lists of 100 songs take at most 16 requests, and at most 2 when nothing has changed."""
    first, unchanged = counted_requests(tmp_path)
    assert first <= 16
    assert unchanged <= 2


def test_only_a_changed_list_is_fetched(desk: Desk) -> None:
    """A list whose snapshot is the one fetched before costs nothing; the changed one is fetched."""
    lists = {e: desk.spotify.add(n, e, songs_from(100 * n, 3)) for n, e in enumerate(EMOTIONS)}
    desk.playlists(**lists)
    desk.run()
    desk.spotify.lists[lists[Emotion.SAD]].entries.append(desk.spotify.entry(song(999)))
    desk.spotify.asked.clear()
    ran = desk.run()
    assert [asked.path for asked in desk.spotify.asked] == [
        "/v1/me/playlists",
        f"/v1/playlists/{lists[Emotion.SAD]}/items",
    ]
    assert "happy: unchanged\nsad: 4 songs, 1 new, 0 gone\n" in ran.out
    assert desk.synced()["sad"]["playlists"] == {lists[Emotion.SAD]: desk.spotify.lists[lists[Emotion.SAD]].snapshot}


@pytest.mark.parametrize(
    "why",
    [
        "the list file is gone",
        "the list file is broken",
        "the list file is empty",
        "22 days",
        "other playlists",
        "a broken synced.json",
        "a bottomless synced.json",
        "append",
    ],
)
def test_an_unchanged_list_is_fetched_when_its_copy_is_not_good(desk: Desk, why: str) -> None:
    """Skipping needs the list on disk, made of these playlists by a replacing run, and younger than 22 days."""
    one, two = desk.spotify.add(1, "A", songs_from(0, 3)), desk.spotify.add(2, "B", songs_from(10, 3))
    desk.playlists(angry=one)
    desk.run(*(["--append"] if why == "append" else []))
    if why == "the list file is gone":
        desk.folder.joinpath("angry.csv").unlink()
    elif why == "the list file is broken":
        desk.folder.joinpath("angry.csv").write_text("my notes\n")
    elif why == "the list file is empty":
        write_tracks(desk.folder / "angry.csv", [])
    elif why == "22 days":
        desk.fetched_days_ago(23)
    elif why == "other playlists":
        desk.playlists(angry=[one, two])
    elif why == "a broken synced.json":
        desk.folder.joinpath("synced.json").write_text('{"angry": [')
    elif why == "a bottomless synced.json":
        desk.folder.joinpath("synced.json").write_text("[" * 100_000)
    assert "unchanged" not in desk.run().out
    assert desk.titles("angry") == names(0, 3) + (names(10, 3) if why == "other playlists" else [])
    assert "unchanged" in desk.run().out


def test_weekly_runs_keep_the_page_from_calling_a_list_old() -> None:
    """A run that finds a copy not quite old enough is followed by another before the page says that it is old."""
    assert OLDEST_COPY + timedelta(days=7) < OLD


def test_a_list_that_changes_while_it_is_read_is_read_again_next_time(desk: Desk) -> None:
    """The note keeps the snapshot seen before the songs were read, so a change in between is not missed."""
    playlist = desk.spotify.add(1, "A", songs_from(0, 3))
    desk.playlists(angry=playlist)
    seen = desk.spotify.lists[playlist].snapshot

    def changed(asked: Asked) -> None:
        if asked.path.endswith("/items"):
            desk.spotify.lists[playlist].entries.append(desk.spotify.entry(song(99)))

    desk.spotify.before = changed
    desk.run()
    assert desk.synced()["angry"]["playlists"] == {playlist: seen}


def test_a_list_outside_the_library_is_fetched_every_time(desk: Desk) -> None:
    """A playlist that /me/playlists does not show has no snapshot to compare."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 3), in_library=False))
    assert desk.run().code == 0
    assert "3 songs, the same as before" in desk.run().out


def test_the_library_is_read_past_fifty(desk: Desk) -> None:
    """A playlist behind fifty others is found; the look stops once all are."""
    for n in range(2, 170):
        desk.spotify.add(n, f"Other {n}", [])
    playlist = desk.spotify.add(1, "A", songs_from(0, 3))
    desk.spotify.lists = dict(sorted(desk.spotify.lists.items(), key=lambda held: held[1].name != "Other 5"))
    position = list(desk.spotify.lists).index(playlist)
    desk.playlists(angry=playlist)
    desk.run()
    looks = [asked for asked in desk.spotify.asked if asked.path == "/v1/me/playlists"]
    assert len(looks) == position // 50 + 1


# -- modes


def test_append_keeps_old_songs_and_adds_new_ones(desk: Desk) -> None:
    """With --append old songs stay first, new ones follow, and none comes twice under another id."""
    again = song(3, name="Old 1", artists=[{"name": "someone"}])
    desk.playlists(angry=desk.spotify.add(1, "A", [*songs_from(0, 2), again]))
    ran = desk.run("--append")
    assert ran.out == "angry: 7 songs, 2 new, 0 gone\n"
    assert desk.titles("angry") == OLD_ANGRY + names(0, 2)


def test_append_keeps_what_is_no_song(desk: Desk) -> None:
    """A row with a comma too many, and a person's own column, are still there when --append has added a song."""
    path = desk.folder / "angry.csv"
    head, *rows = path.read_text().splitlines()
    broken = f"{made_id('x', 1)},Hello, Goodbye,A,,1,,"
    path.write_text("\n".join([f"{head},note", broken, *(f"{row},mine" for row in rows)]))
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 1)))
    before = path.read_text()
    assert desk.run("--append").out == "angry: 6 songs, 1 new, 0 gone\n"
    assert path.read_text().startswith(before + "\n")
    assert desk.titles("angry") == [*OLD_ANGRY, "Song 0"]


def test_append_leaves_a_list_that_it_cannot_read(desk: Desk) -> None:
    """What --append cannot read it does not replace."""
    desk.folder.joinpath("angry.csv").write_text("my notes\n")
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    ran = desk.run("--append")
    assert (ran.code, desk.folder.joinpath("angry.csv").read_text()) == (1, "my notes\n")
    assert "angry.csv is not a song list" in ran.err


def test_only_touches_only(desk: Desk) -> None:
    """--only refreshes the lists named, and refuses a mood without a playlist."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)), happy=desk.spotify.add(2, "B", songs_from(10, 2)))
    assert desk.run("--only", "happy").out == "happy: 2 songs, 2 new, 5 gone\n"
    assert desk.titles("angry") == OLD_ANGRY
    ran = desk.run("refresh", "--only", "sad")
    assert (ran.code, "names no playlist for sad" in ran.err) == (2, True)
    assert desk.run("--only", "hapy").code == 2


def test_a_dry_run_shows_and_writes_nothing(desk: Desk) -> None:
    """--dry-run prints the songs that would come and go, and leaves the folder as it was."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    before = {path: path.read_bytes() for path in desk.folder.iterdir()}
    ran = desk.run("--dry-run")
    assert ran.code == 0
    assert ran.out.splitlines()[0] == "angry: would have 2 songs, 2 new, 5 gone"
    assert "  - Someone: Old 4" in ran.out
    assert "  + Artist 1: Song 1" in ran.out
    assert {path: path.read_bytes() for path in desk.folder.iterdir()} == before


def test_a_clock_that_was_far_ahead_does_not_keep_lists_from_being_fetched(desk: Desk) -> None:
    """A date that is yet to come would be younger than all others until it has passed."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 1)))
    assert desk.run("--if-older", "7d").code == 0
    desk.fetched_days_ago(-3000)
    assert "never fetched" in desk.run("status").out
    assert desk.run("--if-older", "7d").out == "angry: 1 songs, the same as before\n"
    assert "fetched 0 days ago" in desk.run("status").out


def test_a_refresh_keeps_the_measures_that_a_list_has(desk: Desk) -> None:
    """Spotify says none; what a table said of a song that stays is kept, and lifting a mood goes on."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    assert desk.run().code == 0
    tracks = read_tracks(desk.folder / "angry.csv")[0]
    write_tracks(desk.folder / "angry.csv", [replace(tracks[0], valence=0.25, energy=0.75)])
    (desk.folder / "synced.json").unlink()
    assert desk.run().out == "angry: 2 songs, 1 new, 0 gone\n"
    after = read_tracks(desk.folder / "angry.csv")[0]
    assert [(track.valence, track.energy) for track in after] == [(0.25, 0.75), (None, None)]


def test_a_refresh_leaves_alone_what_others_are_writing(desk: Desk) -> None:
    """Only unfinished lists of a run that was killed go; a table that is being labelled there is not one."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 1)))
    ours, others = desk.folder / ".sad.csv.00ff00ff.part", desk.folder / ".labelled.csv.00ff00ff.part"
    for part in (ours, others):
        part.write_text("")
    assert desk.run().code == 0
    assert (ours.exists(), others.exists()) == (False, True)


def test_if_older_is_quiet_while_the_lists_are_fresh(desk: Desk) -> None:
    """--if-older asks and prints nothing until a list is old, absent, not in the notes, or made of other playlists."""
    one = desk.spotify.add(1, "A", songs_from(0, 2))
    desk.playlists(angry=one)
    assert "2 songs" in desk.run("--if-older", "7d").out
    desk.spotify.asked.clear()
    assert desk.run("--if-older", "7d") == Ran(0, "", "")
    assert desk.spotify.asked == []
    desk.fetched_days_ago(8)
    assert desk.run("--if-older", "7d").out == "angry: unchanged\n"
    assert desk.run("--if-older", "7d") == Ran(0, "", "")
    desk.fetched_days_ago(22)
    assert desk.run("--if-older", "7d").out == "angry: 2 songs, the same as before\n"
    desk.fetched_days_ago(25)
    assert desk.run("--if-older", "4w").out == "angry: 2 songs, the same as before\n"
    desk.playlists(angry=one, sad=desk.spotify.add(2, "B", songs_from(5, 2)))
    assert "sad: 2 songs" in desk.run("--if-older", "2w").out
    desk.folder.joinpath("sad.csv").unlink()
    assert "sad: 2 songs" in desk.run("--if-older", "2w").out
    assert desk.run("--if-older", "soon").code == 2


# -- nothing is lost


@pytest.mark.parametrize("entries", [[], [None, None], [song(1, is_playable=False)]])
def test_an_empty_answer_never_replaces_a_list(desk: Desk, entries: list[Any]) -> None:
    """A playlist without a playable song leaves the list as it was, and the exit code says so."""
    desk.playlists(angry=desk.spotify.add(1, "A", entries), happy=desk.spotify.add(2, "B", songs_from(0, 2)))
    ran = desk.run()
    assert (ran.code, desk.titles("angry"), desk.titles("happy")) == (1, OLD_ANGRY, names(0, 2))
    assert "angry stays as it was: the playlist holds no song that can be played" in ran.err
    assert "angry" not in desk.synced()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body={"items": None, "total": 0}),
        Answer(body={}),
        Answer(body=[]),
        Answer(body=None),
        Answer(body=b"<html>log in to the hotel</html>"),
        Answer(body=b""),
        Answer(body={"items": [1] * 50, "total": 50}, cut=60),
        Answer(503, b"upstream connect error"),
        Answer(502, {"error": "no object"}),
        Answer(500, [1]),
        error(400, "Bad request"),
        Answer(302, b"", {"Location": "/v1/elsewhere"}),
    ],
    ids=lambda answer: f"{answer.status} {answer.body!r:.25}",
)
def test_a_failed_answer_never_replaces_a_list(desk: Desk, answer: Answer) -> None:
    """Whatever comes instead of the second page, the list stays, the others go on, and the exit code is 1."""
    one, two = desk.spotify.add(1, "A", songs_from(0, 80)), desk.spotify.add(2, "B", songs_from(0, 2))
    desk.playlists(angry=one, happy=two)
    first_page = Answer(body={"items": desk.spotify.lists[one].entries[:50], "total": 80})
    desk.spotify.fail(f"{one}/items", first_page, *[answer] * 4)
    ran = desk.run()
    assert (ran.code, desk.titles("angry"), desk.titles("happy")) == (1, OLD_ANGRY, names(0, 2))
    assert ran.err.startswith("spotify_sync: angry stays as it was: ")
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err


def test_a_playlist_of_several_that_fails_keeps_the_whole_list(desk: Desk) -> None:
    """A list made of two playlists is replaced only when both came."""
    desk.playlists(angry=[desk.spotify.add(1, "A", songs_from(0, 2)), made_id("list", 404)])
    ran = desk.run()
    assert (ran.code, desk.titles("angry")) == (1, OLD_ANGRY)
    assert "there is no such playlist" in ran.err


def test_a_kill_at_any_moment_leaves_every_list_whole(desk: Desk) -> None:
    """Killed at 40 random moments of a refresh, each list is one whole version of its playlist, and the notes are JSON.

    The refreshes are processes of their own, forked from one that has imported what they need.
    """
    dice = random.Random(7)
    lists = {e: desk.spotify.add(n, e, []) for n, e in enumerate(EMOTIONS)}
    desk.playlists(**lists)
    versions = {e: [desk.titles(e)] for e in EMOTIONS}
    cut_short = 0
    with subprocess.Popen(
        [sys.executable, "-c", FORKED_RUNS],
        cwd=ROOT,
        env=desk.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as runs:
        assert runs.stdin
        assert runs.stdout
        for version in range(1, 41):
            for n, e in enumerate(EMOTIONS):
                first = 10_000 * version + 1000 * n
                desk.spotify.lists[lists[e]].entries = [desk.spotify.entry(track) for track in songs_from(first, 60)]
                versions[e].append(names(first, 60))
            desk.spotify.asked.clear()
            runs.stdin.write("\n")
            runs.stdin.flush()
            process = int(runs.stdout.readline())
            seen = dice.randrange(1, 16)  # requests, of the 15 that the refresh takes
            assert eventually(lambda seen=seen: len(desk.spotify.asked) >= seen)  # type: ignore[misc]
            time.sleep(dice.random() * 0.02)
            os.kill(process, signal.SIGKILL)  # a child that has ended is kept for this until stdin's next line
            runs.stdin.write("\n")
            runs.stdin.flush()
            cut_short += int(runs.stdout.readline()) == signal.SIGKILL
            assert all(desk.titles(e) in versions[e] for e in EMOTIONS)
            assert not desk.folder.joinpath("synced.json").exists() or set(desk.synced()) <= set(EMOTIONS)
    assert cut_short > 10
    assert desk.run().code == 0
    assert all(desk.titles(e) == versions[e][-1] for e in EMOTIONS)
    assert not list(desk.folder.glob(".*.part"))


def test_after_a_crash_between_two_lists_the_next_run_goes_on(desk: Desk) -> None:
    """What was done before a crash is not fetched again."""
    one, two = desk.spotify.add(1, "A", songs_from(0, 2)), desk.spotify.add(2, "B", songs_from(10, 2))
    desk.playlists(angry=one, happy=two)

    def killed(asked: Asked) -> None:
        if two in asked.path and process.poll() is None:
            process.kill()

    desk.spotify.before = killed
    process = desk.process()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert (desk.titles("angry"), desk.titles("happy")) == (names(0, 2), [f"Old {30 + k}" for k in range(5)])
    assert desk.run().out == "angry: unchanged\nhappy: 2 songs, 2 new, 5 gone\n"


def test_two_refreshes_do_not_run_at_once(desk: Desk) -> None:
    """While one refresh is at work a second one says so, writes nothing and exits with 1; a dry run may look."""
    playlist = desk.spotify.add(1, "A", songs_from(0, 2))
    desk.playlists(angry=playlist)
    entered, go_on = threading.Event(), threading.Event()

    def held(asked: Asked) -> None:
        entered.set()
        go_on.wait(20)

    desk.spotify.before = held
    process = desk.process()
    try:
        assert entered.wait(20)
        ran = desk.run()
    finally:
        go_on.set()
        process.communicate()
    assert (ran.code, ran.out, process.returncode) == (1, "", 0)
    assert "another refresh is at work" in ran.err
    assert desk.titles("angry") == names(0, 2)


def test_a_folder_that_takes_no_lock_is_not_called_busy(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system knows no locks, waiting would not help: what would is said."""

    def unlockable(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unlockable)
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    ran = desk.run()
    assert (ran.code, "takes no lock (No locks available)" in ran.err, "at work" in ran.err) == (2, True, False)


def test_a_folder_that_cannot_be_written_is_named(desk: Desk) -> None:
    """A songs folder that is not there, or is a file, ends the run with its name and exit code 2."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    desk.folder.joinpath(".spotify_sync.lock").mkdir()
    ran = desk.run()
    assert ran.code == 2
    assert f"{desk.folder}/.spotify_sync.lock: Is a directory" in ran.err


# -- what Spotify refuses


def test_someone_elses_list(desk: Desk) -> None:
    """A list of another person gets its name, its owner and what to do; one that one may edit is read."""
    theirs = desk.spotify.add(1, "Party", songs_from(0, 2), owner="bob")
    shared = desk.spotify.add(2, "Ours", songs_from(10, 2), owner="bob", collaborative=True)
    desk.playlists(angry=theirs, happy=shared)
    ran = desk.run()
    assert (ran.code, desk.titles("angry"), desk.titles("happy")) == (1, OLD_ANGRY, names(10, 2))
    assert "playlist Party belongs to Bob. Spotify gives an app only the lists that you own" in ran.err


def test_an_editorial_list(desk: Desk) -> None:
    """One of Spotify's own lists gets a message that says to copy it."""
    desk.playlists(angry=f"https://open.spotify.com/playlist/{EDITORIAL}?si=1")
    ran = desk.run()
    assert (ran.code, desk.titles("angry")) == (1, OLD_ANGRY)
    assert f"{EDITORIAL} is one of Spotify's own" in ran.err
    assert "Add to other playlist" in ran.err


def test_a_list_whose_items_are_refused_is_read_from_the_playlist(desk: Desk) -> None:
    """Where /items answers 403 for one's own list, the songs nested in the playlist are taken."""
    desk.spotify.nested_only = True
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 80)))
    assert desk.run() == Ran(0, "angry: 80 songs, 80 new, 5 gone\n", "")


def test_the_first_part_of_a_list_does_not_drop_the_rest(desk: Desk) -> None:
    """The nested songs of a longer list are added to the old ones instead of replacing them."""
    desk.spotify.nested_only = True
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 130)))
    ran = desk.run()
    assert desk.titles("angry") == OLD_ANGRY + names(0, 100)
    assert "Spotify gave only 100 of the 130 entries, so the old songs stay" in ran.out


def test_entries_that_spotify_keeps_to_itself_freeze_no_list(desk: Desk) -> None:
    """A count that stays larger than what comes: the new songs are taken, the old ones stay, the line says why."""
    one = desk.spotify.add(1, "A", songs_from(0, 80))
    desk.playlists(angry=one)
    entries = desk.spotify.lists[one].entries
    pages = [{"items": part, "total": 130, "limit": 50} for part in (entries[:48], entries[50:], [])]
    desk.spotify.fail(f"{one}/items", *(Answer(body=page) for page in pages))
    ran = desk.run()
    assert (ran.code, ran.err) == (0, "")
    assert "Spotify gave only 78 of the 130 entries, so the old songs stay" in ran.out
    assert desk.titles("angry") == OLD_ANGRY + names(0, 48) + names(50, 30)
    offsets = [asked.query["offset"] for asked in desk.spotify.asked if asked.path.endswith("/items")]
    assert offsets == ["0", "50", "100"]


def test_an_emptied_list_of_ones_own_is_no_stranger(desk: Desk) -> None:
    """Where /items is refused an empty playlist is told from somebody else's; a creation cut short goes on."""
    desk.spotify.nested_only = True
    desk.playlists(angry=desk.spotify.add(1, "Visage FM: angry", []))
    assert "angry stays as it was: the playlist holds no song that can be played" in desk.run().err
    desk.folder.joinpath("playlists.json").unlink()
    assert "angry: 'Visage FM: angry' was there, 5 songs added" in desk.run("playlists", "--create").out


def test_the_rest_of_a_list_is_asked_for_again(desk: Desk) -> None:
    """With --append too: once Spotify gives all of it, the songs after the first part come."""
    desk.spotify.nested_only = True
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 130)))
    assert "only 100 of the 130 entries" in desk.run("--append").out
    desk.spotify.nested_only = False
    assert desk.run("--append").out == "angry: 135 songs, 30 new, 0 gone\n"
    assert desk.run("--append").out == "angry: unchanged\n"


@pytest.mark.parametrize("command", [(), ("playlists", "--create"), ("status",)])
def test_a_folder_that_is_not_there_is_named(desk: Desk, tmp_path: Path, command: tuple[str, ...]) -> None:
    """Before anything is made at Spotify: a misspelt folder would make seven empty playlists."""
    ran = desk.run(*command, VISAGE_SONGS=str(tmp_path / "my-sogns"))
    assert (ran.code, desk.spotify.lists) == (2, {})
    assert "my-sogns: there is no such folder; make it, or name another" in ran.err
    ran = desk.run(*command, VISAGE_SONGS=str(tmp_path / ("a" * 300)))
    assert (ran.code, desk.spotify.lists) == (2, {})
    assert "File name too long; make it, or name another" in ran.err


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (plain_text(403, PREMIUM), "its owner needs Premium"),
        (plain_text(403, "Check settings, the user may not be registered."), "add yourself under User Management"),
        (error(403, "Insufficient client scope"), "the login lacks a permission: log in again; run this at a terminal"),
        (error(401, "The access token expired"), "does not accept the token; run this at a terminal"),
    ],
)
def test_what_needs_a_person_ends_the_run(desk: Desk, answer: Answer, says: str) -> None:
    """Premium, the allow-list, a permission and a dead token are explained, and exit with 2; the lists stay."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    for part in ("/me/playlists", "/items"):
        desk.spotify.fail(part, answer, for_ever=True)
        ran = desk.run()
        assert (ran.code, desk.titles("angry")) == (2, OLD_ANGRY)
        assert says in ran.err
        desk.spotify.faults.clear()


@pytest.mark.parametrize(
    ("answer", "until"),
    [
        (error(429, "API rate limit exceeded", Retry_After="86400"), True),
        (error(429, "Quota", "QUOTA_EXCEEDED", Retry_After="30"), True),
        (error(429, "Quota", "QUOTA_EXCEEDED"), False),
        (Answer(429, b"Too many requests", {"Retry-After": "3600"}), True),
    ],
)
def test_a_used_up_quota_ends_the_run_with_what_is_done(desk: Desk, answer: Answer, until: bool) -> None:
    """A long limit is not waited for: the time is said, finished lists stay finished, the next run goes on."""
    one, two = desk.spotify.add(1, "A", songs_from(0, 2)), desk.spotify.add(2, "B", songs_from(10, 2))
    desk.playlists(angry=one, happy=two)
    desk.spotify.fail(f"{two}/items", answer)
    ran = desk.run()
    assert (ran.code, ran.out) == (1, "angry: 2 songs, 2 new, 5 gone\n")
    seconds = int(answer.headers.get("Retry-After", 0))
    ends = {f"until {datetime.now() + timedelta(seconds=seconds - k):%Y-%m-%d %H:%M}" for k in (0, 5, 60)}
    assert any(end in ran.err for end in (ends if until else {"used up for now"}))
    assert desk.run().out == "angry: unchanged\nhappy: 2 songs, 2 new, 5 gone\n"


@pytest.mark.parametrize(
    "answer",
    [
        error(429, "API rate limit exceeded", Retry_After="0"),
        Answer(503, b"upstream connect error"),
        Answer(body=b"<html>"),
        Answer(body={"items": [], "total": 0}, cut=10),
        Answer(body={"items": [], "total": 0}, cut=0),
    ],
)
@pytest.mark.parametrize("part", ["/me/playlists", "/items", "/api/token"])
def test_what_fails_in_passing_is_asked_again(desk: Desk, answer: Answer, part: str) -> None:
    """A short limit, a 503, a broken body and a cut connection are got over, at the login server as well."""
    desk.log_in(expires_in=-1)
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    desk.spotify.fail(part, answer)
    assert desk.run() == Ran(0, "angry: 2 songs, 2 new, 5 gone\n", "")
    assert len([asked for asked in desk.spotify.asked if part in asked.path]) == 2


def test_trouble_that_lasts_is_said(desk: Desk) -> None:
    """503 for ever ends with a message, exit code 1 and the lists as they were, after four tries."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    desk.spotify.fail("/me/playlists", Answer(503, b""), for_ever=True)
    ran = desk.run()
    assert (ran.code, ran.err) == (1, "spotify_sync: Spotify has trouble of its own (503)\n")
    assert (len(desk.spotify.asked), desk.titles("angry")) == (4, OLD_ANGRY)


def test_no_network(desk: Desk) -> None:
    """Without a network the message says so, and the exit code is 1."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
        ran = desk.run(SPOTIFY_API_BASE=f"http://127.0.0.1:{nobody.getsockname()[1]}/v1")
    assert (ran.code, desk.titles("angry")) == (1, OLD_ANGRY)
    assert "Spotify cannot be reached (ConnectionError): is there a network?" in ran.err


# -- the token


@pytest.mark.parametrize("how", ["next", "redirect"])
def test_the_token_goes_to_no_other_host(desk: Desk, how: str) -> None:
    """Neither a page's `next` nor a redirect makes the script ask another address."""
    other = FakeSpotify()
    with other.serving() as elsewhere:
        playlist = desk.spotify.add(1, "A", songs_from(0, 80))
        desk.playlists(angry=playlist)
        desk.spotify.next_host = elsewhere
        if how == "redirect":
            there = Answer(302, b"", {"Location": f"{elsewhere}/v1/playlists/{playlist}/items"})
            desk.spotify.fail("/items", there, for_ever=True)
        ran = desk.run()
    assert other.asked == []
    assert ran.code == (1 if how == "redirect" else 0)


def test_a_token_is_in_no_log_and_no_message(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """With every log turned up, no line holds an access or a refresh token, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    desk.log_in(expires_in=-1)
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)), sad=EDITORIAL)
    desk.spotify.fail("/me/playlists", Answer(503, b""), Answer(body=b"<html>"))
    told = [desk.run(), desk.run("status"), desk.run("playlists")]
    desk.spotify.access_tokens.clear()
    told += [desk.run(), desk.run("logout"), desk.run()]
    assert not re.search(r"(access|refresh)-\d", caplog.text + "".join(ran.out + ran.err for ran in told))


def test_an_old_token_is_renewed(desk: Desk) -> None:
    """A token whose hour is over is renewed, and with PKCE the new refresh token is kept, in a file of mode 600."""
    desk.log_in(expires_in=-1, logged_in_at=1_790_000_000)
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    assert desk.run().code == 0
    kept = json.loads(desk.token.read_text())
    assert {kept["refresh_token"]} == desk.spotify.refresh_tokens != {"refresh-0"}
    assert kept["expires_at"] > time.time() + 3000
    assert kept["logged_in_at"] == 1_790_000_000
    assert desk.token.stat().st_mode & 0o777 == 0o600
    assert "until about 2027-03" in desk.run("status").out


def test_a_token_that_ends_before_its_time_is_renewed(desk: Desk) -> None:
    """Spotify may take one back, or the clock was wrong when it came: it is renewed once, and the run done."""
    desk.log_in(access_token="taken-back")
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    ran = desk.run()
    assert (ran.code, ran.err, len(desk.titles("angry"))) == (0, "", 2)
    assert json.loads(desk.token.read_text())["refresh_token"] != "refresh-0"


def test_the_end_of_a_login_is_said_in_time(desk: Desk) -> None:
    """Two weeks before Spotify ends it each run says so, for cron's mail; a date that is none stops nothing."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    for days, said in ((150, False), (170, True)):
        desk.log_in(logged_in_at=time.time() - days * 24 * 3600)
        ran = desk.run()
        assert (ran.code, "the login ends about" in ran.err) == (0, said)
    for odd in ("soon", 1e300):
        desk.log_in(logged_in_at=odd)
        assert (desk.run().code, "Login:  yes (" in desk.run("status").out) == (0, True)


def test_a_full_disk_is_said_with_the_file_that_it_had_no_room_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system names no file where it is a write that fails; from cron nobody would know which disk it is."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    monkeypatch.setattr("model.files.os.fsync", full)
    ran = desk.run()
    assert (ran.code, desk.titles("angry")) == (2, OLD_ANGRY)
    assert ran.err == f"spotify_sync: {desk.folder / 'angry.csv'}: No space left on device\n"


def test_a_mood_named_twice_is_said(desk: Desk) -> None:
    """JSON takes the last of two in silence, and the first playlist would never be fetched."""
    one, two = desk.spotify.add(1, "A", songs_from(0, 2)), desk.spotify.add(2, "B", songs_from(5, 2))
    (desk.folder / "playlists.json").write_text(f'{{"angry": "{one}", "angry": "{two}"}}')
    ran = desk.run()
    assert (ran.code, ran.err) == (
        2,
        "spotify_sync: playlists.json names angry twice: put all its links into one list\n",
    )


def test_a_full_disk_does_not_cost_the_login(desk: Desk) -> None:
    """Where the new token could not be kept it is not asked for: with PKCE the old one would be spent."""
    desk.log_in(expires_in=-1)
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    line = f"trap '' XFSZ; ulimit -f 0; {shlex.join(SCRIPT)} 2>&1 | cat"
    full = subprocess.run(["bash", "-c", line], env=desk.environment, capture_output=True, text=True, check=False)
    assert f"Spotify's token cannot be kept (File too large); mend that at {desk.token}" in full.stdout
    assert not [asked for asked in desk.spotify.asked if asked.path == "/api/token"]
    assert desk.run().code == 0


def test_an_app_with_a_secret_keeps_its_refresh_token(desk: Desk) -> None:
    """With a secret the renewal is signed with it, and the refresh token stays."""
    desk.spotify.secret = "hush"
    desk.log_in(expires_in=-1)
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    assert desk.run(SPOTIPY_CLIENT_SECRET="hush").code == 0
    assert json.loads(desk.token.read_text())["refresh_token"] == "refresh-0"
    desk.log_in(expires_in=-1)
    ran = desk.run(SPOTIPY_CLIENT_SECRET="wrong")
    assert (ran.code, desk.token.exists()) == (2, True)
    assert "check SPOTIPY_CLIENT_ID and SPOTIPY_CLIENT_SECRET" in ran.err


def test_a_dead_login_is_deleted(desk: Desk) -> None:
    """invalid_grant is explained, the dead token goes, and the next run says to log in."""
    desk.log_in(expires_in=-1)
    desk.spotify.refresh_tokens.clear()
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    ran = desk.run()
    assert (ran.code, desk.token.exists()) == (2, False)
    assert "the login has ended, as each does after six months, or was replaced" in ran.err
    assert "you are not logged in" in desk.run().err


def test_a_login_renewed_by_another_run_is_used(desk: Desk) -> None:
    """When the refresh token was used up by another run in the meantime, that run's token stays and serves."""
    desk.log_in(expires_in=-1)
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))

    def renewed(asked: Asked) -> None:
        desk.spotify.refresh_tokens = {"refresh-of-another"}
        desk.log_in(refresh_token="refresh-of-another")

    desk.spotify.before = renewed
    assert desk.run() == Ran(0, "angry: 2 songs, 2 new, 5 gone\n", "")
    assert json.loads(desk.token.read_text())["refresh_token"] == "refresh-of-another"


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"access_token": "a"}', "{"])
def test_no_token_and_no_terminal(desk: Desk, content: str | None) -> None:
    """Without a usable token the script neither opens a browser nor asks: it says to log in, and exits with 2."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 2)))
    desk.token.unlink()
    if content is not None:
        desk.token.write_text(content)
    if content is None:
        process = desk.process()
        ran = Ran(0, *process.communicate(timeout=30))._replace(code=process.returncode)
    else:
        ran = desk.run()
    assert ran == Ran(
        2,
        "",
        "spotify_sync: you are not logged in to Spotify; run this at a terminal: .venv/bin/python spotify_sync.py login"
        f" (no token in {desk.token})\n",
    )
    assert desk.spotify.asked == []


def test_without_an_app(desk: Desk) -> None:
    """Without a client id the message says where to create an app."""
    desk.playlists(angry=LIST)
    ran = desk.run(SPOTIPY_CLIENT_ID="")
    assert ran.code == 2
    assert "SPOTIPY_CLIENT_ID is not set: create an app at https://developer.spotify.com/dashboard" in ran.err


def test_a_token_file_is_its_owners_from_its_first_byte(tmp_path: Path) -> None:
    """While the token is being written no file of its folder is readable by anyone else, under any umask."""
    modes: list[int] = []

    class Watching(dict[str, Any]):
        def items(self) -> Any:
            modes.extend(path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir())
            return super().items()

    before = os.umask(0)
    try:
        write_token(tmp_path / "new/token.json", Watching(access_token="a"))
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert (tmp_path / "new/token.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_logout_deletes_the_token(desk: Desk) -> None:
    """After logout there is no token, and a second logout does no harm."""
    assert "deleted" in desk.run("logout").out
    assert not desk.token.exists()
    assert desk.run("logout") == Ran(0, desk.run("logout").out, "")
    assert desk.run("status").code == 2


# -- logging in


@dataclass
class Login:
    """A login at work in a process of its own; its lines arrive as they are printed."""

    process: subprocess.Popen[str]
    page: str = ""

    def ended(self) -> Ran:
        out, err = self.process.communicate(timeout=30)
        return Ran(self.process.returncode, out, err)


def next_line(process: subprocess.Popen[str]) -> str:
    """The process's next line, and no byte more: `communicate` does not know what a reader has buffered."""
    assert process.stdout
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(process.stdout.fileno(), 1)):
        line += byte
    return line.decode()


@pytest.fixture
def start_login(desk: Desk) -> Iterator[Callable[..., Login]]:
    """Start `login` and read the address of the page that it prints."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, redirect: str | None = None, **options: Any) -> Login:
        desk.token.unlink(missing_ok=True)
        desk.environment["SPOTIPY_REDIRECT_URI"] = redirect or f"http://127.0.0.1:{free_port()}/callback"
        process = desk.process("login", "--no-browser", "--timeout", "20", *arguments, **options)
        started.append(process)
        lines = iter(lambda: next_line(process), "")
        return Login(process, next((line.strip() for line in lines if "/authorize?" in line), ""))

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("secret", ["", "hush"])
def test_a_login_is_heard_and_kept(desk: Desk, start_login: Callable[..., Login], secret: str) -> None:
    """The way from Spotify's page back to the script ends with a token of mode 600, with a secret and with PKCE."""
    desk.spotify.secret = desk.environment["SPOTIPY_CLIENT_SECRET"] = secret
    login = start_login()
    assert requests.get(login.page.replace("/authorize", "/favicon.ico"), timeout=10).status_code == 401
    assert ("code_challenge_method=S256" in login.page) == (not secret)
    assert "Thank you" in requests.get(login.page, timeout=10).text
    ran = login.ended()
    assert (ran.code, ran.err) == (0, "")
    assert "Spotify answers" in ran.out
    kept = json.loads(desk.token.read_text())
    assert kept["access_token"] in desk.spotify.access_tokens
    assert {"refresh_token", "expires_at", "scope", "logged_in_at"} <= kept.keys()
    assert desk.token.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("code=stolen&state=wrong", "its state differs"),
        ("code=stolen", "its state differs"),
        ("error=access_denied&state={state}", "did not log you in (access_denied)"),
        ("code=unknown&state={state}", "the login has ended"),
    ],
)
def test_a_login_that_is_not_ours_is_refused(
    desk: Desk, start_login: Callable[..., Login], answer: str, says: str
) -> None:
    """A wrong or missing state, a refusal and a code that is none end the login with 2 and keep nothing."""
    login = start_login()
    state = re.search(r"state=([\w-]+)", login.page)
    assert state
    back = desk.environment["SPOTIPY_REDIRECT_URI"]
    assert requests.get(back.replace("callback", "other"), timeout=10).status_code == 404
    requests.get(f"{back}?{answer.format(state=state[1])}", timeout=10)
    ran = login.ended()
    assert (ran.code, desk.token.exists()) == (2, False)
    assert says in ran.err
    assert "stolen" not in ran.out + ran.err


def test_a_login_gives_up(desk: Desk, start_login: Callable[..., Login]) -> None:
    """A login that nobody answers ends by itself, with 2."""
    ran = start_login("--timeout", "0.1").ended()
    assert ran.code == 2
    assert "nobody logged in within 0.1 seconds" in ran.err


def test_a_taken_port_means_pasting(desk: Desk, start_login: Callable[..., Login]) -> None:
    """Where the port is taken the address of the last page can be pasted; without an answer the login ends with 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        redirect = f"http://127.0.0.1:{taken.getsockname()[1]}/callback"
        login = start_login(redirect=redirect, stdin=subprocess.PIPE)
        answer = requests.get(login.page, timeout=10, allow_redirects=False).headers["Location"]
        out, err = login.process.communicate(f"\n  {answer}\n", timeout=30)
        assert (login.process.returncode, err, desk.token.exists()) == (0, "", True)
        assert "is the port taken?" in out
        ran = start_login(redirect=redirect).ended()
    assert (ran.code, desk.token.exists()) == (2, False)


def test_a_pasted_address_is_taken_while_listening(desk: Desk, start_login: Callable[..., Login]) -> None:
    """At a terminal an address may be pasted at any time: the browser may be on another machine."""
    leader, follower = pty.openpty()
    try:
        login = start_login(stdin=follower)
        answer = requests.get(login.page, timeout=10, allow_redirects=False).headers["Location"]
        os.write(leader, f"{answer}\n".encode())
        assert login.ended().code == 0
    finally:
        os.close(leader)
        os.close(follower)


def test_localhost_is_refused(desk: Desk) -> None:
    """Spotify refuses localhost as a redirect; so does the login, before anything is asked."""
    ran = desk.run("login", SPOTIPY_REDIRECT_URI="http://localhost:8888/callback")
    assert (ran.code, "write 127.0.0.1" in ran.err) == (2, True)


def test_a_login_without_premium_is_told_at_once(desk: Desk, start_login: Callable[..., Login]) -> None:
    """The login asks Spotify one question, so that a refused app is known before cron meets it."""
    desk.spotify.fail("/me/playlists", plain_text(403, PREMIUM))
    login = start_login()
    requests.get(login.page, timeout=10)
    ran = login.ended()
    assert ran.code == 2
    assert "needs Premium" in ran.err


@pytest.mark.parametrize("wrong", ["-1", "0", "inf", "nan", "soon"])
def test_a_wait_that_is_none_is_refused(desk: Desk, wrong: str) -> None:
    """--timeout takes seconds."""
    ran = desk.run("login", "--timeout", wrong)
    assert (ran.code, f"{wrong!r} is no time in seconds" in ran.err) == (2, True)


# -- the playlists command


class Terminal:
    """The script at a terminal; what it shows, and what a person types."""

    def __init__(self, desk: Desk, *arguments: str) -> None:
        self.leader, follower = pty.openpty()
        self.process = desk.process(*arguments, stdin=follower, stdout=follower, stderr=follower)
        os.close(follower)
        self.shown = ""

    def until(self, text: str) -> None:
        """Read until `text` has been shown, or to the end."""
        while text not in self.shown and select.select([self.leader], [], [], 20)[0]:
            try:
                self.shown += os.read(self.leader, 4096).decode()
            except OSError:
                break
        assert text in self.shown, self.shown

    def type(self, text: str) -> None:
        os.write(self.leader, f"{text}\n".encode())

    def close(self) -> int:
        code = self.process.wait(30)
        os.close(self.leader)
        return code


def test_playlists_are_chosen_by_name(desk: Desk) -> None:
    """At a terminal one's own playlists are shown and chosen by name, part of a name, number or link."""
    ids = [desk.spotify.add(n, name, []) for n, name in enumerate(["Rage", "Sunny days", "Rainy days", "Other"])]
    desk.spotify.add(9, "Of Bob", [], owner="bob")
    desk.playlists(neutral=ids[3])
    at = Terminal(desk, "playlists")
    for prompt, typed in [
        ("angry [none]: ", "rage"),
        ("disgust [none]: ", ""),
        ("fear [none]: ", "2"),
        ("happy [none]: ", "days"),
        ("2 playlists are called that; give the number", "sunny"),
        ("sad [none]: ", "no such list"),
        ("'no such list' is not a playlist", f"https://open.spotify.com/playlist/{ids[2]}?si=1"),
        ("surprise [none]: ", ""),
        (f"neutral [{ids[3]}]: ", ""),
    ]:
        at.until(prompt)
        at.type(typed)
    at.until("Written: ")
    assert at.close() == 0
    assert f"4  {ids[3]}  Other  neutral" in at.shown
    assert "Of Bob" not in at.shown
    assert "happy: Sunny days" in at.shown  # part of a name is enough, so it is said which list was meant
    chosen = {Emotion.ANGRY: (ids[0],), Emotion.FEAR: (ids[1],), Emotion.HAPPY: (ids[1],), Emotion.SAD: (ids[2],)}
    assert read_playlists(desk.folder) == chosen | {Emotion.NEUTRAL: (ids[3],)}


def test_nothing_chosen_is_nothing_written(desk: Desk) -> None:
    """Enter for every mood leaves no file, and none is claimed."""
    desk.spotify.add(1, "Rage", [])
    at = Terminal(desk, "playlists")
    for emotion in EMOTIONS:
        at.until(f"{emotion} [none]: ")
        at.type("")
    at.until("Nothing was chosen, and nothing written.")
    assert at.close() == 0
    assert not desk.folder.joinpath("playlists.json").exists()


def test_playlists_without_a_terminal_are_listed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal the playlists are listed and nothing is asked or written."""
    monkeypatch.setattr(sys, "stdin", None)  # as when whoever started this has closed it
    assert "no playlist of your own yet" in desk.run("playlists").out
    playlist = desk.spotify.add(1, "Rage", [])
    ran = desk.run("playlists")
    sys.stdin.close()
    assert f"  1  {playlist}  Rage\n" in ran.out
    assert "Put the ids into" in ran.out
    assert not desk.folder.joinpath("playlists.json").exists()


def test_the_seven_playlists_can_be_created(desk: Desk) -> None:
    """`playlists --create` makes a private playlist a mood, filled with its songs, and a refresh works with them."""
    write_tracks(desk.folder / "happy.csv", [old(1000 + k) for k in range(130)])
    mine = desk.spotify.add(1, "Mine", songs_from(0, 1))
    desk.playlists(sad=mine)
    desk.spotify.gone = {made_id("old", 1003), made_id("old", 1111)}
    ran = desk.run("playlists", "--create")
    assert ran.code == 0
    assert "happy: 'Visage FM: happy' created, 128 songs added\n" in ran.out
    assert "sad: has its playlist already\n" in ran.out
    made = [json.loads(asked.body) for asked in desk.spotify.asked if asked[:2] == ("POST", "/v1/me/playlists")]
    assert [playlist["public"] for playlist in made] == [False] * 6
    assert read_playlists(desk.folder)[Emotion.SAD] == (mine,)
    assert len(read_playlists(desk.folder)) == 7
    ran = desk.run()
    assert (ran.code, ran.err) == (0, "")
    assert "happy: 128 songs, 0 new, 2 gone\n" in ran.out


def test_choices_are_kept_when_a_person_stops(desk: Desk) -> None:
    """Each answer is in playlists.json at once, as the last line says."""
    playlist = desk.spotify.add(1, "Rage", [])
    at = Terminal(desk, "playlists")
    at.until("angry [none]: ")
    at.type("rage")
    at.until("disgust [none]: ")
    os.write(at.leader, b"\x04")
    at.until("stopped; what was done is saved")
    assert at.close() == 130
    assert read_playlists(desk.folder) == {Emotion.ANGRY: (playlist,)}


def test_a_creation_cut_short_is_taken_up_again(desk: Desk) -> None:
    """A playlist that an earlier run made is used, and filled if it is empty; none is made twice."""
    desk.spotify.fail("/items", Answer(503, b""))
    assert desk.run("playlists", "--create").code == 1
    assert not desk.folder.joinpath("playlists.json").exists()
    ran = desk.run("playlists", "--create")
    assert "angry: 'Visage FM: angry' was there, 5 songs added" in ran.out
    assert sorted(held.name for held in desk.spotify.lists.values()) == sorted(f"Visage FM: {e}" for e in EMOTIONS)
    assert all(len(held.entries) == 5 for held in desk.spotify.lists.values())


def test_a_creation_cut_short_in_the_middle_is_filled_up(desk: Desk) -> None:
    """Of a list that takes two requests, the songs of the second are added by the next run; a refresh loses none."""
    write_tracks(desk.folder / "angry.csv", [old(k) for k in range(150)])

    def limited(asked: Asked) -> None:
        if asked.path.endswith("/items") and any(len(held.entries) == 100 for held in desk.spotify.lists.values()):
            desk.spotify.fail("/items", error(429, "API rate limit exceeded", Retry_After="3600"))

    desk.spotify.before = limited
    assert desk.run("playlists", "--create").code == 1
    assert [len(held.entries) for held in desk.spotify.lists.values()] == [100]
    desk.spotify.before = lambda asked: None
    assert "angry: 'Visage FM: angry' was there, 50 songs added" in desk.run("playlists", "--create").out
    assert "angry: 150 songs, the same as before" in desk.run("--only", "angry").out


def test_a_playlist_that_a_person_made_their_own_is_not_filled_up(desk: Desk) -> None:
    """One of our name with a song that the list has not is taken as it stands."""
    desk.spotify.add(1, "Visage FM: angry", songs_from(0, 2))
    assert "angry: 'Visage FM: angry' was there, 0 songs added" in desk.run("playlists", "--create").out


def test_no_playlist_is_made_of_a_list_that_cannot_be_read(desk: Desk) -> None:
    """A spreadsheet saved it in UTF-16: an empty playlist would empty the list at the next refresh."""
    path = desk.folder / "happy.csv"
    whole = path.read_text()
    path.write_text(whole, encoding="utf-16")
    assert "happy.csv is not a song list" in desk.run("status").out
    ran = desk.run("playlists", "--create")
    assert (ran.code, ran.out.count("created, 5 songs added")) == (1, 6)
    assert f"happy: no playlist is made: {path} is not a song list" in ran.err
    path.write_text(whole)
    ran = desk.run("playlists", "--create")
    assert (ran.code, "happy: 'Visage FM: happy' created, 5 songs added" in ran.out) == (0, True)


def test_a_playlist_is_not_created_twice_by_repeating(desk: Desk) -> None:
    """What must not happen twice is not repeated after a failure whose outcome is unknown; a limit is waited out."""
    desk.spotify.fail("/me/playlists", Answer(body={"items": [], "total": 0}), Answer(502, b""))
    assert desk.run("playlists", "--create").code == 1
    assert len([asked for asked in desk.spotify.asked if asked.method == "POST"]) == 1
    limit = error(429, "API rate limit exceeded", Retry_After="0")
    desk.spotify.fail("/me/playlists", Answer(body={"items": [], "total": 0}), limit)
    assert desk.run("playlists", "--create").code == 0


# -- the command line


@pytest.mark.parametrize("command", ["", "refresh", "login", "status", "logout", "playlists"])
def test_every_command_has_help(desk: Desk, command: str) -> None:
    """--help explains each command and exits with 0."""
    ran = desk.run(*([command] if command else []), "--help")
    assert (ran.code, ran.err, "usage: spotify_sync.py" in ran.out) == (0, "", True)


def test_status_says_how_things_stand(desk: Desk) -> None:
    """`status` asks Spotify nothing, and exits with 2 while a refresh could not run."""
    assert desk.run("status").code == 2
    desk.playlists(happy=desk.spotify.add(1, "A", songs_from(0, 3)))
    desk.run()
    desk.fetched_days_ago(40)
    desk.spotify.asked.clear()
    ran = desk.run("status")
    assert (ran.code, desk.spotify.asked) == (0, [])
    assert "happy         3 songs, fetched 40 days ago, playlists: 1\n" in ran.out
    assert "sad           5 songs, never fetched, playlists: 0\n" in ran.out
    desk.log_in(logged_in_at=int(time.time()) - 200 * 86400)
    ran = desk.run("status")
    assert (ran.code, desk.spotify.asked) == (2, [])
    assert re.search(r"Login:  over since about 20\d\d-\d\d-\d\d; run this at a terminal", ran.out)


def test_as_a_process_it_prints_one_plain_line_a_list(desk: Desk) -> None:
    """In cron a run prints a line a list to standard output, what failed to standard error, and an exit code."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 60)), happy=EDITORIAL)
    process = desk.process()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "angry: 60 songs, 60 new, 5 gone\n")
    assert err.startswith("spotify_sync: happy stays as it was: ")
    assert (err.count("\n"), "\r" in err) == (1, False)


def test_at_a_terminal_a_bar_shows_the_progress(desk: Desk) -> None:
    """At a terminal a bar fills while a list is fetched, and is gone when its line comes."""
    desk.playlists(angry=desk.spotify.add(1, "A", songs_from(0, 100)))
    at = Terminal(desk)
    at.until("angry: 100 songs, 100 new, 5 gone")
    assert at.close() == 0
    assert re.search(r"\rangry    \[#{15} {15}\] 50/100 +\r", at.shown)


def test_a_copy_of_the_project_reads_its_env_file(desk: Desk, tmp_path: Path) -> None:
    """The .env beside the script is read by the script."""
    copy = tmp_path / "copy"
    for name in (
        "spotify_sync.py",
        "model/emotions.py",
        "model/files.py",
        "model/__init__.py",
        "songs/catalog.py",
        "songs/dotenv.py",
        "songs/spotify.py",
        "terminal/stdio.py",
        "songs/synced.py",
    ):
        copy.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        copy.joinpath(name).write_bytes(ROOT.joinpath(name).read_bytes())
    mine = ("SPOTI", "VISAGE_")
    lines = [f"{name}={value}" for name, value in desk.environment.items() if name.startswith(mine)]
    copy.joinpath(".env").write_text("\n".join(lines))
    bare = {name: value for name, value in desk.environment.items() if not name.startswith(mine)}
    done = subprocess.run(
        [sys.executable, "spotify_sync.py", "status"], cwd=copy, env=bare, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "")
    assert f"Songs:  {desk.folder}\n" in done.stdout
    assert f"({desk.token})" in done.stdout
    copy.joinpath(".env").write_text("A=b", encoding="utf-16")
    done = subprocess.run(
        [sys.executable, "spotify_sync.py", "status"], cwd=copy, env=bare, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (CannotRunError.exit_code, "")
    assert done.stderr.endswith(".env is not text in UTF-8: save it again as UTF-8\n")


# -- Spotify's own list of what it offers


@pytest.mark.skipif(not OPERATIONS.exists(), reason="shared/data/spotify/openapi-operations.json is not here")
def test_no_call_uses_what_spotify_has_removed(desk: Desk) -> None:
    """Every call that the script makes is in Spotify's list, is not deprecated, and keeps to its limits."""
    theirs = desk.spotify.add(1, "Party", songs_from(0, 2), owner="bob")
    desk.playlists(angry=theirs)
    desk.run("playlists")
    desk.run("playlists", "--create")
    desk.run()
    operations = json.loads(OPERATIONS.read_text())["operations"]
    made = {
        (asked.method, re.sub(r"/list\w+", "/{}", asked.path.removeprefix("/v1").rstrip("/")))
        for asked in desk.spotify.api_calls()
    }
    offered = {(op["method"], re.sub(r"\{\w+\}", "{}", op["path"])): op for op in operations if not op["deprecated"]}
    assert len(made) == 6
    assert made <= offered.keys()
    for asked in desk.spotify.api_calls():
        operation = offered[asked.method, re.sub(r"/list\w+", "/{}", asked.path.removeprefix("/v1").rstrip("/"))]
        most = {parameter["name"]: parameter.get("maximum") for parameter in operation["parameters"]}
        assert asked.query.keys() <= most.keys()
        assert all(int(value) <= most[name] for name, value in asked.query.items() if most[name])


def test_the_fake_is_as_strict_as_spotify(desk: Desk) -> None:
    """The old /tracks path, several tracks at once, a page above 50 and a search above 10 are refused."""
    playlist = desk.spotify.add(1, "A", songs_from(0, 2))
    base = desk.environment["SPOTIFY_API_BASE"]

    def status(path: str) -> int:
        return requests.get(f"{base}{path}", headers={"Authorization": "Bearer access-0"}, timeout=10).status_code

    assert status(f"/playlists/{playlist}/tracks") == 403
    assert status("/tracks?ids=a,b") == 403
    assert status(f"/playlists/{playlist}/items?limit=51") == 400
    assert status("/search?q=a&type=track&limit=11") == 400
    assert status("/search?q=a&type=track&limit=10") == 200
    assert status("/recommendations") == 404
    assert requests.get(f"{base}/me", timeout=10).status_code == 401


def test_the_guide_names_every_command_option_and_setting(desk: Desk) -> None:
    """docs/spotify.md leaves out nothing that the command line takes."""
    guide = ROOT.joinpath("docs/spotify.md").read_text(encoding="utf-8")
    taken = {name for name in desk.environment if name.startswith(("SPOTI", "VISAGE_"))}
    for command in ("refresh", "login", "status", "logout", "playlists"):
        taken |= {command, *re.findall(r"--[a-z-]+", desk.run(command, "--help").out)}
    assert {name for name in taken if f"`{name}" not in guide and f" {name}" not in guide} == set()


@pytest.mark.parametrize("away", ["> /dev/full 2>&1", "2> /dev/full", "2>&1 | true"])
def test_lists_matter_more_than_complaints(desk: Desk, away: str) -> None:
    """The first list fails and nobody can be told, as with a log on a full disk: the other six are refreshed."""
    desk.playlists(angry=LIST, **{e: desk.spotify.add(n, e, songs_from(9 * n, 5)) for n, e in enumerate(EMOTIONS) if n})
    line = f"set -o pipefail; {shlex.join(SCRIPT)} {away}"
    done = subprocess.run(["bash", "-c", line], env=desk.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert set(desk.synced()) == set(EMOTIONS[1:])


@pytest.mark.parametrize("away", [">&-", "2>&-", "> /dev/full", "| true"])
def test_lists_matter_more_than_lines(desk: Desk, away: str) -> None:
    """All lists are refreshed, whoever takes the lines: nobody, a full disk, or a reader who has seen enough."""
    desk.playlists(**{e: desk.spotify.add(n, e, songs_from(10 * n, 5)) for n, e in enumerate(EMOTIONS)})
    line = f"set -o pipefail; {shlex.join(SCRIPT)} {away}"
    done = subprocess.run(["bash", "-c", line], env=desk.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert set(desk.synced()) == set(EMOTIONS)
    assert ("No space left" in done.stderr) == (away == "> /dev/full")
