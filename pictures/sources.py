"""Where pictures come from: a webcam, a file, an address or the demo, as a generator of frames."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed has it not

import cv2

from model.demo import demo_frame
from model.faces import Frame

# A camera that is not there is reported by us, in words, once.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

OpenFrames = Callable[[str], Iterator[Frame]]

WIDTH, HEIGHT, FPS = 640, 480, 30
SLOWEST, FASTEST = 1, 60  # pictures a second of what is watched live
REOPENED = 0.2  # seconds at least between two openings of an address that has one picture each time
JUMP = 10.0  # seconds between two frames of a film; more is a clock that was set
READ_TIMEOUT = 3.0  # seconds without a picture before a source counts as lost
PERMISSION = " May this terminal use it (System Settings, Privacy, Camera)?" if sys.platform == "darwin" else ""


class SourceError(Exception):
    """A source cannot be opened or has stopped; the message says which and what to do."""


def frames(source: str) -> Iterator[Frame]:
    """The pictures of a source, for ever, at its own pace; raises SourceError when there are none.

    `source` is "demo", a device number or /dev path, a file (played in a loop), or an http(s) or rtsp URL.
    A device is shown as in a mirror.
    """
    if source == "demo":
        return _demo_frames()
    if is_device(source):
        return _device_frames(source)
    if is_address(source):
        return _url_frames(source)
    return _file_frames(Path(source).expanduser())


def pictures_of(source: str, open_frames: OpenFrames) -> Iterator[Frame]:
    """What `open_frames` has of a source, closed in the end; all that goes wrong with it is a SourceError."""
    pictures: Iterator[Frame] = iter(())
    try:
        pictures = open_frames(source)
        yield from pictures
    except cv2.error as error:
        raise SourceError(f"OpenCV cannot read {public_name(source)}: {error}") from error
    except (OSError, RuntimeError) as error:  # no permission to look; `~somebody` without a home
        raise SourceError(f"{public_name(source)} cannot be read ({error}): check VISAGE_SOURCE") from error
    finally:
        with suppress(AttributeError):
            pictures.close()  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Showing:
    """A source to be seen once: frames with their time in seconds from the first.

    `rate` is a film's frames a second, `length` its frames; 0 where there is none.
    """

    frames: Iterator[tuple[float, Frame]]
    rate: float = 0.0
    length: int = 0


def shown_once(source: str) -> Showing:
    """Every picture of a film once, as fast as it can be read; what is live as in `frames`. Raises SourceError."""
    if source == "demo" or is_device(source):
        return Showing(_by_the_clock(frames(source)))
    capture, lost = _url_capture(source) if is_url(source) else _file_capture(Path(source).expanduser())
    rate, length = _rate_of(capture), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if is_url(source) and length <= 0:
        return Showing(_by_the_clock(_read_until_lost(capture, lost)))
    if not rate:
        rate, length = FPS, 0
    return Showing(_read_to_the_end(capture, public_name(source), rate, length), rate, max(0, length))


def is_device(source: str) -> bool:
    """Whether a source names a camera of this machine."""
    return source.isdecimal() or (source.startswith("/dev/") and not source.startswith("/dev/shm/"))  # noqa: S108


def is_url(source: str) -> bool:
    """Whether a source names a camera or a film elsewhere."""
    return source.lower().startswith(("http://", "https://", "rtsp://", "rtsps://"))


def is_address(source: str) -> bool:
    """Whether a source is a URL. Raises SourceError if it is one that leads nowhere."""
    scheme, address, _ = source.partition("://")
    if not address:
        return False
    if not is_url(source):
        raise SourceError(f"no address begins with {scheme}:// here: it is http, https, rtsp or rtsps")
    with suppress(ValueError):  # brackets that do not close, a port that is no number
        parts = urlsplit(source)
        if parts.hostname and (parts.port is None or parts.port):
            return True
    raise SourceError(
        "that address cannot be understood: write it like http://192.168.1.20:8080/video,"
        " in a password %40 for @, %2F for /, %3A for :, %3F for ? and %23 for #"
    )


def devices() -> list[str]:
    """The numbers of the cameras this machine may have; for certain only on Linux, where devices are files."""
    if sys.platform != "linux":
        return ["0"]
    numbers = (path.name.removeprefix("video") for path in Path("/dev").glob("video*"))
    return sorted(filter(str.isdecimal, numbers), key=int)


def public_name(source: str) -> str:
    """The source as anybody may see it: an address without its user, password and query."""
    scheme, address, rest = source.partition("://")
    if not address:
        return source
    try:
        parts = urlsplit(source)
    except ValueError:
        return "an address that is none"
    if "@" in rest.removeprefix(parts.netloc):  # of a password with a slash in it, say, which should be written %2F
        return f"{scheme}://..."
    return f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _demo_frames() -> Iterator[Frame]:
    start = time.monotonic()
    for tick in _ticks(FPS):
        yield demo_frame(tick - start)


def _device_frames(device: str) -> Iterator[Frame]:
    # Windows' other backend, Media Foundation, takes up to 20 s to open a camera.
    backend = {"linux": cv2.CAP_V4L2, "darwin": cv2.CAP_AVFOUNDATION, "win32": cv2.CAP_DSHOW}.get(sys.platform, 0)
    others = ", ".join(number for number in devices() if number != device)
    lost = (
        f"no camera at {device}: is it plugged in, and free?{PERMISSION} "
        f"Try another number{others and f' ({others})'}, a video file or VISAGE_SOURCE=demo"
    )
    path = Path(f"/dev/video{device}" if device.isdecimal() else device)
    if sys.platform == "linux" and path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise SourceError(
            f"this user may not open the camera at {path}: sudo usermod -aG video $USER, then log in again"
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
        return _film_frames(capture, lost, lambda: _url_capture(url)[0])
    return _read_until_lost(capture, lost)


def _url_capture(url: str) -> tuple[cv2.VideoCapture, str]:
    """What plays a URL, and what to say when it stops."""
    lost = f"no picture from {public_name(url)}: is the address right, and its server up?{_through_a_proxy(url)}"
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(READ_TIMEOUT * 1000)]
    return _opened(url, lost, cv2.CAP_FFMPEG, limits), lost


def _through_a_proxy(url: str) -> str:
    """What else may be wrong where FFmpeg goes through a proxy; it reads these two variables and no others."""
    host, proxy, without = urlsplit(url).hostname or "", os.environ.get("http_proxy"), os.environ.get("no_proxy", "")
    asked = proxy and url.lower().startswith("http") and not proxy_bypass_environment(host, {"no": without})
    return f" A proxy is asked for it: no_proxy={host} asks the camera itself." if asked else ""


def _file_frames(path: Path) -> Iterator[Frame]:
    return _film_frames(*_file_capture(path), lambda: _file_capture(path)[0])


def _file_capture(path: Path) -> tuple[cv2.VideoCapture, str]:
    """What plays a file, and what to say when it does not."""
    if not path.is_file():
        raise SourceError(f"no file at {path}: check VISAGE_SOURCE, or use VISAGE_SOURCE=demo")
    unreadable = f"{path} does not play as a video: try an mp4, or VISAGE_SOURCE=demo"
    return _opened(str(path.absolute()), unreadable), unreadable  # a relative one with a colon looks like a URL


def _rate_of(capture: cv2.VideoCapture) -> float:
    """A film's frames a second; 0 where that cannot be: browsers record a clock of milliseconds in place of it."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 0.001 <= rate <= 240 else 0.0


def _film_frames(
    capture: cv2.VideoCapture, unreadable: str, reopened: Callable[[], cv2.VideoCapture]
) -> Iterator[Frame]:
    """A film in a loop, at its own speed: a fast one's frames in part, a slow one's each several times."""
    rate = _rate_of(capture) or FPS
    apart, times = math.ceil(rate / FASTEST), math.ceil(SLOWEST / rate)
    ticks, opened = _ticks(rate * times / apart), time.monotonic()
    try:
        while True:
            more, frame = capture.read()
            if not more:
                capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                more, frame = capture.read()
            if not more:  # some containers and servers cannot go back
                capture.release()
                time.sleep(max(0.0, opened + REOPENED - time.monotonic()))
                capture, opened = reopened(), time.monotonic()
                more, frame = capture.read()
            if not more:
                raise SourceError(unreadable)
            for _ in islice(ticks, times):
                yield frame
            for _ in range(apart - 1):
                capture.grab()
    finally:
        capture.release()


def _by_the_clock(frames: Iterator[Frame]) -> Iterator[tuple[float, Frame]]:
    start = None
    for frame in frames:
        now = time.monotonic()
        start = now if start is None else start
        yield now - start, frame


def _read_to_the_end(capture: cv2.VideoCapture, name: str, rate: float, length: int) -> Iterator[tuple[float, Frame]]:
    """Each frame once, with its time. Raises SourceError in the end if there were none, or far too few.

    A frame's time is its count by the rate; by the film's own clock where that is half a frame away, for phones and
    browsers record at a varying rate. A clock that stands, goes back or jumps, as in films put together, counts too.
    """
    count, last, own, at = 0, 0.0, 0.0, 0.0
    longest = max(JUMP, 10 / rate)
    try:
        more, frame = capture.read()
        while more:
            before, last = last, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if count:
                own += last - before if 0 < last - before <= longest else 1 / rate
            counted = count / rate
            at = max(at, counted if abs(own - counted) <= 0.5 / rate else own)
            count += 1
            yield at, frame
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
                yield frame
                last = time.monotonic()  # what whoever takes it needs is not the camera's delay
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
