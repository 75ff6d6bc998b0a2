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
    return render_template(
        "photo.html", emotions=EMOTIONS, photo=photo, told=told, **_table(emotion), **cameras(), **_own()
    )


def song_table(look: bool = True) -> dict[str, Any]:
    """The song table asked for: of the emotion chosen by hand, or seen by the visitor's camera, or by ours.

    Without `look` only of a chosen one.
    """
    chosen, seen = request.args.get("emotion"), request.args.get("seen")
    if chosen is not None:
        emotion: Emotion | None = _named(chosen, "emotion")
    elif not look or seen == "":  # a page that has seen nobody yet asks for no other's mood
        emotion = None
    else:
        emotion = seen_here() if seen is None else _named(seen, "emotion")
    return _table(emotion, chosen is not None, request.args.get("lift") == "1")


def _table(emotion: Emotion | None, chosen: bool = False, lifted: bool = False) -> dict[str, Any]:
    """What a page says of the songs of an emotion."""
    playlist = listed(emotion, lifted) if emotion else None
    old = playlist is not None and _is_old(playlist.fetched_at)
    return {"emotion": emotion, "chosen": chosen, "lifted": lifted, "playlist": playlist, "old": old}


def _named(text: str, what: str) -> Emotion:
    """The emotion of that name, else 404."""
    if text not in set(EMOTIONS):
        abort(404, description=f"no {what} {text[:40]!r}: choose one of {', '.join(EMOTIONS)}")
    return Emotion(text)


def listed(emotion: Emotion, lifted: bool) -> Playlist:
    """The list of an emotion, or songs that lead from it to happy."""
    from songs.lift import lift

    services = current_services()
    return lift(services.catalog, emotion, services.splitter.places) if lifted else services.catalog.playlist(emotion)


def at_hand() -> dict[str, Any]:
    """What songs can be split with, beside what somebody pastes."""
    splitter = current_services().splitter
    return {"table": bool(splitter.table), "lookup": splitter.lookup.host if splitter.lookup else ""}


def split_songs() -> Split:
    """The songs that were pasted, or a list's, split. Raises SplitError."""
    from songs.paste import MOST_BYTES, MOST_LINES, SplitError, TooMuchError, read_songs, songs_of

    request.max_content_length = MOST_BYTES
    if (request.content_length or 0) > MOST_BYTES:
        raise TooMuchError(f"That is too much at once: {MOST_BYTES // 1000} kB at a time, please.")
    asked = request.form.get("list", "")
    chosen = _named(asked, "list") if asked else None
    text = request.form.get("songs", "")
    if chosen and text.strip():
        raise SplitError("Songs are pasted and a list is chosen: empty the box, or set the list to none, please.")
    services = current_services()
    pasted = songs_of(services.catalog.playlist(chosen).tracks) if chosen else read_songs(text, MOST_LINES)
    return services.splitter.split(pasted, look_up="lookup" in request.form)


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
