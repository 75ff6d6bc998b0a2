"""Spotify: the settings, the login and its token, and its answers in words.

Nothing here reads a song list. A session reaches the one address it is made for, so that
no redirect and no `next` ever takes a token elsewhere; every request has a time limit.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
import spotipy
from spotipy.oauth2 import SpotifyOAuth, SpotifyOauthError, SpotifyPKCE

HERE = Path(__file__).resolve().parent
SCOPES = "playlist-read-private playlist-read-collaborative playlist-modify-private"
TIMEOUT = (5, 20)  # seconds to connect, and to wait for a byte
LOGIN_LASTS = 180 * 24 * 3600  # seconds; Spotify ends each login then
LONGEST_RUN = 600  # seconds that a token must still be good for
WAITS = (0.5, 1.0, 2.0)  # seconds before each repetition of what failed in passing
SHORTEST_WAIT = 1.0  # seconds; Spotify may say 0, and mean soon
ALONE = (0.5, 2.0, 8.0, 20.0)  # the same where nobody waits at a terminal
LONGEST_WAIT = 60  # seconds of Retry-After; above it the run ends and says until when
PAGE = 50  # entries of a list; the most that Spotify gives at once
ADD_AT_ONCE = 100  # songs; the most that Spotify takes at once
LOG_IN = "run this at a terminal: .venv/bin/python spotify_sync.py login"


class SyncError(Exception):
    """What went wrong, where, and what to do now; ends the run."""

    exit_code = 1


class CannotRunError(SyncError):
    """Nothing works until a person does something."""

    exit_code = 2


class LoginEndedError(CannotRunError):
    """The refresh token is dead."""


class TokenRefusedError(CannotRunError):
    """The access token is not accepted, though its time may not be over."""


class ListError(SyncError):
    """One list cannot be refreshed and stays as it is; the others go on."""


class RefusedError(ListError):
    """Spotify does not show this list to this person."""


class MissingError(ListError):
    """Spotify says that there is no such list."""


class PassingError(ListError):
    """Likely to work in a moment; `wait` is in seconds, if Spotify named a time."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


# -- settings ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What the environment says, with its defaults."""

    client_id: str
    client_secret: str
    redirect_uri: str
    api_base: str
    accounts_base: str
    token_cache: Path
    songs: Path


def settings_from(given: Mapping[str, str]) -> Settings:
    """The settings in force: those given, else the defaults. Raises CannotRunError on a wrong one."""

    def address(name: str, default: str) -> str:
        text = given.get(name, "").strip() or default
        with suppress(ValueError):  # a port that is none
            if urlsplit(text).scheme in ("http", "https") and urlsplit(text).hostname and urlsplit(text).port != 0:
                return text
        raise CannotRunError(f"{name}={text!r}: it takes an address such as {default}")

    def place(name: str, default: Path) -> Path:
        path = Path(given.get(name) or default)
        try:
            return path.expanduser()
        except RuntimeError:
            if not (client_id or given.get(name)):
                return path  # without an app there is nothing to keep
            raise CannotRunError(f"{name}={str(path)!r}: there is no such home; write the whole path") from None

    client_id = given.get("SPOTIPY_CLIENT_ID", "").strip()
    return Settings(
        client_id=client_id,
        client_secret=given.get("SPOTIPY_CLIENT_SECRET", "").strip(),
        redirect_uri=address("SPOTIPY_REDIRECT_URI", "http://127.0.0.1:8888/callback"),
        api_base=address("SPOTIFY_API_BASE", "https://api.spotify.com/v1").rstrip("/"),
        accounts_base=address("SPOTIFY_ACCOUNTS_BASE", "https://accounts.spotify.com").rstrip("/"),
        token_cache=place("VISAGE_TOKEN_CACHE", config_folder(given) / "spotify-token.json"),
        songs=place("VISAGE_SONGS", HERE),
    )


def config_folder(environment: Mapping[str, str]) -> Path:
    """Where this person's programs keep their settings, with its ~; outside the repository."""
    if sys.platform == "win32":
        return Path(environment.get("APPDATA") or "~", "visage-fm")
    return Path(environment.get("XDG_CONFIG_HOME") or "~/.config", "visage-fm")


# -- the login and its token ---------------------------------------------------------------------


def connect(settings: Settings, tried: Callable[..., dict[str, Any]] | None = None) -> Any:
    """Spotify, with a token that outlasts a run; never opens a browser or asks.

    A token is renewed by `tried`: `ask`, or `answer_of` for somebody who waits in front of a page.
    """
    token = access_token(settings, tried or ask)
    session = session_for(settings.api_base)
    spotify = spotipy.Spotify(auth=token, requests_session=session, requests_timeout=TIMEOUT)
    spotify.prefix = f"{settings.api_base}/"
    return spotify


def access_token(settings: Settings, tried: Callable[..., dict[str, Any]]) -> str:
    """The token in the cache, renewed if its hour is over."""
    auth = authorizer(settings)
    token = read_token(settings.token_cache)
    if token is None:
        raise CannotRunError(f"you are not logged in to Spotify; {LOG_IN} (no token in {settings.token_cache})")
    if token["expires_at"] - time.time() < LONGEST_RUN:
        keep_token(settings.token_cache, token, token)  # there is room for what may come but once
        try:
            renewed = token | tried(auth.refresh_access_token, token.get("refresh_token"))
        except LoginEndedError:
            now = read_token(settings.token_cache)
            if now == token:
                forget_token(settings.token_cache)
            if not now or now["expires_at"] - time.time() < LONGEST_RUN:
                raise
            renewed = now  # by another run, at this moment
        else:
            keep_token(settings.token_cache, renewed, token)
        token = renewed
    return str(token["access_token"])


def authorizer(settings: Settings, state: str | None = None, scope: str = SCOPES) -> Any:
    """Spotify's login: with the app's secret, or with PKCE where there is none."""
    if not settings.client_id:
        raise CannotRunError("SPOTIPY_CLIENT_ID is not set: create an app at https://developer.spotify.com/dashboard")
    if urlsplit(settings.redirect_uri).hostname == "localhost":
        raise CannotRunError("Spotify refuses localhost: in SPOTIPY_REDIRECT_URI and in your app write 127.0.0.1")
    flow, secret = (SpotifyOAuth, {"client_secret": settings.client_secret})
    if not settings.client_secret:
        flow, secret = (SpotifyPKCE, {})
    auth = flow(
        client_id=settings.client_id,
        redirect_uri=settings.redirect_uri,
        state=state,
        scope=scope,
        cache_handler=spotipy.MemoryCacheHandler(),
        requests_session=session_for(settings.accounts_base),
        requests_timeout=TIMEOUT,
        **secret,
    )
    auth.OAUTH_AUTHORIZE_URL = f"{settings.accounts_base}/authorize"
    auth.OAUTH_TOKEN_URL = f"{settings.accounts_base}/api/token"
    return auth


def session_for(base: str) -> requests.Session:
    """A session that can reach this address and no other: no redirect or `next` takes a token elsewhere."""
    session = requests.Session()
    session.adapters.clear()
    session.mount(f"{base}/", requests.adapters.HTTPAdapter())
    session.auth = lambda request: request  # or an entry in ~/.netrc would replace the token
    return session


def read_token(path: Path) -> dict[str, Any] | None:
    """The token as spotipy writes it, or None; a broken file is none."""
    try:
        token = json.loads(path.read_text(encoding="utf-8"))
        return token if token["access_token"] and token["expires_at"] >= 0 else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write_token(path: Path, token: Mapping[str, Any], instead_of: Mapping[str, Any] | None = None) -> None:
    """Keep the token, whole or not at all, in a file that is its owner's only from the first byte.

    With `instead_of` only where that is still the token: one that was deleted meanwhile does not come back.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)  # mode 600
    try:
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(token, file)
            file.flush()
            os.fsync(file.fileno())
        if instead_of is None or read_token(path) == instead_of:
            Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)


def keep_token(path: Path, token: Mapping[str, Any], instead_of: Mapping[str, Any]) -> None:
    """Write a token in the place of another one. Raises CannotRunError when it cannot be kept."""
    try:
        write_token(path, token, instead_of)
    except FileNotFoundError:  # somebody logs out at this moment
        return
    except OSError as error:
        raise CannotRunError(f"Spotify's token cannot be kept ({error.strerror}); mend that at {path}") from None


def expire_token(path: Path) -> None:
    """Have the token renewed the next time, whatever its date says."""
    if token := read_token(path):
        keep_token(path, token | {"expires_at": 0}, token)


def forget_token(path: Path) -> None:
    path.unlink(missing_ok=True)
    for part in path.parent.glob(f".{path.name}.*.part"):
        part.unlink(missing_ok=True)
    path.unlink(missing_ok=True)  # a part may have taken its place meanwhile


def log_in(settings: Settings, say: Callable[[str], None], browser: bool, timeout: float) -> None:
    """Let a person log in, and keep the token. `say` tells them what to do; `timeout` is in seconds."""
    state = secrets.token_urlsafe(24)
    auth = authorizer(settings, state)
    answer = browser_answer(auth.get_authorize_url(), settings.redirect_uri, say, browser, timeout)
    token = ask(exchange, auth, code_in(answer, state), repeat=False)
    write_token(settings.token_cache, token | {"logged_in_at": int(time.time())})


def exchange(auth: Any, code: str) -> Any:
    """The token for the code of a login, by the authorizer that began it."""
    auth.get_access_token(code, check_cache=False, **({"as_dict": False} if hasattr(auth, "client_secret") else {}))
    return auth.cache_handler.get_cached_token()


def browser_answer(page: str, redirect_uri: str, say: Callable[[str], None], browser: bool, timeout: float) -> str:
    """The address that Spotify sends the browser to after the login: heard here, or pasted by the person."""
    answers: queue.Queue[str] = queue.Queue()
    with listening(redirect_uri, answers) as heard:
        say(f"Log in on this page:\n\n  {page}\n")
        if not heard:
            say(f"No answer can be heard at {redirect_uri} (is the port taken?).")
        if not heard or sys.stdin.isatty():
            say("If the browser ends on a page that does not load, paste that page's whole address here:")
            threading.Thread(target=read_pasted, args=(answers,), daemon=True).start()
        graphical = sys.platform in ("win32", "darwin") or {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & os.environ.keys()
        if graphical and browser:
            webbrowser.open(page)
        try:
            return answers.get(timeout=timeout)
        except queue.Empty:
            raise CannotRunError(f"nobody logged in within {timeout:g} seconds; {LOG_IN}") from None


@contextmanager
def listening(redirect_uri: str, answers: queue.Queue[str]) -> Iterator[bool]:
    """Wait in the background for the browser to come back; False where that is not possible."""
    address = urlsplit(redirect_uri)

    class Callback(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            if urlsplit(self.path).path != (address.path or "/"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.end_headers()
            self.wfile.write(b"Thank you. You can close this page; the terminal says how it went.\n")
            answers.put(self.path)

        def log_message(self, format: str, *args: object) -> None:
            """Its lines would hold the code."""

    try:
        if address.scheme != "http" or address.hostname != "127.0.0.1":
            raise OSError
        server = ThreadingHTTPServer((address.hostname, address.port or 80), Callback)
    except OSError:
        yield False
        return
    with server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield True
        finally:
            server.shutdown()


def read_pasted(answers: queue.Queue[str]) -> None:
    """Wait for a pasted line. Not with input(): a thread that waits in it may not be left behind at the end."""
    text = "\n"
    with suppress(OSError):
        while text and not text.strip():
            text = os.read(sys.stdin.fileno(), 4096).decode(errors="replace")
    answers.put(text.strip())


def code_in(answer: str, state: str) -> str:
    """The code in the address that the browser was sent to, if it answers this login and no other."""
    found = {name: values[0] for name, values in parse_qs(urlsplit(answer).query).items()}
    if not secrets.compare_digest(found.get("state", "").encode(), state.encode()):
        raise CannotRunError(
            f"that answer does not belong to this login (its state differs); nothing was kept; {LOG_IN}"
        )
    if "code" not in found:
        raise CannotRunError(f"Spotify did not log you in ({found.get('error', 'no code came')}); {LOG_IN}")
    return found["code"]


# -- asking Spotify ------------------------------------------------------------------------------


def ask(call: Callable[..., Any], *arguments: Any, repeat: bool = True, **named: Any) -> dict[str, Any]:
    """One answer. Waits out short limits and repeats what fails in passing; raises the rest in words.

    What must not happen twice is asked with `repeat=False`: only a limit, which comes before the deed, is waited out.
    """
    for pause in WAITS if sys.stderr.isatty() else ALONE:
        try:
            return answer_of(call, *arguments, **named)
        except PassingError as failure:
            if failure.wait is None and not repeat:
                raise
            time.sleep(pause if failure.wait is None else failure.wait)
    return answer_of(call, *arguments, **named)


def answer_of(call: Callable[..., Any], *arguments: Any, **named: Any) -> dict[str, Any]:
    """A single try at one answer; every failure in words."""
    try:
        answer = call(*arguments, **named)
    except spotipy.SpotifyException as error:
        raise in_words(error.http_status, error.msg.partition(":\n ")[2], error.reason, error.headers) from None
    except SpotifyOauthError as error:
        raise login_in_words(error) from None
    except requests.RequestException as error:
        if not isinstance(error, ValueError):
            raise PassingError(f"Spotify cannot be reached ({type(error).__name__}): is there a network?") from None
        answer = None
    except (AttributeError, KeyError, TypeError):  # spotipy trips over JSON that it does not expect
        answer = None
    if not isinstance(answer, dict):
        raise PassingError("Spotify's answer is not understood (no JSON): is a proxy or a login page in between?")
    return answer


def in_words(code: int, text: str, reason: str | None, headers: Mapping[str, str] | None) -> SyncError:
    """A refusal of the API as an error that says what to do."""
    words, excerpt = text.lower(), " ".join(text.split())[:200]
    if code == 401:
        return TokenRefusedError(f"Spotify does not accept the token; {LOG_IN}")
    if code == 403 and "premium" in words:
        return CannotRunError("Spotify refuses the app: its owner needs Premium")
    if code == 403 and "registered" in words:
        where = "User Management at https://developer.spotify.com/dashboard"
        return CannotRunError(f"Spotify does not know you as a user of this app: add yourself under {where}")
    if code == 403 and "scope" in words:
        return CannotRunError(f"the login lacks a permission: log in again; {LOG_IN}")
    if code == 403:
        return RefusedError(f"Spotify refuses it ({excerpt})")
    if code == 404:
        return MissingError("there is no such playlist, or it is private to someone else")
    if code == 429:
        return limit("QUOTA_EXCEEDED" in (reason or text), (headers or {}).get("Retry-After"))
    if code >= 500:
        return PassingError(f"Spotify has trouble of its own ({code})")
    return ListError(f"Spotify answers {code}: {excerpt}")


def limit(used_up: bool, retry_after: str | None) -> SyncError:
    """Too many requests: a moment, or hours."""
    text = (retry_after or "").strip()[:12]
    seconds = min(int(text), LOGIN_LASTS) if text.isdecimal() else 0
    if not used_up and seconds <= LONGEST_WAIT:
        return PassingError("Spotify asks to slow down", max(SHORTEST_WAIT, seconds))
    until = f"until {datetime.now() + timedelta(seconds=seconds):%Y-%m-%d %H:%M}" if seconds else "for now"
    return SyncError(f"the app's quota is used up {until}; what is done is saved, and the next run goes on from there")


def login_in_words(error: Any) -> SyncError:
    """A refusal of the login as an error that says what to do."""
    if error.error == "invalid_grant":
        why = "the login has ended, as each does after six months, or was replaced by a newer one"
        return LoginEndedError(f"{why}; {LOG_IN}")
    if error.error == "invalid_client":
        return CannotRunError("Spotify does not know this app: check SPOTIPY_CLIENT_ID and SPOTIPY_CLIENT_SECRET")
    response = getattr(error.__context__, "response", None)
    if response is not None and (response.status_code == 429 or response.status_code >= 500):
        return in_words(response.status_code, "", None, response.headers)
    return CannotRunError(f"Spotify refuses the login ({error.error}: {error.error_description}); {LOG_IN}")


def pages(call: Callable[..., Any], *arguments: Any, **named: Any) -> Iterator[tuple[list[Any], int]]:
    """A collection and its length, `PAGE` entries at a time. By offset: a page's `next` may name any host.

    A page from which Spotify has taken entries is as long as the others, for what comes behind it.
    """
    offset, total = 0, 1
    while offset < total:
        page = ask(call, *arguments, limit=PAGE, offset=offset, **named)
        entries, total = contents(page)
        yield entries, total
        if not entries:
            return
        span = page.get("limit")
        offset += max(len(entries), min(span, PAGE) if isinstance(span, int) else 0)


def add_songs(add: Callable[[list[str]], object], songs: Sequence[str]) -> int:
    """Add songs (ids) to a playlist with `add`, `ADD_AT_ONCE` uris a call, and say how many Spotify took.

    One song that Spotify no longer has spoils its lot, so a lot that `add` refuses as a plain ListError is halved.
    """
    starts = range(0, len(songs), ADD_AT_ONCE)
    return sum(_added(add, [f"spotify:track:{song}" for song in songs[i : i + ADD_AT_ONCE]]) for i in starts)


def _added(add: Callable[[list[str]], object], lot: list[str]) -> int:
    try:
        add(lot)
        return len(lot)
    except ListError as error:
        if type(error) is not ListError:  # forbidden, gone or in passing: no song's fault
            raise
        half = len(lot) // 2
        return _added(add, lot[:half]) + _added(add, lot[half:]) if half else 0


def contents(page: Mapping[str, Any]) -> tuple[list[Any], int]:
    entries, total = page.get("items"), page.get("total")
    if not isinstance(entries, list) or not isinstance(total, int):
        raise ListError("Spotify's answer has no entries in it")
    return entries, total
