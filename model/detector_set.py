"""Pictures with the boxes of their faces: a folder with labels.csv, or a zip of one.

`labels.csv` has a line a face: `file,x,y,w,h,ignore` in pixels of the picture; a line with an empty box is
a picture without faces; `ignore` 1 marks a face that counts neither way. Further columns are read when they
are there: `split` (train or val), `source`, and five landmarks (`re_x` to `lm_y`: the person's right eye, left
eye, nose, right and left corner of the mouth). `negatives.csv` may list more pictures without faces. Pictures
lie beside the tables, or in `faces/` and `negatives/`.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from model.fer2013 import UNREADABLE

LANDMARKS = ("re", "le", "nose", "rm", "lm")
COORDINATES = tuple(f"{name}_{axis}" for name in LANDMARKS for axis in "xy")


class LabelError(Exception):
    """The set cannot be used; the message names the file, the line and what to do."""


@dataclass(frozen=True)
class Faces:
    """The faces of one picture: boxes (n, 4) of x, y, width, height and landmarks (n, 5, 2), pixels; NaN where unknown.

    `ignored` (n,) marks what is neither a face to find nor a mistake when found.
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    ignored: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def only(self, kept: np.ndarray) -> Faces:
        return Faces(self.boxes[kept], self.landmarks[kept], self.ignored[kept])

    @staticmethod
    def none() -> Faces:
        return Faces(np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, bool))

    @staticmethod
    def joined(several: list[Faces]) -> Faces:
        several = [Faces.none(), *several]
        return Faces(
            np.concatenate([one.boxes for one in several]),
            np.concatenate([one.landmarks for one in several]),
            np.concatenate([one.ignored for one in several]),
        )


@dataclass(frozen=True)
class Picture:
    """A picture of the set: BGR pixels (height, width, 3) uint8, and its faces."""

    name: str
    pixels: np.ndarray
    faces: Faces
    source: str = ""


@dataclass(frozen=True)
class _Line:
    """A line of a table, checked."""

    file: str
    split: str
    source: str
    face: tuple[float, ...]  # box and landmarks; empty for a picture without faces
    ignored: bool


def load(path: Path, split: str | None = None) -> list[Picture]:
    """The pictures of `split` (all of them when the tables name none), in the order of their names.

    Raises LabelError when a table or a picture is missing or broken.
    """
    place = _Place(path)
    lines: dict[str, list[_Line]] = {}
    for line in place.lines():
        if not split or not line.split or line.split == split:
            lines.setdefault(line.file, []).append(line)
    if not lines:
        raise LabelError(f"{path} lists no pictures{f' of the split {split!r}' if split else ''}")
    return [Picture(file, place.pixels(file), _faces(rows), rows[0].source) for file, rows in sorted(lines.items())]


def load_patches(table: Path, pictures: list[Picture]) -> list[tuple[Picture, tuple[float, float, float, float]]]:
    """The places that a table (`file,x,y,w,h`) lists in some of `pictures`; LabelError when broken or of others."""
    known = {picture.name: picture for picture in pictures}
    try:
        content = table.read_bytes()
    except OSError as error:
        raise LabelError(
            f"no table of patches at {table} ({error.strerror}): make it with model.mine_detector"
        ) from error
    lines = [line for line in _lines(content, str(table)) if line.face]
    ours = [line for line in lines if line.file in known]
    if lines and not ours:
        raise LabelError(f"{table} lists none of these pictures: make it of the same set with model.mine_detector")
    return [(known[line.file], (line.face[0], line.face[1], line.face[2], line.face[3])) for line in ours]


class _Place:
    """A folder or a zip, read alike."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise LabelError(f"no pictures at {path}: give the folder with labels.csv, or a zip of it")
        try:
            self._zip = None if path.is_dir() else zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise LabelError(f"{path} is neither a folder nor a zip ({error})") from error

    def lines(self) -> Iterator[_Line]:
        labels = self.content("labels.csv")
        if labels is None:
            raise LabelError(f"{self.path} has no labels.csv (file,x,y,w,h,ignore): is it the right folder?")
        yield from _lines(labels, "labels.csv")
        if (negatives := self.content("negatives.csv")) is not None:
            yield from _lines(negatives, "negatives.csv")

    def content(self, name: str) -> bytes | None:
        try:
            return self._zip.read(name) if self._zip else (self.path / name).read_bytes()
        except (KeyError, FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except UNREADABLE as error:
            raise LabelError(f"{self.path}: {name} cannot be read ({error}): restore it") from error

    def pixels(self, file: str) -> np.ndarray:
        for folder in ("", "faces/", "negatives/"):
            if (content := self.content(folder + file)) is not None:
                decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
                if decoded is None:
                    raise LabelError(
                        f"{self.path}/{folder}{file} is no picture that OpenCV reads: restore or unlist it"
                    )
                return decoded
        raise LabelError(f"{self.path} has no picture {file!r}, which its table lists")


def _lines(content: bytes, table: str) -> Iterator[_Line]:
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig")), strict=True)
        header = reader.fieldnames or []
        if missing := [name for name in _needed(table) if name not in header]:
            raise LabelError(f"{table}, line 1: no column {', '.join(missing)} in the header {','.join(header)!r}")
        for row in reader:
            yield _line(row, f"{table}, line {reader.line_num}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{table} is not a table in UTF-8 ({error})") from error


def _needed(table: str) -> tuple[str, ...]:
    return ("file",) if table == "negatives.csv" else ("file", "x", "y", "w", "h", "ignore")


def _line(row: dict[str | None, str | None], where: str) -> _Line:
    if None in row or None in row.values():
        raise LabelError(f"{where}: not as many fields as the header")
    texts = {str(name): str(text).strip() for name, text in row.items()}
    if not texts["file"]:
        raise LabelError(f"{where}: no file")
    box = [texts.get(name, "") for name in "xywh"]
    ignore = texts.get("ignore", "")
    if ignore not in ("", "0", "1"):
        raise LabelError(f"{where}: ignore is {ignore!r}, not 0 or 1")
    face = tuple(_numbers(box + [texts.get(name, "") for name in COORDINATES], where)) if any(box) else ()
    if face and not (all(math.isfinite(edge) for edge in face[:4]) and face[2] > 0 and face[3] > 0):
        raise LabelError(f"{where}: the box {','.join(box)!r} is no x, y, width and height")
    return _Line(texts["file"], texts.get("split", ""), texts.get("source", ""), face, ignore == "1")


def _numbers(texts: list[str], where: str) -> Iterator[float]:
    for text in texts:
        try:
            yield float(text) if text else math.nan
        except ValueError as error:
            raise LabelError(f"{where}: {text!r} is not a number") from error


def _faces(lines: list[_Line]) -> Faces:
    rows = [line for line in lines if line.face]
    values = np.array([line.face for line in rows], np.float32).reshape(-1, 4 + len(COORDINATES))
    ignored = np.array([line.ignored for line in rows], bool)
    return Faces(values[:, :4], values[:, 4:].reshape(-1, len(LANDMARKS), 2), ignored)
