"""Songs on the site by mood: a playlist split, a mood lifted, and labelled lists that the site then shows."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from bs4 import BeautifulSoup
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from camera import Camera
from model.emotions import EMOTIONS, Emotion
from model.song_moods import FEATURES
from songs.catalog import COLUMNS, Catalog, Track, id_in, read_tracks, write_tracks
from songs.features import FeaturesError, FeatureTable, Song, Sound, artists_in
from songs.lift import SONGS, STEPS, Place, lift, own_places
from songs.lookup import AT_ONCE, LONGEST, Lookup
from songs.paste import MOST_BYTES, MOST_LINES, NO_PLAYLIST, SplitError, read_songs, songs_of
from songs.split import PATIENCE, UNKNOWN, Splitter
from songs.split import main as split_songs
from tests.conftest import ROOT, eventually, track_id
from tests.test_site import running
from tests.test_song_moods import BALLAD, DANCE, METAL, PIANO, run, write
from web.services import Services, make_splitter
from web.settings import SettingsError

SOUNDS = {"angry": METAL, "neutral": PIANO, "happy": DANCE, "sad": BALLAD}


def made_table(path: Path) -> Path:
    """Four songs, one a mood: "angry song" by "The Angry" is song 1."""
    rows = [
        [track_id(n), f"{mood} song", f"The {mood}", *sound] for n, (mood, sound) in enumerate(SOUNDS.items(), start=1)
    ]
    return write(path, rows)


def counted(function: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    """The function, and a number in `calls` for each call."""

    def counting(*arguments: Any, **named: Any) -> Any:
        calls.append(len(calls))
        return function(*arguments, **named)

    return counting


@pytest.fixture
def table(tmp_path: Path) -> FeatureTable:
    return FeatureTable(made_table(tmp_path / "features.csv"))


# -- the table


@pytest.mark.parametrize(
    "song",
    [
        Song(track_id(1)),
        Song(track_id(1), "Another name", "Another artist"),
        Song(title="Angry Song", artist="THE ANGRY, Somebody"),
        Song(title="angry song - Remastered 2011", artist="The angry"),
        Song(title="Angry song (feat. Nobody)", artist="The Angry & Somebody"),
        Song(title="The angry", artist="angry song"),
    ],
)
def test_a_song_is_found_by_id_or_by_name(table: FeatureTable, song: Song) -> None:
    """By its id, else by artist and title in either order, whatever the case, the guests or the remaster."""
    (found,) = table.find([song])
    assert found is not None
    assert found.features == METAL
    assert found.song == Song(track_id(1), "angry song", "The angry")
    assert found.place == (METAL[FEATURES.index("valence")], METAL[FEATURES.index("energy")])


@pytest.mark.parametrize(
    "song", [Song(), Song(track_id(9)), Song(title="angry song", artist="The happy"), Song(title="angry song")]
)
def test_another_song_is_not_found(table: FeatureTable, song: Song) -> None:
    """Another id, another artist, or no artist at all finds nothing."""
    assert table.find([song]) == [None]


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("Two  spaces", "Two spaces"),
        ("Two\tspaces", "Two spaces"),
        ("Cliche\N{COMBINING ACUTE ACCENT}s", "Clich\N{LATIN SMALL LETTER E WITH ACUTE}s"),
        ("[feat. Somebody] Hello", "Hello"),
        ("Ft. Worth Blues", "Ft. Worth Blues"),
        ("Ft. Worth Blues", "Ft. Lauderdale"),
    ],
)
def test_titles_as_tables_write_them(tmp_path: Path, written: str, asked: str) -> None:
    """Spaces, accents and guests in front change nothing; a title that begins like a guest is one."""
    table = FeatureTable(write(tmp_path / "t.csv", [["", written, "A", *METAL]]))
    (found,) = table.find([Song(title=asked, artist="A")])
    assert (found is not None) == (asked != "Ft. Lauderdale")


def test_a_table_that_nothing_can_be_read_from_says_so(tmp_path: Path) -> None:
    """Measures from 0 to 100, and a quotation mark that swallows all that follows, would find no song in silence."""
    percent = FeatureTable(write(tmp_path / "t.csv", [[track_id(1), "One", "A", *[100 * n for n in METAL]]]))
    with pytest.raises(
        FeaturesError, match=r"t\.csv: no row of it can be used; line 2: \w+ is '.*', not a number from"
    ):
        percent.check()


@pytest.mark.parametrize("rows", [20, 900, 20_000])
def test_a_quotation_mark_that_is_never_closed_is_named_and_read_once(tmp_path: Path, rows: int) -> None:
    """It swallows what follows, to the end or to what a field may hold, and would leave songs unknown in silence."""
    path = write(tmp_path / "q.csv", [[track_id(n), f"Song {n}", "A", *METAL] for n in range(1, rows)])
    good = path.read_text()
    path.write_text(good.replace("Song 17,", '"Song 17,'))
    table = FeatureTable(path)
    table.check()
    read: list[int] = []
    table._rows = counted(table._rows, read)  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(FeaturesError, match=r"q\.csv: line 18 opens a quotation mark that is not closed"):
            table.find([Song(track_id(18))])
    assert len(read) == 1
    path.write_text(good)
    assert table.find([Song(track_id(18))]) != [None]


def test_a_song_of_many_lines_is_a_song(tmp_path: Path) -> None:
    """Lyrics in quotation marks that do close, however long they are."""
    path = write(tmp_path / "l.csv", [[track_id(1), "One", "la\n" * 1500, *METAL], [track_id(2), "Two", "A", *METAL]])
    assert None not in FeatureTable(path).find([Song(track_id(1)), Song(track_id(2))])


def test_a_pasted_table_says_which_measures_are_none() -> None:
    """A song whose measures cannot be is one without; a song that has none says nothing."""
    head, good = f"id,title,artist,{','.join(FEATURES)}", ",".join(map(str, METAL))
    bad = ",".join(["7", *map(str, METAL[1:])])
    rows = [f"{track_id(1)},One,A,{good}", f"{track_id(2)},Two,A,{bad}", f"{track_id(3)},Three,A{',' * len(FEATURES)}"]
    pasted = read_songs("\n".join([head, *rows]))
    assert (len(pasted.songs), len(pasted.sounds)) == (3, 1)
    assert pasted.faults == (f"Line 3: {FEATURES[0]} is '7', not a number from 0 to 1.",)


@pytest.mark.parametrize(
    ("cell", "artists"),
    [
        ("['Sergei Rachmaninoff', 'James Levine']", "Sergei Rachmaninoff, James Levine"),
        ('["Destiny\'s Child"]', "Destiny's Child"),
        ("[]", ""),
        ("Ingrid Michaelson;ZAYN ; Hans;", "Ingrid Michaelson, ZAYN, Hans"),
        ("Simon &amp; Garfunkel", "Simon & Garfunkel"),
        ("'Til Tuesday", "'Til Tuesday"),
        ('"Weird Al" Yankovic', '"Weird Al" Yankovic'),
        ("[dunkelbunt]", "[dunkelbunt]"),
        ("[re:jazz]", "[re:jazz]"),
        ("[1, 2]", "[1, 2]"),
        (r"['\ud800']", "?"),
        ("[" * 500 + "]" * 500, "[" * 500 + "]" * 500),
    ],
)
def test_artists_as_tables_write_them(cell: str, artists: str) -> None:
    """A list as Python or a spreadsheet writes it becomes names with commas between; other names stay as they are."""
    assert artists_in(cell) == artists
    text = io.StringIO()
    csv.writer(text).writerows([["id", "title", "artists"], [track_id(1), "Song", cell]])
    assert read_songs(text.getvalue()).songs == (Song(track_id(1), "Song", artists),)


@pytest.mark.parametrize(
    "written",
    [
        "{}",
        " {} ",
        "<{}>",
        "spotify:track:{}",
        *(f"https://open.spotify.com/track/{{}}{end}" for end in ("?si=1a", "/", "#1")),
    ],
)
def test_ids_as_tables_write_them(tmp_path: Path, written: str) -> None:
    """A table's ids may be bare, URIs or links."""
    path = write(tmp_path / "t.csv", [[written.format(track_id(3)), *METAL]], ["id", *FEATURES])
    (found,) = FeatureTable(path).find([Song(track_id(3))])
    assert found is not None
    assert found.song.track_id == track_id(3)


def test_bad_rows_are_no_songs(tmp_path: Path) -> None:
    """Rows with text, NaN, tempo 0 or too few columns are as good as absent; of two good rows the first counts."""
    bad = [[*METAL[:-1], "very"], [*METAL[:-1], "nan"], [*METAL[:7], 0, METAL[8]], METAL[:4]]
    rows: list[list[object]] = [[track_id(7), "Song", "Artist", *features] for features in bad]
    path = write(tmp_path / "t.csv", [*rows, [track_id(7), "S", "A", *DANCE], [track_id(7), "S", "A", *PIANO]])
    with path.open("ab") as file:
        file.write(b'"never closed \xff\n')
    (found,) = FeatureTable(path).find([Song(track_id(7))])
    assert found is not None
    assert found.features == DANCE


def test_a_table_that_changes_is_read_again(
    table: FeatureTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found, and what was not, is forgotten when the file changes; until then the file is not opened again."""
    songs, reads = [Song(track_id(1)), Song(track_id(8))], []
    rows = table._rows
    monkeypatch.setattr(table, "_rows", lambda *about: reads.append(about) or rows(*about))
    for _ in range(2):
        assert [bool(sound) for sound in table.find(songs)] == [True, False]
    assert len(reads) == 1
    write(tmp_path / "features.csv", [[track_id(8), "New", "Artist", *PIANO]])
    assert [bool(sound) for sound in table.find(songs)] == [False, True]


def test_more_songs_than_are_remembered_are_read_once(table: FeatureTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long list does not push itself out: asked again it costs no reading, and other songs push it out."""
    reads: list[object] = []
    rows = table._rows
    monkeypatch.setattr("songs.features.MOST_REMEMBERED", 10)
    monkeypatch.setattr(table, "_rows", lambda *about: reads.append(about) or rows(*about))
    long = [Song(track_id(n), f"Song {n}", "Artist") for n in range(40)]
    counts = []
    more = [*long, Song(track_id(60))]
    for songs in (long, long, more, more, [Song(track_id(50))], [Song(track_id(50))], long):
        table.find(songs)
        counts.append(len(reads))
    assert counts == [1, 1, 2, 2, 3, 3, 4]


def test_a_table_that_could_not_be_read_is_read_again(table: FeatureTable, tmp_path: Path) -> None:
    """A reading that fails says nothing of the songs: the next one finds them, though the file has its old date."""
    path, song = tmp_path / "features.csv", Song(track_id(1))
    content, written = path.read_bytes(), path.stat().st_mtime_ns
    for now in (b"x" * len(content), content):
        path.write_bytes(now)
        os.utime(path, ns=(written, written))
        if now != content:
            with pytest.raises(FeaturesError, match="no column"):
                table.find([song])
    assert table.find([song]) != [None]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it has no column acousticness, danceability"),
        (f"track_id,{','.join(FEATURES[1:])}\n".encode(), "it has no column acousticness "),
        (f"title,{','.join(FEATURES)}\n".encode(), "it has no column track_id, nor title and artist"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 9, "it has no column|its first line is no header"),
        (None, "No such file"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes | None, said: str) -> None:
    """The site does not start with a table that cannot be used, and says what is missing."""
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FeaturesError, match=said):
        FeatureTable(path).check()
    with pytest.raises(SettingsError, match=f"VISAGE_FEATURES={path}: "):
        make_splitter({"FEATURES": str(path), "LOOKUP": "off"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://open.spotify.com/track/0snQkGI5qnAmohLE7jTsTn?si=1a2b", "0snQkGI5qnAmohLE7jTsTn"),
        ("https://open.spotify.com/intl-de/track/0snQkGI5qnAmohLE7jTsTn", "0snQkGI5qnAmohLE7jTsTn"),
        (" <spotify:track:0snQkGI5qnAmohLE7jTsTn> ", "0snQkGI5qnAmohLE7jTsTn"),
        ("0snQkGI5qnAmohLE7jTsTn", "0snQkGI5qnAmohLE7jTsTn"),
        ("https://open.spotify.com/playlist/0snQkGI5qnAmohLE7jTsTn", ""),
        ("https://open.spotify.com.example.org/track/0snQkGI5qnAmohLE7jTsTn", ""),
        ("0snQkGI5qnAmohLE7jTsT", ""),
    ],
)
def test_what_names_a_song(text: str, expected: str) -> None:
    """Links in every form that Spotify gives, URIs and bare ids; no playlist's, and no other site's."""
    assert id_in(text) == expected


# -- the service that may be asked


class Service(ThreadingHTTPServer):
    """Audio features by id, as ReccoBeats gives them: with a link to the song, and without a word on unknown ones."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.known = {track_id(n): sound for n, sound in enumerate(SOUNDS.values(), start=1)}
        self.answers: list[tuple[int, dict[str, str], bytes]] = []  # to give first
        self.piece, self.pause = 2_000_000, 0.0  # bytes at a time, and seconds after each
        super().__init__(("127.0.0.1", 0), Answering)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if self.answers:
            return self.answers.pop(0)
        ids = parse_qs(urlsplit(path).query)["ids"][0].split(",")
        self.asked.append(ids)
        if not path.startswith("/v1/audio-features?") or len(ids) > 40:
            return 400, {}, b'{"status":4004,"errors":[{"message":"size must be between 1 and 40"}]}'
        rows = [
            {"id": "70b85474", "href": f"https://open.spotify.com/track/{one}", "key": 1, "mode": 0}
            | dict(zip(FEATURES, self.known[one], strict=True))
            for one in reversed(ids)
            if one in self.known
        ]
        return 200, {}, json.dumps({"content": rows}).encode()


class Answering(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        code, headers, body = self.server.answer(self.path)
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # who has waited long enough is gone
            for start in range(0, len(body), self.server.piece):
                self.wfile.write(body[start : start + self.server.piece])
                time.sleep(self.server.pause)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_features_come_by_link_and_in_lots(service: Service) -> None:
    """At most 40 ids a request; rows count by their link, not by their place; what was asked is asked once."""
    songs = [Song(track_id(n)) for n in range(90)]
    lookup = Lookup(service.address)
    found, trouble = lookup.find([*songs, Song(title="No", artist="Id"), songs[0]])
    assert trouble == ""
    assert [n for n, sound in enumerate(found) if sound] == [1, 2, 3, 4]
    assert found[3] is not None
    assert found[3].features == DANCE
    assert [len(ids) for ids in service.asked] == [AT_ONCE, AT_ONCE, 10]
    assert lookup.find(songs)[0] == found[:90]
    assert len(service.asked) == 3


def test_what_is_known_is_told_while_another_asks(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the service is being asked, only those are put off who need it to be asked for more."""
    lookup = Lookup(service.address)
    known, asked, new = (Song(track_id(n)) for n in (1, 2, 3))
    [sound] = lookup.find([known])[0]
    answers: list[tuple[list[Sound | None], str]] = []

    def meanwhile(lot: Sequence[str], end: float) -> dict[str, Sound | None]:
        answers.extend(lookup.find(songs) for songs in ([known], [Song(title="No", artist="Id")], [known, new]))
        return {}

    monkeypatch.setattr(lookup, "_sounds", meanwhile)
    lookup.find([asked])
    assert answers[:2] == [([sound], ""), ([None], "")]
    assert answers[2][0] == [sound, None]
    assert "is being asked by somebody else" in answers[2][1]


def test_a_short_wait_is_waited_a_long_one_said(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After of a second is kept, of none it is one too; of an hour it is said. What was known stays."""
    waits: list[float] = []
    monkeypatch.setattr("songs.lookup.time", SimpleNamespace(monotonic=time.monotonic, sleep=waits.append))
    lookup = Lookup(service.address)
    service.answers = [(429, {"Retry-After": after}, b"") for after in ("0", "2", "soon")]
    assert lookup.find([Song(track_id(1))])[1] == ""
    assert waits == [1, 2, 1]
    service.answers = [(429, {"Retry-After": "9" * 5000}, b"")]
    assert "asks to wait for 1000000000 seconds" in lookup.find([Song(track_id(2))])[1]
    service.answers = [(429, {"Retry-After": "3600"}, b"")]
    found, trouble = lookup.find([Song(track_id(1)), Song(track_id(2))])
    assert trouble == "127.0.0.1 asks to wait for 3600 seconds; try again then"
    assert [bool(sound) for sound in found] == [True, False]
    assert lookup.find([Song(track_id(2))])[0][0] is not None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500, {}, b"oops"), "answers 500; try again later"),
        ((302, {"Location": "http://example.org/"}, b""), "answers 302; try again later"),
        ((200, {}, b"<html>log in</html>"), "is not understood"),
        ((200, {}, b'{"content": [1]}'), "is not understood"),
        ((200, {}, b'{"content": null}'), "is not understood"),
        ((200, {}, b" " * 1_100_000), "has no end"),
    ],
)
def test_answers_that_help_nobody(service: Service, answer: tuple[int, dict[str, str], bytes], said: str) -> None:
    """An error, a redirect, no JSON and no end are said in words, and nothing is remembered of them."""
    lookup = Lookup(service.address)
    service.answers = [answer]
    found, trouble = lookup.find([Song(track_id(1))])
    assert (found, said in trouble) == ([None], True), trouble
    assert lookup.find([Song(track_id(1))])[0] != [None]


def test_rows_that_cannot_be(service: Service) -> None:
    """A row without a number, out of range, or for a song that was not asked for is none."""
    rows = [
        {"href": f"https://open.spotify.com/track/{track_id(n)}"} | dict(zip(FEATURES, METAL, strict=True))
        for n in (1, 2, 3, 4)
    ]
    rows[0]["tempo"] = None  # type: ignore[assignment]
    rows[1]["tempo"] = 0  # type: ignore[assignment]
    rows[2]["href"] = "https://example.org/"
    service.answers = [(200, {}, json.dumps({"content": rows}).encode())]
    assert Lookup(service.address).find([Song(track_id(n)) for n in (1, 2, 3)]) == ([None] * 3, "")


def test_a_service_that_is_not_there() -> None:
    """A refused connection is a sentence."""
    found, trouble = Lookup("http://127.0.0.1:1/v1").find([Song(track_id(1))])
    assert (found, trouble) == ([None], "127.0.0.1 cannot be reached (ConnectionError)")


def test_a_split_has_its_time(service: Service) -> None:
    """When the time is over no further lot is asked for, and the next try goes on from there."""
    trouble = Lookup(service.address, longest=-1).find([Song(track_id(1))])[1]
    assert trouble.startswith("127.0.0.1 is slow; the rest is asked")
    assert service.asked == []


@pytest.mark.parametrize("pause", [0.05, 1.0])
def test_an_answer_that_dribbles_is_not_waited_for(service: Service, pause: float) -> None:
    """The time of a split ends in the middle of an answer too, and what is asked then is asked again later."""
    lookup, service.piece, service.pause = Lookup(service.address, longest=0.3), 10, pause
    found, trouble = lookup.find([Song(track_id(1))])
    assert (found, trouble.startswith("127.0.0.1 is slow")) == ([None], True)
    service.pause = 0.0
    assert lookup.find([Song(track_id(1))])[0] != [None]


# -- a paste


def test_lines_of_a_paste() -> None:
    """Links, ids and names are songs, each once; every other line is named by its number."""
    pasted = read_songs(
        f"https://open.spotify.com/track/{track_id(1)}?si=x\n\n{track_id(1)}\nThe Sad \N{EN DASH} sad song\n"
        "https://open.spotify.com/playlist/37i9dQZF1DXcBWIGoYBM5M?si=1\nspotify:playlist:37i9dQZF1DXcBWIGoYBM5M\n"
        "https://open.spotify.com/episode/37i9dQZF1DXcBWIGoYBM5M\nhello\n - \n"
    )
    assert pasted.songs == (Song(track_id(1)), Song(title="sad song", artist="The Sad"))
    assert pasted.faults == (
        f"Line 5: {NO_PLAYLIST}",
        f"Line 6: {NO_PLAYLIST}",
        "Line 7: https://open.spotify.com/episode/37i9dQZF1DXcBWIGoYBM5M is not the link of a song.",
        "Line 8: 'hello' is neither a link nor 'artist - title'.",
        "Line 9: '-' is neither a link nor 'artist - title'.",
    )


@pytest.mark.parametrize("text", ["", "\n \n", "track_id,title\n", "hello", "\0\0\0", "spotify:playlist:" + "a" * 22])
def test_a_paste_without_a_song(text: str) -> None:
    """Nothing, a bare header, and lines that are no songs are refused in words."""
    with pytest.raises(SplitError, match=r"song|link"):
        read_songs(text)


def test_a_first_line_that_no_table_has() -> None:
    """What looks like a header at its beginning, and goes on for longer than a cell may, is refused in words."""
    with pytest.raises(SplitError, match="The first line is no header: field larger than field limit"):
        read_songs("track_id\x0c," + "a" * (csv.field_size_limit() + 1) + "\nx,y")


def test_a_table_that_is_pasted() -> None:
    """A CSV names its songs by id or by names; with the features in it nothing else is needed."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["Track URI", "Track Name", "Artist Name(s)", *FEATURES])
    rows.writerow([f"spotify:track:{track_id(5)}", "Loud", "A, B", *METAL])
    rows.writerow(["spotify:local:::Home:1", "Quiet", "C", *PIANO])
    rows.writerow(["", "Silent", "D", *[""] * len(FEATURES)])
    rows.writerow(["", "", "E"])
    rows.writerow(["", "", ""])
    split = Splitter().split(read_songs(text.getvalue()))
    assert [(one.name, one.place) for one in split.placed] == [
        ("A, B - Loud", "angry"),
        ("C - Quiet", "neutral"),
        ("D - Silent", UNKNOWN),
    ]
    assert split.troubles == ("Line 5: it has no song in it.",)


def test_of_two_rows_of_a_paste_the_one_that_sounds_counts() -> None:
    """A song that comes again keeps what its first row with features says, wherever that row is."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["title", "artist", *FEATURES])
    for sound in ([""] * len(FEATURES), METAL, [""] * len(FEATURES), PIANO):
        rows.writerow(["Loud", "A", *sound])
    (placed,) = Splitter().split(read_songs(text.getvalue())).placed
    assert placed.place == "angry"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_from_a_spreadsheet(delimiter: str) -> None:
    """Columns are told apart by commas, semicolons or tabs; two columns without a header are artist and title."""
    header, row = ["title", "artist", *FEATURES], ["Loud, louder", "A", *map(str, DANCE)]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([header, row])
    (placed,) = Splitter().split(read_songs(f"\ufeff{text.getvalue()}")).placed
    assert (placed.name, placed.place) == ("A - Loud, louder", "happy")
    assert read_songs("A\tLoud, louder").songs == (Song(title="Loud, louder", artist="A"),)


@pytest.mark.parametrize("before", ["", " \n\t\n"])
def test_a_table_from_a_spreadsheet_with_empty_cells_and_commas_in_numbers(before: str) -> None:
    """A first column without a name, a last one without content, and numbers as many lands write them."""
    numbers = [str(number).replace(".", ",") for number in DANCE]
    lines = [["", "title", "artist", *FEATURES, "note"], ["0", "1,2", "A", *numbers, ""], ["1", "B", "C", *numbers, ""]]
    text = before + "\n".join("\t".join(cells) for cells in lines)
    split = Splitter().split(read_songs(text))
    assert [(one.name, one.place) for one in split.placed] == [("A - 1,2", "happy"), ("C - B", "happy")]
    assert split.troubles == ()


def test_the_table_fills_in_names_and_ids(table: FeatureTable) -> None:
    """A song by id gains its names, one by name its id, so that both can be in a list."""
    split = Splitter(table).split(read_songs(f"{track_id(1)}\nThe SAD - Sad Song"))
    assert [one.song for one in split.placed] == [
        Song(track_id(1), "angry song", "The angry"),
        Song(track_id(4), "sad song", "The sad"),
    ]
    assert list(split.groups) == ["angry", "sad"]


def test_a_list_has_nothing_to_judge_by_itself(table: FeatureTable) -> None:
    """A synced list is split by what the table says of its songs; what the list itself holds is never heard."""
    tracks = [Track(track_id(n), "happy song", "Nobody", "", 1, "", 0.9, 0.9) for n in (1, 9)]
    assert [one.place for one in Splitter().split(songs_of(tracks)).placed] == [UNKNOWN, UNKNOWN]
    assert [one.place for one in Splitter(table).split(songs_of(tracks)).placed] == ["angry", UNKNOWN]


def test_the_service_is_asked_for_what_is_missing(table: FeatureTable, service: Service) -> None:
    """Only with a yes, and only for songs that the table does not have."""
    service.known[track_id(6)] = PIANO
    splitter = Splitter(table, Lookup(service.address))
    pasted = read_songs(f"{track_id(1)}\n{track_id(6)}\nNobody - Nothing")
    assert [one.place for one in splitter.split(pasted).placed] == ["angry", UNKNOWN, UNKNOWN]
    assert service.asked == []
    assert [one.place for one in splitter.split(pasted, look_up=True).placed] == ["angry", "neutral", UNKNOWN]
    assert service.asked == [[track_id(6)]]


# -- the command


def test_the_command_writes_lists(tmp_path: Path) -> None:
    """As a process: songs go in, the lists they belong in come out, written by the catalog and read by the site."""
    made_table(tmp_path / "features.csv")
    (tmp_path / "mine.txt").write_text(f"{track_id(1)}\nThe sad - sad song\nNobody - Nothing\nhello\n")
    folder = tmp_path / "lists"
    folder.mkdir()
    write_tracks(folder / "happy.csv", [Track(track_id(8), "Stays", "A", "", None, "")])
    out = tmp_path / "split.csv"
    options = ("--features", tmp_path / "features.csv", "--out", out, "--songs", folder)
    done = run(tmp_path / "mine.txt", *options, module="songs.split")
    assert (done.returncode, done.stderr) == (0, "Line 4: 'hello' is neither a link nor 'artist - title'.\n")
    assert "angry: 1\n  The angry - angry song (0.94)\n" in done.stdout
    assert "unknown: 1\n  Nobody - Nothing\n" in done.stdout
    catalog = Catalog(folder)
    assert [t.title for e in EMOTIONS for t in catalog.playlist(e).tracks] == ["angry song", "Stays", "sad song"]
    checked = run("check", out, "--songs", folder, module="songs.catalog")
    assert (checked.returncode, checked.stdout) == (0, "")


def test_lists_that_are_split_anew_keep_what_they_say(tmp_path: Path) -> None:
    """A song that moves to another list, or stays in its own, keeps its album, length and date."""
    made_table(tmp_path / "features.csv")
    songs = [Track(track_id(n), f"Song {n}", "A", "Album", 180_000 + n, "2024-01-01", 0.5, 0.5) for n in (1, 4)]
    write_tracks(tmp_path / "sad.csv", songs)
    line = [tmp_path / "sad.csv", "--features", tmp_path / "features.csv", "--songs", tmp_path]
    assert split_songs([str(word) for word in line]) == 0
    assert [read_tracks(tmp_path / f"{emotion}.csv")[0] for emotion in ("angry", "sad")] == [songs[:1], songs[1:]]


def test_a_list_that_is_split_in_its_folder_loses_no_song(tmp_path: Path) -> None:
    """Songs move: the other lists gain them and keep their own, and what belongs in none stays."""
    made_table(tmp_path / "features.csv")
    songs = {n: Track(track_id(n), f"Song {n}", "A", "", None, "") for n in (1, 4, 7, 8, 9)}
    write_tracks(tmp_path / "sad.csv", [songs[n] for n in (1, 4, 7, 8)])
    write_tracks(tmp_path / "angry.csv", [songs[9]])
    line = [tmp_path / "sad.csv", "--features", tmp_path / "features.csv", "--songs", tmp_path]
    assert split_songs([str(word) for word in line]) == 0
    lists = [[t.title for t in read_tracks(tmp_path / f"{emotion}.csv")[0]] for emotion in ("angry", "sad")]
    assert lists == [["Song 9", "Song 1"], ["Song 4", "Song 7", "Song 8"]]


def test_a_list_that_is_split_keeps_what_is_no_song_of_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Columns of one's own, rows that the site cannot read, and what comes after a quotation mark never closed."""
    made_table(tmp_path / "features.csv")
    rows = [f"{track_id(n)},Song {n},A,,,,mine" for n in (4, 8)]
    broken = f'{track_id(7)},"Heroes,Bowie,,,,'
    going = f"{track_id(1)},Song 1,A,,,,mine"
    path = tmp_path / "sad.csv"
    path.write_text("\n".join([",".join([*COLUMNS, "notes"]), going, rows[0], broken, rows[1], ""]))
    before = path.read_text()
    (tmp_path / "playlists.json").write_text('{"sad": ["x"]}')
    line = [path, "--features", tmp_path / "features.csv", "--songs", tmp_path]
    assert split_songs([str(word) for word in line]) == 0
    assert path.read_text() == before.replace(going + "\n", "")
    assert "sad: 2 songs, 1 have moved; a refresh brings back" in capsys.readouterr().out
    assert len(read_tracks(tmp_path / "angry.csv")[0]) == 1


def test_a_list_whose_songs_all_move_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """None is in two lists then; with --append it is refused, for then all would be."""
    made_table(tmp_path / "features.csv")
    write_tracks(tmp_path / "sad.csv", [Track(track_id(n), f"Song {n}", "A", "", None, "") for n in (1, 3)])
    line = [str(tmp_path / "sad.csv"), "--features", str(tmp_path / "features.csv"), "--songs", str(tmp_path)]
    assert split_songs([*line, "--append"]) == 2
    assert "whose songs move: leave out --append" in capsys.readouterr().err
    assert split_songs(line) == 0
    assert "sad: 0 songs, 2 have moved" in capsys.readouterr().out
    lists = {emotion: len(read_tracks(tmp_path / f"{emotion}.csv")[0]) for emotion in ("angry", "happy", "sad")}
    assert lists == {"angry": 1, "happy": 1, "sad": 0}


def test_a_list_of_which_no_song_moves_stays_as_it_is(tmp_path: Path) -> None:
    """In its order, and with when it was fetched."""
    songs = [Track(track_id(n), f"Song {n}", "A" if n < 8 else "B", "", None, "") for n in (4, 6, 7, 8)]
    made_table(tmp_path / "features.csv")
    write_tracks(tmp_path / "sad.csv", songs)
    (tmp_path / "synced.json").write_text(json.dumps({"sad": {"fetched_at": "2026-11-01T00:00:00Z"}}))
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    line = [tmp_path / "sad.csv", "--features", tmp_path / "features.csv", "--songs", tmp_path]
    assert split_songs([str(word) for word in line]) == 0
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before


def test_a_song_that_does_not_disagree_with_its_list_stays(tmp_path: Path) -> None:
    """No sound is disgust's own: an angry song in that list is where somebody put it."""
    made_table(tmp_path / "features.csv")
    write_tracks(tmp_path / "disgust.csv", [Track(track_id(n), f"Song {n}", "A", "", None, "") for n in (1, 3)])
    line = [str(tmp_path / "disgust.csv"), "--features", str(tmp_path / "features.csv"), "--songs", str(tmp_path)]
    assert split_songs(line) == 0
    assert [track.title for track in read_tracks(tmp_path / "disgust.csv")[0]] == ["Song 1"]


def test_links_of_songs_that_a_list_has_get_into_lists(tmp_path: Path) -> None:
    """A table of ids alone brings no title; the lists of the folder do."""
    table = tmp_path / "ids.csv"
    rows = [[track_id(n), *sound] for n, sound in enumerate(SOUNDS.values(), start=1)]
    table.write_text("\n".join([f"id,{','.join(FEATURES)}", *(",".join(map(str, row)) for row in rows)]))
    song = Track(track_id(1), "Known", "A", "Album", 180_000, "2024-01-01")
    write_tracks(tmp_path / "happy.csv", [song])
    (tmp_path / "mine.txt").write_text(f"https://open.spotify.com/track/{track_id(1)}\n")
    sound = next(iter(SOUNDS.values()))
    line = [tmp_path / "mine.txt", "--features", table, "--songs", tmp_path]
    assert split_songs([str(word) for word in line]) == 0
    assert read_tracks(tmp_path / "angry.csv")[0] == [replace(song, valence=sound[8], energy=sound[2])]


def test_a_service_that_fails_halfway_changes_no_list(
    tmp_path: Path, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it did not answer for would be gone; the command lets it take longer than a visitor does."""
    write_tracks(tmp_path / "angry.csv", [Track(track_id(n), f"Song {n}", "A", "", None, "") for n in range(60)])
    before = (tmp_path / "angry.csv").read_bytes()
    service.answers += [service.answer(f"/v1/audio-features?ids={track_id(1)}"), (500, {}, b"")]
    words = [tmp_path / "angry.csv", "--lookup", service.address, "--songs", tmp_path]
    line = [*map(str, words), "--out", str(tmp_path / "split.csv")]
    assert split_songs(line) == 2
    assert "127.0.0.1 answers 500; try again later; the lists stay as they are\n" in capsys.readouterr().err
    assert (tmp_path / "angry.csv").read_bytes() == before
    assert (tmp_path / "split.csv").read_text().count("\n") == 61
    service.answers += [(429, {"Retry-After": "1"}, b"")]
    assert None not in Lookup(service.address).find([Song(track_id(1))])[0]
    service.answers += [(429, {"Retry-After": str(int(LONGEST) + 5)}, b"")]
    assert "asks to wait" in Lookup(service.address).find([Song(track_id(1))])[1]
    assert LONGEST + 5 < PATIENCE


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello\n", "'hello' is neither a link"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "it is not text in UTF-8"),
        (None, "No such file or directory"),
    ],
)
def test_the_command_refuses_in_a_line(tmp_path: Path, content: bytes | None, said: str) -> None:
    """No song, a binary file and no file end with 2 and one line."""
    path = tmp_path / "mine.txt"
    if content is not None:
        path.write_bytes(content)
    done = run(path, module="songs.split")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_songs_from_a_pipe_are_utf_8_wherever_it_runs(tmp_path: Path, locale: str) -> None:
    """Under cron's locale too; bytes that are none are refused in a line."""
    command = [sys.executable, "-m", "songs.split", "-", "--out", str(tmp_path / "out.csv")]
    for text, code, said in (("Bj\xf6rk - Army of Me\n", 0, b""), ("Bj\xf6rk", 2, b"-: it is not text in UTF-8\n")):
        content = text.encode("latin-1" if code else "utf-8")
        environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        done = subprocess.run(command, cwd=ROOT, env=environment, input=content, capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (code, said)
    assert "Bj\xf6rk" in (tmp_path / "out.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("away", ["<&-", "<&- >&-", "2>&-"])
def test_closed_streams_are_empty_ones(away: str) -> None:
    """Of whoever started the command; what it says goes where somebody listens."""
    line = f"printf 'Bj\xc3\xb6rk - Army of Me\n' | {shlex.join([sys.executable, '-m', 'songs.split', '-'])} {away}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == (2 if "<" in away else 0)
    assert done.stderr.startswith("There is no song in it" if "<" in away else "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("out", ["mine.csv", "features.csv", "./mine.csv"])
def test_the_command_does_not_write_over_what_it_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    """Songs with a person's own columns, or the table of features, would be gone."""
    monkeypatch.chdir(tmp_path)
    made_table(tmp_path / "features.csv")
    (tmp_path / "mine.csv").write_text(f"track_id,my notes\n{track_id(1)},for the road\n")
    before = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert split_songs(["mine.csv", "--features", "features.csv", "--out", out]) == 2
    assert "that is what is read; choose another name" in capsys.readouterr().err
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == before
    assert split_songs(["mine.csv", "--features", "features.csv", "--out", "nowhere/out.csv"]) == 2
    assert "--out nowhere/out.csv: No such file or directory" in capsys.readouterr().err


def test_what_is_known_of_songs_is_said_while_others_are_looked_for(tmp_path: Path) -> None:
    """A long table is being read for one visitor; another one's songs, asked for before, do not wait for it."""
    table = FeatureTable(made_table(tmp_path / "features.csv"))
    known = table.find([Song(track_id(1))])
    begun, go = threading.Event(), threading.Event()

    def slowly(wanted: Any = None) -> Iterator[Sound]:
        begun.set()
        assert go.wait(30)
        yield from ()

    table._rows = slowly  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(table.find, [Song(track_id(2))])
        try:
            assert begun.wait(30)
            assert threads.submit(table.find, [Song(track_id(1))]).result(30) == known
        finally:
            go.set()
        assert other.result(30) == [None]


def test_the_command_writes_its_files_whoever_reads_its_lines(tmp_path: Path) -> None:
    """As a process whose lines nobody reads to the end: both files are there, and nothing is complained of."""
    made_table(tmp_path / "features.csv")
    (tmp_path / "mine.txt").write_text(f"{track_id(1)}\n" + "".join(f"Nobody - {n}\n" for n in range(2000)))
    command = [sys.executable, "-m", "songs.split", "mine.txt", "--features", "features.csv", "--out", "out.csv"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, "--songs", "."], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2002
    assert [track.title for track in read_tracks(tmp_path / "angry.csv")[0]] == ["angry song"]


def test_the_command_stops_in_a_line(tmp_path: Path) -> None:
    """As a process that waits for its songs: Ctrl-C ends it with 130 and a sentence.

    A signal between the opening and the first read waits for a second one (or for songs), as in every Python program.
    """
    os.mkfifo(tmp_path / "songs")
    command = [sys.executable, "-m", "songs.split", str(tmp_path / "songs")]
    with (
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process,
        (tmp_path / "songs").open("w") as songs,
    ):
        songs.write("x - y\n" * 20_000)  # more than a pipe holds: the process reads by now, and imports nothing more
        songs.flush()
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.send_signal(signal.SIGINT)  # nothing to a process that has ended
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert process.stderr.read() == "stopped; no file was changed halfway\n"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--lookup", "http://[x", "http://[x is no address: give one such as https://"),
        ("--lookup", "example.org", "example.org is no address: give one such as https://"),
        ("--songs", "absent", "absent: there is no such folder; make it first, or give another"),
    ],
)
def test_options_of_the_command(capsys: pytest.CaptureFixture[str], option: str, value: str, said: str) -> None:
    """What is no address, and a folder that is not there, are refused before anything is read."""
    with pytest.raises(SystemExit) as ended:
        split_songs(["songs.txt", option, value])
    assert ended.value.code == 2
    assert f"argument {option}: {said}" in capsys.readouterr().err


# -- the page


@pytest.fixture
def site(camera: Camera, table: FeatureTable, service: Service) -> Flask:
    """The site with a table and a service."""
    splitter = Splitter(table, Lookup(service.address))
    return create_app({"TESTING": True}, Services(camera.recognizer, camera, Catalog(ROOT / "songs"), None, splitter))


def post(client: FlaskClient, **form: str) -> tuple[int, BeautifulSoup]:
    answer = client.post("/split", data=form, content_type="multipart/form-data")
    return answer.status_code, BeautifulSoup(answer.text, "html.parser")


def test_a_pasted_playlist_is_split(site: Flask) -> None:
    """The page needs no script: a form goes in, the lists come out under their names, the paste stays in its box."""
    pasted = f"{track_id(1)}\nThe happy - happy song\nNobody - Nothing\nhello"
    code, page = post(site.test_client(), songs=pasted)
    assert code == 200
    assert not page.find_all("script")
    assert [h.text for h in page.select("#songs h2")] == ["Angry", "Happy", "Unknown"]
    assert [[cell.text for cell in row.find_all(["th", "td"])] for row in page.select("#songs tbody tr")] == [
        ["angry song", "The angry", "angry", "94%"],
        ["happy song", "The happy", "happy", "91%"],
        ["Nothing", "Nobody", "", ""],
    ]
    assert page.select_one("#songs a")["href"] == f"https://open.spotify.com/track/{track_id(1)}"
    assert "'hello' is neither" in page.select_one(".told").text
    assert page.select_one("textarea").text == pasted


def test_a_list_is_split(site: Flask) -> None:
    """One of the seven lists can be chosen; a list that is none of them is refused."""
    code, page = post(site.test_client(), list="sad")
    assert (code, [h.text for h in page.select("#songs h2")]) == (200, ["Unknown"])
    assert len(page.select("#songs tbody tr")) == len(read_tracks(ROOT / "songs" / "sad.csv")[0])
    assert page.select_one("option[selected]").text == "sad"
    assert post(site.test_client(), list="jolly")[0] == 404


def test_either_what_is_pasted_or_a_list_is_split(site: Flask) -> None:
    """With both, neither is passed over in silence: the page asks, and keeps them; blanks are no songs."""
    code, page = post(site.test_client(), songs=track_id(1), list="sad")
    assert code == 400
    assert "empty the box, or set the list to none" in page.select_one("[role=alert]").text
    assert (page.select_one("textarea").text, page.select_one("option[selected]").text) == (track_id(1), "sad")
    _, page = post(site.test_client(), songs=" \n", list="sad")
    assert page.select_one("option[selected]").text == "sad"
    assert len(page.select("#songs tbody tr")) == len(read_tracks(ROOT / "songs" / "sad.csv")[0])


def test_the_title_says_what_came_of_it(site: Flask) -> None:
    """The title, which a screen reader says first, counts the songs or has the sentence of the error."""
    client = site.test_client()
    pages = [BeautifulSoup(client.get("/split").text, "html.parser")]
    pages += [post(client, songs=songs)[1] for songs in (track_id(1), f"{track_id(1)}\n{track_id(9)}", "")]
    assert [page.title.text.removesuffix(" \N{EN DASH} Visage FM") for page in pages] == [
        "Split a playlist",
        "Split: 1 song",
        "Split: 2 songs",
        "There is no song in it: a line for each song, please.",
    ]


@pytest.mark.browser
def test_a_phone_shows_what_came_of_a_split(browser: Any) -> None:
    """On a phone the lists, or why there are none, are in the window after Split, each time that it is pressed."""
    with running(VISAGE_SOURCE="none", VISAGE_LOOKUP="https://example.org/v1") as made:  # a long form
        context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True)
        page = context.new_page()
        page.goto(f"{made.address}/split")
        for pasted, told in (("", "[role=alert]"), ("Nobody - Nothing", ".list h2"), ("A - B\nC - D", ".list h2")):
            page.locator("#pasted").fill(pasted)
            with page.expect_navigation():
                page.locator("button:not([name])").click()
            shown = f"document.querySelector('#songs {told}').getBoundingClientRect()"
            assert eventually(lambda shown=shown: page.evaluate(f"{shown}.top >= 0 && {shown}.bottom <= innerHeight"))
        context.close()


def test_the_split_as_a_csv(site: Flask, tmp_path: Path) -> None:
    """What is downloaded has every song in its order, and `playlists` makes lists of it."""
    form = {"songs": f"{track_id(4)}\n=1+1 - <b>\n{track_id(1)}", "format": "csv"}
    answer = site.test_client().post("/split", data=form)
    assert answer.headers["Content-Disposition"] == "attachment; filename=split.csv"
    assert answer.mimetype == "text/csv"
    assert [row[1:5] for row in csv.reader(io.StringIO(answer.text))][1:] == [
        ["sad song", "The sad", "sad", "sad"],
        ["<b>", "=1+1", "not known", ""],
        ["angry song", "The angry", "angry", "angry"],
    ]
    (tmp_path / "split.csv").write_text(answer.text)
    done = run("playlists", tmp_path / "split.csv", "--songs", tmp_path)
    assert done.returncode == 0, done.stderr
    assert [track.title for track in read_tracks(tmp_path / "sad.csv")[0]] == ["sad song"]


def test_names_are_shown_as_text(site: Flask) -> None:
    """What is pasted is no markup."""
    _, page = post(site.test_client(), songs="<script>alert(1)</script> - </textarea><b>x</b>")
    assert not page.find_all("script")
    assert page.select_one("#songs td.artist").text == "<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("songs", "code", "said"),
    [
        ("", 400, "There is no song in it"),
        ("https://open.spotify.com/playlist/37i9dQZF1DXcBWIGoYBM5M", 400, "only Spotify's API says"),
        ("a - b\n" * (MOST_LINES + 1), 400, "2,000 at a time"),
        ("x" * MOST_BYTES, 413, "200 kB at a time"),
        ("spotify:" * 20_000, 400, "longer than 1,000 characters"),
    ],
)
def test_what_cannot_be_split(site: Flask, songs: str, code: int, said: str) -> None:
    """Nothing, a playlist's link, and too much are answered with a 4xx, on the page and in words."""
    found, page = post(site.test_client(), songs=songs)
    assert (found, said in page.select_one("[role=alert]").text) == (code, True)
    kept = page.select_one("textarea").text
    assert kept.strip() == ("" if code == 413 else songs.strip())


def test_another_site_may_not_ask(site: Flask) -> None:
    """A form elsewhere cannot make this site ask the service."""
    answer = site.test_client().post(
        "/split", data={"songs": track_id(6), "lookup": "yes"}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status_code == 403


def test_the_service_is_asked_after_a_yes(site: Flask, service: Service) -> None:
    """Its terms stand beside a box that nobody has ticked; without a tick nothing is sent."""
    service.known[track_id(6)] = PIANO
    client = site.test_client()
    page = BeautifulSoup(client.get("/split").text, "html.parser")
    box = page.select_one("input[name=lookup]")
    assert not box.has_attr("checked")
    assert "Ask 127.0.0.1" in box.parent.text
    assert "ids of these songs are" in page.select_one(".terms").text
    post(client, songs=track_id(6))
    assert service.asked == []
    _, page = post(client, songs=track_id(6), lookup="yes")
    assert (service.asked, [h.text for h in page.select("#songs h2")]) == ([[track_id(6)]], ["Neutral"])
    service.answers = [(500, {}, b"")]
    _, page = post(client, songs=track_id(7), lookup="yes")
    assert "127.0.0.1 answers 500" in page.select_one(".told").text


def test_slow_splits_leave_the_site_its_threads(site: Flask, service: Service) -> None:
    """Two splits may wait for a slow service; a third is told to come back, and songs are served as ever."""
    client = site.test_client()
    splitter: Splitter = site.extensions["visage"].splitter
    with splitter._places, splitter._places:
        code, page = post(client, songs=track_id(1))
        assert (code, "try again in a while" in page.select_one("[role=alert]").text) == (503, True)
        assert client.get("/songs?emotion=sad").status_code == 200
    assert post(client, songs=track_id(1))[0] == 200


def test_without_a_table_or_a_service(client: FlaskClient) -> None:
    """The page says what is missing, offers no service, and splits a table that has the features in it."""
    page = BeautifulSoup(client.get("/split").text, "html.parser")
    assert page.select("input[name=lookup]") == []
    assert "VISAGE_FEATURES" in page.text
    table = f"title,artist,{','.join(FEATURES)}\nLoud,A,{','.join(map(str, METAL))}\n"
    assert [h.text for h in post(client, songs=table)[1].select("#songs h2")] == ["Angry"]


def test_a_table_that_goes_is_said(site: Flask, tmp_path: Path) -> None:
    """A table that is deleted while the site runs costs the split, not the songs."""
    (tmp_path / "features.csv").unlink()
    code, page = post(site.test_client(), songs=track_id(1))
    assert (code, "No such file" in page.select_one("[role=alert]").text) == (400, True)
    assert site.test_client().get("/songs?emotion=sad&lift=1").status_code == 200


def test_settings_of_the_split(tmp_path: Path) -> None:
    """Both are off by default; a service is named by its address."""
    off = make_splitter({"FEATURES": "off", "LOOKUP": "off"})
    assert (off.table, off.lookup) == (None, None)
    on = make_splitter({"FEATURES": str(made_table(tmp_path / "t.csv")), "LOOKUP": "https://example.org/v1/"})
    assert on.table is not None
    assert on.lookup is not None
    assert on.lookup.host == "example.org"
    with pytest.raises(SettingsError, match=r"VISAGE_LOOKUP=https://api\.spotify\.com/v1: Spotify itself is not asked"):
        make_splitter({"FEATURES": "off", "LOOKUP": "https://api.spotify.com/v1"})


# -- lift me up


def lists(
    folder: Path, places: Callable[[Emotion, int], tuple[float, float] | None] | None = None, n: int = 20
) -> Catalog:
    """Seven lists of n songs; song i of the j-th emotion has the id 100 j + i and, if known, a place."""
    for j, emotion in enumerate(EMOTIONS):
        tracks = []
        for i in range(n):
            place = places(emotion, i) if places else None
            tracks.append(Track(track_id(100 * j + i), f"{emotion} {i}", f"A{i}", "", None, "", *(place or ())))
        write_tracks(folder / f"{emotion}.csv", tracks)
    return Catalog(folder)


CENTRES = {Emotion.SAD: (0.2, 0.3), Emotion.NEUTRAL: (0.5, 0.2), Emotion.HAPPY: (0.8, 0.7)}


def around(emotion: Emotion, i: int) -> tuple[float, float]:
    """Places in a 5 x 4 grid around the centre of an emotion, in no order."""
    valence, energy = CENTRES.get(emotion, (0.3, 0.9))
    k = i * 7 % 20
    return round(valence + (k % 5 - 2) * 0.05, 3), round(energy + (k // 5 - 1.5) * 0.04, 3)


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_every_mood_is_lifted_to_happy(tmp_path: Path, emotion: Emotion) -> None:
    """Without places a third or a half of the songs come from each list, in its order; happy stays happy."""
    lifted = lift(lists(tmp_path), emotion)
    assert lifted.emotion == emotion
    if emotion == Emotion.HAPPY:
        assert (len(lifted.tracks), lifted.steps) == (20, ())
        return
    assert tuple(dict.fromkeys(lifted.steps)) == STEPS[emotion]
    assert STEPS[emotion][-1] == Emotion.HAPPY
    share = -(-SONGS // len(STEPS[emotion]))
    assert [t.title for t in lifted.tracks] == [f"{step} {i}" for step in STEPS[emotion] for i in range(share)]


def test_places_lead_the_way(tmp_path: Path) -> None:
    """With places, each step's songs lean to the steps beside it, and its first is its furthest back."""
    catalog = lists(tmp_path, around)
    lifted = lift(catalog, Emotion.SAD)
    assert [lifted.steps.count(step) for step in STEPS[Emotion.SAD]] == [5, 5, 5]
    valences = [t.valence or 0 for t in lifted.tracks]
    means = [sum(valences[i : i + 5]) / 5 for i in (0, 5, 10)]
    assert 0.2 < means[0] < 0.35 < means[1] < 0.65 < means[2] < 0.8  # the lists' own means are 0.2, 0.5 and 0.8
    assert [t.title for t in lifted.tracks] != [
        t.title for t in lift(catalog, Emotion.SAD, lambda t: [None] * len(t)).tracks
    ]
    assert lifted.tracks[0].valence == min(valences[:5])


def test_places_are_asked_for_once(tmp_path: Path) -> None:
    """All lists are asked for in one go, as a table is read once for each; the answers go to their lists."""
    catalog, asked = lists(tmp_path, around), []

    def places(tracks: Sequence[Track]) -> Sequence[Place | None]:
        asked.append(len(tracks))
        return own_places(tracks)

    write_tracks(tmp_path / "neutral.csv", read_tracks(tmp_path / "neutral.csv")[0][:7])
    assert lift(catalog, Emotion.SAD, places) == lift(catalog, Emotion.SAD)
    assert asked == [20 + 7 + 20]


def test_no_song_is_looked_for_among_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In lists of 400 songs fewer pairs of songs are compared than there are songs."""
    catalog = lists(tmp_path, around, 400)
    compared = 0
    same = Track.__eq__

    def counted(one: Track, other: object) -> bool:
        nonlocal compared
        compared += 1
        return same(one, other)

    monkeypatch.setattr(Track, "__eq__", counted)
    lift(catalog, Emotion.SAD)
    assert compared < 400


def test_a_list_with_few_places_is_taken_as_it_stands(tmp_path: Path) -> None:
    """Four places among twenty songs choose nothing; the other lists go by theirs."""
    lifted = lift(lists(tmp_path, lambda e, i: around(e, i) if e != Emotion.SAD or i > 15 else None), Emotion.SAD)
    assert [t.title for t in lifted.tracks[:5]] == [f"sad {i}" for i in range(5)]
    assert [t.title for t in lifted.tracks[10:]] != [f"happy {i}" for i in range(5)]


def test_a_song_comes_once(tmp_path: Path) -> None:
    """A song of two lists is heard at the first, and an empty list is passed over."""
    catalog = lists(tmp_path)
    sad = read_tracks(tmp_path / "sad.csv")[0]
    write_tracks(tmp_path / "happy.csv", [*sad[:3], *read_tracks(tmp_path / "happy.csv")[0]])
    write_tracks(tmp_path / "neutral.csv", [])
    lifted = lift(catalog, Emotion.SAD)
    assert [str(step) for step in lifted.steps] == ["sad"] * 5 + ["happy"] * 5
    assert len({t.track_id for t in lifted.tracks}) == 10


def test_the_table_knows_places(site: Flask, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A song's own list says where it lies, else the table; a table that is gone is said in the log."""
    splitter: Splitter = site.extensions["visage"].splitter
    tracks = [Track(track_id(n), "x", "y", "", None, "") for n in (1, 9)]
    tracks.append(Track(track_id(1), "x", "y", "", None, "", 0.5, 0.25))
    assert splitter.places(tracks) == [(0.35, 0.95), None, (0.5, 0.25)]
    (tmp_path / "features.csv").unlink()
    with caplog.at_level(logging.WARNING):
        assert splitter.places(tracks) == [None, None, (0.5, 0.25)]
    assert "features.csv" in caplog.text


def test_the_site_lifts(client: FlaskClient) -> None:
    """`lift=1` gives songs from the mood to happy, each with its step, as JSON and as a list that shows the steps."""
    data = client.get("/songs?emotion=sad&lift=1", headers={"Accept": "application/json"}).get_json()
    assert (data["emotion"], data["lifted"], len(data["tracks"])) == ("sad", True, 15)
    assert data["steps"] == ["sad"] * 5 + ["neutral"] * 5 + ["happy"] * 5
    plain = client.get("/songs?emotion=sad", headers={"Accept": "application/json"}).get_json()
    assert (plain["lifted"], plain["steps"], len(plain["tracks"]) > 15) == (False, [], True)
    nobody = client.get("/songs?lift=1", headers={"Accept": "application/json"}).get_json()
    assert (nobody["emotion"], nobody["lifted"], nobody["tracks"]) == (None, True, [])


def test_the_page_shows_the_steps(client: FlaskClient) -> None:
    """The list says where it leads, each song its step; the switch stands as asked, a link does without a script."""
    page = BeautifulSoup(client.get("/?emotion=sad&lift=1").text, "html.parser")
    assert page.select_one(".list h2").text == "From sad to happy"
    assert [cell["data-step"] for cell in page.select("th.title[data-step]")] == ["sad"] * 5 + ["neutral"] * 5 + [
        "happy"
    ] * 5
    assert "15 songs for sad of 3 lists" in " ".join(page.select_one("caption").text.split())
    assert page.select_one("#lift").has_attr("checked")
    assert page.select_one("noscript a[href='/?emotion=sad']").text.strip() == "As it is"
    assert {link["href"] for link in page.select("#chips a[data-emotion]")} == {
        f"/?emotion={emotion}&lift=1" for emotion in EMOTIONS
    }
    assert page.select_one("#follow")["href"] == "/?lift=1"
    plain = BeautifulSoup(client.get("/?emotion=sad").text, "html.parser")
    assert plain.select("[data-step]") == []
    assert plain.select_one("#chips a.happy")["href"] == "/?emotion=happy"
    assert not plain.select_one("#lift").has_attr("checked")
    assert plain.select_one("noscript a[href='/?emotion=sad&lift=1']").text.strip() == "Lift me up"
    assert plain.select_one("footer a[href='/split']").text == "Split a playlist by mood"


@pytest.mark.browser
def test_the_switch_stays_on_while_the_mood_follows(browser: Any) -> None:
    """Lifted is a way of listening: it lasts through other moods, back, a reload, and whatever the camera sees."""
    with running(VISAGE_SOURCE="demo", VISAGE_DWELL="1") as made:
        page = browser.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{made.address}/?emotion=sad")
        page.locator("#lift").check()
        page.locator(".list[data-lifted][data-emotion=sad]").wait_for()
        assert page.url.endswith("/?emotion=sad&lift=1")
        assert page.locator("#announce").inner_text() == "From sad to happy. 15 songs."
        page.locator("#chips a[data-emotion=fear]").click()
        page.locator(".list[data-lifted][data-emotion=fear]").wait_for()
        page.go_back()
        page.locator(".list[data-lifted][data-emotion=sad]").wait_for()
        page.reload()
        assert page.locator("#lift").is_checked()
        page.locator("#follow").click()
        page.locator(".list[data-emotion='']").wait_for(state="attached")
        page.locator("#ways a[data-way=server]").click()
        page.locator("#start").click()
        page.locator(".list[data-lifted]:not([data-emotion=''])").wait_for(timeout=60_000)
        page.locator("#lift").uncheck()
        page.locator(".list:not([data-lifted])").wait_for()
        assert "lift" not in page.url
        page.close()
        assert wrong == []


# -- labelled lists drive the site


def test_labelled_lists_drive_the_site(camera: Camera, tmp_path: Path) -> None:
    """A table of songs becomes labels, the labels lists, and the site shows them: the commands as processes."""
    rows: list[list[object]] = [
        [track_id(100 * j + i), f"{mood} {i}", f"Artist {i}", *sound]
        for j, (mood, sound) in enumerate(SOUNDS.items())
        for i in range(8)
    ]
    songs = tmp_path / "songs"
    songs.mkdir()
    table = write(tmp_path / "songs.csv", rows)
    assert run("label", table, "--out", tmp_path / "labelled.csv").returncode == 0
    assert run("playlists", tmp_path / "labelled.csv", "--songs", songs, "--top", 5).returncode == 0
    splitter = make_splitter({"FEATURES": str(table), "LOOKUP": "off"})
    site = create_app({"TESTING": True}, Services(camera.recognizer, camera, Catalog(songs), None, splitter))
    ask = site.test_client().get
    for mood in SOUNDS:
        page = BeautifulSoup(ask(f"/songs?emotion={mood}").text, "html.parser")
        assert [cell.text for cell in page.select("th.title")][1:] == [f"{mood} {i}" for i in range(5)]
    lifted = ask("/songs?emotion=angry&lift=1", headers={"Accept": "application/json"}).get_json()
    assert lifted["steps"] == ["angry"] * 5 + ["neutral"] * 5 + ["happy"] * 5
    tracks = read_tracks(songs / "sad.csv")[0]
    assert {(track.valence, track.energy) for track in tracks} == {(0.2, 0.25)}


def test_the_site_as_a_process_reads_the_folder(tmp_path: Path) -> None:
    """VISAGE_SONGS and VISAGE_FEATURES are what the real site serves from."""
    lists(tmp_path, n=3)
    script = (
        "from app import create_app; app = create_app({'SOURCE': 'demo'});"
        "answer = app.test_client().get('/songs?emotion=fear', headers={'Accept': 'application/json'});"
        "print(answer.get_json()['tracks'][0]['title']);"
        "print(app.extensions['visage'].splitter.table is not None); app.extensions['visage'].close()"
    )
    environment = os.environ | {
        "VISAGE_SONGS": str(tmp_path),
        "VISAGE_FEATURES": str(made_table(tmp_path / "features.csv")),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "fear 0\nTrue\n"), done.stderr
