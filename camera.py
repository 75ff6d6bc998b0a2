"""Pictures in, pictures out: what a source shows, what was read on it, and who is watching.

Three threads a running Camera, each with one job: `capture` keeps the newest frame and drops the
rest, `recognize` reads faces at its own rate, `publish` draws, encodes each frame once and wakes
the viewers. They meet under one Condition and start and stop together, as one _Run.
"""

from __future__ import annotations

import logging
import os
import sys
import textwrap
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Condition, Event, Thread
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

# macOS: OpenCV asks for permission on the main thread only; the system itself asks when the camera opens.
os.environ.setdefault("OPENCV_AVFOUNDATION_SKIP_AUTH", "1")

import cv2
import numpy as np

from model.demo import demo_frame
from model.emotions import Reading, Smoothing, read
from model.faces import Box, Face, Frame, main_face
from model.recognizer import Recognizer

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


def is_device(source: str) -> bool:
    """Whether a source names a camera of this machine."""
    return source.isdecimal() or source.startswith("/dev/")


def is_url(source: str) -> bool:
    """Whether a source names a camera or a film elsewhere."""
    return source.lower().startswith(("http://", "https://", "rtsp://", "rtsps://"))


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
    lost = f"no picture from {public_name(url)}: is the address right, and its server up?"
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(READ_TIMEOUT * 1000)]
    capture = _opened(url, lost, cv2.CAP_FFMPEG, limits)
    if capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:  # a film, which would come as fast as it can be read
        return _film_frames(capture, lost)
    return _read_until_lost(capture, lost)


def _file_frames(path: Path) -> Iterator[Frame]:
    if not path.is_file():
        raise SourceError(f"no file at {path}: check VISAGE_SOURCE, or use VISAGE_SOURCE=demo")
    unreadable = f"{path} does not play as a video: try an mp4, or VISAGE_SOURCE=demo"
    return _film_frames(_opened(str(path), unreadable), unreadable)


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


def _opened(what: int | str, lost: str, backend: int = cv2.CAP_ANY, limits: Sequence[int] = ()) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(what, backend, limits)
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


# -- pictures out --------------------------------------------------------------------------------


def encode_jpeg(frame: Frame, quality: int = JPEG_QUALITY) -> bytes:
    """The frame as a JPEG file."""
    done, content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of shape {frame.shape} cannot be encoded as JPEG")
    return content.tobytes()


def annotate(frame: Frame, faces: Sequence[SeenFace]) -> Frame:
    """A copy of the frame with a box and a label on every face."""
    picture = frame.copy()
    thickness = max(2, frame.shape[0] // 240)
    for face in faces:
        x, y, width, height = face.box
        cv2.rectangle(picture, (x, y), (x + width, y + height), PAPER, thickness, cv2.LINE_AA)
        _label(picture, f"{face.emotion} {face.confidence:.0%}", x, y)
    return picture


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


class Viewer:
    """Somebody watching: iterate for Snapshots, each newer than the last or, after a second, repeated.

    `close()` it in the end, from any thread; it is a context manager too.
    """

    REPEAT = 1.0  # seconds: a vanished viewer is noticed only on a write

    def __init__(self, camera: Camera) -> None:
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
