"""Where the faces are in a frame, and the crops of them that the network reads."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from model.emotions import Prediction

Frame = np.ndarray
"""A picture: height x width x 3, BGR, uint8."""

CROP_SIZE = 48
SAME = 0.3  # overlap from which on two boxes, of one frame and the next, are of one face
UPRIGHT = 8.0  # degrees of roll that the network bears better than straightening, which is never exact
CROP_SHARE = 1.12  # side of what the network reads, of the root of a box's area


class Box(NamedTuple):
    """A rectangle in pixels of its frame; x and y are its top left corner."""

    x: int
    y: int
    width: int
    height: int

    @property
    def area(self) -> int:
        return self.width * self.height

    @property
    def roll(self) -> float:
        """How far the head is tilted, in degrees, with the clock; 0 unless somebody measured it (see TiltedBox)."""
        return 0.0

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


class TiltedBox(Box):
    """A box whose face was seen to be tilted by `roll` degrees; equal to the Box of its place all the same."""

    _roll = 0.0

    @classmethod
    def of(cls, box: Box, roll: float) -> TiltedBox:
        made = cls(*box)
        made._roll = roll
        return made

    @property
    def roll(self) -> float:
        return self._roll


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a frame and what the network reads on it."""

    box: Box
    prediction: Prediction


class FaceDetector(Protocol):
    """Finds faces; a detector may remember the frames before (see FaceTracker) or not."""

    def detect(self, frame: Frame, near: Sequence[Box] = ()) -> list[Box]:
        """The boxes of the faces in `frame`, in its pixels, largest first.

        With `near`, the boxes where faces were a moment ago, only around these, which is cheaper; over
        the whole frame when one of them has no face any more. Who comes in is seen without `near` only.
        """
        ...


class FaceTracker:
    """A detector over a video: looks around the last faces, scans whole frames now and then.

    A face counts once it was seen in `CONFIRM` of the last `MEMORY` frames, which drops the boxes
    that blink for one frame, and bridges the frames that miss one. Boxes are steadied. One thread at a time.
    """

    CONFIRM, MEMORY = 2, 3
    SCAN_EVERY = 15  # frames between full scans while a face is being followed
    REST_EVERY = 3  # frames between full scans of an empty room, which would else keep a core busy
    STEADY = 0.6  # share of a new box in the box shown, for small movements
    STILL = 0.25  # the same for those of a face at rest

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._seen: deque[list[Box]] = deque(maxlen=self.MEMORY)
        self._shown: list[Box] = []
        self._since_scan = self.SCAN_EVERY

    def detect(self, frame: Frame, near: Sequence[Box] = ()) -> list[Box]:
        """The boxes of the faces in the next frame of the video, largest first; it knows itself what is near."""
        if not any(self._seen) and self._since_scan + 1 < self.REST_EVERY:
            self._since_scan += 1
            return []
        self._seen.append(self._look(frame))
        confirmed: list[Box] = []
        told: list[Box] = []  # where those confirmed are and were: one that moves is one all the same
        for box in (box for boxes in reversed(self._seen) for box in boxes):
            if _best_match(box, told) is not None:
                told.append(box)
            elif self._times_seen(box) >= self.CONFIRM:
                confirmed.append(box)
                told.append(box)
        self._shown = sorted((self._steadied(box) for box in confirmed), key=lambda box: -box.area)
        return list(self._shown)

    def _look(self, frame: Frame) -> list[Box]:
        """Around every face shown; over the whole frame when it is time, to see a newcomer again, or with none."""
        self._since_scan += 1
        newcomer = self._shown and any(_best_match(box, self._shown) is None for box in self._seen[-1])
        if self._shown and not newcomer and self._since_scan < self.SCAN_EVERY:
            return self._detector.detect(frame, self._shown)
        self._since_scan = 0
        return self._detector.detect(frame)

    def _times_seen(self, box: Box) -> int:
        return sum(_best_match(box, boxes) is not None for boxes in self._seen)

    def _steadied(self, box: Box) -> Box:
        last = _best_match(box, self._shown)
        if last is None or (overlap := last.overlap(box)) < 0.7:
            return box
        share = self.STEADY if overlap < 0.9 else self.STILL
        edges = (round(old + share * (new - old)) for old, new in zip(last, box, strict=True))
        return TiltedBox.of(Box(*edges), last.roll + share * (box.roll - last.roll))


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
    """The square around a face that the network reads, straightened but for UPRIGHT; edges are repeated outwards."""
    side = max(2.0, CROP_SHARE * math.sqrt(box.area))
    middle = np.array([box.x + box.width / 2, box.y + box.height / 2])
    low = np.floor(middle - side).astype(int).clip(0)
    high = np.ceil(middle + side).astype(int).clip(0)
    part, scale = grey[low[1] : high[1], low[0] : high[0]], CROP_SIZE / side
    if not part.size:
        return np.zeros((CROP_SIZE, CROP_SIZE), np.uint8)
    if scale < 1:
        size = [max(1, round(length * scale)) for length in part.shape[1::-1]]
        factor = np.array(size) / part.shape[1::-1]
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    else:
        factor = np.ones(2)
    turn = math.radians(math.copysign(max(0.0, abs(box.roll) - UPRIGHT), box.roll))
    linear = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]) * (scale / factor)
    shift = (CROP_SIZE - 1) / 2 - linear @ ((middle - low) * factor - 0.5)
    matrix = np.hstack([linear, shift[:, None]])
    return cv2.warpAffine(part, matrix, (CROP_SIZE, CROP_SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def main_face(faces: Sequence[Face], last: Box | None, others: Sequence[Box] = ()) -> Face | None:
    """The face that the reading follows: the one at `last`, or the largest of those that are not where `others` were.

    Who was chosen may have moved far, but is none of those who stand where they stood: then None.
    """
    if last is not None:
        followed = _best_match(last, [face.box for face in faces])
        if followed is not None:
            return next(face for face in faces if face.box == followed)
        elsewhere = [box for box in others if box.overlap(last) < SAME]
        faces = [face for face in faces if _best_match(face.box, elsewhere) is None]
    return max(faces, key=lambda face: face.box.area, default=None)


def _best_match(box: Box, boxes: Sequence[Box]) -> Box | None:
    """The box of `boxes` that overlaps `box` most, if by SAME or more."""
    best = max(boxes, key=box.overlap, default=None)
    return best if best is not None and box.overlap(best) >= SAME else None
