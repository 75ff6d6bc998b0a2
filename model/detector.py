"""The detector of faces that was trained here: `weights/detector.tflite`, run on LiteRT."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.faces import Box, Frame, TiltedBox
from model.litert import WEIGHTS, LiteRTNetwork, WeightsError, read_card

STRIDE = 8  # pixels between two places of the output
DEEPEST = 32  # pixels between two places of the coarsest map: what a picture's sides must be multiples of
OUTPUTS = 15  # score, four distances to the box's sides, five landmarks (x and y)
SCAN, MOST_SCAN = 384, 640  # pixels of the longer side of what a frame is shrunk to for a full scan
SHARE = 0.6  # of a frame's longer side, between the two: 384 of 640
LARGEST = 130  # pixels: larger faces are not found at the scale at which they are seen
COARSER = 1 / 3  # of the size of a scan, for another that finds the faces too large for it
COARSE_LEAST = 36  # pixels of such a scan: smaller faces are left to the finer one
NEAR = 128  # pixels of a side of what is looked at around a face
ROUND = 2.2  # sides of a face that this is wide
LEAST = 40  # pixels of a frame: what is smaller is too small to be read
WITHIN = 0.7  # share of a box inside a better one from which it is a part of that face
SAME = 0.4  # overlap from which two boxes are one face
FAR, CLOSE = 48, 128  # pixels of a frame: from one to the other a new face of a film may be less and less sure
STAYS = 0.8  # share of the threshold that is enough where there was a face a moment ago
MOST_TILT = 60.0  # degrees: what looks further tilted is a mistake about the eyes
PADDING = 114  # grey level beside a frame


@dataclass(frozen=True)
class Found:
    """Faces in a picture: boxes (n, 4) of x, y, width, height and landmarks (n, 5, 2) in pixels, scores (n,) 0 to 1.

    Best first. The landmarks: the person's right and left eye, nose, right and left corner of the mouth.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray

    def only(self, kept: np.ndarray) -> Found:
        return Found(self.boxes[kept], self.scores[kept], self.landmarks[kept])

    def moved(self, scale: float, corner: Sequence[float] = (0, 0)) -> Found:
        """The same faces in a picture `scale` times as large, with this one's corner at `corner` in it."""
        boxes = self.boxes * scale
        boxes[:, :2] += corner
        return Found(boxes, self.scores, self.landmarks * scale + np.asarray(corner, np.float32))


class NetworkDetector:
    """Finds faces of LEAST pixels and more; remembers nothing. Safe to call from several threads.

    Raises WeightsError when the weights are missing, are no detector's, or answer with what is no number.
    """

    def __init__(self, weights: Path = WEIGHTS, file: str = "detector.tflite") -> None:
        path = weights / file
        card = read_card(path.with_suffix(".json"))
        self._network = LiteRTNetwork(path, ".venv/bin/python -m model.export_detector")
        check_answers(self._network, path)
        self.threshold, self._film, self._film_far = (
            _threshold(card, name, path.with_suffix(".json"))
            for name in ("threshold", "film_threshold", "film_threshold_far")
        )
        self._far, self._stays = self.threshold, STAYS * self.threshold

    def for_films(self) -> NetworkDetector:
        """The same detector, stricter about new faces: in a film there is a next frame to find a face in.

        It shares the network with this one. Where a face was (`near`) it is no stricter.
        """
        stricter = copy(self)
        stricter.threshold, stricter._far = self._film, self._film_far
        return stricter

    def detect(self, frame: Frame, near: Sequence[Box] = ()) -> list[Box]:
        """The boxes of the faces in `frame`, in its pixels, largest first.

        With `near`, only around these boxes as long as there is a face at each; else over the whole frame.
        """
        picture = as_picture(frame)
        if picture is None:
            return []
        nearby = [self._look_around(box, picture) for box in near]
        if nearby and all(len(found.scores) for found in nearby):
            found = _distinct(_joined(nearby))
        else:
            found = self.scan(picture, self.threshold)
            found = found.only(found.scores >= self._asked_of(found.boxes[:, 2:].max(axis=1, initial=1)))
        rolls = tilts(found.landmarks)
        boxes = [_clipped(box, roll, frame) for box, roll in zip(found.boxes, rolls, strict=True)]
        return sorted((box for box in boxes if box.area), key=lambda box: -box.area)

    def _asked_of(self, sizes: np.ndarray) -> np.ndarray:
        """The scores that faces of so many pixels need to be new: small ones more, for most mistakes are small."""
        return np.interp(np.log(sizes), np.log((FAR, CLOSE)), (self._far, self.threshold))

    def scan(self, picture: Frame, threshold: float) -> Found:
        """All faces of LEAST pixels and more with a score of `threshold` or more, in pixels of `picture`.

        The network was trained on faces of 12 to 120 pixels: it sees the picture shrunk to SCAN pixels (more for a
        large one), and COARSER again for the faces that are larger there.
        """
        longest = max(picture.shape[:2])
        fine = min(1.0, min(max(SHARE * longest, SCAN), MOST_SCAN) / longest)
        small = _shrunk(picture, fine)
        looks, scale = [self._least(small, threshold, LEAST * fine)], 1.0
        while scale * max(small.shape[:2]) > LARGEST:
            scale *= COARSER
            looks.append(self._least(_shrunk(small, scale), threshold, COARSE_LEAST).moved(1 / scale))
        return _distinct(_joined(looks)).moved(1 / fine)

    def _least(self, picture: Frame, threshold: float, least: float) -> Found:
        """The faces of `least` pixels and more."""
        found = self.find(picture, threshold)
        return found.only(found.boxes[:, 2:].max(axis=1, initial=0) >= least)

    def _look_around(self, box: Box, picture: Frame) -> Found:
        """The face, or none, that is now where one was: the best in a square of about ROUND times its size.

        The square's size and place go in steps, so that a face at rest is seen in the same square each time.
        """
        step = round(2 * math.log2(max(32, ROUND * max(box.width, box.height))))
        half = round(2 ** (step / 2) / 2)
        grid = max(1, half // 4)
        x, y = (round(at / grid) * grid for at in (box.x + box.width / 2, box.y + box.height / 2))
        left, top = max(0, x - half), max(0, y - half)
        part = picture[top : max(0, y + half), left : max(0, x + half)]
        if not part.size:
            return NOTHING
        scale = NEAR / max(part.shape[:2])
        found = self.find(_shrunk(part, scale), self._stays, NEAR).moved(1 / scale, (left, top))
        alike = [box.overlap(Box(*(round(float(edge)) for edge in one))) >= 0.3 for one in found.boxes]
        return found.only(np.flatnonzero(alike)[:1])

    def find(self, picture: Frame, threshold: float, least: int = 0) -> Found:
        """The faces in a BGR picture as it is, of any size, with a score of `threshold` or more.

        The network sees it with padding beside it, on `least` pixels or more each way.
        """
        height, width = (math.ceil(max(side, least) / DEEPEST) * DEEPEST for side in picture.shape[:2])
        pixels = np.full((1, height, width, 3), PADDING, np.float32)
        pixels[0, : picture.shape[0], : picture.shape[1]] = picture
        return decoded(self.answers(pixels)[0], threshold)

    def answers(self, pixels: np.ndarray) -> np.ndarray:
        """What the network says of (1, height, width, 3) float32 pixels whose sides are multiples of DEEPEST."""
        return self._network(pixels)


def _threshold(card: Mapping[str, Any], name: str, path: Path) -> float:
    try:
        threshold = float(card[name])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} names no {name} ({error!r}): export again") from error
    if not 0 < threshold < 1:
        raise WeightsError(f"{path} has the {name} {threshold}, which is not between 0 and 1: export again")
    return threshold


def check_answers(network: Callable[[np.ndarray], np.ndarray], path: Path) -> None:
    """Raise WeightsError unless the network takes pictures and gives a number for each output of each place."""
    side = 2 * DEEPEST
    picture = np.random.default_rng(1).uniform(0, 255, (1, side, side, 3)).astype(np.float32)
    try:
        answers = network(picture)
    except (ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} takes no colour pictures ({error}): it is no detector; export it again") from error
    if answers.shape != (1, side // STRIDE, side // STRIDE, OUTPUTS):
        raise WeightsError(f"{path} answers {answers.shape}: it is no detector of faces; export it again")
    if not np.isfinite(answers).all():
        raise WeightsError(f"{path} answers with what is no number: its weights are broken; restore or export it again")


def decoded(answers: np.ndarray, threshold: float) -> Found:
    """The faces in the network's answers (height, width, 15), in pixels of what it saw, each once."""
    scores = np.ascontiguousarray(answers[..., 0])
    least = math.log(threshold / (1 - threshold))
    highest = cv2.dilate(scores, np.ones((3, 3), np.uint8)) if scores.max(initial=-99) >= least else scores
    rows, columns = np.nonzero((scores >= least) & (scores == highest))
    if not len(rows):
        return NOTHING
    chosen = answers[rows, columns]
    distances = np.exp(chosen[:, 1:5].clip(-3, 6)) * STRIDE
    middles = (np.stack([columns, rows], axis=1) + 0.5) * STRIDE
    sizes = distances[:, :2] + distances[:, 2:]
    landmarks = middles[:, None] + chosen[:, 5:].reshape(-1, 5, 2) * sizes[:, None]
    boxes = np.hstack([middles - distances[:, :2], sizes])
    found = Found(boxes.astype(np.float32), 1 / (1 + np.exp(-chosen[:, 0])), landmarks.astype(np.float32))
    return _distinct(found.only(np.isfinite(boxes).all(axis=1)))


def as_picture(frame: Frame) -> Frame | None:
    """Any picture (grey, BGR or BGRA) as BGR, uint8; None when there is nothing to see in it."""
    if frame.ndim not in (2, 3) or min(frame.shape[:2]) < 8 or max(frame.shape[:2]) > 20 * min(frame.shape[:2]):
        return None
    if frame.dtype != np.uint8:
        frame = np.nan_to_num(frame).clip(0, 255).astype(np.uint8)
    frame = np.ascontiguousarray(frame)
    if frame.ndim == 2 or frame.shape[2] == 1:
        return cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)
    if frame.shape[2] == 4:
        return cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR)
    return frame if frame.shape[2] == 3 else None


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m) of boxes (n, 4) and (m, 4) of x, y, width, height."""
    shared = intersections(boxes, others)
    union = np.prod(boxes[:, 2:], axis=1)[:, None] + np.prod(others[:, 2:], axis=1)[None] - shared
    return np.asarray(shared / np.maximum(union, 1e-6))


def inside(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The shares (m,) of a box (4,) that lie in each of the others (m, 4)."""
    return np.asarray(intersections(box[None], others)[0] / max(float(np.prod(box[2:])), 1e-6))


def intersections(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The areas (n, m) that boxes (n, 4) and (m, 4) share."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    return np.asarray(np.prod((high - low).clip(0), axis=2))


def _distinct(found: Found) -> Found:
    """Each face once, best first: what overlaps a better one, or lies inside it, is left out."""
    found = found.only(np.argsort(-found.scores, kind="stable"))
    shared, areas = intersections(found.boxes, found.boxes), np.prod(found.boxes[:, 2:], axis=1)
    alike, inside = overlaps(found.boxes, found.boxes), shared / np.maximum(areas[:, None], 1e-6)
    kept: list[int] = []
    for i in range(len(areas)):
        if not any(alike[i, j] > SAME or inside[i, j] > WITHIN for j in kept):
            kept.append(i)
    return found.only(np.array(kept, int))


def _joined(several: Sequence[Found]) -> Found:
    return Found(
        np.concatenate([found.boxes for found in several]),
        np.concatenate([found.scores for found in several]),
        np.concatenate([found.landmarks for found in several]),
    )


def _shrunk(picture: Frame, scale: float) -> Frame:
    """`picture` at `scale`; halved exactly first while that is enough, which is fast and loses nothing."""
    while scale <= 0.5 and min(picture.shape[:2]) >= 16:
        height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
        picture = cv2.resize(picture[:height, :width], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        scale *= 2
    if scale == 1.0:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)


def tilts(landmarks: np.ndarray) -> list[float]:
    """The roll of faces (n, 5, 2): the angle of the line through the eyes, degrees, at most MOST_TILT either way."""
    across = landmarks[:, 1] - landmarks[:, 0]
    angles = np.degrees(np.arctan2(across[:, 1], across[:, 0]))
    return [float(angle) if abs(angle) <= MOST_TILT else 0.0 for angle in angles]


def _clipped(box: np.ndarray, roll: float, frame: Frame) -> Box:
    """A box in whole pixels, cut at the frame's edges; without area when nothing is left of it."""
    left, top = (max(0, round(float(edge))) for edge in box[:2])
    right = min(frame.shape[1], round(float(box[0] + box[2])))
    bottom = min(frame.shape[0], round(float(box[1] + box[3])))
    return TiltedBox.of(Box(left, top, max(0, right - left), max(0, bottom - top)), roll)


NOTHING = Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))
