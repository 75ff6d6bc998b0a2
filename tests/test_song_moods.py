"""Songs that know their mood: the networks as shipped, the commands as people run them, and what stays apart."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from model import song_figures, song_plots, song_table, train_song_moods
from model.emotions import EMOTIONS, Emotion
from model.song_moods import (
    EMOTIONS_OF,
    FEATURES,
    LIMITS,
    Mood,
    SongMoods,
    SongMoodsError,
    decided,
    fault_of,
    load_card,
    load_song_moods,
    shaped,
    stem,
    words,
)
from model.song_table import ADDED, AT_ONCE, LONGEST_LINE, TableError, label
from songs import moods as commands
from songs.catalog import COLUMNS, Track, read_tracks, write_tracks
from tests.conftest import ROOT
from tests.test_imports import imports, path_of

MUSIC = ROOT.parent / "shared" / "data" / "music"
needs_music = pytest.mark.skipif(not MUSIC.is_dir(), reason=f"no songs to train on: {MUSIC} is not there")

# In the order of FEATURES: what six kinds of songs measure like.
METAL = (0.0005, 0.45, 0.95, 0.001, 0.2, -4.0, 0.09, 140.0, 0.35)
PIANO = (0.99, 0.35, 0.05, 0.93, 0.1, -27.0, 0.04, 80.0, 0.1)
DANCE = (0.1, 0.75, 0.75, 0.0, 0.12, -6.0, 0.05, 118.0, 0.9)
DRONE = (0.85, 0.22, 0.2, 0.85, 0.1, -16.0, 0.04, 95.0, 0.04)
RIOT = (0.05, 0.6, 0.9, 0.0, 0.3, -4.5, 0.06, 128.0, 0.55)
BALLAD = (0.85, 0.45, 0.25, 0.0, 0.11, -10.0, 0.03, 110.0, 0.2)

HAPPY_WORDS = "Dance with me, sunshine baby, we are dancing and loving all the summer day, what a party, sing along"
GERMAN = "Ich weiß nicht, was soll es bedeuten, dass ich so traurig bin, ein Märchen aus uralten Zeiten"
FRENCH = "Sous le pont Mirabeau coule la Seine et nos amours, faut-il qu'il m'en souvienne"


@pytest.fixture(scope="module")
def moods() -> SongMoods:
    return load_song_moods()


def write(path: Path, rows: list[list[object]], header: list[str] | None = None) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header or ["track_id", "title", "artist", *FEATURES], *rows])
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def song(number: int, features: tuple[float, ...], artist: str = "Nobody") -> list[object]:
    return [f"{number:022d}", f"Song {number}", artist, *features]


def run(*arguments: object, module: str = "model.song_moods") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


# -- the networks as shipped


@pytest.mark.parametrize(
    ("features", "mood", "confidence"),
    [
        (METAL, Mood.ANGRY, 0.940),
        (PIANO, Mood.CALM, 0.773),
        (DANCE, Mood.HAPPY, 0.915),
        (BALLAD, Mood.SAD, 0.963),
        (DRONE, Mood.FEAR, 0.673),
        (RIOT, Mood.ENERGETIC, 0.512),
    ],
)
def test_golden_answers_to_sounds(moods: SongMoods, features: tuple[float, ...], mood: Mood, confidence: float) -> None:
    """Six kinds of songs are heard as they were when the network was shipped."""
    (answer,) = moods.audio.answers(np.array([features]))
    assert (answer.mood, answer.confidence) == (mood, pytest.approx(confidence, abs=0.005))


@pytest.mark.parametrize(
    ("text", "mood", "confidence"),
    [
        (HAPPY_WORDS, Mood.HAPPY, 0.928),
        ("I will fight you, burn your war machine, kill the hate, blood and fire, you liar", Mood.ANGRY, 0.984),
        ("I cry alone tonight, tears fall, you are gone and my heart is broken, goodbye my love", Mood.SAD, 0.698),
        (
            "The gentle river flows, the moon is bright, breathe the quiet morning air, dream of the sea",
            Mood.RELAXED,
            0.545,
        ),
    ],
)
def test_golden_answers_to_words(moods: SongMoods, text: str, mood: Mood, confidence: float) -> None:
    """Lines written for this test are read as they were when the network was shipped."""
    answer = moods.lyrics.answer(text)
    assert (answer.mood, answer.confidence) == (mood, pytest.approx(confidence, abs=0.005))


def test_text_and_counts_say_the_same(moods: SongMoods) -> None:
    """Lyrics as text and as counts of stems give one answer, and a count beyond the table's is the table's."""
    counts = moods.lyrics.counts(HAPPY_WORDS)
    assert (counts["danc"], counts["love"]) == (2, 1)
    assert moods.lyrics.answer(counts) == moods.lyrics.answer(HAPPY_WORDS)
    assert moods.lyrics.answer({"danc": 255}) == moods.lyrics.answer({"danc": 100_000})


@pytest.mark.parametrize("text", ["", "  \n", "12 34 !?", "love", GERMAN, FRENCH, "愛してる 君を 愛してる 君を"])
def test_words_that_are_not_known(moods: SongMoods, text: str) -> None:
    """No lyrics, too few words and another language are "not known", never a guess."""
    answer = moods.lyrics.answer(text)
    assert (answer.mood, answer.confidence, answer.emotion) == (Mood.NOT_KNOWN, 0, None)


def test_probabilities_are_probabilities(moods: SongMoods) -> None:
    """For any features that can be, extremes included, both networks' answers sum to one."""
    low, high = (np.array(edge) for edge in zip(*LIMITS.values(), strict=True))
    rows = moods.audio.probabilities(np.array([METAL, PIANO, low, high]))
    assert rows.shape == (4, len(moods.audio.labels))
    assert np.isfinite(shaped(np.array([low, high]))).all()
    assert rows.sum(axis=1) == pytest.approx(1)
    assert moods.lyrics.probabilities([{"love": 3}, {}]).sum(axis=1) == pytest.approx(1)


def test_a_doubt_is_an_answer() -> None:
    """Under 40 % nothing is said; torn between angry and happy, a song is energetic, if sounds were asked."""
    labels = (Mood.ANGRY, Mood.HAPPY, Mood.RELAXED, Mood.SAD)
    rows = np.array([[0.3, 0.3, 0.2, 0.2], [0.46, 0.5, 0.02, 0.02], [0.2, 0.7, 0.05, 0.05]])
    assert [a.mood for a in decided(labels, rows)] == [Mood.NOT_SURE, Mood.HAPPY, Mood.HAPPY]
    torn = decided(labels, rows, torn=True)
    assert [a.mood for a in torn] == [Mood.NOT_SURE, Mood.ENERGETIC, Mood.HAPPY]
    assert (torn[1].emotion, torn[1].confidence) == (Emotion.SURPRISE, pytest.approx(0.5))


def test_every_list_has_a_mood() -> None:
    """The one table names an emotion for every mood, and every one of the seven lists can be filled from it."""
    assert set(EMOTIONS_OF) == set(Mood)
    assert {emotion for emotions in EMOTIONS_OF.values() for emotion in emotions} == set(EMOTIONS)
    assert [mood for mood, emotions in EMOTIONS_OF.items() if not emotions] == [Mood.NOT_SURE, Mood.NOT_KNOWN]


@pytest.mark.parametrize(
    ("name", "value"), [("tempo", 0.0), ("energy", 64.0), ("valence", float("nan")), ("loudness", float("inf"))]
)
def test_features_that_cannot_be(moods: SongMoods, name: str, value: float) -> None:
    """A feature out of its range is refused by name, and nothing is said of its song."""
    assert re.search(f"{name} is .*, not a number from", fault_of(name, value) or "")
    song = [value if each == name else one for each, one in zip(FEATURES, METAL, strict=True)]
    assert [answer.mood for answer in moods.audio.answers(np.array([song, METAL]))] == [Mood.NOT_KNOWN, Mood.ANGRY]


# -- the stemmer


def test_the_stemmer_is_the_table_s(moods: SongMoods) -> None:
    """The vocabulary's stems are Snowball English's: far more of them stay as they are than under Porter's.

    A stem that is stemmed again mostly stays. "universal", "evening" and "interfer" are stems only since
    version 3 of Snowball's rules.
    """
    import snowballstemmer

    porter = snowballstemmer.stemmer("porter")
    ours, porters = ([f(word) == word for word in moods.lyrics.places] for f in (stem, porter.stemWord))
    assert (len(ours), sum(ours), sum(porters)) == (5000, 4875, 4686)
    assert [stem(w) for w in ("universal", "evening", "interfering")] == ["universal", "evening", "interfer"]
    assert {"universal", "evening", "interfer"} <= moods.lyrics.places.keys()


def test_words_as_the_table_has_them() -> None:
    """Both apostrophes vanish, letters of any script count, single letters and digits do not."""
    assert words("Don't I\N{RIGHT SINGLE QUOTATION MARK}m a 2-faced ÉTOILE, x") == ["dont", "im", "faced", "étoile"]


# -- label


def test_a_table_with_every_fault(tmp_path: Path) -> None:
    """As a process: good rows are labelled, every faulty one is named by its line and still there."""
    good = song(1, METAL)
    nan = [*song(2, METAL)[:-1], "nan"]
    text = [*song(3, METAL)[:-1], "very"]
    tempo = song(4, METAL)
    tempo[3 + FEATURES.index("tempo")] = 0
    table = write(tmp_path / "songs.csv", [good, nan, text, tempo, ["short", "row"], song(6, PIANO)])
    done = run("label", table, "--out", tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "line 3: valence is 'nan', not a number from 0 to 1",
        "line 4: valence is 'very', not a number from 0 to 1",
        "line 5: tempo is '0', not a number from 1 to 400",
        "line 6: it has not the header's 12 columns but 2",
    ]
    assert "4 rows with a fault" in done.stdout
    rows = read(tmp_path / "out.csv")
    assert [row["mood"] for row in rows] == ["angry", "not known", "not known", "not known", None, "calm"]
    assert [row["emotion"] for row in rows] == ["angry", "", "", "", None, "neutral"]
    assert float(rows[0]["confidence"]) > 0.9
    assert rows[4]["track_id"] == "short"
    assert rows[1]["valence"] == "nan"


def test_lyrics_speak_where_features_are_missing(moods: SongMoods, tmp_path: Path) -> None:
    """Features decide; a row without them is judged by its words; one without either is named."""
    header = ["title", *FEATURES, "lyrics"]
    nothing = [""] * len(FEATURES)
    rows: list[list[object]] = [
        ["both", *METAL, HAPPY_WORDS],
        ["words", *nothing, f"{HAPPY_WORDS},\nover\n\ntwo lines"],
        ["neither", *nothing, ""],
        ["German", *nothing, GERMAN],
    ]
    faults: list[str] = []
    label(write(tmp_path / "songs.csv", rows, header), tmp_path / "out.csv", moods, faults.append)
    assert [row["mood"] for row in read(tmp_path / "out.csv")] == ["angry", "happy", "not known", "not known"]
    assert faults[0].startswith("line 6: acousticness is ''")
    assert [fault.rpartition("; ")[2] for fault in faults[1:]] == [
        "it has no lyrics",
        "its lyrics are not English, or too few words",
    ]


def test_counted_words_speak_where_lyrics_are_missing(moods: SongMoods, tmp_path: Path) -> None:
    """Words that somebody counted are judged as the text is; what is no count, or another language, is named."""
    counted = " ".join(f"{word}:{words(HAPPY_WORDS).count(word)}" for word in dict.fromkeys(words(HAPPY_WORDS)))
    german = " ".join(f"{word}:1" for word in words(GERMAN))
    rows: list[list[object]] = [
        ["words", counted],
        ["stems", json.dumps(moods.lyrics.counts(HAPPY_WORDS))],
        ["numbers", "12:3 7:1"],
        ["text", HAPPY_WORDS],
        ["German", german],
        ["nothing", ""],
        ["few", "don't:2 i:90"],
    ]
    faults: list[str] = []
    for name in ("word_counts", "BOW"):
        faults.clear()
        label(write(tmp_path / "songs.csv", rows, ["title", name]), tmp_path / "out.csv", moods, faults.append)
        answers = [(row["mood"], row["confidence"]) for row in read(tmp_path / "out.csv")]
        assert answers[0] == ("happy", f"{moods.lyrics.answer(HAPPY_WORDS).confidence:.3f}")
        assert answers[1] == answers[0]
        assert answers[2:] == [("not known", "")] * 5
        assert faults == [
            "line 4: its word counts are not like 'love:3 night:1'",
            "line 5: its word counts are not like 'love:3 night:1'",
            "line 6: its lyrics are not English, or too few words",
            "line 7: it has no lyrics",
            "line 8: its lyrics are not English, or too few words",
        ]


def test_lyrics_go_before_counted_words(moods: SongMoods, tmp_path: Path) -> None:
    """Where a row has both, its text is read; where the text is empty, its counts."""
    rows: list[list[object]] = [[HAPPY_WORDS, "kill:9 blood:9 hate:9"], [" ", "kill:9 blood:9 hate:9"]]
    label(write(tmp_path / "songs.csv", rows, ["lyrics", "word_counts"]), tmp_path / "out.csv", moods)
    assert [row["mood"] for row in read(tmp_path / "out.csv")] == ["happy", "angry"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"title,energy,tempo\n", "it has no column acousticness, danceability, instrumentalness, liveness"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 9, "it is no table"),
        (b"x" * (LONGEST_LINE + 1), "its first line is no header"),
    ],
)
def test_what_is_no_table(moods: SongMoods, tmp_path: Path, content: bytes, said: str) -> None:
    """An empty, binary or endless file, or one without the columns, is refused; what was there before stays."""
    table, out = tmp_path / "songs.csv", tmp_path / "out.csv"
    table.write_bytes(content)
    out.write_text("before")
    with pytest.raises(TableError, match=said):
        label(table, out, moods)
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "songs.csv"]


def test_missing_columns_as_a_process(tmp_path: Path) -> None:
    """The command names every missing column and ends with 2; no table at all is a line too."""
    table = tmp_path / "songs.csv"
    table.write_text(",".join(["title", *FEATURES[1:]]))
    done = run("label", table, "--out", tmp_path / "out.csv")
    assert (done.returncode, done.stderr) == (
        2,
        f"{table}: it has no column acousticness, and no column lyrics or word_counts either\n",
    )
    assert commands.main(["label", str(tmp_path / "absent.csv"), "--out", str(tmp_path / "out.csv")]) == 2
    assert commands.main(["label", str(table), "--out", str(tmp_path / "absent" / "out.csv")]) == 2


def test_lines_without_end(moods: SongMoods, tmp_path: Path) -> None:
    """A huge line and an unclosed quotation mark cost their own rows: they are named once and copied as they are."""
    table = write(tmp_path / "songs.csv", [song(1, METAL)])
    huge = "y" * (2 * LONGEST_LINE + 5)
    with table.open("a", encoding="utf-8") as file:
        file.write(f"{huge}\n{','.join(map(str, song(3, PIANO)))}\n")
        file.write(f'"{"never closed " * 50_000}\n')
    faults: list[str] = []
    tally = label(table, tmp_path / "out.csv", moods, faults.append)
    text = (tmp_path / "out.csv").read_text()
    assert [fault.partition(":")[0] for fault in faults] == ["line 3", "line 5"]
    assert "longer than 1,000,000 characters" in faults[0]
    assert huge in text
    assert '"never closed' in text
    assert (tally.faults, tally.moods) == (2, {"angry": 1, "calm": 1})


def test_a_table_in_another_encoding_keeps_its_bytes(moods: SongMoods, tmp_path: Path) -> None:
    """Bytes that are not UTF-8 come out as they went in; a byte order mark is not part of the first name."""
    table = write(tmp_path / "songs.csv", [song(1, METAL, "Beyonc?")])
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"Beyonc?", b"Beyonc\xe9"))
    tally = label(table, tmp_path / "out.csv", moods)
    assert (tally.faults, tally.moods) == (0, {"angry": 1})
    assert b"Beyonc\xe9," in (tmp_path / "out.csv").read_bytes()


def test_rows_stream(moods: SongMoods, tmp_path: Path) -> None:
    """At most AT_ONCE rows are held: what is before them is written while the rest is still unread."""
    table = write(tmp_path / "songs.csv", [song(i, METAL) for i in range(3 * AT_ONCE + 1)])
    shares: list[float] = []
    tally = label(table, tmp_path / "out.csv", moods, progress=shares.append)
    assert tally.moods == {"angry": 3 * AT_ONCE + 1}
    assert shares == sorted(shares)
    assert len(shares) == 4
    assert (shares[0] < 0.5, shares[-1]) == (True, 1.0)


def test_only_the_first_faults_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table that is all wrong does not flood the terminal: twenty lines, and how many more."""
    table = write(tmp_path / "songs.csv", [["", "", "", *[""] * len(FEATURES)]] * 50)
    assert commands.main(["label", str(table), "--out", str(tmp_path / "out.csv")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert (len(said), said[-1]) == (song_table.FAULTS_SAID + 1, "... and 30 more")


def test_a_cell_with_line_ends_of_old_stays_one(moods: SongMoods, tmp_path: Path) -> None:
    """A carriage return alone ends a line for whoever reads the table: its cell is in quotation marks."""
    lyrics = "line one\rline two\rline three"
    table = write(tmp_path / "t.csv", [[lyrics, "One", "A", *METAL], ["", "Two", "A", *METAL]])
    label(table, tmp_path / "out.csv", moods)
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [len(row) for row in rows] == [len(FEATURES) + 6] * 3
    assert rows[1][0] == lyrics


def test_what_is_written_goes_where_a_link_or_a_pipe_leads(moods: SongMoods, tmp_path: Path) -> None:
    """A link stays one, permissions stay, and whoever reads a pipe gets the rows."""
    table = write(tmp_path / "t.csv", [["", "One", "A", *METAL]])
    real, link, pipe = (tmp_path / name for name in ("real.csv", "link.csv", "pipe"))
    real.write_text("before")
    real.chmod(0o640)
    link.symlink_to(real)
    label(table, link, moods)
    assert (link.is_symlink(), real.stat().st_mode & 0o777) == (True, 0o640)
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit(pipe.read_text)
        label(table, pipe, moods)
        assert read.result(30) == real.read_text()
    assert pipe.is_fifo()


def test_a_mood_that_was_there_stays(moods: SongMoods, tmp_path: Path) -> None:
    """A table's own mood column is kept under another name, and a labelled table can be labelled again."""
    table = write(tmp_path / "songs.csv", [["mine", *METAL]], ["Mood", *FEATURES])
    label(table, tmp_path / "out.csv", moods)
    row = read(tmp_path / "out.csv")[0]
    assert (row["Mood_given"], row["mood"]) == ("mine", "angry")
    assert tuple(row)[-3:] == ADDED


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["\N{HIRAGANA LETTER A}" * 9], "its lyrics are not English, or too few words"),
        ([GERMAN], "its lyrics are not English, or too few words"),
        ([""], "it has no lyrics"),
        (["  "], "it has no lyrics"),
    ],
)
def test_lyrics_that_cannot_be_read_as_a_process(tmp_path: Path, rows: list[str], said: str) -> None:
    """Empty lyrics and another language are named by their line; the song stays, its mood is not known."""
    table = write(tmp_path / "songs.csv", [["Song", text] for text in rows], ["title", "lyrics"])
    done = run("label", table, "--out", tmp_path / "out.csv")
    assert (done.returncode, done.stderr) == (0, f"line 2: {said}\n")
    assert [(row["title"], row["mood"], row["emotion"]) for row in read(tmp_path / "out.csv")] == [
        ("Song", "not known", "")
    ]


def test_a_binary_file_as_a_process(tmp_path: Path) -> None:
    """A picture in place of a table ends every command with 2 and one line; nothing is written."""
    picture = tmp_path / "songs.csv"
    picture.write_bytes((ROOT / "docs" / "pictures" / "confusion.png").read_bytes())
    for command, *options in (
        ("label", picture, "--out", tmp_path / "out.csv"),
        ("playlists", picture, "--songs", tmp_path),
        ("check", picture),
    ):
        done = run(command, *options)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["songs.csv"]


# -- playlists and check


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            ["title", "emotion", "confidence"],
            "it has no column track_id; a list needs every song's Spotify id and title",
        ),
        (["track_id", "title"], "it has no column emotion, confidence; emotion and confidence come from"),
    ],
)
def test_playlists_says_which_column_is_missing(tmp_path: Path, header: list[str], said: str) -> None:
    """A labelled table without ids is told that ids are missing, not that it is unlabelled."""
    table = write(tmp_path / "songs.csv", [], header)
    done = run("playlists", table, "--songs", tmp_path)
    assert done.returncode == 2
    assert said in done.stderr


def labelled(path: Path, songs: list[tuple[int, str, str, float]]) -> Path:
    """A labelled table: number, artist, emotion, confidence."""
    header = ["id", "name", "artists", "emotion", "confidence"]
    rows: list[list[object]] = [[f"{n:022d}", f"Song {n}", artist, e, c] for n, artist, e, c in songs]
    return write(path, rows, header)


def test_a_song_with_several_ids_is_one(tmp_path: Path) -> None:
    """Single, album and deluxe album have ids of their own: of one name and artist the surest is taken."""
    header = ["id", "name", "artists", "emotion", "confidence"]
    rows: list[list[object]] = [
        [f"{n:022d}", name, "Abba", "happy", sure]
        for n, name, sure in ((1, "Don't", 0.7), (2, "DON\u2019T", 0.9), (3, "Do", 0.8))
    ]
    table = write(tmp_path / "t.csv", rows, header)
    assert commands.main(["playlists", str(table), "--songs", str(tmp_path)]) == 0
    assert [track.title for track in read_tracks(tmp_path / "happy.csv")[0]] == ["DON\u2019T", "Do"]


def test_a_table_in_a_pipe_has_no_other_lines(tmp_path: Path) -> None:
    """--out /dev/stdout: what is said about it goes to stderr."""
    table = write(tmp_path / "songs.csv", [["", "A", "B", *PIANO]])
    done = run("label", table, "--out", "/dev/stdout")
    assert (done.returncode, done.stdout.count("\n"), "1 calm" in done.stderr) == (0, 2, True)
    done = run(table, "--features", table, "--out", "/dev/stdout", module="songs.split")
    assert (done.returncode, done.stdout.count("\n"), "neutral: 1" in done.stderr) == (0, 2, True)


def test_playlists_as_a_process(tmp_path: Path) -> None:
    """The surest songs, every artist once before one comes twice; the angry left over are the disgust list.

    A list without songs stays, rows that are none are named, and --append adds what is new; such a list is no
    longer one that was fetched.
    """
    songs = [(n, "Loud" if n < 4 else f"Band {n}", "angry", 0.9 - n / 100) for n in range(8)]
    table = labelled(tmp_path / "t.csv", [*songs, (20, "Sun", "happy", 0.8), (21, "Rain", "", 0.0)])
    with table.open("a") as file:
        file.write("no id,Song,Artist,happy,0.9\nshort\n")
    write_tracks(tmp_path / "sad.csv", [Track("s" * 22, "Old", "A", "", None, "")])
    write_tracks(tmp_path / "happy.csv", [Track("h" * 22, "Old", "A", "", None, "")])
    with (tmp_path / "happy.csv").open("a") as file:
        file.write("a note\n")
    fetched = {"fetched_at": "2026-11-01T00:00:00Z"}
    (tmp_path / "synced.json").write_text(json.dumps({"happy": fetched, "sad": fetched}))
    done = run("playlists", table, "--songs", tmp_path, "--append", "--top", 5)
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["line 12", "line 13"]
    lists = {e: [t.title for t in read_tracks(tmp_path / f"{e}.csv")[0]] for e in ("angry", "disgust", "happy", "sad")}
    assert lists["angry"] == ["Song 0", "Song 4", "Song 5", "Song 6", "Song 7"]
    assert lists["disgust"] == ["Song 1", "Song 2", "Song 3"]
    assert (lists["happy"], lists["sad"]) == (["Old", "Song 20"], ["Old"])
    assert "\na note\n" in (tmp_path / "happy.csv").read_text()
    assert json.loads((tmp_path / "synced.json").read_text()) == {"sad": fetched}
    assert not (tmp_path / "fear.csv").exists()


def test_playlists_say_how_many_more_faults_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty lines of faults would look like all of them."""
    table = labelled(tmp_path / "t.csv", [(1, "Sun", "happy", 0.8)])
    with table.open("a") as file:
        file.write("short\n" * 50)
    assert commands.main(["playlists", str(table), "--songs", str(tmp_path)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert (len(said), said[-1]) == (song_table.FAULTS_SAID + 1, "... and 30 more")


@pytest.mark.parametrize("column", ["Track URI", "Spotify ID"])
def test_a_table_from_exportify_keeps_album_length_and_date(tmp_path: Path, column: str) -> None:
    """Its columns have names of their own; an older one's too."""
    table = tmp_path / "t.csv"
    table.write_text(
        f"{column},Track Name,Album Name,Artist Name(s),Duration (ms),Added At,emotion,confidence\n"
        f"spotify:track:{1:022d},One,An album,A,233305,2024-01-02T03:04:05Z,happy,0.9\n"
    )
    assert commands.main(["playlists", str(table), "--songs", str(tmp_path)]) == 0
    (track,) = read_tracks(tmp_path / "happy.csv")[0]
    assert (track.album, track.duration_ms, track.added_at) == ("An album", 233305, "2024-01-02")


def test_songs_that_are_there_under_another_id_are_not_added(tmp_path: Path) -> None:
    """One recording has several ids at Spotify: the page would show it twice."""
    write_tracks(tmp_path / "happy.csv", [Track("h" * 22, "Song 1", "Sun", "", None, "")])
    table = labelled(tmp_path / "t.csv", [(1, "Sun", "happy", 0.8), (2, "Sun", "happy", 0.7)])
    assert commands.main(["playlists", str(table), "--songs", str(tmp_path), "--append"]) == 0
    assert [track.title for track in read_tracks(tmp_path / "happy.csv")[0]] == ["Song 1", "Song 2"]


def test_a_list_that_a_refresh_will_fetch_anew_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is changed here and not in its playlist lasts until cron runs; a broken file says nothing."""
    table = labelled(tmp_path / "t.csv", [(1, "Sun", "happy", 0.8), (2, "Rain", "sad", 0.7)])
    for content in ('{"happy": ["x"], "sad": []}', "[", "[" * 100_000, "[1]"):
        (tmp_path / "playlists.json").write_text(content)
        assert commands.main(["playlists", str(table), "--songs", str(tmp_path)]) == 0
        said = {line.partition(":")[0]: line for line in capsys.readouterr().out.splitlines()}
        assert ("a refresh brings back what its playlist holds" in said["happy"]) == ("x" in content)
        assert "refresh" not in said["sad"]


def test_check_reads_the_lists_that_the_site_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """VISAGE_SONGS names them; silence about other lists would read as "no disagreement"."""
    monkeypatch.setenv("VISAGE_SONGS", str(tmp_path))
    write_tracks(tmp_path / "sad.csv", [Track(f"{1:022d}", "Song 1", "Sun", "", None, "")])
    table = labelled(tmp_path / "t.csv", [(1, "Sun", "happy", 0.8)])
    assert commands.main(["check", str(table)]) == 0
    assert capsys.readouterr().out == "sad: Sun: Song 1 is labelled happy (0.80)\n"
    monkeypatch.setenv("VISAGE_SONGS", str(tmp_path / "nowhere"))
    assert commands.main(["check", str(table)]) == 2
    assert "nowhere: none of the seven lists is in it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["playlists", "--top", "ten"], "ten is not 1 or more"),
        (["check", "--sure", "x"], "x is not a number from 0 to 1"),
    ],
)
def test_a_number_that_is_none_is_explained(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By what it may be, not by the name of a function."""
    with pytest.raises(SystemExit):
        commands.main([*words, "--songs", str(tmp_path), "t.csv"])
    assert capsys.readouterr().err.endswith(f"{says}\n")


def test_an_append_that_adds_nothing_changes_nothing(tmp_path: Path) -> None:
    """A list that was fetched is still one."""
    write_tracks(tmp_path / "happy.csv", [Track(f"{1:022d}", "Old", "A", "", None, "")])
    notes, list_ = tmp_path / "synced.json", tmp_path / "happy.csv"
    notes.write_text(json.dumps({"happy": {"fetched_at": "2026-11-01T00:00:00Z"}}))
    before = (notes.read_bytes(), list_.read_bytes())
    table = labelled(tmp_path / "t.csv", [(1, "Sun", "happy", 0.8)])
    assert commands.main(["playlists", str(table), "--songs", str(tmp_path), "--append"]) == 0
    assert (notes.read_bytes(), list_.read_bytes()) == before


def test_a_labelled_table_in_another_encoding_spoils_no_title(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row that is not UTF-8 is named and left out; semicolons are said to be none of what parts columns."""
    table = labelled(tmp_path / "t.csv", [(1, "Beyoncé", "happy", 0.8), (2, "Sun", "Happy", 0.7)])
    text = table.read_text(encoding="utf-8")
    table.write_bytes(text.encode("latin-1"))
    assert commands.main(["playlists", str(table), "--songs", str(tmp_path)]) == 0
    assert [track.title for track in read_tracks(tmp_path / "happy.csv")[0]] == ["Song 2"]
    assert capsys.readouterr().err == "line 2: it is not UTF-8: save the table again as UTF-8\n"
    table.write_text(text.replace(",", ";"), encoding="utf-8")
    for command in (["check", str(table)], ["label", str(table), "--out", str(tmp_path / "out.csv")]):
        assert commands.main([*command, *(["--songs", str(tmp_path)] if command[0] == "check" else [])]) == 2
        assert "a table's columns are separated by commas" in capsys.readouterr().err


def test_playlists_replace_and_need_their_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --append the old songs go; a table that was never labelled is told how to be."""
    write_tracks(tmp_path / "happy.csv", [Track("h" * 22, "Old", "A", "", None, "")])
    table = labelled(tmp_path / "t.csv", [(1, "Sun", "happy", 0.8), (1, "Sun", "happy", 0.8)])
    assert commands.main(["playlists", str(table), "--songs", str(tmp_path)]) == 0
    assert [track.title for track in read_tracks(tmp_path / "happy.csv")[0]] == ["Song 1"]
    capsys.readouterr()
    bare = write(tmp_path / "bare.csv", [song(1, METAL)])
    assert commands.main(["playlists", str(bare), "--songs", str(tmp_path)]) == 2
    assert "no column emotion, confidence" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["playlists", "check"])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """It is the folder that is missing, not a file that would have been made in it."""
    table = labelled(tmp_path / "t.csv", [(1, "Sun", "happy", 0.8)])
    with pytest.raises(SystemExit) as ended:
        commands.main([command, str(table), "--songs", str(tmp_path / "absent")])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"argument --songs: {tmp_path / 'absent'}: there is no such folder; make it first, or give another" in said
    assert ".part" not in said
    with pytest.raises(SystemExit):
        commands.main([command, str(table), "--songs", str(tmp_path / ("a" * 300))])
    assert "File name too long" in capsys.readouterr().err


def test_playlists_name_artists_as_they_are_called(tmp_path: Path) -> None:
    """A list as Python writes it becomes names with commas between; an apostrophe stays at its name."""
    artists = ["['Sergei Rachmaninoff', 'James Levine']", "'Til Tuesday"]
    table = labelled(tmp_path / "t.csv", [(n, artist, "sad", 0.9 - n / 10) for n, artist in enumerate(artists)])
    assert commands.main(["playlists", str(table), "--songs", str(tmp_path)]) == 0
    listed = [track.artist for track in read_tracks(tmp_path / "sad.csv")[0]]
    assert listed == ["Sergei Rachmaninoff, James Levine", "'Til Tuesday"]


def test_check_as_a_process(tmp_path: Path) -> None:
    """`python -m songs.catalog check` names a song whose mood disagrees with its list, surely, and nothing else.

    An angry song may be in the disgust list, an energetic one in a happy or angry list, and a song that is not in
    the table has said nothing.
    """
    tracks = [Track(f"{n:022d}", f"Song {n}", "A", "", None, "") for n in range(6)]
    write_tracks(tmp_path / "happy.csv", tracks[:3])
    write_tracks(tmp_path / "disgust.csv", tracks[3:])
    table = labelled(
        tmp_path / "t.csv",
        [
            (0, "A", "happy", 0.9),
            (1, "A", "sad", 0.9),
            (2, "A", "sad", 0.45),
            (3, "A", "angry", 0.9),
            (4, "A", "surprise", 0.9),
        ],
    )
    done = run("check", table, "--songs", tmp_path, module="songs.catalog")
    assert (done.returncode, done.stdout, done.stderr) == (0, "happy: A: Song 1 is labelled sad (0.90)\n", "")


def test_check_says_what_it_could_not_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Silence is agreement: a row that cannot be read, a folder without lists and a share over 1 are named."""
    table = labelled(tmp_path / "t.csv", [(1, "A", "glad", 0.9)])
    assert commands.main(["check", str(table), "--songs", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path}: none of the seven lists is in it\n"
    write_tracks(tmp_path / "happy.csv", [Track(f"{1:022d}", "Song", "A", "", None, "")])
    assert commands.main(["check", str(table), "--songs", str(tmp_path)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "line 2: its emotion is 'glad', none of angry, disgust, fear, happy, sad, surprise, neutral"
    assert said[1] == f"none of the 1 songs in {tmp_path} has a mood in {table}, so none was checked"
    with pytest.raises(SystemExit):
        commands.main(["check", str(table), "--songs", str(tmp_path), "--sure", "93"])
    assert "argument --sure: 93 is not a number from 0 to 1" in capsys.readouterr().err


# -- the wall


def reached(module: str) -> set[str]:
    """Every module of ours that one imports, by however many steps."""
    known, new = set(), {module}
    while new:
        known |= new
        found = {name for one in new for name in imports(path_of(one))}
        new = {name for name in found if path_of(name).exists()} - known
    return known


SPOTIFY = {"spotify_sync", "songs.spotify", "songs.player"}
MOODS = {
    "model.song_moods",
    "model.song_table",
    "model.train_song_moods",
    "model.song_figures",
    "model.song_plots",
    "songs.features",
    "songs.lookup",
    "songs.moods",
    "songs.paste",
    "songs.split",
}


def test_what_spotify_says_never_meets_a_network() -> None:
    """What asks Spotify imports nothing that judges or trains on songs, and the other way round."""
    for module in SPOTIFY:
        assert not reached(module) & MOODS
    for module in MOODS:
        assert not reached(module) & SPOTIFY


def test_a_synced_list_has_nothing_to_judge(moods: SongMoods, tmp_path: Path) -> None:
    """The lists that a sync writes have no feature and no lyrics in them, so `label` refuses them."""
    assert not {*FEATURES, "lyrics"} & set(COLUMNS)
    write_tracks(tmp_path / "happy.csv", [Track("h" * 22, "Song", "A", "", None, "")])
    with pytest.raises(TableError, match="it has no column acousticness"):
        label(tmp_path / "happy.csv", tmp_path / "out.csv", moods)


def test_judging_songs_needs_no_tensorflow(tmp_path: Path) -> None:
    """Loading both networks and asking them imports NumPy and the stemmer, and nothing that trains."""
    script = (
        "import sys; from model.song_moods import load_song_moods;"
        "assert 'snowballstemmer' not in sys.modules; load_song_moods().lyrics.answer('love is all you need now');"
        "heavy = {'tensorflow', 'keras', 'scipy', 'sklearn', 'pandas', 'cv2', 'songs'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# -- the files as shipped


def test_the_card_is_complete() -> None:
    """song_moods.json says what the networks answer, from which data, with which settings, and how well."""
    card = load_card()
    assert card["labels"] == {
        "audio": ["angry", "calm", "fear", "happy", "sad"],
        "lyrics": ["angry", "happy", "relaxed", "sad"],
    }
    assert card["settings"]["seed"] == card["seed"]
    assert set(card["settings"]) == set(train_song_moods.Settings.__dataclass_fields__)
    assert {len(digest) for digest in card["data"].values()} == {64}
    for kind in ("audio", "lyrics"):
        for row in card["figures"][kind]["tried"].values():
            assert all(figure["interval"][0] < figure["accuracy"] < figure["interval"][1] for figure in row.values())
        assert all(figure["ece"] < 0.1 for figure in card["figures"][kind]["calibration"].values())


def test_the_figures_in_the_docs_are_the_card_s() -> None:
    """docs/song-moods.md holds every line of the tables that the shipped card gives."""
    text = (ROOT / "docs" / "song-moods.md").read_text(encoding="utf-8")
    assert [line for line in song_figures.tables(load_card()) if line not in text] == []


def test_the_model_card_s_figures_are_the_card_s() -> None:
    """What the section on songs in docs/model-card.md claims is what song_moods.json says."""
    text = " ".join((ROOT / "docs" / "model-card.md").read_text(encoding="utf-8").partition("## Songs")[2].split())
    audio, lyrics = (load_card()["figures"][kind] for kind in ("audio", "lyrics"))
    shipped = next(row for name, row in audio["tried"].items() if name.endswith("ships**"))
    plain = next(iter(audio["tried"].values()))
    people = next(iter(lyrics["calibration"].values()))
    columns = ("etunes' songs, five-fold", "etunes to data_moods", "data_moods to etunes")
    for figure in (*(shipped[column] for column in columns), plain[columns[0]], people):
        low, high = (100 * edge for edge in figure["interval"])
        assert f"{100 * figure['accuracy']:.1f} % ({low:.1f} to {high:.1f})" in text
    assert f"calibration error {audio['calibration']['across sources']['ece']:.3f} for sounds" in text
    assert f"{people['ece']:.3f} for words" in text


def test_the_dask_example_labels_a_folder(tmp_path: Path) -> None:
    """The example in docs/song-moods.md, run as it stands on two workers of this machine, labels every part."""
    text = (ROOT / "docs" / "song-moods.md").read_text(encoding="utf-8")
    script = tmp_path / "example.py"
    script.write_text(text.partition("```python\n")[2].partition("```")[0])
    parts, out = tmp_path / "parts", tmp_path / "out"
    parts.mkdir()
    out.mkdir()
    for i in range(3):
        write(parts / f"{i}.csv", [song(i, METAL), song(i + 10, PIANO)])
    command = [sys.executable, str(script), str(parts), str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "6 songs\n"), done.stderr
    assert [row["mood"] for i in range(3) for row in read(out / f"{i}.csv")] == ["angry", "calm"] * 3


def test_the_files_are_small() -> None:
    """Both files together are smaller than a picture."""
    assert sum((ROOT / "model" / "weights" / f"song_moods.{end}").stat().st_size for end in ("npz", "json")) < 200_000


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    """Missing, broken and mixed-up files are refused in words that say what to do."""
    with pytest.raises(SongMoodsError, match="is missing: restore both files"):
        load_song_moods(tmp_path)
    (tmp_path / "song_moods.json").write_text("{")
    with pytest.raises(SongMoodsError, match="is not readable"):
        load_song_moods(tmp_path)
    (tmp_path / "song_moods.json").write_text(json.dumps(load_card()))
    (tmp_path / "song_moods.npz").write_bytes(b"other")
    with pytest.raises(SongMoodsError, match="is not the file that"):
        load_song_moods(tmp_path)


def test_saving_is_all_or_nothing(moods: SongMoods, tmp_path: Path) -> None:
    """Files that could not be loaded again replace nothing."""
    arrays = train_song_moods.arrays_of(moods.audio, moods.lyrics)
    train_song_moods.save(tmp_path, arrays, load_card())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert load_song_moods(tmp_path).audio.answers(np.array([METAL]))[0].mood == Mood.ANGRY
    with pytest.raises(SongMoodsError):
        train_song_moods.save(tmp_path, {"audio_bias": moods.audio.bias}, load_card())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# -- training


def made_songs(n: int = 60) -> train_song_moods.Songs:
    """Songs of three moods that lie apart, from two sources; the second has no third mood. Two songs an artist."""
    rng = np.random.default_rng(1)
    labels = np.arange(n) % 3
    sources = np.where((np.arange(n) < n // 2) | (labels == 2), "one", "two")
    inputs = np.eye(3)[labels] * 3 + rng.normal(0, 0.3, (n, 3))
    artists = np.array([f"artist {i // 2}" for i in range(n)])
    ids = np.array([f"song {i}" for i in range(n)])
    return train_song_moods.Songs(
        inputs, labels, labels.astype(str), sources, artists, ids, (Mood.ANGRY, Mood.HAPPY, Mood.SAD)
    )


def test_the_fit_separates_what_lies_apart() -> None:
    """The linear layer finds three clear moods, masked or not, and a heavy ridge holds it near zero."""
    songs = made_songs()
    for masked in (False, True):
        layer, bias = train_song_moods.fit(songs, np.ones(60), np.ones(3), masked)
        assert ((songs.inputs @ layer + bias).argmax(axis=1) == songs.labels).all()
    held, _ = train_song_moods.fit(songs, np.ones(60), np.full(3, 1e6))
    assert abs(held).max() < 0.001


def test_folds_keep_artists_together() -> None:
    """Grouped folds cover every song once, and no artist is on both sides; what may be trained on shares neither."""
    songs = made_songs()
    folds = song_figures.by_artist(songs, 5, 7)
    assert sorted(np.concatenate(folds).tolist()) == list(range(60))
    for rows in folds:
        rest = np.setdiff1d(np.arange(60), rows)
        assert not set(songs.artists[rows]) & set(songs.artists[rest])
    assert songs.others(np.array([0])).tolist() == list(range(2, 60))


def test_weights_balance() -> None:
    """Balanced weights are one on average, and fully balanced moods of a source weigh the same."""
    songs = made_songs()
    weights = train_song_moods.balanced(songs, 1.0, 1.0)
    assert weights.mean() == pytest.approx(1)
    one = songs.sources == "one"
    sums = [weights[one & (songs.labels == mood)].sum() for mood in range(3)]
    assert sums == pytest.approx([sums[0]] * 3)
    assert weights[one].sum() == pytest.approx(weights[~one].sum())


def test_every_chart_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command draws the songs, the confusions and the calibration, and prints what each source teaches."""
    rng = np.random.default_rng(3)
    kinds = {"angry": METAL, "energetic": METAL, "fear": DRONE, "calm": PIANO, "happy": DANCE, "sad": BALLAD}
    sources = {"etunes": ("angry", "fear", "happy", "sad"), "data_moods": ("calm", "energetic", "happy", "sad")}
    rows: list[list[object]] = []
    for source, labels in sources.items():
        for i in range(40):
            features = np.clip(
                np.array(kinds[labels[i % 4]]) * rng.uniform(0.98, 1, 9), *np.array([*LIMITS.values()]).T
            )
            rows.append([source, f"{source}{i}", "Song", f"{source} {i // 2}", labels[i % 4], "", *features])
    header = ["source", "track_id", "title", "artist", "label_orig", "mood4", *FEATURES]
    audio = write(tmp_path / "audio.csv", rows, header)
    labels = np.array(["angry", "happy", "relaxed", "sad"])[np.arange(60) % 4]
    counts = np.eye(4, dtype=int)[np.arange(60) % 4] * 3 + rng.integers(0, 2, (60, 4))
    lyrics = tmp_path / "lyrics.npz"
    found = np.nonzero(counts)
    np.savez(
        lyrics,
        data=counts[found],
        indices=found[1],
        indptr=np.r_[0, np.cumsum((counts > 0).sum(axis=1))],
        shape=counts.shape,
        vocab=np.array(["hate", "danc", "sea", "cri"]),
        label=labels,
        source=np.array(["moodylyrics", "one", "two"])[np.arange(60) // 4 % 3],
        artist=np.array([f"artist {i}" for i in range(60)]),
        title=np.array([f"song {i}" for i in range(60)]),
    )
    out = tmp_path / "pictures"
    assert song_plots.main(["--audio", str(audio), "--lyrics", str(lyrics), "--out", str(out)]) == 0
    names = (
        "labels",
        "features",
        "map",
        "audio-confusion",
        "audio-reliability",
        "lyrics-confusion",
        "lyrics-reliability",
    )
    assert {path.name for path in out.iterdir()} == {f"song-{name}.png" for name in names}
    table = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| etunes", "| data_moods"]
    assert table[2].startswith("| etunes | 100.0 % (91.2 to 100.0) | ")
    assert song_plots.main(["--audio", str(tmp_path / "absent.csv"), "--lyrics", str(lyrics)]) == 1
    assert "nothing was drawn" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "empty", "garbled"])
def test_lyrics_that_are_damaged_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    """A download that broke off, an empty file and a garbled one end the training in a sentence that names it."""
    audio = write(tmp_path / "audio.csv", [], ["source", "track_id", "title", "artist", "label_orig", *FEATURES])
    with audio.open("a") as file:
        for source in train_song_moods.SOURCES:
            file.write(",".join([source, "x", "Song", "A", "sad", *map(str, BALLAD)]) + "\n")
    lyrics = tmp_path / "lyrics.npz"
    np.savez_compressed(lyrics, data=np.arange(1000))
    whole = lyrics.read_bytes()
    lyrics.write_bytes({"cut": whole[:500], "empty": b"", "garbled": whole[:80] + bytes(40) + whole[120:]}[damage])
    assert train_song_moods.main(["--audio", str(audio), "--lyrics", str(lyrics), "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"nothing was written: {lyrics} cannot be read to its end (")
    assert said.endswith("): mend it, or download it again\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no column track_id, artist, source, label_orig, "),
        ("HEAD\n", "has no songs"),
        ("HEAD\nROW\none,x,Song", ": row 3 is cut off: mend it, or download the table again"),
        ("HEAD\nROW\none,x,Song,A,sad,9,0,0,0,0,0,0,0,0\n", ": row 3: "),
        ("HEAD\nROW", "has no songs whose source is etunes: the figures are by these two sources"),
        ('HEAD\nROW\n"' + "x" * 600_000, "is no table (field larger than field limit"),
    ],
)
def test_features_that_are_damaged_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    """A table that is empty, cut off or impossible ends the training in a sentence; so does a folder that is not."""
    head = ",".join(["source", "track_id", "title", "artist", "label_orig", *FEATURES])
    row = ",".join(["one", "x", "Song", "A", "sad", *map(str, BALLAD)])
    audio = tmp_path / "audio.csv"
    audio.write_text("\ufeff" + content.replace("HEAD", head).replace("ROW", row))
    line = ["--audio", str(audio), "--lyrics", str(tmp_path / "lyrics.npz"), "--out"]
    assert train_song_moods.main([*line, str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"nothing was written: {audio}{'' if said[0] == ':' else ' '}{said}")
    assert train_song_moods.main([*line, str(tmp_path / "nowhere")]) == 1
    assert f"there is no folder {tmp_path / 'nowhere'}: make it first" in capsys.readouterr().err


@needs_music
def test_angry_songs_of_one_source_are_energetic_in_the_other() -> None:
    """Why the two are one mood to the network: docs/song-moods.md and the code say how many songs say so."""
    songs = train_song_moods.load_audio(MUSIC / "audio_moods.csv")
    angry = songs.ids[(songs.sources == song_figures.ETUNES) & (songs.names == "angry")]
    there = songs.names[(songs.sources == song_figures.DATA_MOODS) & np.isin(songs.ids, angry)]
    assert (len(there), np.sum(there == "energetic")) == (7, 5)
    assert "of seven songs that etunes calls angry and data_moods has too, five are energetic" in " ".join(
        (ROOT / "docs" / "song-moods.md").read_text(encoding="utf-8").split()
    )


@needs_music
def test_the_shipped_network_comes_from_its_data(moods: SongMoods) -> None:
    """Training on the tables that the card names gives the shipped audio network again."""
    card = load_card()
    path = MUSIC / "audio_moods.csv"
    assert train_song_moods.hashlib.sha256(path.read_bytes()).hexdigest() == card["data"][path.name]
    songs = train_song_moods.load_audio(path)
    network = train_song_moods.audio_network(songs, train_song_moods.Settings(**card["settings"]))
    again = (shaped(songs.inputs) @ network.weights + network.bias) / card["temperature"]["audio"]
    assert song_figures.softmax(again) == pytest.approx(moods.audio.probabilities(songs.inputs), abs=0.005)


@needs_music
def test_what_a_source_teaches_is_in_the_docs() -> None:
    """docs/song-moods.md says how well etunes' songs are told by a network that knows data_moods alone."""
    songs = train_song_moods.load_audio(MUSIC / "audio_moods.csv")
    rows = songs.of(song_figures.ETUNES)
    cell = song_plots.right(songs, rows, (song_figures.DATA_MOODS,), train_song_moods.Settings())
    row = next(
        line for line in (ROOT / "docs" / "song-moods.md").read_text().splitlines() if line.startswith("  | etunes")
    )
    assert row.strip().split(" | ")[2] == cell


@needs_music
def test_the_vocabulary_is_the_table_s(moods: SongMoods) -> None:
    """The shipped stems are those of the training table, in its order, and half precision costs nothing."""
    songs, vocabulary, rarity = train_song_moods.load_lyrics(MUSIC / "lyrics_bow.npz")
    assert list(moods.lyrics.places) == vocabulary
    assert moods.lyrics.rarity == pytest.approx(rarity, rel=0.001)
    with np.load(MUSIC / "lyrics_bow.npz") as table:
        first = slice(*table["indptr"][:2])
        counts = {vocabulary[i]: int(n) for i, n in zip(table["indices"][first], table["data"][first], strict=True)}
    whole = song_figures.softmax(songs.inputs[[0]] @ moods.lyrics.weights + moods.lyrics.bias)
    assert moods.lyrics.probabilities([counts]) == pytest.approx(whole, abs=0.005)
