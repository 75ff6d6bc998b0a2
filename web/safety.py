"""What holds for every request: who may ask, what a browser must not do with the answer, how a refusal is said."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from web.settings import PREFIX

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def protect(app: Flask) -> None:
    """Answer to the site's own names and pages alone, safely, and in words."""
    app.before_request(_refuse_other_names)
    app.before_request(_refuse_other_sites)
    app.after_request(_secured)
    app.register_error_handler(HTTPException, in_words)


def _refuse_other_names() -> None:
    """Answer to the loopback names and those in VISAGE_NAMES; elsewhere without these to any address and this machine.

    A name that somebody points at this machine is a way into it from their page; an address is not.
    """
    config, name = current_app.config, host_name()
    names = {given.strip() for given in config["NAMES"].lower().split(",")} - {""}
    if names or config["HOST"] in LOOPBACK:
        known = name in LOOPBACK | names
    else:
        here = socket.gethostname().lower()
        short = here.partition(".")[0]
        known = _is_address(name) or name in ("localhost", here, short, f"{short}.local")
    if not known:
        abort(400, description=f"this site does not go by that name: {PREFIX}NAMES says which it goes by")


def _refuse_other_sites() -> None:
    """A page elsewhere may link here, but neither start this camera, nor embed what it shows, nor send pictures.

    Elsewhere is another port of this machine too, which browsers call the same site.
    """
    elsewhere = request.headers.get("Sec-Fetch-Site", _site_by_origin()) in ("cross-site", "same-site")
    linked = request.endpoint in ("index", "photo", "split", "own_answer") and request.method in ("GET", "HEAD")
    if elsewhere and not linked and request.endpoint:  # what is nowhere is said to be
        abort(403, description="only this site's own page may ask for this")


def _site_by_origin() -> str:
    """The same as far as a POST's Origin says it: over plain http from elsewhere browsers say no more."""
    origin = request.headers.get("Origin")
    if request.method != "POST" or origin is None or origin.partition("://")[2] == request.host:
        return "same-origin"
    return "cross-site"


def _secured(response: Response) -> Response:
    """No third-party script runs, only the player is framed, nothing frames the page, nothing live is cached."""
    response.headers.setdefault(
        "Content-Security-Policy",
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        f"frame-src {current_app.config['EMBED']}; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    )
    response.headers["Permissions-Policy"] = "camera=(self), microphone=(), geolocation=()"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"  # with no-referrer our own forms would come from Origin: null
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response


def in_words(error: Exception) -> ResponseReturnValue:
    """Any refusal as JSON, or as a page where somebody opened an address, and what it says in the headers."""
    told = sentence(error)
    answer = render_template("refusal.html", told=told) if _is_opened() else jsonify(error=told)
    return answer, getattr(error, "code", None) or 500, headers_of(error)


def _is_opened() -> bool:
    """Whether a person waits for a page. A script of ours asks for a part of one as text/html, too."""
    kinds = request.accept_mimetypes
    wanted = kinds["text/html"] > kinds["application/json"]
    return wanted and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"


def headers_of(error: Exception) -> list[tuple[str, str]]:
    """When to come back, which methods there are: what a refusal says beside its sentence."""
    headers = error.get_headers() if isinstance(error, HTTPException) else []
    return [(name, value) for name, value in headers if name not in ("Content-Type", "Content-Length")]


def sentence(error: Exception) -> str:
    """The error as a sentence. What went wrong inside is for the log alone."""
    words = getattr(error, "description", None) or str(error)
    if getattr(error, "code", 500) == 500:
        words = "something went wrong on this site's side, and its log says what: try again"
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith(('.', '?')) else '.'}"


def host_name() -> str:
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
