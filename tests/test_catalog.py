"""The song lists: what a broken file does to the site (nothing), and what the shipped lists promise."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import logging
import os
import re
import stat
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from model.emotions import EMOTIONS, Emotion
from model.files import replace_text
from songs.catalog import (
    COLUMNS,
    LONGEST_TEXT,
    Catalog,
    Track,
    append_tracks,
    not_in,
    read_tracks,
    remove_tracks,
    write_tracks,
)
from songs.synced import forget_fetch
from tests.conftest import track_id

SHIPPED = Path(__file__).parent.parent / "songs"
HEADER = ",".join(COLUMNS)
HAPPY = Emotion.HAPPY


def track(
    n: int, title: str = "", artist: str = "Artist", duration_ms: int | None = 200_000, **measures: float
) -> Track:
    return Track(track_id(n), title or f"Song {n}", artist, "Album", duration_ms, "2026-11-21", **measures)


def row(n: int, title: str = "", duration_ms: object = 200_000) -> str:
    return f"{track_id(n)},{title or f'Song {n}'},Artist,Album,{duration_ms},2026-11-21"


def lines(*rows: str) -> bytes:
    return ("\n".join((HEADER, *rows)) + "\n").encode()


def titles(catalog: Catalog, emotion: Emotion = HAPPY) -> list[str]:
    return [t.title for t in catalog.playlist(emotion).tracks]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "happy.csv"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, logger="songs.catalog"):
        yield caplog


# -- a song


def test_a_song_has_an_address() -> None:
    """A Track knows where it can be heard, and says so in its JSON."""
    song = Track("0snQkGI5qnAmohLE7jTsTn", "Toxicity", "System Of A Down", "Toxicity", 218_933, "2026-11-21")
    assert song.url == "https://open.spotify.com/track/0snQkGI5qnAmohLE7jTsTn"
    assert song.as_dict() == {
        "track_id": "0snQkGI5qnAmohLE7jTsTn",
        "title": "Toxicity",
        "artist": "System Of A Down",
        "album": "Toxicity",
        "duration_ms": 218_933,
        "url": song.url,
    }


@pytest.mark.parametrize(
    "wrong", ["", "short", track_id(1) + "0", "../../etc/passwd000000", "0" * 21 + "é", "0" * 22 + "\n"]
)
def test_a_wrong_id_is_refused(wrong: str) -> None:
    """A Track's id is 22 letters and digits, so that its address leads to a song and nowhere else."""
    with pytest.raises(ValueError, match="is not a Spotify track id"):
        Track(wrong, "Title", "Artist", "Album", 1, "")


def test_texts_are_fit_to_be_shown() -> None:
    """Line breaks, control characters and turned-around text go, long texts are cut; accents and emoji stay."""
    song = Track(track_id(1), " One\nTwo\x00\x1b[31m\u202e ", "Björk 강남 👩‍🎤", "x" * 1000, None, "")
    assert song.title == "One Two [31m"
    assert song.artist == "Björk 강남 👩‍🎤"
    assert song.album == "x" * LONGEST_TEXT


@pytest.mark.parametrize("blank", ["", "  ", "\x00\n"])
def test_a_song_needs_a_title(blank: str) -> None:
    """A title of nothing printable is no title."""
    with pytest.raises(ValueError, match="title is missing"):
        Track(track_id(1), blank, "Artist", "Album", 1, "")


@pytest.mark.parametrize(
    ("given", "kept"), [(1, 1), (86_400_000, 86_400_000), (86_400_001, None), (0, None), (-5, None)]
)
def test_an_absurd_duration_is_unknown(given: int, kept: int | None) -> None:
    """A duration is between a millisecond and a day, or unknown."""
    assert track(1, duration_ms=given).duration_ms == kept


# -- reading a list


def test_a_list_is_read_in_its_order(path: Path) -> None:
    """Every column arrives, in the order of the file, and nothing is dropped."""
    path.write_bytes(lines(row(2), row(1)))
    assert read_tracks(path) == ([track(2), track(1)], [])


@pytest.mark.parametrize("word", ["NA", "None", "nan", "NULL", "true", "1999", "007", "1e5"])
def test_a_title_is_text_whatever_it_spells(path: Path, word: str) -> None:
    """Titles that look like a missing value or a number stay as they are written."""
    path.write_bytes(lines(row(1, word)))
    assert [t.title for t in read_tracks(path)[0]] == [word]


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbf" + lines(row(1), row(2)), lines(row(1), row(2)).replace(b"\n", b"\r\n")]
)
def test_lists_saved_by_a_spreadsheet_are_read(path: Path, content: bytes) -> None:
    """A byte order mark or Windows line ends change nothing."""
    path.write_bytes(content)
    assert read_tracks(path) == ([track(1), track(2)], [])


def test_blank_lines_and_a_missing_last_line_end_change_nothing(path: Path) -> None:
    """Blank lines anywhere are passed over, and still counted in the line numbers."""
    path.write_bytes(b"\n" + lines(row(1), "", "  ", "oops", row(2)).rstrip(b"\n"))
    tracks, dropped = read_tracks(path)
    assert tracks == [track(1), track(2)]
    assert dropped == ["line 6: it has not the header's 6 columns but 1"]


def test_further_columns_are_kept_out(path: Path) -> None:
    """Columns may come in any order and be more than the six, even one called `line`."""
    header = "line,added_at,title,popularity,track_id,artist,album,duration_ms"
    path.write_text(f"{header}\nx,2026-11-21,Song 1,0.5,{track_id(1)},Artist,Album,200000\n", encoding="utf-8")
    assert read_tracks(path) == ([track(1)], [])


def test_a_list_may_say_how_its_songs_sound(path: Path) -> None:
    """Valence and energy are read and written where a list has them; what is no share of one is not known."""
    path.write_text(f"{HEADER},energy,valence\n{row(1)},0.5,0.25\n{row(2)},1.5,\n{row(3)},nan,loud\n", encoding="utf-8")
    tracks, dropped = read_tracks(path)
    assert [(t.valence, t.energy) for t in tracks] == [(0.25, 0.5), (None, None), (None, None)]
    assert dropped == []
    write_tracks(path, tracks)
    assert path.read_text(encoding="utf-8").splitlines()[:3] == [
        f"{HEADER},valence,energy",
        f"{row(1)},0.25,0.5",
        f"{row(2)},,",
    ]
    assert read_tracks(path) == (tracks, [])
    write_tracks(path, tracks[1:])
    assert path.read_text(encoding="utf-8").splitlines()[0] == HEADER


def test_quoted_commas_and_quotation_marks_are_read(path: Path) -> None:
    """A quoted field may hold commas and doubled quotation marks."""
    path.write_bytes(lines(row(1, '"Hey, ""you"""'), row(2, '5" single')))
    assert [t.title for t in read_tracks(path)[0]] == ['Hey, "you"', '5" single']


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (row(9) + ",more", "not the header's 6 columns but 7"),
        (track_id(9) + ",Song 9", "not the header's 6 columns but 2"),
        (row(9, '"Never closed'), "look at its quotation marks"),
        (row(9, '5" single,"Never closed'), "look at its quotation marks"),
        (row(9, '"Half" quoted'), "look at its quotation marks"),
        (row(9).replace(track_id(9), "nonsense"), "'nonsense' is not a Spotify track id"),
        (row(9).replace(track_id(9), ""), "'' is not a Spotify track id"),
        (row(9, "   "), "the title is missing"),
        (row(1, "Again"), f"{track_id(1)} is in the list already"),
        ("\x00\x01\x02", "not the header's 6 columns but 1"),
        ("," * 5, "is not a Spotify track id"),
        ('"' * 200_001, "look at its quotation marks"),
    ],
)
def test_a_broken_row_is_dropped_alone(path: Path, broken: str, reason: str) -> None:
    """Whatever is wrong with a row, the rows around it stay and its line number and the reason are told."""
    path.write_bytes(lines(row(1), broken, row(2), row(3)))
    tracks, dropped = read_tracks(path)
    assert tracks == [track(1), track(2), track(3)]
    assert len(dropped) == 1
    assert dropped[0].startswith("line 3: ")
    assert reason in dropped[0]


def test_reasons_come_in_the_order_of_the_file(path: Path) -> None:
    """Whatever the kinds of fault, the reasons follow the lines."""
    path.write_bytes(lines("oops", row(1), row(1), "oops", row(2, " "), "oops"))
    assert [reason.partition(":")[0] for reason in read_tracks(path)[1]] == [f"line {n}" for n in (2, 4, 5, 6, 7)]


def test_a_row_that_is_not_utf8_is_dropped_alone(path: Path) -> None:
    """A Latin-1 row goes, with its line number; a UTF-8 row beside it keeps its accents."""
    path.write_bytes(lines(row(1, "Björk")) + row(2, "Motörhead").encode("latin-1") + b"\n" + row(3).encode())
    tracks, dropped = read_tracks(path)
    assert [t.title for t in tracks] == ["Björk", "Song 3"]
    assert dropped == ["line 3: it is not UTF-8"]


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("200000", 200_000),
        (" 200000 ", 200_000),
        ("218933.0", 218_933),
        ("", None),
        ("3:38", None),
        ("-1", None),
        ("0", None),
        ("1" + "0" * 30, None),
        ("nan", None),
        ("inf", None),
        ("2.5", None),
        ("90000000", None),
    ],
)
def test_a_duration_that_is_no_number_leaves_the_song(path: Path, written: str, known: int | None) -> None:
    """A song whose duration is missing, negative, huge or no number is kept, its duration unknown."""
    path.write_bytes(lines(row(1, duration_ms=written)))
    assert read_tracks(path) == ([track(1, duration_ms=known)], [])


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(path: Path, column: str) -> None:
    """A file without one of the six columns is no list, and the error says which one it lacks."""
    path.write_text(",".join(c for c in COLUMNS if c != column) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"no column {column} "):
        read_tracks(path)


NO_LISTS = {
    "empty": b"",
    "blank": b"\n\n",
    "every byte": bytes(range(256)) * 10,
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(500),
    "quotation mark": b'"' + HEADER.encode(),
    "UTF-16": HEADER.encode("utf-16"),
    "two columns": b"track_id,title\nx,y\n",
}


@pytest.mark.parametrize("content", NO_LISTS.values(), ids=NO_LISTS)
def test_what_is_no_list_is_refused(path: Path, content: bytes) -> None:
    """An empty file, a picture or UTF-16: no list, and an error of one kind."""
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"it has no column|no header"):
        read_tracks(path)


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("more", [{}, {"valence": 0.25, "energy": 0.5}], ids=["plain", "measured"])
def test_a_spreadsheet_of_another_country_saves_a_list_too(path: Path, delimiter: str, more: dict[str, float]) -> None:
    """Semicolons or tabs, a byte order mark, CRLF and a comma in numbers; it can be added to and taken from, too."""
    tracks = [track(1, "Sun; or, moon", "A, B", **more), track(2, 'A "quoted" one', **more)]
    write_tracks(path, tracks)
    rows = list(csv.reader(path.read_text().splitlines()))
    rows[1:] = [[cell.replace(".", ",") if at > 5 else cell for at, cell in enumerate(row)] for row in rows[1:]]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    path.write_bytes(f"\ufeff{text.getvalue()}oops\r\n".encode())
    assert read_tracks(path) == (
        tracks,
        ["line 4: it has not the header's 6 columns but 1".replace("6", str(len(rows[0])))],
    )
    append_tracks(path, [track(3)])
    assert read_tracks(path)[0] == [*tracks, track(3)]
    remove_tracks(path, {tracks[0].track_id})
    assert read_tracks(path)[0] == [tracks[1], track(3)]
    assert "oops" in path.read_text()


def test_a_song_may_be_the_link_that_is_copied_for_it(path: Path) -> None:
    """As Spotify's apps hand it out, as a URI too; a second row of the same song is still one too many."""
    ids = [track_id(n) for n in range(1, 5)]
    forms = [
        f"https://open.spotify.com/intl-de/track/{ids[0]}?si=abc",
        f"spotify:track:{ids[1]}",
        ids[2],
        f" {ids[0]} ",
    ]
    path.write_text("\n".join([HEADER, *(f"{form},Song,Artist,Album,1000,2026-01-01" for form in forms)]))
    tracks, dropped = read_tracks(path)
    assert [track.track_id for track in tracks] == ids[:3]
    assert dropped == [f"line 5: {ids[0]} is in the list already"]
    remove_tracks(path, ids[:2])
    assert [track.track_id for track in read_tracks(path)[0]] == [ids[2]]


def test_the_last_columns_may_be_left_out_of_a_row(path: Path) -> None:
    """Measures of a song of which there are none; not what every song has."""
    row = f"{track_id(1)},Song,Artist,Album,1000,2026-01-01"
    path.write_text(f"{HEADER},valence,energy\n{row}\n{row.rpartition(',')[0]}\n")
    tracks, dropped = read_tracks(path)
    assert [track.title for track in tracks] == ["Song"]
    assert dropped == ["line 3: it has not the header's 8 columns but 5"]
    append_tracks(path, [track(2, valence=0.5, energy=0.5)])
    assert [track.valence for track in read_tracks(path)[0]] == [None, 0.5]


# -- writing a list


def test_what_is_written_is_read_back(path: Path) -> None:
    """A list comes back as it was written, awkward titles and unknown durations included."""
    tracks = [track(1, 'A "quoted", title'), track(2, "Ünï 강남 \ufffd", duration_ms=None), track(3, "=NA()", "None")]
    write_tracks(path, tracks)
    assert read_tracks(path) == (tracks, [])
    assert path.read_bytes().startswith(HEADER.encode() + b"\n")


def test_an_empty_list_can_be_written(path: Path) -> None:
    """A playlist without songs is a header."""
    write_tracks(path, [])
    assert path.read_text() == HEADER + "\n"
    assert read_tracks(path) == ([], [])


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_songs_are_added_to_what_a_person_wrote(path: Path, end: str) -> None:
    """Columns of their own, rows that are no songs and text in another encoding stay as they are."""
    kept = f"note,{HEADER}\nmine,{row(9)}\n,no id,A,B,C,1,\n,{'2' * 22},T,a, b,C,1,\n"
    path.write_bytes(b"\xef\xbb\xbf\n" + kept.encode() + f"\xe9,{'3' * 22},T,A,B,1,".encode("latin-1") + end.encode())
    before = read_tracks(path)
    append_tracks(path, [track(1, "Comma, here"), track(2)])
    songs, dropped = read_tracks(path)
    assert (songs, dropped) == ([*before[0], track(1, "Comma, here"), track(2)], before[1])
    assert (len(before[0]), len(dropped)) == (1, 3)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf\n" + kept.encode())


def test_songs_that_are_added_bring_how_they_sound(path: Path) -> None:
    """A list gets the columns that it lacks, and no row of it is lost or becomes one."""
    write_tracks(path, [track(1)])
    with path.open("a") as file:
        file.write("no id\n")
    loud = dataclasses.replace(track(2), valence=0.25, energy=1.0)
    append_tracks(path, [loud])
    assert read_tracks(path) == ([track(1), loud], ["line 3: it has not the header's 8 columns but 1"])
    append_tracks(path, [track(3)])
    assert read_tracks(path)[0] == [track(1), loud, track(3)]


def test_nothing_is_added_to_what_is_no_list(path: Path) -> None:
    """A file of another kind is refused and stays."""
    path.write_text("my notes\n")
    with pytest.raises(ValueError, match="has no column"):
        append_tracks(path, [track(1)])
    assert path.read_text() == "my notes\n"


def test_a_list_that_no_sync_made_is_not_called_fetched(path: Path) -> None:
    """The note of one list goes, others stay; without notes, or with broken ones, nothing happens."""
    notes = path.with_name("synced.json")
    forget_fetch(path)
    assert not notes.exists()
    for broken in ("[]", "{", '{"sad": {}}'):
        notes.write_text(broken)
        forget_fetch(path)
        assert notes.read_text() == broken
    entry = {"fetched_at": "2026-01-01T00:00:00Z"}
    notes.write_text(json.dumps({path.stem: entry, "sad": entry}))
    forget_fetch(path)
    assert json.loads(notes.read_text()) == {"sad": entry}


def test_songs_that_go_leave_every_other_line_as_it_was(path: Path) -> None:
    """With columns of one's own, lines that are no songs, and rows that the site cannot read."""
    lines = [
        "",
        f"{HEADER},notes",
        *(f"{track_id(n)},Song {n},A,,,,mine" for n in (1, 2)),
        '"Heroes,Bowie',
        "",
        "a note",
    ]
    path.write_bytes("\n".join(["\ufeff" + lines[0], *lines[1:], "\udcff"]).encode(errors="surrogateescape"))
    before = path.read_bytes()
    remove_tracks(path, {track_id(2), track_id(3)})
    assert path.read_bytes() == before.replace(f"{track_id(2)},Song 2,A,,,,mine\n".encode(), b"") + b"\n"


def test_a_song_under_another_id_is_the_same_song(path: Path) -> None:
    """A single is on an album too; songs without an artist are told apart by their ids alone."""
    old = [Track(track_id(1), "Happy", "Pharrell", "", None, ""), Track(track_id(2), "Intro", "", "", None, "")]
    same, other = (
        Track(track_id(n), title, artist, "", None, "")
        for n, title, artist in ((3, "HAPPY", "Pharrell"), (4, "Intro", ""))
    )
    assert not_in(old, [same, other]) == [other]


def test_writing_keeps_the_permissions(path: Path) -> None:
    """A list keeps the permissions that it had; a new one gets those of any new file."""
    write_tracks(path, [track(1)])
    (path.parent / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((path.parent / "other").stat().st_mode)
    path.chmod(0o640)
    write_tracks(path, [track(2)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_list_that_is_a_link_stays_one(path: Path, tmp_path: Path) -> None:
    """What is written goes where the link leads, into a folder that is backed up, say."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_tracks(elsewhere / "my.csv", [track(1)])
    path.symlink_to(elsewhere / "my.csv")
    write_tracks(path, [track(2)])
    assert path.is_symlink()
    assert read_tracks(elsewhere / "my.csv") == ([track(2)], [])
    assert len(list(elsewhere.iterdir())) == 1


def test_a_link_to_itself_becomes_a_list(path: Path) -> None:
    """It leads nowhere, so nothing is lost."""
    path.symlink_to(path)
    write_tracks(path, [track(1)])
    assert read_tracks(path) == ([track(1)], [])


def test_a_failed_write_leaves_the_old_list_and_nothing_else(path: Path) -> None:
    """Whether the songs or the disk fail, the old list stays whole and no temporary file is left."""
    write_tracks(path, [track(1)])

    def failing() -> Iterator[Track]:
        yield track(2)
        raise RuntimeError("the network went away")

    with pytest.raises(RuntimeError):
        write_tracks(path, failing())
    with pytest.raises(UnicodeEncodeError):
        replace_text(path, "half of it \udcff")
    assert read_tracks(path) == ([track(1)], [])
    assert list(path.parent.iterdir()) == [path]


def test_a_write_onto_a_folder_fails_and_leaves_nothing(path: Path) -> None:
    """When the last step fails, the temporary file goes too."""
    path.mkdir()
    with pytest.raises(OSError, match=re.escape(path.name)):
        write_tracks(path, [track(1)])
    assert list(path.parent.iterdir()) == [path]


# -- the catalog


def test_each_emotion_has_its_own_list(tmp_path: Path, catalog: Catalog) -> None:
    """An emotion's songs are those of the file with its name."""
    for n, emotion in enumerate(EMOTIONS, 1):
        write_tracks(tmp_path / f"{emotion}.csv", [track(n)])
    for n, emotion in enumerate(EMOTIONS, 1):
        playlist = catalog.playlist(emotion)
        assert (playlist.emotion, playlist.tracks, playlist.fetched_at) == (emotion, (track(n),), None)


def test_a_changed_list_is_served_at_the_next_request(path: Path, catalog: Catalog) -> None:
    """Replaced or edited in place, with an old time stamp or the same size, a list is read again."""
    write_tracks(path, [track(1)])
    assert titles(catalog) == ["Song 1"]
    before = path.stat()
    write_tracks(path, [track(2)])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert titles(catalog) == ["Song 2"]
    path.write_bytes(lines(row(3), row(4)))
    assert titles(catalog) == ["Song 3", "Song 4"]


def test_an_unchanged_list_is_not_read_again(path: Path, catalog: Catalog) -> None:
    """Between changes the same songs are handed out, not equal ones."""
    write_tracks(path, [track(1)])
    assert catalog.playlist(HAPPY).tracks is catalog.playlist(HAPPY).tracks


def test_good_rows_are_served_and_the_log_tells_once(
    path: Path, catalog: Catalog, log: pytest.LogCaptureFixture
) -> None:
    """Dropped rows give one line in the log for each change of the file, with file, line numbers and reasons."""
    path.write_bytes(lines(row(1), "oops", row(2, "")))
    assert titles(catalog) == titles(catalog) == ["Song 1", "Song 2"]
    assert len(log.records) == 1
    assert str(path) in log.text
    assert "line 3: it has not" in log.text
    path.write_bytes(lines(row(1), "oops", row(3)))
    assert titles(catalog) == titles(catalog) == ["Song 1", "Song 3"]
    assert len(log.records) == 2


def test_a_long_tale_of_broken_rows_is_cut_short(path: Path, catalog: Catalog, log: pytest.LogCaptureFixture) -> None:
    """A thousand broken rows give a log line that a person can read, and their number."""
    path.write_bytes(lines(row(1), *["oops"] * 1000))
    assert titles(catalog) == ["Song 1"]
    assert "1000 rows dropped" in log.text
    assert len(log.text) < 5000


@pytest.mark.parametrize("content", [*NO_LISTS.values(), lines("oops", "garbage")], ids=[*NO_LISTS, "no good row"])
def test_a_useless_file_leaves_the_last_good_songs(
    path: Path, catalog: Catalog, log: pytest.LogCaptureFixture, content: bytes
) -> None:
    """When nothing of a file can be used, the songs before it stay, the log says so once, and a repair is seen."""
    write_tracks(path, [track(1)])
    assert titles(catalog) == ["Song 1"]
    path.write_bytes(content)
    assert titles(catalog) == titles(catalog) == ["Song 1"]
    assert len(log.records) == 1
    assert str(path) in log.text
    write_tracks(path, [track(2)])
    assert titles(catalog) == ["Song 2"]


def test_a_deleted_list_leaves_the_last_good_songs(path: Path, catalog: Catalog, log: pytest.LogCaptureFixture) -> None:
    """A list that disappears is missed once in the log, each time that it does, and not on the page."""
    for count in (1, 2):
        write_tracks(path, [track(1)])
        assert titles(catalog) == ["Song 1"]
        path.unlink()
        assert titles(catalog) == titles(catalog) == ["Song 1"]
        assert len(log.records) == count
        assert "No such file" in log.records[-1].getMessage()


def test_a_list_that_never_was_is_empty(catalog: Catalog, log: pytest.LogCaptureFixture) -> None:
    """Without a file an emotion has no songs, and one line in the log."""
    assert titles(catalog) == titles(catalog) == []
    assert len(log.records) == 1


def test_a_list_that_cannot_be_opened_is_tried_again(
    path: Path, catalog: Catalog, log: pytest.LogCaptureFixture
) -> None:
    """A file that fails to open is asked for again with each request, and logged once."""
    path.mkdir()
    assert titles(catalog) == titles(catalog) == []
    assert len(log.records) == 1
    path.rmdir()
    write_tracks(path, [track(1)])
    assert titles(catalog) == ["Song 1"]


def test_a_passing_trouble_of_the_system_passes(path: Path, catalog: Catalog, log: pytest.LogCaptureFixture) -> None:
    """A list that changed while the process had no file left to open is read as soon as it has one."""
    resource = pytest.importorskip("resource")
    write_tracks(path, [track(1)])
    assert titles(catalog) == ["Song 1"]
    write_tracks(path, [track(2)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        during = [titles(catalog), titles(catalog)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert during == [["Song 1"], ["Song 1"]]
    assert titles(catalog) == ["Song 2"]
    assert ["Too many open files" in record.getMessage() for record in log.records] == [True]


def test_an_empty_list_is_served_as_one(path: Path, catalog: Catalog, log: pytest.LogCaptureFixture) -> None:
    """A header without rows is an empty playlist, not a broken one; the log mentions it once."""
    write_tracks(path, [track(1)])
    assert titles(catalog) == ["Song 1"]
    write_tracks(path, [])
    assert titles(catalog) == titles(catalog) == []
    assert [r.getMessage() for r in log.records] == [f"{path} has no songs"]


def test_readers_never_see_half_a_list(path: Path, catalog: Catalog, log: pytest.LogCaptureFixture) -> None:
    """While a list is replaced over and over, threads that read it see one version or another, whole."""
    versions = [tuple(track(n) for n in range(first, first + 40)) for first in (0, 100)]
    write_tracks(path, versions[0])
    seen: set[tuple[Track, ...]] = set()
    done = threading.Event()

    def reading() -> None:
        while not done.is_set():
            seen.add(catalog.playlist(HAPPY).tracks)

    readers = [threading.Thread(target=reading) for _ in range(4)]
    for reader in readers:
        reader.start()
    for n in range(30):
        write_tracks(path, versions[n % 2])
    done.set()
    for reader in readers:
        reader.join()
    assert seen
    assert seen <= set(versions)
    assert catalog.playlist(HAPPY).tracks == versions[1]
    assert not log.records


def test_threads_that_ask_at_once_share_one_reading(
    path: Path, catalog: Catalog, log: pytest.LogCaptureFixture
) -> None:
    """A changed list is read, and its faults are logged, by the first thread that asks; the others get the same."""
    path.write_bytes(lines("oops", *(row(n) for n in range(5000))))
    together = threading.Barrier(6)
    answers: list[tuple[Track, ...]] = []

    def asking() -> None:
        together.wait()
        answers.append(catalog.playlist(HAPPY).tracks)

    threads = [threading.Thread(target=asking) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(answer) for answer in answers}) == 1
    assert len(answers[0]) == 5000
    assert len(log.records) == 1


# -- when a list was fetched


def test_a_playlist_says_when_it_was_fetched(tmp_path: Path, path: Path, catalog: Catalog) -> None:
    """`synced.json` gives the time, for the emotions it names, and a later time once it changes."""
    write_tracks(path, [track(1)])
    for time in ("2026-11-21T10:00:00Z", "2026-11-22T11:30:00+01:00"):
        (tmp_path / "synced.json").write_text(json.dumps({"happy": {"fetched_at": time, "playlist": "x"}, "sad": {}}))
        assert catalog.playlist(HAPPY).fetched_at == time
    assert catalog.playlist(Emotion.SAD).fetched_at is None
    (tmp_path / "synced.json").unlink()
    assert catalog.playlist(HAPPY).fetched_at is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"x"', "[" * 100_000, "\x00", '{"happy": 5}'])
def test_a_broken_synced_json_costs_the_date_only(tmp_path: Path, path: Path, catalog: Catalog, content: str) -> None:
    """Whatever `synced.json` holds, the songs are served, without a time."""
    write_tracks(path, [track(1)])
    (tmp_path / "synced.json").write_text(content)
    assert titles(catalog) == ["Song 1"]
    assert catalog.playlist(HAPPY).fetched_at is None


@pytest.mark.parametrize(
    "entry", [None, 5, "x", [], {}, {"fetched_at": None}, {"fetched_at": 5}, {"fetched_at": "soon"}]
)
def test_a_time_that_is_none_is_left_out(tmp_path: Path, catalog: Catalog, entry: object) -> None:
    """An entry without an ISO time has no time; the entries beside it keep theirs."""
    good = {"fetched_at": "2026-11-21T10:00:00Z"}
    (tmp_path / "synced.json").write_text(json.dumps({"happy": entry, "sad": good}))
    assert catalog.playlist(HAPPY).fetched_at is None
    assert catalog.playlist(Emotion.SAD).fetched_at == good["fetched_at"]


# -- the shipped lists


def shipped(emotion: Emotion) -> list[Track]:
    return read_tracks(SHIPPED / f"{emotion}.csv")[0]


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_a_shipped_list_is_whole(emotion: Emotion) -> None:
    """Every list is plain UTF-8 with the six columns, at least 45 songs and no row that is dropped."""
    content = (SHIPPED / f"{emotion}.csv").read_bytes()
    header, *rows = csv.reader(content.decode("utf-8").splitlines(), strict=True)
    tracks, dropped = read_tracks(SHIPPED / f"{emotion}.csv")
    assert not content.startswith(b"\xef\xbb\xbf")
    assert tuple(header) == COLUMNS
    assert dropped == []
    assert len(tracks) == len(rows) >= 45


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_a_shipped_list_is_fit_to_be_shown(emotion: Emotion) -> None:
    """Every song has an artist, an album and a date; no text is garbled, no title a reissue's or a curse."""
    for song in shipped(emotion):
        text = f"{song.title} | {song.artist} | {song.album}"
        assert song.artist, text
        assert song.album, text
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", song.added_at), text
        assert not re.search("[ÃÂ�]|â€|&amp;|&#", text), text
        assert not re.search("remaster|radio edit|single version|fuck|shit|bitch", song.title, re.IGNORECASE), text
        assert song.duration_ms is None or 60_000 < song.duration_ms < 1_500_000, text


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_a_shipped_list_is_varied(emotion: Emotion) -> None:
    """No song twice, no artist more than three times, and none twice in a row."""
    tracks = shipped(emotion)
    artists = [t.artist.casefold() for t in tracks]
    assert max(Counter(artists).values()) <= 3
    assert not [a for a, b in pairwise(artists) if a == b]
    assert max(Counter((plain(t.title), t.artist.casefold()) for t in tracks).values()) == 1


def test_no_song_is_in_two_lists() -> None:
    """A song belongs to one mood, by its id and by its title and artist."""
    tracks = [t for emotion in EMOTIONS for t in shipped(emotion)]
    assert len({t.track_id for t in tracks}) == len(tracks)
    assert len({(plain(t.title), t.artist.casefold()) for t in tracks}) == len(tracks)


def plain(title: str) -> str:
    """A title without what versions of one song differ in."""
    return re.sub(r"[^\w]", "", re.sub(r"[\(\[].*?[\)\]]| - .*", "", title.casefold())) or title


def test_most_durations_are_known() -> None:
    """Nine songs in ten have their duration."""
    durations = [t.duration_ms for emotion in EMOTIONS for t in shipped(emotion)]
    assert sum(d is None for d in durations) < len(durations) / 10
