"""How the detector behaves in films: faces that hold still, the demo, and rooms where nobody is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import cv2
import numpy as np

from model.demo import LOOP_SECONDS, demo_frame
from model.detector import NetworkDetector
from model.detector_figures import filled, for_json, in_rooms
from model.detector_set import Picture
from model.faces import FaceDetector, FaceTracker, Frame

RATE = 30  # frames a second
GRAIN = 6.0  # levels: the noise of a webcam's picture
STILL = 40  # films of a face at rest
STILL_FRAMES = 30
MINUTES = 10  # in empty rooms, together


@dataclass(frozen=True)
class Motion:
    """Figures of films at RATE frames a second.

    `steadiness`: mean overlap of the boxes of two neighbouring frames of a face at rest, in sensor noise, and
    `raw_steadiness` the same without tracking; `drop_outs`: how often a minute the demo's face is lost, and
    `lost_share` for what share of its frames; `empty_frames` of `MINUTES` in empty rooms in which a face is shown,
    `empty_rooms` how many of `n_rooms` rooms these were.
    """

    steadiness: float
    raw_steadiness: float
    drop_outs: float
    lost_share: float
    empty_frames: int
    empty_rooms: int
    n_frames: int
    n_rooms: int

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, to four decimals; what there were no pictures for is None."""
        return for_json(asdict(self))

    def lines(self) -> Iterator[str]:
        """For people."""
        yield (
            f"a face at rest in noise: overlap of neighbouring frames {self.steadiness:.3f} "
            f"(found anew in each frame: {self.raw_steadiness:.3f})"
        )
        yield f"the demo: lost {self.drop_outs:.1f} times a minute, in {self.lost_share:.2%} of the frames"
        yield (
            f"{MINUTES} minutes in {self.n_rooms} empty rooms: a face in {self.empty_frames} of {self.n_frames} "
            f"frames, in {self.empty_rooms} rooms"
        )


def motion(detector: NetworkDetector, pictures: Sequence[Picture]) -> Motion:
    """All films; the rooms are the pictures without faces."""
    detector = detector.for_films()
    films = [list(_noisy([one.pixels] * STILL_FRAMES, i)) for i, one in enumerate(in_rooms(pictures)[:STILL])]
    followed = [_overlap(FaceTracker(detector), film) for film in films]
    anew = [_overlap(detector, film) for film in films]
    lost, frames = _demo(detector)
    rooms = [one.pixels for one in pictures if not len(one.faces)]
    each = round(MINUTES * 60 * RATE / max(1, len(rooms)))
    seen = [sum(bool(boxes) for boxes in _in_room(detector, room, i, each)) for i, room in enumerate(rooms)]
    return Motion(
        float(np.nanmean(followed)),
        float(np.nanmean(anew)),
        sum(later and not earlier for earlier, later in pairwise(lost)) / (frames / RATE / 60),
        float(np.mean(lost)),
        sum(seen),
        sum(map(bool, seen)),
        each * len(rooms),
        len(rooms),
    )


def _noisy(frames: Sequence[Frame], seed: int) -> Iterator[Frame]:
    rng = np.random.default_rng(seed)
    for frame in frames:
        cv2.setRNGSeed(int(rng.integers(1 << 30)))
        grain = np.empty(frame.shape, np.int16)
        yield cv2.add(frame, cv2.randn(grain, 0, GRAIN), dtype=cv2.CV_8U)


def _overlap(detector: FaceDetector, film: Sequence[Frame]) -> float:
    """Mean overlap of the largest face's boxes in neighbouring frames that both show it."""
    shown = [detector.detect(frame) for frame in film][3:]
    pairs = [(a[0], max(b, key=a[0].overlap)) for a, b in pairwise(shown) if a and b]
    return float(np.mean([one.overlap(other) for one, other in pairs])) if pairs else float("nan")


def _demo(detector: NetworkDetector) -> tuple[list[bool], int]:
    """Of each frame of the demo's loop after the first ten, whether its face is lost."""
    tracker, frames = FaceTracker(detector), round(LOOP_SECONDS * RATE)
    lost = [not tracker.detect(demo_frame(i / RATE)) for i in range(frames)]
    return lost[10:], frames


def _in_room(detector: NetworkDetector, room: Frame, seed: int, frames: int) -> Iterator[list[object]]:
    """What is shown in an empty room while a camera pans slowly over it."""
    tracker, wide = FaceTracker(detector), filled(room, 1.15)
    for i, frame in enumerate(_noisy([wide] * frames, seed)):
        x = int((wide.shape[1] - 640) * (0.5 + 0.5 * np.sin(2 * np.pi * i / 150)))
        y = int((wide.shape[0] - 480) * (0.5 + 0.5 * np.cos(2 * np.pi * i / 210)))
        yield list(tracker.detect(frame[y : y + 480, x : x + 640]))
