"""Who may see the site's own camera: everybody at the machine itself, and from elsewhere who has shown the token."""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from flask import Response, abort, current_app, redirect, request, url_for

from model.emotions import Emotion
from web.safety import LOOPBACK, host_name
from web.services import current_services
from web.settings import PREFIX

if TYPE_CHECKING:
    from camera import Camera
    from web.shared_camera import SharedCamera

WATCHER = "visage_watcher"
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")


def shown_camera() -> Camera | SharedCamera:
    """The site's own camera, for who may see it; else 403 or 404, with what to do."""
    camera = current_services().camera
    if camera is None:
        abort(404, description="this site has no camera of its own: use yours, or send a photo")
    if not _may_watch():
        how = f"open /?token=... with the {PREFIX}TOKEN that whoever runs it has set"
        if not current_app.config["TOKEN"]:
            how = f"whoever runs it can set a {PREFIX}TOKEN for those who may"
        abort(403, description=f"the camera of this site is not shown to everybody: {how}")
    return camera


def let_in(token: str) -> Response:
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


def cameras() -> dict[str, bool]:
    """Which cameras a page can offer: the site's own, and is it this computer's; is the visitor's the better choice?"""
    there = current_services().camera is not None and _may_watch()
    opened_here = host_name() in LOOPBACK
    return {"server_camera": there, "prefer_own": not there or _shows_the_demo(), "opened_here": opened_here}


def seen_here() -> Emotion | None:
    """The mood that the site's own camera sees, for who may know."""
    camera = current_services().camera
    reading = camera.snapshot.reading if camera and _may_watch() else None
    return reading.songs if reading else None


def _may_watch() -> bool:
    """At the machine itself everybody may; from elsewhere, who has shown the token."""
    token = current_app.config["TOKEN"]
    shown = request.cookies.get(WATCHER, "")
    return _is_here() or bool(token and _same(shown, _ticket(token)))


def _is_here() -> bool:
    """Whether the request comes from the machine that the site runs on, and through no proxy that says so."""
    settings = current_app.config
    alone = settings["HOST"] in LOOPBACK and not settings["PROXIES"]
    return alone and host_name() in LOOPBACK and not any(name in request.headers for name in FORWARDED)


def _ticket(token: str) -> str:
    """What a browser keeps instead of the token."""
    return hmac.new(token.encode(), b"camera", hashlib.sha256).hexdigest()


def _same(one: str, other: str) -> bool:
    """Whether two texts are the same, in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _shows_the_demo() -> bool:
    from pictures.sources import devices

    return bool(current_app.config["SOURCE"] == "auto") and not devices()
