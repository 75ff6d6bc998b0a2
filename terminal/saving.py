"""Where `python camera.py SOURCE --save PATH` puts its pictures: never over the source, and only where it may write."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pictures  # noqa: F401 - first, or OpenCV is loaded without its settings
from pictures.recording import Recording
from pictures.sources import SourceError

SAVED_PHOTOS = (".jpg", ".jpeg", ".png")


class UsageError(Exception):
    """The command line asks for what cannot be; the message says what it takes."""


def path_of(text: str) -> Path:
    """A path as people write it. Raises SourceError for the home of a stranger."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise SourceError(f"no file or folder at {text!r}: {error}") from None


def film_for(save: str | None, source: Path | None) -> Path | None:
    """Where an annotated film goes. Raises UsageError."""
    if save is None:
        return None
    path = path_of(save)
    if path.suffix.lower() not in Recording.CODECS:
        raise UsageError(f"--save {save}: a film is saved as {', '.join(Recording.CODECS)}")
    return _free(path, source)


def photo_for(save: str | None, source: Path) -> list[Path]:
    """Where an annotated photo goes: a file, or under its name into a folder that is there. Raises UsageError."""
    if save is None:
        return []
    path = path_of(save)
    if path.is_dir():
        path /= _saved_name(source)
    if path.suffix.lower() not in SAVED_PHOTOS:
        raise UsageError(f"--save {save}: a photo is saved as {', '.join(SAVED_PHOTOS)}, or into a folder")
    return [_free(path, source)]


def photos_for(save: str | None, source: Path, photos: Sequence[Path]) -> list[Path]:
    """Where the annotated photos of a folder go: into another, which is made. Raises UsageError."""
    if save is None:
        return []
    folder = path_of(save)
    if folder.is_file() or folder.suffix.lower() in {*SAVED_PHOTOS, *Recording.CODECS}:
        raise UsageError(f"--save {save}: the photos of a folder are saved into a folder")
    if folder.is_dir() and folder.samefile(source):
        raise UsageError(f"--save {save}: the photos are there; choose another folder, or they would be overwritten")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"--save {save}: the folder cannot be made ({error.strerror})") from None
    _check_writable(folder, folder)
    names: dict[str, Path] = {}
    for photo in photos:
        if other := names.get(name := _saved_name(photo).casefold()):
            raise UsageError(f"--save {save}: {other.name} and {photo.name} would both be {name} there; rename one")
        names[name] = photo
    return [_apart(folder / _saved_name(photo), photo) for photo in photos]


def _saved_name(photo: Path) -> str:
    return photo.name if photo.suffix.lower() in SAVED_PHOTOS else f"{photo.name}.jpg"


def _free(path: Path, source: Path | None) -> Path:
    """The path, if it may be written: it is not the source, and a file can be made beside it. Raises UsageError."""
    _check_writable(_apart(path, source).parent, path)
    return path


def _apart(path: Path, source: Path | None) -> Path:
    """The path, if neither a folder nor the source is there. Raises UsageError."""
    if path.is_dir():
        raise UsageError(f"--save {path}: that is a folder")
    if source and path.exists() and path.samefile(source):
        raise UsageError(f"--save {path}: that is the source; choose another name, or it would be overwritten")
    return path


def _check_writable(folder: Path, save: Path) -> None:
    """Raises UsageError unless a file can be made in a folder."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(f"--save {save}: nothing can be written into {folder} ({error.strerror})") from None
