"""What the emotion network makes of faces that the detector found: FER2013's pictures in rooms, upright and tilted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from model.detector import NetworkDetector
from model.detector_figures import filled
from model.detector_set import Picture
from model.faces import Box, Frame, crop_faces
from model.fer2013 import FaceSet
from model.recognizer import Classifier, classify_in_batches

TILTS = (0, 10, 20, 30)  # degrees
SIDES = (150, 300)  # pixels of a pasted picture in a frame of 640 x 480
AWAY = 60  # pixels between the middles of a box and of the picture, at most, for the box to be the picture's
SEED = 2013


@dataclass(frozen=True)
class Crops:
    """For one tilt, the accuracy on the pictures whose face was found, cut out straightened and as the box lies.

    `whole` is the accuracy on the same pictures as FER2013 has them; `found` the share of all pictures. Where no face
    was found, all are 0.
    """

    tilt: int
    n: int
    found: float
    whole: float
    straightened: float
    upright: float

    @staticmethod
    def header() -> str:
        return f"{'tilt':>6}{'pictures':>10}{'found':>8}{'whole':>8}{'straightened':>14}{'as it lies':>12}"

    def line(self) -> str:
        """For people, under the header."""
        shares = f"{self.found:8.3f}{self.whole:8.3f}{self.straightened:14.3f}{self.upright:12.3f}"
        return f"{self.tilt:5d}°{self.n:10d}{shares}"


def crops(detector: NetworkDetector, classify: Classifier, faces: FaceSet, rooms: Sequence[Picture]) -> Iterator[Crops]:
    """The figures for each of TILTS, in front of `rooms` without faces."""
    walls = [filled(one.pixels) for one in rooms if not len(one.faces)] or [np.full((480, 640, 3), 110, np.uint8)]
    order = np.random.default_rng(SEED).permutation(len(faces))
    right = classify_in_batches(classify, faces.pixels[order]).argmax(axis=1) == faces.labels[order]
    for tilt in TILTS:
        cut: list[np.ndarray] = []
        known = np.zeros(len(order), bool)
        for i, row in enumerate(order):
            frame, middle = scene(faces.pixels[row], walls, int(row), tilt)
            if (box := _nearest(detector.detect(frame), middle)) is not None:
                cut.append(crop_faces(frame, [box, Box(*box)])[..., 0])
                known[i] = True
        if not cut:
            yield Crops(tilt, len(order), 0.0, 0.0, 0.0, 0.0)
            continue
        answers = classify_in_batches(classify, np.concatenate(cut)).argmax(axis=1).reshape(-1, 2)
        hits = (answers == faces.labels[order][known][:, None]).mean(axis=0)
        yield Crops(tilt, len(order), float(known.mean()), float(right[known].mean()), float(hits[0]), float(hits[1]))


def scene(pixels: np.ndarray, walls: Sequence[Frame], seed: int, tilt: float) -> tuple[Frame, np.ndarray]:
    """A picture (48, 48), enlarged and tilted with the clock, somewhere in front of a wall; and its middle (x, y)."""
    rng = np.random.default_rng([SEED, seed])
    frame, side = walls[int(rng.integers(len(walls)))].copy(), rng.uniform(*SIDES)
    room = np.array([640, 480]) - side
    middle = side / 2 + room * rng.uniform(0.1, 0.9, 2)
    turn, scale, half = math.radians(tilt), side / pixels.shape[0], (pixels.shape[0] - 1) / 2
    linear = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = np.hstack([linear, (middle - linear @ [half, half])[:, None]])
    shown = cv2.warpAffine(np.full(pixels.shape, 255, np.uint8), matrix, (640, 480)) > 127
    over = cv2.warpAffine(pixels, matrix, (640, 480), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    frame[shown] = over[shown][:, None]
    return frame, middle


def _nearest(boxes: Sequence[Box], middle: np.ndarray) -> Box | None:
    """The box around `middle`, if there is one within AWAY of it."""

    def away(box: Box) -> float:
        return math.hypot(box.x + box.width / 2 - middle[0], box.y + box.height / 2 - middle[1])

    nearest = min(boxes, key=away, default=None)
    return nearest if nearest is not None and away(nearest) <= AWAY else None
