"""A Spotify on the loopback address, as strict as the real one is with a new app.

`python -m tests.fake_spotify` runs it to try the site's commands without an account.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

PREMIUM = "Active premium subscription required for the owner of the app.\n"
ME = "ann"


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Answer:
    """What goes back: JSON unless `body` is bytes. `cut` closes the connection after that many bytes of it."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


def error(status: int, message: str, reason: str | None = None, **headers: str) -> Answer:
    """A refusal in the API's form."""
    told = {"status": status, "message": message} | ({"reason": reason} if reason else {})
    return Answer(status, {"error": told}, {name.replace("_", "-"): value for name, value in headers.items()})


def plain_text(status: int, text: str) -> Answer:
    return Answer(status, text.encode(), {"Content-Type": "text/plain"})


def made_id(kind: str, number: int) -> str:
    """An id of Spotify's form that says what it is of."""
    return f"{kind}{number:0{22 - len(kind)}d}"


def song(number: int, **changed: Any) -> dict[str, Any]:
    """A track as a playlist holds it."""
    track = {
        "id": made_id("song", number),
        "type": "track",
        "uri": f"spotify:track:{made_id('song', number)}",
        "name": f"Song {number}",
        "artists": [{"name": f"Artist {number % 17}"}],
        "album": {"name": f"Album {number % 29}"},
        "duration_ms": 180_000 + number,
        "external_ids": {"isrc": f"ISRC{number:08d}"},
        "is_local": False,
        "preview_url": None,
    }
    return track | changed


@dataclass
class List:
    """A playlist; its snapshot is its content."""

    name: str
    entries: list[dict[str, Any] | None]
    owner: str = ME
    in_library: bool = True
    collaborative: bool = False

    @property
    def snapshot(self) -> str:
        return hashlib.sha256(json.dumps([self.name, self.entries]).encode()).hexdigest()[:24]


class FakeSpotify:
    """Playlists, tokens and refusals; tests change them, the server reads them.

    `faults` maps a part of a path to the answers that come instead of the real one, in turn.
    """

    def __init__(self) -> None:
        self.lists: dict[str, List] = {}
        self.asked: list[Asked] = []
        self.faults: dict[str, Iterator[Answer]] = {}
        self.entry_key = "item"
        self.nested_only = False  # `/items` is refused even for one's own lists
        self.next_host = ""
        self.before: Callable[[Asked], None] = lambda asked: None  # called before each answer
        self.gone: set[str] = set()  # songs that no list takes any more
        self.devices: list[dict[str, Any]] = []
        self.played: list[tuple[str, list[str]]] = []  # on which device, and what
        self.on: str | None = None  # the song that a device is at; None once nothing plays
        self.paused = False
        self.secret = ""  # "" is an app that logs in with PKCE
        self.access_tokens = {"access-0"}
        self.refresh_tokens = {"refresh-0"}
        self.codes: dict[str, str] = {}
        self._number = itertools.count(1)

    # -- what a test does

    def add(self, number: int, name: str, songs: Sequence[dict[str, Any] | None], **of_list: Any) -> str:
        """A list with these songs; its id."""
        playlist = made_id("list", number)
        self.lists[playlist] = List(name, [self.entry(track) for track in songs], **of_list)
        return playlist

    def entry(self, track: dict[str, Any] | None) -> dict[str, Any]:
        return {"added_at": "2026-03-04T05:06:07Z", "is_local": False, self.entry_key: track}

    def token(self, expires_in: int = 3600, **changed: Any) -> dict[str, Any]:
        """A token file's content, as spotipy writes it."""
        return {
            "access_token": "access-0",
            "token_type": "Bearer",
            "expires_in": 3600,
            "expires_at": int(time.time()) + expires_in,
            "refresh_token": "refresh-0",
            "scope": "playlist-read-private playlist-read-collaborative playlist-modify-private",
        } | changed

    def fail(self, part: str, *answers: Answer, for_ever: bool = False) -> None:
        """The next answers to requests whose path holds `part`."""
        self.faults[part] = itertools.cycle(answers) if for_ever else iter(answers)

    def api_calls(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.path.startswith("/v1/")]

    @contextmanager
    def serving(self, port: int = 0) -> Iterator[str]:
        """Serve on the loopback address, which this yields; in the end no thread and no connection is left."""
        server = _Server(("127.0.0.1", port), _handler(self))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.close_all()
            thread.join()

    # -- what it answers

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        self.before(asked)
        for part, answers in self.faults.items():
            if part in asked.path and (fault := next(answers, None)):
                return fault
        if asked.path == "/authorize":
            return self._authorize(asked)
        if asked.path == "/api/token":
            return self._token(asked, {name: values[0] for name, values in parse_qs(asked.body).items()})
        if asked.headers.get("Authorization", "").removeprefix("Bearer ") not in self.access_tokens:
            return error(401, "Invalid access token")
        for pattern, view in self._routes().items():
            found = re.fullmatch(pattern, f"{asked.method} {asked.path.removeprefix('/v1')}")
            if found:
                return view(asked, *found.groups())
        return error(404, "Service not found")

    def _routes(self) -> dict[str, Callable[..., Answer]]:
        return {
            "GET /me/?": lambda asked: Answer(body={"id": ME, "display_name": "Ann"}),
            "GET /me/playlists": self._library,
            "POST /me/playlists": self._create,
            r"GET /playlists/(\w+)": self._playlist,
            r"(?:GET|POST|PUT|DELETE) /playlists/(\w+)/tracks": lambda asked, _: error(403, "Forbidden"),
            r"GET /playlists/(\w+)/items": self._items,
            r"POST /playlists/(\w+)/items": self._add,
            "GET /me/player/devices": lambda asked: Answer(body={"devices": self.devices}),
            "GET /me/player": self._now,
            "PUT /me/player/play": self._play,
            "PUT /me/player/pause": self._pause,
            "GET /search": self._search,
            r"GET /tracks/(\w+)": lambda asked, track: Answer(body=song(0, id=track)),
            "GET /tracks": lambda asked: error(403, "Forbidden"),
        }

    def _page(self, asked: Asked, entries: Sequence[Any], most: int) -> Answer:
        limit, offset = int(asked.query.get("limit", 20)), int(asked.query.get("offset", 0))
        if not 0 < limit <= most:
            return error(400, "Invalid limit")
        more = f"{self.next_host}{asked.path}?offset={offset + limit}" if offset + limit < len(entries) else None
        page = {"items": entries[offset : offset + limit], "total": len(entries), "limit": limit, "offset": offset}
        return Answer(body=page | {"next": more})

    def _summary(self, playlist: str) -> dict[str, Any]:
        held = self.lists[playlist]
        return {
            "id": playlist,
            "name": held.name,
            "snapshot_id": held.snapshot,
            "collaborative": held.collaborative,
            "owner": {"id": held.owner, "display_name": held.owner.title()},
            "items": {"total": len(held.entries)},
        }

    def _library(self, asked: Asked) -> Answer:
        return self._page(asked, [self._summary(p) for p, held in self.lists.items() if held.in_library], 50)

    def _create(self, asked: Asked) -> Answer:
        playlist = self.add(9000 + next(self._number), json.loads(asked.body)["name"], [])
        return Answer(201, self._summary(playlist))

    def _mine(self, playlist: str) -> bool:
        return self.lists[playlist].owner == ME or self.lists[playlist].collaborative

    def _items(self, asked: Asked, playlist: str) -> Answer:
        if playlist not in self.lists:
            return error(404, "Resource not found")
        if self.nested_only or not self._mine(playlist):
            return error(403, "Forbidden")
        return self._page(asked, self.lists[playlist].entries, 50)

    def _playlist(self, asked: Asked, playlist: str) -> Answer:
        if playlist not in self.lists:
            return error(404, "Resource not found")
        summary = self._summary(playlist)
        entries = self.lists[playlist].entries
        held = {"items": {"items": entries[:100], "total": len(entries)}} if self._mine(playlist) else {"items": None}
        return Answer(body=summary | held)

    def _add(self, asked: Asked, playlist: str) -> Answer:
        songs = [uri.rpartition(":")[2] for uri in json.loads(asked.body)]
        if len(songs) > 100:
            return error(400, "Too many ids requested")
        if self.gone & set(songs):
            return error(400, "Payload contains a non-existing ID")
        self.lists[playlist].entries += [self.entry(song(0, id=track, name=track, external_ids={})) for track in songs]
        return Answer(201, {"snapshot_id": self.lists[playlist].snapshot})

    def _play(self, asked: Asked) -> Answer:
        """Songs, or without any what was paused."""
        found = self._device(asked)
        if isinstance(found, Answer):
            return found
        uris = json.loads(asked.body or "{}").get("uris")
        if uris is None and not self.paused:
            return error(403, "Player command failed: Restriction violated", "UNKNOWN")
        if uris:
            self.played.append((found, uris))
            self.on = uris[0].rpartition(":")[2]
        self.paused = False
        return Answer(204, b"")

    def _pause(self, asked: Asked) -> Answer:
        found = self._device(asked)
        if isinstance(found, Answer):
            return found
        if self.paused or not self.on:
            return error(403, "Player command failed: Restriction violated", "UNKNOWN")
        self.paused = True
        return Answer(204, b"")

    def _device(self, asked: Asked) -> str | Answer:
        """The device named, or the active one; or the refusal where there is none."""
        wanted = asked.query.get("device_id")
        for device in self.devices:
            if device["id"] == wanted if wanted else device["is_active"]:
                return str(device["id"])
        if wanted:
            return error(404, "Device not found")
        return error(404, "Player command failed: No active device found", "NO_ACTIVE_DEVICE")

    def _now(self, asked: Asked) -> Answer:
        """What a device is at; nothing once nothing is."""
        now = {"item": song(0, id=self.on), "is_playing": not self.paused}
        return Answer(body=now) if self.on else Answer(204, b"")

    def _search(self, asked: Asked) -> Answer:
        if int(asked.query.get("limit", 5)) > 10:
            return error(400, "Invalid limit")
        return Answer(body={"tracks": {"items": [], "total": 0}})

    # -- the login

    def _authorize(self, asked: Asked) -> Answer:
        """Ann agrees at once: on to the app, with a code."""
        code = f"code-{next(self._number)}"
        self.codes[code] = asked.query.get("code_challenge", "")
        back = urlencode({"code": code, "state": asked.query.get("state", "")})
        return Answer(302, b"", {"Location": f"{asked.query['redirect_uri']}?{back}"})

    def _token(self, asked: Asked, form: dict[str, str]) -> Answer:
        basic = base64.b64encode(f"app:{self.secret}".encode()).decode()
        if self.secret and asked.headers.get("Authorization") != f"Basic {basic}":
            return Answer(400, {"error": "invalid_client", "error_description": "Invalid client secret"})
        if form["grant_type"] == "refresh_token":
            fine = form.get("refresh_token", "") in self.refresh_tokens
        else:
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            fine = self.codes.pop(form["code"], None) == ("" if self.secret else challenge)
        if not fine:
            return Answer(400, {"error": "invalid_grant", "error_description": "Refresh token expired"})
        return Answer(body=self._new_token(form))

    def _new_token(self, form: dict[str, str]) -> dict[str, Any]:
        number = next(self._number)
        self.access_tokens.add(f"access-{number}")
        made = {"access_token": f"access-{number}", "token_type": "Bearer", "expires_in": 3600}
        if form["grant_type"] == "refresh_token" and self.secret:
            return made  # the refresh token stays the same one
        self.refresh_tokens = {f"refresh-{number}"}  # with PKCE each is good for once
        return made | {"refresh_token": f"refresh-{number}", "scope": form.get("scope", "playlist-read-private")}


class _Server(ThreadingHTTPServer):
    """Knows its connections, to close those that a client keeps open."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error here."""

    def close_all(self) -> None:
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


def _handler(spotify: FakeSpotify) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement

        def _serve(self) -> None:
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            with lock:
                answer = spotify.answer(Asked(self.command, address.path, query, dict(self.headers), body))
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(content))} | answer.headers
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: answer.cut])
            self.close_connection = answer.cut is not None

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def do_PUT(self) -> None:
            self._serve()

        def do_DELETE(self) -> None:
            self._serve()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Handler


def main() -> None:
    """Seven lists of 100 songs, until Ctrl-C."""
    from model.emotions import EMOTIONS

    spotify = FakeSpotify()
    for n, emotion in enumerate(EMOTIONS):
        spotify.add(n, f"My {emotion} songs", [song(100 * n + k) for k in range(100)])
    with spotify.serving(8899) as base, suppress(KeyboardInterrupt):
        print(f"export SPOTIFY_API_BASE={base}/v1 SPOTIFY_ACCOUNTS_BASE={base} SPOTIPY_CLIENT_ID=app")
        threading.Event().wait()


if __name__ == "__main__":
    main()
