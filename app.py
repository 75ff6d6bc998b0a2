"""The website: the application, its routes and the stream's framing. HTTP and nothing else.

`python app.py` runs it; `app:serve()` is what a WSGI server loads.
"""

from __future__ import annotations

import errno
import logging
import mimetypes
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, current_app, jsonify, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

import pictures  # noqa: F401 - first, or OpenCV is loaded without its settings
from model.emotions import EMOTIONS, Reading, described
from web import own_spotify
from web.access import let_in, shown_camera
from web.lanes import Limits
from web.pages import at_hand, page, photo_page, song_table, split_songs
from web.readings import READING, keep, unpacked
from web.safety import headers_of, protect, sentence
from web.services import Services, current_services, make_services
from web.settings import ROOT, SettingsError, check_settings, checked, environment, settings_from, smoothing
from web.uploads import FORM, LARGEST, Incoming, answer, drawn, looked_at, read_picture

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from camera import Snapshot
    from pictures.following import Followed, SeenFace
    from pictures.stills import Still
    from songs.catalog import Playlist

BOUNDARY = "frame"
STREAM = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
GREETING = re.compile(rb".*XNNPACK delegate")  # LiteRT says which it has made, whatever it is told
BOOT_ERROR = 3  # the exit code on which gunicorn stops instead of trying again


# -- the application -----------------------------------------------------------------------------


def create_app(
    config: Mapping[str, Any] | None = None, services: Services | None = None, shared: Path | None = None
) -> Flask:
    """The website. `config` overrides the environment's settings; a test may pass its own services.

    `shared` is the folder in which several processes that serve one site find each other.
    """
    mimetypes.add_type("text/javascript", ".js")  # Windows may say text/plain, and no browser runs that
    app = Flask(__name__)
    app.request_class = Incoming
    given = environment()
    app.config.from_mapping(settings_from(given))
    app.config.from_mapping(checked(config or {}))
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["visage"] = services or make_services(app.config, given, shared)
    app.extensions["visage_limits"] = Limits(app.config["RATE"])
    app.config["MAX_CONTENT_LENGTH"] = LARGEST + FORM
    if proxies := app.config["PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, proxies, proxies, proxies)  # type: ignore[method-assign]
    protect(app)
    for route, (methods, view) in ROUTES.items():
        app.add_url_rule(route, view_func=view, methods=methods.split())
    if app.extensions["visage"].listeners:
        own_spotify.add_routes(app)
    return app


# -- routes --------------------------------------------------------------------------------------


def index() -> ResponseReturnValue:
    """The page, with the songs in it, so that it serves with JavaScript off."""
    if "token" in request.args:
        return let_in(request.args["token"])
    return page(told="")


def video_feed() -> Response:
    """The live picture with its boxes and labels, as MJPEG."""
    from camera import TooManyViewersError

    if request.method == "HEAD":  # who asks whether it is there does not want the camera on
        shown_camera()
        return Response(content_type=STREAM)
    try:
        viewer = shown_camera().watch()
    except TooManyViewersError as error:
        return Response(f"{error}\n", 503, {"Retry-After": "10"}, content_type="text/plain")
    response = Response(_parts(iter(viewer)), content_type=STREAM)
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(viewer.close)
    return response


def songs() -> Response | str:
    """The song table for the reading, or for `?emotion=`; a fragment of the page, or JSON."""
    table = song_table()
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
        done = split_songs() if request.method == "POST" else None
    except SplitError as error:
        told, code = str(error), error.code
    if done and request.form.get("format") == "csv":
        return Response(
            as_csv(done), headers={"Content-Disposition": "attachment; filename=split.csv"}, mimetype="text/csv"
        )
    given = request.form if code != 413 else {}
    return render_template("split.html", emotions=EMOTIONS, split=done, told=told, given=given, **at_hand()), code


def state() -> Response:
    """What the camera last saw, as JSON."""
    snapshot = shown_camera().snapshot
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
    shown_camera().release_soon()
    return "", 204


def healthz() -> tuple[Response, int]:
    """200 when songs can be served."""
    counts = {emotion: len(current_services().catalog.playlist(emotion).tracks) for emotion in EMOTIONS}
    return jsonify(songs=counts), 200 if any(counts.values()) else 503


def recognize() -> Response:
    """The faces in a picture, and the visitor's reading, which travels in a cookie. `?still=1`: this picture alone."""
    if request.args.get("still") == "1":
        return jsonify(answer(*looked_at()))
    try:
        last = unpacked(request.cookies.get(READING))
    except ValueError:
        response = jsonify(error="That reading was not this site's, or is too old: the next picture starts a new one.")
        response.status_code = 400
        response.delete_cookie(READING, path="/recognize")
        return response
    from pictures.following import follow

    def look(still: Still) -> tuple[Sequence[SeenFace], Followed]:
        return follow(current_services().recognizer, still.frame, last, time.time(), smoothing(current_app.config))

    still, (faces, now) = read_picture(look)
    response = jsonify(answer(still, faces, now.reading))
    keep(response, now)
    return response


def photo() -> ResponseReturnValue:
    """The page for photos; with JavaScript off, a form that answers with the photo's faces on them."""
    if request.method != "POST":
        return photo_page()
    try:
        still, faces, reading = looked_at()
    except HTTPException as error:
        return photo_page(told=sentence(error)), error.code or 500, headers_of(error)
    told = "" if faces else "No face was found in this photo."
    shown = {"src": drawn(still, faces), **answer(still, faces, reading)}
    return photo_page(reading.songs if reading else None, told, shown)


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


def _reading(reading: Reading | None) -> dict[str, Any] | None:
    """The reading as JSON; null until a mood has settled."""
    if reading is None or reading.emotion is None:
        return None
    return described(reading.emotion, reading.confidence, reading.prediction)


def _parts(snapshots: Iterator[Snapshot]) -> Iterator[bytes]:
    """Multipart framing. The boundary follows each picture: Chrome shows a part only once the next one begins."""
    yield f"--{BOUNDARY}\r\n".encode()
    for snapshot in snapshots:
        head = f"Content-Type: image/jpeg\r\nContent-Length: {len(snapshot.jpeg)}\r\n\r\n"
        yield head.encode() + snapshot.jpeg + f"\r\n--{BOUNDARY}\r\n".encode()


# -- running it ----------------------------------------------------------------------------------


def check_port(host: str, port: int) -> None:
    """SystemExit if another program listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            other = port + 1 if port < 65535 else 5001
            remedy = f"VISAGE_HOST={host} is no address of this computer"
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                remedy = f"If another program has the port, choose one: VISAGE_PORT={other}"
            said = error.strerror or error
            raise SystemExit(f"Visage FM cannot start at {host}:{port}: {said}. {remedy}") from None


def serve(shared: str = "") -> Flask:
    """The website for gunicorn. What keeps it from starting is said in a line, and gunicorn stops."""
    from model.recognizer import WeightsError
    from pictures.following import warm_up
    from terminal.stdio import without_noise

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
    settings = check_settings()
    check_port(settings["HOST"], settings["PORT"])
    if sys.platform != "win32":
        os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py")])
    logging.basicConfig(level=logging.WARNING)
    serve().run(settings["HOST"], settings["PORT"], threaded=True)


if __name__ == "__main__":
    main()
