"""People's own Spotify, where an app at Spotify is named: the login, and what it is used for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from flask import Flask, Response, abort, jsonify, redirect, request, url_for

from model.emotions import EMOTIONS, Emotion
from web.pages import listed, page
from web.safety import in_words
from web.services import current_services

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from songs.player import Listeners

COOKIE = "visage_listener"  # a secret that names a login; never a token
BEGUN = "visage_login"  # the secret of a login that Spotify has not answered yet
MOST_WAITING = 6  # for Spotify at a time, so that one that hangs leaves the page its threads
logger = logging.getLogger(__name__)


def add_routes(app: Flask) -> None:
    """The routes, for a site that has listeners."""
    from songs.player import PlayerError

    app.register_error_handler(PlayerError, in_words)
    places = BoundedSemaphore(MOST_WAITING)
    for route, (method, view) in ROUTES.items():
        app.add_url_rule(route, view_func=_in_line(view, places), methods=[method])


def own() -> Response:
    """Whether this browser is logged in, and what it must show to change something; with `?devices=1` its devices."""
    return jsonify(_listeners().state(_secret(), with_devices=request.args.get("devices") == "1"))


def own_login() -> ResponseReturnValue:
    """Off to Spotify's login, with a new secret in the browser beside the one it may have."""
    from songs.player import LOGIN_TAKES

    secret, there = _listeners().begin(url_for("own_answer", _external=True), _back())
    return _onward(there, BEGUN, secret, LOGIN_TAKES)


def own_answer() -> ResponseReturnValue:
    """Back from Spotify's login. Only a new one ends the one before."""
    from songs.player import LoginRefusedError
    from songs.spotify import LOGIN_LASTS

    secret = request.cookies.get(BEGUN, "")
    try:
        back = _listeners().finish(secret, request.args)
    except LoginRefusedError as refusal:
        return page(told=str(refusal)), 403
    _listeners().forget(_secret())
    response = _onward(back, COOKIE, secret, LOGIN_LASTS)
    response.delete_cookie(BEGUN, path="/spotify")
    return response


def own_play() -> Response:
    """Play songs on a device, or on the active one."""
    asked = _asked()
    return jsonify(_listeners().play(_secret(), asked.get("songs"), asked.get("device")))


def own_pause() -> Response:
    """Pause what plays there."""
    return jsonify(_listeners().pause(_secret(), _asked().get("device")))


def own_resume() -> Response:
    """Go on with it."""
    return jsonify(_listeners().resume(_secret(), _asked().get("device")))


def own_playing() -> Response:
    """Which song is on."""
    return jsonify(_listeners().playing(_secret()))


def own_save() -> Response:
    """Put the songs of a mood, or those that lift it, into a new playlist of the person's."""
    asked = _asked()
    if asked.get("emotion") not in EMOTIONS:
        abort(400, description="that is no mood")
    playlist = listed(Emotion(asked["emotion"]), lifted=asked.get("lifted") is True)
    return jsonify(_listeners().save(_secret(), playlist))


def own_logout() -> Response:
    """Delete this browser's token."""
    _asked()
    return jsonify(_listeners().forget(_secret()))


ROUTES: dict[str, tuple[str, Callable[[], ResponseReturnValue]]] = {
    "/spotify": ("GET", own),
    "/spotify/login": ("GET", own_login),
    "/spotify/callback": ("GET", own_answer),
    "/spotify/play": ("POST", own_play),
    "/spotify/pause": ("POST", own_pause),
    "/spotify/resume": ("POST", own_resume),
    "/spotify/playing": ("GET", own_playing),
    "/spotify/save": ("POST", own_save),
    "/spotify/logout": ("POST", own_logout),
}


def _in_line(view: Callable[[], ResponseReturnValue], places: BoundedSemaphore) -> Callable[[], ResponseReturnValue]:
    """The view, while there is a place to wait for Spotify, and for tokens on the disk."""
    from songs.player import PlayerError

    @wraps(view)
    def waiting() -> ResponseReturnValue:
        if not places.acquire(blocking=False):
            abort(503, description="Spotify takes long to answer at the moment: try again in a while")
        try:
            return view()
        except OSError as error:
            logger.warning("logins cannot be kept: %s: %s", error.filename, error.strerror)
            raise PlayerError("This site cannot keep a login at the moment: tell whoever runs it.", 503) from None
        finally:
            places.release()

    return waiting


def _listeners() -> Listeners:
    return cast("Listeners", current_services().listeners)  # these routes exist only with them


def _back() -> str:
    """The page of ours that a login begins on, with its mood and camera."""
    try:
        came = urlsplit(request.referrer or "")
    except ValueError:  # of no browser
        return url_for("index")
    ours = came.netloc == request.host and came.path in (url_for("index"), url_for("photo"))
    return came._replace(scheme="", netloc="").geturl() if ours else url_for("index")


def _secret() -> str:
    return request.cookies.get(COOKIE, "")


def _onward(there: str, name: str, secret: str, lasts: int) -> Response:
    """On to another page, with a secret in a cookie that lasts so many seconds."""
    response = cast("Response", redirect(there))
    # Lax, or the browser would come back from Spotify without it; the path keeps it from all other requests.
    response.set_cookie(name, secret, lasts, path="/spotify", httponly=True, samesite="Lax", secure=request.is_secure)
    return response


def _asked() -> dict[str, Any]:
    """What this site's own page asks to change; 403 if another one does."""
    _listeners().check(_secret(), request.headers.get("X-CSRF-Token", ""))
    given = request.get_json(silent=True)
    return given if isinstance(given, dict) else {}
