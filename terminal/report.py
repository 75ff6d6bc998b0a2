"""What is said of what was seen: a readable line or a JSON object, and the songs of a new mood."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from model.emotions import Emotion, Reading
from pictures.following import SeenFace, seen_as_json
from songs.catalog import Catalog, Track

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen in one picture of the source `name`, `at` seconds into it; None for a photo, whose name it is.

    `size` is the picture's width and height in pixels.
    """

    name: str
    at: float | None
    faces: tuple[SeenFace, ...]
    reading: Reading | None
    size: tuple[int, int]

    @property
    def mood(self) -> Emotion | None:
        return self.reading.emotion if self.reading else None

    @property
    def songs(self) -> Emotion | None:
        """The mood of the songs that go with it."""
        return self.reading.songs if self.reading else None


def as_text(sight: Sight) -> str:
    """A sight as a line; its faces from left to right, with a question mark while a mood is unsure."""
    faces = [_label(face) for face in sorted(sight.faces, key=lambda face: face.box.x)]
    said = f"{len(faces)} faces: {', '.join(faces)}" if len(faces) > 1 else "".join(faces) or "no face"
    if not faces and sight.mood:
        said += f" ({sight.mood} a moment ago)"
    return f"{sight.name}: {said}" if sight.at is None else f"{_clock(sight.at):>8}  {said}"


def as_json(sight: Sight) -> dict[str, Any]:
    """A sight as the site's /recognize answers, with where it is from."""
    where: dict[str, Any] = (
        {"file": sight.name} if sight.at is None else {"source": sight.name, "at": round(sight.at, 3)}
    )
    return {**where, **seen_as_json(sight.faces, sight.reading, sight.size)}


class Lines:
    """Says what is seen: all that it is shown, or of what it is told to watch what is new.

    `every` is the seconds from one line to the next, None for a line with every change. `songs` are
    listed for a new mood, from `catalog`. `settles` is how long, in seconds, no face at the start says nothing.
    """

    def __init__(
        self,
        terminal: Terminal,
        every: float | None = None,
        songs: int = 0,
        catalog: Catalog | None = None,
        settles: float = 0.0,
        in_json: bool = False,
    ) -> None:
        self._terminal, self._songs, self._catalog, self._json = terminal, songs, catalog, in_json
        self._settles = settles
        self._every = None if every is None else Every(every)
        self._said: object = None
        self._unsaid: Sight | None = None
        self._mood: Emotion | None = None

    def watch(self, sight: Sight) -> None:
        """Say it if it is time, or if it differs from what was said last."""
        if self._is_due(sight):
            self.show(sight)
        elif self._said is None:
            self._unsaid = sight

    def show(self, sight: Sight) -> None:
        """Say it."""
        self._said = _gist(sight)
        self._unsaid = None
        tracks = self._new_songs(sight)
        if self._json:
            songs = {} if tracks is None else {"songs": [track.as_dict() for track in tracks]}
            self._terminal.say(json.dumps({**as_json(sight), **songs}))
            return
        self._terminal.say(as_text(sight))
        for track in tracks or ():
            self._terminal.say(f"{'':8}  {sight.songs}: {track.artist}: {track.title}  {track.url}")
        if tracks == ():
            self._terminal.say(f"{'':8}  {sight.songs}: no songs in its list")

    def end(self) -> None:
        """A source that was too short for a line gets one."""
        if self._unsaid:
            self.show(self._unsaid)

    def _is_due(self, sight: Sight) -> bool:
        at = sight.at or 0.0
        if self._said is None and not sight.faces and at < self._settles:
            return False
        return self._every.due(at) if self._every else _gist(sight) != self._said

    def _new_songs(self, sight: Sight) -> tuple[Track, ...] | None:
        """The songs of a mood that has changed; of a photo always."""
        changed = sight.songs and (sight.at is None or sight.songs != self._mood)
        if not (self._catalog and changed and sight.songs):
            return None
        self._mood = sight.songs
        return self._catalog.playlist(sight.songs).tracks[: self._songs]


class Every:
    """When something is due, `seconds` apart, by the clock that it is asked with. Zero: always."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._next = seconds, 0.0

    def due(self, at: float) -> bool:
        """Whether it is time at `at` seconds; then not before the next."""
        if at < self._next - 1e-6:
            return False
        self._next += self._seconds
        if self._next <= at:
            self._next = at + self._seconds
        return True


class Terminal:
    """Lines out, complaints to stderr, and a bar there that steps aside for both."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def say(self, line: str) -> None:
        """Raises OSError when nobody takes it."""
        self._write(line, sys.stdout)

    def complain(self, line: str) -> None:
        self._write(line, sys.stderr)

    @contextmanager
    def counting(self, total: int, unit: str) -> Iterator[None]:
        """Show meanwhile how many of `total` are counted; only at a terminal, and for more than one."""
        if total <= 1 or not sys.stderr.isatty():
            yield
            return
        from tqdm import tqdm

        try:
            with tqdm(total=total, unit=f" {unit}", leave=False, dynamic_ncols=True, file=sys.stderr) as self._bar:
                yield
        finally:
            self._bar = None

    def counted(self, things: Iterable[T]) -> Iterator[T]:
        """The same things; the bar moves on with each."""
        for thing in things:
            yield thing
            if self._bar is not None:
                self._bar.update()

    def _write(self, line: str, stream: TextIO) -> None:
        if self._bar is None:
            stream.write(f"{line}\n")
        else:
            self._bar.write(line, file=stream)
        stream.flush()


def _gist(sight: Sight) -> object:
    """What must differ for a new line: confidences and places do not count."""
    return sorted(face.reading.emotion or "" for face in sight.faces), sight.mood, sight.songs


def _label(face: SeenFace) -> str:
    return f"{face.emotion}{'' if face.reading.emotion else '?'} {face.confidence:.0%}"


def _clock(seconds: float) -> str:
    tenths = int(seconds * 10 + 1e-6)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"
