"""The data: FER2013 pictures and labels, and which pictures to leave out.

Three layouts are read: the Kaggle folder (`train/<emotion>/`, `test/<emotion>/`; see FOLDERS), a zip of
it, and the original `fer2013.csv`. Source: Goodfellow et al., "Challenges in Representation Learning: A
report on three machine learning contests", 2013.
"""

from __future__ import annotations

import csv
import logging
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import TextIO

import cv2
import numpy as np

from model.emotions import EMOTIONS, Emotion

logger = logging.getLogger(__name__)

SIZE = 48
SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp"}
# What a damaged zip or table raises, an encrypted zip (RuntimeError) and a file that may not be read.
UNREADABLE = (OSError, RuntimeError, UnicodeDecodeError, csv.Error, zipfile.BadZipFile, zlib.error)
USAGES = {"train": "Training", "validation": "PublicTest", "test": "PublicTest"}
FOLDERS = {
    "train": ("train", "training"),
    "validation": ("publictest", "validation", "valid", "val", "test"),
    "test": ("test", "publictest", "validation", "valid", "val"),
}
"""How a split's folder may be called, in any case; of several the first that is there is meant, and read alone."""
NEAR = 4.0  # percent of a picture's variation by which a copy differs from it at most
OBLONG = 1.25  # times as long as wide: a photo with more in it than a face
SET_ASIDE = "privatetest"  # a split that nothing here reads: it is for whoever measures last
CSV_USAGES = {SET_ASIDE, *(usage.casefold() for usage in USAGES.values())}


class DataError(Exception):
    """The data cannot be used; the message says which and what to do."""


@dataclass(frozen=True)
class FaceSet:
    """Pictures (n, 48, 48) uint8 grey, their labels (n,) as indices into EMOTIONS, their names."""

    pixels: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, keep: np.ndarray) -> FaceSet:
        """The pictures at the indices, or under the mask, `keep`."""
        index = np.arange(len(self))[keep]
        return FaceSet(self.pixels[index], self.labels[index], tuple(self.names[i] for i in index))


def load(source: Path, split: str) -> FaceSet:
    """The pictures of one split, "train", "validation" or "test", of a folder, a zip or a csv.

    The last two differ where a copy has both; as people download FER2013 it has one. A folder without splits
    (`<emotion>/...` at its top) is read whole. Pictures that do not decode are left out and named in the log.
    Raises DataError when nothing is left, or when it cannot be known which split a folder is.
    """
    if not source.exists():
        raise DataError(f"no data at {source}: give a folder with train/ and test/, a zip of it, or fer2013.csv")
    try:
        if source.suffix.lower() == ".csv":
            return _stack(_csv_rows(source, split), source, f"rows whose Usage is {USAGES[split]}")
        with _files(source) as files:
            above = {path.parent.parent.name for path, _ in files if _emotion_of(path)}
            folder = _folder_of(split, above, source)
            expected = "<emotion>/*.png under train/ or test/; a fer2013.csv is given by its own name"
            return _stack(_decoded(_in_folder(folder, files, source)), source, expected)
    except UNREADABLE as error:
        raise DataError(f"{source} cannot be read to its end ({error}): mend it, or download it again") from error


def near_copies(of: np.ndarray, among: np.ndarray, distance: float = NEAR, moved: bool = True) -> np.ndarray:
    """A mask over `of`: pictures (n, 48, 48) that are a copy, or nearly one, of a picture in `among`.

    Pictures are compared as 12 x 12 means with brightness and contrast taken out, mirrored ones
    too; a near-copy differs by less than `distance` percent of a picture's own variation. With `moved`, so does another
    crop of the same photograph, by the shifts and scales of MOVES. Pictures of one grey have no variation: they are
    copies of their equals.
    """
    equals = {picture.tobytes() for picture in among}
    found = np.array([picture.tobytes() in equals for picture in of], bool)
    ours = _thumbnails(of)
    for move in MOVES if moved else MOVES[:1]:
        crops = np.stack([_cropped(picture, move) for picture in among])
        theirs = np.concatenate([_thumbnails(crops), _thumbnails(crops[:, :, ::-1])])
        for start in range(0, len(ours), 2048):
            alike = ours[start : start + 2048] @ theirs.T
            found[start : start + 2048] |= (1.0 - alike.max(axis=1)) * 100 < distance
    return found


def photographs(pixels: np.ndarray) -> np.ndarray:
    """Which photograph each picture (n, 48, 48) shows (n,), as a number from 0: alike for copies and their copies.

    By the measure of near_copies; other crops count as other photographs.
    """
    from scipy.sparse import coo_array  # type: ignore[import-untyped]  # it has no type hints
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    ours = _thumbnails(pixels)
    theirs, pairs = np.concatenate([ours, _thumbnails(pixels[:, :, ::-1])]), []
    for start in range(0, len(ours), 512):
        of, like = np.nonzero((1.0 - ours[start : start + 512] @ theirs.T) * 100 < NEAR)
        pairs.append((of + start, like % len(ours)))
    of, like = np.concatenate(pairs, axis=1)
    copies = coo_array((np.ones(len(of)), (of, like)), shape=(len(ours), len(ours)))
    return np.asarray(connected_components(copies, directed=False)[1])


def _cropped(picture: np.ndarray, move: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(picture, move, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)


def _moves() -> list[np.ndarray]:
    """A picture as it is, then shifted by 3 pixels and scaled by a tenth, either way and neither, in all ways."""
    middle, moves = (SIZE - 1) / 2, []
    for scale in (1.0, 0.9, 1.1):
        for x in (0.0, -3.0, 3.0):
            for y in (0.0, -3.0, 3.0):
                shift = middle * (1 - scale)
                moves.append(np.array([[scale, 0.0, shift + x], [0.0, scale, shift + y]]))
    return moves


def _thumbnails(pixels: np.ndarray) -> np.ndarray:
    small = pixels.reshape(-1, 12, 4, 12, 4).mean((2, 4), dtype=np.float32).reshape(len(pixels), -1)
    small -= small.mean(axis=1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)


_CODES = {str(code): emotion for code, emotion in enumerate(EMOTIONS)}
MOVES = _moves()
File = tuple[PurePosixPath, Callable[[], bytes]]


@contextmanager
def _files(source: Path) -> Iterator[list[File]]:
    """The pictures of a folder or a zip by name, each with what reads it."""
    if source.suffix.lower() != ".zip":
        paths = files_in(source)
        yield _pictures([(PurePosixPath(path.relative_to(source).as_posix()), path.read_bytes) for path in paths])
        return
    with zipfile.ZipFile(source) as archive:
        yield _pictures([(PurePosixPath(name), partial(archive.read, name)) for name in sorted(archive.namelist())])


def _pictures(files: list[File]) -> list[File]:
    """Those that are pictures; other kinds among the faces are named, for a camera's may be no kind that is read."""
    others = {path.suffix for path, _ in files if _emotion_of(path) and path.suffix.lower() not in {"", *SUFFIXES}}
    if others:
        logger.warning("left out files that are no %s: %s", ", ".join(sorted(SUFFIXES)), ", ".join(sorted(others)))
    return [(path, read) for path, read in files if _is_picture(path)]


def _is_picture(path: PurePath) -> bool:
    """Whether a file is called as a picture is, and is not what a Mac adds."""
    return path.suffix.lower() in SUFFIXES and "__MACOSX" not in path.parts


def pictures_in(folder: Path) -> list[Path]:
    """The pictures among files_in."""
    return [path for path in files_in(folder) if _is_picture(path.relative_to(folder))]


def files_in(folder: Path) -> list[Path]:
    """The files of a folder and of those in it, sorted; links to folders are followed, each folder is read once."""
    found, seen = [], set()
    for where, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:  # a link to a folder above it, say
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        found += [Path(where, name) for name in names]
    return sorted(path for path in found if path.is_file())


def _folder_of(split: str, above: set[str], source: Path) -> str | None:
    """Which of the folders `above` those of the emotions holds a split; a single one that is no split holds all."""
    there, known = {name.casefold() for name in above}, set().union(*FOLDERS.values())
    known |= {SET_ASIDE} if len(there) > 1 else set()
    unknown = ", ".join(sorted(f"{name or '.'}/" for name in above if name.casefold() not in known))
    if unknown and len(there) > 1:
        raise DataError(
            f"{source}: which split are the emotions under {unknown}?"
            " Call the folders train and test, or give one of them by itself"
        )
    if unknown:
        return there.pop()
    folder = next((name for name in FOLDERS[split] if name in there), None)
    if there and folder is None:
        found = ", ".join(sorted(f"{name}/" for name in above))
        raise DataError(f"{source} has no {split} split: the emotions are under {found} alone")
    return folder


def _emotion_of(path: PurePosixPath) -> Emotion | None:
    """The emotion whose folder, in any case, a picture is in."""
    name = path.parent.name.casefold()
    return Emotion(name) if name in set(EMOTIONS) else None


def _in_folder(folder: str | None, files: Iterable[File], source: Path) -> Iterator[tuple[str, Emotion, bytes]]:
    """The files of the emotions that stand in folders of this (lower-case) name.

    Where PublicTest and PrivateTest lie in one folder, as in copies whose `test/` has 7,178 pictures, PrivateTest is
    left out; alone it is read.
    """
    known = [(path, _emotion_of(path), read) for path, read in files]
    ours = [
        (path, emotion, read)
        for path, emotion, read in known
        if emotion and path.parent.parent.name.casefold() == folder
    ]
    if len(places := {path.parent.parent for path, _, _ in ours}) > 1:
        named = " and ".join(sorted(f"{place}/" for place in places))
        raise DataError(f"{source} has the same split more than once, in {named}: give a folder with one of them")
    aside = {path for path, _, _ in ours if path.name.casefold().startswith(SET_ASIDE)}
    if aside and any(path.name.casefold().startswith(USAGES["test"].casefold()) for path, _, _ in ours):
        logger.warning("%s: left out %d pictures of PrivateTest, which lie beside PublicTest's", source, len(aside))
        ours = [one for one in ours if one[0] not in aside]
    for path, emotion, read in ours:
        yield str(path), emotion, read()
    if unknown := {path.parent.name or "." for path, emotion, _ in known if not emotion}:
        logger.warning("%s: folders that are none of the seven emotions, left out: %s", source, sorted(unknown))


def _decoded(files: Iterator[tuple[str, Emotion, bytes]]) -> Iterator[tuple[str, Emotion, np.ndarray]]:
    oblong = 0
    for name, emotion, content in files:
        picture = None
        with suppress(cv2.error):  # it refuses some headers so, and what is empty
            picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            logger.warning("%s does not decode as a picture: left out", name)
        elif picture.shape == (SIZE, SIZE):
            yield name, emotion, picture
        else:
            oblong += max(picture.shape) > OBLONG * min(picture.shape)
            yield name, emotion, cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    if oblong:
        logger.warning(
            "%d pictures are not square and were squeezed: cut each to its face, as the site's boxes are", oblong
        )


def _csv_rows(path: Path, split: str) -> Iterator[tuple[str, Emotion, np.ndarray]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = rows_of(file)
        if not {"emotion", "pixels", "Usage"} <= set(rows.fieldnames or ()):
            raise DataError(f"{path} is not fer2013.csv: it needs the columns emotion, pixels and Usage")
        for number, row in enumerate(_to_its_end(rows, path), start=2):
            line = rows.line_num
            usage = (row["Usage"] or "").strip()
            if usage.casefold() not in CSV_USAGES:
                logger.warning("%s line %d left out: its Usage is %r", path, line, usage)
            if usage.casefold() != USAGES[split].casefold():
                continue
            try:
                emotion = _CODES[row["emotion"].strip()]
                picture = np.array(row["pixels"].split(), np.uint8).reshape(SIZE, SIZE)
            except (ValueError, KeyError, OverflowError, TypeError, AttributeError) as error:
                logger.warning("%s line %d left out: %s", path, line, error)
                continue
            yield f"{USAGES[split]}_{number}", emotion, picture


def _to_its_end(rows: csv.DictReader[str], path: Path) -> Iterator[dict[str, str]]:
    """The rows of a table; DataError, with the line, where one cannot be told from the next."""
    try:
        yield from rows
    except csv.Error as error:
        where = f"line {rows.reader.line_num} or above"  # `rows` has not counted those it failed in
        raise DataError(f"{path} is broken in {where} ({error}): mend it, or download it again") from error


def rows_of(file: TextIO) -> csv.DictReader[str]:
    """The rows of a table by the names of its columns, without blanks around these."""
    rows = csv.DictReader(file, strict=True)  # or one quote too many would swallow all that follows, unsaid
    rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
    return rows


def _stack(rows: Iterator[tuple[str, Emotion, np.ndarray]], source: Path, expected: str) -> FaceSet:
    known = list(rows)
    if not known:
        raise DataError(f"no pictures of the seven emotions in {source}: expected {expected}")
    names, emotions, pictures = zip(*known, strict=True)
    labels = np.array([EMOTIONS.index(emotion) for emotion in emotions], np.int64)
    return FaceSet(np.stack(pictures), labels, names)
