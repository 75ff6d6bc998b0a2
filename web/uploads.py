"""Pictures that visitors send: taken in or refused, each in its turn, and looked at. None is kept."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, TypeVar

from flask import Request, abort, current_app, request
from werkzeug.exceptions import ClientDisconnected, TooManyRequests

from model.emotions import Reading
from web.lanes import BusyError, Limits, household
from web.services import current_services

if TYPE_CHECKING:
    from pictures.following import SeenFace
    from pictures.stills import Still

LARGEST = 15 * 1024 * 1024  # bytes of a picture
FORM = 64 * 1024  # bytes of a form around it
LARGE_BYTES, LARGE_PIXELS = 512 * 1024, 2_000_000  # what is more than this is a photo and waits with photos
KINDS = ("image/jpeg", "image/png", "image/webp")
UNNAMED = ("", "application/octet-stream")  # sent where a picture's kind is not known
Seen = TypeVar("Seen")


class Incoming(Request):
    """A request whose files stay in memory: no visitor's picture is written to a disk."""

    def _get_file_stream(self, *about: object, **more: object) -> IO[bytes]:
        return BytesIO()


def read_picture(look: Callable[[Still], Seen]) -> tuple[Still, Seen]:
    """The picture in the request, and what `look` finds in it. What is wrong with it is an HTTPException."""
    from pictures.stills import decode_still, read_header

    limits: Limits = current_app.extensions["visage_limits"]
    with _refused_in_words(), ExitStack() as places:
        sender = household(request.remote_addr or "")
        limits.count(sender)
        large = _length() > LARGE_BYTES
        if large:
            places.enter_context(limits.photos.place(sender))  # before it is in memory
        else:
            limits.frames.check()
        content = _content()
        slow = read_header(content).pixels > LARGE_PIXELS
        if not large:
            places.enter_context((limits.photos if slow else limits.frames).place(sender))
        if slow:
            with limits.photos.turn():
                still = decode_still(content)
        with limits.frames.turn():
            still = still if slow else decode_still(content)
            return still, look(still)


def looked_at() -> tuple[Still, Sequence[SeenFace], Reading | None]:
    """The picture in the request, its faces, and what the largest one shows; nothing is smoothed or kept."""
    from pictures.following import seen_once

    def look(still: Still) -> Sequence[SeenFace]:
        return [seen_once(face) for face in current_services().recognizer.recognize(still.frame)]

    still, faces = read_picture(look)
    return still, faces, faces[0].reading if faces else None


def answer(still: Still, faces: Sequence[SeenFace], reading: Reading | None) -> dict[str, Any]:
    """What is seen in a picture, as JSON; boxes in pixels of the picture as it came."""
    from pictures.following import SeenFace, seen_as_json

    faces = [SeenFace(face.box.scaled(still.scale), face.reading) for face in faces]
    return seen_as_json(faces, reading, (still.width, still.height))


def drawn(still: Still, faces: Sequence[SeenFace]) -> str:
    """The picture with its faces marked, as an address that holds it: it is kept nowhere else."""
    from pictures.drawing import draw_still

    return f"data:image/jpeg;base64,{base64.b64encode(draw_still(still, faces)).decode()}"


@contextmanager
def _refused_in_words() -> Iterator[None]:
    """What is said of a picture, or that there is no place for it, as HTTP says it."""
    from pictures.stills import PictureError, PictureKindError, PictureTooLargeError

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
        if request.mimetype.startswith("image/") or request.mimetype in UNNAMED:  # its bytes say what it is
            return request.get_data(cache=False)
        if request.mimetype == "multipart/form-data":
            sent = request.files.get("picture")
            if sent is None:
                abort(400, description="the form has no file called picture: choose one")
            return sent.read()
    except (OSError, ClientDisconnected):  # the time to wait for more is up
        abort(408, description="the picture did not come in time: try again")
    abort(415, description=f"send the picture as {', '.join(KINDS)}, or in a form")
