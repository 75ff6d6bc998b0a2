"""What the pages show: the songs of a mood, the photo, the playlist that was split."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import abort, render_template, request

from model.emotions import EMOTIONS, Emotion
from web.access import cameras, seen_here
from web.services import current_services

if TYPE_CHECKING:
    from songs.catalog import Playlist
    from songs.split import Split

OLD = timedelta(days=30)  # of a fetched list; Spotify asks not to keep copies for ever


def page(told: str) -> str:
    """The page of the two cameras; `told` is about the person's Spotify."""
    return render_template("index.html", emotions=EMOTIONS, **cameras(), **_own(told), **song_table(look=False))


def photo_page(emotion: Emotion | None = None, told: str = "", photo: dict[str, Any] | None = None) -> str:
    """The page for photos; `told` is what went wrong, or was not found."""
    songs = {"emotion": emotion, "chosen": False, "lifted": False, "old": False}
    playlist = current_services().catalog.playlist(emotion) if emotion else None
    if playlist:
        songs["old"] = _is_old(playlist.fetched_at)
    return render_template(
        "photo.html", emotions=EMOTIONS, photo=photo, told=told, playlist=playlist, **songs, **cameras(), **_own()
    )


def song_table(look: bool = True) -> dict[str, Any]:
    """The song table asked for: of the emotion chosen by hand, or seen by the visitor's camera, or by ours.

    Without `look` only of a chosen one.
    """
    chosen = request.args.get("emotion")
    seen = request.args.get("seen") if look else ""
    asked = chosen if chosen is not None else seen
    nobody = chosen is None and asked == ""  # ?seen= of a page that has seen nobody yet, and asks for no other's mood
    if asked is not None and not nobody and asked not in set(EMOTIONS):
        abort(404, description=f"no emotion {asked[:40]!r}: choose one of {', '.join(EMOTIONS)}")
    emotion = Emotion(asked) if asked else None if nobody else seen_here()
    lifted = request.args.get("lift") == "1"
    playlist = listed(emotion, lifted) if emotion else None
    old = playlist is not None and _is_old(playlist.fetched_at)
    return {"emotion": emotion, "chosen": chosen is not None, "lifted": lifted, "playlist": playlist, "old": old}


def listed(emotion: Emotion, lifted: bool) -> Playlist:
    """The list of an emotion, or songs that lead from it to happy."""
    from songs.lift import lift, own_places

    services = current_services()
    if not lifted:
        return services.catalog.playlist(emotion)
    return lift(services.catalog, emotion, services.splitter.places if services.splitter else own_places)


def at_hand() -> dict[str, Any]:
    """What songs can be split with, beside what somebody pastes."""
    splitter = current_services().splitter
    lookup = splitter.lookup if splitter else None
    return {"table": bool(splitter and splitter.table), "lookup": lookup.host if lookup else ""}


def split_songs() -> Split:
    """The songs that were pasted, or a list's, split. Raises SplitError."""
    from songs.paste import MOST_BYTES, MOST_LINES, SplitError, TooMuchError, read_songs, songs_of
    from songs.split import Splitter

    request.max_content_length = MOST_BYTES
    if (request.content_length or 0) > MOST_BYTES:
        raise TooMuchError(f"That is too much at once: {MOST_BYTES // 1000} kB at a time, please.")
    asked = request.form.get("list", "")
    if asked and asked not in set(EMOTIONS):
        abort(404, description=f"no list {asked[:40]!r}: choose one of {', '.join(EMOTIONS)}")
    text = request.form.get("songs", "")
    if asked and text.strip():
        raise SplitError("Songs are pasted and a list is chosen: empty the box, or set the list to none, please.")
    tracks = current_services().catalog.playlist(Emotion(asked)).tracks if asked else ()
    pasted = songs_of(tracks) if asked else read_songs(text, MOST_LINES)
    return (current_services().splitter or Splitter()).split(pasted, look_up="lookup" in request.form)


def _is_old(fetched_at: str | None) -> bool:
    """Whether a list was fetched so long ago that its songs may have gone. One that is kept by hand does not age."""
    if fetched_at is None:
        return False
    then = datetime.fromisoformat(fetched_at)
    return datetime.now(UTC) - (then if then.tzinfo else then.replace(tzinfo=UTC)) > OLD


def _own(told: str = "") -> dict[str, Any]:
    """Whether people may use their own Spotify here, and what is to be said of it."""
    return {"own": current_services().listeners is not None, "login_here": _is_for_logins(), "own_told": told}


def _is_for_logins() -> bool:
    """Whether Spotify lets somebody log in at the address that the page was opened at."""
    return request.is_secure or urlsplit(request.host_url).hostname in ("127.0.0.1", "::1")
