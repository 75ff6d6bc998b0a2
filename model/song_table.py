"""A table of songs, labelled: rows stream through, and each gains a mood, an emotion and a confidence.

A table is a CSV: UTF-8, commas, a header. What is no row is copied as it stands, so nothing of the table is lost.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TextIO

import numpy as np

from model.files import replacing
from model.song_moods import FEATURES, Answer, Mood, SongMoods, counted_words, fault_of, usable

LYRICS = "lyrics"
COUNTS = ("word_counts", "bow")  # how a column of counted words is called
ADDED = ("mood", "emotion", "confidence")
AT_ONCE = 4096  # rows; more is not faster
LONGEST_LINE = 1_000_000  # characters; a longer one is no song
LONGEST_FIELD = 500_000  # characters; what an unclosed quotation mark may swallow
FAULTS_SAID = 20

NOT_KNOWN = Answer(Mood.NOT_KNOWN, 0.0)


class TableError(Exception):
    """The table cannot be labelled at all; the message says why."""


@dataclass
class Tally:
    """What became of a table; `faults` counts every row with something wrong, `moods` every row."""

    moods: Counter[str] = field(default_factory=Counter)
    faults: int = 0


@dataclass(frozen=True)
class Columns:
    """Where a table's features, lyrics and counted words stand, and the header of what comes out."""

    features: tuple[int, ...]
    lyrics: int | None
    counts: int | None
    header: list[str]
    width: int


def label(
    source: Path,
    out: Path,
    moods: SongMoods,
    complain: Callable[[str], None] = lambda line: None,
    progress: Callable[[float], None] = lambda share: None,
) -> Tally:
    """Write `source` with a mood for every song to `out`, all or nothing.

    `complain` hears of the first faults ("line 7: ..."), `progress` the share that is done, 0 to 1. Features
    decide; lyrics are read where a row has no usable features, counted words where it has no lyrics either.
    Raises TableError and OSError.
    """
    with source.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file, _output(out) as made:
        size = os.fstat(file.fileno()).st_size if file.seekable() else 0  # a pipe ends when it ends
        lines = _Lines(file)
        try:
            labelling = _Labelling(lines, moods, made, complain)
        except TableError as error:
            raise TableError(f"{source}: {error}") from None
        while labelling.more():
            if size:
                progress(min(os.lseek(file.fileno(), 0, os.SEEK_CUR) / size, 1.0))
        progress(1.0)
    return labelling.tally


def hint(header: list[str]) -> str:
    """What may be wrong with a header in which columns are missing, if that can be seen."""
    return " (a table's columns are separated by commas)" if len(header) == 1 else ""


def columns_of(header: list[str]) -> Columns:
    """Where things stand under a header; TableError says which columns are missing."""
    if any("\0" in name or not name.isprintable() for name in header):
        raise TableError("it is no table: a table is text in UTF-8, its columns separated by commas")
    names = [name.strip().casefold() for name in header]
    places = {name: i for i, name in reversed(list(enumerate(names)))}
    missing = [name for name in FEATURES if name not in places]
    counts = next((places[name] for name in COUNTS if name in places), None)
    if missing and LYRICS not in places and counts is None:
        raise TableError(
            f"it has no column {', '.join(missing)}, and no column {LYRICS} or {COUNTS[0]} either{hint(header)}"
        )
    features = () if missing else tuple(places[name] for name in FEATURES)
    return Columns(features, places.get(LYRICS), counts, [*map(_given, header), *ADDED], len(header))


class _Lines:
    """The lines of a file one by one; `number` is the last one's, `taken` are those since the last `clear`.

    A line longer than LONGEST_LINE comes in pieces, and each of them is an error: none is ever held whole.
    """

    def __init__(self, file: TextIO) -> None:
        self._file, self._whole = file, True
        self.number = 0
        self.taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += self._whole
        began, self._whole = self._whole, len(line) < LONGEST_LINE or line.endswith(("\n", "\r"))
        self.taken.append(line)
        if not (began and self._whole):
            raise csv.Error(f"it is longer than {LONGEST_LINE:,} characters")
        return line


class _Labelling:
    """One run over a table: reads AT_ONCE rows, judges them, writes them."""

    def __init__(self, lines: _Lines, moods: SongMoods, made: TextIO, complain: Callable[[str], None]) -> None:
        self._lines, self._moods, self._made, self._complain = lines, moods, made, complain
        csv.field_size_limit(LONGEST_FIELD)
        self._reader = csv.reader(lines)
        self._writer = csv.writer(made, lineterminator="\n")
        self._quoting = csv.writer(made, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._last_fault = 0
        self.tally = Tally()
        try:
            self._columns = columns_of(next(self._reader))
        except StopIteration:
            raise TableError("it is empty") from None
        except csv.Error as error:
            raise TableError(f"its first line is no header: {error}") from None
        self._writer.writerow(self._columns.header)

    def more(self) -> bool:
        """Read, judge and write some rows; False at the end of the table."""
        rows: list[list[str]] = []
        numbers: list[int] = []
        rest, fault = "", ""  # what is no row is written, and named, after the rows before it
        lines, width = self._lines, self._columns.width
        while len(rows) < AT_ONCE and not rest:
            lines.taken.clear()
            try:
                row = next(self._reader)
            except StopIteration:
                self._write(rows, numbers)
                return False
            except csv.Error as error:
                rest, fault = "".join(lines.taken), f"it cannot be parsed: {error}"
                continue
            if len(row) == width:
                rows.append(row)
                numbers.append(lines.number)
            elif row:
                rest, fault = "".join(lines.taken), f"it has not the header's {width} columns but {len(row)}"
        self._write(rows, numbers)
        self._fault(lines.number, fault)
        self._made.write(rest)
        return True

    def _write(self, rows: list[list[str]], numbers: list[int]) -> None:
        answers = self._answers(rows, numbers) if rows else []
        self.tally.moods.update(answer.mood.value for answer in answers)
        for row, answer in zip(rows, answers, strict=True):
            broken = any("\r" in cell for cell in row)  # which ends a line, and is not quoted by itself
            confidence = f"{answer.confidence:.3f}" if answer.confidence else ""
            (self._quoting if broken else self._writer).writerow(
                [*row, answer.mood.value, answer.emotion or "", confidence]
            )

    def _answers(self, rows: list[list[str]], numbers: list[int]) -> list[Answer]:
        features = self._columns.features
        answers, good = [NOT_KNOWN] * len(rows), np.zeros(len(rows), bool)
        if features:
            values = _numbers([itemgetter(*features)(row) for row in rows])
            answers, good = self._moods.audio.answers(values), usable(values)
        for i in np.flatnonzero(~good).tolist():
            faults = [fault_of(name, rows[i][place]) for name, place in zip(FEATURES, features, strict=False)]
            answers[i], fault = self._read(rows[i])
            faults.append(fault)
            self._fault(numbers[i], "; ".join(fault for fault in faults if fault))
        return answers

    def _read(self, row: list[str]) -> tuple[Answer, str]:
        """The answer to a row's words, and what is wrong with them; no fault without a column of words."""
        lyrics, counts = (
            row[place] if place is not None else None for place in (self._columns.lyrics, self._columns.counts)
        )
        words: str | dict[str, int] | None = lyrics
        if counts is not None and not (lyrics and lyrics.strip()):
            try:
                words = self._moods.lyrics.known(counted_words(counts)) if counts.strip() else ""
            except ValueError as error:
                return NOT_KNOWN, str(error)
        if words is None:
            return NOT_KNOWN, ""
        answer = self._moods.lyrics.answer(words)
        return answer, _lyrics_fault(lyrics or counts or "") if answer == NOT_KNOWN else ""

    def _fault(self, line: int, fault: str) -> None:
        if not fault or line == self._last_fault:
            return
        self._last_fault = line
        self.tally.faults += 1
        if self.tally.faults <= FAULTS_SAID:
            self._complain(f"line {line}: {fault}")


def _numbers(texts: list[tuple[str, ...]]) -> np.ndarray:
    """Rows of texts as numbers (n, 9), NaN where a text is none."""
    try:
        return np.fromiter(map(float, chain.from_iterable(texts)), float).reshape(len(texts), len(FEATURES))
    except ValueError:
        return np.array([[_number(text) for text in row] for row in texts])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _lyrics_fault(text: str) -> str:
    return "its lyrics are not English, or too few words" if text.strip() else "it has no lyrics"


def _given(name: str) -> str:
    """A column's name; a table's own mood column stays under another name."""
    return f"{name}_given" if name.strip().casefold() in ADDED else name


def _output(path: Path) -> AbstractContextManager[TextIO]:
    """See `replacing`. TableError when there is no folder for it."""
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise TableError(f"there is no folder {folder} to write {path.name} to")
    return replacing(path, errors="surrogateescape")
