"""The website: settings, routes and the stream's framing. HTTP and nothing else.

`python app.py` runs it; `app:create_app()` is what a WSGI server loads.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import hmac
import ipaddress
import logging
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import wraps
from io import BytesIO
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from flask import Flask, Request, Response, abort, current_app, jsonify, redirect, render_template, request, url_for
from itsdangerous import BadSignature, URLSafeSerializer
from werkzeug.exceptions import ClientDisconnected, HTTPException, TooManyRequests
from werkzeug.middleware.proxy_fix import ProxyFix

from model.emotions import EMOTIONS, Emotion, Reading, Smoothing, described
from model.visitors import BusyError, Followed, Limits

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from camera import Camera, SeenFace, SharedCamera, Snapshot, Still
    from model.recognizer import Recognizer
    from songs.catalog import Catalog, Playlist
    from songs.player import Listeners
    from songs.split import Split, Splitter

HERE = Path(__file__).parent
LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "localhost", "::1": "[::1]"}
PREFIX = "VISAGE_"
Seen = TypeVar("Seen")
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
    like: str = ""
    least: float = 0.0
    most: float = float("inf")
    secret: bool = False

    def parsed(self, text: str | float) -> str | int | float:
        """`text` as this setting's type, or SettingsError."""
        try:
            value = type(self.default)(text)
        except ValueError:
            raise self._wrong(text) from None
        if value == self.default == "":
            return value
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
            takes = self.like or f"something like {self.default}"
        if not self.choices and kind != "a text" and (self.least or self.most < float("inf")):
            takes += f" from {self.least:g} to {self.most:g}"
        given = "..." if self.secret else repr(text)
        return SettingsError(f"{PREFIX}{self.name}={given}: it takes {takes} ({self.help})")


ORIGIN = r"https?://[\w.-]+(:\d+)?"
SETTINGS = (
    Setting(
        "SOURCE", "auto", "what the site watches: auto, a device number, a file, an http or rtsp URL, demo, or none"
    ),
    Setting("HOST", "127.0.0.1", "the address it listens on; at anything but 127.0.0.1 your network can reach it"),
    Setting("PORT", 5000, "the port it listens on", least=1, most=65535),
    Setting(
        "NAMES",
        "",
        "the names under which it is reached from elsewhere",
        form=r"\s*[\w.-]+(\s*,\s*[\w.-]+)*\s*",
        like="host names with commas between them, like visage.example.org",
    ),
    Setting(
        "TOKEN",
        "",
        "what somebody elsewhere shows to see the site's camera",
        form=r"[!-~]{16,}",
        like="16 characters or more, without spaces",
        secret=True,
    ),
    Setting(
        "SECRET_KEY",
        "",
        "what cookies are signed with; the same on all machines that serve one site",
        form=r"[!-~]{32,}",
        like="32 characters or more, without spaces",
        secret=True,
    ),
    Setting("PROXIES", 0, "how many proxies stand in front of it and say who asks", most=8),
    Setting("WORKERS", 1, "how many processes serve; 0 is one for each core", most=64),
    Setting("RATE", 40, "pictures a second that one address may send to one process; 0 is any number", most=100_000),
    Setting("SONGS", str(HERE / "songs"), "the folder with the song lists"),
    Setting(
        "FEATURES", "off", "a table (CSV) of songs and their audio features, or off: what playlists are split with"
    ),
    Setting(
        "LOOKUP",
        "off",
        "a public service of audio features to ask as well, such as https://api.reccobeats.com/v1; off is none",
        form=rf"off|{ORIGIN}(/[\w./-]*)?",
    ),
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
    camera: Camera | SharedCamera | None  # None with VISAGE_SOURCE=none
    catalog: Catalog
    listeners: Listeners | None = None  # None without an app at Spotify
    splitter: Splitter | None = None  # None in a test that splits nothing

    def close(self) -> None:
        if self.camera:
            self.camera.close()


def create_app(
    config: Mapping[str, Any] | None = None, services: Services | None = None, shared: Path | None = None
) -> Flask:
    """The website. `config` overrides the environment's settings; a test may pass its own services.

    `shared` is the folder in which several processes that serve one site find each other.
    """
    app = Flask(__name__)
    app.request_class = Incoming
    app.config.from_mapping(settings_from(os.environ))
    app.config.from_mapping(_checked(config or {}))
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["visage"] = services or make_services(app.config, shared)
    app.extensions["visage_limits"] = Limits(app.config["RATE"])
    app.config["MAX_CONTENT_LENGTH"] = LARGEST + FORM
    names = [name for given in app.config["NAMES"].lower().split(",") if (name := given.strip())]
    if names or app.config["HOST"] in LOOPBACK:
        app.config["TRUSTED_HOSTS"] = [*LOOPBACK.values(), *names]
    if proxies := app.config["PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, proxies, proxies, proxies)  # type: ignore[method-assign]
    app.before_request(_refuse_other_names)
    app.before_request(_refuse_other_sites)
    app.after_request(_secured)
    for route, (methods, view) in ROUTES.items():
        app.add_url_rule(route, view_func=view, methods=methods.split())
    app.register_error_handler(HTTPException, _in_words)
    if app.extensions["visage"].listeners:
        from songs.player import PlayerError

        app.register_error_handler(PlayerError, _in_words)
        places = BoundedSemaphore(MOST_WAITING)
        for route, (method, view) in OWN_ROUTES.items():
            app.add_url_rule(route, view_func=_in_line(view, places), methods=[method])
    return app


def make_services(config: Mapping[str, Any], shared: Path | None = None) -> Services:
    """The recognizer, the camera (asleep; one for all that serve, in a `shared` folder) and the catalog."""
    from camera import Camera, SharedCamera
    from model.recognizer import load_recognizer
    from songs.catalog import Catalog

    songs = Path(config["SONGS"]).expanduser()
    if not songs.is_dir():
        raise SettingsError(f"{PREFIX}SONGS={songs}: there is no such folder")
    recognizer = load_recognizer(config["ENGINE"])
    camera: Camera | SharedCamera | None = None
    if config["SOURCE"] != "none":
        camera = Camera(config["SOURCE"], recognizer, _rules(config), config["IDLE"], config["VIEWERS"])
        camera = SharedCamera(camera, shared, config["SECRET_KEY"].encode()) if shared else camera
    return Services(recognizer, camera, Catalog(songs), make_listeners(os.environ), make_splitter(config))


def _rules(config: Mapping[str, Any]) -> Smoothing:
    return Smoothing(**{field.name: config[field.name.upper()] for field in fields(Smoothing)})


def make_listeners(environment: Mapping[str, str]) -> Listeners | None:
    """People's own Spotify, if an app at Spotify is named."""
    from songs import spotify
    from songs.player import Listeners

    try:
        settings = spotify.settings_from(environment, HERE / ".env")
    except spotify.CannotRunError as error:
        raise SettingsError(str(error)) from None
    return Listeners(settings) if settings.client_id else None


def make_splitter(config: Mapping[str, Any]) -> Splitter:
    """What splits playlists by mood, with the table and the service that the settings name."""
    from songs.features import FeaturesError, FeatureTable
    from songs.lookup import Lookup, LookupFailedError
    from songs.split import Splitter

    features, lookup = config["FEATURES"], config["LOOKUP"]
    table = None if features == "off" else FeatureTable(Path(features).expanduser())
    try:
        if table:
            table.check()
    except FeaturesError as error:
        raise SettingsError(f"{PREFIX}FEATURES={error}") from None
    try:
        return Splitter(table, None if lookup == "off" else Lookup(lookup))
    except LookupFailedError as error:
        raise SettingsError(f"{PREFIX}LOOKUP={lookup}: {error}") from None


def _checked(config: Mapping[str, Any]) -> dict[str, Any]:
    known = {setting.name: setting for setting in SETTINGS}
    return {name: known[name].parsed(value) if name in known else value for name, value in config.items()}


def _services() -> Services:
    services: Services = current_app.extensions["visage"]
    return services


def _refuse_other_names() -> None:
    """Off the loopback address and without VISAGE_NAMES, answer to addresses and this machine's own name alone.

    A name that somebody points at this machine is a way into it from their page; an address is not.
    """
    if current_app.config["TRUSTED_HOSTS"] is None:
        name, here = _host_name(), socket.gethostname().lower()
        if not _is_address(name) and name not in ("localhost", here, f"{here}.local"):
            abort(400, description=f"this site does not go by that name: {PREFIX}NAMES says which it goes by")


def _refuse_other_sites() -> None:
    """A page elsewhere may link here, but neither start this camera, nor embed what it shows, nor send pictures.

    Elsewhere is another port of this machine too, which browsers call the same site.
    """
    elsewhere = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    linked = request.endpoint in ("index", "photo", "split", "own_answer") and request.method in ("GET", "HEAD")
    if elsewhere and not linked:
        abort(403, description="only this site's own page may ask for this")


def _secured(response: Response) -> Response:
    """No third-party script runs, only the player is framed, nothing frames the page, nothing live is cached."""
    response.headers.setdefault(
        "Content-Security-Policy",
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        f"frame-src {current_app.config['EMBED']}; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    )
    response.headers["Permissions-Policy"] = "camera=(self), microphone=(), geolocation=()"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response


def _in_words(error: Exception) -> ResponseReturnValue:
    """Any refusal as JSON, and what it says in the headers."""
    return jsonify(error=_told(error)), getattr(error, "code", None) or 500, _headers_of(error)


def _headers_of(error: Exception) -> list[tuple[str, str]]:
    """When to come back, which methods there are: what a refusal says beside its sentence."""
    headers = error.get_headers() if isinstance(error, HTTPException) else []
    return [(name, value) for name, value in headers if name not in ("Content-Type", "Content-Length")]


def _told(error: Exception) -> str:
    """The error as a sentence. What went wrong inside is for the log alone."""
    words = getattr(error, "description", None) or str(error)
    if getattr(error, "code", 500) == 500:
        words = "something went wrong on this site's side, and its log says what: try again"
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith('.') else '.'}"


# -- routes --------------------------------------------------------------------------------------


def index() -> ResponseReturnValue:
    """The page, with the songs in it, so that it serves with JavaScript off."""
    if "token" in request.args:
        return _let_in(request.args["token"])
    return _page(told="")


def _page(told: str) -> str:
    """`told` is about the person's Spotify."""
    own = {"own": _services().listeners is not None, "login_here": _is_for_logins(), "told": told}
    return render_template("index.html", emotions=EMOTIONS, **_cameras(), **own, **_table())


def video_feed() -> Response:
    """The live picture with its boxes and labels, as MJPEG."""
    from camera import TooManyViewersError

    try:
        viewer = _camera().watch()
    except TooManyViewersError as error:
        return Response(f"{error}\n", 503, {"Retry-After": "10"}, content_type="text/plain")
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
        lifted=table["lifted"],
        tracks=[track.as_dict() for track in playlist.tracks] if playlist else [],
        steps=playlist.steps if playlist else [],
        fetched_at=playlist.fetched_at if playlist else None,
    )


def split() -> ResponseReturnValue:
    """The page that splits a playlist by mood; with POST what came of it, as the page or as a CSV. Kept nowhere."""
    from songs.paste import SplitError
    from songs.split import as_csv

    done, told, code = None, "", 200
    try:
        done = _split() if request.method == "POST" else None
    except SplitError as error:
        told, code = str(error), error.code
    if done and request.form.get("format") == "csv":
        return Response(
            as_csv(done), headers={"Content-Disposition": "attachment; filename=split.csv"}, mimetype="text/csv"
        )
    given = request.form if code != 413 else {}
    return render_template("split.html", emotions=EMOTIONS, split=done, told=told, given=given, **_at_hand()), code


def state() -> Response:
    """What the camera last saw, as JSON."""
    snapshot = _camera().snapshot
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
    _camera().release_soon()
    return "", 204


def healthz() -> tuple[Response, int]:
    """200 when songs can be served."""
    counts = {emotion: len(_services().catalog.playlist(emotion).tracks) for emotion in EMOTIONS}
    return jsonify(songs=counts), 200 if any(counts.values()) else 503


def recognize() -> Response:
    """The faces in a picture, and the visitor's reading, which travels in a cookie. `?still=1`: this picture alone."""
    if request.args.get("still") == "1":
        return jsonify(_answer(*_looked_at()))
    try:
        last = _unpacked(request.cookies.get(READING))
    except ValueError:
        response = jsonify(error="That reading was not this site's, or is too old: the next picture starts a new one.")
        response.status_code = 400
        response.delete_cookie(READING, path="/recognize")
        return response
    from camera import follow

    def look(still: Still) -> tuple[Sequence[SeenFace], Followed]:
        return follow(_services().recognizer, still.frame, last, time.time(), _rules(current_app.config))

    still, (faces, now) = _read_picture(look)
    response = jsonify(_answer(still, faces, now.reading))
    if now.reading:
        lasts, secure = round(_oldest() / 2), request.is_secure
        response.set_cookie(
            READING,
            _signer().dumps(now.packed()),
            lasts,
            path="/recognize",
            secure=secure,
            httponly=True,
            samesite="Strict",
        )
    elif READING in request.cookies:
        response.delete_cookie(READING, path="/recognize")
    return response


def photo() -> ResponseReturnValue:
    """The page for photos; with JavaScript off, a form that answers with the photo's faces on them."""
    if request.method != "POST":
        return _photo_page()
    try:
        still, faces, reading = _looked_at()
    except HTTPException as error:
        return _photo_page(told=_told(error)), error.code or 500, _headers_of(error)
    told = "" if faces else "No face was found in this photo."
    shown = {"src": _drawn(still, faces), **_answer(still, faces, reading)}
    return _photo_page(reading.songs if reading else None, told, shown)


ROUTES: dict[str, tuple[str, Callable[[], ResponseReturnValue]]] = {
    "/": ("GET", index),
    "/video_feed": ("GET", video_feed),
    "/recognize": ("POST", recognize),
    "/photo": ("GET POST", photo),
    "/songs": ("GET", songs),
    "/split": ("GET POST", split),
    "/state": ("GET", state),
    "/pause": ("POST", pause),
    "/healthz": ("GET", healthz),
}


def _table() -> dict[str, Any]:
    """The song table asked for: of the emotion chosen by hand, or seen by the visitor's camera, or by ours."""
    chosen = request.args.get("emotion")
    asked = chosen if chosen is not None else request.args.get("seen")
    nobody = chosen is None and asked == ""  # ?seen= of a page that has seen nobody yet, and asks for no other's mood
    if asked is not None and not nobody and asked not in set(EMOTIONS):
        abort(404, description=f"no emotion {asked[:40]!r}: choose one of {', '.join(EMOTIONS)}")
    emotion = Emotion(asked) if asked else None if nobody else _seen_here()
    lifted = request.args.get("lift") == "1"
    playlist = _playlist(emotion, lifted) if emotion else None
    old = playlist is not None and _is_old(playlist.fetched_at)
    return {"emotion": emotion, "chosen": chosen is not None, "lifted": lifted, "playlist": playlist, "old": old}


def _playlist(emotion: Emotion, lifted: bool) -> Playlist:
    """The list of an emotion, or songs that lead from it to happy."""
    from songs.lift import lift, own_places

    services = _services()
    if not lifted:
        return services.catalog.playlist(emotion)
    return lift(services.catalog, emotion, services.splitter.places if services.splitter else own_places)


def _at_hand() -> dict[str, Any]:
    """What songs can be split with, beside what somebody pastes."""
    splitter = _services().splitter
    lookup = splitter.lookup if splitter else None
    return {"table": bool(splitter and splitter.table), "lookup": lookup.host if lookup else ""}


def _split() -> Split:
    """The songs that were pasted, or a list's, split. Raises SplitError."""
    from songs.paste import MOST_BYTES, MOST_LINES, TooMuchError, read_songs, songs_of
    from songs.split import Splitter

    request.max_content_length = MOST_BYTES
    if (request.content_length or 0) > MOST_BYTES:
        raise TooMuchError(f"That is too much at once: {MOST_BYTES // 1000} kB at a time, please.")
    asked = request.form.get("list", "")
    if asked and asked not in set(EMOTIONS):
        abort(404, description=f"no list {asked[:40]!r}: choose one of {', '.join(EMOTIONS)}")
    listed = _services().catalog.playlist(Emotion(asked)).tracks if asked else ()
    pasted = songs_of(listed) if asked else read_songs(request.form.get("songs", ""), MOST_LINES)
    return (_services().splitter or Splitter()).split(pasted, look_up="lookup" in request.form)


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
    return described(reading.emotion, reading.confidence, reading.prediction)


# -- pictures that visitors send -------------------------------------------------------------------

LARGEST = 15 * 1024 * 1024  # bytes of a picture
FORM = 64 * 1024  # bytes of a form around it
LARGE_BYTES, LARGE_PIXELS = 512 * 1024, 2_000_000  # what is more than this is a photo and waits with photos
KINDS = ("image/jpeg", "image/png", "image/webp")


class Incoming(Request):
    """A request whose files stay in memory: no visitor's picture is written to a disk."""

    def _get_file_stream(self, *about: object, **more: object) -> IO[bytes]:
        return BytesIO()


def _read_picture(look: Callable[[Still], Seen]) -> tuple[Still, Seen]:
    """The picture in the request, and what `look` finds in it. What is wrong with it is an HTTPException."""
    from camera import decode_still, read_header

    limits: Limits = current_app.extensions["visage_limits"]
    with _refused_in_words(), ExitStack() as places:
        limits.count(request.remote_addr or "")
        large = _length() > LARGE_BYTES
        if large:
            places.enter_context(limits.photos.place())  # before it is in memory
        else:
            limits.frames.check()
        content = _content()
        slow = read_header(content).pixels > LARGE_PIXELS
        if not large:
            places.enter_context((limits.photos if slow else limits.frames).place())
        if slow:
            with limits.photos.turn():
                still = decode_still(content)
        with limits.frames.turn():
            still = still if slow else decode_still(content)
            return still, look(still)


@contextmanager
def _refused_in_words() -> Iterator[None]:
    """What is said of a picture, or that there is no place for it, as HTTP says it."""
    from camera import PictureError, PictureKindError, PictureTooLargeError

    try:
        yield
    except BusyError as error:
        raise TooManyRequests(str(error), retry_after=1) from None
    except PictureError as error:
        code = {PictureTooLargeError: 413, PictureKindError: 415}.get(type(error), 400)
        abort(code, description=str(error))


def _length() -> int:
    """Bytes that are to come; 411 and 413 without reading one."""
    if "Transfer-Encoding" in request.headers:
        abort(411, description="send the picture with its Content-Length")
    length = request.content_length or 0
    if length > LARGEST + (FORM if request.mimetype == "multipart/form-data" else 0):
        abort(413, description=f"the picture has more than {LARGEST // 2**20} MB: send a smaller copy")
    return length


def _content() -> bytes:
    """The picture's bytes, from the body or from a form's file."""
    try:
        if request.mimetype in KINDS:
            return request.get_data(cache=False)
        if request.mimetype == "multipart/form-data":
            sent = request.files.get("picture")
            if sent is None:
                abort(400, description="the form has no file called picture: choose one")
            return sent.read()
    except (OSError, ClientDisconnected):  # the time to wait for more is up
        abort(408, description="the picture did not come in time: try again")
    abort(415, description=f"send the picture as {', '.join(KINDS)}, or in a form")


def _looked_at() -> tuple[Still, Sequence[SeenFace], Reading | None]:
    """The picture in the request, its faces, and what the largest one shows; nothing is smoothed or kept."""
    from camera import SeenFace

    def look(still: Still) -> Sequence[SeenFace]:
        faces = _services().recognizer.recognize(still.frame)
        seen = [(face.box, face.prediction) for face in faces]
        return [SeenFace(box, Reading(p, 0.0, emotion=p.emotion, songs=p.emotion)) for box, p in seen]

    still, faces = _read_picture(look)
    return still, faces, faces[0].reading if faces else None


def _answer(still: Still, faces: Sequence[SeenFace], reading: Reading | None) -> dict[str, Any]:
    """What is seen in a picture, as JSON; boxes in pixels of the picture as it came."""
    from camera import SeenFace, seen_as_json

    faces = [SeenFace(face.box.scaled(still.scale), face.reading) for face in faces]
    return seen_as_json(faces, reading, (still.width, still.height))


def _photo_page(emotion: Emotion | None = None, told: str = "", photo: dict[str, Any] | None = None) -> str:
    songs = {"emotion": emotion, "chosen": False, "lifted": False, "old": False}
    playlist = _services().catalog.playlist(emotion) if emotion else None
    if playlist:
        songs["old"] = _is_old(playlist.fetched_at)
    return render_template(
        "photo.html", emotions=EMOTIONS, photo=photo, told=told, playlist=playlist, **songs, **_cameras()
    )


def _drawn(still: Still, faces: Sequence[SeenFace]) -> str:
    """The picture with its faces marked, as an address that holds it: it is kept nowhere else."""
    from camera import draw_still

    return f"data:image/jpeg;base64,{base64.b64encode(draw_still(still, faces)).decode()}"


# -- a visitor's reading, in the visitor's cookie --------------------------------------------------

READING = "visage_reading"
OLDEST = 60.0  # seconds, and so far may the clocks of two machines differ


def _unpacked(text: str | None) -> Followed:
    """What this site has signed a moment ago, or nothing yet; ValueError for anything else."""
    if text is None:
        return Followed()
    try:
        followed = Followed.unpacked(_signer().loads(text))
    except BadSignature as error:
        raise ValueError("not signed here") from error
    if followed.reading is None or abs(time.time() - followed.reading.at) > _oldest():
        raise ValueError("too old")
    return followed


def _oldest() -> float:
    """Seconds that a reading is good for; the browser forgets it in half of them."""
    return max(OLDEST, 2 * float(current_app.config["FORGET"]))


def _signer() -> URLSafeSerializer:
    made: URLSafeSerializer | None = current_app.extensions.get("visage_signer")
    if made is None:
        key = current_app.config["SECRET_KEY"] or signing_key(os.environ)
        made = URLSafeSerializer(key, salt=READING, signer_kwargs={"digest_method": hashlib.sha256})
        current_app.extensions["visage_signer"] = made
    return made


def signing_key(environment: Mapping[str, str]) -> str:
    """What cookies are signed with: made at the first start, and kept for the next. SettingsError if it was damaged."""
    folder = Path(environment.get("XDG_STATE_HOME") or "~/.local/state", "visage-fm")
    try:
        path = folder.expanduser() / "secret-key"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_key(path)
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        key = path.read_text(encoding="ascii").strip()
    except (OSError, RuntimeError) as error:  # no home, or nothing may be written there
        print(
            f"No key can be kept ({error}), so cookies are signed with one for this run only. "
            f"Set {PREFIX}SECRET_KEY, or XDG_STATE_HOME to a folder that can be written.",
            file=sys.stderr,
        )
        return secrets.token_urlsafe(48)
    except UnicodeDecodeError:
        key = ""
    if len(key) < 32:
        raise SettingsError(f"{path} holds no key: delete it, and the next start makes another")
    return key


def _make_key(path: Path) -> None:
    """A new key at `path`, whole from its first moment; another process's that was quicker stays."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
        path.hardlink_to(part)
    except FileExistsError:
        pass
    finally:
        part.unlink(missing_ok=True)


# -- who may see the site's own camera --------------------------------------------------------------

WATCHER = "visage_watcher"
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")


def _camera() -> Camera | SharedCamera:
    """The site's own camera, for who may see it; else 403 or 404, with what to do."""
    camera = _services().camera
    if camera is None:
        abort(404, description="this site has no camera of its own: use yours, or send a photo")
    if not _may_watch():
        how = f"open /?token=... with the {PREFIX}TOKEN that whoever runs it has set"
        if not current_app.config["TOKEN"]:
            how = f"whoever runs it can set a {PREFIX}TOKEN for those who may"
        abort(403, description=f"the camera of this site is not shown to everybody: {how}")
    return camera


def _may_watch() -> bool:
    """At the machine itself everybody may; from elsewhere, who has shown the token."""
    token = current_app.config["TOKEN"]
    shown = request.cookies.get(WATCHER, "")
    return _is_here() or bool(token and _same(shown, _ticket(token)))


def _is_here() -> bool:
    """Whether the request comes from the machine that the site runs on, and through no proxy that says so."""
    settings = current_app.config
    alone = settings["HOST"] in LOOPBACK and not settings["PROXIES"]
    return alone and _host_name() in LOOPBACK and not any(name in request.headers for name in FORWARDED)


def _let_in(token: str) -> Response:
    """A token in the address becomes a cookie, so that it stays in no history."""
    known = current_app.config["TOKEN"]
    if known and not _same(token, known):
        abort(403, description=f"that is not the {PREFIX}TOKEN of this site")
    response = cast("Response", redirect(url_for("index")))
    if known:
        # Lax, or a link in a letter would lead to a page that does not know its visitor yet.
        days, secure = timedelta(days=30), request.is_secure
        response.set_cookie(WATCHER, _ticket(known), days, httponly=True, samesite="Lax", secure=secure)
    return response


def _ticket(token: str) -> str:
    """What a browser keeps instead of the token."""
    return hmac.new(token.encode(), b"camera", hashlib.sha256).hexdigest()


def _same(one: str, other: str) -> bool:
    """Whether two texts are the same, in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _cameras() -> dict[str, bool]:
    """Which cameras a page can offer: the site's own, and whether the visitor's is the better first choice."""
    there = _services().camera is not None and _may_watch()
    return {"server_camera": there, "prefer_own": not there or _shows_the_demo()}


def _shows_the_demo() -> bool:
    from camera import has_device

    return bool(current_app.config["SOURCE"] == "auto") and not has_device()


def _seen_here() -> Emotion | None:
    """The mood that the site's own camera sees, for who may know."""
    camera = _services().camera
    reading = camera.snapshot.reading if camera and _may_watch() else None
    return reading.songs if reading else None


def _host_name() -> str:
    """The name in the address that the visitor has opened, without its port."""
    try:
        return (urlsplit(f"//{request.host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


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
    return (_page(told=refusal), 403) if refusal else redirect(url_for("index"))


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


MOST_WAITING = 6  # for Spotify at a time, so that one that hangs leaves the page its threads


def _in_line(view: Callable[[], ResponseReturnValue], places: BoundedSemaphore) -> Callable[[], ResponseReturnValue]:
    """The view, while there is a place to wait for Spotify."""

    @wraps(view)
    def waiting() -> ResponseReturnValue:
        if not places.acquire(blocking=False):
            abort(503, description="Spotify takes long to answer at the moment: try again in a while")
        try:
            return view()
        finally:
            places.release()

    return waiting


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


def _parts(snapshots: Iterator[Snapshot]) -> Iterator[bytes]:
    """Multipart framing. The boundary follows each picture: Chrome shows a part only once the next one begins."""
    yield f"--{BOUNDARY}\r\n".encode()
    for snapshot in snapshots:
        head = f"Content-Type: image/jpeg\r\nContent-Length: {len(snapshot.jpeg)}\r\n\r\n"
        yield head.encode() + snapshot.jpeg + f"\r\n--{BOUNDARY}\r\n".encode()


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


def serve(shared: str = "") -> Flask:
    """The website for gunicorn. What keeps it from starting is said in a line, and gunicorn stops."""
    from camera import warm_up
    from model.recognizer import WeightsError
    from songs.report import without_noise

    try:
        with without_noise(GREETING):
            app = create_app(shared=Path(shared) if shared else None)
            warm_up(app.extensions["visage"].recognizer)
            return app
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


GREETING = re.compile(rb".*XNNPACK delegate")  # LiteRT says which it has made, whatever it is told
BOOT_ERROR = 3  # the exit code on which gunicorn stops instead of trying again

if __name__ == "__main__":
    main()
