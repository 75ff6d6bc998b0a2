"""What the sync keeps beside the lists.

`playlists.json` says which playlists make which list; `synced.json` when each was fetched, from which snapshots of
them, and how.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from model.emotions import Emotion
from model.files import replace_text

PLAYLISTS = "playlists.json"
SYNCED = "synced.json"
ISO = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Note:
    """When a list was fetched (None: never), from which snapshots of which playlists, and how.

    `checked` is when these snapshots were last seen to be Spotify's still, if that was later.
    """

    fetched: datetime | None = None
    playlists: Mapping[str, str] = field(default_factory=dict)
    mode: str = "replace"
    checked: datetime | None = None

    @property
    def age(self) -> timedelta:
        """How long ago the list was fetched; for ever, if it never was, or by a clock that was far ahead."""
        return _ago(self.fetched)

    @property
    def unchecked(self) -> timedelta:
        """How long nobody has asked Spotify whether the list is as it was."""
        return min(self.age, _ago(self.checked))

    def made_of(self, playlists: Iterable[str]) -> bool:
        return set(self.playlists) == set(playlists)


def read_synced(folder: Path) -> dict[str, Any]:
    """What the file says, by the names of the lists; nothing if it is absent. Raises OSError, ValueError if broken."""
    try:
        entries = json.loads((folder / SYNCED).read_bytes())
    except FileNotFoundError:
        return {}
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if not isinstance(entries, dict):
        raise ValueError(f"it is no object but {type(entries).__name__}")
    return entries


def fetch_times(folder: Path) -> dict[str, str]:
    """When each list was fetched, ISO, by emotion. Raises OSError, and ValueError if the file is broken."""
    return {name: entry["fetched_at"] for name, entry in read_synced(folder).items() if _time(entry, "fetched_at")}


def notes_of(folder: Path, emotions: Iterable[Emotion]) -> dict[Emotion, Note]:
    """The note of each list; one that is absent or broken is a list never fetched, which costs a fetch."""
    notes = {emotion: Note() for emotion in emotions}
    for emotion, entry in _readable(folder).items():
        with suppress(KeyError, TypeError, ValueError):
            if emotion in notes and (fetched := _time(entry, "fetched_at")):
                notes[Emotion(emotion)] = Note(
                    fetched, dict(entry["playlists"]), str(entry.get("mode")), _time(entry, "checked_at")
                )
    return notes


def write_note(folder: Path, emotion: Emotion, note: Note) -> None:
    """Remember what a list was made from. Raises OSError."""
    entry = {"fetched_at": f"{note.fetched:{ISO}}", "playlists": note.playlists, "mode": note.mode}
    entry |= {"checked_at": f"{note.checked:{ISO}}"} if note.checked else {}
    _write(folder, _readable(folder) | {emotion: entry})


def forget_fetch(path: Path) -> None:
    """Say no longer that a list was fetched, for it will hold songs that no sync brought. Raises OSError."""
    entries = _readable(path.parent)
    if entries.pop(path.stem, None) is not None:
        _write(path.parent, entries)


def is_refreshed(path: Path) -> bool:
    """Whether a playlist is named for a list: then a refresh puts that in place of what the list holds."""
    with suppress(OSError, ValueError, RecursionError, AttributeError):
        return bool(json.loads(path.with_name(PLAYLISTS).read_text(encoding="utf-8-sig")).get(path.stem))
    return False


def _ago(when: datetime | None) -> timedelta:
    age = datetime.now(UTC) - when if when else timedelta.max
    return max(age, timedelta()) if age > -timedelta(days=1) else timedelta.max


def _time(entry: Any, name: str) -> datetime | None:
    try:
        return datetime.fromisoformat(entry[name]).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _readable(folder: Path) -> dict[str, Any]:
    try:
        return read_synced(folder)
    except ValueError:
        return {}


def _write(folder: Path, entries: Mapping[str, Any]) -> None:
    replace_text(folder / SYNCED, json.dumps(entries, indent=2) + "\n")
