"""The website: settings, routes and the stream's framing. HTTP and nothing else.

`python app.py` runs it; `app:create_app()` is what a WSGI server loads.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, jsonify, redirect, render_template, request, url_for

from model.emotions import EMOTIONS, Emotion, Reading, Smoothing

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from camera import Camera, Snapshot
    from model.recognizer import Recognizer
    from songs.catalog import Catalog, Playlist
    from songs.player import Listeners

HERE = Path(__file__).parent
LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "localhost", "::1": "[::1]"}
PREFIX = "VISAGE_"
OLD = timedelta(days=30)  # of a fetched list; Spotify asks not to keep copies for ever


# -- settings ------------------------------------------------------------------------------------


class SettingsError(Exception):
    """A setting is wrong; the message names it and says what it takes."""


@dataclass(frozen=True)
class Setting:
    """One line of the table: VISAGE_<name>, what it is without one, and what it takes."""

    name: str
    default: str | int | float
    help: str
    choices: tuple[str, ...] = ()
    form: str = ""
    least: float = 0.0
    most: float = float("inf")

    def parsed(self, text: str | float) -> str | int | float:
        """`text` as this setting's type, or SettingsError."""
        try:
            value = type(self.default)(text)
        except ValueError:
            raise self._wrong(text) from None
        if self.choices and value not in self.choices:
            raise self._wrong(text)
        if not isinstance(value, str) and not self.least <= value <= self.most:
            raise self._wrong(text)
        if value == "" or (self.form and not re.fullmatch(self.form, str(value))):
            raise self._wrong(text)
        return value

    def _wrong(self, text: object) -> SettingsError:
        kind = {str: "a text", int: "a whole number", float: "a number"}[type(self.default)]
        takes = f"one of {', '.join(self.choices)}" if self.choices else kind
        if self.form:
            takes = f"something like {self.default}"
        if not self.choices and kind != "a text" and (self.least or self.most < float("inf")):
            takes += f" from {self.least:g} to {self.most:g}"
        return SettingsError(f"{PREFIX}{self.name}={text!r}: it takes {takes} ({self.help})")


ORIGIN = r"https?://[\w.-]+(:\d+)?"
SETTINGS = (
    Setting("SOURCE", "auto", "what the site watches: auto, a device number, a file, an http or rtsp URL, or demo"),
    Setting("HOST", "127.0.0.1", "the address it listens on; anything but 127.0.0.1 shows your camera to your network"),
    Setting("PORT", 5000, "the port it listens on", least=1, most=65535),
    Setting("SONGS", str(HERE / "songs"), "the folder with the song lists"),
    Setting("EMBED", "https://open.spotify.com", "where the player of songs comes from", form=ORIGIN),
    Setting("ENGINE", "litert", "what runs the network", choices=("litert", "keras")),
    Setting("VIEWERS", 24, "how many may watch the stream at once", least=1, most=56),
    Setting("STALL", 10, "seconds that a viewer may leave a picture unread", least=1, most=600),
    Setting("IDLE", 10.0, "seconds from the last viewer until the camera is released"),
    Setting("TIME_CONSTANT", 1.0, "seconds over which the reading follows the face", least=0.01),
    Setting("ENTER", 0.45, "probability at which a mood may take over", most=1),
    Setting("LEAVE", 0.30, "probability under which the mood shown gives way", most=1),
    Setting("MARGIN", 0.15, "lead in probability that a new mood needs", most=1),
    Setting("HOLD", 1.5, "seconds that a new mood must last before it is shown"),
    Setting("DWELL", 8.0, "seconds that a song table stays at least"),
    Setting("FORGET", 3.0, "seconds that the mood outlasts the face"),
)


def settings_from(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings in force, by name. Raises SettingsError on an unknown name or a wrong value."""
    known = {setting.name: setting for setting in SETTINGS}
    given = {name.removeprefix(PREFIX): text for name, text in environment.items() if name.startswith(PREFIX)}
    given.pop("TOKEN_CACHE", None)  # spotify_sync's
    for name in given.keys() - known.keys():
        near = difflib.get_close_matches(name, known, n=1)
        every = ", ".join(PREFIX + known_name for known_name in known)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else f"the settings are {every}"
        raise SettingsError(f"{PREFIX}{name} is not a setting: {hint}")
    settings: dict[str, Any] = {name: s.parsed(given.get(name, s.default)) for name, s in known.items()}
    if settings["LEAVE"] > settings["ENTER"]:
        raise SettingsError(f"{PREFIX}LEAVE={settings['LEAVE']}: it takes at most {PREFIX}ENTER ({settings['ENTER']})")
    return settings


# -- the application -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Services:
    """What the routes need; in `app.extensions["visage"]`."""

    recognizer: Recognizer
    camera: Camera
    catalog: Catalog
    listeners: Listeners | None = None  # None without an app at Spotify

    def close(self) -> None:
        self.camera.close()


def create_app(config: Mapping[str, Any] | None = None, services: Services | None = None) -> Flask:
    """The website. `config` overrides the environment's settings; a test may pass its own services."""
    app = Flask(__name__)
    app.config.from_mapping(settings_from(os.environ))
    app.config.from_mapping(_checked(config or {}))
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["visage"] = services or make_services(app.config)
    if app.config["HOST"] in LOOPBACK:
        app.config["TRUSTED_HOSTS"] = list(LOOPBACK.values())
    app.before_request(_refuse_other_sites)
    app.after_request(_secured)
    for route, view in ROUTES.items():
        app.add_url_rule(route, view_func=view, methods=["POST"] if view is pause else ["GET"])
    for code in (400, 403, 404):
        app.register_error_handler(code, _in_words)
    if app.extensions["visage"].listeners:
        from songs.player import PlayerError

        app.register_error_handler(PlayerError, _in_words)
        for route, (method, view) in OWN_ROUTES.items():
            app.add_url_rule(route, view_func=view, methods=[method])
    return app


def make_services(config: Mapping[str, Any]) -> Services:
    """The recognizer, the camera (asleep) and the catalog, as the settings say."""
    from camera import Camera
    from model.recognizer import load_recognizer
    from songs.catalog import Catalog

    songs = Path(config["SONGS"]).expanduser()
    if not songs.is_dir():
        raise SettingsError(f"{PREFIX}SONGS={songs}: there is no such folder")
    recognizer = load_recognizer(config["ENGINE"])
    rules = Smoothing(**{field.name: config[field.name.upper()] for field in fields(Smoothing)})
    camera = Camera(config["SOURCE"], recognizer, rules, config["IDLE"], config["VIEWERS"])
    return Services(recognizer, camera, Catalog(songs), make_listeners(os.environ))


def make_listeners(environment: Mapping[str, str]) -> Listeners | None:
    """People's own Spotify, if an app at Spotify is named."""
    from songs import spotify
    from songs.player import Listeners

    try:
        settings = spotify.settings_from(environment, HERE / ".env")
    except spotify.CannotRunError as error:
        raise SettingsError(str(error)) from None
    return Listeners(settings) if settings.client_id else None


def _checked(config: Mapping[str, Any]) -> dict[str, Any]:
    known = {setting.name: setting for setting in SETTINGS}
    return {name: known[name].parsed(value) if name in known else value for name, value in config.items()}


def _services() -> Services:
    services: Services = current_app.extensions["visage"]
    return services


def _refuse_other_sites() -> None:
    """A page elsewhere may link here, but neither start this camera nor embed what it shows.

    Elsewhere is another port of this machine too, which browsers call the same site.
    """
    elsewhere = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    if elsewhere and request.endpoint not in ("index", "own_answer"):
        abort(403, description="only this site's own page may ask for this")


def _secured(response: Response) -> Response:
    """No third-party script runs, only the player is framed, nothing frames the page, nothing live is cached."""
    response.headers.setdefault(
        "Content-Security-Policy",
        f"default-src 'self'; img-src 'self' data:; frame-src {current_app.config['EMBED']}; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response


def _in_words(error: Exception) -> tuple[Response, int]:
    return jsonify(error=getattr(error, "description", str(error))), getattr(error, "code", 500)


# -- routes --------------------------------------------------------------------------------------


def index(told: str = "") -> str:
    """The page, with the songs in it, so that it serves with JavaScript off. `told` is about the person's Spotify."""
    snapshot = _services().camera.snapshot
    own = {"own": _services().listeners is not None, "login_here": _is_for_logins(), "told": told}
    return render_template("index.html", emotions=EMOTIONS, camera=snapshot, **own, **_table())


def video_feed() -> Response:
    """The live picture with its boxes and labels, as MJPEG."""
    from camera import TooManyViewersError

    try:
        viewer = _services().camera.watch()
    except TooManyViewersError as error:
        return Response(f"{error}\n", 503, {"Retry-After": "10"}, content_type="text/plain")
    _limit_sends(request.environ)
    response = Response(_parts(iter(viewer)), content_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}")
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(viewer.close)
    return response


def songs() -> Response | str:
    """The song table for the reading, or for `?emotion=`; a fragment of the page, or JSON."""
    table = _table()
    best = request.accept_mimetypes.best_match(["text/html", "application/json"])
    if best != "application/json":
        return render_template("_songs.html", **table)
    playlist: Playlist | None = table["playlist"]
    return jsonify(
        emotion=table["emotion"],
        chosen=table["chosen"],
        tracks=[track.as_dict() for track in playlist.tracks] if playlist else [],
        fetched_at=playlist.fetched_at if playlist else None,
    )


def state() -> Response:
    """What the camera last saw, as JSON."""
    snapshot = _services().camera.snapshot
    return jsonify(
        reading=_reading(snapshot.reading),
        faces=[
            {"box": list(face.box), "emotion": face.emotion, "confidence": round(face.confidence, 4)}
            for face in snapshot.faces
        ],
        camera={
            "source": snapshot.source,
            "status": snapshot.status,
            "message": snapshot.message,
            "fps": round(snapshot.fps, 1),
        },
        sequence=snapshot.sequence,
        songs=snapshot.reading.songs if snapshot.reading else None,
    )


def pause() -> tuple[str, int]:
    """Release the camera without the usual wait, once nobody watches any more."""
    _services().camera.release_soon()
    return "", 204


def healthz() -> tuple[Response, int]:
    """200 when songs can be served."""
    counts = {emotion: len(_services().catalog.playlist(emotion).tracks) for emotion in EMOTIONS}
    return jsonify(songs=counts), 200 if any(counts.values()) else 503


ROUTES: dict[str, Callable[[], ResponseReturnValue]] = {
    "/": index,
    "/video_feed": video_feed,
    "/songs": songs,
    "/state": state,
    "/pause": pause,
    "/healthz": healthz,
}


def _table() -> dict[str, Any]:
    """The song table asked for: the emotion chosen by hand, or the reading's, or none yet."""
    chosen = request.args.get("emotion")
    if chosen is not None and chosen not in set(EMOTIONS):
        abort(404, description=f"no emotion {chosen[:40]!r}: choose one of {', '.join(EMOTIONS)}")
    reading = _services().camera.snapshot.reading
    emotion = Emotion(chosen) if chosen else reading.songs if reading else None
    playlist = _services().catalog.playlist(emotion) if emotion else None
    old = playlist is not None and _is_old(playlist.fetched_at)
    return {"emotion": emotion, "chosen": chosen is not None, "playlist": playlist, "old": old}


def _is_old(fetched_at: str | None) -> bool:
    """Whether a list was fetched so long ago that its songs may have gone. One that is kept by hand does not age."""
    if fetched_at is None:
        return False
    then = datetime.fromisoformat(fetched_at)
    return datetime.now(UTC) - (then if then.tzinfo else then.replace(tzinfo=UTC)) > OLD


def _reading(reading: Reading | None) -> dict[str, Any] | None:
    """The reading as JSON; null until a mood has settled."""
    if reading is None or reading.emotion is None:
        return None
    shares = {emotion: round(p, 4) for emotion, p in reading.prediction.by_emotion().items()}
    return {"emotion": reading.emotion, "confidence": round(reading.confidence, 4), "probabilities": shares}


# -- people's own Spotify, where an app at Spotify is named ----------------------------------------

COOKIE = "visage_listener"  # a secret that names a login; never a token


def own() -> Response:
    """Whether this browser is logged in; if so its devices, and what it must show to change something."""
    return jsonify(_listeners().state(_secret()))


def own_login() -> ResponseReturnValue:
    """Off to Spotify's login, with a new secret in the browser."""
    secret, page = _listeners().begin(url_for("own_answer", _external=True))
    response = redirect(page)
    # Lax, or the browser would come back from Spotify without it; the path keeps it from all other requests.
    response.set_cookie(
        COOKIE, secret, timedelta(days=180), path="/spotify", httponly=True, samesite="Lax", secure=request.is_secure
    )
    return response


def own_answer() -> ResponseReturnValue:
    """Back from Spotify's login."""
    refusal = _listeners().finish(_secret(), request.args)
    return (index(told=refusal), 403) if refusal else redirect(url_for("index"))


def own_play() -> Response:
    """Play a song on a device, or on the active one."""
    asked = _asked()
    return jsonify(_listeners().play(_secret(), asked.get("song"), asked.get("device")))


def own_save() -> Response:
    """Put a mood's list into a new playlist of the person's."""
    emotion = _asked().get("emotion")
    if emotion not in EMOTIONS:
        abort(400, description="that is no mood")
    return jsonify(_listeners().save(_secret(), _services().catalog.playlist(Emotion(emotion))))


def own_logout() -> Response:
    """Delete this browser's token."""
    _asked()
    return jsonify(_listeners().forget(_secret()))


OWN_ROUTES: dict[str, tuple[str, Callable[[], ResponseReturnValue]]] = {
    "/spotify": ("GET", own),
    "/spotify/login": ("GET", own_login),
    "/spotify/callback": ("GET", own_answer),
    "/spotify/play": ("POST", own_play),
    "/spotify/save": ("POST", own_save),
    "/spotify/logout": ("POST", own_logout),
}


def _is_for_logins() -> bool:
    """Whether Spotify lets somebody log in at the address that the page was opened at."""
    return request.is_secure or urlsplit(request.host_url).hostname in ("127.0.0.1", "::1")


def _listeners() -> Listeners:
    return cast("Listeners", _services().listeners)  # these routes exist only with them


def _secret() -> str:
    return request.cookies.get(COOKIE, "")


def _asked() -> dict[str, Any]:
    """What this site's own page asks to change; 403 if another one does."""
    _listeners().check(_secret(), request.headers.get("X-CSRF-Token", ""))
    given = request.get_json(silent=True)
    return given if isinstance(given, dict) else {}


# -- the stream ----------------------------------------------------------------------------------

BOUNDARY = "frame"
SEND_BUFFER = 256 * 1024  # bytes: a slow viewer gets newer pictures, not a queue of old ones


def _parts(snapshots: Iterator[Snapshot]) -> Iterator[bytes]:
    """Multipart framing. The boundary follows each picture: Chrome shows a part only once the next one begins."""
    yield f"--{BOUNDARY}\r\n".encode()
    for snapshot in snapshots:
        head = f"Content-Type: image/jpeg\r\nContent-Length: {len(snapshot.jpeg)}\r\n\r\n"
        yield head.encode() + snapshot.jpeg + f"\r\n--{BOUNDARY}\r\n".encode()


def _limit_sends(environment: Mapping[str, Any]) -> None:
    """A viewer that never reads must not hold its thread for ever."""
    connection = environment.get("gunicorn.socket") or environment.get("werkzeug.socket")
    if isinstance(connection, socket.socket):
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", current_app.config["STALL"], 0)
            )


# -- running it ----------------------------------------------------------------------------------


def check_settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings in force; SystemExit says what is wrong with them."""
    try:
        return settings_from(environment)
    except SettingsError as error:
        raise SystemExit(f"Visage FM cannot start: {error}") from None


def check_port(host: str, port: int) -> None:
    """SystemExit if another program listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SystemExit(
                f"Visage FM cannot start at {host}:{port}: {error.strerror or error}. If another program "
                f"has the port, choose one: VISAGE_PORT={port + 1 if port < 65535 else 5001}"
            ) from None


def serve() -> Flask:
    """The website for gunicorn. What keeps it from starting is said in a line, and gunicorn stops."""
    from model.recognizer import WeightsError

    try:
        return create_app()
    except (SettingsError, WeightsError) as error:
        print(f"Visage FM cannot start: {error}", file=sys.stderr)
        raise SystemExit(BOOT_ERROR) from None


def main() -> None:
    """Check what can be checked and become gunicorn, or Flask's own server where there is none (Windows)."""
    settings = check_settings(os.environ)
    check_port(settings["HOST"], settings["PORT"])
    if sys.platform != "win32":
        os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "-c", str(HERE / "gunicorn.conf.py")])
    logging.basicConfig(level=logging.WARNING)
    serve().run(settings["HOST"], settings["PORT"], threaded=True)


BOOT_ERROR = 3  # the exit code on which gunicorn stops instead of trying again

if __name__ == "__main__":
    main()
