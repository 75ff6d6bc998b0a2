"""Where the faces are in a frame, and the crops of them that the network reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from model.emotions import Prediction

Frame = np.ndarray
"""A picture: height x width x 3, BGR, uint8."""

CROP_SIZE = 48
SCAN_WIDTH = 320  # pixels a frame is shrunk to for a full scan
SMALLEST = 24  # pixels of the shrunk frame: a face of 48 in 640


class Box(NamedTuple):
    """A rectangle in pixels of its frame; x and y are its top left corner."""

    x: int
    y: int
    width: int
    height: int

    @property
    def area(self) -> int:
        return self.width * self.height

    def overlap(self, other: Box) -> float:
        """Intersection over union with another box, 0 to 1."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        shared = max(width, 0) * max(height, 0)
        return shared / (self.area + other.area - shared) if shared else 0.0

    def scaled(self, factor: float) -> Box:
        """The same rectangle in a picture `factor` times as large."""
        return Box(*(round(edge * factor) for edge in self))

    def moved(self, x: int, y: int) -> Box:
        """The same rectangle, shifted by x and y pixels."""
        return Box(self.x + x, self.y + y, self.width, self.height)

    def widened(self, share: float, frame: Frame) -> Box:
        """This box with `share` of its size added on every side, cut at the frame's edges."""
        height, width = frame.shape[:2]
        left, top = max(0, self.x - round(share * self.width)), max(0, self.y - round(share * self.height))
        right = min(width, self.x + self.width + round(share * self.width))
        bottom = min(height, self.y + self.height + round(share * self.height))
        return Box(left, top, max(0, right - left), max(0, bottom - top))


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a frame and what the network reads on it."""

    box: Box
    prediction: Prediction


class FaceDetector(Protocol):
    """Finds faces; a detector may remember the frames before (see FaceTracker) or not."""

    def detect(self, frame: Frame) -> list[Box]:
        """The boxes of the faces in `frame`, in its pixels, largest first."""
        ...


class HaarDetector:
    """OpenCV's `alt2` cascade (Lienhart and Maydt, 2002) over a frame shrunk to SCAN_WIDTH; remembers nothing.

    One thread at a time: the cascade keeps buffers of its own.
    """

    def __init__(self) -> None:
        path = Path(cv2.data.haarcascades) / "haarcascade_frontalface_alt2.xml"
        self._cascade = cv2.CascadeClassifier(str(path))
        if self._cascade.empty():
            raise RuntimeError(f"OpenCV cannot read its cascade {path}: install the OpenCV of requirements-serve.txt")

    def detect(self, frame: Frame) -> list[Box]:
        """The boxes of the faces in `frame`, in its pixels, largest first."""
        return self.search(frame, SMALLEST)

    def search(self, frame: Frame, smallest: int, largest: int = 0, scan_width: int = SCAN_WIDTH) -> list[Box]:
        """Faces of `smallest` to `largest` pixels of the frame shrunk to `scan_width` (0: any size)."""
        if min(frame.shape[:2]) < SMALLEST:
            return []
        shrink = min(1.0, scan_width / max(frame.shape[:2]))
        grey = cv2.equalizeHist(cv2.resize(to_grey(frame), None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA))
        found = self._cascade.detectMultiScale(
            grey, scaleFactor=1.1, minNeighbors=4, minSize=(smallest, smallest), maxSize=(largest, largest)
        )
        boxes = [Box(*map(int, box)).scaled(1 / shrink) for box in found]
        return sorted((box.widened(0.0, frame) for box in boxes), key=lambda box: -box.area)


class FaceTracker:
    """A HaarDetector over a video: looks around the last faces, scans whole frames now and then.

    A face counts once it was seen in `CONFIRM` of the last `MEMORY` frames, which drops the boxes
    that blink for one frame, and bridges the frames that miss one. Boxes are steadied. One thread at a time.
    """

    CONFIRM, MEMORY = 2, 3
    SCAN_EVERY = 15  # frames between full scans while a face is being followed
    REST_EVERY = 3  # frames between full scans of an empty room, which would else keep a core busy
    STEADY = 0.6  # share of a new box in the box shown, for small movements

    def __init__(self, detector: HaarDetector) -> None:
        self._detector = detector
        self._seen: deque[list[Box]] = deque(maxlen=self.MEMORY)
        self._shown: list[Box] = []
        self._since_scan = self.SCAN_EVERY

    def detect(self, frame: Frame) -> list[Box]:
        """The boxes of the faces in the next frame of the video, in its pixels, largest first."""
        if not any(self._seen) and self._since_scan + 1 < self.REST_EVERY:
            self._since_scan += 1
            return []
        self._seen.append(self._look(frame))
        known = [box for boxes in reversed(self._seen) for box in boxes]
        confirmed: list[Box] = []
        for box in known:
            if _best_match(box, confirmed) is None and self._times_seen(box) >= self.CONFIRM:
                confirmed.append(box)
        self._shown = sorted((self._steadied(box) for box in confirmed), key=lambda box: -box.area)
        return list(self._shown)

    def _look(self, frame: Frame) -> list[Box]:
        """Around every face shown; over the whole frame when one is gone, when it is time, or with none."""
        self._since_scan += 1
        if self._shown and self._since_scan < self.SCAN_EVERY:
            nearby = [self._look_around(box, frame) for box in self._shown]
            if all(nearby):
                return [box for box in nearby if box]
        self._since_scan = 0
        return self._detector.detect(frame)

    def _look_around(self, box: Box, frame: Frame) -> Box | None:
        """The face that was at `box`, searched at about its size in a crop around it, shrunk to about 48 px."""
        region = box.widened(0.4, frame)
        crop = frame[region.y : region.y + region.height, region.x : region.x + region.width]
        scan = max(region.width, region.height) * 48 / max(box.width, 1)
        found = self._detector.search(crop, smallest=36, largest=66, scan_width=round(scan))
        return found[0].moved(region.x, region.y) if found else None

    def _times_seen(self, box: Box) -> int:
        return sum(_best_match(box, boxes) is not None for boxes in self._seen)

    def _steadied(self, box: Box) -> Box:
        last = _best_match(box, self._shown)
        if last is None or last.overlap(box) < 0.7:
            return box
        return Box(*(round(old + self.STEADY * (new - old)) for old, new in zip(last, box, strict=True)))


def to_grey(frame: Frame) -> np.ndarray:
    """Any picture (grey, BGR or BGRA, uint8) as height x width grey."""
    if frame.ndim == 2:
        return frame
    if frame.shape[2] == 1:
        return frame[:, :, 0]
    return cv2.cvtColor(frame, cv2.COLOR_BGRA2GRAY if frame.shape[2] == 4 else cv2.COLOR_BGR2GRAY)


def crop_faces(frame: Frame, boxes: Sequence[Box]) -> np.ndarray:
    """The faces as the network takes them: (n, 48, 48, 1) float32 grey, 0 to 255."""
    grey = to_grey(frame)
    crops = [_crop(grey, box) for box in boxes]
    return np.array(crops, np.float32).reshape(-1, CROP_SIZE, CROP_SIZE, 1)


def _crop(grey: np.ndarray, box: Box) -> np.ndarray:
    pixels = grey[max(0, box.y) : box.y + box.height, max(0, box.x) : box.x + box.width]
    method = cv2.INTER_AREA if min(pixels.shape) > CROP_SIZE else cv2.INTER_LINEAR
    return cv2.resize(pixels, (CROP_SIZE, CROP_SIZE), interpolation=method)


def main_face(faces: Sequence[Face], last: Box | None) -> Face | None:
    """The face that the reading follows: the one at `last` while it is there, else the largest."""
    if last is not None:
        followed = _best_match(last, [face.box for face in faces])
        if followed is not None:
            return next(face for face in faces if face.box == followed)
    return max(faces, key=lambda face: face.box.area, default=None)


def _best_match(box: Box, boxes: Sequence[Box], least: float = 0.3) -> Box | None:
    """The box of `boxes` that overlaps `box` most, if by `least` or more."""
    best = max(boxes, key=box.overlap, default=None)
    return best if best is not None and box.overlap(best) >= least else None
