"""A visitor's reading, signed, in the visitor's own cookie."""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Response, current_app, request
from itsdangerous import BadSignature, URLSafeSerializer

from web.settings import PREFIX, SettingsError

if TYPE_CHECKING:
    from pictures.following import Followed

READING = "visage_reading"
OLDEST = 60.0  # seconds
AHEAD = 5.0  # seconds that the clock of another machine of this site may be ahead; else this one's was set back


def unpacked(text: str | None) -> Followed:
    """What this site has signed a moment ago, or nothing yet; ValueError for anything else."""
    from pictures.following import Followed

    if text is None:
        return Followed()
    try:
        followed = Followed.unpacked(_signer().loads(text))
    except BadSignature as error:
        raise ValueError("not signed here") from error
    age = time.time() - followed.reading.at if followed.reading else math.inf
    if abs(age) > _oldest():
        raise ValueError("too old")
    return followed if age > -AHEAD else Followed()


def keep(response: Response, now: Followed) -> None:
    """Have the visitor's browser keep the reading for a while, or forget it when there is none."""
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
