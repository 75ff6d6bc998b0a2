"""The live picture: what a source shows, what was read on it, and who is watching.

Three threads a running Camera, each with one job: `capture` keeps the newest frame and drops the
rest, `recognize` reads faces at its own rate, `publish` draws, encodes each frame once and wakes
the viewers. They start and stop together, as one _Run, and meet under its Condition; the viewers wait at the Camera's.

`python camera.py SOURCE` watches a source at the terminal.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from threading import Condition, Event, Thread
from types import TracebackType
from typing import Literal, Protocol

import pictures  # noqa: F401 - first, or OpenCV is loaded without its settings
from model.emotions import Reading, Smoothing
from model.faces import Frame
from model.recognizer import Recognizer
from pictures.drawing import annotate, encode_jpeg, fitted, message_picture
from pictures.following import Follower, SeenFace
from pictures.sources import (
    FASTEST,
    FPS,
    READ_TIMEOUT,
    OpenFrames,
    SourceError,
    devices,
    frames,
    pictures_of,
    public_name,
)

logger = logging.getLogger(__name__)

Status = Literal["starting", "live", "idle", "error"]
LOOK_AGAIN = 10.0  # seconds of the demo before a camera that did not open is tried again
SHORTEST = 0.8 / FASTEST  # seconds between two pictures that are shown, though a camera sends 120 a second
GOODBYE = 3.0  # seconds until the stream of who has pressed pause is noticed to have ended: the second write fails
BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each retry of a lost source


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
        self._paused_at, self._last_left = -math.inf, 0.0
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
            self._paused_at = -math.inf
            if (self._run is None or self._run.broken) and not self._closed:
                self._publish(Snapshot(0, 0.0, _starting_picture(), "starting", public_name(self.source)))
                self._run = self._last_run = _Run(self, after=self._last_run)
            viewer = Viewer(self)
            self._viewers.add(viewer)
            return viewer

    def release_soon(self) -> None:
        """Release the device without the usual wait once nobody watches (somebody pressed pause).

        Who watches on for longer than GOODBYE leaves with that wait again.
        """
        with self._condition:
            self._paused_at = time.monotonic()
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
            if self._is_unwatched() or self._closed:
                self._run = None
                self._publish(self._idle())
                return False
            self._publish(snapshot)
            return True

    def _is_unwatched(self) -> bool:
        """Whether the last viewer has left with a pause, or long ago."""
        paused = self._last_left - self._paused_at < GOODBYE
        return not self._viewers and (paused or time.monotonic() - self._last_left >= self.idle_seconds)

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


class _Run:
    """The camera's threads from one start to one stop, and what passes between them.

    Under `_fresh` `capture` writes the frame and what is said of the source, and drops what was read once that changes
    or fails; `recognize` writes faces and reading; `publish` reads, and `end` empties all. `_worked` and `_after` are
    `capture`'s alone; `broken` is set once, by a thread that crashed.
    """

    def __init__(self, camera: Camera, after: _Run | None) -> None:
        self._camera, self._after, self._ended, self._fresh = camera, after, Event(), Condition()
        self._frame: Frame | None = None
        self._taken_at = time.monotonic()
        self._count = 0
        self._source, self._message, self._failed = camera.source, "", False
        self._worked = False
        self.broken = ""
        self._faces: tuple[SeenFace, ...] = ()
        self._reading: Reading | None = None
        self._threads = [
            Thread(target=self._guarded, args=(job,), name=f"camera-{job.__name__.strip('_')}", daemon=True)
            for job in (self._capture, self._recognize, self._publish)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Tell the threads to finish, and keep nothing of what was seen."""
        self._ended.set()
        with self._fresh:
            self._frame, self._faces, self._reading = None, (), None
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
            if job == self._publish:
                self._publish()  # nobody else shows what is wrong, and lets go of the source in the end

    # capture

    def _capture(self) -> None:
        if self._after:
            self._after.join()  # two runs must not fight over one device
            self._worked = self._after._worked
            self._after = None
        failures = 0
        while not self._ended.is_set():
            played, why = self._play_auto() if self._camera.source == "auto" else self._play(self._camera.source)
            failures = 0 if played else failures
            self._fail(why)
            self._ended.wait(BACK_OFF[min(failures, len(BACK_OFF) - 1)])
            failures += 1

    def _play_auto(self) -> tuple[bool, str]:
        """Play the first camera that opens; if none ever has the demo, until one may."""
        demo = pictures_of("demo", self._camera.open_frames)  # for all tries, or its face would begin again with each
        while True:
            began = time.monotonic()
            found, reasons = devices(), []
            for device in found or ["0"]:
                played, why = self._play(device)
                if played or self._ended.is_set():
                    return played, why
                reasons.append(why)
            if self._worked:
                return False, reasons[0]
            if found:
                self._note(f"The camera did not open, so this is the built-in demo: {reasons[0]}")
            else:
                self._note("No camera was found on this computer, so this is the built-in demo.")
            # A driver that takes its time to say no would freeze the demo again and again.
            slow = time.monotonic() - began > READ_TIMEOUT
            may_open = partial(_may_open, found, math.inf if slow else time.monotonic() + LOOK_AGAIN)
            played, why = self._play("demo", demo, may_open)
            if self._ended.is_set() or not may_open():
                return played, why

    def _play(
        self, source: str, shown: Iterator[Frame] | None = None, over: Callable[[], bool] = lambda: False
    ) -> tuple[bool, str]:
        """Take the source's frames, or those `shown`, until it is lost or `over`; whether there were any, and why."""
        played = False
        try:
            for frame in shown or pictures_of(source, self._camera.open_frames):
                self._take(fitted(frame), source)
                played = True
                if self._ended.is_set() or (self._count % FPS == 0 and over()):
                    break
        except SourceError as error:
            return played, str(error)
        return played, f"{public_name(source)} has ended: it will be opened again"

    def _take(self, frame: Frame, source: str) -> None:
        with self._fresh:
            if self._ended.is_set():
                return
            if source != self._source:
                self._faces, self._reading = (), None
            self._frame, self._taken_at, self._count = frame, time.monotonic(), self._count + 1
            self._source, self._failed = source, False
            self._worked = self._worked or source != "demo"
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

    def _rest(self, since: float) -> None:
        """Whatever the source sends, nothing is read or shown sooner than SHORTEST after the last; then the newest."""
        self._ended.wait(max(0.0, since + SHORTEST - time.monotonic()))

    def _wait_past(self, count: int) -> bool:
        """Whether something newer than `count` came within a second; under `_fresh`."""
        return self._fresh.wait_for(lambda: self._count != count or self._ended.is_set(), 1.0)

    # recognize

    def _recognize(self) -> None:
        source, last = "", 0
        while not self._ended.is_set():
            with self._fresh:
                self._wait_past(last)
                frame, at, last, before, source = self._frame, self._taken_at, self._count, source, self._source
            if source != before:  # who is there now has nothing to do with who was
                recognizer, follower = self._camera.recognizer.for_video(), Follower(self._camera.rules)
            if frame is None:
                continue
            began = time.monotonic()
            follower.follow(recognizer.recognize(frame), at)
            with self._fresh:
                if not self._ended.is_set() and self._source == source:
                    self._faces, self._reading = follower.faces, follower.reading
            self._rest(began)

    # publish

    def _publish(self) -> None:
        last, pace, picture = 0, _Pace(), b""
        while not self._ended.is_set():
            with self._fresh:
                new = self._wait_past(last)
                last = self._count
                frame, snapshot = self._frame, self._described(pace.fps)
            began = time.monotonic()
            if new and frame is not None and snapshot.status == "live":
                pace.tick(snapshot.taken_at)
                picture = encode_jpeg(annotate(frame, snapshot.faces))
            if not self._camera.publish(self, replace(snapshot, jpeg=snapshot.jpeg or picture)):
                break
            self._rest(began)
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


def _may_open(found: list[str], at: float) -> bool:
    """Whether a camera is worth a try: others are there than were `found`, or one was and the clock is past `at`."""
    return devices() != found or bool(found and time.monotonic() > at)


def _starting_picture() -> bytes:
    return encode_jpeg(message_picture("One moment", "The camera is starting."))


def _error_picture(message: str) -> bytes:
    return encode_jpeg(message_picture("No picture", message))


if __name__ == "__main__":  # run, it watches a source; imported, it knows nothing of songs
    from terminal.watch import main

    sys.exit(main())
