"""People's own Spotify: who is logged in to the site, the device a song goes to, a mood kept as a playlist.

A browser keeps a secret and nothing else; its token lies on this side, in a file named by the secret's digest.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import spotipy

if sys.platform != "win32":
    import fcntl

from songs.catalog import Playlist
from songs.spotify import (
    LOGIN_LASTS,
    ListError,
    LoginEndedError,
    PassingError,
    Settings,
    SyncError,
    TokenRefusedError,
    add_songs,
    answer_of,
    authorizer,
    connect,
    exchange,
    expire_token,
    forget_token,
    read_token,
    write_token,
)

SCOPES = "user-read-playback-state user-modify-playback-state playlist-modify-private"
LOGIN_TAKES = 600  # seconds that Spotify's answer to a login is waited for
SHORT_WAIT = 3.0  # seconds that a person in front of a page waits out
MOST_LOGINS = 50  # begun at once; only five people can have one
MOST_SONGS = 100  # that are sent to a device at once

REFUSALS = {
    "NO_ACTIVE_DEVICE": (
        "No Spotify of yours is active. Open Spotify on a phone or computer, play anything there, and try again."
    ),
    "PREMIUM_REQUIRED": "Spotify lets only Premium accounts be played from elsewhere. Songs still play on this page.",
}


class PlayerError(Exception):
    """What to tell the person; `code` is HTTP's."""

    def __init__(self, description: str, code: int) -> None:
        super().__init__(description)
        self.description, self.code = description, code


class LoginRefusedError(Exception):
    """Nobody is logged in; the message is for the person."""


@dataclass(frozen=True)
class Login:
    """A login that waits for Spotify's answer; `verifier` and `challenge` are PKCE's, None with an app's secret.

    `back` is the page of this site that it began on.
    """

    state: str
    redirect_uri: str
    verifier: str | None
    challenge: str | None
    back: str = "/"


class Listeners:
    """The people logged in, each by the secret that their browser keeps.

    Threads may share it, and processes its folder: an answer may come to another one than the login began in. One
    lock covers the logins begun and the renewing of tokens: with PKCE each refresh token is good for once.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.token_cache.parent / "listeners"
        self._logins = settings.token_cache.parent / "logins"  # that have begun, and the lock
        self._lock = threading.Lock()
        logging.getLogger("spotipy").setLevel(logging.CRITICAL)  # it logs tokens

    # -- the login

    def begin(self, redirect_uri: str, back: str = "/") -> tuple[str, str]:
        """A new secret for the browser, and the page of Spotify's to send it to. Raises PlayerError."""
        secret, state = secrets.token_urlsafe(32), secrets.token_urlsafe(24)
        settings = replace(self._settings, redirect_uri=redirect_uri)
        made = told(lambda: authorizer(settings, state, SCOPES))
        page = made.get_authorize_url()
        verifier, challenge = (getattr(made, name, None) for name in ("code_verifier", "code_challenge"))
        with self._alone():
            self._tidy()
            write_token(self._begun(secret), asdict(Login(state, redirect_uri, verifier, challenge, back)))
        return secret, page

    def finish(self, secret: str, answer: Mapping[str, str]) -> str:
        """Keep the token, if this is Spotify's answer to this browser's login: the page that it began on.

        Raises LoginRefusedError.
        """
        login = self._taken(secret, answer.get("state", ""))
        if login is None:
            raise LoginRefusedError("That answer does not belong to a login of this browser. Please log in again.")
        if not answer.get("code"):
            raise LoginRefusedError(f"Spotify did not log you in ({answer.get('error', 'no reason given')[:40]}).")
        try:
            write_token(self._file(secret), told(lambda: answer_of(exchange, self._authorizer(login), answer["code"])))
        except PlayerError as error:
            raise LoginRefusedError(error.description) from None
        return login.back

    def _authorizer(self, login: Login) -> Any:
        made = authorizer(replace(self._settings, redirect_uri=login.redirect_uri), login.state, SCOPES)
        if login.verifier:
            made.code_verifier, made.code_challenge = login.verifier, login.challenge
        return made

    def _taken(self, secret: str, state: str) -> Login | None:
        """The login that this browser has begun, if it is the one of this `state`: once, and not after LOGIN_TAKES."""
        file = self._begun(secret)
        with self._alone(), suppress(OSError, ValueError, TypeError):
            self._tidy()
            login = Login(**json.loads(file.read_text(encoding="utf-8")))
            if hmac.compare_digest(login.state.encode(), state.encode()):
                file.unlink()
                return login
        return None

    def forget(self, secret: str) -> dict[str, Any]:
        """Log out: the token is deleted, at once. One that is being renewed does not come back."""
        forget_token(self._file(secret))
        return self.state(secret)

    def check(self, secret: str, shown: str) -> None:
        """PlayerError unless a request that changes something comes from this browser's own page."""
        if not secret or not hmac.compare_digest(shown.encode(), self._csrf(secret).encode()):
            raise PlayerError("Only this site's own page may ask for this. Please reload it.", 403)

    def _csrf(self, secret: str) -> str:
        """Derived from the secret, which no page can read, so that nothing else needs to be kept."""
        return hmac.new(secret.encode(), b"csrf", hashlib.sha256).hexdigest()

    def _knows(self, secret: str) -> bool:
        return bool(secret) and read_token(self._file(secret)) is not None

    def _file(self, secret: str) -> Path:
        return self._folder / f"{hashlib.sha256(secret.encode()).hexdigest()}.json"

    def _begun(self, secret: str) -> Path:
        return self._logins / self._file(secret).name

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else does the like meanwhile, in another thread or another process of this site's."""
        self._logins.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock, (self._logins / "lock").open("a") as file:
            if sys.platform != "win32":  # where there is one process
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _tidy(self) -> None:
        """Drop logins that nobody finished, and tokens that Spotify has ended."""
        tokens, logins = ({file: _age(file) for file in at.glob("*.json")} for at in (self._folder, self._logins))
        newest = sorted(logins, key=lambda login: logins[login])[:MOST_LOGINS]
        ended = [token for token, age in tokens.items() if age > LOGIN_LASTS]
        for file in ended + [login for login, age in logins.items() if age > LOGIN_TAKES or login not in newest]:
            forget_token(file)

    # -- what they do

    def state(self, secret: str, with_devices: bool = False) -> dict[str, Any]:
        """Whether this browser is logged in, and what `check` wants.

        Spotify hears of it only `with_devices`: these, or why there are none; without, None.
        """
        devices: list[dict[str, Any]] | None = None
        words = ""
        try:
            devices = self._devices(secret) if with_devices and self._knows(secret) else None
        except PlayerError as error:
            devices, words = [], error.description
        if not self._knows(secret):
            return {"logged_in": False, "devices": [], "told": words}
        return {"logged_in": True, "devices": devices, "told": words, "csrf": self._csrf(secret)}

    def _devices(self, secret: str) -> list[dict[str, Any]]:
        """Where this person can hear a song."""
        found = self._ask(secret, lambda spotify: spotify.devices()).get("devices") or []
        return [
            {"id": device["id"], "name": str(device.get("name") or "a device")}
            for device in found
            if device.get("id") and not device.get("is_restricted")
        ]

    def play(self, secret: str, songs: Any, device: Any) -> dict[str, Any]:
        """Play songs one after the other on a device, or with None on the active one. Raises PlayerError."""
        there = _device(device)
        if not isinstance(songs, list) or not 0 < len(songs) <= MOST_SONGS or not all(map(_is_song, songs)):
            raise PlayerError("Those are no songs of Spotify's.", 400)
        uris = [f"spotify:track:{song}" for song in songs]
        return self._ask(secret, lambda spotify: spotify.start_playback(there, uris=uris))

    def pause(self, secret: str, device: Any) -> dict[str, Any]:
        """Silence on a device, or with None on the active one, until `resume`. Raises PlayerError."""
        there = _device(device)
        return self._ask(secret, lambda spotify: spotify.pause_playback(there))

    def resume(self, secret: str, device: Any) -> dict[str, Any]:
        """Go on with what was paused. Raises PlayerError."""
        there = _device(device)
        return self._ask(secret, lambda spotify: spotify.start_playback(there))

    def playing(self, secret: str) -> dict[str, Any]:
        """The song that a device of theirs is at, under the id it was sent with, and whether it rests. PlayerError."""
        now = self._ask(secret, lambda spotify: spotify.current_playback())
        item = now.get("item") or {}
        return {"song": (item.get("linked_from") or item).get("id"), "paused": not now.get("is_playing")}

    def save(self, secret: str, playlist: Playlist) -> dict[str, Any]:
        """A new private playlist with a mood's songs: its name and address, and how many Spotify took.

        Raises PlayerError.
        """
        mood = f"from {playlist.emotion} to happy" if playlist.steps else playlist.emotion
        name = f"Visage FM: {mood}, {date.today()}"
        songs = [track.track_id for track in playlist.tracks]
        if not songs:
            raise PlayerError("There are no songs to save.", 409)
        made = self._ask(secret, lambda spotify: spotify.current_user_playlist_create(name, public=False)).get("id")
        if not made:
            raise PlayerError("Spotify made no playlist.", 502)

        taken: list[str] = []

        def add(uris: list[str]) -> None:
            def job(spotify: Any) -> Any:
                return spotify.playlist_add_items(made, uris)

            try:
                self._answer(secret, job)
            except PassingError as error:  # a limit comes before the deed, so nothing is added twice
                if error.wait is None or error.wait > SHORT_WAIT:
                    raise
                time.sleep(error.wait)
                self._answer(secret, job)
            taken.extend(uris)

        try:
            told(lambda: add_songs(add, songs))
        except PlayerError as error:
            filled = f"with {len(taken)} of its {len(songs)} songs" if taken else "but not filled"
            raise PlayerError(f"{error.description} {name!r} was made, {filled}.", error.code) from None
        return {"name": name, "url": f"https://open.spotify.com/playlist/{made}", "count": len(taken)}

    def _ask(self, secret: str, job: Callable[[Any], Any]) -> dict[str, Any]:
        """One request with this person's token. Raises PlayerError."""
        return told(lambda: self._answer(secret, job))

    def _answer(self, secret: str, job: Callable[[Any], Any]) -> dict[str, Any]:
        """The same, with what Spotify refuses as a SyncError."""
        if not self._knows(secret):
            raise PlayerError("You are not logged in to Spotify here.", 401)
        try:
            return answer_of(attempt, job, self._spotify(secret))
        except TokenRefusedError:
            expire_token(self._file(secret))
        try:
            return answer_of(attempt, job, self._spotify(secret))
        except TokenRefusedError as error:
            forget_token(self._file(secret))
            raise LoginEndedError(str(error)) from None

    def _spotify(self, secret: str) -> Any:
        with self._alone():
            return connect(replace(self._settings, token_cache=self._file(secret)), answer_of)


def _is_song(song: Any) -> bool:
    return isinstance(song, str) and re.fullmatch(r"[0-9A-Za-z]{22}", song) is not None


def _device(device: Any) -> str | None:
    if device is None or (isinstance(device, str) and re.fullmatch(r"[\w-]{1,80}", device)):
        return device
    raise PlayerError("That is no device of Spotify's.", 400)


def _age(file: Path) -> float:
    """Seconds since it was written; 0 if somebody deletes it at this moment."""
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def attempt(job: Callable[[Any], Any], spotify: Any) -> Any:
    """Spotify's answer ({} for an empty one), or its refusal to play."""
    try:
        return job(spotify) or {}
    except spotipy.SpotifyException as error:
        if error.reason in REFUSALS:
            raise PlayerError(REFUSALS[error.reason], 409) from None
        if error.http_status == 404 and "evice" in error.msg.partition(":\n ")[2]:  # not in the address asked
            raise PlayerError("That device is gone. Open Spotify on it, or choose another one.", 409) from None
        if error.http_status == 403 and "estriction violated" in error.msg:
            raise PlayerError("That device cannot do this now: perhaps it does so already.", 409) from None
        raise


def told(job: Callable[[], Any]) -> Any:
    """Do it; what goes wrong becomes something to tell the person in front of the page."""
    try:
        return job()
    except LoginEndedError:
        raise PlayerError("Your Spotify login has ended. Please log in again.", 401) from None
    except SyncError as error:
        words = str(error).partition(";")[0]  # what follows is for the terminal
        refused = type(error) is ListError
        words = f"{words[:1].upper()}{words[1:]}{'' if words.endswith('?') else '.'}"
        raise PlayerError(words, 400 if refused else 502) from None
