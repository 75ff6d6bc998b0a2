"""Single pictures, as somebody sends or keeps them: what their first bytes say, and their pixels."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

import pictures
from model.faces import Frame
from pictures.sources import SourceError

LONGEST_SIDE = 20_000  # pixels
MOST_SEGMENTS = 2000  # of a JPEG before its first scan, and after it; a camera's has some tens
MOST_SCANS = 100  # of a progressive JPEG: each goes over the whole picture, and a few bytes make one
AMPLE = 1600  # pixels of the longer side that are enough to find the faces of a photo and to read them
MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")  # in a scan 00 or a restart follows FF
OTHER_KINDS = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"ftyp": "HEIC, AVIF or a film",
}


class PictureError(SourceError):
    """These bytes are no picture that can be read; the message says why and what to do."""


class PictureTooLargeError(PictureError):
    """A picture of more pixels than are read."""


class PictureKindError(PictureError):
    """A picture, but of a kind that is not taken."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of a picture say: its kind, and its size in pixels as stored."""

    kind: Literal["JPEG", "PNG", "WebP"]
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Still:
    """One picture, upright. `frame` may be a smaller copy of the `width` x `height` pixels that came."""

    frame: Frame
    width: int
    height: int

    @property
    def scale(self) -> float:
        """Pixels of the picture as it came for each of the frame's."""
        return self.width / self.frame.shape[1]


def read_header(content: bytes) -> Header:
    """The header of a JPEG, PNG or WebP picture that is whole and not too large; nothing is decoded for it.

    Raises PictureError.
    """
    if not content:
        raise PictureError("the picture is empty: choose another one")
    try:
        header = _header(content)
    except (struct.error, IndexError):
        raise PictureError(CUT_OFF) from None
    if header.pixels > pictures.MOST_PIXELS or max(header.width, header.height) > LONGEST_SIDE:
        raise PictureTooLargeError(
            f"the picture has {header.width} x {header.height} pixels: it may have "
            f"{pictures.MOST_PIXELS // 1_000_000} million, and {LONGEST_SIDE} on a side; send a smaller copy"
        )
    if not header.pixels:
        raise PictureError("the picture has no pixels: choose another one")
    return header


CUT_OFF = "the picture is cut off or damaged: send it again, or choose another one"


def _header(content: bytes) -> Header:
    if content.startswith(b"\xff\xd8\xff"):
        return _jpeg_header(content)
    if content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR":
        if b"IEND" not in content[-64:] and b"IEND" not in content:
            raise PictureError(CUT_OFF)
        return Header("PNG", *struct.unpack(">II", content[16:24]))
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _webp_header(content)
    start = content[:64].lstrip()
    for mark, kind in OTHER_KINDS.items():
        if start.startswith(mark) or (mark == b"ftyp" and content[4:8] == mark):
            raise PictureKindError(f"the picture is {kind}: send it as JPEG, PNG or WebP")
    raise PictureError("this is no picture that can be read: send a JPEG, PNG or WebP")


def _jpeg_header(content: bytes) -> Header:
    """By ITU T.81, B.1: segments, each a marker and its length, up to the first scan."""
    at, size = 2, None
    for _ in range(MOST_SEGMENTS):
        marker = content[at + 1]
        if content[at] != 0xFF or marker == 0xDA:  # start of scan
            break
        (length,) = struct.unpack(">H", content[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and size is None:
            size = struct.unpack(">HH", content[at + 5 : at + 9])
        at += 1 if marker == 0xFF else 2 if marker == 0x01 or 0xD0 <= marker <= 0xD7 else 2 + max(length, 2)
    if size is None or content[at : at + 2] != b"\xff\xda":
        raise PictureError(CUT_OFF)
    _check_scans(content, at)
    return Header("JPEG", size[1], size[0])


def _check_scans(content: bytes, at: int) -> None:
    """Walk from a JPEG's first scan to its end: a phone appends a film to it. Raises PictureError."""
    scans = 0
    for _ in range(MOST_SEGMENTS):
        found = MARKER.search(content, at)
        if found is None:
            raise PictureError(CUT_OFF)
        marker, at = found[0][1], found.end()
        if marker == 0xD9:  # end of image
            return
        scans += marker == 0xDA
        if scans > MOST_SCANS:
            break
        (length,) = struct.unpack(">H", content[at : at + 2])
        at += max(length, 2)
    raise PictureTooLargeError("the JPEG has more scans than a camera makes: save it anew, and send that")


def _webp_header(content: bytes) -> Header:
    """By RFC 9649: a canvas's size in the extended form, else the only picture's."""
    if struct.unpack("<I", content[4:8])[0] + 8 > len(content) + 1:
        raise PictureError(CUT_OFF)
    form, body = content[12:16], content[20:]
    if form == b"VP8X":
        return Header("WebP", *(1 + int.from_bytes(body[i : i + 3], "little") for i in (4, 7)))
    if form == b"VP8L":
        (bits,) = struct.unpack("<I", body[1:5])
        return Header("WebP", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if form == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", body[6:10])
        return Header("WebP", width & 0x3FFF, height & 0x3FFF)
    raise PictureError(CUT_OFF)


def decode_image(content: bytes) -> Frame:
    """A JPEG, PNG or WebP picture, upright; of one that moves, the first. Raises PictureError."""
    return _decoded(content, read_header(content), 1)


def decode_still(content: bytes) -> Still:
    """The same for faces to be found in: a copy with AMPLE pixels or more on its longer side. Raises PictureError."""
    header = read_header(content)
    longest, shortest = max(header.width, header.height), min(header.width, header.height)
    shrink = max(factor for factor in REDUCED if factor == 1 or (longest >= factor * AMPLE and shortest >= factor))
    frame = _decoded(content, header, shrink)
    height, width = frame.shape[:2]
    turned = width != height and (width > height) != (header.width > header.height) and header.width != header.height
    return Still(frame, *((header.height, header.width) if turned else (header.width, header.height)))


def _decoded(content: bytes, header: Header, shrink: int) -> Frame:
    try:
        frame = cv2.imdecode(np.frombuffer(content, np.uint8), REDUCED[shrink])
    except cv2.error:
        frame = None
    if frame is None:
        raise PictureError(f"the {header.kind} picture is damaged: send it again, or choose another one")
    return frame


# Of a JPEG, a half of each side takes a tenth of the time.
REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
