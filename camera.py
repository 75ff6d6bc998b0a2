"""Pictures in, pictures out: what a source shows, what was read on it, and who is watching.

Three threads a running Camera, each with one job: `capture` keeps the newest frame and drops the
rest, `recognize` reads faces at its own rate, `publish` draws, encodes each frame once and wakes
the viewers. They meet under one Condition and start and stop together, as one _Run.

`python camera.py SOURCE` watches a source at the terminal.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import struct
import sys
import textwrap
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from threading import Condition, Event, Lock, Thread
from types import TracebackType
from typing import IO, Any, ClassVar, Literal, Protocol
from urllib.parse import urlsplit

# macOS: OpenCV asks for permission on the main thread only; the system itself asks when the camera opens.
os.environ.setdefault("OPENCV_AVFOUNDATION_SKIP_AUTH", "1")
# What read_header did not see through ends here.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(50_000_000))

import cv2
import numpy as np

from model.demo import demo_frame
from model.emotions import Reading, Smoothing, blend, described, read
from model.faces import Box, Face, Frame, main_face
from model.recognizer import Recognizer
from model.visitors import Followed, Place

logger = logging.getLogger(__name__)
# A camera that is not there is reported by us, in words, once.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

Status = Literal["starting", "live", "idle", "error"]
OpenFrames = Callable[[str], Iterator[Frame]]

WIDTH, HEIGHT, FPS = 640, 480, 30
JPEG_QUALITY = 80
READ_TIMEOUT = 3.0  # seconds without a picture before a source counts as lost
BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each retry of a lost source
PERMISSION = " May this terminal use it (System Settings, Privacy, Camera)?" if sys.platform == "darwin" else ""
WIDEST = 1280  # pixels: larger frames are shrunk, for the readers' sake and the network's
INK, PAPER = (38, 30, 28), (245, 247, 250)


class SourceError(Exception):
    """A source cannot be opened or has stopped; the message says which and what to do."""


# -- pictures in ---------------------------------------------------------------------------------


def frames(source: str) -> Iterator[Frame]:
    """The pictures of a source, for ever, at its own pace; raises SourceError when there are none.

    `source` is "demo", a device number or /dev path, a file (played in a loop), or an http(s) or rtsp URL.
    A device is shown as in a mirror.
    """
    if source == "demo":
        return _demo_frames()
    if is_device(source):
        return _device_frames(source)
    if is_url(source):
        return _url_frames(source)
    return _file_frames(Path(source).expanduser())


@dataclass(frozen=True, slots=True)
class Showing:
    """A source to be seen once. `rate` is a film's frames a second, `length` its frames; 0 where there is none."""

    frames: Iterator[Frame]
    rate: float = 0.0
    length: int = 0


def shown_once(source: str) -> Showing:
    """Every picture of a film once, as fast as it can be read; what is live as in `frames`. Raises SourceError."""
    if source == "demo" or is_device(source):
        return Showing(frames(source))
    capture, lost = _url_capture(source) if is_url(source) else _file_capture(Path(source).expanduser())
    rate, length = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if is_url(source) and length <= 0:
        return Showing(_read_until_lost(capture, lost))
    if not 0.1 <= rate <= 240:  # browsers record with a clock of milliseconds in place of a rate
        rate, length = FPS, 0
    return Showing(_read_to_the_end(capture, public_name(source), rate, length), rate, max(0, length))


def is_device(source: str) -> bool:
    """Whether a source names a camera of this machine."""
    return source.isdecimal() or source.startswith("/dev/")


def is_url(source: str) -> bool:
    """Whether a source names a camera or a film elsewhere."""
    return source.lower().startswith(("http://", "https://", "rtsp://", "rtsps://"))


def has_device() -> bool:
    """Whether this machine may have a camera; for certain only on Linux, where devices are files."""
    return sys.platform != "linux" or any(Path("/dev").glob("video*"))


def public_name(source: str) -> str:
    """The source as anybody may see it: a URL without its user, password and query."""
    if not is_url(source):
        return source
    try:
        parts = urlsplit(source)
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _demo_frames() -> Iterator[Frame]:
    start = time.monotonic()
    for tick in _ticks(FPS):
        yield demo_frame(tick - start)


def _device_frames(device: str) -> Iterator[Frame]:
    # Windows' other backend, Media Foundation, takes up to 20 s to open a camera.
    backend = {"linux": cv2.CAP_V4L2, "darwin": cv2.CAP_AVFOUNDATION, "win32": cv2.CAP_DSHOW}.get(sys.platform, 0)
    lost = (
        f"no camera at {device}: is it plugged in, and free?{PERMISSION} "
        "Try another number, a video file or VISAGE_SOURCE=demo"
    )
    capture = _opened(int(device) if device.isdecimal() else device, lost, backend)
    # Most webcams send raw pictures by default, too slowly for 30 a second; MJPG is not.
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    for setting, value in ((cv2.CAP_PROP_FRAME_WIDTH, WIDTH), (cv2.CAP_PROP_FRAME_HEIGHT, HEIGHT)):
        capture.set(setting, value)
    capture.set(cv2.CAP_PROP_FPS, FPS)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    for frame in _read_until_lost(capture, lost):
        yield cv2.flip(frame, 1)


def _url_frames(url: str) -> Iterator[Frame]:
    capture, lost = _url_capture(url)
    if capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:  # a film, which would come as fast as it can be read
        return _film_frames(capture, lost)
    return _read_until_lost(capture, lost)


def _url_capture(url: str) -> tuple[cv2.VideoCapture, str]:
    """What plays a URL, and what to say when it stops."""
    lost = f"no picture from {public_name(url)}: is the address right, and its server up?"
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(READ_TIMEOUT * 1000)]
    return _opened(url, lost, cv2.CAP_FFMPEG, limits), lost


def _file_frames(path: Path) -> Iterator[Frame]:
    return _film_frames(*_file_capture(path))


def _file_capture(path: Path) -> tuple[cv2.VideoCapture, str]:
    """What plays a file, and what to say when it does not."""
    if not path.is_file():
        raise SourceError(f"no file at {path}: check VISAGE_SOURCE, or use VISAGE_SOURCE=demo")
    unreadable = f"{path} does not play as a video: try an mp4, or VISAGE_SOURCE=demo"
    return _opened(str(path.absolute()), unreadable), unreadable  # a relative one with a colon looks like a URL


def _film_frames(capture: cv2.VideoCapture, unreadable: str) -> Iterator[Frame]:
    rate = capture.get(cv2.CAP_PROP_FPS)
    try:
        for _ in _ticks(rate if 1 <= rate <= 60 else FPS):
            more, frame = capture.read()
            if not more:
                capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                more, frame = capture.read()
            if not more:
                raise SourceError(unreadable)
            yield frame
    finally:
        capture.release()


def _read_to_the_end(capture: cv2.VideoCapture, name: str, rate: float, length: int) -> Iterator[Frame]:
    """Each frame once. Raises SourceError in the end if there were none, or far fewer than there should be."""
    count, last = 0, 0.0
    try:
        more, frame = capture.read()
        while more:
            count, last = count + 1, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield frame
            more, frame = capture.read()
    finally:
        capture.release()
    if not count:
        raise SourceError(f"{name} does not play as a video: try an mp4, or VISAGE_SOURCE=demo")
    # Some containers know only how long they last, so a varying rate makes the count wrong.
    if max(count, last * rate) < 0.9 * length:
        raise SourceError(f"{name} breaks off at {count / rate:.1f} of {length / rate:.1f} seconds: is it whole?")


def _opened(what: int | str, lost: str, backend: int = cv2.CAP_ANY, limits: Sequence[int] = ()) -> cv2.VideoCapture:
    try:
        capture = cv2.VideoCapture(what, backend, limits)
    except cv2.error:  # a device number that is none
        raise SourceError(lost) from None
    if not capture.isOpened():
        capture.release()
        raise SourceError(lost)
    return capture


def _read_until_lost(capture: cv2.VideoCapture, lost: str) -> Iterator[Frame]:
    """Frames as they come. A lost device stays "open", so loss is told by reads that keep failing."""
    last = time.monotonic()
    try:
        while time.monotonic() - last < READ_TIMEOUT:
            more, frame = capture.read()
            if more:
                last = time.monotonic()
                yield frame
            else:
                time.sleep(0.02)
        raise SourceError(lost)
    finally:
        capture.release()


def _ticks(rate: float) -> Iterator[float]:
    """The monotonic clock, `rate` times a second; a late reader skips what it missed."""
    due = time.monotonic()
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        yield due
        due = max(due + 1 / rate, time.monotonic() - 1 / rate)


# -- single pictures in --------------------------------------------------------------------------

MOST_PIXELS = 50_000_000
LONGEST_SIDE = 20_000  # pixels
MOST_SEGMENTS = 2000  # of a JPEG before its picture; a camera's has some tens
MOST_SCANS = 100  # of a progressive JPEG: each goes over the whole picture, and a few bytes make one
AMPLE = 1600  # pixels of the longer side that are enough to find the faces of a photo and to read them
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
    if header.pixels > MOST_PIXELS or max(header.width, header.height) > LONGEST_SIDE:
        raise PictureTooLargeError(
            f"the picture has {header.width} x {header.height} pixels: it may have {MOST_PIXELS // 1_000_000} million, "
            f"and {LONGEST_SIDE} on a side; send a smaller copy"
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
    if size is None or content[at : at + 2] != b"\xff\xda" or content.find(b"\xff\xd9", at) < 0:
        raise PictureError(CUT_OFF)
    if content.count(b"\xff\xda", at) > MOST_SCANS:
        raise PictureTooLargeError("the JPEG has more scans than a camera makes: save it anew, and send that")
    return Header("JPEG", size[1], size[0])


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
    longest = max(header.width, header.height)
    shrink = max(factor for factor in REDUCED if factor == 1 or longest >= factor * AMPLE)
    frame = _decoded(content, header, shrink)
    height, width = frame.shape[:2]
    turned = (width > height) != (header.width > header.height) and header.width != header.height
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


# -- pictures out --------------------------------------------------------------------------------


def encode_jpeg(frame: Frame, quality: int = JPEG_QUALITY) -> bytes:
    """The frame as a JPEG file."""
    done, content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of shape {frame.shape} cannot be encoded as JPEG")
    return content.tobytes()


def save_picture(frame: Frame, path: Path) -> None:
    """Make `path` (.jpg or .png) this picture, all at once or not at all. Raises OSError."""
    done, content = cv2.imencode(path.suffix, frame, [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not done:
        raise ValueError(f"a picture of shape {frame.shape} cannot be encoded as {path.suffix}")
    part = _beside(path)
    try:
        part.write_bytes(content.tobytes())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class Recording:
    """A film in the making, `rate` frames a second: at `path`, whole, after `keep`; without a trace after `drop`.

    Of what `path` ends in, one of CODECS. Its size is the first picture's. Used by one thread.
    """

    CODECS: ClassVar = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG", ".webm": "VP80"}

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate, self.frames = path, rate, 0
        self._part = _beside(path)
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def add(self, frame: Frame, at: float) -> None:
        """Show `frame` up to and at `at` seconds: repeated if it comes late, left out if early. Raises OSError."""
        if self._writer is None:
            self._size = frame.shape[1], frame.shape[0]
            codec = cv2.VideoWriter.fourcc(*self.CODECS[self.path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._part.absolute()), cv2.CAP_FFMPEG, codec, self.rate, self._size)
            if not self._writer.isOpened():
                raise OSError(0, "no film can be written there", str(self.path))
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        for _ in range(round(at * self.rate) + 1 - self.frames):
            self._writer.write(frame)
            self.frames += 1

    def keep(self) -> None:
        """Finish the film and move it to its place. Raises OSError; then nothing has changed there."""
        try:
            if self._writer:
                self._writer.release()
                self._check()
                self._part.replace(self.path)
        finally:
            self.drop()

    def drop(self) -> None:
        """Leave no trace of what is not kept."""
        if self._writer:
            self._writer.release()
        self._part.unlink(missing_ok=True)

    def _check(self) -> None:
        # OpenCV does not say when a picture could not be written, and the count may be right all the same.
        written = cv2.VideoCapture(str(self._part.absolute()), cv2.CAP_FFMPEG)
        written.set(cv2.CAP_PROP_POS_FRAMES, self.frames - 1)
        last = written.grab() and written.get(cv2.CAP_PROP_POS_MSEC) / 1000
        written.release()
        if last is False or last < (self.frames - 2) / self.rate:
            raise OSError(0, "the film could not be written whole: is the disk full?", str(self.path))


def _beside(path: Path) -> Path:
    """A name in the same folder, and of the same kind, for what is not finished."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")


def annotate(frame: Frame, faces: Sequence[SeenFace]) -> Frame:
    """A copy of the frame with a box and a label on every face."""
    picture = frame.copy()
    thickness = max(2, frame.shape[0] // 240)
    for face in faces:
        x, y, width, height = face.box
        cv2.rectangle(picture, (x, y), (x + width, y + height), PAPER, thickness, cv2.LINE_AA)
        _label(picture, f"{face.emotion} {face.confidence:.0%}", x, y)
    return picture


def draw_still(still: Still, faces: Sequence[SeenFace]) -> bytes:
    """A still with its faces marked, no larger than WIDEST, as a JPEG file; boxes in pixels of its frame."""
    picture = _fitted(still.frame)
    scale = picture.shape[1] / still.frame.shape[1]
    return encode_jpeg(annotate(picture, [replace(face, box=face.box.scaled(scale)) for face in faces]))


def message_picture(title: str, message: str) -> Frame:
    """A plain picture that says what is wrong."""
    picture = np.full((HEIGHT, WIDTH, 3), INK, np.uint8)
    cv2.putText(picture, _ascii(title), (40, 190), cv2.FONT_HERSHEY_DUPLEX, 0.9, PAPER, 1, cv2.LINE_AA)
    for row, line in enumerate(textwrap.wrap(_ascii(message), 54)[:7]):
        cv2.putText(picture, line, (40, 235 + 28 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.6, PAPER, 1, cv2.LINE_AA)
    return picture


def _label(picture: Frame, text: str, x: int, y: int) -> None:
    scale = max(0.5, picture.shape[0] / 900)
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, 1)
    top = y - height - below - 10
    top = top if top >= 0 else y
    left = max(0, min(x, picture.shape[1] - width - 14))
    cv2.rectangle(picture, (left, top), (left + width + 14, top + height + below + 10), INK, cv2.FILLED)
    cv2.putText(picture, text, (left + 7, top + height + 6), cv2.FONT_HERSHEY_DUPLEX, scale, PAPER, 1, cv2.LINE_AA)


def _ascii(text: str) -> str:
    """OpenCV's fonts draw ASCII alone."""
    return text.encode("ascii", "replace").decode()


# -- faces over time -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SeenFace:
    """A face as the picture labels it: its box and its own smoothed mood."""

    box: Box
    reading: Reading

    @property
    def emotion(self) -> str:
        return self.reading.emotion or self.reading.prediction.emotion

    @property
    def confidence(self) -> float:
        return self.reading.confidence


def seen_as_json(faces: Sequence[SeenFace], reading: Reading | None, size: tuple[int, int]) -> dict[str, Any]:
    """What is seen in a picture of `size`, its width and height, as JSON: for the site and for the command line."""
    answer: dict[str, Any] = {
        "faces": [
            {"box": list(face.box), **described(face.emotion, face.confidence, face.reading.prediction)}
            for face in faces
        ],
        "reading": None,
        "image": {"width": size[0], "height": size[1]},
    }
    if reading and reading.emotion:
        mood = described(reading.emotion, reading.confidence, reading.prediction)
        answer["reading"] = {**mood, "songs": reading.songs}
    if len(faces) > 1:
        room = blend([face.reading.prediction for face in faces])
        answer["room"] = described(room.emotion, room.confidence, room)
    return answer


class Follower:
    """Folds the faces of one frame after another into a reading each, and one for the chosen face.

    The chosen face is the largest until it is gone. Used by one thread.
    """

    def __init__(self, rules: Smoothing) -> None:
        self._rules = rules
        self._chosen: Box | None = None
        self.reading: Reading | None = None
        self.faces: tuple[SeenFace, ...] = ()

    def follow(self, faces: Sequence[Face], at: float) -> None:
        """Take in the faces of the frame taken at the clock time `at` (seconds)."""
        chosen = main_face(faces, self._chosen)
        seen = chosen.prediction if chosen else None
        self.reading = read(self.reading, seen, at, self._rules)
        if chosen or self.reading is None:
            self._chosen = chosen.box if chosen else None
        self.faces = tuple(self._seen(face, face is chosen, at) for face in faces)

    def _seen(self, face: Face, chosen: bool, at: float) -> SeenFace:
        if chosen and self.reading:
            return SeenFace(face.box, self.reading)
        last = max(self.faces, key=lambda known: known.box.overlap(face.box), default=None)
        before = last.reading if last and last.box.overlap(face.box) > 0.3 else None
        return SeenFace(face.box, read(before, face.prediction, at, self._rules) or Reading(face.prediction, at))


LOOK_EVERY = 10  # frames of a visitor's from one look at the whole picture to the next
MOST_NEAR = 4  # faces that are looked for where they were; of more, all are looked for everywhere


def follow(
    recognizer: Recognizer, frame: Frame, last: Followed, at: float, rules: Smoothing
) -> tuple[tuple[SeenFace, ...], Followed]:
    """The faces in a visitor's next frame, taken at the clock time `at` (seconds), and what to keep for the one after.

    As Follower does, but for a value: the chosen face has the smoothed reading, the others what this frame says.
    """
    size = frame.shape[1], frame.shape[0]
    at = max(at, last.reading.at) if last.reading else at  # another machine's clock may be ahead
    scan = last.since + 1 >= LOOK_EVERY
    faces = recognizer.for_films().recognize(frame, () if scan else [_box_at(place, size) for place in last.near])
    chosen = main_face(faces, _box_at(last.chosen, size) if last.chosen else None)
    reading = read(last.reading, chosen.prediction if chosen else None, at, rules)
    seen = tuple(
        SeenFace(face.box, reading if face is chosen and reading else Reading(face.prediction, at)) for face in faces
    )
    place = _place_of(chosen.box, size) if chosen else last.chosen if reading else None
    near = tuple(_place_of(face.box, size) for face in faces) if len(faces) <= MOST_NEAR else ()
    return seen, Followed(reading, place, near, 0 if scan or not last.near else last.since + 1)


def warm_up(recognizer: Recognizer) -> None:
    """Read a picture of a visitor's size, so that the first visitor does not wait for what is made at first use."""
    frame = cv2.resize(demo_frame(3.0), (320, 240), interpolation=cv2.INTER_AREA)
    recognizer.recognize(frame, [face.box for face in recognizer.recognize(frame)])


def _box_at(place: Place, size: tuple[int, int]) -> Box:
    x, y, width, height = place
    return Box(round(x * size[0]), round(y * size[1]), round(width * size[0]), round(height * size[1]))


def _place_of(box: Box, size: tuple[int, int]) -> Place:
    return box.x / size[0], box.y / size[1], box.width / size[0], box.height / size[1]


# -- the camera ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the camera last saw; immutable. `taken_at` is the monotonic clock, in seconds."""

    sequence: int
    taken_at: float
    jpeg: bytes
    status: Status
    source: str
    message: str = ""
    faces: tuple[SeenFace, ...] = ()
    reading: Reading | None = None
    fps: float = 0.0


class TooManyViewersError(Exception):
    """As many people as allowed are watching."""


class Camera:
    """One source, watched by many: runs while somebody watches, and `idle_seconds` longer.

    `_condition` guards everything that changes here; each _Run's threads publish through it.
    """

    def __init__(
        self,
        source: str,
        recognizer: Recognizer,
        rules: Smoothing | None = None,
        idle_seconds: float = 10.0,
        max_viewers: int = 24,
        open_frames: OpenFrames = frames,
    ) -> None:
        self.source, self.recognizer, self.rules = source, recognizer, rules or Smoothing()
        self.idle_seconds, self.max_viewers, self.open_frames = idle_seconds, max_viewers, open_frames
        self._condition = Condition()
        self._viewers: set[Viewer] = set()
        self._grace = idle_seconds
        self._last_left = 0.0
        self._run: _Run | None = None
        self._last_run: _Run | None = None
        self._snapshot = self._idle()
        self._closed = False

    @property
    def snapshot(self) -> Snapshot:
        """The newest Snapshot; status "idle" while nobody watches."""
        with self._condition:
            return self._snapshot

    def watch(self) -> Viewer:
        """A new viewer, who starts the camera if it sleeps. Raises TooManyViewersError past the cap."""
        with self._condition:
            if len(self._viewers) >= self.max_viewers:
                raise TooManyViewersError(f"{self.max_viewers} people are watching: close a tab, or try again later")
            self._grace = self.idle_seconds
            if (self._run is None or self._run.broken) and not self._closed:
                self._publish(Snapshot(0, 0.0, _starting_picture(), "starting", public_name(self.source)))
                self._run = self._last_run = _Run(self, after=self._last_run)
            viewer = Viewer(self)
            self._viewers.add(viewer)
            return viewer

    def release_soon(self) -> None:
        """Release the device as soon as nobody watches, without the usual wait (somebody pressed pause)."""
        with self._condition:
            self._grace = 0.0
            self._condition.notify_all()

    def close(self) -> None:
        """Stop for good and release the device; viewers' streams end."""
        with self._condition:
            self._closed = True
            run = self._run
        if run:
            run.end()
            run.join()
        with self._condition:
            self._condition.notify_all()

    def newer(self, than: int, timeout: float) -> Snapshot | None:
        """The newest Snapshot once its sequence differs from `than`, or after `timeout` seconds; None when closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._snapshot.sequence != than, timeout)
            return None if self._closed else self._snapshot

    def leave(self, viewer: Viewer) -> None:
        """A viewer has gone; its place is free, however often it says so."""
        with self._condition:
            if viewer in self._viewers:
                self._viewers.remove(viewer)
                self._last_left = time.monotonic()

    def publish(self, run: _Run, snapshot: Snapshot) -> bool:
        """Show what `run` has made; False when it must end: nobody watches, or another run took its place."""
        with self._condition:
            if self._run is not run:
                return False
            unwatched = not self._viewers and time.monotonic() - self._last_left >= self._grace
            if unwatched or self._closed:
                self._run = None
                self._publish(self._idle())
                return False
            self._publish(snapshot)
            return True

    def _publish(self, snapshot: Snapshot) -> None:
        self._snapshot = replace(snapshot, sequence=self._snapshot.sequence + 1)
        self._condition.notify_all()

    def _idle(self) -> Snapshot:
        return Snapshot(0, 0.0, b"", "idle", public_name(self.source))


class Watched(Protocol):
    """What a Viewer watches."""

    def newer(self, than: int, timeout: float) -> Snapshot | None: ...

    def leave(self, viewer: Viewer) -> None: ...


class Viewer:
    """Somebody watching: iterate for Snapshots, each newer than the last or, after a second, repeated.

    `close()` it in the end, from any thread; it is a context manager too.
    """

    REPEAT = 1.0  # seconds: a vanished viewer is noticed only on a write

    def __init__(self, camera: Watched) -> None:
        self._camera, self._gone = camera, Event()

    def __iter__(self) -> Iterator[Snapshot]:
        sequence = -1
        while not self._gone.is_set():
            snapshot = self._camera.newer(sequence, self.REPEAT)
            if snapshot is None:
                return
            sequence = snapshot.sequence
            if snapshot.jpeg:
                yield snapshot

    def close(self) -> None:
        self._gone.set()
        self._camera.leave(self)

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class SharedCamera:
    """A Camera for each of several processes, one of which has it: the first that needs it, as long as it lives.

    That one holds the lock of a file in `folder` (private to these processes) and serves its Snapshots to the others
    at a socket beside it. When it dies, the next that needs the camera takes the lock. `_lock` guards what changes.
    """

    PATIENCE = 3.0  # seconds to wait for whoever is just taking the camera, or giving it up

    def __init__(self, camera: Camera, folder: Path, key: bytes) -> None:
        self._camera, self._file, self._socket, self._key = camera, folder / "camera.lock", folder / "camera", key
        self._lock = Lock()
        self._held: IO[bytes] | None = None
        self._listener: Listener | None = None
        self.closed = False

    @property
    def source(self) -> str:
        return self._camera.source

    @property
    def snapshot(self) -> Snapshot:
        """The newest Snapshot, without its picture where another process has the camera; "idle" where none has."""
        if self._held:
            return self._camera.snapshot
        answer = self._asked("snapshot")
        return answer if isinstance(answer, Snapshot) else self._camera.snapshot

    def watch(self) -> Viewer:
        """A new viewer, as of a Camera. Raises TooManyViewersError past the cap, or when no process answers."""
        end = time.monotonic() + self.PATIENCE
        while time.monotonic() < end:
            if self._take():
                return self._camera.watch()
            with suppress(OSError, EOFError, AuthenticationError):  # it comes or goes just now
                line = self._call("watch")
                if refusal := line.recv():
                    line.close()
                    raise TooManyViewersError(refusal)
                return Viewer(_Line(self, line))
            time.sleep(0.05)
        raise TooManyViewersError("the camera does not answer: try again in a moment")

    def release_soon(self) -> None:
        """As of a Camera."""
        if self._held:
            self._camera.release_soon()
        else:
            self._asked("release")

    def close(self) -> None:
        """Stop for good; viewers' streams end, and another process may take the camera."""
        with self._lock:
            self.closed = True
            self._camera.close()
            if self._listener and self._held:
                with suppress(OSError), socket.socket(socket.AF_UNIX) as caller:
                    caller.connect(str(self._socket))  # wakes `_answer_calls`; a Client would wait for an answer
                self._listener.close()
                self._held.close()
                self._held = None

    # of the process that has the camera

    def _take(self) -> bool:
        """Whether the camera is, or now becomes, this process's."""
        import fcntl

        with self._lock:
            if self._held or self.closed:
                return True  # of a closed Camera the streams end at once
            file = self._file.open("ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                return False
            self._socket.unlink(missing_ok=True)  # a killed process leaves its own
            self._listener = Listener(str(self._socket), "AF_UNIX", backlog=64, authkey=self._key)
            self._held = file
            Thread(target=self._answer_calls, args=(self._listener,), name="camera-calls", daemon=True).start()
            return True

    def _answer_calls(self, listener: Listener) -> None:
        while not self.closed:
            try:
                line = listener.accept()
                Thread(target=self._answer, args=(line,), name="camera-line", daemon=True).start()
            except (OSError, EOFError, AuthenticationError, RuntimeError):
                time.sleep(0.02)  # somebody left at once, or there are too many open files or threads

    def _answer(self, line: Connection) -> None:
        with line, suppress(OSError, EOFError):
            asked = line.recv()
            if asked == "watch":
                self._show(line)
            elif asked == "release":
                self._camera.release_soon()
                line.send(None)
            else:
                line.send(replace(self._camera.snapshot, jpeg=b""))

    def _show(self, line: Connection) -> None:
        """Each number that comes is the last picture that the other process has; it gets the newest one."""
        try:
            viewer = self._camera.watch()
        except TooManyViewersError as error:
            line.send(str(error))
            return
        with viewer:
            line.send("")
            while True:
                line.send(self._camera.newer(line.recv(), Viewer.REPEAT))

    # of the others

    def _call(self, what: str) -> Connection:
        line = Client(str(self._socket), "AF_UNIX", authkey=self._key)
        line.send(what)
        return line

    def _asked(self, what: str) -> object:
        try:
            with self._call(what) as line:
                return line.recv()
        except (OSError, EOFError, AuthenticationError):
            return None


class _Line:
    """A viewer's place at a camera that another process has."""

    def __init__(self, camera: SharedCamera, line: Connection) -> None:
        self._camera, self._line, self._lock = camera, line, Lock()

    def newer(self, than: int, timeout: float) -> Snapshot | None:
        with self._lock, suppress(OSError, EOFError):
            if self._camera.closed:
                return None
            self._line.send(than)
            while not self._line.poll(0.1):
                if self._camera.closed:
                    return None
            newest: Snapshot | None = self._line.recv()
            return newest
        return None  # the process has gone, and the stream ends

    def leave(self, viewer: Viewer) -> None:
        with self._lock:
            self._line.close()


class _Run:
    """The camera's threads from one start to one stop, and what passes between them.

    `capture` writes `frame`, `source`, `message` and `failed`; `recognize` writes `faces` and
    `reading`; `publish` only reads; all under `_fresh`.
    """

    def __init__(self, camera: Camera, after: _Run | None) -> None:
        self._camera, self._after, self._ended, self._fresh = camera, after, Event(), Condition()
        self._frame: Frame | None = None
        self._taken_at = time.monotonic()
        self._count = 0
        self._source, self._message, self._failed = camera.source, "", False
        self.broken = ""
        self._faces: tuple[SeenFace, ...] = ()
        self._reading: Reading | None = None
        self._threads = [
            Thread(target=self._guarded, args=(job,), name=f"camera-{job.__name__.strip('_')}", daemon=True)
            for job in (self._capture, self._recognize, self._show)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Tell the threads to finish."""
        self._ended.set()
        with self._fresh:
            self._fresh.notify_all()

    def join(self, timeout: float = READ_TIMEOUT) -> None:
        """Wait for the threads; a driver that hangs in a read is left behind."""
        for thread in self._threads:
            thread.join(timeout)

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:
            logger.exception("the camera stopped")
            self.broken = f"The camera stopped ({error}). The terminal says more; reload the page to try again."
            self._fail(self.broken)
            if job == self._show:
                self._show()  # nobody else shows what is wrong, and lets go of the source in the end

    # capture

    def _capture(self) -> None:
        if self._after:
            self._after.join()  # two runs must not fight over one device
            self._after = None
        sources = ["0", "demo"] if self._camera.source == "auto" else [self._camera.source]
        failures = 0
        while not self._ended.is_set():
            played, why = self._play(sources[0])
            if played:
                sources, failures = sources[:1], 0
            elif len(sources) > 1:
                sources = sources[1:]
                self._note("No camera was found on this computer, so this is the built-in demo.")
                continue
            self._fail(why)
            self._ended.wait(BACK_OFF[min(failures, len(BACK_OFF) - 1)])
            failures += 1

    def _play(self, source: str) -> tuple[bool, str]:
        """Take the source's frames until it is lost; whether there were any, and why it was lost."""
        played = False
        try:
            for frame in self._open(source):
                self._take(_fitted(frame), source)
                played = True
                if self._ended.is_set():
                    break
        except SourceError as error:
            return played, str(error)
        return played, f"{public_name(source)} has ended: it will be opened again"

    def _open(self, source: str) -> Iterator[Frame]:
        pictures: Iterator[Frame] = iter(())
        try:
            pictures = self._camera.open_frames(source)
            yield from pictures
        except cv2.error as error:
            raise SourceError(f"OpenCV cannot read {public_name(source)}: {error}") from error
        except (OSError, RuntimeError) as error:  # no permission to look; `~somebody` without a home
            raise SourceError(f"{public_name(source)} cannot be read ({error}): check VISAGE_SOURCE") from error
        finally:
            with suppress(AttributeError):
                pictures.close()  # type: ignore[attr-defined]

    def _take(self, frame: Frame, source: str) -> None:
        with self._fresh:
            self._frame, self._taken_at, self._count = frame, time.monotonic(), self._count + 1
            self._source, self._failed = source, False
            if source != "demo" or self._camera.source == "demo":
                self._message = ""
            self._fresh.notify_all()

    def _note(self, message: str) -> None:
        with self._fresh:
            self._message = message

    def _fail(self, message: str) -> None:
        with self._fresh:
            if self._ended.is_set():
                return
            if message != self._message:
                logger.warning("%s", message)
            self._message, self._failed, self._frame = message, True, None
            self._faces, self._reading = (), None
            self._count += 1
            self._fresh.notify_all()

    def _wait_past(self, count: int) -> bool:
        """Whether something newer than `count` came within a second; under `_fresh`."""
        return self._fresh.wait_for(lambda: self._count != count or self._ended.is_set(), 1.0)

    # recognize

    def _recognize(self) -> None:
        recognizer, follower, last = self._camera.recognizer.for_video(), Follower(self._camera.rules), 0
        while not self._ended.is_set():
            with self._fresh:
                self._wait_past(last)
                frame, at, last = self._frame, self._taken_at, self._count
            if frame is None:
                continue
            follower.follow(recognizer.recognize(frame), at)
            with self._fresh:
                self._faces, self._reading = follower.faces, follower.reading

    # publish

    def _show(self) -> None:
        last, pace, picture = 0, _Pace(), b""
        while not self._ended.is_set():
            with self._fresh:
                new = self._wait_past(last)
                last = self._count
                frame, snapshot = self._frame, self._described(pace.fps)
            if new and frame is not None and snapshot.status == "live":
                pace.tick(snapshot.taken_at)
                picture = encode_jpeg(annotate(frame, snapshot.faces))
            if not self._camera.publish(self, replace(snapshot, jpeg=snapshot.jpeg or picture)):
                break
        self.end()

    def _described(self, fps: float) -> Snapshot:
        """The state of the run as a Snapshot, its picture the message unless a frame is drawn over it."""
        stale = time.monotonic() - self._taken_at > READ_TIMEOUT + 1
        source = public_name(self._source)
        if self.broken or self._failed or (stale and self._frame is not None):
            message = self.broken or self._message or f"no picture from {source} for some seconds: is it still there?"
            return Snapshot(0, self._taken_at, _error_picture(message), "error", source, message)
        if self._frame is None:
            return Snapshot(0, self._taken_at, _starting_picture(), "starting", source, self._message)
        faces, reading = self._faces, self._reading
        return Snapshot(0, self._taken_at, b"", "live", source, self._message, faces, reading, fps)


class _Pace:
    """Frames a second, over the last second or so."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=FPS)

    @property
    def fps(self) -> float:
        if len(self._times) < FPS // 3:
            return 0.0  # a source hands out its first frames at once
        return (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-6)

    def tick(self, at: float) -> None:
        self._times.append(at)


def _fitted(frame: Frame) -> Frame:
    shrink = WIDEST / max(frame.shape[:2])
    return cv2.resize(frame, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else frame


def _starting_picture() -> bytes:
    return encode_jpeg(message_picture("One moment", "The camera is starting."))


def _error_picture(message: str) -> bytes:
    return encode_jpeg(message_picture("No picture", message))


if __name__ == "__main__":  # run, it watches a source; imported, it knows nothing of songs
    from songs.watch import main

    sys.exit(main())
