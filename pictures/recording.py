"""Pictures and films that are kept: in their place whole, or not at all."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from model.faces import Frame


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

    Of what `path` ends in, one of CODECS. Its size is the first picture's. What is `live` has fewer frames a second
    where this computer cannot encode so many. Used by one thread.
    """

    CODECS: ClassVar = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG", ".webm": "VP80"}

    TRIAL, SHARE = 5, 0.5  # frames that are encoded to learn how long one takes; how much of the time may go into it

    def __init__(self, path: Path, rate: float, live: bool = False) -> None:
        # MPEG-4 counts in at most 65535ths of a second, and OpenCV asks for thousandths where hundredths will not do.
        self.rate = round(rate, 2) if rate > 65 else rate
        self.path, self.live, self.frames = path, live, 0
        self._part = _beside(path)
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._before: Frame | None = None

    def add(self, frame: Frame, at: float) -> None:
        """Show `frame` from `at` seconds on, and till then the one before; none if it comes early. Raises OSError."""
        if self._writer is None:
            self._size = frame.shape[1], frame.shape[0]
            if self.live:
                self.rate = self._affordable(frame)
            self._writer = self._opened(self.rate)
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        place = round(at * self.rate)
        while self.frames <= place:
            self._writer.write(frame if self._before is None or self.frames == place else self._before)
            self.frames += 1
        self._before = frame

    def _opened(self, rate: float) -> cv2.VideoWriter:
        codec = cv2.VideoWriter.fourcc(*self.CODECS[self.path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._part.absolute()), cv2.CAP_FFMPEG, codec, rate, self._size)
        if not writer.isOpened():
            raise OSError(0, "no film can be written there", str(self.path))
        return writer

    def _affordable(self, frame: Frame) -> float:
        """Frames a second that leave time for the camera: who falls behind here repeats ever more of them."""
        writer, noise = self._opened(self.rate), np.random.default_rng(0)
        shifts = noise.integers(-8, 9, (self.TRIAL, 2))
        start = time.perf_counter()
        for shift in shifts:  # a picture that does not move is encoded in no time
            writer.write(np.roll(frame, shift, axis=(0, 1)))
        writer.release()
        takes = (time.perf_counter() - start) / self.TRIAL
        return min(self.rate, max(1.0, float(round(self.SHARE / takes))))

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
        rate = written.get(cv2.CAP_PROP_FPS) or self.rate  # it was rounded, and over hours that is seconds
        written.release()
        if last is False or last < (self.frames - 2) / rate:
            raise OSError(0, "the film could not be written whole: is the disk full?", str(self.path))


def _beside(path: Path) -> Path:
    """A name in the same folder, and of the same kind, for what is not finished."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
